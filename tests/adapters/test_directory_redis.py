"""What only the Redis directory promises: several gateways agree, on what Redis keeps."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.adapters.directory_redis import RedisDirectory
from gateway.adapters.directory_redis.persons import MOST_LINKS
from gateway.adapters.directory_redis.wire import FORMERLY_S
from gateway.adapters.redis_wire import RedisWire
from gateway.config import load
from gateway.core.breaker import FAILURES, FIRST_PAUSE_S, LATE_S
from gateway.core.errors import DirectoryUnavailable, Unprocessable
from gateway.core.identity import Owner, Person
from gateway.core.keys import make_key

NOON = 1_790_000_000.0
ANN = Person("default", "ann")
WIRING: Any = {"clock": lambda: NOON, "settings": load(environ={})}


def gateway(redis: Any, cached_s: float = 0.0) -> RedisDirectory:
    return RedisDirectory(redis, cached_s=cached_s, **WIRING)


async def made(directory: RedisDirectory, person: Person) -> Owner:
    owner = await directory.owner(person, create=True)
    assert owner is not None
    return owner


async def test_what_one_gateway_drops_the_other_does_not_find(redis: Redis) -> None:
    one, other = gateway(redis), gateway(redis)
    owner = await made(one, ANN)
    assert await other.owner(ANN) == owner
    await one.drop(owner)
    assert await other.owner(ANN) is None
    assert await other.by_tenant(owner.tenant) is None


async def test_an_owner_is_kept_for_its_time_without_asking_redis(redis: Redis) -> None:
    directory = gateway(redis, cached_s=60.0)
    owner = await made(directory, ANN)
    await redis.flushall()
    assert await directory.owner(ANN) is owner
    await directory.drop(owner)
    assert await directory.owner(ANN) is None


async def test_a_dropped_key_stands_in_no_key_of_redis(redis: Redis) -> None:
    directory = gateway(redis)
    owner = await made(directory, ANN)
    await directory.link(Person("default", "slack"), ANN)
    await directory.drop(owner)
    for key in [key async for key in redis.scan_iter("*")]:
        assert owner.key not in await redis.dump(key)
        assert owner.tenant.encode() not in key


@pytest.mark.parametrize("wire", [False, True])
async def test_a_dropped_key_leaves_the_append_only_file_when_it_is_compacted(
    redis: Redis, redis_server: str, wire: bool
) -> None:
    client: Any = RedisWire(redis_server, timeout_s=5) if wire else redis
    await redis.config_set("appendonly", "yes")
    await settled(redis)
    folder = Path((await redis.config_get("dir"))["dir"])
    directory = gateway(client)
    owner, other = await made(directory, ANN), await made(directory, Person("default", "bob"))
    await directory.drop(owner)
    async with asyncio.timeout(10):
        while owner.key not in log_of(folder):  # written every second
            await asyncio.sleep(0.01)
    await directory.compact()
    await settled(redis)
    assert owner.key not in log_of(folder)
    assert other.key in log_of(folder)
    forks = (await redis.info("stats"))["total_forks"]
    await directory.compact()  # nothing was dropped since: Redis is not bothered
    assert (await redis.info("stats"))["total_forks"] == forks
    if wire:
        await client.aclose()


def log_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def settled(redis: Redis) -> None:
    async with asyncio.timeout(10):
        while (told := await redis.info("persistence")) and (
            told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"]
        ):
            await asyncio.sleep(0.01)


async def test_two_operators_that_link_crosswise_make_no_cycle(redis: Redis) -> None:
    bob = Person("default", "bob")
    results = await asyncio.gather(
        gateway(redis).link(ANN, bob), gateway(redis).link(bob, ANN), return_exceptions=True
    )
    assert [type(result) for result in results].count(Unprocessable) == 1
    assert await redis.exists("dir:linking") == 0


async def test_a_row_of_links_has_an_end(redis: Redis) -> None:
    directory = gateway(redis)
    row = [Person("default", f"p{n}") for n in range(MOST_LINKS)]
    for identity, person in pairwise(row):
        await directory.link(identity, person)
    assert (await made(directory, row[0])).person == row[-1]
    with pytest.raises(Unprocessable):
        await directory.link(row[-1], ANN)


async def test_names_of_users_stand_in_no_key_of_a_person(redis: Redis) -> None:
    directory = gateway(redis)
    await made(directory, Person("default", "ann@example.com"))
    keys = [key async for key in redis.scan_iter("*")]
    assert not any(b"ann" in key for key in keys)


async def test_a_revoked_key_counts_no_more_at_another_gateway(redis: Redis) -> None:
    one, other = (RedisDirectory(redis, cached_s=0.0, **WIRING) for _ in range(2))
    _, key = make_key("default", now=NOON)
    await one.add(key)
    assert await other.find(key.id) == key
    await one.revoke(key.id, NOON)
    found = await other.find(key.id)
    assert found is not None
    assert found.revoked_at == NOON


async def test_an_absent_redis_is_unavailable_and_never_an_empty_answer() -> None:
    async with Redis(host="127.0.0.1", port=1, retry=None) as client:
        directory = keys = gateway(client)
        owner = Owner(ANN, "t", b"k" * 32)
        calls: list[Any] = [
            directory.owner(ANN),
            directory.owner(ANN, create=True),
            directory.by_tenant("t"),
            directory.incarnations(ANN),
            directory.drop(owner),
            directory.compact(),
            directory.link(ANN, Person("default", "bob")),
            directory.unlink(ANN),
            directory.links(ANN),
            directory.people(),
            directory.erased(),
            directory.erasure("era_1"),
            directory.keep_erasure({"id": "era_1"}),
            directory.ping(),
            keys.find("0" * 12),
            keys.all(),
            keys.revoke("0" * 12, NOON),
            keys.audit({"action": "x"}),
            keys.audited(),
        ]
        for call in calls:
            with pytest.raises(DirectoryUnavailable):
                await call


class Moody:
    """A client of Redis that is away (or hangs) when told so."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.mood = "well"
        self.asked = 0
        self.back = asyncio.Event()

    async def execute_command(self, *command: Any) -> Any:
        self.asked += 1
        if self.mood == "away":
            raise RedisConnectionError("refused")
        if self.mood == "hangs":
            await self.back.wait()
        return await self._client.execute_command(*command)


