"""What the settings change about remembering, seen from a conversation to the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.exchange import Turn
from gateway.core.identity import Person
from gateway.flows import curate
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.flows.workshop import DAY, ScriptedModel, Workshop, fact, workshop
from tests.web.house import house

if TYPE_CHECKING:
    from redis.asyncio import Redis

SPANISH = fact("User wants Spanish", type="preference", key="language", value="es")
TITLE = (
    "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat"
    " history.\n### Chat History:\n<chat_history>\nUSER: a snack?\n</chat_history>"
)


@pytest.mark.parametrize("skip", [True, False])
async def test_a_front_ends_own_call_is_remembered_where_skipping_is_off(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, skip: bool
) -> None:
    memory = {"skip_housekeeping": skip}
    async with house(tmp_path, upstream.base_url, redis, memory=memory) as gateway:
        async with gateway.client(x_memory_user="ana") as client:
            asked = {"model": "m", "messages": [{"role": "user", "content": TITLE}]}
            answer = await client.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200
        assert len(await gateway.handed_over()) == (0 if skip else 1)


@pytest.mark.parametrize("allowed", [True, False])
async def test_what_a_tool_returned_counts_only_where_it_is_allowed(
    tmp_path: Path, redis: Redis, model: ScriptedModel, allowed: bool
) -> None:
    flight = fact("Flight LH 12 leaves at nine", type="interaction", turn=2, quote="LH 12: 09:00")
    said = (Turn(0, "user", "When do I fly?", 0.0), Turn(1, "tool", "LH 12: 09:00", 0.0))
    async with workshop(tmp_path, redis, model, extraction={"tool_output": allowed}) as shop:
        await shop.learn(*said, facts=[flight])
        assert await shop.active() == (["Flight LH 12 leaves at nine"] if allowed else [])
        assert [t.text for t in await shop.turns()] == [t.text for t in said][: 1 + allowed]
        assert shop.count("extraction_dropped_facts", reason="tool_output") == (not allowed)


@pytest.mark.parametrize(
    ("rank", "in_force"),
    [(["user", "api", "import", "chat"], "User wants English"), (["chat", "api"], SPANISH["text"])],
)
async def test_which_origin_outranks_which_is_a_setting(
    tmp_path: Path, redis: Redis, model: ScriptedModel, rank: list[str], in_force: str
) -> None:
    async with workshop(tmp_path, redis, model, extraction={"rank": rank}) as shop:
        await shop.know("User wants English", type="preference", key="language", value="en")
        await shop.learn("En español, por favor", facts=[SPANISH])
        assert await shop.active() == [in_force]


async def test_what_was_superseded_can_be_put_in_force_again_and_stays(shop: Workshop) -> None:
    def home(place: str, **more: Any) -> dict[str, Any]:
        return fact(f"User lives in {place}", key="home", value=place, **more)

    await shop.learn("I live in Bonn", facts=[home("Bonn")])
    await shop.learn("I moved to Rome", facts=[home("Rome", action="supersede", target=1)])
    bonn = next(m for m in await shop.memories() if m.value == "Bonn")
    assert (bonn.status, bonn.superseded_by is not None) == ("superseded", True)
    changes = {"status": "active"}
    owner = await shop.owner()
    await curate.correct(
        shop.services, shop.settings, owner, bonn.id, changes, via="user", now=shop.now
    )
    assert await shop.active() == ["User lives in Bonn"]
    rome = next(m for m in await shop.memories() if m.value == "Rome")
    assert rome.superseded_by == bonn.id
    await shop.learn("I moved to Rome", facts=[home("Rome", action="supersede", target=1)])
    assert await shop.active() == ["User lives in Bonn"], "a person's word outranks a chat's"


async def test_what_was_taken_back_can_be_put_in_force_again(shop: Workshop) -> None:
    await shop.learn("I own a boat", facts=[fact("User owns a boat")])
    await shop.learn("I sold my boat", facts=[fact("", action="retract", target=1)])
    (boat,) = await shop.memories()
    assert (boat.status, boat.text) == ("superseded", "User owns a boat")
    owner, changes = await shop.owner(), {"status": "active"}
    await curate.correct(
        shop.services, shop.settings, owner, boat.id, changes, via="user", now=shop.now
    )
    assert await shop.active() == ["User owns a boat"]


async def test_small_talk_is_asked_about_in_the_app_that_wants_it(
    tmp_path: Path, redis: Redis, model: ScriptedModel
) -> None:
    curious = {"extraction": {"skip_trivial": False}}
    async with workshop(tmp_path, redis, model, apps={"curious": curious}) as shop:
        for app in ("default", "curious"):
            owner = await shop.services.directory.owner(Person(app, "ana"), create=True)
            assert owner is not None
            await shop.services.queue.put(owner, shop.exchange("thanks!", "Sure."), now=shop.now)
        await shop.distilled()
        assert len(model.asked) == 1
        assert shop.count("extraction_skipped", reason="trivial") == 1


async def test_a_type_that_an_app_does_not_keep_is_drawn_from_no_chat(
    tmp_path: Path, redis: Redis, model: ScriptedModel
) -> None:
    async with workshop(tmp_path, redis, model, privacy={"deny_types": ["profile"]}) as shop:
        await shop.learn("I live in Bonn", facts=[fact("User lives in Bonn"), SPANISH])
        assert await shop.active() == ["User wants Spanish"]
        assert shop.count("extraction_dropped_facts", reason="type_not_allowed") == 1


async def test_a_project_has_one_state_and_carries_its_name(shop: Workshop) -> None:
    def state(text: str, project: str) -> dict[str, Any]:
        return fact(text, type="task_state", key=project, value=text)

    await shop.learn("Apollo: version 2", facts=[state("Version 2 drafted", "apollo")])
    await shop.learn("Hermes began", facts=[state("Hermes began", "hermes")])
    await shop.learn("Apollo: version 3", facts=[state("Version 3, pending review", "apollo")])
    by_text = {m.text: m for m in await shop.memories()}
    assert by_text["Version 3, pending review"].metadata == {"project": "apollo"}
    assert by_text["Version 2 drafted"].status == "superseded"
    assert by_text["Hermes began"].status == "active"
    keep = shop.settings.retention.task_state
    assert keep == "90d"
    expires_at = by_text["Hermes began"].expires_at
    assert expires_at is not None
    assert expires_at - shop.now < 90 * DAY
