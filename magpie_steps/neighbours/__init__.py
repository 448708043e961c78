"""Which rows say nearly the same, by the distances between their embeddings?"""
