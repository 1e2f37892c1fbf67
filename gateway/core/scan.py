"""Where the values of a JSON text stand: byte offsets, without ever writing it again.

A body is read through a Latin-1 view of its bytes. One byte is one character there, so an
offset in the view is an offset in the body; and since every byte of a multibyte UTF-8
character is 0x80 or above, quotes, braces and escapes stand where they stood. Values are
skipped by the C scanner of `json`, so that a 10 MB image costs one pass at memory speed.
Only the levels that a caller names are walked here.

What `json` takes is taken: NaN, lone surrogates in escapes, duplicate keys (the last wins).
Integers are read as floats: Python refuses to read ones above 4,300 digits, and no reader
here needs their exact value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from gateway.core.errors import BadRequest

MAX_ITEMS = 100_000
"""Elements of a walked array: more is not read here (they would be held one by one)."""


class NotForUs(Exception):
    """Perhaps good for the upstream, but not for our reader: forward it without memory."""


class Span(NamedTuple):
    """A value and the bytes it stands in. Texts in `value` are Latin-1 views: see `text_of`."""

    start: int
    end: int
    value: Any


Reader: TypeAlias = Callable[[str, int], tuple[Any, int]]
"""Reads the value that starts at an offset of the view; gives it and the offset past it."""

read_value: Reader = json.JSONDecoder(parse_int=float).raw_decode

_SPACE = re.compile(r"[ \t\n\r]*+")
_WHOLE_KEY = r'[ \t\n\r]*+"([^"\\\x00-\x1f]*+)"[ \t\n\r]*+:[ \t\n\r]*+'
_FIRST_MEMBER = re.compile(_WHOLE_KEY)
_NEXT_MEMBER = re.compile(r"[ \t\n\r]*+(?:," + _WHOLE_KEY + r"|\})")
_COMMA = re.compile(r"[ \t\n\r]*+,[ \t\n\r]*+")
_COLON = re.compile(r"[ \t\n\r]*+:[ \t\n\r]*+")
_AFTER_ITEM = re.compile(r"[ \t\n\r]*+([,\]])[ \t\n\r]*+")


def read_body(body: bytes, readers: Mapping[str, Reader]) -> dict[str, Span]:
    """The members of the object that `body` is, the last of each name.

    The values of the names in `readers` are read by those. Raises BadRequest where the body
    is no JSON or no object; NotForUs where it is JSON in a dialect or shape that is not read
    here (another encoding, raw control characters, nesting too deep).
    """
    view = body.decode("latin-1")
    try:
        if not body.isascii():
            body.decode("utf-8")
        start = skip_space(view, 0)
        read = object_reader(readers) if view.startswith("{", start) else read_value
        value, end = read(view, start)
        end = skip_space(view, end)
        if end != len(view):
            raise json.JSONDecodeError("Extra data", view, end)
    except RecursionError:
        raise NotForUs("nested too deeply") from None
    except UnicodeDecodeError:
        raise _refusal(body, "Invalid UTF-8", 0) from None
    except json.JSONDecodeError as exc:
        raise _refusal(body, exc.msg, exc.pos) from None
    if not isinstance(value, dict):
        raise BadRequest(
            f"The body is a JSON {_kind(value)}, not an object. Send one JSON object with"
            ' "model" and what is to be answered.'
        )
    return value


def skip_space(view: str, at: int) -> int:
    return _SPACE.match(view, at).end()  # type: ignore[union-attr] # it matches nothing, too


def object_reader(readers: Mapping[str, Reader]) -> Reader:
    """Reads an object into {name: Span}; what is no object is read as it is."""

    def read(view: str, at: int) -> tuple[Any, int]:
        if not view.startswith("{", at):
            return read_value(view, at)
        members: dict[str, Span] = {}
        key = _FIRST_MEMBER.match(view, at + 1)
        if key is None:
            at = skip_space(view, at + 1)
            if view.startswith("}", at):
                return members, at + 1
        while True:
            # The usual member costs one match, which takes the comma and the next key as well.
            name, start = (key[1], key.end()) if key else _escaped_key(view, at)
            value, end = readers.get(name, read_value)(view, start)
            members[name] = Span(start, end, value)
            key = _NEXT_MEMBER.match(view, end)
            if key is None:
                at = _past_the_comma(view, end)
            elif key[1] is None:
                return members, key.end()

    return read


def array_reader(item: Reader) -> Reader:
    """Reads an array into [Span]; what is no array is read as it is."""

    def read(view: str, at: int) -> tuple[Any, int]:
        if not view.startswith("[", at):
            return read_value(view, at)
        items: list[Span] = []
        at = skip_space(view, at + 1)
        if view.startswith("]", at):
            return items, at + 1
        while True:
            value, end = item(view, at)
            items.append(Span(at, end, value))
            if len(items) > MAX_ITEMS:
                raise NotForUs(f"more than {MAX_ITEMS} elements")
            after = _AFTER_ITEM.match(view, end)
            if after is None:
                raise json.JSONDecodeError("Expecting ',' delimiter", view, end)
            at = after.end()
            if after[1] == "]":
                # The pattern also took the space that follows: the array ends at its bracket.
                return items, after.end(1)

    return read


def text_of(body: bytes, span: Span | None) -> str | None:
    """The text that a span holds, or None where it holds no string.

    Lone surrogates (JavaScript's `slice` makes them) become U+FFFD: what is remembered must
    be encodable. Raises nothing: `read_body` has seen that the body is UTF-8.
    """
    if span is None or not isinstance(span.value, str):
        return None
    if span.value.isascii():
        return span.value
    if body.isascii():
        return whole(span.value)
    return whole(read_value(body[span.start : span.end].decode(), 0)[0])


def whole(text: str) -> str:
    """The text with surrogate halves joined to characters, or replaced where they are alone."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _past_the_comma(view: str, at: int) -> int:
    comma = _COMMA.match(view, at)
    if comma is None:
        raise json.JSONDecodeError("Expecting ',' delimiter", view, at)
    return comma.end()


def _escaped_key(view: str, at: int) -> tuple[str, int]:
    """A key that is spelled with escapes (`"mess\\u0061ges"`), and where its value starts."""
    if not view.startswith('"', at):
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", view, at)
    name, end = read_value(view, at)
    colon = _COLON.match(view, end)
    if colon is None:
        raise json.JSONDecodeError("Expecting ':' delimiter", view, end)
    return name, colon.end()


def _refusal(body: bytes, reason: str, at: int) -> Exception:
    """Whose fault a body is that could not be read: the caller's, or our reader's alone."""
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        json.loads(text, strict=False, parse_int=float)
    except RecursionError:
        return NotForUs("nested too deeply")
    except ValueError:
        return BadRequest(
            f"The body is not valid JSON ({reason}, at byte {at} of {len(body)}). Send one whole"
            " JSON object, encoded in UTF-8."
        )
    return NotForUs("not strict JSON in UTF-8")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", float: "number", str: "string", list: "array"}
    return names.get(type(value), "value")
