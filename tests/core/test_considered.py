"""What was considered survives packing: whose, why, and why not."""

from __future__ import annotations

from base64 import b64decode, b64encode
from struct import pack, unpack

import pytest

from gateway.core.considered import packed, unpacked
from gateway.core.memory import Memory
from gateway.core.scored import PARTS
from tests.core.recall_memories import candidate

FACT = Memory("mem_1", "fact", "likes tea", 1.0, 1.0, 1.0, type="preference")
TURN = Memory("mem_2", "turn", "I had tea", 1.0, 1.0, 1.0)


def test_each_candidate_comes_back_with_its_score_and_its_reasons() -> None:
    why = {"dense": 0.7512, "lexical": 0.0, "recency": 0.05, "importance": 0.0, "past": -0.3}
    first, second = unpacked(
        packed([candidate(FACT, 1.234567, why), candidate(TURN, -0.5, {"lexical": 1.0}, "weak")])
    )
    assert (first["id"], first["kind"], first["type"]) == ("mem_1", "fact", "preference")
    assert first["score"] == 1.234567
    assert first["left_out"] is None
    assert first["why"] == pytest.approx(why, abs=1e-3)
    assert (second["id"], second["kind"], second["type"]) == ("mem_2", "turn", None)
    assert second["left_out"] == "weak"
    assert second["why"] == {"dense": 0, "lexical": 1.0, "recency": 0, "importance": 0}


def test_nothing_considered_is_nothing() -> None:
    assert unpacked(packed([])) == []


def test_a_receipt_written_before_a_part_was_added_is_read() -> None:
    old = packed([candidate(TURN, 1.0, {"dense": 0.5, "rerank": 2.0})] * 2)
    fewer = len(PARTS) - 1
    whys = unpack(f"<{2 * len(PARTS)}e", b64decode(old["why"]))
    kept = [*whys[:fewer], *whys[len(PARTS) : len(PARTS) + fewer]]
    old["why"] = b64encode(pack(f"<{len(kept)}e", *kept)).decode()
    old["parts"] = fewer
    assert [one["why"]["dense"] for one in unpacked(old)] == [0.5, 0.5]


def test_a_score_beyond_all_measure_is_told_as_very_large() -> None:
    (one,) = unpacked(packed([candidate(TURN, 1e9, {"lexical": 1e9})]))
    assert one["score"] == 1e9
    assert one["why"]["lexical"] > 60_000
