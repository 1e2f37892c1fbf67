"""Settings in words: which there are, what each may be, and what was wrong with what was given."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.config.kinds import FORMS
from gateway.config.settings import AppSettings, Section, Settings
from gateway.core.errors import SettingsError
from gateway.telemetry.logs import without_secrets


def every_setting(
    model: type[BaseModel] | None = None, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name with its field, in the order of the file; `apps` left out."""
    for name, field in (model or Settings).model_fields.items():
        section = section_of(field)
        if section is not None:
            yield from every_setting(section, f"{prefix}{name}.")
        elif name != "apps":
            yield prefix + name, field


def allowed(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    kind = plain(field.annotation)
    if get_origin(kind) is tuple:
        return f"a list of {_allowed(get_args(kind)[0], [])}"
    words = _allowed(field.annotation, field.metadata)
    return f"{words} such as {field.examples[0]}" if field.examples else words


def _allowed(annotation: Any, rules: list[Any]) -> str:
    kind, rules = plain(annotation), [*rules, *_annotations(annotation)]
    if get_origin(kind) is Literal:
        return _either(get_args(kind))
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _range(_bounds(rules))
    if kind is bool:
        return "true or false"
    for rule in rules:
        if isinstance(rule, AfterValidator):
            return FORMS[rule.func]
        if getattr(rule, "pattern", None):
            return f"text of the form {rule.pattern}"
    return "a path" if kind is Path else "text"


def plain(kind: Any) -> Any:
    """The type below `None |` and `Annotated`."""
    if get_origin(kind) is Annotated:
        return plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return plain(next(part for part in get_args(kind) if part is not NoneType))
    return kind


def _bounds(rules: list[Any]) -> dict[str, float]:
    """Bounds by name (`ge`, `gt`, `le`), from wherever they were declared."""
    found: dict[str, float] = {}
    for rule in rules:
        parts = [rule, *(rule.metadata if isinstance(rule, FieldInfo) else ())]
        for part in parts:
            found |= {n: getattr(part, n) for n in ("ge", "gt", "le") if hasattr(part, n)}
    return found


def _annotations(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from get_args(kind)[1:]
    for part in get_args(kind) if get_origin(kind) in (Union, UnionType) else ():
        yield from _annotations(part)


def _range(rules: Mapping[str, float]) -> str:
    low = rules.get("ge", rules.get("gt", -math.inf))
    words = f" {'above' if 'gt' in rules else 'from'} {_digits(low)}" if low > -math.inf else ""
    if "le" in rules:
        words += f" {'up ' if 'gt' in rules else ''}to {_digits(rules['le'])}"
    return words or " of any size"


def _digits(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _either(choices: tuple[Any, ...]) -> str:
    shown = [f'"{choice}"' for choice in choices]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def explained(exc: ValidationError) -> SettingsError:
    """The first fault, in words: the setting, what was given, what is allowed."""
    fault = exc.errors(include_url=False)[0]
    keys = [str(part) for part in fault["loc"] if not str(part).startswith("function-")]
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return SettingsError(f"{name}: no such setting; {near(keys)}", param=name)
    while keys and keys[-1].isdecimal():
        keys.pop()  # within a list
    field = field_of(keys)
    if field is None:
        return SettingsError(f"{name}: a section [{name}] of settings is needed", param=name)
    given = "a secret" if _holds_secret(field) else _shown(fault.get("input"))
    return SettingsError(f"{name}: {given} given; allowed is {allowed(field)}", param=name)


def _holds_secret(field: FieldInfo) -> bool:
    return plain(field.annotation) is SecretStr


def _shown(given: Any) -> str:
    """What was given, without the password that a URL may hold or a key in a wrong place."""
    text = without_secrets(re.sub(r"[^\s/'\"]*@", "***@", repr(given)))
    return text if len(text) <= 80 else f"{text[:77]}..."


def near(keys: list[str]) -> str:
    known = {path: None for path, _ in every_setting()}
    own = keys[2:] if keys[0] == "apps" else keys
    if len(own) == 1:
        known |= {path.split(".")[0]: None for path in known}
    if own is not keys and ".".join(own) in known:
        return f"an app may set its own {', '.join(AppSettings.model_fields)}"
    found = difflib.get_close_matches(".".join(own), known, n=1, cutoff=0.75)
    if not found and len(own) == 1:  # a key without its section
        found = [path for path in known if path.endswith(f".{own[0]}")]
    before = "" if own is keys else f"apps.{keys[1]}."
    meant = " or ".join(before + path for path in found)
    return f"did you mean {meant}?" if meant else "config/gateway.toml lists every one"


def field_of(keys: list[str]) -> FieldInfo | None:
    """The setting that this path of keys names, if there is one."""
    model: type[BaseModel] = Settings
    if keys[0] == "apps":
        model, keys = AppSettings, keys[2:]
    for n, key in enumerate(keys):
        field = model.model_fields.get(key)
        if field is None:
            return None
        if n == len(keys) - 1:
            return None if section_of(field) else field
        section = section_of(field)
        if section is None:
            return None
        model = section
    return None


def section_of(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None
