"""What never gets in, and what looks like it and does."""

from __future__ import annotations

import time

import pytest

from gateway.core.exchange import Exchange, Turn
from gateway.core.redaction import MARK, redact, redact_exchange, redact_named

DEFAULT = ("card", "iban", "key", "password")
ALL = (*DEFAULT, "government_id", "email", "phone")


@pytest.mark.parametrize(
    ("text", "kind", "left"),
    [
        ("my card is 4111 1111 1111 1111, ok?", "card", "my card is {}, ok?"),
        ("amex 378282246310005", "card", "amex {}"),
        ("4111-1111-1111-1111", "card", "{}"),
        ("4111 1111 1111 1111 12/27 123", "card", "{} 12/27 123"),
        ("qty 3 4111 1111 1111 1111", "card", "qty 3 {}"),
        ("IBAN DE89 3704 0044 0532 0130 00 and thanks", "iban", "IBAN {} and thanks"),
        ("gb82west12345698765432", "iban", "{}"),
        ("TR33 0006 1005 1978 6457 8413 26 İş Bankası", "iban", "{} İş Bankası"),
        ("use sk-proj-abcdefghijklmnop1234 please", "key", "use {} please"),
        ("ghp_abcdefghijklmnopqrstuvwxyz012345", "key", "{}"),
        ("AKIAIOSFODNN7EXAMPLE", "key", "{}"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def_1", "key", "{}"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY----- after",
            "key",
            "{} after",
        ),
        ("-----BEGIN PRIVATE KEY-----\nabc", "key", "{}"),
        ("postgres://bob:pa55@db/x", "key", "postgres://bob:{}@db/x"),
        ("Authorization: Bearer abcdef0123456789abcdef", "key", "Authorization: Bearer {}"),
        ("my api key is abcd1234efgh5678", "key", "my api key is {}"),
        ("my password is hunter2.", "password", "my password is {}."),
        ("My password is swordfish", "password", "My password is {}"),
        ('my password is "correct horse"', "password", "my password is {}"),
        ("password: abc and more", "password", "password: {} and more"),
        ("das Passwort ist geheim!", "password", "das Passwort ist {}!"),
        ("my pin is 1234", "password", "my pin is {}"),
        ("my card: 4111\u00a01111\u00a01111\u00a01111.", "card", "my card: {}."),
        ("4111\u202f1111\u202f1111\u202f1111", "card", "{}"),
        ("4111\u20131111\u20131111\u20131111", "card", "{}"),
        ("4111.1111.1111.1111.", "card", "{}."),
        ("カードは４１１１１１１１１１１１１１１１です", "card", "カードは{}です"),
        ("کارت ۴۱۱۱ ۱۱۱۱ ۱۱۱۱ ۱۱۱۱", "card", "کارت {}"),
        ("DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000", "iban", "{}"),
        ("ＤＥ８９３７０４００４４０５３２０１３０００", "iban", "{}"),
        ("MISTRAL_API_KEY=abcd1234efgh5678", "key", "MISTRAL_API_KEY={}"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "key", "aws_secret_access_key = {}"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "key", "Authorization: Basic {}"),
        ("123456789:AAEabcdefghijklmnopqrstuvwxyz_12345", "key", "{}"),
        ('{"password": "S3cr3t!"}', "password", '{"password": {}}'),
        ("DB_PASSWORD=S3cr3tPass\nPORT=1", "password", "DB_PASSWORD={}\nPORT=1"),
        ("SMTP_PASS: hunter2", "password", "SMTP_PASS: {}"),
        ("Mein Passwort lautet Geheim123.", "password", "Mein Passwort lautet {}."),
        ("la mia password è Gatto123", "password", "la mia password è {}"),
        ("我的密码是abc12345,谢谢", "password", "我的密码是{},谢谢"),
        ("パスワードはhunter2です", "password", "パスワードは{}です"),
        ("мой пароль: qwerty12", "password", "мой пароль: {}"),
        ("SSN 536-90-4399", "government_id", "SSN {}"),
        ("nino AB 12 34 56 C", "government_id", "nino {}"),
        ("RSSMRA85T10A562S", "government_id", "{}"),
        ("dni 54362315K", "government_id", "dni {}"),
        ("mail bob@example.com", "email", "mail {}"),
        ("call +49 170 1234567", "phone", "call {}"),
    ],
)
def test_a_secret_is_replaced_by_a_mark_that_names_it(text: str, kind: str, left: str) -> None:
    before, _, after = left.partition("{}")
    redacted = redact(text, (kind,))
    assert redacted.startswith(before + MARK)
    assert redacted.endswith("]" + after)
    assert redact(redacted, ALL) == redacted
    assert redact(text, ()) == text


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890123456",
        "order no 4111111111111112",
        "1716450000000 ms",
        "0000 0000 0000 0000",
        "DE00 3704 0044 0532 0130 00",
        "api_key = settings.api_key_name_long",
        "my password is wrong",
        "my password is the name of my dog",
        "what is my password?",
        "passwords are hard",
        "my pin is on the table",
        "on 2026-05-22 10:00 at 3.5 percent",
        "the skeleton of a risk-averse person",
        "3.1415.9265.3589.7932",
        "from 2010\u20132014",
        "led_pin = 13",
        'the "password" is required',
        "密码是什么?",
        "パスワードはGoogleに保存する",
    ],
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert redact(text, ALL) == text


def test_a_value_is_read_with_the_name_that_it_stands_beside() -> None:
    assert redact_named("wifi_password", "hunter2", DEFAULT) == "[removed: password]"
    assert redact_named("door_pin", "4821", DEFAULT) == "[removed: password]"
    assert redact_named("card", "4111111111111111", DEFAULT) == "[removed: card number]"
    assert redact_named("password_manager", "KeePass 2", DEFAULT) == "KeePass 2"
    assert redact_named(None, "hunter2", DEFAULT) == "hunter2"


def test_an_exchange_is_redacted_turn_by_turn() -> None:
    turns = (Turn(0, "user", "my pin is 1234", 1.0), Turn(1, "assistant", "Noted.", 2.0))
    exchange = Exchange("x", "s", 1.0, turns)
    clean = redact_exchange(exchange, DEFAULT)
    assert [turn.text for turn in clean.turns] == ["my pin is [removed: password]", "Noted."]
    assert clean.id == exchange.id
    assert redact_exchange(clean, DEFAULT) is clean


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 50_000,
        "A1" * 50_000,
        "eyJ" * 30_000,
        "password " * 10_000,
        "DE12" * 20_000,
        "a@" * 40_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.perf_counter()
    redact(text, ALL)
    assert time.perf_counter() - begun < 3.0
