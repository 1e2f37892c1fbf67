"""The scanner against `json`: the same values, and the bytes they stand in."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import BadRequest
from gateway.core.scan import (
    NotForUs,
    array_reader,
    object_reader,
    read_body,
    read_value,
    text_of,
    whole,
)
from tests.core.json_texts import Object, documents, objects, repeatable, texts, write


def value_of(text: str | bytes) -> Any:
    return json.loads(text, parse_int=float)


def same(a: Any, b: Any) -> bool:
    """Equal, NaN counting as equal to itself."""
    return json.dumps(a) == json.dumps(b)


names = st.text(st.characters(max_codepoint=127), max_size=4)
"""Names of members that are looked for are ASCII; others are never compared."""


@repeatable
@given(objects(documents, names), st.randoms(use_true_random=False))
def test_spans_of_any_object_decode_to_the_values_that_json_finds(
    document: Object, taste: Random
) -> None:
    body = write(document, taste).encode()

    members = read_body(body, {})

    found = {name: value_of(body[span.start : span.end]) for name, span in members.items()}
    assert same(found, value_of(body))


@repeatable
@given(st.lists(documents, max_size=5), st.randoms(use_true_random=False))
def test_spans_of_array_items_decode_to_the_items(document: list[Any], taste: Random) -> None:
    body = write(Object((("items", document),)), taste).encode()

    items = read_body(body, {"items": array_reader(object_reader({}))})["items"]

    found = [value_of(body[item.start : item.end]) for item in items.value]
    assert same(found, value_of(body)["items"])
    assert same(value_of(body[items.start : items.end]), value_of(body)["items"])


@repeatable
@given(texts, st.randoms(use_true_random=False))
def test_texts_are_read_as_json_reads_them(text: str, taste: Random) -> None:
    body = write(Object((("é", text), ("a", text))), taste).encode()

    assert text_of(body, read_body(body, {})["a"]) == text


@repeatable
@given(objects(documents), st.randoms(use_true_random=False), st.data())
def test_a_damaged_body_is_refused_or_passed_on_but_never_misread(
    document: Object, taste: Random, data: st.DataObject
) -> None:
    body = write(document, taste).encode()
    at = data.draw(st.integers(0, len(body)))
    damaged = data.draw(
        st.sampled_from([body[:at], body[:at] + b"\xff" + body[at:], body[:at] + b'"' + body[at:]])
    )
    try:
        value = value_of(damaged.decode())
    except (ValueError, RecursionError):
        with pytest.raises((BadRequest, NotForUs)):
            read_body(damaged, {})
    else:
        assert len(read_body(damaged, {})) == len(value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"nonsense",
        b"{",
        b'{"a"}',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b"{a:1}",
        b'{"a":1}}',
        b'{"a":1} {"b":2}',
        b'{"a":[1,]}',
        b'{"a":"x',
        b"{'a':1}",
        b'{"a":1{"b":2}}',
        b'{,"a":1}',
    ],
)
def test_what_is_no_json_is_a_bad_request_that_says_what_to_send(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"not valid JSON .* Send one whole JSON object"):
        read_body(body, {"a": array_reader(read_value)})


@pytest.mark.parametrize("body", [b"[]", b"3", b'"text"', b"null", b"true"])
def test_json_that_is_no_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not an object"):
        read_body(body, {})


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"line\nbreak"}',
        b'{"a\tb":1}',
    ],
    ids=["bom", "utf-16", "invalid utf-8", "encoded surrogate", "raw control", "control in key"],
)
def test_json_that_only_our_reader_dislikes_is_not_for_us(body: bytes) -> None:
    with pytest.raises(NotForUs):
        read_body(body, {})


@pytest.mark.parametrize("depth", [5_000, 200_000])
def test_deep_nesting_is_read_or_not_for_us_and_no_recursion_error(depth: int) -> None:
    # Python 3.11 reads a thousand levels, 3.13 some ten thousand.
    not_for_us = pytest.raises(NotForUs) if depth == 200_000 else suppress(NotForUs)
    with not_for_us:
        read_body(b'{"a":' + b"[" * depth + b"]" * depth + b"}", {})


def test_an_array_of_very_many_items_is_not_held_one_by_one() -> None:
    body = b'{"a":[' + b",".join([b"1"] * 100_002) + b"]}"

    with pytest.raises(NotForUs):
        read_body(body, {"a": array_reader(read_value)})


def test_the_last_of_two_equal_keys_wins_however_they_are_spelled() -> None:
    body = rb'{"a":1,"\u0061":"two"}'

    assert text_of(body, read_body(body, {})["a"]) == "two"


def test_surrogates_become_characters_where_they_pair_and_are_replaced_where_they_do_not() -> None:
    assert whole("\ud83d\ude00") == "😀"
    assert whole("cut \ud83d") == "cut \ufffd"
    assert whole("cut \ud83d") == whole("cut \ude00")


def test_reading_time_grows_with_the_length_of_a_body_and_no_faster() -> None:
    def seconds(size: int) -> float:
        body = b'{"a":"' + b'\\"' * (size // 2) + b'","b":"\xe6\x9d\xb1"}'
        best = 9e9
        for _ in range(3):
            start = time.perf_counter()
            read_body(body, {})
            best = min(best, time.perf_counter() - start)
        return best

    # Eight times the bytes; a quadratic reader would take 64 times as long.
    assert seconds(8_000_000) < 30 * max(seconds(1_000_000), 0.001)
