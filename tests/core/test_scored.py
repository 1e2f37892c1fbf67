"""What a score is made of: each part in its place, told by its name."""

from __future__ import annotations

from gateway.core.memory import ListName
from gateway.core.ranking import Asked, rank, reranked
from gateway.core.scored import ALWAYS, PARTS
from tests.core.recall_memories import DAY_S, NOW, candidate, fact, found, turn


def test_the_places_of_the_parts_never_change_for_receipts_that_are_kept_have_them_so() -> None:
    assert " ".join(PARTS) == (
        "dense lexical recency importance focus speaker date fact past question links session"
        " repeated rerank outdated"
    )


def test_a_part_of_nought_is_not_told_unless_it_always_is() -> None:
    one = candidate(turn("t", "tea"), 1.0, {"lexical": 1.0, "session": 0.0})
    assert one.why == {"dense": 0.0, "lexical": 1.0, "recency": 0.0, "importance": 0.0}


def test_each_part_has_its_place() -> None:
    memories = [
        turn("t", "tea in May", session="s", days_ago=20),
        turn("q", "tea?", session="s", role="assistant"),
        fact("f", "tea", covers=("t",), importance=0.9),
        fact("p", "tea", type="task_state", valid_to=NOW - DAY_S, days_ago=5),
    ]
    lists: dict[ListName, dict[str, float]] = {
        "lexical": {"f": 9.0, "t": 8.0, "q": 2.0, "p": 1.0},
        "dense": {"f": 0.9, "t": 0.5, "q": 0.2},
    }
    asked = Asked("And tea in May?\nWe had cake.", focus="And tea in May?")
    scored = rank(asked, found(memories, lists), now=NOW, outdated={"t"})
    whys = {s.memory.id: s.why for s in reranked(scored, [1.0, 0.5])}
    assert ALWAYS | {"focus", "speaker", "date", "links", "session"} <= whys["t"].keys()
    assert whys["t"]["outdated"] < 0.0
    assert whys["t"]["repeated"] < 0.0
    assert whys["q"]["question"] < 0.0
    assert whys["p"]["past"] < 0.0
    assert whys["f"]["fact"] > 0.0
    assert {name for why in whys.values() for name in why} == set(PARTS)
