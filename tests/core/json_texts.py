"""JSON as clients may write it: random spacing, escapes, duplicate keys, odd numbers.

Documents are drawn as trees in which an object is a list of pairs (so that a key can come
twice) and written by `write` with a random source's taste in spacing and escapes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

repeatable = settings(max_examples=150)
"""More examples than usual; what else holds of them is set in tests/conftest."""


@dataclass(frozen=True)
class Object:
    pairs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Literal:
    """A value spelled as it stands: numbers that a re-serialiser would change."""

    spelling: str


texts = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from('"\\/\b\n\r\t{}[]:,\u2028\u00e9\u6771\U0001f600'),
    ),
    max_size=20,
)
numbers = st.sampled_from(
    ["0", "-0", "1.0", "1e-7", "1E+5", "12345678901234567890123", "9" * 5000, "NaN", "-Infinity"]
).map(Literal)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)


def objects(values: st.SearchStrategy[Any], keys: st.SearchStrategy[str] = texts) -> Any:
    return st.lists(st.tuples(keys, values), max_size=4).map(lambda p: Object(tuple(p)))


documents = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), objects(inner)), max_leaves=12
)


def write(value: Any, taste: Random) -> str:
    """A JSON text of the document, spaced and escaped at random."""
    return _space(taste) + _write(value, taste) + _space(taste)


def _write(value: Any, taste: Random) -> str:
    if isinstance(value, Literal):
        return value.spelling
    if isinstance(value, str):
        return _string(value, taste)
    if isinstance(value, Object):
        members = (
            f"{_space(taste)}{_string(k, taste)}{_space(taste)}:{write(v, taste)}"
            for k, v in value.pairs
        )
        return "{" + (",".join(members) or _space(taste)) + "}"
    if isinstance(value, list | tuple):
        return "[" + (",".join(write(v, taste) for v in value) or _space(taste)) + "]"
    return json.dumps(value)


def _string(text: str, taste: Random) -> str:
    ascii_only = taste.random() < 0.3
    return '"' + "".join(_character(c, taste, ascii_only) for c in text) + '"'


def _character(c: str, taste: Random, ascii_only: bool) -> str:
    plain = json.dumps(c, ensure_ascii=ascii_only)[1:-1]
    if taste.random() < 0.1 and ord(c) < 0x10000:
        return f"\\u{ord(c):04{taste.choice('xX')}}"
    return plain


def _space(taste: Random) -> str:
    if taste.random() < 0.7:
        return ""
    return "".join(taste.choice(" \t\n\r") for _ in range(taste.randint(1, 3)))
