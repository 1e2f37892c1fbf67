"""What was put into a body, found by comparing it with the original."""

from __future__ import annotations


def insertion(original: bytes, enriched: bytes) -> bytes:
    """The one piece that was put into the original; fails where it is not the original."""
    pairs = zip(original, enriched, strict=False)
    start = next((n for n, (a, b) in enumerate(pairs) if a != b), len(original))
    while start >= 0:
        end = len(original) - start
        if end == 0 or enriched.endswith(original[start:]):
            break
        start -= 1
    assert start >= 0, "the original is not in it"
    return enriched[start : len(enriched) - (len(original) - start)]
