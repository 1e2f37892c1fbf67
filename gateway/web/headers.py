"""Which headers pass, both ways (RFC 9110, 7.6.1): all but those meant for one connection.

Upstream, what was meant for the gateway is taken out too: identity, memory headers and
gateway keys. Order, duplicates and values stay as they came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.config import UpstreamSettings

RawHeaders = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# `host` is the upstream's own; `content-length` is set anew for a body that is whole;
# `expect: 100-continue` was answered by our own server, which had the body sent.
NOT_UPSTREAM: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect"}

MEMORY: Final = b"x-memory-"
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
OWN_COOKIE: Final = b"mg_"
"""Begins the names of the gateway's own cookies (`web/browser_session`)."""


def to_upstream(
    headers: RawHeaders,
    *,
    drop: frozenset[bytes] = frozenset(),
    upstream: UpstreamSettings,
    upload: bool = False,
    unpacked: bool = False,
) -> list[tuple[bytes, bytes]]:
    """The headers for the upstream; names are lower case, as in an ASGI scope.

    `upload`: the body passes through, so that the client's own length holds. `unpacked`: the
    body is no longer in its coding. The gateway's own upstream key, where there is one, takes
    the place of the client's.
    """
    named = _named_in_connection(headers)
    own_key = upstream.api_key
    passed = [
        (name, value)
        for name, value in _without_own_cookies(headers)
        if (name not in NOT_UPSTREAM or (upload and name == b"content-length"))
        and name not in drop
        and name not in named
        and not name.startswith(MEMORY)
        and not (own_key is not None and name == b"authorization")
        and not (unpacked and name == b"content-encoding")
    ]
    if own_key is not None:
        passed.append((b"authorization", b"Bearer " + own_key.get_secret_value().encode()))
    return passed


def _without_own_cookies(headers: RawHeaders) -> RawHeaders:
    """A browser that is signed in here sends its cookie with everything."""
    if not any(name == b"cookie" and OWN_COOKIE in value for name, value in headers):
        return headers
    kept = []
    for name, value in headers:
        if name == b"cookie":
            parts = [p for p in value.split(b";") if not p.strip().startswith(OWN_COOKIE)]
            if others := b";".join(parts).strip():
                kept.append((name, others))
        else:
            kept.append((name, value))
    return kept


def to_client(
    headers: RawHeaders, *, status: int, own: bool = False, open_end: bool = False
) -> list[tuple[bytes, bytes]]:
    """The upstream's headers for the client, unchanged but for those of the connection.

    `own`: memory headers of ours will follow, so that an upstream's (another gateway's) go.
    `open_end`: no length is promised, as an event of ours may come last (`HttpClient.broke`).
    """
    named = _named_in_connection([(name.lower(), value) for name, value in headers])
    passed = []
    for name, value in headers:
        lowered = name.lower()
        if lowered in HOP_BY_HOP or lowered in named or (own and lowered.startswith(MEMORY)):
            continue
        if lowered == b"content-length" and (status == 304 or open_end):
            continue  # at 304 it tells of a body that does not come, which our server waits for
        # Our server sends no control characters, and would end the connection without an answer;
        # who receives them may take them for spaces (RFC 9110, 5.5).
        passed.append((name, _CONTROL.sub(b" ", value)))
    return passed


def is_event_stream(headers: RawHeaders) -> bool:
    kind = value_of(headers, b"content-type") or b""
    return kind.partition(b";")[0].strip().lower() == b"text/event-stream"


def is_encoded(headers: RawHeaders) -> bool:
    coding = value_of(headers, b"content-encoding") or b"identity"
    return coding.strip().lower() != b"identity"


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of a header; `name` in lower case."""
    return next((value for key, value in headers if key.lower() == name), None)


def text_of(raw: bytes) -> str:
    """A header's text: UTF-8 is read as such; what is not UTF-8 is Latin-1, as HTTP had it (and as
    browsers and Node write it)."""
    raw = raw.strip(b" \t")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _named_in_connection(headers: RawHeaders) -> frozenset[bytes]:
    named: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    # Without these a message cannot be passed on at all, whatever a peer lists.
    return frozenset(named - {b"content-length", b"content-type", b"content-encoding"})
