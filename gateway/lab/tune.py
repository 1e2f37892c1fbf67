"""Where the weights come from: tuning on one half of the users, checked on the other half.

    python -m gateway.lab.tune FILE.jsonl... [--cache VECTORS.npz] [--rounds 2] [--ablate]

Everything is asked of the same stores and scored by the same `core/ranking` as in chat: what
each question finds is fetched once, then scored again and again under other weights. Search is
by coordinates, one weight at a time, up and down by fixed factors, as the figures are full of
steps that no gradient sees. Each file counts the same, however many questions it has, with its
turns alone, with its facts, and without vectors: one set of weights has to serve them all.
The floor is fitted apart, on own questions against those of other users.

It prints what it finds; taking it over into `Weights`, `HYBRID` and `LEXICAL` is for people.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gateway.adapters.embed_none import NoEmbedder
from gateway.config import AppSettings
from gateway.config import load as load_settings
from gateway.core.memory import KINDS, Found, Instant, Kind, Vector, Where
from gateway.core.ranking import DEFAULT_WEIGHTS, Asked, Weights, rank
from gateway.core.relevance import signs
from gateway.flows.recall import candidates
from gateway.lab import datasets, score
from gateway.lab.datasets import Asking, UserData
from gateway.lab.evaluate import DAY_S, open_embedder
from gateway.lab.scratch import load, scratch_owner, scratch_services
from gateway.ports import Embedder, EmbeddingModel

FACTORS = (0.0, 0.6, 0.8, 1.25, 1.6)
TUNED = (
    "dense",
    "dense_window",
    "lexical_window",
    "speaker",
    "date",
    "session",
    "question",
    "fact",
    "fact_to_turn",
    "turn_to_fact",
    "recency",
)
"""Weights that are searched for; `lexical` stays 1, as only their proportions count."""
LEAST_GAIN = 0.0003
OTHERS = 150
"""Questions of other users that each user is asked, for the floor."""


@dataclass(frozen=True, slots=True)
class Case:
    """A question with what was found for it; `own` false: another user's."""

    user: str
    question: Asking
    sessions: frozenset[str]
    found: Found
    now: Instant
    own: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """A data set as one of the ways in which it may be met."""

    name: str
    cases: tuple[Case, ...]

    def of(self, users: Callable[[str], bool]) -> Setting:
        return Setting(self.name, tuple(c for c in self.cases if users(c.user)))


class CachedVectors:
    """An embedder whose vectors are kept in a file between runs."""

    def __init__(self, inner: Embedder, path: Path | None) -> None:
        self._inner = inner
        self._path = path
        self._kept: dict[str, Any] = {}
        if path is not None and path.exists():
            with np.load(path) as stored:
                self._kept = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    @property
    def model(self) -> EmbeddingModel | None:
        return self._inner.model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        keys = [hashlib.blake2b(t.encode("utf-8", "replace")).hexdigest()[:24] for t in texts]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._kept}
        if missing:
            fresh = await self._inner.embed(list(missing.values()), query=query)
            self._kept |= {
                k: np.asarray(v, np.float32) for k, v in zip(missing, fresh, strict=True)
            }
        return [self._kept[key].tolist() for key in keys]

    def save(self) -> None:
        if self._path is not None:
            np.savez(self._path, keys=list(self._kept), vectors=list(self._kept.values()))

    async def ping(self) -> None:
        await self._inner.ping()

    async def close(self) -> None:
        self.save()
        await self._inner.close()


# --- what each question finds ------------------------------------------------------------------


async def settings_of(path: Path, embedder: Embedder, app: AppSettings) -> list[Setting]:
    """A file as up to three settings: turns, turns and facts, and turns without vectors."""
    whole = datasets.read(path, "jsonl")
    has_facts = any(m.kind == "fact" for user in whole.users for m in user.memories)
    ways: list[tuple[str, tuple[Kind, ...], Embedder]] = [("turns", ("turn",), embedder)]
    if has_facts:
        ways.append(("facts", KINDS, embedder))
    ways.append(("lexical", ("turn",), NoEmbedder("left out")))
    found = []
    for name, kinds, chosen in ways:
        users = datasets.read(path, "jsonl", kinds).users
        cases = [case for user in users for case in await _cases(user, users, chosen, app)]
        found.append(Setting(f"{path.stem}/{name}", tuple(cases)))
    return found


