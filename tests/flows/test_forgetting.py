"""What was to be forgotten stays forgotten, whenever older words arrive; newer words count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.core.identity import new_owner
from gateway.core.memory import Memory, Probe, Where
from gateway.core.stored import body_of
from gateway.core.tombstone import Forgotten
from gateway.flows import curate
from tests.flows.workshop import DAY, NOW, Workshop, fact

START = NOW - 10 * DAY
JAZZ = fact("User likes jazz", type="preference", key="likes", value="jazz", quote="I like jazz")
GONE = fact("", action="retract", target=1, quote="Forget that I like jazz")


def day(n: float) -> float:
    return START + n * DAY


async def jazz(shop: Workshop, n: float, answer: Mapping[str, Any] = JAZZ) -> None:
    """Said on that day, and distilled now."""
    await shop.learn("I like jazz", "Lovely.", facts=[answer], at=day(n))


async def forget(shop: Workshop, n: float) -> None:
    await shop.learn("Forget that I like jazz", "Done.", facts=[GONE], at=day(n))


async def words(shop: Workshop) -> list[str]:
    """All that is stored of this user, turns too, except what the assistant said."""
    stored = await shop.memories(kinds=("fact", "turn"))
    return [m.text for m in stored if m.text and m.source.role == "user"]


async def test_older_words_that_arrive_late_do_not_bring_it_back(shop: Workshop) -> None:
    await jazz(shop, 3)
    await forget(shop, 5)
    await jazz(shop, 1)
    assert await words(shop) == []
    assert shop.count("extraction_skipped", reason="forgotten") == 1
    assert shop.count("extracted_facts", action="add") == 1
    probe = Probe("jazz", Where(kinds=("turn", "fact"), statuses=()))
    found = await shop.services.store.search(await shop.owner(), probe)
    assert not any(found.lists.values()), "nor is it found by the words of what stood beside it"


async def test_the_answer_that_repeats_it_goes_along_and_others_stay(shop: Workshop) -> None:
    await shop.learn("I like jazz", "Jazz it is, then.", facts=[JAZZ], at=day(3))
    await shop.learn("Which tea is from Assam?", "A strong one.", at=day(4))
    await forget(shop, 5)
    assert [turn.text for turn in await shop.turns()] == [
        "Which tea is from Assam?",
        "A strong one.",
    ]


async def test_newer_words_are_kept_as_what_they_are(shop: Workshop) -> None:
    await jazz(shop, 3)
    await forget(shop, 5)
    await jazz(shop, 7)
    assert await words(shop) == ["User likes jazz", "I like jazz"]
    await jazz(shop, 1)
    (memory,) = await shop.memories(statuses=("active",))
    assert memory.created_at == day(7), "what was said before counts no more as its evidence"
    assert len(memory.covers) == 1


async def test_a_wish_to_forget_that_arrives_late_leaves_what_was_said_after_it(
    shop: Workshop,
) -> None:
    await jazz(shop, 3)
    await jazz(shop, 7)
    await forget(shop, 5)
    (memory,) = await shop.memories(statuses=("active",))
    assert (memory.text, memory.created_at) == ("User likes jazz", day(7))
    assert [t.created_at for t in await shop.turns() if t.source.role == "user"] == [day(7)]
    await jazz(shop, 1)
    assert await words(shop) == ["User likes jazz", "I like jazz"]


async def test_what_was_given_up_late_stands_where_it_was_told_again(shop: Workshop) -> None:
    await jazz(shop, 3)
    await jazz(shop, 7)
    ended = fact("", action="retract", target=1)
    await shop.learn("I can't stand jazz any more", facts=[ended], at=day(5))
    chain = [(m.status, m.created_at) for m in await shop.memories()]
    assert chain == [("superseded", day(3)), ("active", day(7))]


@pytest.mark.parametrize(
    ("text", "answer", "keyed"),
    [
        ("I like jazz", {"text": "User is a jazz lover", "key": None, "value": None}, False),
        ("Jazz is what I like", {"text": "User enjoys jazz"}, False),
        ("Jazz, that's mine", {"text": "User is into it", "value": "Jazz"}, True),
    ],
    ids=["the user's own words", "the same words in another order", "the same value"],
)
async def test_it_is_known_again_by_its_words_its_value_or_what_it_rested_on(
    shop: Workshop, text: str, answer: Mapping[str, Any], keyed: bool
) -> None:
    known = JAZZ if keyed else {**JAZZ, "key": None, "value": None}
    await jazz(shop, 3, known)
    await forget(shop, 5)
    await shop.learn(text, facts=[{**known, "quote": text, **answer}], at=day(1))
    assert await words(shop) == []


async def test_what_else_was_said_in_the_same_words_is_kept(shop: Workshop) -> None:
    said = "I like jazz and live in Rome"
    home = fact("User lives in Rome", key="home", value="Rome", quote=said)
    both = [{**JAZZ, "quote": said}, home]
    await shop.learn(said, facts=both[:1], at=day(3))
    await forget(shop, 5)
    await shop.learn(said, facts=both, at=day(1))
    assert await shop.active() == ["User lives in Rome"]


async def test_a_fact_deleted_through_the_api_is_not_learned_from_what_was_said_before(
    shop: Workshop,
) -> None:
    await jazz(shop, 3)
    await shop.said("I like jazz")
    (memory,) = await shop.memories()
    await curate.forget(shop.services, await shop.owner(), memory.id, now=shop.now + 1)
    shop.model.answers = [[JAZZ], [JAZZ]]
    await shop.distilled()
    assert await words(shop) == []
    await shop.said("I like jazz")
    await shop.distilled()
    assert await words(shop) == ["User likes jazz", "I like jazz"]


async def test_what_it_had_put_an_end_to_does_not_hold_again(shop: Workshop) -> None:
    def home(place: str) -> dict[str, Any]:
        return fact(f"User lives in {place}", key="home", value=place)

    await shop.learn("I live in Linz", facts=[home("Linz")], at=day(2))
    await shop.learn("I live in Rome", facts=[home("Rome")], at=day(6))
    gone = fact("", action="retract", target=1)
    await shop.learn("Forget where I live", facts=[gone], at=day(7))
    await shop.learn("I live in Bonn", facts=[home("Bonn")], at=day(4))
    assert await shop.active() == [], "Rome had taken its place, and nothing took Rome's"
    bonn = next(m for m in await shop.memories() if m.value == "Bonn")
    assert (bonn.status, bonn.valid_to) == ("superseded", day(6))


async def test_a_late_value_that_was_forgotten_ends_the_one_before_it(shop: Workshop) -> None:
    def home(place: str) -> dict[str, Any]:
        return fact(f"User lives in {place}", key="home", value=place)

    await shop.learn("I live in Bonn", facts=[home("Bonn")], at=day(3))
    gone = fact("", action="retract", target=1)
    await shop.learn("Forget where I live", facts=[gone], at=day(4))
    await shop.learn("I live in Linz", facts=[home("Linz")], at=day(1))
    await shop.learn("I live in Bonn", facts=[home("Bonn")], at=day(2))
    assert [(m.value, m.status) for m in await shop.memories() if m.value] == [
        ("Linz", "superseded")
    ]


async def test_prints_say_nothing_and_are_the_owners_alone(shop: Workshop) -> None:
    await jazz(shop, 3)
    await forget(shop, 5)
    (stone,) = await shop.memories()
    body = body_of(stone).decode().casefold()
    assert not any(word in body for word in ("jazz", "likes", "i like"))
    assert json.loads(body), "and nothing is hidden in it either"
    other = new_owner((await shop.owner()).person)
    late = _known_again(stone)
    assert Forgotten(await shop.owner(), [stone]).since(late)
    assert not Forgotten(other, [stone]).since(late)


def _known_again(stone: Memory) -> Any:
    from gateway.core.exchange import Exchange, Turn
    from tests.core.test_reconcile import fact as judged

    said = Exchange("exc_late", "s", day(1), (Turn(0, "user", "I like jazz", day(1)),))
    return judged("User likes jazz", said, type="preference", key="likes", value="jazz")


async def test_it_stays_forgotten_where_a_user_has_more_memories_than_one_look_shows(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flows.known.KNOWN_PAGE", 3)
    await jazz(shop, 1)
    await forget(shop, 2)
    for n in range(4):
        await shop.know(f"User owns boat number {n}", at=day(3 + n))
    await jazz(shop, 0)
    assert "User likes jazz" not in await words(shop)


async def test_a_question_about_it_leaves_the_receipts_too(shop: Workshop) -> None:
    owner = await shop.owner()
    await jazz(shop, 3)
    receipt = {
        "id": "rcp_" + "0" * 24,
        "exchange_id": "exc_9",
        "query": "I like jazz",
        "before": "",
    }
    await shop.services.receipts.keep(owner, receipt)
    await forget(shop, 5)
    kept = await shop.services.receipts.get(owner, receipt["id"])
    assert kept is not None
    assert kept["query"] == ""


PORTO = fact("User lives in Porto", key="home", value="Porto", quote="I live in Porto")


async def assistant(shop: Workshop) -> list[str]:
    return [turn.text for turn in await shop.turns() if turn.source.role == "assistant"]


async def test_an_answer_that_arrives_late_with_what_it_repeats_is_not_kept(
    shop: Workshop,
) -> None:
    await jazz(shop, 3)
    await forget(shop, 5)
    late = shop.exchange("I like jazz", "Jazz it is.", "And tea?", "Gladly.", at=day(1))
    shop.model.answers = [[JAZZ]]
    await shop.services.queue.put(await shop.owner(), late, now=shop.now)
    await shop.distilled()
    assert set(await assistant(shop)) == {"Lovely.", "Gladly."}


async def test_an_answer_in_the_batch_that_forgets_is_not_kept(shop: Workshop) -> None:
    await shop.learn("I like jazz", "Fine.", facts=[JAZZ], at=day(1))
    again = {**JAZZ, "action": "duplicate", "target": 1}
    gone = {**GONE, "turn": 3, "quote": "Remove jazz"}
    await shop.said("I like jazz", "Jazz, then.", at=day(2))
    await shop.learn("Remove jazz", "Done.", facts=[again, gone], at=day(2) + 1)
    assert await assistant(shop) == ["Fine."]


@pytest.mark.parametrize("told_at", [0, 14, 40])
async def test_the_answer_goes_along_wherever_in_a_long_log_it_stands(
    shop: Workshop, told_at: int
) -> None:
    said = [f"word {n}" for n in range(60)]
    said[told_at : told_at + 2] = ["I live in Porto", "Porto, how lovely!"]
    await shop.learn(*said, facts=[{**PORTO, "turn": told_at + 1}])
    assert len(await shop.turns()) == 60
    [home] = await shop.memories()
    await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now)
    assert len(await shop.turns()) == 58


async def given_with(shop: Workshop, memory: Memory, *said: str, n: int) -> str:
    """An answer that was given with this memory in the prompt; the receipt's id."""
    receipt = {"id": f"rcp_{n:024}", "exchange_id": f"given_{n}", "injected": [memory.id]}
    await shop.services.receipts.keep(await shop.owner(), receipt)
    await shop.said(*said, id=receipt["exchange_id"], receipt_id=receipt["id"])
    return str(receipt["id"])


