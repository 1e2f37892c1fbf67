"""Users' tokens (`jwt` mode): who a bearer token speaks for, by the issuer's published keys.

What may verify a token is pinned from the settings and never taken from the token: asymmetric
algorithms alone, so that neither `none` nor an HMAC keyed with a public key can pass. Times
are judged by the `now` that is passed in. PyJWT does the cryptography.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway.config import IdentitySettings
from gateway.core.errors import Unauthenticated
from gateway.core.memory import Instant
from gateway.ports import JwksSource

if TYPE_CHECKING:
    import jwt

LEEWAY_S = 30
"""How far the issuer's clock may be from ours."""
MAX_TOKEN_CHARS = 16_384

_SHAPE = re.compile(r"[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*", re.ASCII)
_ASYMMETRIC = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)


def looks_like_token(text: str) -> bool:
    """Whether a bearer credential is a JWT by its shape (an upstream's API key is not)."""
    return _SHAPE.fullmatch(text) is not None


async def verified_claims(
    token: str, identity: IdentitySettings, source: JwksSource, *, now: Instant
) -> Mapping[str, Any]:
    """The claims of a token that one of the issuer's keys has signed, for us and in time.

    Raises Unauthenticated, saying which check failed; KeysUnavailable where the keys cannot
    be had.
    """
    import jwt  # 40 ms that only this mode needs

    if len(token) > MAX_TOKEN_CHARS:
        raise _refused("it is too long")
    try:
        head = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, RecursionError):
        raise _refused("it cannot be read") from None
    algorithm, kid = head.get("alg"), head.get("kid")
    allowed = _ASYMMETRIC.intersection(identity.jwt_algorithms)
    if not isinstance(algorithm, str) or algorithm not in allowed:
        raise _refused("its algorithm is not among identity.jwt_algorithms")
    published = await source.keys(identity.jwks_url or "", kid=kid)
    key = _key_for(published, algorithm, kid)
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=identity.jwt_audience,
            issuer=identity.jwt_issuer,
            options={
                "require": ["exp"],
                "verify_aud": identity.jwt_audience is not None,
                "verify_iss": identity.jwt_issuer is not None,
                "verify_exp": False,  # judged below, by the time that was passed in
                "verify_nbf": False,
                "verify_iat": False,
                "enforce_minimum_key_length": True,
            },
        )
    except jwt.InvalidAudienceError:
        raise _refused("it is for another audience than identity.jwt_audience") from None
    except jwt.InvalidIssuerError:
        raise _refused("its issuer is not identity.jwt_issuer") from None
    except jwt.InvalidSignatureError:
        raise _refused("its signature does not fit") from None
    except jwt.MissingRequiredClaimError as exc:
        raise _refused(f"the claim {exc.claim!r} is missing") from None
    except (jwt.PyJWTError, RecursionError):
        raise _refused("it is not valid") from None
    _check_times(claims, now)
    return claims


def _check_times(claims: Mapping[str, Any], now: Instant) -> None:
    if _time(claims, "exp") <= now - LEEWAY_S:
        raise _refused("it has expired")
    for claim in ("nbf", "iat"):
        if claim in claims and _time(claims, claim) > now + LEEWAY_S:
            raise _refused(f"its {claim!r} lies in the future; check both clocks")


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refused(f"its {name!r} is no time")
    return value


def _key_for(published: Sequence[Mapping[str, Any]], algorithm: str, kid: object) -> jwt.PyJWK:
    """The one published key that may verify this token."""
    usable = [
        made
        for jwk in published
        if (kid is None or jwk.get("kid") == kid)
        and jwk.get("use", "sig") == "sig"
        and jwk.get("alg", algorithm) == algorithm
        and (made := _made(json.dumps(jwk, sort_keys=True), algorithm)) is not None
    ]
    if len(usable) != 1:
        raise _refused("no published key, or more than one, could have signed it")
    return usable[0]


@lru_cache(maxsize=256)
def _made(jwk: str, algorithm: str) -> jwt.PyJWK | None:
    """A key ready for use (0.1 ms to make); None where it is of another kind."""
    import jwt

    try:
        return jwt.PyJWK(json.loads(jwk), algorithm)
    except jwt.PyJWTError:
        return None


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"the bearer token is refused: {why}", code="invalid_token")
