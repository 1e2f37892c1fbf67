"""The kinds of values that settings have: what each must look like, and how it is said in words."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

DAY_S = 86_400.0


def _base_url(value: str) -> str:
    """What paths are put behind: nothing may follow it."""
    if "?" in value or "#" in value:
        raise ValueError("no URL to put a path behind")
    return _web_url(value)


def _web_url(value: str) -> str:
    """Clients read URLs each in their own way, and some only when they first ask: what none of
    them can reach stops the start."""
    parts = urlsplit(value)
    if (
        not re.fullmatch(r"https?://[^\s\x00-\x1f\x7f]+", value)
        or not parts.hostname
        or parts.port == 0
    ):
        raise ValueError("no URL")
    return value.rstrip("/")


def _redis_url(value: str) -> str:
    """Its scheme, several hosts and parameters are looked at by who connects (`redis_fleet`).
    redis-py would take database 0 for one that it cannot read."""
    if not re.fullmatch(r"[a-z]+(?:\+[a-z]+)?://[^\s/?#]+[^\s]*|unix:///[^\s?#]+[^\s]*", value):
        raise ValueError("no URL")
    if value.startswith(("redis://", "rediss://")):
        parts = urlsplit(value)
        if parts.port == 0 or not re.fullmatch(r"(?:/[0-9]*/?)?", parts.path):
            raise ValueError("no port, or no database")
    return value.rstrip("/")


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise ValueError("no header name")
    return value


def _absent_if_blank(value: object) -> object:
    """`token = ""`, as the file shows what is absent, must not become a token that all know."""
    return None if isinstance(value, str) and not value.strip() else value


def _not_blank(value: object) -> object:
    """A path of no characters is the working directory: its files are not ours to sit among."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("no path")
    return value


def _key(value: SecretStr | None) -> SecretStr | None:
    """It goes into a header, where white space around it (a file's last line end) is no part of
    it and anything but ASCII is refused with each request."""
    text = value.get_secret_value().strip() if value else ""
    if not re.fullmatch(r"[\x20-\x7e]*", text):
        raise ValueError("no header could hold it")
    return SecretStr(text) if text else None


def _duration(value: str) -> str:
    if value != "never" and not re.fullmatch(r"[1-9]\d{0,5}[hd]", value):
        raise ValueError("no duration")
    return value


def _network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("no network") from None
    return value


BaseUrl = Annotated[str, AfterValidator(_base_url)]
WebUrl = Annotated[str, AfterValidator(_web_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
"""Each setting of these kinds gives its own example: one of Qdrant's is no help with Redis."""
HeaderName = Annotated[str, AfterValidator(_header_name)]
Secret = Annotated[SecretStr | None, BeforeValidator(_absent_if_blank)]
Key = Annotated[SecretStr | None, BeforeValidator(_absent_if_blank), AfterValidator(_key)]
Text = Annotated[str | None, BeforeValidator(_absent_if_blank)]
File = Annotated[Path | None, BeforeValidator(_absent_if_blank)]
Directory = Annotated[Path, BeforeValidator(_not_blank)]
Duration = Annotated[str, AfterValidator(_duration)]
Network = Annotated[str, AfterValidator(_network)]
FORMS = {
    _base_url: "a URL",
    _web_url: "a URL",
    _redis_url: "a URL",
    _header_name: "names of headers",
    _key: "text of one line, in ASCII",
    _duration: '"never", or a number of days or hours such as "90d" or "12h"',
    _network: "addresses or networks such as 10.0.0.0/8",
}
Share = Annotated[float, Field(ge=0.0, le=1.0)]
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Asymmetric ones only: what is published to verify a token must not suffice to forge one."""
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


def seconds_of(duration: str) -> float | None:
    """A `Duration` in seconds; None for "never"."""
    if duration == "never":
        return None
    return int(duration[:-1]) * (DAY_S if duration.endswith("d") else 3600.0)
