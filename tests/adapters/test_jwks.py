"""Published keys: fetched once, again when they are old or rotated, never too often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from gateway.adapters.jwks import FRESH_S, MAX_BYTES, RETRY_S, STALE_S, THROTTLE_S, HttpJwks
from gateway.core.errors import KeysUnavailable
from tests.web.identity_house import OTHER_RSA, RSA, Issuer, issuer, jwk_of


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def jwks(clock: Clock) -> AsyncIterator[HttpJwks]:
    source = HttpJwks(clock=clock)
    yield source
    await source.close()


@pytest.fixture
async def published() -> AsyncIterator[Issuer]:
    async with issuer() as running:
        yield running


async def kids(jwks: HttpJwks, published: Issuer, kid: str | None = "one") -> list[str]:
    return [key["kid"] for key in await jwks.keys(published.url, kid=kid)]


async def test_keys_are_fetched_once_and_kept(jwks: HttpJwks, published: Issuer) -> None:
    for _ in range(5):
        assert await kids(jwks, published) == ["one"]
    assert published.asked == 1


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [(404, None, "it answers 404"), (200, b"<html>", "it answers no JSON Web Key Set")],
)
async def test_why_there_are_no_keys_is_told_to_who_asks_and_once_to_the_log(
    jwks: HttpJwks, published: Issuer, clock: Clock, status: int, body: bytes | None, fault: str
) -> None:
    published.status, published.body = status, body
    with capture_logs() as said:
        for _ in range(2):
            with pytest.raises(KeysUnavailable, match=fault):
                await kids(jwks, published)
            clock.now += RETRY_S
    assert [(each["part"], each["reason"]) for each in said] == [("identity.jwks_url", fault)]


async def test_requests_at_once_fetch_once(jwks: HttpJwks, published: Issuer) -> None:
    found = await asyncio.gather(*(kids(jwks, published) for _ in range(20)))
    assert found == [["one"]] * 20
    assert published.asked == 1


async def test_old_keys_are_asked_for_again_so_that_withdrawn_ones_end(
    jwks: HttpJwks, published: Issuer, clock: Clock
) -> None:
    await kids(jwks, published)
    published.keys = [jwk_of(OTHER_RSA, "two")]
    clock.now += FRESH_S - 1
    assert await kids(jwks, published) == ["one"]
    clock.now += 2
    assert await kids(jwks, published) == ["two"]


async def test_a_key_that_is_not_known_is_looked_for_once(
    jwks: HttpJwks, published: Issuer, clock: Clock
) -> None:
    await kids(jwks, published)
    clock.now += THROTTLE_S
    published.keys = [jwk_of(RSA, "one"), jwk_of(OTHER_RSA, "two")]
    assert await kids(jwks, published, "two") == ["one", "two"]
    for n in range(10):
        assert await kids(jwks, published, f"forged-{n}") == ["one", "two"]
    assert published.asked == 2
    clock.now += THROTTLE_S
    await kids(jwks, published, "forged")
    assert published.asked == 3


async def test_while_the_issuer_is_away_the_keys_that_were_had_still_count(
    jwks: HttpJwks, published: Issuer, clock: Clock
) -> None:
    await kids(jwks, published)
    published.status = 503
    clock.now += FRESH_S + 1
    assert await kids(jwks, published) == ["one"]
    assert await kids(jwks, published) == ["one"]
    assert published.asked == 2
    clock.now += STALE_S
    with pytest.raises(KeysUnavailable):
        await kids(jwks, published)
    published.status = 200
    clock.now += THROTTLE_S
    assert await kids(jwks, published) == ["one"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, None),
        (302, None),
        (200, b"no JSON"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"keys": 7}'),
        (200, b"null"),
        (200, b'{"keys":["' + b"x" * MAX_BYTES + b'"]}'),
    ],
)
async def test_an_issuer_that_never_gave_keys_is_unavailable_and_asked_with_pauses(
    jwks: HttpJwks, published: Issuer, clock: Clock, status: int, body: bytes | None
) -> None:
    published.status, published.body = status, body
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await kids(jwks, published)
    assert published.asked == 1
    clock.now += RETRY_S
    published.status, published.body = 200, None
    assert await kids(jwks, published) == ["one"]


async def test_an_issuer_that_cannot_be_reached_is_unavailable(jwks: HttpJwks) -> None:
    for url in ("http://127.0.0.1:1/jwks", "http://[broken", ""):
        with pytest.raises(KeysUnavailable):
            await jwks.keys(url, kid=None)


async def test_each_issuer_has_keys_of_its_own(jwks: HttpJwks, published: Issuer) -> None:
    async with issuer() as other:
        other.keys = [jwk_of(OTHER_RSA, "two")]
        assert await kids(jwks, published) == ["one"]
        assert await kids(jwks, other, "two") == ["two"]
