"""Bodies that are not as they should be: the field and what it needs, in JSON's words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.web.checked import check, check_many
from gateway.web.schemas import MemoryChange, MemoryDraft, SearchBody

TYPES = "a fact needs one of profile, preference, interaction, task_state"


@pytest.mark.parametrize(
    ("model", "raw", "message"),
    [
        (SearchBody, {}, "query: this field is needed"),
        (SearchBody, {"query": 5}, "query: a text is needed"),
        (SearchBody, {"query": "x", "types": "profile"}, "types: a list is needed"),
        (SearchBody, {"query": "x", "limit": "a"}, "limit: a whole number is needed"),
        (MemoryChange, {"pinned": "yes"}, "pinned: true or false is needed"),
        (MemoryChange, {"metadata": 5}, "metadata: an object is needed"),
        (MemoryChange, {"colour": "red"}, "colour: there is no such field here"),
        (MemoryDraft, {"text": "x"}, f"type: {TYPES}"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_needs(model: Any, raw: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check(model, raw)
    assert (refused.value.message, refused.value.param) == (message, message.partition(":")[0])


def test_a_body_that_is_no_object_is_told_so() -> None:
    with pytest.raises(BadRequest, match=r"^an object is needed$"):
        check(MemoryChange, [])


def test_one_of_many_is_named_by_its_place() -> None:
    with pytest.raises(BadRequest) as refused:
        check_many(MemoryDraft, [{"text": "x", "type": "profile"}, {"text": "y"}])
    assert (refused.value.message, refused.value.param) == (f"1.type: {TYPES}", "1.type")
