"""Evaluation and replay: the same recall as in production, run over data sets."""
