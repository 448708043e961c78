"""How do people look at a dataset's rows in Argilla, with their verdicts brought back?

`push` sends rows, `status` says how far reviewers are, `pull` writes what they decided.
"""
