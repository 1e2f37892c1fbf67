"""`eval`: retrieval figures of a data set, by the recall path that chat uses (docs/formats.md).

Each user's memories go into a scratch store of their own; each question is asked through
`flows/recall`, at the time of the user's last memory plus a day, so that nothing depends on the
clock: the same file and settings give the same figures, times apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from gateway.adapters.data_dir import is_directory
from gateway.adapters.rerank_fastembed import DEFAULT_MODEL as DEFAULT_RERANKER
from gateway.adapters.rerank_fastembed import FastembedReranker
from gateway.config import AppSettings, Settings
from gateway.config import load as load_settings
from gateway.core.errors import BadRequest, EmbedderUnavailable, SettingsError
from gateway.core.identity import Owner
from gateway.core.memory import KINDS, Instant, Kind
from gateway.flows.recall import Question, Recalled, recall
from gateway.lab import datasets, score
from gateway.lab.datasets import Asking, Dataset, UserData
from gateway.lab.scratch import load, scratch_owner, scratch_services
from gateway.ports import Embedder, Reranker, Services
from gateway.telemetry.metrics import Metrics
from gateway.wiring.models import choose_embedder

DAY_S = 86_400.0
PATIENCE_MS = 60_000.0
"""No question is cut short: what is measured is what recall finds, and how long it takes."""
LOADING_S = 600.0
"""How long a model may take to be downloaded and loaded."""
POLL_S = 0.1

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question and what recall made of it."""

    question: Asking
    answered: score.Answered
    recalled: Recalled
    ms: float


async def evaluate(
    path: Path,
    format: datasets.Format,
    *,
    embedder: Embedder,
    settings: AppSettings,
    reranker: Reranker | None = None,
    kinds: Sequence[Kind] = KINDS,
) -> dict[str, Any]:
    """The figures of docs/formats.md for a data set. `settings` are those that recall runs under.

    Raises BadRequest for a file that is not of this format, Unavailable where the embedder
    cannot embed.
    """
    data = datasets.read(path, format, kinds)
    return await figures_of(data, embedder=embedder, settings=settings, reranker=reranker)


async def figures_of(
    data: Dataset,
    *,
    embedder: Embedder,
    settings: AppSettings,
    reranker: Reranker | None = None,
    show_progress: bool = False,
) -> dict[str, Any]:
    """The same for a data set that has been read. Raises Unavailable."""
    settings = patient(settings)
    with _progress(data, show_progress) as (stored, asked):
        answers = [
            answer
            for user in data.users
            for answer in await _ask_user(
                user, scratch_services(embedder, reranker), settings, stored, asked
            )
        ]
    model = embedder.model
    return {
        "dataset": data.name,
        "questions": len(answers),
        "embedding": "none" if model is None else f"{model.provider}:{model.name}",
        "k": list(score.KS),
        **score.summary([a.answered for a in answers]),
        "tokens_per_query": round(_mean([a.recalled.tokens for a in answers]), 1),
        "p50_ms": round(score.quantile([a.ms for a in answers], 0.5), 3),
        "p95_ms": round(score.quantile([a.ms for a in answers], 0.95), 3),
        "by_category": score.by_category([a.answered for a in answers]),
        "injected": {
            "hit": round(_mean([_injected_hit(a) for a in answers]), 4),
            "shown": round(_mean([share for a in answers for share in _shown(a)]), 4),
            "nothing": round(_mean([float(not a.recalled.memories) for a in answers]), 4),
        },
    }