@pytest.mark.parametrize("by", ["chat", "api"])
async def test_answers_of_other_conversations_that_tell_it_go_along(
    shop: Workshop, by: str
) -> None:
    await shop.learn("I live in Porto", "Noted.", facts=[PORTO])
    [home] = await shop.memories()
    await given_with(shop, home, "Where do I live?", "Porto.", n=1)
    await given_with(shop, home, "And a wine?", "A red one.", n=2)
    await shop.learn("Where am I at home?", "You live in Porto, I think.")
    await shop.learn("Where is the Ribeira?", "In Porto.")
    if by == "api":
        await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now)
    else:
        gone = fact("", action="retract", target=1)
        await shop.learn("Forget where I live", "Done.", facts=[gone])
    assert set(await assistant(shop)) - {"Noted."} == {"A red one.", "In Porto."}


async def test_an_answer_given_with_it_and_distilled_after_it_was_forgotten_is_not_kept(
    shop: Workshop,
) -> None:
    await shop.learn("I live in Porto", "Noted.", facts=[PORTO])
    [home] = await shop.memories()
    await given_with(shop, home, "Where do I live?", "Porto.", n=1)
    await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now + 1)
    told = fact("The assistant said: Porto", type="interaction", turn=2, quote="Porto.")
    shop.model.answers = [[told]]
    await shop.distilled()
    assert await assistant(shop) == ["Noted."]
    assert await shop.active() == []


