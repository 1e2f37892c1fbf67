"""What an answer says: chunks and bodies of both APIs, read into one `Answer`.

Readers take decoded JSON values and trust nothing of their shape: what is not what it should
be is passed over. Where several choices were asked for, the first is what is remembered.
Texts are kept up to a bound and cleaned of lone surrogates at the end (a pair may come in two
chunks).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.exchange import Outcome
from gateway.core.responses import CALLS, OUTPUTS
from gateway.core.scan import whole

MAX_TEXT_CHARS = 4 * 2**20
"""Characters of an answer's text (and of each tool call's arguments) that are kept."""

MAX_TOOL_CALLS = 256
MAX_COUNT = 10**9
"""Tokens of one answer; more are no count. Of 1e308 a key with a limit was in debt for so long that
telling it failed each request with 500."""
MAX_FIELD_CHARS = 1000
"""Characters of a name or an id; more is no name."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model wants made. `arguments` is the text it wrote, whether JSON or not."""

    id: str | None
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The first choice of an answer, and how it ended.

    `usage` has whole numbers and dicts. `error`: an error status, or an error object within
    the answer. `choices` counts the
    different ones seen. `response_id` is the upstream's id of it; `truncated` says that more
    was said than is kept.
    """

    text: str = ""
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    outcome: Outcome = "complete"
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: bool = False
    status: int = 200
    choices: int = 0
    response_id: str | None = None
    truncated: bool = False

    @property
    def final(self) -> bool:
        """Nothing more comes of this user turn: it does not end in tool calls."""
        return not self.tool_calls and self.finish_reason not in ("tool_calls", "function_call")


class AnswerReader(Protocol):
    """Takes the events of a stream, or one whole body."""

    error: bool
    finished: bool

    def event(self, name: str, value: Any) -> None: ...

    def done(self) -> None: ...

    def body(self, value: Any) -> None: ...

    def answer(self, outcome: Outcome, status: int) -> Answer: ...


class _Text:
    """Pieces of text up to a bound."""

    __slots__ = ("_pieces", "_room", "truncated")

    def __init__(self, *pieces: str) -> None:
        self._pieces: list[str] = []
        self._room = MAX_TEXT_CHARS
        self.truncated = False
        for piece in pieces:
            self.add(piece)

    def add(self, piece: Any) -> None:
        if not isinstance(piece, str) or not piece:
            return
        if len(piece) > self._room:
            self.truncated = True
            piece = piece[: self._room]
        self._room -= len(piece)
        if piece:
            self._pieces.append(piece)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __str__(self) -> str:
        return whole("".join(self._pieces))


@dataclass(slots=True)
class _Call:
    id: str | None = None
    name: str = ""
    arguments: _Text = field(default_factory=_Text)

    def done(self) -> ToolCall:
        return ToolCall(self.id, self.name, str(self.arguments))


# --- chat completions --------------------------------------------------------------------


class ChatAnswer:
    """Reads `chat.completion.chunk` events, or one `chat.completion`."""

    def __init__(self) -> None:
        self.error = False
        self.finished = False
        self._text = _Text()
        self._refusal = _Text()
        self._calls: list[_Call] = []
        self._at_index: dict[int, _Call] = {}
        self._finish_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._model: str | None = None
        self._id: str | None = None
        self._choices: set[int] = set()

    def event(self, name: str, value: Any) -> None:
        if name == "error":
            self.error = True
        if isinstance(value, dict):
            self._take(value, "delta")

    def done(self) -> None:
        self.finished = True

    def body(self, value: Any) -> None:
        if isinstance(value, dict):
            self._take(value, "message")

    def _take(self, value: Mapping[str, Any], said_in: str) -> None:
        if value.get("error"):
            self.error = True
        self._model = _name(value.get("model")) or self._model
        self._id = _name(value.get("id")) or self._id
        self._usage = _counts(value.get("usage")) or self._usage
        for position, choice in enumerate(_objects(value.get("choices"))):
            index = choice.get("index")
            # Some servers leave the index out; a chunk then speaks of its choices in order.
            number = index if isinstance(index, int) else position
            if len(self._choices) < MAX_TOOL_CALLS:
                self._choices.add(number)
            if number == 0:
                self._choice(choice, choice.get(said_in) or choice.get("message"))

    def _choice(self, choice: Mapping[str, Any], said: Any) -> None:
        if isinstance(said, dict):
            content = said.get("content")
            if isinstance(content, str):
                self._text.add(content)
            elif content:
                for text in _part_texts(content):
                    self._text.add(text)
            if not content and isinstance(said.get("audio"), dict):  # spoken: its words beside it
                self._text.add(said["audio"].get("transcript"))
            self._refusal.add(said.get("refusal"))
            if said.get("tool_calls"):
                self._tool_calls(list(_objects(said["tool_calls"])))
            if isinstance(said.get("function_call"), dict):
                self._tool_calls([{"index": 0, "function": said["function_call"]}])
        elif isinstance(choice.get("text"), str):
            self._text.add(choice["text"])
        reason = _name(choice.get("finish_reason"))
        if reason:
            self._finish_reason = reason
            self.finished = True
            self.error |= reason == "error"

    def _tool_calls(self, deltas: list[dict[str, Any]]) -> None:
        for position, delta in enumerate(deltas):
            function = delta.get("function")
            if not isinstance(function, dict):
                function = {}
            call = self._call(delta, function, position, alone=len(deltas) == 1)
            if call is None:
                continue
            call.id = call.id or _name(delta.get("id"))
            if not call.name:
                call.name = _name(function.get("name")) or ""
            call.arguments.add(function.get("arguments"))

    def _call(
        self, delta: Mapping[str, Any], function: Mapping[str, Any], position: int, *, alone: bool
    ) -> _Call | None:
        """The call that a delta goes on with, or a new one; None above the bound.

        By index; where several calls share one (seen of servers that number none), a new id
        is a new call. Without index: by id, else by the position within the delta, where a
        lone piece goes on with the last call unless it names a function again.
        """
        id, index = _name(delta.get("id")), delta.get("index")
        if isinstance(index, int):
            known = self._at_index.get(index)
            if known is not None and (id is None or known.id in (None, id)):
                return known
        else:
            index = None
        if id is not None:
            for call in self._calls:
                if call.id == id:
                    return call
        elif index is None and self._calls:
            known = self._calls[-1] if alone else None
            if not alone and position < len(self._calls):
                known = self._calls[position]
            if known is not None and not (known.name and _name(function.get("name"))):
                return known
        return self._new_call(index)

    def _new_call(self, index: int | None) -> _Call | None:
        if len(self._calls) >= MAX_TOOL_CALLS:
            return None
        call = _Call()
        self._calls.append(call)
        if index is not None:
            self._at_index[index] = call
        return call

    def answer(self, outcome: Outcome, status: int) -> Answer:
        return Answer(
            text=str(self._text),
            refusal=str(self._refusal) or None,
            tool_calls=tuple(call.done() for call in self._calls),
            finish_reason=self._finish_reason,
            outcome=outcome,
            usage=self._usage,
            model=self._model,
            error=self.error or status >= 400,
            status=status,
            choices=len(self._choices),
            response_id=self._id,
            truncated=self._text.truncated,
        )


# --- responses ---------------------------------------------------------------------------

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesAnswer:
    """Reads the typed events of the responses API, or one response.

    The response that comes with the last event has the whole output and wins over the pieces;
    servers that leave its output empty are read by their pieces.
    """

    def __init__(self) -> None:
        self.error = False
        self.finished = False
        self._text = _Text()
        self._refusal = _Text()
        self._calls: dict[str, _Call] = {}
        self._response: Mapping[str, Any] = {}

    def event(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            self.error |= name == "error"
            return
        kind = value.get("type") if isinstance(value.get("type"), str) else name
        if kind == "error" or (kind == "message" and value.get("error")):
            self.error = True
        elif kind == "response.output_text.delta":
            self._text.add(value.get("delta"))
        elif kind == "response.refusal.delta":
            self._refusal.add(value.get("delta"))
        elif kind == "response.function_call_arguments.delta":
            call = self._call(value.get("item_id"))
            if call is not None:
                call.arguments.add(value.get("delta"))
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(value.get("item"), done=kind.endswith("done"))
        elif isinstance(value.get("response"), dict):
            self._response = value["response"]
            if kind in _ENDS:
                self.finished = True
                self.error |= kind == "response.failed"

    def done(self) -> None:
        """`[DONE]` is not of this API; servers that send it have ended."""
        self.finished = True

    def body(self, value: Any) -> None:
        if isinstance(value, dict):
            self._response = value
            self.error |= bool(value.get("error")) or value.get("status") == "failed"

    def _item(self, item: Any, *, done: bool) -> None:
        if not isinstance(item, dict) or _kind(item) not in CALLS:
            return
        call = self._call(item.get("id") or item.get("call_id"))
        if call is None:
            return
        call.id = _name(item.get("call_id")) or call.id
        call.name = _name(item.get("name")) or call.name
        arguments = item.get("arguments") or item.get("input")
        if isinstance(arguments, str) and (done or not call.arguments):
            call.arguments = _Text(arguments)

    def _call(self, item_id: Any) -> _Call | None:
        key = _name(item_id) or ""
        if key not in self._calls:
            if len(self._calls) >= MAX_TOOL_CALLS:
                return None
            self._calls[key] = _Call()
        return self._calls[key]

    def answer(self, outcome: Outcome, status: int) -> Answer:
        response = self._response
        texts, refusals = _Text(), _Text()
        calls: list[ToolCall] = []
        for item in _objects(response.get("output")):
            kind, id = _kind(item), _name(item.get("call_id"))
            if kind == "message":
                for part in _objects(item.get("content")):
                    texts.add(part.get("text"))
                    refusals.add(part.get("refusal"))
            elif kind in CALLS and len(calls) < MAX_TOOL_CALLS:
                arguments = item.get("arguments") or item.get("input")
                calls.append(ToolCall(id, _name(item.get("name")) or "", _text(arguments)))
            elif kind in OUTPUTS:  # of a shell of the upstream's own: nobody is asked for it
                calls = [call for call in calls if call.id != id]
        if not (texts or refusals or calls):
            texts, refusals = self._text, self._refusal
            calls = [call.done() for call in self._calls.values()]
        return Answer(
            text=str(texts),
            refusal=str(refusals) or None,
            tool_calls=tuple(calls),
            finish_reason=_reason(response, calls),
            outcome=outcome,
            usage=_counts(response.get("usage")),
            model=_name(response.get("model")),
            error=self.error or status >= 400,
            status=status,
            choices=int(bool(response) or bool(texts)),
            response_id=_name(response.get("id")),
            truncated=texts.truncated,
        )


def _reason(response: Mapping[str, Any], calls: list[ToolCall]) -> str | None:
    """The end of a response in the words of chat completions."""
    status = response.get("status")
    if status == "completed":
        return "tool_calls" if calls else "stop"
    if status == "incomplete":
        details = response.get("incomplete_details")
        why = details.get("reason") if isinstance(details, dict) else None
        return "length" if why in (None, "max_output_tokens") else _name(why)
    return None


# --- odd shapes ----------------------------------------------------------------------------


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("type"))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield item


def _part_texts(content: Any) -> Iterator[str]:
    """Content given as parts, as some servers stream it: thoughts are left out."""
    for part in _objects(content):
        if part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str):
            yield part["text"]


def _name(value: Any) -> str | None:
    return whole(value) if isinstance(value, str) and 0 < len(value) <= MAX_FIELD_CHARS else None


def _text(value: Any) -> str:
    return str(_Text(value))


def _counts(usage: Any) -> dict[str, Any] | None:
    """Token counts as whole numbers; the details of some as the upstream gave them."""
    if not isinstance(usage, dict):
        return None
    whole_numbers = {
        name: int(count)
        for name, count in usage.items()
        if isinstance(count, int | float) and abs(count) <= MAX_COUNT
    }
    details = {name: more for name, more in usage.items() if isinstance(more, dict)}
    return whole_numbers | details
