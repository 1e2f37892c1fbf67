"""Gateway keys, signatures over an identity, and links that end."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import keys
from gateway.core.errors import Unauthenticated
from gateway.core.identity import Person
from gateway.core.keys import Link, check_key, check_link, key_id, make_key, make_link, sign
from gateway.core.keys import verify_signature as verify

NOON = 1_790_000_000.0
SECRET = "a shared secret"
ANN = Person("default", "ann")


# --- gateway keys --------------------------------------------------------------------------


def test_a_key_is_shown_once_and_kept_hashed() -> None:
    shown, kept = make_key("app", now=NOON, label="bot", requests_per_minute=5)
    assert shown.startswith(f"mg_{kept.id}_")
    assert shown not in repr(kept)
    assert shown.split("_", 2)[2] not in repr(kept)
    assert (kept.app, kept.label, kept.created_at, kept.requests_per_minute) == (
        "app",
        "bot",
        NOON,
        5,
    )
    assert key_id(shown) == kept.id
    assert check_key(shown, kept)


def test_no_two_keys_are_alike() -> None:
    made = [make_key("app", now=NOON) for _ in range(50)]
    assert len({shown for shown, _ in made}) == 50
    assert len({kept.id for _, kept in made}) == 50


def test_a_wrong_secret_another_keys_secret_and_a_revoked_key_are_refused() -> None:
    shown, kept = make_key("app", now=NOON)
    other, _ = make_key("app", now=NOON)
    assert not check_key(f"mg_{kept.id}_{other.split('_', 2)[2]}", kept)
    assert not check_key(shown[:-1] + ("A" if shown[-1] != "A" else "B"), kept)
    assert not check_key(other, kept)
    assert not check_key(shown, replace(kept, revoked_at=NOON))
    assert not check_key(shown, None)
    assert not check_key("", kept)


@pytest.mark.parametrize(
    "text",
    ["", "mg_", "mg__", "sk-abc", "mg_0123456789ab_", "mg_0123456789AB_" + "a" * 43]
    + ["mg_0123456789ab_" + "a" * n for n in (42, 44)]
    + ["mg_0123456789ab_" + "a" * 43 + "\n", " mg_0123456789ab_" + "a" * 43],
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert key_id(text) is None


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def watched(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    class Watching:
        compare_digest = staticmethod(watched)
        new = staticmethod(hmac.new)

    monkeypatch.setattr(keys, "hmac", Watching)
    shown, kept = make_key("app", now=NOON)
    assert check_key(shown, kept)
    assert not check_key(shown, None)
    verify(sign(SECRET, "app", "ann", NOON), SECRET, "app", "ann", NOON)
    check_link(SECRET, make_link(SECRET, link_of(ANN)), now=NOON)
    assert len(compared) == 4
    assert all(len(a) == len(b) for a, b in compared)


# --- signatures ----------------------------------------------------------------------------


def hand_made(secret: str, t: object, app: str, user: str) -> str:
    """As the contract words it, without this program's help."""
    return hmac.new(secret.encode(), f"{t}.{app}.{user}".encode(), hashlib.sha256).hexdigest()


def test_a_signature_as_the_contract_words_it_is_accepted() -> None:
    t = int(NOON)
    header = f"t={t},v1={hand_made(SECRET, t, 'default', 'ann')}"
    verify(header, SECRET, "default", "ann", NOON)
    assert header == sign(SECRET, "default", "ann", NOON)


@pytest.mark.parametrize("user", ["ann@example.com", "cn=a,dc=b", "日本語", "a.b.c", "x" * 256])
def test_any_user_can_be_signed_for(user: str) -> None:
    verify(sign(SECRET, "app", user, NOON), SECRET, "app", user, NOON)


@pytest.mark.parametrize("age", [-300, -299, 0, 299, 300])
def test_five_minutes_either_way_are_tolerated(age: float) -> None:
    verify(sign(SECRET, "app", "ann", NOON - age), SECRET, "app", "ann", NOON)


@pytest.mark.parametrize("age", [-302, 302, 86_400, -86_400, NOON])
def test_older_and_future_signatures_are_refused(age: float) -> None:
    with pytest.raises(Unauthenticated, match="5 minutes"):
        verify(sign(SECRET, "app", "ann", NOON - age), SECRET, "app", "ann", NOON)


