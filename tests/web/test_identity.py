"""Whose request it is, in every mode, by what the contract says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.attempts import Attempts
from gateway.core.errors import BadRequest, Forbidden, RateLimited, Unauthenticated
from gateway.core.identity import Person
from gateway.core.keys import sign
from gateway.web.claims import check_app, check_user
from gateway.web.credentials import is_admin_token, require_admin
from gateway.web.identity import charge_tokens
from tests.web.identity_house import NOON, SECRET, House, Issuer, house, issuer, token

ANN = Person("default", "ann")
ALIASES = ["X-User-Id", "X-OpenWebUI-User-Id", "x-sm-user-id", "x-litellm-end-user-id"]


@pytest.fixture
async def plain(tmp_path: Path, redis: Redis) -> AsyncIterator[House]:
    """`header` mode with everything as it comes."""
    async with house(tmp_path, redis) as here:
        yield here


@pytest.fixture
async def signed(tmp_path: Path, redis: Redis) -> AsyncIterator[House]:
    async with house(
        tmp_path, redis, IDENTITY__MODE="signed", IDENTITY__SIGNING_SECRET=SECRET
    ) as here:
        yield here


@pytest.fixture
async def keyed(tmp_path: Path, redis: Redis) -> AsyncIterator[House]:
    async with house(tmp_path, redis, IDENTITY__MODE="key") as here:
        yield here


@pytest.fixture
async def published() -> AsyncIterator[Issuer]:
    async with issuer() as running:
        yield running


@pytest.fixture
async def tokens(tmp_path: Path, redis: Redis, published: Issuer) -> AsyncIterator[House]:
    async with house(
        tmp_path,
        redis,
        IDENTITY__MODE="jwt",
        IDENTITY__JWKS_URL=published.url,
        IDENTITY__JWT_ISSUER="issuer",
        IDENTITY__JWT_AUDIENCE="gateway",
    ) as here:
        yield here


# --- header mode ---------------------------------------------------------------------------


async def test_the_contracts_header_names_the_user(plain: House) -> None:
    found = await plain.ask(("X-Memory-User", "ann"), ("Content-Type", "application/json"))
    assert (found.person, found.app, found.how) == (ANN, "default", "header")
    assert found.drop == {b"x-memory-user"}


@pytest.mark.parametrize("alias", ALIASES)
async def test_each_alias_names_the_user_and_does_not_go_upstream(plain: House, alias: str) -> None:
    found = await plain.ask((alias, "ann"))
    assert (found.person, found.how) == (ANN, "alias")
    assert found.drop == {alias.lower().encode()}


async def test_without_any_identity_there_is_no_person(plain: House) -> None:
    found = await plain.ask(("Authorization", "Bearer sk-abc"), ("X-Memory-Mode", "full"))
    assert (found.person, found.how) == (None, "none")
    assert found.drop == {b"x-memory-mode"}


@pytest.mark.parametrize("value", ["", " ", "\t"])
async def test_an_empty_header_names_nobody(plain: House, value: str) -> None:
    assert (await plain.ask(("X-Memory-User", value))).person is None
    assert (await plain.ask(("X-Memory-User", value), ("X-User-Id", "ann"))).person == ANN


async def test_the_contracts_header_wins_over_its_aliases(plain: House) -> None:
    found = await plain.ask(("X-Memory-User", "ann"), ("X-User-Id", "somebody"))
    assert found.person == ANN
    assert found.drop == {b"x-memory-user", b"x-user-id"}


async def test_aliases_that_agree_are_one(plain: House) -> None:
    assert (await plain.ask(*((alias, "ann") for alias in ALIASES))).person == ANN


async def test_aliases_that_disagree_are_refused(plain: House) -> None:
    with pytest.raises(BadRequest, match="X-User-Id and x-sm-user-id"):
        await plain.ask(("X-User-Id", "ann"), ("x-sm-user-id", "bob"))


async def test_the_app_is_named_by_its_header(plain: House) -> None:
    found = await plain.ask(("X-Memory-User", "ann"), ("X-Memory-App", "shop.eu-1"))
    assert (found.person, found.app) == (Person("shop.eu-1", "ann"), "shop.eu-1")


async def test_a_name_in_utf8_or_latin1_is_the_same_user(plain: House) -> None:
    for raw in ("zoë".encode(), "zoë".encode("latin-1")):
        assert (await plain.ask(("X-Memory-User", raw))).person == Person("default", "zoë")


async def test_an_id_is_taken_as_it_is(plain: House) -> None:
    for user in ("a%40b.com", "a@b.com", "A", "a, b", "cn=x,dc=y", "日本"):
        assert (await plain.ask(("X-Memory-User", user))).person == Person("default", user)


@pytest.mark.parametrize(
    "user", ["x" * 257, "a\x00b", "a\x1bb", "a\x7f", "a\u2028b", "a\u202eb", "\x85"]
)
async def test_an_id_that_is_too_long_or_controls_is_refused(plain: House, user: str) -> None:
    with pytest.raises(BadRequest, match="1 to 256"):
        await plain.ask(("X-Memory-User", user))
    with pytest.raises(BadRequest):
        await plain.ask(("X-User-Id", user))
    with pytest.raises(BadRequest):
        check_user(user)


@pytest.mark.parametrize("app", ["a b", "a/b", "x" * 65, "ä", "a\x00"])
async def test_an_apps_name_of_other_characters_is_refused(plain: House, app: str) -> None:
    with pytest.raises(BadRequest, match="1 to 64"):
        await plain.ask(("X-Memory-User", "ann"), ("X-Memory-App", app))
    with pytest.raises(BadRequest):
        check_app(app)


async def test_aliases_are_a_setting(tmp_path: Path, redis: Redis) -> None:
    async with house(tmp_path, redis, IDENTITY__ALIASES="X-Kunde") as here:
        assert (await here.ask(("x-kunde", "ann"))).person == ANN
        found = await here.ask(("X-User-Id", "ann"))
        assert (found.person, found.drop) == (None, frozenset())


async def test_the_body_names_the_user_only_where_that_is_set(
    plain: House, tmp_path: Path, redis: Redis
) -> None:
    body: dict[str, Any] = {"body_user": "ann", "body_safety_identifier": "hash"}
    assert (await plain.ask(**body)).person is None
    async with house(tmp_path, redis, IDENTITY__BODY_USER="true") as here:
        found = await here.ask(**body)
        assert (found.person, found.how) == (ANN, "body")
        safety = await here.ask(body_safety_identifier="hash")
        assert safety.person == Person("default", "hash")
        assert (await here.ask(("X-User-Id", "bob"), **body)).person == Person("default", "bob")
        assert (await here.ask(body_user="x" * 300)).person is None
        assert (await here.ask(body_user="a\nb")).person is None


# --- peers -----------------------------------------------------------------------------------


async def test_trusted_peers_may_name_users_and_others_may_not(
    tmp_path: Path, redis: Redis
) -> None:
    async with house(
        tmp_path,
        redis,
        IDENTITY__TRUSTED_PEERS="10.0.0.0/8,192.0.2.7,fd00::/8",
        IDENTITY__BODY_USER="true",
    ) as here:
        for peer in ("10.1.2.3", "192.0.2.7", "::ffff:10.1.2.3", "fd00::1"):
            assert (await here.ask(("X-Memory-User", "ann"), peer=peer)).person == ANN
        for peer in ("192.0.2.8", "127.0.0.1", "::1", "fe80::1%eth0", "nonsense", "", None):
            for header in ("X-Memory-User", "X-User-Id", "X-Memory-App"):
                with pytest.raises(Forbidden, match="trusted_peers"):
                    await here.ask((header, "ann"), peer=peer)
            assert (await here.ask(("Accept", "*/*"), peer=peer)).person is None
            assert (await here.ask(body_user="ann", peer=peer)).person is None


# --- signed mode -----------------------------------------------------------------------------


async def test_a_signed_user_is_accepted(signed: House) -> None:
    found = await signed.ask(
        ("X-Memory-User", "ann"), ("X-Memory-Signature", sign(SECRET, "default", "ann", NOON))
    )
    assert (found.person, found.how) == (ANN, "signed")
    assert found.drop == {b"x-memory-user", b"x-memory-signature"}


async def test_an_alias_and_another_app_are_signed_for_alike(signed: House) -> None:
    found = await signed.ask(
        ("X-User-Id", "ann"),
        ("X-Memory-App", "shop"),
        ("X-Memory-Signature", sign(SECRET, "shop", "ann", NOON)),
    )
    assert found.person == Person("shop", "ann")


async def test_a_user_without_a_signature_is_refused(signed: House) -> None:
    with pytest.raises(Unauthenticated, match="X-Memory-Signature"):
        await signed.ask(("X-Memory-User", "ann"))


async def test_nobody_named_needs_no_signature(signed: House) -> None:
    assert (await signed.ask()).person is None


# --- key mode --------------------------------------------------------------------------------


async def test_a_gateway_key_fixes_the_app_and_stays_here(keyed: House) -> None:
    shown, key = await keyed.key("shop")
    for header, value in (
        ("X-Memory-Key", shown),
        ("Authorization", f"Bearer {shown}"),
        ("Authorization", f"bearer  {shown} "),
    ):
        found = await keyed.ask((header, value), ("X-Memory-User", "ann"))
        assert (found.person, found.app, found.key_id) == (Person("shop", "ann"), "shop", key.id)
        assert found.drop == {header.lower().encode(), b"x-memory-user"}


async def test_a_key_alone_is_enough_for_a_request_without_memory(keyed: House) -> None:
    shown, _ = await keyed.key("shop")
    found = await keyed.ask(("X-Memory-Key", shown))
    assert (found.person, found.app) == (None, "shop")


async def test_without_a_key_nothing_is_served_in_key_mode(keyed: House) -> None:
    for headers in ([], [("X-Memory-User", "ann")], [("Authorization", "Bearer sk-abc")]):
        with pytest.raises(Unauthenticated, match="gateway key is needed"):
            await keyed.ask(*headers)


async def test_the_clients_own_upstream_key_goes_on_beside_a_gateway_key(keyed: House) -> None:
    shown, _ = await keyed.key()
    found = await keyed.ask(("X-Memory-Key", shown), ("Authorization", "Bearer sk-abc"))
    assert found.drop == {b"x-memory-key"}


async def test_the_same_key_in_both_places_is_one(keyed: House) -> None:
    shown, key = await keyed.key()
    found = await keyed.ask(("X-Memory-Key", shown), ("Authorization", f"Bearer {shown}"))
    assert found.key_id == key.id
    assert found.drop == {b"x-memory-key", b"authorization"}


async def test_a_key_may_name_its_own_app(keyed: House) -> None:
    shown, _ = await keyed.key("shop")
    found = await keyed.ask(("X-Memory-Key", shown), ("X-Memory-App", "shop"))
    assert found.app == "shop"


async def test_a_gateway_key_counts_in_other_modes_too(plain: House, signed: House) -> None:
    shown, _ = await plain.key("shop")
    found = await plain.ask(("Authorization", f"Bearer {shown}"), ("X-Memory-User", "ann"))
    assert found.person == Person("shop", "ann")
    assert b"authorization" in found.drop
    other, _ = await signed.key("shop")
    with pytest.raises(Unauthenticated, match="Signature"):
        await signed.ask(("X-Memory-Key", other), ("X-Memory-User", "ann"))


async def test_requests_beyond_a_keys_limit_are_told_when_to_come_back(keyed: House) -> None:
    shown, _ = await keyed.key(requests_per_minute=3)
    other, _ = await keyed.key(requests_per_minute=3)
    for _ in range(3):
        await keyed.ask(("X-Memory-Key", shown))
    with pytest.raises(RateLimited) as refused:
        await keyed.ask(("X-Memory-Key", shown))
    assert refused.value.retry_after_s == pytest.approx(20.0)
    await keyed.ask(("X-Memory-Key", other))
    keyed.now += 21
    await keyed.ask(("X-Memory-Key", shown))


async def test_tokens_beyond_a_keys_limit_close_it_until_they_are_paid(keyed: House) -> None:
    shown, _ = await keyed.key(tokens_per_minute=600)
    found = await keyed.ask(("X-Memory-Key", shown))
    await charge_tokens(found, 1200, keyed, now=keyed.now)  # type: ignore[arg-type]
    with pytest.raises(RateLimited) as refused:
        await keyed.ask(("X-Memory-Key", shown))
    assert 59 < refused.value.retry_after_s < 62
    keyed.now += 62
    await keyed.ask(("X-Memory-Key", shown))


async def test_limits_are_not_held_while_redis_is_away(tmp_path: Path) -> None:
    async with (
        Redis(host="127.0.0.1", port=1, retry=None) as away,
        house(tmp_path, away, IDENTITY__MODE="key") as here,
    ):
        shown, _ = await here.key(requests_per_minute=1, tokens_per_minute=1)
        for _ in range(3):
            found = await here.ask(("X-Memory-Key", shown))
            await charge_tokens(found, 9, here, now=here.now)  # type: ignore[arg-type]


# --- jwt mode --------------------------------------------------------------------------------


async def test_a_token_names_the_user_and_stays_here(tokens: House) -> None:
    found = await tokens.ask(("Authorization", f"Bearer {token()}"))
    assert (found.person, found.app, found.how) == (ANN, "default", "token")
    assert found.drop == {b"authorization"}


async def test_a_token_may_name_its_app(tokens: House) -> None:
    found = await tokens.ask(("Authorization", f"Bearer {token(app='shop')}"))
    assert (found.person, found.app) == (Person("shop", "ann"), "shop")


async def test_headers_may_repeat_what_a_token_says(tokens: House) -> None:
    found = await tokens.ask(
        ("Authorization", f"Bearer {token(app='shop')}"),
        ("X-Memory-App", "shop"),
        ("X-User-Id", "ann"),
    )
    assert found.person == Person("shop", "ann")


async def test_the_claims_are_settings(tmp_path: Path, redis: Redis, published: Issuer) -> None:
    async with house(
        tmp_path,
        redis,
        IDENTITY__MODE="jwt",
        IDENTITY__JWKS_URL=published.url,
        IDENTITY__JWT_USER_CLAIM="email",
        IDENTITY__JWT_APP_CLAIM="tenant",
    ) as here:
        sent = token(email="ann@example.com", tenant="shop", iss="any", aud="any")
        found = await here.ask(("Authorization", f"Bearer {sent}"))
        assert found.person == Person("shop", "ann@example.com")


async def test_without_a_token_there_is_no_memory_where_clients_bring_their_own_key(
    tokens: House,
) -> None:
    found = await tokens.ask(("Authorization", "Bearer sk-abc"))
    assert (found.person, found.drop) == (None, frozenset())


async def test_without_a_token_nobody_spends_the_operators_upstream_key(
    tmp_path: Path, redis: Redis, published: Issuer
) -> None:
    async with house(
        tmp_path,
        redis,
        IDENTITY__MODE="jwt",
        IDENTITY__JWKS_URL=published.url,
        UPSTREAM__API_KEY="sk-operator",
    ) as here:
        for headers in ([], [("Authorization", "Bearer sk-abc")]):
            with pytest.raises(Unauthenticated, match="token is needed"):
                await here.ask(*headers)


async def test_in_other_modes_a_bearer_token_belongs_to_the_upstream(plain: House) -> None:
    found = await plain.ask(("Authorization", f"Bearer {token()}"), ("X-Memory-User", "bob"))
    assert found.person == Person("default", "bob")
    assert found.drop == {b"x-memory-user"}


async def test_an_app_with_rules_of_its_own_checks_tokens_by_them(
    tmp_path: Path, redis: Redis, published: Issuer
) -> None:
    async with house(
        tmp_path,
        redis,
        IDENTITY__MODE="jwt",
        IDENTITY__JWKS_URL=published.url,
        APPS__SHOP__IDENTITY__JWT_AUDIENCE="shop",
    ) as here:
        sent = f"Bearer {token(aud='shop')}"
        found = await here.ask(("Authorization", sent), ("X-Memory-App", "shop"))
        assert found.person == Person("shop", "ann")
        with pytest.raises(Unauthenticated, match="audience"):
            await here.ask(("Authorization", f"Bearer {token()}"), ("X-Memory-App", "shop"))
        with pytest.raises(Forbidden, match="settings of its own"):
            await here.ask(("Authorization", f"Bearer {token(app='shop')}"))


# --- operators -------------------------------------------------------------------------------


def admitted(headers: list[tuple[bytes, bytes]], token: str) -> None:
    deployment: Any = SimpleNamespace(attempts=Attempts(0), clock=lambda: NOON)
    require_admin(headers, token, deployment, peer_host=None)


def test_the_admin_token_lets_an_operator_in() -> None:
    admitted([(b"authorization", b"Bearer the-token")], "the-token")
    assert is_admin_token("the-token", "the-token")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer other")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Basic the-token")],
        [(b"authorization", b"the-token")],
        [(b"x-memory-key", b"the-token")],
    ],
)
def test_anything_else_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Unauthenticated, match="admin token"):
        admitted(headers, "the-token")


def test_an_empty_admin_token_lets_nobody_in() -> None:
    assert not is_admin_token("", "")
    with pytest.raises(Unauthenticated):
        admitted([(b"authorization", b"Bearer ")], "")
