"""Server-sent events from bytes, as the WHATWG standard reads them: `feed(bytes) → events`.

Sans-IO: it knows no network and keeps no time. Lines end at CR, LF or CRLF and nowhere else
(U+2028 and U+0085 are text); a chunk may end anywhere, inside a character or between CR and
LF. UTF-8 needs no decoder of its own: CR and LF never stand inside a character, so that
whole lines are decoded, invalid bytes replaced.

Work is linear in the bytes fed, however they are split: an unfinished line grows in place and
is looked at once. Memory is bounded: an event with more data, or a longer line, than the limit is
skipped to its end and given as `oversized`, without its data.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_EVENT_BYTES = 4 * 2**20
"""Bytes of one line, and of one event's data, that are held at most."""

_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    """One event. `id` is the last one seen in the stream, as the standard has it."""

    event: str
    data: str
    id: str = ""
    oversized: bool = False


class SseDecoder:
    """One stream. `retry_ms` is the reconnection time that it last asked for."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.retry_ms: int | None = None
        self._limit = max_event_bytes
        self._partial = bytearray()  # the line that is not finished yet
        self._partial_bytes = 0  # its length, the part that is not held included
        self._after_cr = False  # a LF that comes next belongs to a line already ended
        self._at_start = True
        self._event = ""
        self._data: list[str] = []
        self._id = ""
        self._held = 0  # bytes of the event's data lines so far
        self._oversized = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes; the events that they complete."""
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines()
        # bytes.splitlines splits at CR, LF and CRLF alone, unlike str.splitlines.
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        self._after_cr = data.endswith(b"\r")
        events: list[SseEvent] = []
        if lines and self._partial_bytes:
            lines[0] = self._finished(lines[0])
        for line in lines:
            event = self._line(line)
            if event is not None:
                events.append(event)
        if rest:
            self._keep(rest)
        return events

    def end(self) -> list[SseEvent]:
        """The stream is over: the event that was begun and never closed by an empty line.

        A browser would drop it; some servers leave the last empty line out.
        """
        events = []
        if self._partial_bytes:
            self._line(self._finished(b""))
        last = self._dispatch()
        if last is not None:
            events.append(last)
        return events

    # --- lines ---------------------------------------------------------------------------

    def _keep(self, piece: bytes) -> None:
        self._partial_bytes += len(piece)
        if self._partial_bytes <= self._limit:
            self._partial += piece
        else:
            self._partial = bytearray()

    def _finished(self, last_piece: bytes) -> bytes:
        self._keep(last_piece)
        line = bytes(self._partial)
        if self._partial_bytes > self._limit:
            self._oversized = True
            line = b":"  # skipped, as a comment is
        self._partial = bytearray()
        self._partial_bytes = 0
        return line

    def _line(self, line: bytes) -> SseEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        if len(line) > self._limit:
            self._oversized = True
            return None
        if line.startswith(b"data: "):  # nearly every line of a chat
            self._add(line[6:])
            return None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self.retry_ms = int(value)
        return None

    def _add(self, value: bytes) -> None:
        self._held += len(value) + 1
        if self._held > self._limit:
            self._oversized = True
        if self._oversized:
            self._data = []
        else:
            self._data.append(value.decode("utf-8", "replace"))

    def _dispatch(self) -> SseEvent | None:
        event = None
        if self._oversized:
            event = SseEvent(self._event or "message", "", self._id, oversized=True)
        elif self._data:
            data = self._data[0] if len(self._data) == 1 else "\n".join(self._data)
            event = SseEvent(self._event or "message", data, self._id)
        self._event = ""
        self._data = []
        self._held = 0
        self._oversized = False
        return event
