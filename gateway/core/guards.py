"""What of an extractor's answer is believed.

Strategy: a model proposes, code decides. Each fact passes one list of guards, in order; the
first that refuses it is its reason, and reasons are counted. Nothing is mended that carries
meaning (a wrong turn number is not looked up elsewhere); what carries none is (an importance
of 7 is 1). What passes is a `Fact`: typed, dated, tied to the words it rests on.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from gateway.core.extraction import (
    ACTIONS,
    Action,
    ExtractionBatch,
    ExtractionTurn,
    NoAnswer,
    read_answer,
    whole_number,
)
from gateway.core.memory import TYPES, Memory, Type
from gateway.core.redaction import MARK, redact, redact_named
from gateway.core.suspicion import is_pasted, standing_order, suspicion, visible
from gateway.core.timeline import Span, anchored, resolve
from gateway.core.wording import folded, overlap, stands_in

MAX_TEXT = 600
"""Characters of a fact. A longer one is a summary of the conversation, not a fact."""
MAX_FACTS = 100
"""Facts of one batch; also how many of its proposals are looked at, ten times over."""
MAX_KEY, MAX_VALUE, MAX_QUOTE = 64, 200, 1000
MAX_TTL_DAYS = 3650
NO_KEYS = frozenset({"null", "none", "nil", "n_a", "undefined"})
"""What models write as text for no key. Taken as one, each such fact would end the one before."""
EXAMPLE_LIKENESS = 0.8


@dataclass(frozen=True, slots=True)
class Example:
    """A fact that the prompt shows; a model that has nothing to say may hand it back."""

    text: str
    quote: str


@dataclass(frozen=True, slots=True)
class House:
    """What the settings allow, as the guards need it."""

    tool_output: bool = False
    redact: tuple[str, ...] = ()
    allow_types: tuple[str, ...] = ()
    deny_types: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A proposal that passed. `target` is the known memory it is about, where there is one.

    `quarantine` is why it must not be injected, where it must not. `span` is when the event
    took place, None where the fact has no time of its own.
    """

    action: Action
    type: Type
    text: str
    turn: ExtractionTurn
    quote: str
    target: Memory | None = None
    key: str | None = None
    value: str | None = None
    importance: float = 0.5
    span: Span | None = None
    ended: bool = False
    ttl_days: int | None = None
    quarantine: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """The facts that passed, in order, and how many did not, by reason."""

    facts: tuple[Fact, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)


class _Refused(Exception):
    """One fact's end; the message is the reason as it is counted."""


def judge(answer: Sequence[Any], batch: ExtractionBatch, house: House) -> Judged:
    """Pass each proposed fact through the guards."""
    turns = {turn.n: turn for turn in batch.turns}
    known = {k.n: k.memory for k in batch.known}
    facts: list[Fact] = []
    dropped: Counter[str] = Counter()
    for i, raw in enumerate(answer):
        if len(facts) >= MAX_FACTS or i >= MAX_FACTS * 10:
            dropped["too_many"] += len(answer) - i
            break
        try:
            facts.append(_believed(raw, turns, known, batch, house))
        except _Refused as refused:
            dropped[str(refused)] += 1
    return Judged(tuple(facts), dict(dropped))


def _believed(
    raw: Any,
    turns: Mapping[int, ExtractionTurn],
    known: Mapping[int, Memory],
    batch: ExtractionBatch,
    house: House,
) -> Fact:
    if not isinstance(raw, Mapping):
        raise _Refused("not_an_object")
    action, type_ = _labels(raw, house)
    turn = turns.get(whole_number(raw.get("turn")) or 0)
    if turn is None:
        raise _Refused("unknown_turn")
    quote = _quote(raw, turn)
    target = _target(raw, action, known)
    _speaker_may(action, type_, turn, target, house)
    text = _text(raw, action)
    _no_example(text, turn, house)
    key, value = _key_and_value(raw)
    _nothing_secret(text, key, value, house)
    span, ended, text = _when(raw, type_, text, turn, batch.timezone)
    if turn.role == "assistant" and "assistant" not in text.casefold():
        text = f"The assistant said: {text}"
    return Fact(
        action=action,
        type=type_,
        text=text,
        turn=turn,
        quote=quote,
        target=target,
        key=key,
        value=value,
        importance=_importance(raw.get("importance")),
        span=span,
        ended=ended,
        ttl_days=_ttl(raw.get("ttl_days")),
        quarantine=None if action == "retract" else _quarantine(raw, text, key, value, quote, turn),
    )


# --- the guards, in their order --------------------------------------------------------------


def _labels(raw: Mapping[str, Any], house: House) -> tuple[Action, Type]:
    action, type_ = raw.get("action"), raw.get("type")
    if action not in ACTIONS:
        raise _Refused("unknown_action")
    if type_ not in TYPES:
        raise _Refused("unknown_type")
    if action in ("add", "refine", "supersede") and (
        type_ in house.deny_types or (house.allow_types and type_ not in house.allow_types)
    ):
        raise _Refused("type_not_allowed")
    return cast("Action", action), cast("Type", type_)


def _quote(raw: Mapping[str, Any], turn: ExtractionTurn) -> str:
    quote = raw.get("quote")
    if not isinstance(quote, str) or not quote.strip():
        raise _Refused("no_quote")
    if len(quote) > MAX_QUOTE * 4 or not stands_in(quote, turn.text):
        raise _Refused("quote_not_found")
    if MARK in quote:
        # What was removed at the door is not remembered by its mark either.
        raise _Refused("redacted")
    return visible(quote).strip()[:MAX_QUOTE]


