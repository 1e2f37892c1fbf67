"""What a recall considered, as a receipt keeps it: every candidate with its score, what the score
is made of, and why it was left out.

A request has some sixty of them with eight parts each. As JSON that was nine tenths of a
receipt's 7 kB, and writing it a tenth of a chat's CPU; so the parts are packed as half-precision
floats (three digits, enough to compare), and unpacked by whoever reads a receipt.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from struct import pack, unpack
from typing import Any, Final, TypedDict

from gateway.core.scored import ALWAYS, PARTS, Scored

_MOST: Final = 65_504.0
"""The largest half-precision number."""


class Packed(TypedDict):
    """Parallel lists; `why` are `parts` numbers for each candidate."""

    ids: list[str]
    kinds: list[str]
    types: list[str | None]
    scores: list[float]
    left_out: list[str | None]
    parts: int
    why: str


def packed(considered: Sequence[Scored]) -> Packed:
    """The candidates in a form that is quick to write and small."""
    whys: list[float] = []
    for scored in considered:
        whys += scored.parts
    return {
        "ids": [s.memory.id for s in considered],
        "kinds": [s.memory.kind for s in considered],
        "types": [s.memory.type for s in considered],
        "scores": [int(s.score * 1e6) / 1e6 for s in considered],
        "left_out": [s.left_out for s in considered],
        "parts": len(PARTS),
        "why": b64encode(_halves(whys)).decode(),
    }


def _halves(numbers: Sequence[float]) -> bytes:
    try:
        return pack(f"<{len(numbers)}e", *numbers)
    except OverflowError:  # by far no score; told as what it is, very large
        bounded = [max(-_MOST, min(_MOST, number)) for number in numbers]
        return pack(f"<{len(bounded)}e", *bounded)


def unpacked(considered: Packed) -> list[dict[str, Any]]:
    """The candidates, each by itself, as the API tells them."""
    parts = considered["parts"]
    numbers = b64decode(considered["why"])
    whys = unpack(f"<{len(numbers) // 2}e", numbers)
    return [
        {
            "id": id,
            "kind": considered["kinds"][n],
            "type": considered["types"][n],
            "score": considered["scores"][n],
            "why": {
                name: round(value, 4)
                for name, value in zip(PARTS, whys[n * parts : (n + 1) * parts], strict=False)
                if value or name in ALWAYS
            },
            "left_out": considered["left_out"][n],
        }
        for n, id in enumerate(considered["ids"])
    ]
