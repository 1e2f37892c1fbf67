"""The figures, on rankings small enough to check by hand."""

from __future__ import annotations

import math

import pytest

from gateway.core.memory import Memory, Source
from gateway.lab.score import (
    Answered,
    by_category,
    evidence_recall,
    hit,
    ndcg,
    quantile,
    reciprocal_rank,
    session_recall,
    summary,
)


def memory(id: str, *, session: str | None = None, covers: tuple[str, ...] = ()) -> Memory:
    source = Source(session=session)
    return Memory(id, "fact" if covers else "turn", id, 0, 0, 0, source=source, covers=covers)


def answered(
    *ranking: Memory, evidence: str, sessions: str = "", category: str | None = None
) -> Answered:
    return Answered(ranking, frozenset(evidence.split()), frozenset(sessions.split()), category)


def test_recall_is_the_share_of_the_evidence_within_k() -> None:
    a = answered(memory("x"), memory("a"), memory("y"), memory("b"), evidence="a b")
    assert [evidence_recall(a, k) for k in (1, 2, 4)] == [0.0, 0.5, 1.0]
    assert [hit(a, k) for k in (1, 2)] == [0.0, 1.0]
    assert reciprocal_rank(a) == 0.5


def test_a_fact_covers_the_turns_it_was_drawn_from() -> None:
    a = answered(memory("f", covers=("a", "b", "z")), evidence="a b")
    assert evidence_recall(a, 1) == 1.0
    assert reciprocal_rank(a) == 1.0


def test_nothing_found_scores_nothing() -> None:
    a = answered(memory("x"), evidence="a", sessions="s1")
    assert (evidence_recall(a, 5), hit(a, 5), reciprocal_rank(a), ndcg(a, 10)) == (0, 0, 0, 0)
    assert session_recall(a, 10) == 0.0


def test_sessions_are_counted_among_the_first_different_ones() -> None:
    a = answered(
        *(memory(str(i), session="s1") for i in range(3)),
        memory("x", session=None),
        memory("y", session="s2"),
        evidence="y",
        sessions="s2 s9",
    )
    assert session_recall(a, 1) == 0.0
    assert session_recall(a, 2) == 0.5


def test_ndcg_counts_each_piece_of_evidence_once() -> None:
    perfect = answered(memory("a"), memory("b"), evidence="a b")
    again = answered(memory("a"), memory("f", covers=("a",)), memory("b"), evidence="a b")
    assert ndcg(perfect, 10) == pytest.approx(1.0)
    best = 1 + 1 / math.log2(3)
    assert ndcg(again, 10) == pytest.approx((1 + 1 / math.log2(4)) / best)


def test_a_summary_has_the_figures_of_the_contract() -> None:
    figures = summary([answered(memory("a"), evidence="a", sessions="s")])
    assert list(figures) == ["evidence_recall", "hit", "session_recall", "mrr", "ndcg@10"]
    assert figures["evidence_recall"] == {"5": 1.0, "10": 1.0, "20": 1.0}


def test_categories_are_summed_up_apart() -> None:
    groups = by_category(
        [
            answered(memory("a"), evidence="a", category="2"),
            answered(memory("x"), evidence="a", category="1"),
            answered(memory("x"), evidence="a"),
        ]
    )
    assert list(groups) == ["1", "2"]
    assert groups["2"]["questions"] == 1
    assert groups["2"]["mrr"] == 1.0


def test_no_questions_are_no_trouble() -> None:
    assert summary([])["mrr"] == 0.0
    assert quantile([], 0.5) == 0.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