async def _cases(
    user: UserData, users: Sequence[UserData], embedder: Embedder, app: AppSettings
) -> list[Case]:
    services, owner = scratch_services(embedder), scratch_owner(user.user)
    await load(services, owner, user.memories)
    now = max(m.created_at for m in user.memories) + DAY_S
    sessions = {m.id: m.session for m in user.memories}
    foreign = [q for other in users if other.user != user.user for q in other.questions]
    others = foreign[:: max(1, len(foreign) // OTHERS)][:OTHERS]
    cases = []
    for own, questions in ((True, user.questions), (False, others)):
        for question in questions:
            found = await candidates(services, app, owner, question.text, where=Where(), now=now)
            known = frozenset(s for id in question.evidence if (s := sessions.get(id)) is not None)
            cases.append(Case(user.user, question, known, found, now, own))
    return cases


# --- the weights -------------------------------------------------------------------------------


def figures(setting: Setting, weights: Weights) -> dict[str, float]:
    """Recall at 5, 10 and 20, and MRR."""
    answered = [
        score.Answered(tuple(s.memory for s in ranked), frozenset(c.question.evidence), c.sessions)
        for c in setting.cases
        if c.own
        for ranked in [rank(Asked(c.question.text), c.found, now=c.now, weights=weights)]
    ]
    recalls = {f"R@{k}": [score.evidence_recall(a, k) for a in answered] for k in score.KS}
    ranks = [score.reciprocal_rank(a) for a in answered]
    return {name: _mean(values) for name, values in [*recalls.items(), ("MRR", ranks)]}


def objective(settings: Iterable[Setting], weights: Weights) -> float:
    """What is made as large as possible: R@10 twice, R@5, R@20 and MRR once, over settings."""
    found = [figures(setting, weights) for setting in settings]
    return _mean([(f["R@5"] + 2 * f["R@10"] + f["R@20"] + f["MRR"]) / 5 for f in found])


def ascend(
    settings: Sequence[Setting],
    weights: Weights = DEFAULT_WEIGHTS,
    *,
    rounds: int = 2,
    told: Callable[[str], object] = lambda _: None,
) -> Weights:
    """Weights after `rounds` over all of `TUNED`, or fewer where nothing gains any more."""
    best = objective(settings, weights)
    for _ in range(rounds):
        began = best
        for name in TUNED:
            for factor in FACTORS:
                tried = _with(weights, {name: round(getattr(weights, name) * factor, 3)})
                value = objective(settings, tried)
                if value > best + LEAST_GAIN:
                    best, weights = value, tried
            told(f"{name}: {getattr(weights, name)} ({best:.4f})")
        if best == began:
            break
    return weights


def ablation(settings: Sequence[Setting], weights: Weights) -> dict[str, dict[str, float]]:
    """R@10 of each setting without one signal after another."""
    without = {"all": weights}
    without |= {name: _with(weights, {name: 0.0}) for name in (*TUNED, "repeated", "lexical")}
    without["both windows"] = _with(weights, {"dense_window": 0.0, "lexical_window": 0.0})
    without["both links"] = _with(weights, {"fact_to_turn": 0.0, "turn_to_fact": 0.0})
    return {
        name: {s.name: round(100 * figures(s, tried)["R@10"], 1) for s in settings}
        for name, tried in without.items()
    }


def _with(weights: Weights, changed: Mapping[str, Any]) -> Weights:
    return replace(weights, **changed)


# --- the floor -----------------------------------------------------------------------------------


def fit_floor(settings: Sequence[Setting]) -> dict[str, float]:
    """Weights of a logistic model of `relevance.Signs`: own questions against others'."""
    rows: list[list[float]] = []
    labels: list[float] = []
    shares: list[float] = []
    for setting in settings:
        for own in (True, False):
            cases = [c for c in setting.cases if c.own is own]
            rows += [_signs(case) for case in cases]
            labels += [float(own)] * len(cases)
            shares += [1.0 / len(cases)] * len(cases)
    x, y, share = np.array(rows), np.array(labels), np.array(shares)
    mean, spread = x.mean(0), x.std(0) + 1e-9
    z = np.c_[(x - mean) / spread, np.ones(len(x))]
    w = np.zeros(z.shape[1])
    for _ in range(4000):
        error = (1.0 / (1.0 + np.exp(-z @ w)) - y) * share
        w -= 0.5 * (z.T @ error / share.sum() + 1e-3 * np.r_[w[:-1], 0.0])
    names = ("nearest", "coverage", "unknown", "unknown_name", "names_speaker")
    raw = w[:-1] / spread
    bias = float(w[-1] - (raw * mean).sum())
    return {**dict(zip(names, raw.round(2).tolist(), strict=True)), "bias": round(bias, 2)}


def _signs(case: Case) -> list[float]:
    ranked = rank(Asked(case.question.text), case.found, now=case.now)
    seen = signs(case.question.text, case.found, ranked)
    return [
        seen.nearest,
        seen.coverage,
        seen.unknown,
        float(seen.unknown_name),
        float(seen.names_speaker),
    ]


# --- the command ---------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.lab.tune", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--cache", type=Path, help="vectors kept between runs (.npz)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ablate", action="store_true", help="only measure what is in force")
    asyncio.run(_tune(parser.parse_args(arguments)))
    return 0


async def _tune(asked: argparse.Namespace) -> None:
    app = load_settings(asked.config)
    async with open_embedder(app) as inner:
        embedder = CachedVectors(inner, asked.cache)
        settings = [s for path in asked.files for s in await settings_of(path, embedder, app)]
        embedder.save()
    if asked.ablate:
        print(json.dumps(ablation(settings, DEFAULT_WEIGHTS), indent=2))
        return
    users = {
        user: i for i, user in enumerate(dict.fromkeys(c.user for s in settings for c in s.cases))
    }
    tuning = [s.of(lambda user: users[user] % 2 == 0) for s in settings]
    unseen = [s.of(lambda user: users[user] % 2 == 1) for s in settings]
    weights = ascend(tuning, rounds=asked.rounds, told=lambda line: print(line, file=sys.stderr))
    with_vectors = [s for s in tuning if not s.name.endswith("/lexical")]
    without = [s for s in tuning if s.name.endswith("/lexical")]
    print(
        json.dumps(
            {
                "weights": {name: getattr(weights, name) for name in ("lexical", *TUNED)},
                "tuned on": {s.name: figures(s, weights) for s in tuning},
                "unseen": {s.name: figures(s, weights) for s in unseen},
                "unseen, weights in force": {s.name: figures(s, DEFAULT_WEIGHTS) for s in unseen},
                "floor": {"hybrid": fit_floor(with_vectors), "lexical": fit_floor(without)},
            },
            indent=2,
        )
    )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