async def off_topic(
    path: Path,
    format: datasets.Format,
    *,
    embedder: Embedder,
    settings: AppSettings,
    kinds: Sequence[Kind] = KINDS,
    per_user: int = 100,
) -> float:
    """The share of other users' questions for which nothing is injected but what always is."""
    data = datasets.read(path, format, kinds)
    settings = patient(settings)
    quiet: list[float] = []
    for i, user in enumerate(data.users):
        others = [q for j, other in enumerate(data.users) if j != i for q in other.questions]
        step = max(1, len(others) // per_user)
        strange = UserData(user.user, user.memories, tuple(others[::step][:per_user]))
        answers = await _ask_user(strange, scratch_services(embedder), settings, _ignored, _ignored)
        quiet += [float(not a.recalled.memories) for a in answers]
    return round(_mean(quiet), 4)


async def _ask_user(
    user: UserData, services: Services, settings: AppSettings, stored: Advance, asked: Advance
) -> list[Asked]:
    owner = scratch_owner(user.user)
    await load(services, owner, user.memories, progress=stored)
    now = max((m.created_at for m in user.memories), default=0.0) + DAY_S
    answers = []
    for question in user.questions:
        answers.append(await _ask(services, settings, owner, question, user.sessions, now))
        asked(1)
    return answers


async def _ask(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    question: Asking,
    sessions: Mapping[str, str],
    now: Instant,
) -> Asked:
    began = perf_counter()
    recalled = await recall(services, settings, owner, Question(question.text), now=now)
    ms = (perf_counter() - began) * 1000.0
    answered = score.Answered(
        tuple(s.memory for s in recalled.considered),
        frozenset(question.evidence),
        frozenset(sessions[id] for id in question.evidence if id in sessions),
        question.category,
    )
    return Asked(question, answered, recalled, ms)


def _injected_hit(asked: Asked) -> float:
    """Whether any evidence is in what would be injected, rather than in k results."""
    injected = score.Answered(asked.recalled.memories, asked.answered.evidence, frozenset())
    return score.hit(injected, len(injected.ranking))


def _shown(asked: Asked) -> list[float]:
    """The share of its text that is shown of each injected memory that covers evidence: a `hit`
    is counted by the memory, however short the passage of it."""
    whole = {s.memory.id: len(s.memory.text) for s in asked.recalled.considered}
    return [
        min(1.0, len(shown.text) / whole[shown.id])
        for shown in asked.recalled.memories
        if score.covered(shown, asked.answered.evidence) and whole.get(shown.id)
    ]


def patient(settings: AppSettings) -> AppSettings:
    """These settings without a deadline that the machine's load could meet."""
    memory = settings.memory.model_copy(update={"deadline_ms": PATIENCE_MS})
    return settings.model_copy(update={"memory": memory})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _ignored(_: int) -> None:
    return None


# --- the command -----------------------------------------------------------------------------


def main(asked: argparse.Namespace) -> int:
    """`eval FILE`: prints one JSON object on standard output, bars on a terminal's standard error.

    Raises SettingsError for a setting or an argument that cannot be.
    """
    settings = load_settings(asked.config)
    placement = getattr(asked, "placement", None)
    if placement is not None:
        memory = settings.memory.model_copy(update={"placement": placement})
        settings = settings.model_copy(update={"memory": memory})
    try:
        figures = asyncio.run(_evaluated(asked, settings, _kinds(asked.kinds)))
    except BadRequest as exc:
        raise SettingsError(exc.message, param="FILE") from exc
    if sys.stdout.isatty() and not getattr(asked, "json", False):
        _show(figures)
    else:
        print(json.dumps(figures, indent=2))
    return 0


def _show(figures: dict[str, Any]) -> None:
    """The same figures for people: a row a category, the whole last."""
    from rich.console import Console
    from rich.table import Table

    ks = [str(k) for k in figures["k"]]
    table = Table(title=f"{figures['dataset']}, embedding {figures['embedding']}", box=None)
    for heading in ("category", "questions", *(f"recall@{k}" for k in ks), "hit@10", "mrr", "ndcg"):
        table.add_column(heading, justify="left" if heading == "category" else "right")
    for name, row in {**figures["by_category"], "all": figures}.items():
        shares = [row["evidence_recall"][k] for k in ks]
        rest = [row["hit"]["10"], row["mrr"], row["ndcg@10"]]
        table.add_row(name, str(row["questions"]), *(f"{n:.3f}" for n in (*shares, *rest)))
    console = Console()
    console.print(table)
    console.print(
        f"{figures['tokens_per_query']:.0f} tokens a question,"
        f" half within {figures['p50_ms']:.1f} ms, 95% within {figures['p95_ms']:.1f} ms"
    )


def _kinds(text: str) -> tuple[Kind, ...]:
    named = [part.strip() for part in text.split(",")]
    if not set(named) <= set(KINDS):
        raise SettingsError(
            f"--kinds: {text!r} given; allowed are turn, fact, or both with a comma between",
            param="--kinds",
        )
    return tuple(kind for kind in KINDS if kind in named)


async def _evaluated(
    asked: argparse.Namespace, settings: Settings, kinds: tuple[Kind, ...]
) -> dict[str, Any]:
    # Before the models: a wrong path should not wait for one to be loaded, or looked for.
    data = datasets.read(asked.file, asked.format, kinds)
    async with open_embedder(settings) as embedder, open_reranker(settings) as reranker:
        return await figures_of(
            data,
            embedder=embedder,
            settings=settings,
            reranker=reranker,
            show_progress=sys.stderr.isatty(),
        )


@asynccontextmanager
async def open_embedder(settings: Settings) -> AsyncIterator[Embedder]:
    """The embedder of these settings, loaded. Raises EmbedderUnavailable, SettingsError."""
    with tempfile.TemporaryDirectory() as scratch:
        # Models are looked for where the gateway keeps its own, so that none is fetched twice.
        data_dir = settings.data_dir if is_directory(settings.data_dir) else Path(scratch)
        embedder, _ = await choose_embedder(
            settings, None, metrics=Metrics(), data_dir=data_dir, threads=os.cpu_count()
        )
        try:
            await loaded(embedder)
            yield embedder
        finally:
            await embedder.close()


@asynccontextmanager
async def open_reranker(settings: Settings) -> AsyncIterator[Reranker | None]:
    """The cross-encoder of these settings, loaded; None where they ask for none.

    Raises EmbedderUnavailable where it cannot be had.
    """
    if settings.memory.rerank == "off":
        yield None
        return
    reranker = FastembedReranker(settings.memory.rerank_model or DEFAULT_RERANKER)
    try:
        await reranker.settle(LOADING_S)
        await reranker.rerank("ready?", ["ready"])
        yield reranker
    finally:
        await reranker.close()


async def loaded(embedder: Embedder) -> None:
    """Wait for a model that is loading. No embedder by choice is one; one that cannot be had is
    said, since figures without it would be taken for its own. Raises EmbedderUnavailable."""
    for _ in range(int(LOADING_S / POLL_S)):
        try:
            await embedder.ping()
        except EmbedderUnavailable as exc:
            if exc.code == "none":
                return
            if exc.code != "loading":
                raise
        else:
            if embedder.model is not None:
                return
        await asyncio.sleep(POLL_S)
    raise EmbedderUnavailable(f"no embedding model within {LOADING_S:.0f} s", code="failed")


# --- progress ----------------------------------------------------------------------------------


def _progress(data: Dataset, shown: bool) -> AbstractContextManager[tuple[Advance, Advance]]:
    if not shown:
        return nullcontext((_ignored, _ignored))
    return _Bars(data)


class _Bars:
    """Two bars on standard error: texts embedded, questions asked."""

    def __init__(self, data: Dataset) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        # How many windows there are is not known before they are made: turns are a fair guess.
        texts = sum(len(u.memories) for u in data.users)
        self._stored = self._bars.add_task("embedding", total=texts)
        self._asked = self._bars.add_task("asking", total=sum(len(u.questions) for u in data.users))

    def __enter__(self) -> tuple[Advance, Advance]:
        self._bars.start()
        return self._store, lambda n: self._bars.advance(self._asked, n)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _store(self, n: int) -> None:
        task = self._bars.tasks[self._stored]
        total = task.total or 0.0
        if task.completed + n > total:
            self._bars.update(self._stored, total=task.completed + n)
        self._bars.advance(self._stored, n)
