"""What a request says of its user and app, before any of it is believed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from gateway.config import IdentitySettings
from gateway.core.errors import BadRequest
from gateway.web.headers import text_of
from gateway.web.tokens import looks_like_token

How = Literal["none", "header", "alias", "body", "signed", "token"]

MAX_USER_CHARS: Final = 256
APP: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)

STEPS: Final = frozenset({".", ".."})
"""What clients and proxies take out of a path, percent-encoded too (RFC 3986, 6.2.2.3)."""

# Control characters, line and paragraph separators, writing-direction overrides and lone
# surrogates: they forge log lines and lists, and no identity needs them.
_UNFIT: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Given:
    """The headers by name, and which of them came more than once."""

    values: Mapping[bytes, bytes]
    twice: frozenset[bytes]

    @staticmethod
    def read(headers: Iterable[tuple[bytes, bytes]]) -> Given:
        values: dict[bytes, bytes] = {}
        twice: set[bytes] = set()
        for name, value in headers:
            if name in values:
                twice.add(name)
                # All of them, so that a key in any is found (`credentials.gateway_key`).
                values[name] += b", " + value
            else:
                values[name] = value
        given = Given(values, frozenset(twice))
        for name in twice:
            if name == b"authorization" or name.startswith(b"x-memory-"):
                raise _sent_twice(name)
        return given

    @property
    def memory_headers(self) -> frozenset[bytes]:
        return frozenset(name for name in self.values if name.startswith(b"x-memory-"))

    def present(self, names: Iterable[bytes]) -> frozenset[bytes]:
        return frozenset(name for name in names if name in self.values)

    def one(self, name: bytes) -> str | None:
        """A header's text; None where it is absent or empty. Raises BadRequest if sent twice."""
        if name in self.twice:
            raise _sent_twice(name)
        return text_of(self.values.get(name, b"")) or None

    @property
    def bearer(self) -> str | None:
        scheme, _, credential = (self.one(b"authorization") or "").partition(" ")
        return credential.strip() or None if scheme.lower() == "bearer" else None

    @property
    def token(self) -> str | None:
        """A bearer credential that is a user's token by its shape."""
        bearer = self.bearer
        return bearer if bearer and looks_like_token(bearer) else None


def _sent_twice(name: bytes) -> BadRequest:
    shown = name.decode("latin-1")
    return BadRequest(
        f"{shown}: sent more than once, so that it cannot be told which one counts; send it once",
        param=shown,
        code="conflicting_identity",
    )


def claimed(given: Given, identity: IdentitySettings) -> tuple[str | None, How]:
    """The user that the headers name, by the gateway's own header or one of its aliases."""
    named = given.one(b"x-memory-user")
    aliases = {
        alias: text
        for alias, name in zip(identity.aliases, lowered(identity.aliases), strict=True)
        if (text := given.one(name)) is not None
    }
    if named is not None:
        return check_user(named, "X-Memory-User"), "header"
    if len(set(aliases.values())) > 1:
        raise BadRequest(
            f"{' and '.join(aliases)} name different users; send one of them, or X-Memory-User",
            param=next(iter(aliases)),
            code="conflicting_identity",
        )
    for alias, text in aliases.items():
        return check_user(text, alias), "alias"
    return None, "none"


@lru_cache(maxsize=256)
def lowered(aliases: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(alias.lower().encode("latin-1", "replace") for alias in aliases)


def check_user(user: str, param: str = "user") -> str:
    """The user's id itself, where it can be one: 1 to 256 characters, none that controls, and
    not a step in a path. Raises BadRequest.
    """
    if not _can_be_user(user):
        raise BadRequest(
            f"{param}: a user's id has 1 to {MAX_USER_CHARS} characters, no control characters,"
            ' and is not "." or ".." (clients take these out of a path)',
            param=param,
            code="invalid_user",
        )
    return user


def _can_be_user(user: str) -> bool:
    return 1 <= len(user) <= MAX_USER_CHARS and not _UNFIT.search(user) and user not in STEPS


def check_app(app: str, param: str = "app") -> str:
    """The app's name itself, where it can be one. Raises BadRequest."""
    if not APP.fullmatch(app) or app in STEPS:
        raise BadRequest(
            f"{param}: an app's name has 1 to 64 of the characters A-Z a-z 0-9 _ . -, and is not"
            ' "." or ".."',
            param=param,
            code="invalid_app",
        )
    return app


def named_in_body(values: tuple[str | None, str | None]) -> tuple[str | None, How]:
    """The body's `user`, else its `safety_identifier`. They are the API's own fields, with
    uses of their own: one that cannot be a user's id here is left alone, not refused."""
    for value in values:
        if value and _can_be_user(value):
            return value, "body"
    return None, "none"
