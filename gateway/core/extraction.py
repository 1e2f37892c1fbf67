"""What an extractor is asked, and how its answer is read (docs/formats.md).

Strategy: the request is one JSON object and the answer another; both are made and read here,
so that every extractor (an LLM, the rules) speaks the same. Reading is lenient about the
wrapping (code fences, prose, a torn end) and strict about the shape: what a model meant is
never guessed. Whether a well-shaped fact is to be believed is judged in `core/guards`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gateway.core.memory import TYPES, Instant, Memory
from gateway.core.timeline import local_rfc3339

Action = Literal["add", "refine", "supersede", "retract", "duplicate"]
ACTIONS: tuple[Action, ...] = get_args(Action)

PROMPT = "prompts/extraction.v1.md"
"""What a model is told, as a file of `config/`. A change of meaning gets a new number."""
SCHEMA_NAME = "memory_extraction"
MAX_ANSWER_CHARS = 1_000_000
"""An answer longer than this is a model gone astray; it is not even looked at."""
MAX_LOOKS = 50
"""How many opening brackets amid prose are tried before giving up."""


@dataclass(frozen=True, slots=True)
class KnownMemory:
    """A memory as an extractor is shown it; `n` is what it may name as a target."""

    n: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class ExtractionTurn:
    """A turn as an extractor is shown it; `n` counts from 1 over the batch.

    `text` is all that was said: it is what a quote is looked for in. `shown` is what the
    extractor sees of it where that is less. `whole` is false for an answer that broke off
    or failed: it is context, never evidence.
    """

    n: int
    role: str
    at: Instant
    text: str
    exchange_id: str
    turn_id: str
    speaker: str | None = None
    session: str | None = None
    whole: bool = True
    shown: str | None = None


@dataclass(frozen=True, slots=True)
class ExtractionBatch:
    """One user's pending turns and what is known already."""

    now: Instant
    timezone: str
    known: tuple[KnownMemory, ...]
    turns: tuple[ExtractionTurn, ...]


class NoAnswer(ValueError):
    """An answer that holds no facts in any form that is understood; says what was wrong."""


# --- asking --------------------------------------------------------------------------------


def request_json(batch: ExtractionBatch) -> str:
    """The last message of an extraction request: one JSON object, times in the user's zone."""
    zone = batch.timezone
    return json.dumps(
        {
            "now": local_rfc3339(batch.now, zone),
            "timezone": zone,
            "known": [
                {"n": k.n, "type": k.memory.type, "key": k.memory.key, "text": k.memory.text}
                for k in batch.known
            ],
            "turns": [
                {
                    "n": turn.n,
                    "role": turn.role,
                    "at": local_rfc3339(turn.at, zone),
                    "text": turn.text if turn.shown is None else turn.shown,
                }
                for turn in batch.turns
            ],
        },
        ensure_ascii=False,
    )


def response_schema() -> dict[str, Any]:
    """The JSON schema of an answer, in the strict form: every field required, none beside."""

    def nullable(kind: str) -> dict[str, Any]:
        return {"type": [kind, "null"]}

    fields: dict[str, Any] = {
        "action": {"type": "string", "enum": list(ACTIONS)},
        "target": nullable("integer"),
        "type": {"type": "string", "enum": list(TYPES)},
        "key": nullable("string"),
        "value": nullable("string"),
        "text": {"type": "string"},
        "turn": {"type": "integer"},
        "quote": {"type": "string"},
        "importance": {"type": "number"},
        "event_start": nullable("string"),
        "event_end": nullable("string"),
        "ttl_days": nullable("integer"),
    }
    fact = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"facts": {"type": "array", "items": fact}},
        "required": ["facts"],
        "additionalProperties": False,
    }


