"""A client that leaves ends the work, whichever way its server tells of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.web.departure import Departure
from gateway.web.protocol import Connection


class Cycle(SimpleNamespace):
    """What `Connection` reads of uvicorn's."""

    def __init__(self) -> None:
        flow = SimpleNamespace(resume_reading=lambda: None, write_paused=False)
        super().__init__(
            flow=flow, transport=None, disconnected=False, response_complete=False, more_body=True
        )


@pytest.fixture
def cycle() -> Cycle:
    return Cycle()


@pytest.fixture
def watched() -> set[Connection]:
    return set()


@pytest.fixture
def connection(cycle: Cycle, watched: set[Connection]) -> Connection:
    return Connection(cast(RequestResponseCycle, cycle), watched)


async def never() -> Any:
    await asyncio.Event().wait()


async def test_a_server_that_only_answers_is_asked() -> None:
    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    asyncio.get_running_loop().call_soon(gone.set)
    async with Departure(receive) as departure:
        await never()
    assert departure.left


async def test_our_own_server_tells_and_is_not_asked(
    connection: Connection, watched: set[Connection]
) -> None:
    asyncio.get_running_loop().call_soon(connection.lost)
    tasks = len(asyncio.all_tasks())
    async with Departure(never, connection=connection) as departure:
        assert watched == {connection}
        assert len(asyncio.all_tasks()) == tasks
        await never()
    assert departure.left
    assert watched == set()


async def test_who_left_before_is_gone(connection: Connection, cycle: Cycle) -> None:
    cycle.disconnected = True
    async with Departure(never, connection=connection) as departure:
        await never()
    assert departure.left


async def test_who_leaves_with_the_whole_answer_cuts_nothing_short(
    connection: Connection, cycle: Cycle
) -> None:
    async with Departure(never, connection=connection) as departure:
        cycle.response_complete = True
        connection.lost()
        await asyncio.sleep(0)
    assert not departure.left


async def test_after_the_block_nobody_is_told(connection: Connection) -> None:
    async with Departure(never, connection=connection) as departure:
        pass
    connection.lost()
    await asyncio.sleep(0)
    assert not departure.left


def test_whether_the_body_has_come_is_told(connection: Connection, cycle: Cycle) -> None:
    assert not connection.body_is_here
    cycle.more_body = False
    assert connection.body_is_here