async def test_what_a_worker_is_distilling_meanwhile_is_not_kept(shop: Workshop) -> None:
    await shop.learn("I live in Porto", "Noted.", facts=[PORTO])
    [home] = await shop.memories()

    async def deleted() -> None:
        await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now + 1)

    shop.put_in(queue=_Between(shop.services.queue, deleted))
    await given_with(shop, home, "Where do I live?", "Porto.", n=1)
    again = {**PORTO, "turn": 3, "action": "duplicate", "target": 1}
    await shop.learn("I live in Porto, you know", "Yes, Porto.", facts=[again])
    assert {turn.text for turn in await shop.turns()} == {"Where do I live?", "Noted."}
    assert await shop.active() == []
    shop.now += 2
    await shop.learn("I live in Porto", "Porto!", facts=[PORTO])
    assert await shop.active() == ["User lives in Porto"]


class _Between:
    """A queue: something is done once, between a plan and its writing."""

    def __init__(self, part: Any, done: Any) -> None:
        self._part, self._done = part, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    async def keep_plan(self, *args: Any) -> None:
        await self._part.keep_plan(*args)
        done, self._done = self._done, None
        if done is not None:
            await done()


async def test_an_answer_given_with_what_was_written_through_the_api_goes_with_it(
    shop: Workshop,
) -> None:
    home = await shop.know("User lives in Porto")
    await shop.learn("Where do I live?", "You live in Porto.")
    await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now)
    assert await assistant(shop) == []


