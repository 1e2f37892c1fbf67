"""Attempts to be somebody else: forged, replayed, doubled and smuggled identities.

Each ends in 400, 401 or 403 (or in no identity at all), never in another user's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from redis.asyncio import Redis

from gateway.adapters.jwks import HttpJwks
from gateway.config import load
from gateway.core.errors import (
    BadRequest,
    Forbidden,
    SettingsError,
    Unauthenticated,
)
from gateway.core.identity import Person
from gateway.core.keys import sign
from tests.web.identity_house import (
    EC,
    NOON,
    OTHER_RSA,
    RSA,
    SECRET,
    House,
    Issuer,
    house,
    issuer,
    jwk_of,
    token,
)

ANN = Person("default", "ann")


@pytest.fixture
async def plain(tmp_path: Path, redis: Redis) -> AsyncIterator[House]:
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


def forget_keys(here: House) -> None:
    """As after a restart: published keys are asked for anew."""
    assert isinstance(here.services.jwks, HttpJwks)
    here.services.jwks._published.clear()


def bearer(text: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {text}"


# --- doubled and smuggled headers ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "X-Memory-User",
        "X-Memory-App",
        "X-Memory-Session",
        "X-Memory-Signature",
        "X-Memory-Key",
        "X-Memory-Mode",
        "X-Memory-As-Of",
        "X-User-Id",
        "X-OpenWebUI-User-Id",
        "x-sm-user-id",
        "x-litellm-end-user-id",
        "Authorization",
    ],
)
@pytest.mark.parametrize("second", ["ann", "bob"])
async def test_a_header_that_decides_is_not_sent_twice(
    plain: House, name: str, second: str
) -> None:
    with pytest.raises(BadRequest, match="more than once"):
        await plain.ask((name, "ann"), (name, second))


async def test_the_spelling_of_a_name_does_not_hide_that_it_came_twice(plain: House) -> None:
    with pytest.raises(BadRequest):
        await plain.ask(("X-Memory-User", "ann"), ("x-memory-USER", "bob"))


@pytest.mark.parametrize(
    "name", ["X_Memory_User", "X-Memory_User", "X-Memory-User ", "X-Memory-Users", "Memory-User"]
)
async def test_names_that_other_programs_might_confuse_are_no_identity(
    plain: House, name: str
) -> None:
    assert (await plain.ask((name, "bob"))).person is None
    assert (await plain.ask((name, "bob"), ("X-Memory-User", "ann"))).person == ANN


async def test_a_header_folded_into_one_is_another_user_and_never_its_first(
    plain: House,
) -> None:
    assert (await plain.ask(("X-Memory-User", "ann, bob"))).person == Person("default", "ann, bob")


@pytest.mark.parametrize(
    "value",
    [b"ann\r\nX-Memory-App: other", b"ann\n", b"\x00ann", b"ann\x00", b"ann\x0b", "ann\u2029"],
)
async def test_line_ends_and_control_characters_are_refused(
    plain: House, value: str | bytes
) -> None:
    with pytest.raises(BadRequest):
        await plain.ask(("X-Memory-User", value))


async def test_an_id_cannot_forge_another_app(plain: House) -> None:
    found = await plain.ask(("X-Memory-User", "other/ann"))
    assert found.person == Person("default", "other/ann")


@pytest.mark.parametrize("app", ["../other", "other/ann", "*", "default\x00", "a:b", "{p1}"])
async def test_an_apps_name_cannot_reach_out_of_its_place(plain: House, app: str) -> None:
    with pytest.raises(BadRequest):
        await plain.ask(("X-Memory-User", "ann"), ("X-Memory-App", app))


async def test_no_identity_header_reaches_the_upstream_even_unused(plain: House) -> None:
    sent = [
        ("X-Memory-User", "ann"),
        ("X-User-Id", "other"),
        ("x-litellm-end-user-id", "another"),
        ("X-Memory-Signature", "t=1,v1=0"),
        ("X-Memory-Anything", "x"),
        ("X-Request-Id", "stays"),
    ]
    found = await plain.ask(*sent)
    assert found.drop == {name.lower().encode() for name, _ in sent[:-1]}


async def test_a_forwarded_address_makes_nobody_trusted(tmp_path: Path, redis: Redis) -> None:
    async with house(tmp_path, redis, IDENTITY__TRUSTED_PEERS="10.0.0.0/8") as here:
        for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP"):
            with pytest.raises(Forbidden):
                await here.ask((header, "10.0.0.1"), ("X-Memory-User", "ann"), peer="192.0.2.1")


def test_header_mode_on_a_public_address_is_refused_for_every_app() -> None:
    public = {"GATEWAY_SERVER__HOST": "0.0.0.0"}
    with pytest.raises(SettingsError, match="trusted_peers"):
        load(environ=public)
    keyed = public | {"GATEWAY_IDENTITY__MODE": "key"}
    load(environ=keyed)
    with pytest.raises(SettingsError, match=r"apps\.shop\.identity\.trusted_peers"):
        load(environ=keyed | {"GATEWAY_APPS__SHOP__IDENTITY__MODE": "header"})


# --- signatures ----------------------------------------------------------------------------


async def test_a_signature_is_not_replayed_for_another_user_or_app(signed: House) -> None:
    fitting = sign(SECRET, "default", "ann", NOON)
    await signed.ask(("X-Memory-User", "ann"), ("X-Memory-Signature", fitting))
    for user, app in (("bob", "default"), ("ann", "other"), ("Ann", "default"), ("ann ", "x")):
        with pytest.raises(Unauthenticated):
            await signed.ask(
                ("X-Memory-User", user), ("X-Memory-App", app), ("X-Memory-Signature", fitting)
            )


async def test_a_signature_is_not_read_two_ways_where_names_hold_dots(signed: House) -> None:
    fitting = sign(SECRET, "a", "b.c", NOON)
    with pytest.raises(Unauthenticated):
        await signed.ask(
            ("X-Memory-User", "c"), ("X-Memory-App", "a.b"), ("X-Memory-Signature", fitting)
        )


async def test_a_signature_is_not_replayed_later(signed: House) -> None:
    fitting = sign(SECRET, "default", "ann", NOON)
    signed.now += 301
    with pytest.raises(Unauthenticated, match="5 minutes"):
        await signed.ask(("X-Memory-User", "ann"), ("X-Memory-Signature", fitting))


async def test_a_signature_by_another_secret_or_hash_is_refused(signed: House) -> None:
    stamp = int(NOON)
    message = f"{stamp}.default.ann".encode()
    forged = [
        sign("guessed", "default", "ann", NOON),
        f"t={stamp},v1={hashlib.sha256(message).hexdigest()}",
        f"t={stamp},v1={hmac.new(SECRET.encode(), message, hashlib.sha1).hexdigest()}",
        f"t={stamp},v1={'0' * 64}",
        f"t={stamp},v0={hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()}",
    ]
    for header in forged:
        with pytest.raises(Unauthenticated):
            await signed.ask(("X-Memory-User", "ann"), ("X-Memory-Signature", header))


async def test_in_signed_mode_the_body_names_nobody_unsigned(tmp_path: Path, redis: Redis) -> None:
    async with house(
        tmp_path,
        redis,
        IDENTITY__MODE="signed",
        IDENTITY__SIGNING_SECRET=SECRET,
        IDENTITY__BODY_USER="true",
    ) as here:
        with pytest.raises(Unauthenticated):
            await here.ask(body_user="ann")
        for_bob = ("X-Memory-Signature", sign(SECRET, "default", "bob", NOON))
        with pytest.raises(Unauthenticated):
            await here.ask(for_bob, body_user="ann")
        assert (await here.ask(for_bob, body_user="bob")).person == Person("default", "bob")


# --- gateway keys ---------------------------------------------------------------------------


async def test_a_key_does_not_reach_another_app(keyed: House) -> None:
    shown, _ = await keyed.key("shop")
    with pytest.raises(Forbidden, match="X-Memory-App"):
        await keyed.ask(("X-Memory-Key", shown), ("X-Memory-App", "bank"))
    with pytest.raises(Forbidden):
        await keyed.ask(bearer(shown), ("X-Memory-App", "default"), ("X-Memory-User", "ann"))


async def test_a_revoked_key_is_refused_at_once(keyed: House) -> None:
    shown, key = await keyed.key()
    await keyed.ask(("X-Memory-Key", shown))
    await keyed.services.keys.revoke(key.id, NOON)
    with pytest.raises(Unauthenticated, match="unknown or revoked"):
        await keyed.ask(("X-Memory-Key", shown))


async def test_guessed_and_mixed_keys_are_refused_in_the_same_words(keyed: House) -> None:
    one, _ = await keyed.key()
    two, _ = await keyed.key()
    guesses = [
        "_".join([*one.split("_")[:2], *two.split("_")[2:]]),
        f"mg_{'0' * 12}_{'A' * 43}",
        "mg_",
        one[:-1],
        one + "A",
        one.upper(),
        "sk-abc",
        f"mg_' OR 1=1_{'A' * 43}",
    ]
    said = set()
    for guess in guesses:
        with pytest.raises(Unauthenticated) as refused:
            await keyed.ask(("X-Memory-Key", guess))
        said.add(refused.value.message)
        assert guess not in refused.value.message or guess in ("mg_", "sk-abc")
    assert len(said) == 1


async def test_two_keys_in_one_request_are_refused(keyed: House) -> None:
    one, _ = await keyed.key("shop")
    two, _ = await keyed.key("bank")
    with pytest.raises(BadRequest, match="different gateway keys"):
        await keyed.ask(("X-Memory-Key", one), bearer(two))


async def test_a_wrong_key_is_refused_where_none_would_be_needed(plain: House) -> None:
    with pytest.raises(Unauthenticated):
        await plain.ask(bearer(f"mg_{'0' * 12}_{'A' * 43}"), ("X-Memory-User", "ann"))


@pytest.mark.parametrize("header", ["api-key", "x-api-key", "Authorization"])
async def test_a_key_sent_the_way_of_other_apis_does_not_leak_upstream(
    keyed: House, header: str
) -> None:
    shown, _ = await keyed.key()
    for value in (shown, f"Basic {shown}", f"x{shown}"):
        found = await keyed.ask((header, value), ("X-Memory-Key", shown))
        assert header.lower().encode() in found.drop
        with pytest.raises(Unauthenticated):
            await keyed.ask((header, value))


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
async def test_a_key_in_one_of_two_headers_of_a_name_does_not_leak_upstream(
    plain: House, header: str
) -> None:
    shown, _ = await plain.key()
    for values in ((shown, "other"), ("other", shown)):
        found = await plain.ask(*((header, value) for value in values))
        assert header.encode() in found.drop


# --- tokens -----------------------------------------------------------------------------------


def unsigned(alg: str, mac: bytes = b"") -> str:
    def part(value: Any) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": "ann", "exp": NOON + 300, "iss": "issuer", "aud": "gateway"}
    return f"{part({'alg': alg, 'kid': 'one'})}.{part(claims)}.{part(mac)}"


def hmac_with_the_public_key(alg: str = "HS256") -> str:
    """The public key is known to all; where the token may choose HMAC, it is the secret."""
    pem = RSA.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head_and_claims = unsigned(alg).rsplit(".", 1)[0]
    mac = hmac.new(pem, head_and_claims.encode(), hashlib.sha256).digest()
    return f"{head_and_claims}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{token(sub='bob').split('.')[1]}.{signature}"


FORGED = {
    "alg none": unsigned("none"),
    "alg None in other letters": unsigned("nOnE"),
    "no alg": unsigned(""),
    "an alg that is a list": "eyJhbGciOlsiUlMyNTYiXX0.e30.AA",
    "HMAC keyed with the public key": hmac_with_the_public_key(),
    "RS256 named over such an HMAC": hmac_with_the_public_key("RS256"),
    "signed by another key": token(OTHER_RSA),
    "claims exchanged": tampered(),
    "signature cut off": token().rsplit(".", 1)[0] + ".",
    "expired": token(exp=NOON - 31),
    "expired long ago": token(exp=0),
    "without an end": token(exp=None),
    "an end that never comes": token(exp=float("inf")),
    "an end that is a text": token(exp="never"),
    "not yet valid": token(nbf=NOON + 60),
    "issued in the future": token(iat=NOON + 3600),
    "for another audience": token(aud="other"),
    "for many others": token(aud=["a", "b"]),
    "without audience": token(aud=None),
    "by another issuer": token(iss="other"),
    "without issuer": token(iss=None),
    "without user": token(sub=None),
    "a user that is empty": token(sub=""),
    "a user that controls": token(sub="ann\r\nbob"),
    "a user that is a list": token(sub=None, email=["ann"]),
    "an app out of its place": token(app="../other"),
    "an app that is a list": token(app=["default"]),
    "an algorithm that is not pinned": token(algorithm="RS512"),
    "unknown key id": token(kid="two"),
    "key id of another type": token(head={"kid": "../../etc/passwd"}),
    "a key of its own": token(OTHER_RSA, head={"jwk": jwk_of(OTHER_RSA, "one")}),
    "a key set of its own": token(OTHER_RSA, head={"jku": "http://127.0.0.1:1/jwks"}),
    "key id that is a number": base64.urlsafe_b64encode(b'{"alg":"RS256","kid":1}').decode()
    + "."
    + token().split(".", 1)[1],
    "a critical extension": token(head={"crit": ["exp"]}),
    "deeply nested head": base64.urlsafe_b64encode(b"[" * 11_000).decode().rstrip("=") + ".e30.AA",
    "too long": token(pad="x" * 20_000),
    "three empty parts": "..",
    "head only": "e30..",
    "no JSON": "AAAA.AAAA.AAAA",
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_token_is_refused(tokens: House, forged: str) -> None:
    await tokens.ask(bearer(token()))
    with pytest.raises((Unauthenticated, BadRequest)):
        await tokens.ask(bearer(forged))


async def test_a_public_key_published_as_a_shared_secret_verifies_nothing(
    tokens: House, published: Issuer
) -> None:
    secret = base64.urlsafe_b64encode(b"k" * 32).rstrip(b"=").decode()
    published.keys = [{"kty": "oct", "kid": "one", "k": secret}]
    forget_keys(tokens)
    forged = jwt.encode(
        {"sub": "ann", "exp": NOON + 300}, b"k" * 32, "HS256", headers={"kid": "one"}
    )
    with pytest.raises(Unauthenticated):
        await tokens.ask(bearer(forged))


async def test_algorithms_with_a_shared_secret_cannot_be_set() -> None:
    for algorithm in ("HS256", "none", ""):
        with pytest.raises(SettingsError, match="jwt_algorithms"):
            load(environ={"GATEWAY_IDENTITY__JWT_ALGORITHMS": f"RS256,{algorithm or 'x'}"})


async def test_a_token_of_one_user_does_not_serve_another(tokens: House) -> None:
    for header in ("X-Memory-User", "X-User-Id"):
        with pytest.raises(Forbidden, match="another user"):
            await tokens.ask(bearer(token()), (header, "bob"))


async def test_a_token_of_one_app_does_not_serve_another(tokens: House) -> None:
    for sent, app in ((token(), "shop"), (token(app="shop"), "bank"), (token(app="shop"), "x.y")):
        with pytest.raises(Forbidden, match="X-Memory-App"):
            await tokens.ask(bearer(sent), ("X-Memory-App", app))


async def test_in_jwt_mode_a_header_alone_names_nobody(tokens: House) -> None:
    for header in ("X-Memory-User", "X-User-Id"):
        with pytest.raises(Unauthenticated, match="token is needed"):
            await tokens.ask((header, "ann"))
    assert (await tokens.ask()).person is None


async def test_in_jwt_mode_a_gateway_key_names_nobody(tokens: House) -> None:
    shown, _ = await tokens.key()
    with pytest.raises(Unauthenticated):
        await tokens.ask(bearer(shown), ("X-Memory-User", "ann"))
    other, _ = await tokens.key("shop")
    with pytest.raises(Forbidden):
        await tokens.ask(("X-Memory-Key", other), bearer(token(app="bank")))


async def test_a_key_meant_for_encryption_or_another_algorithm_signs_nobody(
    tokens: House, published: Issuer
) -> None:
    for key in (
        jwk_of(RSA, "one", use="enc"),
        jwk_of(RSA, "one", alg="RS512"),
        jwk_of(EC, "one"),
        {"kty": "RSA", "kid": "one"},
        {"kid": "one"},
    ):
        published.keys = [key]
        forget_keys(tokens)
        with pytest.raises(Unauthenticated):
            await tokens.ask(bearer(token()))


async def test_a_token_without_key_id_needs_the_one_key_that_there_is(
    tokens: House, published: Issuer
) -> None:
    published.keys = [jwk_of(EC, "ec"), jwk_of(RSA, None)]
    assert (await tokens.ask(bearer(token(kid=None)))).person == ANN
    forget_keys(tokens)
    published.keys = [jwk_of(OTHER_RSA, "two"), jwk_of(RSA, "one")]
    with pytest.raises(Unauthenticated, match="more than one"):
        await tokens.ask(bearer(token(kid=None)))
    assert (await tokens.ask(bearer(token()))).person == ANN


async def test_forged_key_ids_do_not_make_us_hammer_the_issuer(
    tokens: House, published: Issuer
) -> None:
    await tokens.ask(bearer(token()))
    for n in range(30):
        with pytest.raises(Unauthenticated):
            await tokens.ask(bearer(token(OTHER_RSA, kid=f"forged-{n}")))
    assert published.asked == 1
    assert (await tokens.ask(bearer(token()))).person == ANN
