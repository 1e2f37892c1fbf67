"""Bodies of the gateway's own API: read within bounds, and checked by their models."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request

from gateway.core.errors import BadRequest, UnsupportedMedia
from gateway.ports import Deployment
from gateway.web.callers import Caller
from gateway.web.context import read_body

_Model = TypeVar("_Model", bound=BaseModel)

_NEEDED: Final = {
    "missing": "this field is needed",
    "extra_forbidden": "there is no such field here",
    "string_type": "a text is needed",
    "bool_type": "true or false is needed",
    "int_type": "a whole number is needed",
    "float_type": "a number is needed",
    "list_type": "a list is needed",
    "tuple_type": "a list is needed",
    "dict_type": "an object is needed",
    "model_type": "an object is needed",
}
"""Faults that pydantic names in Python's words, in those of JSON."""


async def read_json(request: Request, caller: Caller) -> Any:
    """The JSON of a request. Raises BadRequest, TooLarge, UnsupportedMedia."""
    raw = await read_json_of(request, caller.deployment)
    if raw is None:
        raise BadRequest("a JSON body is needed", code="invalid_json")
    return raw


async def read_json_of(request: Request, deployment: Deployment) -> Any:
    """As `read_json`, for a request that is about no user; None for an empty body."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind not in {"application/json", ""}:
        raise UnsupportedMedia(f"send application/json, not {kind[:60]!r}", param="Content-Type")
    raw = await read_body(request, deployment.settings.server)
    if not raw.strip():
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body is not JSON: {exc}", code="invalid_json") from exc


def check(model: type[_Model], raw: Any) -> _Model:
    """A body of this model. Raises BadRequest, naming the first field that is wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise explained(exc) from None


def check_many(model: type[_Model], raw: list[Any]) -> list[_Model]:
    """As `check`, for each of a list."""
    try:
        return TypeAdapter(list[model]).validate_python(raw)  # type: ignore[valid-type]
    except ValidationError as exc:
        raise explained(exc) from None


def explained(exc: ValidationError) -> BadRequest:
    """The first fault in words; what was given is not repeated, as it may be private."""
    fault = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = [str(part) for part in fault["loc"]]
    message = _NEEDED.get(fault["type"], fault["msg"].removeprefix("Value error, "))
    field, colon, rest = message.partition(": ")
    if fault["type"] == "value_error" and colon and field.isidentifier():
        where, message = [*where, field], rest  # a rule of the whole that names the field
    name = ".".join(where)
    return BadRequest(f"{name}: {message}" if name else message, param=name or None)


def number_within(text: str, name: str, least: int, most: int) -> int:
    """A number of a query from `least` to `most`. Raises BadRequest."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise BadRequest(f"{name}: a whole number from {least} to {most} is needed", param=name)
    return int(text)


def whole_number(text: str, name: str) -> int:
    """A number of a query, in plain digits (`int` takes `5_0` and digits of any script). Raises
    BadRequest."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise BadRequest(f"{name}: a whole number is needed", param=name)
    return int(text)
