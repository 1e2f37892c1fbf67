"""What an upstream answered, read from a copy of the bytes that were relayed.

A transcript stands beside the relay and must never hurt it: `feed` keeps the chunk and
returns (reading starts only when 64 KiB have come together, or at `finish`), nothing raises
whatever the bytes, and memory is bounded. What cannot be read gives an answer without text
and the outcome that the relay saw.

Here bytes become JSON values: content encodings, event streams, whole bodies. What the values
mean is in `core/answer`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.core.answer import Answer, AnswerReader, ChatAnswer, ResponsesAnswer
from gateway.core.chat import Api
from gateway.core.exchange import Outcome
from gateway.core.sse import SseDecoder

__all__ = ["Answer", "Transcript"]

BATCH_BYTES = 64 * 1024
"""Bytes of a stream that are kept before they are read: well under a millisecond of work."""

MAX_BODY_BYTES = 16 * 2**20
"""Bytes of an answer in one piece that are kept; a longer one is not read."""

MAX_DECODED_BYTES = 64 * 2**20
"""Bytes that a compressed answer may unpack to; reading ends there."""

PIECE_BYTES = 256 * 1024
"""Bytes that are unpacked at a time."""


class Transcript:
    """One response. `content_encoding` is the header's value; gzip and deflate are read."""

    def __init__(
        self,
        api: Api,
        *,
        stream: bool,
        status: int,
        content_type: str,
        content_encoding: str = "",
    ) -> None:
        self._status = status
        self._reader: AnswerReader = ChatAnswer() if api == "chat" else ResponsesAnswer()
        self._stream = _is_stream(content_type, asked=stream)
        self._unpacker = _unpacker(content_encoding)
        self._chunks: list[bytes] = []
        self._kept = 0
        self._sse = SseDecoder()
        self._body = bytearray()
        self._given_up = self._unpacker is None
        self._whole = False  # the body could be read as one JSON value

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the response, as they were relayed. Never raises."""
        if self._given_up:
            return
        self._chunks.append(data)
        self._kept += len(data)
        if self._kept >= BATCH_BYTES:
            self._read()

    def finish(self, outcome_hint: Outcome) -> Answer:
        """What was answered, once no more bytes come. Never raises.

        `outcome_hint` is how the relay ended: `complete` (the upstream closed in order),
        `error` (it broke) or `cut_off` (the client left). A stream that closed in order
        without having said that it is done was cut off; one that had said so is complete,
        however it was closed.
        """
        self._read(last=True)
        reader = self._reader
        if self._status >= 400 or reader.error:
            outcome: Outcome = "error"
        elif reader.finished or (not self._stream and self._whole):
            outcome = "complete"
        elif outcome_hint == "complete" and not self._given_up:
            outcome = "cut_off"
        else:
            outcome = outcome_hint
        return reader.answer(outcome, self._status)

    def _read(self, *, last: bool = False) -> None:
        data, self._chunks, self._kept = b"".join(self._chunks), [], 0
        try:
            if self._unpacker is not None and not self._given_up:
                for piece in self._unpacker.feed(data):
                    self._take(piece)
                if self._unpacker.broken:
                    self._given_up = True
            if last:
                self._take_end()
        except Exception:  # noqa: BLE001 # a copy of an answer that is odd must not end the relay
            self._given_up = True

    def _take(self, data: bytes) -> None:
        if self._stream is None:
            start = data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1]
            if not start:
                return
            self._stream = start not in (b"{", b"[")
        if self._stream:
            for event in self._sse.feed(data):
                self._event(event.event, event.data)
        elif len(self._body) + len(data) > MAX_BODY_BYTES:
            self._body.clear()
            self._given_up = True
        else:
            self._body += data

    def _take_end(self) -> None:
        if self._stream:
            for event in self._sse.end():
                self._event(event.event, event.data)
        elif self._body:
            value = _json(bytes(self._body))
            self._whole = isinstance(value, dict)
            self._reader.body(value)
            self._body.clear()

    def _event(self, name: str, data: str) -> None:
        if data == "[DONE]":
            self._reader.done()
        elif data:
            self._reader.event(name, _json(data))


def _is_stream(content_type: str, *, asked: bool) -> bool | None:
    """None: the first bytes will tell. Servers have sent streams as text/plain and as JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return True
    return None if asked else False


def _json(data: str | bytes) -> Any:
    """A JSON value, or None. orjson reads nearly all; `json` the rest (NaN, lone surrogates)."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data, strict=False, parse_int=float)
    except (ValueError, RecursionError):
        return None


# --- content encodings -------------------------------------------------------------------


class _Identity:
    broken = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if data:
            yield data


class _Inflate:
    """gzip (several members too), zlib and raw deflate, in bounded pieces."""

    def __init__(self) -> None:
        self.broken = False
        self._zlib = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, told by its head
        self._begun = False
        self._decoded = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self.broken:
            if self._zlib.eof:
                self._zlib, self._begun = zlib.decompressobj(wbits=47), False
            piece, data = self._some(data)
            self._decoded += len(piece)
            self.broken |= self._decoded > MAX_DECODED_BYTES
            if piece:
                yield piece

    def _some(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            piece = self._zlib.decompress(data, PIECE_BYTES)
        except zlib.error:
            if self._begun:
                self.broken = True
                return b"", b""
            # "deflate" without its zlib wrapping, as some servers send it.
            self._zlib, self._begun = zlib.decompressobj(wbits=-15), True
            return b"", data
        self._begun = True
        return piece, self._zlib.unconsumed_tail or self._zlib.unused_data


def _unpacker(content_encoding: str) -> _Identity | _Inflate | None:
    """None: an encoding that cannot be read here (br, zstd, several at once)."""
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return _Identity()
    return _Inflate() if name in ("gzip", "x-gzip", "deflate") else None