@pytest.mark.parametrize("mood", ["away", "hangs"])
async def test_who_was_known_stays_known_while_redis_is_away(redis: Redis, mood: str) -> None:
    moody = Moody(redis)
    directory = gateway(moody)
    owner = await made(directory, ANN)
    moody.mood = mood
    async with asyncio.timeout(5):
        assert await directory.owner(ANN) == owner
        assert await directory.owner(ANN, create=True) == owner
    moody.mood = "away"
    with pytest.raises(DirectoryUnavailable):
        await directory.owner(Person("default", "bob"), create=True)


async def test_who_was_erased_meanwhile_is_not_known_once_redis_answers(redis: Redis) -> None:
    moody = Moody(redis)
    directory, other = gateway(moody), gateway(redis)
    owner = await made(directory, ANN)
    moody.mood = "away"
    await other.drop(owner)
    assert await directory.owner(ANN) == owner
    moody.mood = "well"
    assert await directory.owner(ANN) is None
    moody.mood = "away"
    with pytest.raises(DirectoryUnavailable):
        await directory.owner(ANN)


async def test_what_was_known_last_is_gone_by_for_a_bounded_time(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    moody = Moody(redis)
    directory = gateway(moody)
    await made(directory, ANN)
    _, key = make_key("default", now=NOON)
    await directory.add(key)
    assert await directory.find(key.id) == key
    moody.mood = "away"
    assert await directory.find(key.id) == key
    late = time.monotonic() + FORMERLY_S + 1
    monkeypatch.setattr("time.monotonic", lambda: late)
    with pytest.raises(DirectoryUnavailable):
        await directory.owner(ANN)
    with pytest.raises(DirectoryUnavailable):
        await directory.find(key.id)


async def test_a_key_that_was_revoked_meanwhile_is_refused_once_redis_answers(
    redis: Redis,
) -> None:
    moody = Moody(redis)
    directory, other = gateway(moody), gateway(redis)
    _, key = make_key("default", now=NOON)
    await other.add(key)
    assert await directory.find(key.id) == key
    moody.mood = "hangs"
    await other.revoke(key.id, NOON)
    async with asyncio.timeout(5):
        assert await directory.find(key.id) == key
    moody.mood = "well"
    found = await directory.find(key.id)
    assert found is not None
    assert found.revoked_at == NOON


def user(n: int) -> Person:
    return Person("default", f"user {n}")


async def within(seconds: float, directory: RedisDirectory, person: Person) -> Owner | None:
    """As a recall asks: until its deadline."""
    async with asyncio.timeout(seconds):
        return await directory.owner(person, create=True)


async def waited_in_vain(directory: RedisDirectory, times: int = FAILURES) -> None:
    for n in range(times):
        with pytest.raises(TimeoutError):
            await within(LATE_S * 1.2, directory, user(n))


async def test_a_redis_that_hangs_is_waited_for_a_few_times_and_then_not_asked(
    redis: Redis,
) -> None:
    moody, told = Moody(redis), list[bool]()
    directory = RedisDirectory(moody, cached_s=0.0, tell_open=told.append, **WIRING)
    ann = await made(directory, ANN)
    _, key = make_key("default", now=NOON)
    await directory.add(key)
    assert await directory.find(key.id) == key
    moody.mood = "hangs"
    await waited_in_vain(directory)
    assert told == [True]
    asked = moody.asked
    for n in range(20):
        with pytest.raises(DirectoryUnavailable, match="not asked again yet"):
            await directory.owner(user(n), create=True)
        assert await directory.owner(ANN) == ann, "who was known is known, without a wait"
        assert await directory.find(key.id) == key
    assert moody.asked == asked
    assert told == [True], "what is answered from memory closes no breaker"


async def test_a_redis_that_is_back_is_asked_once_and_then_by_all(redis: Redis) -> None:
    moody, told = Moody(redis), list[bool]()
    directory = RedisDirectory(moody, cached_s=0.0, tell_open=told.append, **WIRING)
    moody.mood = "hangs"
    await waited_in_vain(directory)
    await asyncio.sleep(FIRST_PAUSE_S)
    asked = moody.asked
    probe = asyncio.create_task(within(5, directory, user(0)))
    await asyncio.sleep(0)
    with pytest.raises(DirectoryUnavailable, match="not asked again yet"):
        await directory.owner(user(1), create=True)
    assert moody.asked == asked + 1
    moody.mood = "well"
    moody.back.set()
    assert await probe
    assert told == [True, False]
    assert await directory.owner(user(1), create=True)


async def test_a_record_that_cannot_be_read_is_an_answer_too(redis: Redis) -> None:
    moody, told = Moody(redis), list[bool]()
    directory = RedisDirectory(moody, cached_s=0.0, tell_open=told.append, **WIRING)
    await redis.hset("dir:keys", "torn", b"{")
    moody.mood = "away"
    for n in range(FAILURES):
        with pytest.raises(DirectoryUnavailable):
            await directory.owner(user(n), create=True)
    await asyncio.sleep(FIRST_PAUSE_S)
    moody.mood = "well"
    with pytest.raises(ValueError, match="end of"):
        await directory.find("torn")
    assert told == [True, False]
    assert await directory.owner(user(0), create=True)


async def test_only_known_people_suffice_to_find_that_redis_hangs(redis: Redis) -> None:
    moody, told = Moody(redis), list[bool]()
    directory = RedisDirectory(moody, cached_s=0.0, tell_open=told.append, **WIRING)
    await made(directory, ANN)
    moody.mood = "hangs"
    for _ in range(FAILURES):
        await directory.owner(ANN)
    assert told == [True]


async def test_calls_that_hang_together_and_clients_that_leave_open_no_breaker(
    redis: Redis,
) -> None:
    moody = Moody(redis)
    directory = gateway(moody)
    moody.mood = "hangs"
    crowd = (within(LATE_S * 1.2, directory, user(n)) for n in range(4 * FAILURES))
    together = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(each) for each in together} == {TimeoutError}
    for n in range(4 * FAILURES):
        with pytest.raises(TimeoutError):
            await within(0.001, directory, user(n))
    moody.mood = "well"
    assert await directory.owner(ANN, create=True)
