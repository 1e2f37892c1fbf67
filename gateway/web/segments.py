"""Routes whose parameters are whole segments of the path: a slash sent as `%2F` is part of one.

A server hands on the path decoded, so that `users/ana%2Fmemories` and `users/ana/memories` look
alike, and a call about one person could be read as one about another. Here the path is taken
apart as it was sent.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import unquote

from starlette.routing import Match, Route
from starlette.types import Scope

_SLASH: Final = "\udc2f"
"""Stands for a slash within a segment: a lone surrogate, which no decoding yields."""


class SegmentRoute(Route):
    """A route of Starlette's, matched by the path's segments."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw: bytes = scope.get("raw_path") or b""
        if b"%2f" not in raw.lower():
            return super().matches(scope)
        segments = [unquote(part.decode("latin-1")) for part in raw.split(b"/")]
        path = "/".join(segment.replace("/", _SLASH) for segment in segments)
        match, child = super().matches({**scope, "path": path})
        if match is not Match.NONE:
            found: dict[str, Any] = child["path_params"]
            child["path_params"] = {n: value.replace(_SLASH, "/") for n, value in found.items()}
        return match, child
