"""One suite over both directories: a SQLite file, and a real redis-server by either client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.adapters.directory_redis import RedisDirectory
from gateway.adapters.directory_sqlite import SqliteDirectory
from gateway.adapters.redis_wire import RedisWire
from gateway.config import Settings, load
from gateway.core.errors import Unprocessable
from gateway.core.identity import Person
from gateway.core.keys import make_key
from gateway.core.memory import Instant
from gateway.ports import Directory, KeyStore

NOON = 1_790_000_000.0
DAY = 86_400.0
ANN = Person("default", "ann")
BOB = Person("default", "bob")
SLACK = Person("default", "slack:U1")


@dataclass
class Clock:
    now: Instant = NOON

    def __call__(self) -> Instant:
        return self.now


@dataclass
class House:
    directory: Directory
    keys: KeyStore
    clock: Clock
    another: Callable[[], tuple[Directory, KeyStore]] | None
    """A second gateway over the same data, where there can be one."""


def settings(**environ: str) -> Settings:
    return load(environ={f"GATEWAY_{name}": value for name, value in environ.items()})


@pytest.fixture(params=["sqlite", "redis", "wire"])
async def house(
    request: pytest.FixtureRequest, tmp_path: Path, redis: Redis, redis_server: str
) -> AsyncIterator[House]:
    clock = Clock()
    if request.param == "sqlite":
        directory = SqliteDirectory(tmp_path / "d.sqlite", clock=clock, settings=settings())
        yield House(directory, directory, clock, None)
        await directory.close()
    else:
        # The client that `serve` takes for one server answers with what Redis sent.
        wire = RedisWire(redis_server, timeout_s=5)
        client: Any = redis if request.param == "redis" else wire

        def another() -> tuple[Directory, KeyStore]:
            wiring: Any = {"clock": clock, "settings": settings(), "cached_s": 0.0}
            directory = RedisDirectory(client, **wiring)
            return directory, directory

        yield House(*another(), clock, another)
        await wire.aclose()


@pytest.fixture
def directory(house: House) -> Directory:
    return house.directory


@pytest.fixture
def keys(house: House) -> KeyStore:
    return house.keys


async def made(directory: Directory, person: Person) -> Any:
    owner = await directory.owner(person, create=True)
    assert owner is not None
    return owner


# --- incarnations --------------------------------------------------------------------------


async def test_a_person_is_unknown_until_made(directory: Directory) -> None:
    assert await directory.owner(ANN) is None
    owner = await made(directory, ANN)
    assert owner.person == ANN
    assert len(owner.key) == 32
    assert await directory.owner(ANN) == owner
    assert await directory.by_tenant(owner.tenant) == owner


async def test_two_people_and_two_apps_have_owners_of_their_own(directory: Directory) -> None:
    owners = [await made(directory, p) for p in (ANN, BOB, Person("other", "ann"))]
    assert len({owner.tenant for owner in owners}) == 3
    assert len({owner.key for owner in owners}) == 3


async def test_requests_that_make_a_person_at_once_agree(house: House) -> None:
    directories = [house.directory, *([house.another()[0]] if house.another else [])]
    owners = await asyncio.gather(
        *(d.owner(ANN, create=True) for d in directories for _ in range(8))
    )
    assert len({owner.tenant for owner in owners if owner}) == 1
    assert len({owner.key for owner in owners if owner}) == 1


async def test_a_dropped_incarnation_is_gone_and_the_next_is_another(
    directory: Directory,
) -> None:
    first = await made(directory, ANN)
    await directory.drop(first)
    assert await directory.owner(ANN) is None
    assert await directory.by_tenant(first.tenant) is None
    second = await made(directory, ANN)
    assert second.tenant != first.tenant
    assert second.key != first.key


async def test_dropping_an_old_incarnation_again_leaves_the_new_one(directory: Directory) -> None:
    first = await made(directory, ANN)
    await directory.drop(first)
    second = await made(directory, ANN)
    await directory.drop(first)
    assert await directory.owner(ANN) == second
    assert await directory.by_tenant(second.tenant) == second
    assert await directory.people() == [ANN]


async def test_ids_of_any_script_and_shape_are_people(directory: Directory) -> None:
    for user in ("日本語", "a/b", "cn=x,dc=y", "' OR 1=1 --", "x" * 256, "é", "e\u0301"):
        owner = await made(directory, Person("default", user))
        assert owner.user == user
        assert await directory.by_tenant(owner.tenant) == owner


async def test_without_sealing_an_owner_has_no_key(tmp_path: Path, redis: Redis) -> None:
    unsealed = settings(PRIVACY__SEAL="false")
    sqlite = SqliteDirectory(tmp_path / "d.sqlite", clock=Clock(), settings=unsealed)
    for directory in (sqlite, RedisDirectory(redis, clock=Clock(), settings=unsealed)):
        owner = await made(directory, ANN)
        assert owner.key == b""
        assert await directory.by_tenant(owner.tenant) == owner
    await sqlite.close()


# --- links ---------------------------------------------------------------------------------


async def test_a_linked_identity_means_the_person(directory: Directory) -> None:
    await directory.link(SLACK, ANN)
    owner = await made(directory, SLACK)
    assert owner.person == ANN
    assert await directory.owner(ANN) == owner
    assert await directory.links(ANN) == [SLACK.user]
    assert await directory.people() == [ANN]


async def test_unlinking_restores_what_the_identity_had(directory: Directory) -> None:
    his, hers = await made(directory, SLACK), await made(directory, ANN)
    await directory.link(SLACK, ANN)
    assert await directory.owner(SLACK) == hers
    assert await directory.by_tenant(his.tenant) == his
    await directory.unlink(SLACK)
    assert await directory.owner(SLACK) == his
    assert await directory.owner(ANN) == hers
    assert await directory.links(ANN) == []


async def test_linking_anew_moves_an_identity(directory: Directory) -> None:
    ann, bob = await made(directory, ANN), await made(directory, BOB)
    await directory.link(SLACK, ANN)
    assert await directory.owner(SLACK) == ann
    await directory.link(SLACK, BOB)
    assert await directory.owner(SLACK) == bob
    assert await directory.links(ANN) == []
    assert await directory.links(BOB) == [SLACK.user]


async def test_links_in_a_row_are_followed_and_each_can_be_taken_back_alone(
    directory: Directory,
) -> None:
    mail = Person("default", "ann@example.com")
    ann = await made(directory, ANN)
    own = await made(directory, SLACK)
    await directory.link(mail, SLACK)
    await directory.link(SLACK, ANN)
    assert await directory.owner(mail) == ann
    assert await directory.links(ANN) == [mail.user, SLACK.user]
    await directory.unlink(SLACK)
    assert await directory.owner(mail) == own


async def test_a_cycle_of_links_is_refused(directory: Directory) -> None:
    await directory.link(SLACK, ANN)
    await directory.link(ANN, BOB)
    for identity, person in ((BOB, SLACK), (BOB, ANN), (ANN, SLACK), (ANN, ANN)):
        with pytest.raises(Unprocessable):
            await directory.link(identity, person)
    assert (await made(directory, SLACK)).person == BOB


async def test_identities_of_two_apps_are_not_linked(directory: Directory) -> None:
    with pytest.raises(Unprocessable):
        await directory.link(Person("other", "ann"), ANN)


async def test_an_erasure_is_told_every_incarnation_of_a_person(directory: Directory) -> None:
    slack, ann, bob = [await made(directory, p) for p in (SLACK, ANN, BOB)]
    await directory.link(SLACK, ANN)
    for person in (ANN, SLACK):
        assert {o.tenant for o in await directory.incarnations(person)} == {
            slack.tenant,
            ann.tenant,
        }
    assert await directory.incarnations(BOB) == [bob]
    assert await directory.incarnations(Person("default", "nobody")) == []


async def test_a_drop_leaves_links_as_the_operator_made_them(directory: Directory) -> None:
    await directory.link(SLACK, ANN)
    await directory.drop(await made(directory, SLACK))
    assert (await made(directory, SLACK)).person == ANN
    own = await made(directory, BOB)
    await directory.link(BOB, ANN)
    await directory.drop(own)
    assert (await made(directory, BOB)).person == ANN


# --- lists ---------------------------------------------------------------------------------


async def test_people_are_listed_in_order_by_prefix_and_page(directory: Directory) -> None:
    names = ["ann", "anna", "bob", "Zoe", "ü", "日本"]
    for name in names:
        await made(directory, Person("default", name))
    await made(directory, Person("app.b", "carl"))
    everyone = [Person("app.b", "carl"), *(Person("default", n) for n in sorted(names))]
    assert await directory.people() == everyone
    assert await directory.people("default") == everyone[1:]
    assert await directory.people("default", prefix="ann") == [ANN, Person("default", "anna")]
    assert await directory.people("default", prefix="ann", after="ann") == [
        Person("default", "anna")
    ]
    assert await directory.people("nobody") == []
    paged, after = [], ""
    while page := await directory.people(limit=2, after=after):
        paged += page
        after = f"{page[-1].app}/{page[-1].user}"
    assert paged == everyone
    paged, after = [], ""
    while page := await directory.people("default", limit=2, after=after):
        paged += page
        after = page[-1].user
    assert paged == everyone[1:]


async def test_the_erased_are_not_listed_among_people(directory: Directory) -> None:
    await directory.drop(await made(directory, ANN))
    await made(directory, BOB)
    assert await directory.people() == [BOB]


async def test_erasure_receipts_are_kept_newest_first(house: House) -> None:
    for n in range(3):
        house.clock.now += 1
        await house.directory.keep_erasure({"id": f"era_{n}", "completed": n == 0})
    found = await house.directory.erased()
    assert [record["id"] for record in found] == ["era_2", "era_1", "era_0"]
    await house.directory.keep_erasure({"id": "era_1", "completed": True})
    found = await house.directory.erased()
    assert [(r["id"], r["completed"]) for r in found] == [
        ("era_2", False),
        ("era_1", True),
        ("era_0", True),
    ]
    assert await house.directory.erased(unfinished=True) == found[:1]
    assert await house.directory.erasure("era_1") == found[1]
    assert await house.directory.erasure("era_9") is None


async def test_who_erases_often_takes_the_place_of_their_own_receipts_alone(house: House) -> None:
    def erasure(id: str, user: str) -> dict[str, Any]:
        return {"id": id, "app": "default", "user": user, "completed": True}

    await house.directory.keep_erasure(erasure("era_ann", "ann"))
    for n in range(103):
        house.clock.now += 1
        await house.directory.keep_erasure(erasure(f"era_{n}", "bob"))
    ids = [record["id"] for record in await house.directory.erased()]
    assert ids == [*(f"era_{n}" for n in reversed(range(3, 103))), "era_ann"]
    assert await house.directory.erasure("era_2") is None


# --- gateway keys and the audit ---------------------------------------------------------------


async def test_a_gateway_key_is_found_listed_and_revoked(keys: KeyStore) -> None:
    _, one = make_key("default", now=NOON, label="bot", requests_per_minute=60)
    _, two = make_key("other", now=NOON + 1, tokens_per_minute=1000)
    await keys.add(two)
    await keys.add(one)
    assert await keys.find(one.id) == one
    assert await keys.all() == [one, two]
    assert await keys.find("0" * 12) is None
    assert await keys.revoke(one.id, NOON + 5)
    assert await keys.find(one.id) == replace(one, revoked_at=NOON + 5)
    assert await keys.revoke(one.id, NOON + 9)
    assert (await keys.all())[0].revoked_at == NOON + 5
    assert not await keys.revoke("0" * 12, NOON)


async def test_the_audit_is_read_newest_first_by_app_and_user(house: House) -> None:
    keys = house.keys
    for n, (app, user) in enumerate([("a", "x"), ("a", "y"), ("b", "x")]):
        await keys.audit({"at": NOON + n, "action": "read", "app": app, "user": user})
    await keys.audit({"action": "key.create"})
    whole = await keys.audited()
    assert [entry.get("user") for entry in whole] == [None, "x", "y", "x"]
    assert whole[0]["at"] == NOON
    assert [e["at"] for e in await keys.audited(app="a")] == [NOON + 1, NOON]
    assert [e["at"] for e in await keys.audited(user="x")] == [NOON + 2, NOON]
    assert [e["at"] for e in await keys.audited(app="a", user="x")] == [NOON]
    assert len(await keys.audited(limit=2)) == 2


async def test_both_answer_a_ping(house: House) -> None:
    await house.directory.ping()
    await house.directory.compact()


# --- who was dropped ----------------------------------------------------------------------------


async def test_whoever_asks_is_told_who_was_dropped_since(directory: Directory) -> None:
    before = await made(directory, BOB)
    await directory.drop(before)
    since, ended = await directory.ended()
    assert ended == []
    owner = await made(directory, ANN)
    await directory.drop(owner)
    later, ended = await directory.ended(since)
    assert ended == [owner.tenant]
    assert await directory.ended(later) == (later, [])


async def test_another_gateway_is_told_too(house: House) -> None:
    if house.another is None:
        pytest.skip("one process owns this directory")
    other, _ = house.another()
    since, _ = await other.ended()
    owners = [await made(house.directory, Person("default", f"u{n}")) for n in range(3)]
    for owner in owners:
        await house.directory.drop(owner)
    _, ended = await other.ended(since)
    assert ended == [owner.tenant for owner in owners]
