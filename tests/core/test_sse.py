"""Server-sent events: whole, byte by byte, and over all split points."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.sse import SseDecoder, SseEvent
from tests.core.json_texts import repeatable


def decode(*chunks: bytes, limit: int = 1000) -> list[SseEvent]:
    decoder = SseDecoder(limit)
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.end()


STREAM = (
    b"\xef\xbb\xbf: keep-alive\n\n"
    b'event: delta\r\nid: 7\r\ndata: {"a":\r\ndata: "\xe6\x9d\xb1\xe4\xba\xac"}\r\n\r\n'
    b"data:no space\rdata: \xe2\x80\xa8 stays\r\r"
    b"data\n\n"
    b"retry: 1500\nevent: nothing\n\n"
    b"id\ndata: bad \xff\xfe utf-8\n\n"
    b"unknown: field\ndata: [DONE]\n\n"
)
EVENTS = [
    SseEvent("delta", '{"a":\n"東京"}', "7"),
    SseEvent("message", "no space\n\u2028 stays", "7"),
    SseEvent("message", "", "7"),
    SseEvent("message", "bad \ufffd\ufffd utf-8", ""),
    SseEvent("message", "[DONE]", ""),
]


def test_a_stream_is_read_as_the_standard_says() -> None:
    assert decode(STREAM) == EVENTS


def test_byte_by_byte_gives_the_same_events() -> None:
    assert decode(*(bytes([b]) for b in STREAM)) == EVENTS


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_split_anywhere_it_gives_the_same_events(at: int) -> None:
    assert decode(STREAM[:at], STREAM[at:]) == EVENTS


pieces = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(
            [b"data: ", b"data:", b"event: x", b"id: ", b": ", b"\r", b"\n", b"\r\n", b"\xef\xbb"]
        ),
        st.sampled_from([b"\xe6\x9d\xb1", b"\xe2\x80\xa8", b"data: " + b"x" * 30, b"\x00"]),
    ),
    max_size=20,
)


@repeatable
@given(pieces, st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_split_in_any_way_give_the_same_events(
    parts: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(parts)
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(bounds)]

    assert decode(*chunks, limit=24) == decode(stream, limit=24)


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert decode(b"data: a\n\ndata: b") == [SseEvent("message", "a"), SseEvent("message", "b")]


def test_the_reconnection_time_is_noted() -> None:
    decoder = SseDecoder()
    decoder.feed(b"retry: 1500\nretry: soon\n\n")

    assert decoder.retry_ms == 1500


def test_an_id_with_a_nul_is_ignored() -> None:
    assert decode(b"id: 1\nid: 2\x00\ndata: x\n\n") == [SseEvent("message", "x", "1")]


def test_an_event_above_the_limit_is_marked_and_the_next_one_is_read() -> None:
    long = SseEvent("big", "", "", oversized=True)
    after = SseEvent("message", "next")

    assert decode(b"event: big\ndata: " + b"x" * 2000 + b"\n\ndata: next\n\n") == [long, after]
    many = b"event: big\n" + b"data: 0123456789\n" * 200 + b"\ndata: next\n\n"
    assert decode(many) == [long, after]
    assert decode(many[:1000], many[1000:]) == [long, after]


def test_a_line_of_fifty_megabytes_is_not_held() -> None:
    decoder = SseDecoder()
    chunk = b"x" * 65_536
    tracemalloc.start()
    try:
        decoder.feed(b"data: ")
        for _ in range(800):
            decoder.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 12 * 2**20
    assert decoder.feed(b"\n\n") == [SseEvent("message", "", "", oversized=True)]


@pytest.mark.parametrize("size", [1, 7])
def test_time_grows_with_the_bytes_and_no_faster_however_they_are_split(size: int) -> None:
    def seconds(length: int) -> float:
        stream = b"data: " + b"x" * length + b"\n\n"
        chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
        decoder = SseDecoder()
        start = time.thread_time()  # what others do on the machine does not count
        for chunk in chunks:
            decoder.feed(chunk)
        return time.thread_time() - start

    # Eight times the bytes; joining at each chunk would take 64 times as long.
    assert min(seconds(400_000) for _ in range(3)) < 30 * min(seconds(50_000) for _ in range(3))
