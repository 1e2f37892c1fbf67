"""Conversation state on a real redis-server: sessions, what is new, limits, erasure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.redis_state import CHUNK, MOST_MARKS, RedisState
from gateway.core.errors import OwnerGone, StateUnavailable
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Instant
from gateway.ports import Conversation, Injected, Opening

NOON = 1_790_000_000.0
GAP = 6 * 3600.0
DAY = 86_400.0


@pytest.fixture
def state(redis: Redis) -> RedisState:
    return RedisState(redis, AesGcmCipher())


@pytest.fixture
def ann() -> Owner:
    return new_owner(Person("default", "ann"))


def said(text: str) -> tuple[str, ...]:
    """Marks as `core/capture` makes them: each covers a message and its predecessor."""
    words = text.split()
    return tuple(f"{before}>{word}" for before, word in zip(["", *words], words, strict=False))


async def opened(
    state: RedisState, owner: Owner, text: str, *, session: str | None = None, at: Instant = NOON
) -> Conversation:
    return await state.open(owner, Opening(said(text), session, at, GAP))


async def answered(
    state: RedisState, owner: Owner, text: str, *, session: str | None = None, at: Instant = NOON
) -> Conversation:
    """A request and, after its answer (the last word), the note that all of it was seen."""
    *request, _ = text.split()
    found = await opened(state, owner, " ".join(request), session=session, at=at)
    await state.note_seen(owner, found.session, said(text), now=at)
    return found


# --- which conversation, and what is new --------------------------------------------------


async def test_a_first_message_begins_a_conversation_in_which_all_is_new(
    state: RedisState, ann: Owner
) -> None:
    found = await opened(state, ann, "u1")
    assert found.session.startswith("ses_")
    assert found.fresh == 1
    assert found.injected == ()
    assert found.recalled_for is None


async def test_the_next_message_continues_it_and_alone_is_new(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    second = await opened(state, ann, "u1 a1 u2")
    assert (second.session, second.fresh) == (first.session, 1)


async def test_opening_words_that_come_again_once_it_went_on_begin_another(
    state: RedisState, ann: Owner
) -> None:
    async def said_and_answered(text: str, turn: str) -> Conversation:
        *request, _ = text.split()
        marks = said(" ".join(request))
        found = await state.open(ann, Opening(marks, None, NOON, GAP, turn=turn))
        await state.note_seen(ann, found.session, said(text), now=NOON)
        return found

    first = await said_and_answered("hi hello", turn=">hi")
    again = await said_and_answered("hi hello", turn=">hi")
    assert (again.session, again.fresh) == (first.session, 0)  # a retry: nothing came between
    await said_and_answered("hi hello u2 a2", turn="hello>u2")
    other = await said_and_answered("hi hello", turn=">hi")
    assert (other.session != first.session, other.fresh) == (True, 1)
    then = await said_and_answered("hi hello v2 b2", turn="hello>v2")
    assert (then.session, then.fresh) == (other.session, 1)
    back = await said_and_answered("hi hello u2 a2 u3 a3", turn="a2>u3")
    assert (back.session, back.fresh) == (first.session, 1)


async def test_what_tools_answered_is_not_going_on(state: RedisState, ann: Owner) -> None:
    first = await state.open(ann, Opening(said("u1"), None, NOON, GAP, turn=">u1"))
    loop = await state.open(ann, Opening(said("u1 calls tool"), None, NOON, GAP, turn=">u1"))
    await state.note_seen(ann, loop.session, said("u1 calls tool"), now=NOON)
    again = await state.open(ann, Opening(said("u1"), None, NOON, GAP, turn=">u1"))
    assert first.session == loop.session == again.session
    assert again.fresh == 0


async def test_an_answer_that_is_known_by_itself_continues_it_too(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "wrapped a1")
    await state.note_seen(ann, first.session, ("a1",), now=NOON)
    changed = Opening(said("u1 a1 u2 u3"), None, NOON, GAP, alone=("a1", 2))
    found = await state.open(ann, changed)
    assert (found.session, found.fresh) == (first.session, 2)


async def test_an_answer_that_is_known_in_its_place_needs_nothing_else(
    state: RedisState, ann: Owner
) -> None:
    other = await answered(state, ann, "v1 a1")
    await state.note_seen(ann, other.session, ("a1",), now=NOON)
    first = await answered(state, ann, "u1 a1")
    found = await state.open(ann, Opening(said("u1 a1 u2"), None, NOON, GAP, alone=("a1", 1)))
    assert (found.session, found.fresh) == (first.session, 1)


async def test_an_answer_that_the_client_changed_is_not_known_but_the_conversation_is(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    second = await opened(state, ann, "u1 A1-trimmed u2")
    assert (second.session, second.fresh) == (first.session, 2)


async def test_a_client_that_sends_only_its_last_messages_keeps_its_session(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    history = "u1 a1"
    for n in range(2, 12):
        *_, request = history, f"{history} u{n}"
        window = " ".join(request.split()[-6:])
        found = await opened(state, ann, window, at=NOON + n)
        assert (found.session, found.fresh) == (first.session, 1), window
        history = f"{request} a{n}"
        await state.note_seen(ann, found.session, said(f"{window} a{n}"), now=NOON + n)


async def test_a_retry_before_anything_was_seen_is_the_same_conversation_and_still_new(
    state: RedisState, ann: Owner
) -> None:
    first = await opened(state, ann, "u1")
    again = await opened(state, ann, "u1", at=NOON + 8)
    assert (again.session, again.fresh) == (first.session, 1)


async def test_concurrent_tries_of_a_first_message_agree_on_the_session(
    state: RedisState, ann: Owner
) -> None:
    found = await asyncio.gather(*(opened(state, ann, "u1", at=NOON + n) for n in range(8)))
    assert len({conversation.session for conversation in found}) == 1
    assert {conversation.fresh for conversation in found} == {1}


async def test_a_regenerated_answer_finds_nothing_new(state: RedisState, ann: Owner) -> None:
    first = await answered(state, ann, "u1 a1")
    again = await opened(state, ann, "u1", at=NOON + 60)
    assert (again.session, again.fresh) == (first.session, 0)


async def test_a_tool_loop_stays_in_its_conversation_and_all_of_it_is_new_at_its_end(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    for n, request in enumerate(["u1 a1 u2", "u1 a1 u2 call t1", "u1 a1 u2 call t1 call2 t2"]):
        found = await opened(state, ann, request)
        assert (found.session, found.fresh) == (first.session, 1 + 2 * n)


async def test_a_tool_loop_in_the_first_turn_stays_in_its_conversation(
    state: RedisState, ann: Owner
) -> None:
    first = await opened(state, ann, "u1")
    found = await opened(state, ann, "u1 call t1")
    assert (found.session, found.fresh) == (first.session, 3)


async def test_an_edited_message_branches_within_its_conversation(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    await answered(state, ann, "u1 a1 u2 a2")
    found = await opened(state, ann, "u1 a1 other")
    assert (found.session, found.fresh) == (first.session, 1)


async def test_an_idle_gap_starts_a_new_session_without_taking_old_messages_for_new(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    later = await opened(state, ann, "u1 a1 u2", at=NOON + GAP + 1)
    assert later.session != first.session
    assert later.fresh == 1
    again = await opened(state, ann, "u1 a1 u2", at=NOON + GAP + 9)
    assert (again.session, again.fresh) == (later.session, 1)


async def test_activity_keeps_a_session_open(state: RedisState, ann: Owner) -> None:
    first = await answered(state, ann, "u1 a1")
    await answered(state, ann, "u1 a1 u2 a2", at=NOON + GAP - 60)
    found = await opened(state, ann, "u1 a1 u2 a2 u3", at=NOON + 2 * GAP - 120)
    assert found.session == first.session


async def test_the_same_opening_words_on_another_day_are_said_anew(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "hello a1")
    later = await opened(state, ann, "hello", at=NOON + DAY)
    assert later.session != first.session
    assert later.fresh == 1
    retry = await opened(state, ann, "hello", at=NOON + DAY + 5)
    assert (retry.session, retry.fresh) == (later.session, 1)


async def test_a_session_that_the_client_names_wins(state: RedisState, ann: Owner) -> None:
    await answered(state, ann, "u1 a1")
    found = await opened(state, ann, "u1 a1 u2", session="thread-7")
    assert (found.session, found.fresh) == ("thread-7", 1)


async def test_the_same_words_in_another_named_session_are_said_anew(
    state: RedisState, ann: Owner
) -> None:
    await answered(state, ann, "hello a1", session="one")
    assert (await opened(state, ann, "hello", session="two")).fresh == 1
    assert (await opened(state, ann, "hello", session="two")).fresh == 1
    assert (await opened(state, ann, "hello", session="one")).session == "one"


async def test_a_client_that_stops_naming_its_session_stays_in_it(
    state: RedisState, ann: Owner
) -> None:
    await answered(state, ann, "u1 a1", session="thread ü")
    found = await opened(state, ann, "u1 a1 u2")
    assert (found.session, found.fresh) == ("thread ü", 1)


async def test_a_loop_longer_than_the_first_look_still_finds_its_conversation(
    state: RedisState, ann: Owner
) -> None:
    first = await answered(state, ann, "u1 a1")
    loop = " ".join(f"t{n}" for n in range(CHUNK + 40))
    found = await opened(state, ann, f"u1 a1 u2 {loop}")
    assert (found.session, found.fresh) == (first.session, CHUNK + 41)


async def test_a_long_history_at_first_sight_is_new_and_later_known(
    state: RedisState, ann: Owner
) -> None:
    history = " ".join(f"m{n}" for n in range(1, 200))
    found = await opened(state, ann, history)
    assert found.fresh == 199
    await state.note_seen(ann, found.session, said(f"{history} a"), now=NOON)
    assert (await opened(state, ann, " ".join(history.split()[:50]) + " branch")).fresh == 1
    assert (await opened(state, ann, f"{history} a next")).fresh == 1


async def test_a_gigantic_history_is_looked_at_from_its_end(state: RedisState, ann: Owner) -> None:
    history = " ".join(f"m{n}" for n in range(MOST_MARKS + 500))
    assert (await opened(state, ann, history)).fresh == MOST_MARKS


async def test_a_request_without_messages_of_its_own_has_a_session_too(
    state: RedisState, ann: Owner
) -> None:
    found = await opened(state, ann, "")
    assert found.fresh == 0
    assert found.session


async def test_two_owners_with_the_same_words_do_not_meet(state: RedisState, ann: Owner) -> None:
    bob = new_owner(Person("default", "bob"))
    hers = await answered(state, ann, "u1 a1")
    his = await opened(state, bob, "u1 a1 u2")
    assert his.session != hers.session
    assert his.fresh == 3


async def test_what_was_seen_is_known_for_thirty_days_of_use_and_then_let_go(
    state: RedisState, ann: Owner, redis: Redis
) -> None:
    await answered(state, ann, "old a1", session="s")
    await opened(state, ann, "old a1 x", session="s", at=NOON + 31 * DAY)  # a new generation
    assert (await opened(state, ann, "old a1 y", session="s", at=NOON + 31 * DAY)).fresh == 1
    await opened(state, ann, "z", session="s", at=NOON + 62 * DAY)
    assert (await opened(state, ann, "old a1 y", session="s", at=NOON + 62 * DAY)).fresh == 3


async def test_a_conversation_keeps_what_was_injected_over_generations(
    state: RedisState, ann: Owner
) -> None:
    found = await answered(state, ann, "u1 a1", session="s")
    await state.note_injected(ann, found.session, Injected(("m1",), "t"), now=NOON)
    for n in range(1, 4):
        found = await opened(state, ann, f"u{n}", session="s", at=NOON + n * 31 * DAY)
        assert found.injected == ("m1",)


# --- what was injected ---------------------------------------------------------------------


async def test_what_was_injected_is_replaced_as_a_list_in_order(
    state: RedisState, ann: Owner
) -> None:
    session = (await opened(state, ann, "u1")).session
    await state.note_injected(ann, session, Injected(("m2", "m1"), "turn-1"), now=NOON)
    await state.note_injected(ann, session, Injected(("m2", "m1", "m3"), "turn-2"), now=NOON)
    found = await opened(state, ann, "u1")
    assert found.injected == ("m2", "m1", "m3")
    assert found.recalled_for == "turn-2"


async def test_what_was_injected_is_noted_in_one_go_with_what_was_seen(
    state: RedisState, ann: Owner
) -> None:
    session = (await opened(state, ann, "u1")).session
    block = Injected(("m2", "m1"), "turn-1")
    await state.note_seen(ann, session, said("u1 a1"), now=NOON, injected=block)
    found = await opened(state, ann, "u1 a1 u2")
    assert (found.fresh, found.injected, found.recalled_for) == (1, ("m2", "m1"), "turn-1")
    await state.note_seen(ann, session, said("u1 a1 u2 a2"), now=NOON)
    assert (await opened(state, ann, "u1 a1 u2 a2 u3")).injected == ("m2", "m1")


async def test_the_standing_version_changes_with_every_touch_and_never_comes_back(
    state: RedisState, ann: Owner
) -> None:
    versions = [(await opened(state, ann, "u1")).standing_version]
    assert await state.standing_version(ann.tenant) == versions[0]
    for _ in range(3):
        await state.touch_standing(ann.tenant)
        versions.append((await opened(state, ann, "u1")).standing_version)
        assert await state.standing_version(ann.tenant) == versions[-1]
    assert len(set(versions)) == 4
    assert "" not in versions


# --- limits, answers, rates ------------------------------------------------------------------


async def test_what_a_model_could_not_take_is_remembered_per_app_and_model(
    state: RedisState,
) -> None:
    assert await state.limits("default", "m") == {}
    await state.remember_limit("default", "m", {"max_chars": 900})
    await state.remember_limit("default", "m", {"no_system": True})
    assert await state.limits("default", "m") == {"max_chars": 900, "no_system": True}
    assert await state.limits("default", "other") == {}
    assert await state.limits("other", "m") == {}


async def test_another_process_learns_of_a_limit(redis: Redis) -> None:
    one, other = RedisState(redis, AesGcmCipher()), RedisState(redis, AesGcmCipher())
    await one.remember_limit("default", "m", {"max_chars": 900})
    assert await other.limits("default", "m") == {"max_chars": 900}


async def test_the_first_answer_to_an_idempotency_key_stays(state: RedisState, ann: Owner) -> None:
    bob = new_owner(Person("default", "bob"))
    assert await state.once(ann, "k") is None
    assert await state.once(ann, "k", b"first") == b"first"
    assert await state.once(ann, "k", b"second") == b"first"
    assert await state.once(ann, "k") == b"first"
    assert await state.once(bob, "k") is None


async def test_a_minutes_worth_of_requests_is_allowed_and_then_a_wait_is_told(
    state: RedisState,
) -> None:
    waits = [await state.allow("key:1", 1, 6, now=NOON) for _ in range(7)]
    assert waits[:6] == [0.0] * 6
    assert waits[6] == pytest.approx(10.0)
    assert await state.allow("key:1", 1, 6, now=NOON + 9) == pytest.approx(1.0)
    assert await state.allow("key:1", 1, 6, now=NOON + 10) == 0.0
    assert await state.allow("key:2", 1, 6, now=NOON) == 0.0


async def test_a_charge_is_always_taken_and_closes_the_bucket_until_it_is_paid(
    state: RedisState,
) -> None:
    assert await state.allow("tokens", 0, 600, now=NOON) == 0.0
    await state.charge("tokens", 1200, 600, now=NOON)
    assert await state.allow("tokens", 0, 600, now=NOON) == pytest.approx(60.1)
    assert await state.allow("tokens", 0, 600, now=NOON + 61) == 0.0


async def test_a_cost_above_a_minutes_worth_goes_through_a_full_bucket(state: RedisState) -> None:
    assert await state.allow("big", 50, 10, now=NOON) == 0.0
    assert await state.allow("big", 1, 10, now=NOON) == pytest.approx(246.0)
    assert await state.allow("none", 1, 0, now=NOON) > 0


# --- erasure, and what rests -----------------------------------------------------------------


async def fill(state: RedisState, owner: Owner) -> str:
    found = await answered(state, owner, "u1 a1", session="secretsession")
    await state.note_injected(owner, found.session, Injected(("secretid",), "t"), now=NOON)
    await state.once(owner, "secretkey", b"secretanswer")
    return found.session


async def test_erasure_removes_every_key_of_a_tenant_and_count_tells_what_is_left(
    state: RedisState, ann: Owner, redis: Redis
) -> None:
    bob = new_owner(Person("default", "bob"))
    await fill(state, ann)
    await fill(state, bob)
    before = await state.count(ann.tenant)
    assert before > 0
    assert await state.erase(ann.tenant) == before
    assert await state.count(ann.tenant) == 0
    left = [key async for key in redis.scan_iter(f"*{ann.tenant}*")]
    assert [key.decode().split(":")[1] for key in left] == ["gone"]
    assert await state.count(bob.tenant) == before


async def test_nothing_in_flight_writes_an_erased_tenant_back(
    state: RedisState, ann: Owner
) -> None:
    session = await fill(state, ann)
    await state.erase(ann.tenant)
    await state.note_seen(ann, session, said("u1 a1 u2"), now=NOON)
    await state.note_injected(ann, session, Injected(("m",), "t"), now=NOON)
    await state.touch_standing(ann.tenant)
    await state.once(ann, "late", b"answer")
    with pytest.raises(OwnerGone):
        await opened(state, ann, "u1")
    assert await state.count(ann.tenant) == 0


async def test_no_words_rest_in_redis_and_every_key_ends(
    state: RedisState, ann: Owner, redis: Redis
) -> None:
    await fill(state, ann)
    await state.remember_limit("default", "m", {"max_chars": 9})
    await state.allow("b", 1, 5, now=NOON)
    keys = [key async for key in redis.scan_iter("*")]
    assert len(keys) >= 6
    for key in keys:
        assert await redis.ttl(key) > 0, key
        assert b"secret" not in key + await redis.dump(key)


async def test_keys_of_a_tenant_share_one_slot(state: RedisState, ann: Owner, redis: Redis) -> None:
    await fill(state, ann)
    keys = [key async for key in redis.scan_iter(f"*{ann.tenant}*")]
    assert {key.split(b":")[0] for key in keys} == {f"{{p{ann.partition}}}".encode()}


# --- Redis itself ------------------------------------------------------------------------------


async def test_scripts_that_redis_lost_are_sent_again(
    state: RedisState, ann: Owner, redis: Redis
) -> None:
    await opened(state, ann, "u1")
    await redis.script_flush()
    assert (await opened(state, ann, "u1")).fresh == 1


@pytest.fixture
async def away() -> AsyncIterator[RedisState]:
    async with Redis(host="127.0.0.1", port=1, retry=None) as client:
        yield RedisState(client, AesGcmCipher())


async def test_an_absent_redis_is_unavailable_and_never_an_empty_answer(
    away: RedisState, ann: Owner
) -> None:
    calls: list[Any] = [
        opened(away, ann, "u1"),
        away.note_seen(ann, "s", said("u1"), now=NOON),
        away.note_injected(ann, "s", Injected((), "t"), now=NOON),
        away.touch_standing(ann.tenant),
        away.standing_version(ann.tenant),
        away.limits("default", "m"),
        away.remember_limit("default", "m", {"a": 1}),
        away.once(ann, "k"),
        away.allow("b", 1, 1, now=NOON),
        away.charge("b", 1, 1, now=NOON),
        away.erase(ann.tenant),
        away.count(ann.tenant),
        away.ping(),
    ]
    for call in calls:
        with pytest.raises(StateUnavailable):
            await call
