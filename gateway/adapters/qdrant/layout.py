"""How points are laid out in either engine: names of vectors and fields. Imports nothing of ours,
for the shard's process has it too."""

from __future__ import annotations

from typing import Final

FORMAT: Final = 1
"""Format of the store as a whole (vectors, indexes). A newer one is refused when it is opened."""

DENSE: Final = ("dense", "dense_window")
LEXICAL: Final = ("bm25", "bm25_window")

TENANTS: Final = ("tenant", "live")
KEYWORDS: Final = ("kind", "type", "status", "tags", "owed")
NUMBERS: Final = ("created_at", "expires_at", "standing")
"""Indexed payload fields: tenants, other words, numbers."""

BODY: Final = ("v", "tenant", "body")
"""The payload fields that a memory is read from."""
