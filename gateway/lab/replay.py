"""`replay FILE`: recorded recalls again, under the settings of today: what would be injected
instead, and what that costs.

A file holds a line for each user (`users recordings USER` writes one): the memories, and the
recalls with what they rested on and injected. Each recall is run at its own time over the memories
that were known by then, in a scratch store with today's embedder, template and settings.
A recall with `evidence` (ids put there by a person) is scored as well. Memories corrected since
are searched as they read now; everything else is as it was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from gateway.config import AppSettings, Settings
from gateway.config import load as load_settings
from gateway.core.errors import BadRequest, SettingsError
from gateway.core.memory import Instant, Memory, Vector, parse_rfc3339
from gateway.core.records import from_export
from gateway.flows.recall import Question, Recalled, recall
from gateway.flows.receipts import versions
from gateway.lab.evaluate import loaded, patient
from gateway.lab.score import quantile
from gateway.lab.scratch import load, scratch_owner, scratch_services
from gateway.ports import Conversation, Embedder, EmbeddingModel
from gateway.telemetry.metrics import Metrics
from gateway.wiring_models import choose_embedder


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


@dataclass(frozen=True, slots=True)
class Compared:
    """One recall then and now."""

    user: str
    recording: Recording
    now: Recalled
    ms: float
    texts: Mapping[str, str]

    @property
    def added(self) -> list[str]:
        return [m.id for m in self.now.memories if m.id not in self.recording.brought]

    @property
    def gone(self) -> list[str]:
        ids = {m.id for m in self.now.memories}
        return [id for id in self.recording.brought if id not in ids]

    @property
    def same(self) -> bool:
        """The same memories in the same order: the same bytes, if the template is."""
        return tuple(m.id for m in self.now.memories) == self.recording.brought


# --- reading -----------------------------------------------------------------------------------


def read(path: Path) -> list[UserRecordings]:
    """Raises BadRequest, naming the line, where the file is not of this format."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadRequest(f"{path} cannot be read: {exc}") from exc
    return list(_users(text, path))


def _users(text: str, path: Path) -> Iterator[UserRecordings]:
    for n, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
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


# --- running again -----------------------------------------------------------------------------


async def replay(
    users: Sequence[UserRecordings],
    *,
    embedder: Embedder,
    settings_for: Callable[[str], AppSettings],
    done: Callable[[int], object] = lambda _: None,
) -> list[Compared]:
    """Every recall again, in the order of its user's times."""
    compared = []
    for user in users:
        settings = patient(settings_for(user.app))
        services, owner = scratch_services(_Once(embedder)), scratch_owner(user.user)
        texts = {memory.id: memory.text for memory in user.memories}
        known = _Known(user.memories)
        for recording in user.recalls:
            if fresh := known.until(recording.at):
                await load(services, owner, fresh)
            began = perf_counter()
            found = await recall(services, settings, owner, recording.question, now=recording.at)
            ms = (perf_counter() - began) * 1000.0
            compared.append(Compared(user.user, recording, found, ms, texts))
            done(1)
    return compared


class _Known:
    """What was known when: memories as they came, and as they were superseded."""

    def __init__(self, memories: Sequence[Memory]) -> None:
        self._memories = sorted(memories, key=lambda m: (m.created_at, m.id))
        self._held: dict[str, Memory] = {}

    def until(self, at: Instant) -> list[Memory]:
        """What is new or different since the call before; turns with their whole session, for
        the windows beside them."""
        changed = {}
        for memory in self._memories:
            if memory.created_at >= at:
                break
            then = _as_known(memory, at)
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


def _as_known(memory: Memory, at: Instant) -> Memory:
    """A memory that was superseded later was in force then."""
    if memory.superseded_at is not None and memory.superseded_at > at:
        return replace(
            memory, status="active", superseded_at=None, superseded_by=None, valid_to=None
        )
    return memory


class _Once:
    """Implements ports.Embedder over another: no text is embedded twice."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[tuple[str, bool], Vector] = {}

    @property
    def model(self) -> EmbeddingModel | None:
        return self._embedder.model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        missing = [t for t in dict.fromkeys(texts) if (t, query) not in self._vectors]
        if missing:
            vectors = await self._embedder.embed(missing, query=query)
            self._vectors |= {(t, query): v for t, v in zip(missing, vectors, strict=True)}
        return [self._vectors[t, query] for t in texts]

    async def ping(self) -> None:
        await self._embedder.ping()

    async def close(self) -> None:
        """The other is its maker's to close."""


# --- what changed --------------------------------------------------------------------------------