def shown_texts(texts: Sequence[str], budget_chars: int) -> list[str | None]:
    """What to show of each text so that all fit the budget; None where it is shown whole.

    A long text is shown by its beginning and its end: people put what they want before or
    after what they paste.
    """
    total = sum(len(text) for text in texts)
    if total <= budget_chars:
        return [None] * len(texts)
    share = max(400, budget_chars // max(1, len(texts)))
    shown: list[str | None] = []
    for text in texts:
        if len(text) <= share:
            shown.append(None)
        else:
            head = share * 2 // 3
            shown.append(f"{text[:head]}\n[…]\n{text[-(share - head) :]}")
    return shown


# --- reading -------------------------------------------------------------------------------

_THINKS = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_OPENING = re.compile(r"[{\[]")
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


def read_answer(text: str) -> list[Any]:
    """The facts of an answer as they stand, unchecked. Raises NoAnswer, never anything else.

    Understands the object of docs/formats.md, alone or amid prose, in a code fence or after a
    reasoning section; a bare list of facts; and trailing commas.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise NoAnswer(f"the answer has {len(text)} characters")
    bare = _without_thinking(text).strip().removeprefix("\ufeff")
    if not bare:
        raise NoAnswer("the answer is empty")
    for candidate in (bare, _TRAILING_COMMA.sub(r"\1", bare)):
        for value in _json_values(candidate):
            facts = _facts_of(value)
            if facts is not None:
                return facts
        # A fact by itself counts only where it is all there is: inside a broken list it
        # would be taken for the whole of it.
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(candidate)
            if isinstance(value, Mapping) and "action" in value and "quote" in value:
                return [value]
    raise NoAnswer('the answer holds no JSON object with a list "facts"')


def _without_thinking(text: str) -> str:
    """The text without its reasoning sections. One pass: a single expression for a whole section
    looked for the end of each that never ends again, 30 s for 60,000 of them."""
    parts: list[str] = []
    at = 0
    while (begun := _THINKS.search(text, at)) and (ended := _THOUGHT.search(text, begun.end())):
        parts.append(text[at : begun.start()])
        at = ended.end()
    return "".join([*parts, text[at:]])


def salvage(text: str) -> list[Any]:
    """The whole facts of an answer that was torn off in the middle; empty where there are none."""
    start = text.find('"facts"')
    if start < 0 or len(text) > MAX_ANSWER_CHARS:
        return []
    facts: list[Any] = []
    decoder = json.JSONDecoder()
    at = text.find("{", start)
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        facts.append(value)
        at = text.find("{", end)
    return facts


def faults_of(facts: Sequence[Any]) -> list[str]:
    """What is wrong with the shape of each fact, in words that the model can mend it by."""
    faults: list[str] = []
    for i, fact in enumerate(facts):
        if not isinstance(fact, Mapping):
            faults.append(f"facts[{i}] is no object")
            continue
        if fact.get("action") not in ACTIONS:
            faults.append(f"facts[{i}].action must be one of {', '.join(ACTIONS)}")
        if fact.get("type") not in TYPES:
            faults.append(f"facts[{i}].type must be one of {', '.join(TYPES)}")
        faults += [
            f"facts[{i}].{name} must be a string"
            for name in ("text", "quote")
            if not isinstance(fact.get(name), str)
        ]
        if whole_number(fact.get("turn")) is None:
            faults.append(f"facts[{i}].turn must be the number of a turn")
    return faults


def whole_number(value: Any) -> int | None:
    """An integer as a model may write it: 3, 3.0 or "3"; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**31 else None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**31:
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
        return int(value)
    return None


def _json_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists in a text, outermost first; the text as a whole if it is one."""
    decoder = json.JSONDecoder()
    at = 0
    looked = 0
    while looked < MAX_LOOKS and (found := _OPENING.search(text, at)):
        looked += 1
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
        else:
            yield value


def _facts_of(value: Any) -> list[Any] | None:
    if isinstance(value, Mapping):
        facts = value.get("facts")
        return facts if isinstance(facts, list) else None
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return value if all("action" in item for item in value) else None
    return None
