"""Messages on a socket pair, however the socket hands them on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.frames import cut, framed


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 400)))
def test_messages_come_out_as_they_went_in_however_they_are_split(
    messages: list[bytes], pieces: list[int]
) -> None:
    sent = b"".join(framed(message) for message in messages)
    came, found = bytearray(), list[bytes]()
    for size in (*pieces, len(sent)):
        came += sent[:size]
        sent = sent[size:]
        found += cut(came)
    assert found == messages
    assert not came


def test_a_message_that_is_not_whole_waits_for_the_rest() -> None:
    came = bytearray(framed(b"whole") + framed(b"half")[:-1])
    assert list(cut(came)) == [b"whole"]
    assert list(cut(came)) == []
    came += b"f"
    assert list(cut(came)) == [b"half"]


def test_what_comes_while_a_message_is_read_is_cut_too() -> None:
    came = bytearray(framed(b"one"))
    messages = cut(came)
    assert next(messages) == b"one"
    came += framed(b"two")
    assert list(messages) == [b"two"]
