"""Transcripts: from raw bytes, in any encoding and split, to an answer. They never raise."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answer import Answer
from gateway.core.chat import Api
from gateway.core.exchange import Outcome
from gateway.core.transcript import MAX_BODY_BYTES, Transcript
from tests.core.json_texts import repeatable

SSE = "text/event-stream; charset=utf-8"


def read(
    *chunks: bytes,
    api: Api = "chat",
    stream: bool = True,
    status: int = 200,
    content_type: str = SSE,
    encoding: str = "",
    hint: Outcome = "complete",
) -> Answer:
    transcript = Transcript(
        api, stream=stream, status=status, content_type=content_type, content_encoding=encoding
    )
    for chunk in chunks:
        transcript.feed(chunk)
    return transcript.finish(hint)


def event(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def delta(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return event({"model": "m", "choices": [choice]})


DONE = b"data: [DONE]\n\n"
STREAM = b": hello\n\n" + delta("Grüße ") + delta("aus 東京") + delta("", "stop") + DONE
BODY = json.dumps(
    {"model": "m", "choices": [{"message": {"content": "Grüße aus 東京"}, "finish_reason": "stop"}]}
).encode()


def test_a_stream_is_read() -> None:
    answer = read(STREAM)

    assert (answer.text, answer.outcome, answer.finish_reason) == (
        "Grüße aus 東京",
        "complete",
        "stop",
    )
    assert answer.final


@pytest.mark.parametrize("at", range(0, len(STREAM), 3))
def test_a_stream_split_anywhere_is_the_same_answer(at: int) -> None:
    assert read(STREAM[:at], STREAM[at:]) == read(STREAM)


def test_a_whole_body_is_read() -> None:
    answer = read(BODY, stream=False, content_type="application/json")

    assert (answer.text, answer.outcome) == ("Grüße aus 東京", "complete")


def test_what_is_sent_counts_and_not_what_was_asked_for() -> None:
    assert read(BODY, stream=True, content_type="application/json").text == "Grüße aus 東京"
    assert read(STREAM, stream=False, content_type=SSE).text == "Grüße aus 東京"
    assert read(STREAM, stream=True, content_type="text/plain").text == "Grüße aus 東京"
    assert read(b" \n", BODY, stream=True, content_type="").text == "Grüße aus 東京"


def test_a_missing_done_is_fine_once_the_end_was_told() -> None:
    assert read(delta("Hi"), delta("", "stop")).outcome == "complete"
    assert read(delta("Hi"), DONE).outcome == "complete"


def test_a_stream_that_just_ends_was_cut_off() -> None:
    answer = read(delta("Hi"))

    assert (answer.text, answer.outcome) == ("Hi", "cut_off")


@pytest.mark.parametrize("hint", ["error", "cut_off"])
def test_how_the_relay_ended_is_the_outcome_unless_the_end_was_told(
    hint: Literal["error", "cut_off"],
) -> None:
    assert read(delta("Hi"), hint=hint).outcome == hint
    assert read(STREAM, hint=hint).outcome == "complete"


def test_an_error_object_within_a_stream_is_an_error() -> None:
    answer = read(delta("Hi"), event({"error": {"message": "overloaded"}}), DONE)

    assert (answer.text, answer.outcome, answer.error) == ("Hi", "error", True)
    assert read(delta("Hi"), event({"message": "x"}, name="error")).outcome == "error"


def test_an_error_status_is_an_error() -> None:
    body = b'{"error":{"message":"no"}}'
    answer = read(body, status=429, stream=True, content_type="application/json")

    assert (answer.outcome, answer.error, answer.status) == ("error", True, 429)


def test_a_body_that_ends_early_was_cut_off() -> None:
    answer = read(BODY[:-10], stream=False, content_type="application/json")

    assert (answer.text, answer.outcome) == ("", "cut_off")


def test_typed_events_of_the_responses_api_are_read() -> None:
    said = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    response = {"id": "resp_1", "status": "completed", "output": [said]}
    stream = (
        event({"type": "response.created", "response": {"id": "resp_1"}}, "response.created")
        + event({"type": "response.output_text.delta", "delta": "Hel"})
        + event({"type": "response.completed", "response": response}, "response.completed")
    )
    whole = json.dumps(response).encode()

    for answer in (
        read(stream, api="responses"),
        read(whole, api="responses", stream=False, content_type="application/json"),
    ):
        assert (answer.text, answer.outcome, answer.response_id) == (
            "Hello",
            "complete",
            "resp_1",
        )
    assert read(stream[:200], api="responses").outcome == "cut_off"


def test_odd_json_in_a_stream_is_read_and_broken_json_is_passed_over() -> None:
    odd = rb'data: {"x":NaN,"choices":[{"delta":{"content":"\ud83d"}}]}' + b"\n\n"
    rest = rb'data: {"choices":[{"delta":{"content":"\ude00"}}]}' + b"\n\n"

    assert read(odd, b"data: {nonsense\n\n", b"data: 7\n\n", rest, DONE).text == "😀"


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(STREAM)),
        ("x-gzip", gzip.compress(STREAM[:50]) + gzip.compress(STREAM[50:])),
        ("deflate", zlib.compress(STREAM)),
        ("deflate", zlib.compress(STREAM, wbits=-15)),
        ("Identity", STREAM),
    ],
    ids=["gzip", "gzip members", "zlib", "raw deflate", "identity"],
)
def test_compressed_answers_are_read(encoding: str, packed: bytes) -> None:
    chunks = [packed[i : i + 7] for i in range(0, len(packed), 7)]

    assert read(*chunks, encoding=encoding) == read(STREAM)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_an_encoding_that_cannot_be_read_gives_no_text_and_the_outcome_of_the_relay(
    encoding: str,
) -> None:
    for hint in ("complete", "cut_off"):
        answer = read(STREAM, encoding=encoding, hint=hint)  # type: ignore[arg-type]
        assert (answer.text, answer.outcome) == ("", hint)


def test_a_compressed_answer_that_is_cut_keeps_what_was_read() -> None:
    packed = gzip.compress(delta("Hi") + b": comment\n\n", compresslevel=0)

    assert read(packed[:-12], encoding="gzip").text == "Hi"
    assert read(packed, b"garbage", encoding="gzip").text == "Hi"
    assert read(b"no gzip at all", encoding="gzip").outcome == "complete"


def test_a_compression_bomb_is_left_unread_in_bounded_memory() -> None:
    zipped = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(zipped.compress(b"data: " + b"0" * 2**20) for _ in range(200))
    tracemalloc.start()
    try:
        read(bomb, encoding="gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 32 * 2**20


def test_a_body_above_the_limit_is_not_kept() -> None:
    transcript = Transcript("chat", stream=False, status=200, content_type="application/json")
    chunk = b'{"x":"' + b"y" * 2**20
    tracemalloc.start()
    try:
        for _ in range(40):
            transcript.feed(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3 * MAX_BODY_BYTES
    assert transcript.finish("complete") == Answer(outcome="complete")


def test_a_long_stream_is_kept_in_bounded_memory() -> None:
    transcript = Transcript("chat", stream=True, status=200, content_type=SSE)
    chunk = delta("x" * 1000)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            transcript.feed(chunk)
        answer = transcript.finish("complete")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert answer.truncated
    assert peak < 24 * 2**20


@repeatable
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([STREAM, BODY, DONE, b"data: {}\n\n"])),
    st.sampled_from(["chat", "responses"]),
    st.booleans(),
    st.sampled_from([SSE, "application/json", "", "text/html"]),
    st.sampled_from(["", "gzip", "deflate", "br"]),
    st.sampled_from(["complete", "error", "cut_off"]),
)
def test_no_bytes_ever_raise(
    chunks: list[bytes], api: Api, stream: bool, content_type: str, encoding: str, hint: Outcome
) -> None:
    answer = read(
        *chunks, api=api, stream=stream, content_type=content_type, encoding=encoding, hint=hint
    )

    answer.text.encode()
