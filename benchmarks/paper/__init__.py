"""The parts of `paper_in_miniature.py`: what is made, trained, asked and told."""