@pytest.mark.parametrize(
    ("secret", "app", "user"),
    [("another", "app", "ann"), (SECRET, "other", "ann"), (SECRET, "app", "bob"), ("", "", "")],
)
def test_a_signature_for_anything_else_is_refused(secret: str, app: str, user: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(sign(secret, app, user, NOON), SECRET, "app", "ann", NOON)


def test_while_a_secret_is_changed_one_of_several_signatures_may_fit() -> None:
    new = sign("new", "app", "ann", NOON)
    both = f"{sign(SECRET, 'app', 'ann', NOON)},{new.split(',')[1]}"
    for secret in (SECRET, "new"):
        verify(both, secret, "app", "ann", NOON)
    with pytest.raises(Unauthenticated):
        verify(both, "third", "app", "ann", NOON)


def test_only_a_few_signatures_are_tried() -> None:
    t, fitting = sign(SECRET, "app", "ann", NOON).split(",")
    wrong = ",".join(["v1=" + "0" * 64] * keys.MAX_SIGNATURES)
    with pytest.raises(Unauthenticated):
        verify(f"{t},{wrong},{fitting}", SECRET, "app", "ann", NOON)


def test_elements_of_other_names_and_spaces_are_left_alone() -> None:
    t, v1 = sign(SECRET, "app", "ann", NOON).split(",")
    verify(f"v0=abc, {t} , {v1.upper().replace('V1', 'v1')},v2=def", SECRET, "app", "ann", NOON)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=" + "0" * 64,
        "t=,v1=",
        f"t={int(NOON)}",
        f"t={int(NOON)},v1=",
        f"t=-{int(NOON)},v1=00",
        f"t={NOON},v1=00",
        f"t=١٧٩,v1={'0' * 64}",
        "t=99999999999999999999,v1=00",
        f"t={int(NOON)},t={int(NOON)},v1={'0' * 64}",
        f"t={int(NOON)},v1=é",
        "\x00",
        "," * 5000,
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(header, SECRET, "app", "ann", NOON)


def test_a_second_time_stamp_cannot_freshen_an_old_signature() -> None:
    old = sign(SECRET, "app", "ann", NOON - 9999)
    for forged in (f"t={int(NOON)},{old}", f"{old},t={int(NOON)}"):
        with pytest.raises(Unauthenticated):
            verify(forged, SECRET, "app", "ann", NOON)


def test_an_app_with_a_dot_is_refused_since_it_could_be_read_two_ways() -> None:
    header = sign(SECRET, "a", "b.c", NOON)
    verify(header, SECRET, "a", "b.c", NOON)
    with pytest.raises(Unauthenticated, match="ambiguous"):
        verify(header, SECRET, "a.b", "c", NOON)


@given(st.text(max_size=200))
def test_no_header_raises_anything_else(header: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(header, SECRET, "app", "ann", NOON)


# --- links ---------------------------------------------------------------------------------


def link_of(person: Person) -> Link:
    return Link(person, "a1", NOON, NOON + 60)


def test_a_link_stands_for_its_person_until_it_ends() -> None:
    link = Link(Person("app", "日本 ann/?&"), "a1", NOON - 0.25, NOON + 60)
    token = make_link(SECRET, link)
    assert token.isascii()
    assert not set(token) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert check_link(SECRET, token, now=NOON) == link
    for late in (60, 61, 9999):
        with pytest.raises(Unauthenticated):
            check_link(SECRET, token, now=NOON + late)


def test_a_changed_cut_or_foreign_link_is_refused() -> None:
    token = make_link(SECRET, link_of(ANN))
    body, mac = token.split(".")
    other = make_link(SECRET, link_of(Person("default", "bob")))
    forged = [
        "",
        ".",
        body,
        mac,
        f"{body}.",
        f".{mac}",
        f"{other.split('.')[0]}.{mac}",
        token + "A",
        token + "=",
        token[:-1],
        make_link("another", link_of(ANN)),
        "é." + mac,
        "A" * 10_000,
    ]
    for text in forged:
        with pytest.raises(Unauthenticated):
            check_link(SECRET, text, now=NOON)


@given(st.text(max_size=200))
def test_no_text_passes_for_a_link(text: str) -> None:
    with pytest.raises(Unauthenticated):
        check_link(SECRET, text, now=NOON)
