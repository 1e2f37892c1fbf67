"""Exchanges and plans as bytes: what queue and spool keep, sealed, until they are distilled.

A record is one JSON object: its version, its kind, and the fields of the dataclass that
differ from their defaults. The readers are derived from the type hints, so that a field is
described in one place. A field added with a default needs no new version: old records lack
it, and old programs pass over it. Whatever changes a meaning needs one, and a program that
is handed a version it does not know refuses it instead of guessing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from gateway.core.delivery import Forget, Plan, Put, Revise
from gateway.core.errors import Unreadable
from gateway.core.exchange import Exchange

VERSION: Final = 1
NEWER: Final = "newer_version"
"""`code` of the Unreadable that only a newer program can read: the record is sound."""

_WRITES: Final[Mapping[str, type]] = {"put": Put, "revise": Revise, "forget": Forget}
_NAME_OF: Final = {kind: name for name, kind in _WRITES.items()}

Record = TypeVar("Record", Exchange, Plan)


def exchange_to_bytes(exchange: Exchange) -> bytes:
    """An exchange as a record; `exchange_from_bytes` gives back an equal one."""
    return _to_bytes("exchange", exchange)


def exchange_from_bytes(data: bytes) -> Exchange:
    """Raises Unreadable where it is no such record, or (code `NEWER`) one of a later version."""
    return _from_bytes("exchange", Exchange, data)


def plan_to_bytes(plan: Plan) -> bytes:
    """A plan as a record; `plan_from_bytes` gives back an equal one."""
    return _to_bytes("plan", plan)


def plan_from_bytes(data: bytes) -> Plan:
    """Raises Unreadable where it is no such record, or (code `NEWER`) one of a later version."""
    return _from_bytes("plan", Plan, data)


def _to_bytes(kind: str, record: Exchange | Plan) -> bytes:
    made: Any = type(record)
    whole = {"v": VERSION, "kind": kind, **_dataclass_writer(made)(record)}
    try:
        return orjson.dumps(whole)
    except TypeError:
        # A client's "\ud800" is legal JSON and no legal UTF-8; escaped, it survives. So does a
        # number of more than 64 bits.
        return json.dumps(whole, separators=(",", ":")).encode()


def _from_bytes(kind: str, record: type[Record], data: bytes) -> Record:
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"a stored {kind} is no JSON: it is damaged") from exc
    if not isinstance(whole, dict) or whole.get("kind") != kind:
        raise Unreadable(f"a stored record is no {kind}: it is damaged or in the wrong place")
    version = whole.get("v")
    if not isinstance(version, int) or version < 1:
        raise Unreadable(f"a stored {kind} has no version: it is damaged")
    if version > VERSION:
        raise Unreadable(
            f"a stored {kind} has version {version} and this program reads up to {VERSION}:"
            " it was written by a newer memory-gateway. Start that version (or a later one)",
            code=NEWER,
        )
    try:
        hint: Any = record
        read: Record = _reader(hint)(whole)
    except (KeyError, TypeError, ValueError) as exc:
        # The values themselves are somebody's words and stay out of the message.
        raise Unreadable(f"a stored {kind} lacks what it must have: it is damaged") from exc
    return read


# --- writing -------------------------------------------------------------------------------


@cache
def _writer(hint: Any) -> Callable[[Any], Any] | None:
    """What turns a value of this type into what JSON knows: dataclasses into objects without
    their defaults, a write told by its name. None for what may stay as it is.

    Made once for each type, as the readers are: asking every value what it is took a tenth of a
    worker's time.
    """
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _dataclass_writer(hint)
    if origin is tuple:
        each = _writer(args[0])
        return None if each is None else lambda value: [each(item) for item in value]
    if origin in (Union, UnionType):
        if set(args) == set(_WRITES.values()):
            return _write
        some = [arg for arg in args if arg is not NoneType]
        inner = _writer(some[0]) if len(some) == 1 else None
        return None if inner is None else lambda value: None if value is None else inner(value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return dict
    return None


def _write(value: Any) -> dict[str, Any]:
    """One of a plan's writes."""
    made: Any = type(value)
    return _dataclass_writer(made)(value)


@cache
def _dataclass_writer(kind: type) -> Callable[[Any], dict[str, Any]]:
    hints = get_type_hints(kind)
    named = {"do": _NAME_OF[kind]} if kind in _NAME_OF else {}
    parts = [(name, default, _writer(hints[name])) for name, default in _defaults(kind)]

    def write(value: Any) -> dict[str, Any]:
        plain: dict[str, Any] = dict(named)
        for name, default, writes in parts:
            held = getattr(value, name)
            if held is not default and held != default:
                plain[name] = held if writes is None else writes(held)
        return plain

    return write


@cache
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (f.name, f.default_factory() if f.default_factory is not MISSING else f.default)
        for f in fields(kind)
    )


# --- reading -------------------------------------------------------------------------------


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """What turns parsed JSON into a value of this type; it raises TypeError or ValueError."""
    origin, args = get_origin(hint), get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        return _dataclass_reader(hint)
    if origin is tuple:
        return _tuple_reader(args)
    if origin in (Union, UnionType):
        return _union_reader(args)
    if origin is Literal:
        return _literal_reader(args)
    if hint is float:
        return _read_float
    if hint in (str, int, bool):
        return _exactly(hint)
    if origin is not None and issubclass(origin, Mapping):
        return _exactly(dict)
    return lambda value: value


def _dataclass_reader(kind: type) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    readers = [(name, default, _reader(hints[name])) for name, default in _defaults(kind)]

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise TypeError
        given = {name: reads(value[name]) for name, _, reads in readers if name in value}
        return kind(**given)  # a missing field without a default is a TypeError here

    return read


def _tuple_reader(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    readers = None if args[-1] is Ellipsis else [_reader(arg) for arg in args]
    each = _reader(args[0])

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise TypeError
        if readers is None:
            return tuple(each(item) for item in value)
        return tuple(reads(item) for reads, item in zip(readers, value, strict=True))

    return read


def _union_reader(args: tuple[Any, ...]) -> Callable[[Any], Any]:
    if set(args) == set(_WRITES.values()):
        return lambda value: _reader(_WRITES[value["do"]])(value)
    some = [arg for arg in args if arg is not NoneType]
    reads = _reader(some[0]) if len(some) == 1 else lambda value: value
    return lambda value: None if value is None else reads(value)


def _literal_reader(allowed: tuple[Any, ...]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in allowed:
            raise ValueError
        return value

    return read


def _read_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _exactly(kind: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError
        return value

    return read