async def test_what_was_said_after_the_wish_to_forget_waits_unharmed(shop: Workshop) -> None:
    await shop.learn("I live in Porto", "Noted.", facts=[PORTO])
    gone = fact("", action="retract", target=1, quote="Forget where I live")
    shop.model.answers = [[gone], [PORTO]]
    await shop.said("Forget where I live", "Done.", at=shop.now + 1)
    await shop.said("Forget it, I live in Porto", "Porto it is.", at=shop.now + 2)
    await shop.distilled()
    assert await shop.active() == ["User lives in Porto"]
    assert "Porto it is." in await assistant(shop)


async def test_everything_is_what_was_replaced_and_what_became_no_fact_too(shop: Workshop) -> None:
    def home(place: str) -> dict[str, Any]:
        return fact(f"User lives in {place}", key="home", value=place)

    await shop.learn("I live in Linz", facts=[home("Linz")], at=day(1))
    await shop.learn("I live in Rome", facts=[home("Rome")], at=day(2))
    await shop.learn("My knee hurts", at=day(3))
    gone = fact("", action="retract", target=1)
    await shop.learn("Forget everything about me.", facts=[gone], at=day(5))
    assert await words(shop) == []
    await shop.learn("I live in Bonn", facts=[home("Bonn")], at=day(6))
    assert await words(shop) == ["User lives in Bonn", "I live in Bonn"]


async def test_where_the_model_takes_nothing_back_everything_stays(shop: Workshop) -> None:
    await jazz(shop, 3)
    await shop.learn("Forget everything about me.", at=day(5))
    assert "User likes jazz" in await words(shop)


async def test_who_said_things_that_became_no_facts_can_have_them_forgotten(shop: Workshop) -> None:
    await shop.learn("My knee hurts", at=day(3))
    await shop.learn("Forget everything you know about me.", at=day(5))
    assert "My knee hurts" not in await words(shop)