def figures(compared: Sequence[Compared], embedder: Embedder, settings: Settings) -> dict[str, Any]:
    """One JSON object: the sums first, then each recall."""
    model = embedder.model
    labelled = [c for c in compared if c.recording.evidence]
    return {
        "recalls": len(compared),
        "changed": sum(not c.same for c in compared),
        "embedding": "none" if model is None else f"{model.provider}:{model.name}",
        "versions": versions(settings),
        "tokens": {
            "then": _mean([c.recording.tokens for c in compared]),
            "now": _mean([c.now.tokens for c in compared]),
        },
        "p50_ms": {
            "then": round(quantile([c.recording.ms for c in compared], 0.5), 3),
            "now": round(quantile([c.ms for c in compared], 0.5), 3),
        },
        "evidence_recall": {
            "labelled": len(labelled),
            "then": _mean([_covered(c, c.recording.brought) for c in labelled]),
            "now": _mean([_covered(c, [m.id for m in c.now.memories]) for c in labelled]),
        },
        "results": [_told(c) for c in compared],
    }


def _told(c: Compared) -> dict[str, Any]:
    def named(ids: Sequence[str]) -> list[dict[str, str | None]]:
        return [{"id": id, "text": c.texts.get(id)} for id in ids]

    return {
        "id": c.recording.id,
        "user": c.user,
        "query": c.recording.question.text,
        "same": c.same,
        "stage": c.now.stage,
        "then": list(c.recording.brought),
        "now": [memory.id for memory in c.now.memories],
        "added": named(c.added),
        "gone": named(c.gone),
        "tokens": {"then": c.recording.tokens, "now": c.now.tokens},
        "ms": {"then": c.recording.ms, "now": round(c.ms, 3)},
    }


def _covered(c: Compared, ids: Sequence[str]) -> float:
    return len(c.recording.evidence.intersection(ids)) / len(c.recording.evidence)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


# --- the command -----------------------------------------------------------------------------


def main(asked: argparse.Namespace) -> int:
    """`replay FILE`: a table on a terminal, else (or with `--json`) one JSON object."""
    settings = load_settings(asked.config)
    try:
        users = read(asked.file)
    except BadRequest as exc:
        raise SettingsError(exc.message, param="FILE") from exc
    told = asyncio.run(_replayed(users, settings))
    if asked.json or not sys.stdout.isatty():
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _show(told)
    return 0


async def _replayed(users: Sequence[UserRecordings], settings: Settings) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = settings.data_dir if settings.data_dir.is_dir() else Path(scratch)
        embedder, _ = await choose_embedder(settings, None, metrics=Metrics(), data_dir=data_dir)
        try:
            await loaded(embedder)
            count = sum(len(user.recalls) for user in users)
            if not sys.stderr.isatty():
                compared = await replay(users, embedder=embedder, settings_for=settings.app)
            else:
                compared = await _with_bar(users, embedder, settings, count)
            return figures(compared, embedder, settings)
        finally:
            await embedder.close()


async def _with_bar(
    users: Sequence[UserRecordings], embedder: Embedder, settings: Settings, count: int
) -> list[Compared]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("recalling again", total=count)
        return await replay(
            users,
            embedder=embedder,
            settings_for=settings.app,
            done=lambda n: bar.advance(task, n),
        )


def _show(told: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("USER", "ASKED", "NOW INJECTED", "NO LONGER", "TOKENS"):
        table.add_column(heading)
    for row in told["results"]:
        if row["same"]:
            continue
        table.add_row(
            Text(row["user"]),
            Text(row["query"][:60]),
            Text("\n".join(_line(one) for one in row["added"]), style="green"),
            Text("\n".join(_line(one) for one in row["gone"]), style="red"),
            f"{row['tokens']['then']} → {row['tokens']['now']}",
        )
    console = Console()
    if told["changed"]:
        console.print(table)
    console.print(
        f"{told['changed']} of {told['recalls']} recalls would inject something else;"
        f" tokens {told['tokens']['then']:.0f} → {told['tokens']['now']:.0f},"
        f" half within {told['p50_ms']['then']:.1f} → {told['p50_ms']['now']:.1f} ms"
    )
    evidence = told["evidence_recall"]
    if evidence["labelled"]:
        console.print(
            f"of the evidence in {evidence['labelled']} labelled questions"
            f" {evidence['then']:.0%} → {evidence['now']:.0%} is injected"
        )


def _line(one: Mapping[str, Any]) -> str:
    text = " ".join(str(one["text"] or one["id"]).split())
    return "".join(c if c.isprintable() else "?" for c in text[:80])
