"""Sealing: what is sealed opens for its owner and place alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.adapters.cipher import PLAIN, AesGcmCipher
from gateway.core.errors import Unreadable
from gateway.core.identity import Owner, Person, new_owner

CIPHER = AesGcmCipher()
ANNA = new_owner(Person("default", "anna"))
BOB = new_owner(Person("default", "bob"))
WORDS = b"drinks tea with lemon"


def test_what_is_sealed_opens_again() -> None:
    assert CIPHER.open(ANNA, CIPHER.seal(ANNA, WORDS, "here"), "here") == WORDS
    assert CIPHER.open(ANNA, CIPHER.seal(ANNA, b"", "here"), "here") == b""


def test_the_words_do_not_stand_in_what_is_sealed_and_no_two_seals_are_alike() -> None:
    one, other = CIPHER.seal(ANNA, WORDS, "here"), CIPHER.seal(ANNA, WORDS, "here")
    assert b"lemon" not in one
    assert one != other


def test_it_does_not_open_in_another_place() -> None:
    with pytest.raises(Unreadable):
        CIPHER.open(ANNA, CIPHER.seal(ANNA, WORDS, "here"), "there")


def test_it_does_not_open_for_another_owner_even_with_the_same_key() -> None:
    sealed = CIPHER.seal(ANNA, WORDS, "here")
    with pytest.raises(Unreadable):
        CIPHER.open(BOB, sealed, "here")
    with pytest.raises(Unreadable):
        CIPHER.open(replace(BOB, key=ANNA.key), sealed, "here")


def test_a_key_that_is_gone_is_told() -> None:
    sealed = CIPHER.seal(ANNA, WORDS, "here")
    with pytest.raises(Unreadable, match="no key"):
        CIPHER.open(replace(ANNA, key=b""), sealed, "here")


@pytest.mark.parametrize("at", [0, 1, 5, 13, 20, -1])
def test_a_single_flipped_bit_is_noticed(at: int) -> None:
    sealed = bytearray(CIPHER.seal(ANNA, WORDS, "here"))
    sealed[at] ^= 0x40
    with pytest.raises(Unreadable):
        CIPHER.open(ANNA, bytes(sealed), "here")


@pytest.mark.parametrize("damaged", [b"", b"\x01", b"\x01" + b"x" * 20, b"\x02rest", b"text"])
def test_what_was_never_sealed_is_refused_without_its_bytes_in_the_message(damaged: bytes) -> None:
    with pytest.raises(Unreadable) as refusal:
        CIPHER.open(ANNA, damaged, "here")
    assert "text that" not in refusal.value.message
    assert "xxx" not in refusal.value.message


def test_an_owner_without_a_key_is_not_sealed_and_either_kind_is_read_back() -> None:
    open_owner = Owner(ANNA.person, ANNA.tenant)
    plain = CIPHER.seal(open_owner, WORDS, "here")
    assert plain == PLAIN + WORDS
    assert CIPHER.open(open_owner, plain, "here") == WORDS
    assert CIPHER.open(ANNA, plain, "here") == WORDS
