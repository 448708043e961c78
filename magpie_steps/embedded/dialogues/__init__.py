"""A miniature world of dialogues: the text that the embedded models are trained on, with judges."""
