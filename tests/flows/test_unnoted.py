"""Notes of what was seen wait for shared state, and are paid in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.core.errors import StateUnavailable
from gateway.core.identity import Owner, Person
from gateway.flows import unnoted as unnoted_
from gateway.flows.tasks import TaskGroupOfBackground
from gateway.flows.unnoted import Note, Unnoted
from gateway.ports import ConversationState, Deployment

ANN = Owner(Person("default", "ann"), "t1")
BOB = Owner(Person("default", "bob"), "t2")


class State:
    """Shared state that may be away."""

    def __init__(self) -> None:
        self.away = False
        self.noted: list[tuple[str, str, Sequence[str], int]] = []

    async def note_seen(
        self,
        owner: Owner,
        session: str,
        marks: Sequence[str],
        *,
        now: float,
        owed: int,
        injected: None,
    ) -> None:
        if self.away:
            raise StateUnavailable("away")
        self.noted.append((owner.user, session, marks, owed))


def note(*marks: str, session: str = "s", **more: Any) -> Note:
    return Note(session, marks, 1.0, **more)


async def test_notes_are_paid_once_in_their_order_and_each_owners_apart() -> None:
    unnoted, state = Unnoted(), State()
    unnoted.keep(ANN, note("a"))
    unnoted.keep(BOB, note("x"))
    unnoted.keep(ANN, note("a", "b", owed=1))
    for _ in range(2):
        await unnoted.pay(cast(ConversationState, state), ANN)
    assert state.noted == [("ann", "s", ("a",), 0), ("ann", "s", ("a", "b"), 1)]
    assert len(unnoted) == 1


async def test_what_shared_state_could_not_be_told_stays_until_it_can() -> None:
    unnoted, state = Unnoted(), State()
    unnoted.keep(ANN, note("a"))
    state.away = True
    with pytest.raises(StateUnavailable):
        await unnoted.pay(cast(ConversationState, state), ANN)
    assert len(unnoted) == 1
    state.away = False
    await unnoted.pay(cast(ConversationState, state), ANN)
    assert len(unnoted) == 0


async def test_a_note_of_what_was_not_captured_is_never_paid() -> None:
    unnoted, state = Unnoted(), State()
    lost = note("a")
    unnoted.keep(ANN, lost)
    unnoted.drop(ANN, lost)
    unnoted.drop(ANN, lost)
    await unnoted.pay(cast(ConversationState, state), ANN)
    assert state.noted == []


async def test_the_bound_lets_go_of_what_was_unused_longest() -> None:
    unnoted, state = Unnoted(most=4), State()
    unnoted.keep(ANN, note("a", "b"))
    unnoted.keep(BOB, note("x"))
    unnoted.keep(BOB, note("y", "z"))
    assert len(unnoted) == 2
    await unnoted.pay(cast(ConversationState, state), ANN)
    assert state.noted == []


async def test_what_is_left_is_noted_in_the_background_and_before_the_process_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unnoted_, "AGAIN_S", 0.0)
    unnoted, state, background = Unnoted(), State(), TaskGroupOfBackground()
    deployment = SimpleNamespace(
        background=background,
        draining=False,
        services_for=lambda _: SimpleNamespace(state=state),
    )
    state.away = True
    unnoted.keep(ANN, note("a"))
    for _ in range(2):
        unnoted.try_again(cast(Deployment, deployment))
    assert len(background) == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(unnoted) == 1
    state.away = False
    await background.drain(5)
    assert state.noted == [("ann", "s", ("a",), 0)]

    state.away, deployment.draining = True, True
    unnoted.keep(ANN, note("b"))
    unnoted.try_again(cast(Deployment, deployment))
    await background.drain(5)
    assert len(background) == 0, "an end is not held up by a part that is away"


async def test_one_apps_shared_state_that_is_away_does_not_keep_another_apps_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unnoted_, "AGAIN_S", 0.0)
    unnoted, background = Unnoted(), TaskGroupOfBackground()
    states = {"default": State(), "eu": State()}
    states["default"].away = True
    deployment = SimpleNamespace(
        background=background,
        draining=True,
        services_for=lambda app: SimpleNamespace(state=states[app]),
    )
    unnoted.keep(ANN, note("a"))
    unnoted.keep(Owner(Person("eu", "eva"), "t3"), note("e"))
    unnoted.try_again(cast(Deployment, deployment))
    await background.drain(5)
    assert states["eu"].noted == [("eva", "s", ("e",), 0)]
    assert len(unnoted) == 1
