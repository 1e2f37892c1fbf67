"""Recorded recalls as `users recordings USER` writes them: a line of JSON for each user, with the
memories that recall looks through (turns among them) and the recalls themselves.

A recall says what it rested on and which memories it brought. A person may add `evidence` to it:
the ids of the memories that answer the question.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.core.batch import in_order
from gateway.core.errors import BadRequest
from gateway.core.exchange import Exchange, Outcome, Turn, turn_memory_id
from gateway.core.memory import Instant, Memory, parse_rfc3339
from gateway.core.records import from_export
from gateway.flows.recall import Question
from gateway.ports import Conversation

MAX_TURNS: Final = 200
"""Turns of one exchange whose number is looked for by their id."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recall as it was: what it rested on, and the ids that it brought."""

    id: str
    at: Instant
    question: Question
    brought: tuple[str, ...]
    tokens: int
    ms: float
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class UserRecordings:
    user: str
    app: str
    memories: tuple[Memory, ...]
    recalls: tuple[Recording, ...]


def read(path: Path) -> list[UserRecordings]:
    """Raises BadRequest, naming the line, where the file is not of this format."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise BadRequest(f"{path} cannot be read: {why}") from exc
    return list(_users(text, path))


def _users(text: str, path: Path) -> Iterator[UserRecordings]:
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _object(line)
            recalls = sorted((_recording(r) for r in row["recalls"]), key=lambda r: r.at)
            memories = tuple(from_export(memory) for memory in row["memories"])
            yield UserRecordings(
                str(row["user"]), str(row.get("app", "default")), memories, tuple(recalls)
            )
        except BadRequest as exc:
            raise BadRequest(f"{path}, line {n}: {exc.message}") from exc
        except KeyError as exc:
            raise BadRequest(
                f"{path}, line {n}: {exc.args[0]!r} is missing;"
                " `users recordings` writes such files"
            ) from exc
        except (ValueError, TypeError, AttributeError) as exc:
            raise BadRequest(f"{path}, line {n}: {exc}") from exc


def _object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise BadRequest("no JSON object; `users recordings` writes such files")
    return row


def _recording(row: Mapping[str, Any]) -> Recording:
    recorded = row["recorded"]
    session = recorded.get("session")
    held = tuple(str(ref) for ref in recorded.get("held", ()))
    as_of = row.get("as_of")
    return Recording(
        id=str(row["id"]),
        at=parse_rfc3339(row["at"]),
        question=Question(
            str(row["query"]),
            str(row.get("before") or ""),
            conversation=Conversation(str(session), fresh=1, injected=held) if session else None,
            as_of=parse_rfc3339(as_of) if as_of else None,
            timezone=row.get("timezone"),
            present=tuple(str(text) for text in recorded.get("present", ())),
            max_tokens=recorded.get("max_tokens"),
        ),
        brought=tuple(str(id) for id in recorded["would_inject"]),
        tokens=int(recorded.get("tokens") or 0),
        ms=float(row.get("latency_ms") or 0.0),
        evidence=frozenset(str(id) for id in row.get("evidence", ())),
    )


# --- what was said -----------------------------------------------------------------------------


def exchanges_of(memories: Iterable[Memory], timezone: str | None = None) -> tuple[Exchange, ...]:
    """The exchanges whose turns were kept, in the order of their times."""
    said: dict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        if memory.kind == "turn" and memory.source.exchange_id is not None and memory.text:
            said[memory.source.exchange_id].append(memory)
    return in_order([_exchange(id, turns, timezone) for id, turns in said.items()])


def _exchange(id: str, memories: Iterable[Memory], timezone: str | None) -> Exchange:
    said = sorted(memories, key=lambda m: (m.created_at, m.id))
    numbers = {turn_memory_id(id, n): n for n in range(MAX_TURNS)}
    last = said[-1]
    outcome: Outcome = "complete"
    if last.source.role == "assistant" and last.metadata.get("outcome") in ("error", "cut_off"):
        outcome = last.metadata["outcome"]
    return Exchange(
        id=id,
        session=last.session or id,
        at=said[0].created_at,
        turns=tuple(
            Turn(numbers.get(m.id, n), m.source.role, m.text, m.created_at, m.speaker)
            for n, m in enumerate(said)
        ),
        outcome=outcome,
        via=last.source.via,
        timezone=timezone,
    )


# --- what was known when ------------------------------------------------------------------------


class Known:
    """What was known when: memories as they came, and as they were superseded.

    What was said becomes a memory when it is distilled, and so do the facts drawn from it; until
    then it waits, and recall knows it as that.
    """

    def __init__(self, memories: Sequence[Memory]) -> None:
        self._distilled = _distilled(memories)
        self._since = {m.id: self._known_from(m) for m in memories}
        self._memories = sorted(memories, key=lambda m: (self._since[m.id], m.id))
        self._exchanges = exchanges_of(memories)
        self._held: dict[str, Memory] = {}

    def _known_from(self, memory: Memory) -> Instant:
        exchange = memory.source.exchange_id
        if memory.source.via != "chat" or exchange is None:
            return memory.created_at
        return self._distilled.get(exchange, memory.created_at)

    def until(self, at: Instant) -> list[Memory]:
        """What is new or different since the call before; turns with their whole session, for
        the windows beside them."""
        changed = {}
        for memory in self._memories:
            if self._since[memory.id] >= at:
                break
            then = self._as_known(memory, at)
            if self._held.get(memory.id) != then:
                changed[memory.id] = then
        self._held |= changed
        sessions = {m.session for m in changed.values() if m.kind == "turn"}
        beside = [
            m
            for m in self._held.values()
            if m.id in changed or (m.session and m.session in sessions)
        ]
        return beside if changed else []

    def waiting(self, at: Instant) -> list[Exchange]:
        """What had been said by then and was not distilled, oldest first."""
        return [e for e in self._exchanges if e.at < at <= self._distilled.get(e.id, e.at)]

    def _as_known(self, memory: Memory, at: Instant) -> Memory:
        """A memory that was superseded later was in force then."""
        if memory.superseded_at is None:
            return memory
        until = max(memory.superseded_at, self._since.get(memory.superseded_by or "", 0.0))
        return in_force(memory) if until > at else memory


def in_force(memory: Memory) -> Memory:
    """A memory that is superseded, as it was before."""
    return replace(memory, status="active", superseded_at=None, superseded_by=None, valid_to=None)


def _distilled(memories: Iterable[Memory]) -> dict[str, Instant]:
    """When each exchange was distilled: its turns were written then. One that was corrected
    since does not tell."""
    found: dict[str, Instant] = {}
    for memory in memories:
        exchange = memory.source.exchange_id
        if memory.kind == "turn" and exchange is not None and not memory.history:
            found[exchange] = min(memory.updated_at, found.get(exchange, memory.updated_at))
    return found
