"""Logs, metrics and traces. What is said here never holds a conversation or a secret."""
