"""What an encoder knows without fine-tuning: scores of its embeddings, as pure functions.

Suffixes: N rows, M rows to score, L rows to learn from, D features, C classes or columns, H heads,
R draws, P patients.
"""
