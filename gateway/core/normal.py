"""Unicode's normal forms, in time that grows with a text's length.

CPython puts the marks behind a letter in order by inserting one after the other: 200,000 of them
that stand the wrong way round, half a megabyte of a chat, took 27 s of one call, beside which no
other thread runs. No writing puts more than a few on a letter; a longer run is normalised in
pieces, as Unicode's stream-safe form has it (UAX #15, 13: thirty).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

SHORT_CHARS: Final = 1000
"""What is not longer takes less than a millisecond, whatever it is made of."""

# Marks are no letters to `re`. What else is none ends up in pieces too, which changes nothing of
# it. The two letters become marks (voiced sounds of kana in half width).
_MARKS: Final = re.compile(r"(?:[^\w\s\x00-\x7f]|[\uff9e\uff9f]){30}")


def normalized(form: Literal["NFKC", "NFKD"], text: str) -> str:
    """The text in this form."""
    if text.isascii() or len(text) <= SHORT_CHARS:
        return unicodedata.normalize(form, text)
    ends = [run.end() for run in _MARKS.finditer(text)]
    if not ends:
        return unicodedata.normalize(form, text)
    pieces = zip([0, *ends], [*ends, len(text)], strict=True)
    return "".join(unicodedata.normalize(form, text[start:end]) for start, end in pieces)