def _target(raw: Mapping[str, Any], action: Action, known: Mapping[int, Memory]) -> Memory | None:
    if action == "add":
        return None
    target = known.get(whole_number(raw.get("target")) or 0)
    if target is None:
        raise _Refused("unknown_target")
    return target


def _speaker_may(
    action: Action, type_: Type, turn: ExtractionTurn, target: Memory | None, house: House
) -> None:
    """Users speak for themselves; the assistant for what it recommended or promised alone."""
    if not turn.whole:
        raise _Refused("answer_not_whole")
    if turn.role == "user":
        return
    if action in ("supersede", "retract"):
        raise _Refused("needs_users_turn")
    if turn.role in ("tool", "function"):
        if not house.tool_output:
            raise _Refused("tool_output")
    elif turn.role != "assistant":
        raise _Refused("role_not_allowed")
    if action == "duplicate":
        return
    if type_ != "interaction" or (target is not None and target.source.role == "user"):
        raise _Refused("not_the_users_word")


def _text(raw: Mapping[str, Any], action: Action) -> str:
    text = raw.get("text")
    text = " ".join(visible(text).split()) if isinstance(text, str) else ""
    if action in ("retract", "duplicate"):
        return text[:MAX_TEXT]
    if not any(c.isalnum() for c in text):
        raise _Refused("no_text")
    if len(text) > MAX_TEXT:
        raise _Refused("text_too_long")
    return text


def _no_example(text: str, turn: ExtractionTurn, house: House) -> None:
    for example in house.examples:
        if overlap(text, example.text) >= EXAMPLE_LIKENESS and not stands_in(
            example.quote, turn.text
        ):
            raise _Refused("from_the_prompt")


def _nothing_secret(text: str, key: str | None, value: str | None, house: House) -> None:
    """A number told in two halves passes the door in two turns; a model puts it together."""
    hidden = house.redact
    if redact(text, hidden) != text or (value and redact_named(key, value, hidden) != value):
        raise _Refused("redacted")


def _key_and_value(raw: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """A key in snake case with its value; a key of no such shape is left out, not guessed at."""
    key, value = raw.get("key"), raw.get("value")
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    elif isinstance(value, float):
        value = repr(value).removesuffix(".0") if math.isfinite(value) else None
    if not isinstance(key, str):
        return None, None
    key = re.sub(r"[\s\-./:]+", "_", folded(visible(key))).strip("_")
    if not re.fullmatch(r"[^\W_]\w*", key) or len(key) > MAX_KEY or key in NO_KEYS:
        return None, None
    if not isinstance(value, str) or value.strip().casefold() == "null":
        return key, None
    value = " ".join(visible(value).split())
    return key, value if 0 < len(value) <= MAX_VALUE else None


def _when(
    raw: Mapping[str, Any], type_: Type, text: str, turn: ExtractionTurn, timezone: str
) -> tuple[Span | None, bool, str]:
    """When it took place, whether its end was given, and the text with its dates set."""

    def read(name: str) -> Span | None:
        given = raw.get(name)
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = str(given)
        if not isinstance(given, str):
            return None
        return resolve(given, said_at=turn.at, timezone=timezone)

    text, mentioned = anchored(text, said_at=turn.at, timezone=timezone)
    start, end = read("event_start"), read("event_end")
    if start is None and end is None:
        return (mentioned if type_ in ("interaction", "task_state") else None), False, text
    if start is None:
        # Only an end: true until then, from when it was said or before.
        return (Span(min(turn.at, end.end), end.end), True, text) if end else (None, False, text)
    if end is None or end.end <= start.start:
        return start, False, text
    return Span(start.start, end.end), True, text


def _importance(value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        return 0.5
    return 0.5 if math.isnan(number) else min(1.0, max(0.0, number))


def _ttl(value: Any) -> int | None:
    days = whole_number(value)
    return None if days is None or days <= 0 else min(days, MAX_TTL_DAYS)


def _quarantine(
    raw: Mapping[str, Any],
    text: str,
    key: str | None,
    value: str | None,
    quote: str,
    turn: ExtractionTurn,
) -> str | None:
    """Why this must not reach a model, where it must not.

    The words are looked at as they were given, too, before they are cleaned: line breaks and
    hidden letters are what some attacks are made of. What is the same is looked at once.
    """
    said = "\n".join(part for part in (text, key, value) if part)
    given = [part for name in ("text", "quote") if isinstance(part := raw.get(name), str)]
    for part in dict.fromkeys((*given, said, quote)):
        if reason := suspicion(part):
            return reason
    users_own = turn.role == "user" and not is_pasted(quote, turn.text)
    if not users_own and (standing_order(said) or standing_order(quote)):
        return "standing_order"
    return None


# --- what the prompt shows -------------------------------------------------------------------


def examples_in(prompt: str) -> tuple[Example, ...]:
    """The facts that a prompt gives as examples: every JSON answer in a code fence."""
    found: list[Example] = []
    for block in re.findall(r"```(?:json)?\s*\n(.*?)```", prompt, re.DOTALL):
        try:
            facts = read_answer(json.dumps(json.loads(block)))
        except (ValueError, NoAnswer):
            continue
        found += [
            Example(fact["text"], fact["quote"])
            for fact in facts
            if isinstance(fact, Mapping) and fact.get("text") and fact.get("quote")
        ]
    return tuple(found)
