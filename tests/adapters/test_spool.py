"""The spool: what was appended is handed over once, in order, whatever a kill left of the file."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.spool import FileSpool
from gateway.adapters.spool import file as spool_file
from gateway.core.errors import (
    DirectoryUnavailable,
    OverBudget,
    OwnerGone,
    QueueUnavailable,
    SettingsError,
    SpoolUnavailable,
    Unreadable,
)
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.wire import NEWER


def exchange(id: str, text: str = "I moved to Porto") -> Exchange:
    return Exchange(id, "session", 1000.0, (Turn(0, "user", text, 1000.0),))


class Queue:
    """Takes what is drained, as the real one does: not twice, and not always."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self.refuse: dict[str, Exception] = {}

    async def put(self, owner: Owner, exchange: Exchange) -> bool:
        for refused in (exchange.id, owner.tenant):
            if refused in self.refuse:
                raise self.refuse[refused]
        if (owner.tenant, exchange.id) in self.taken:
            return False
        self.taken.append((owner.tenant, exchange.id))
        return True

    @property
    def ids(self) -> list[str]:
        return [id for _, id in self.taken]


class House:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "exchanges.spool"
        self.owners: dict[str, Owner] = {}
        self.away = False
        self.ann, self.bob = self.owner("ann"), self.owner("bob")

    def owner(self, user: str) -> Owner:
        owner = new_owner(Person("default", user))
        self.owners[owner.tenant] = owner
        return owner

    async def by_tenant(self, tenant: str) -> Owner | None:
        if self.away:
            raise DirectoryUnavailable("away")
        return self.owners.get(tenant)

    async def spool(self, max_bytes: int = 2**20) -> FileSpool:
        spool = FileSpool(
            self.directory, cipher=AesGcmCipher(), by_tenant=self.by_tenant, max_bytes=max_bytes
        )
        await spool.open()
        return spool


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "spool")


@pytest.fixture
def queue() -> Queue:
    return Queue()


async def test_what_was_appended_is_handed_over_in_order_and_forgotten(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    for n in range(200):
        await spool.append(house.ann if n % 2 else house.bob, exchange(f"x{n}"))
    assert await spool.count() == 200
    assert await spool.count(house.ann.tenant) == 100
    assert await spool.drain(queue.put) == 200
    for first in (0, 1):  # each user's in their order
        theirs = [f"x{n}" for n in range(first, 200, 2)]
        assert [id for id in queue.ids if id in theirs] == theirs
    assert await spool.count() == 0
    assert await spool.drain(queue.put) == 0
    assert house.path.stat().st_size < 100


async def test_an_exchange_comes_back_equal(house: House) -> None:
    spool = await house.spool()
    said = exchange("x", "Größe 中 \ud800")
    await spool.append(house.ann, said)
    got: list[Any] = []

    async def put(owner: Owner, exchange: Exchange) -> None:
        got.append((owner, exchange))

    await spool.drain(put)
    assert got == [(house.ann, said)]


async def test_an_empty_spool_makes_no_file(house: House, queue: Queue) -> None:
    spool = await house.spool()
    assert await spool.drain(queue.put) == 0
    assert await spool.count() == 0
    assert await spool.erase(house.ann.tenant) == 0
    assert not house.path.exists()


async def test_it_is_readable_by_this_user_alone_and_holds_no_words(house: House) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x-porto"))
    assert stat.S_IMODE(house.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(house.path.stat().st_mode) == 0o600
    held = house.path.read_bytes()
    for word in (b"Porto", b"porto", b"ann", b"session"):
        assert word not in held


async def test_what_came_together_is_all_there(house: House, queue: Queue) -> None:
    spool = await house.spool()
    await asyncio.gather(*(spool.append(house.ann, exchange(f"x{n}")) for n in range(100)))
    assert await spool.drain(queue.put) == 100
    assert sorted(queue.ids) == sorted(f"x{n}" for n in range(100))


async def test_a_cancelled_append_does_not_disturb_the_others(house: House, queue: Queue) -> None:
    spool = await house.spool()
    tasks = [asyncio.create_task(spool.append(house.ann, exchange(f"x{n}"))) for n in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[5].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, r in enumerate(results) if r is not None] == [0, 5]
    await spool.close()
    await spool.drain(queue.put)
    assert {f"x{n}" for n in (1, 2, 3, 4, 6, 7, 8, 9)} <= set(queue.ids)


# --- ends and faults of a drain -------------------------------------------------------------


async def test_a_drain_stops_where_redis_goes_away_and_goes_on_from_there(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    for n in range(100):
        await spool.append(house.ann, exchange(f"x{n}"))
    queue.refuse["x70"] = QueueUnavailable("away")
    assert await spool.drain(queue.put) == 70
    assert await spool.count() == 30
    queue.refuse.clear()
    again = await house.spool()  # after a restart
    assert await again.drain(queue.put) == 30
    assert queue.ids == [f"x{n}" for n in range(100)]


async def test_a_directory_that_is_away_stops_a_drain(house: House, queue: Queue) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x"))
    house.away = True
    assert await spool.drain(queue.put) == 0
    house.away = False
    assert await spool.drain(queue.put) == 1


async def test_a_user_whose_queue_is_full_blocks_nobody_and_loses_nothing(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    for n in range(150):
        await spool.append(house.ann if n == 3 or n == 140 else house.bob, exchange(f"x{n}"))
    queue.refuse[house.ann.tenant] = OverBudget("full")
    assert await spool.drain(queue.put) == 148
    assert await spool.count(house.ann.tenant) == 2
    queue.refuse.clear()
    assert await spool.drain(queue.put) == 2
    assert queue.ids[-2:] == ["x3", "x140"]
    assert len(queue.ids) == 150
    assert await spool.count() == 0


async def test_what_has_no_owner_any_more_is_dropped(house: House, queue: Queue) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    await spool.append(house.bob, exchange("x2"))
    del house.owners[house.ann.tenant]
    assert await spool.drain(queue.put) == 1
    assert queue.ids == ["x2"]
    assert await spool.count() == 0


async def test_what_the_queue_says_is_erased_is_dropped(house: House, queue: Queue) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    await spool.append(house.bob, exchange("x2"))
    queue.refuse["x1"] = OwnerGone("gone")
    assert await spool.drain(queue.put) == 1
    assert await spool.count() == 0


async def test_what_is_appended_during_a_drain_is_not_lost(house: House, queue: Queue) -> None:
    spool = await house.spool()
    for n in range(130):
        await spool.append(house.ann, exchange(f"x{n}"))

    async def put(owner: Owner, said: Exchange) -> bool:
        if said.id in ("x0", "x63", "x64", "x129"):
            await spool.append(house.bob, exchange(f"more-{said.id}"))
        return await queue.put(owner, said)

    assert await spool.drain(put) == 134
    added = [id for id in queue.ids if id.startswith("more")]
    assert added == ["more-x0", "more-x63", "more-x64", "more-x129"]


async def test_an_error_of_put_loses_nothing(house: House, queue: Queue) -> None:
    spool = await house.spool()
    for n in range(3):
        await spool.append(house.ann, exchange(f"x{n}"))
    queue.refuse["x1"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await spool.drain(queue.put)
    assert await spool.count() == 2


async def test_an_error_over_one_users_exchange_keeps_no_other_users_waiting(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    for n in range(150):
        await spool.append(house.ann if n in (3, 140) else house.bob, exchange(f"x{n}"))
    queue.refuse["x3"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await spool.drain(queue.put)
    assert len(queue.ids) == 148
    assert await spool.count(house.ann.tenant) == 2
    queue.refuse.clear()
    assert await spool.drain(queue.put) == 2
    assert queue.ids[-2:] == ["x3", "x140"]


async def test_what_cannot_be_opened_is_dropped_and_the_rest_goes_on(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    await spool.append(house.bob, exchange("x2"))
    house.owners[house.ann.tenant] = Owner(house.ann.person, house.ann.tenant, b"k" * 32)
    assert await spool.drain(queue.put) == 1
    assert queue.ids == ["x2"]


async def test_what_only_a_newer_program_can_read_stays(
    house: House, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    with monkeypatch.context() as older:
        older.setattr("gateway.core.wire.VERSION", 0)
        with pytest.raises(Unreadable, match="newer") as caught:
            await spool.drain(queue.put)
    assert caught.value.code == NEWER
    assert await spool.drain(queue.put) == 1


# --- bounds ---------------------------------------------------------------------------------


async def test_it_is_bounded_and_says_by_what(house: House, queue: Queue) -> None:
    spool = await house.spool(max_bytes=4000)
    kept = 0
    while not kept or house.path.stat().st_size < 3600:
        await spool.append(house.ann, exchange(f"x{kept}"))
        kept += 1
    with pytest.raises(OverBudget, match=r"queue\.spool_max_bytes"):
        await spool.append(house.ann, exchange("too much", "t" * 500))
    assert house.path.stat().st_size <= 4000
    assert await spool.drain(queue.put) == kept
    await spool.append(house.ann, exchange("again"))


async def test_of_several_at_once_those_that_fit_are_kept(house: House, queue: Queue) -> None:
    spool = await house.spool(max_bytes=1000)
    results = await asyncio.gather(
        *(spool.append(house.ann, exchange(f"x{n}")) for n in range(20)), return_exceptions=True
    )
    kept = [f"x{n}" for n, result in enumerate(results) if result is None]
    assert 0 < len(kept) < 20
    await spool.drain(queue.put)
    assert queue.ids == kept


async def test_a_full_disk_is_over_budget_and_leaves_no_torn_frame(
    house: House, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    size = house.path.stat().st_size

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(spool_file.os, "fsync", full)
        with pytest.raises(OverBudget, match="No space left"):
            await spool.append(house.ann, exchange("x2"))
    assert house.path.stat().st_size == size
    await spool.append(house.ann, exchange("x3"))
    await spool.drain(queue.put)
    assert queue.ids == ["x1", "x3"]


async def test_a_directory_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="GATEWAY_DATA_DIR"):
        await House(tmp_path / "file" / "spool").spool()


async def test_a_spool_whose_directory_vanished_refuses_and_counts_nothing(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    house.directory.rmdir()
    with pytest.raises(OverBudget, match="cannot be written"):
        await spool.append(house.ann, exchange("x1"))
    assert await spool.drain(queue.put) == 0
    assert await spool.count() == 0


# --- erasure --------------------------------------------------------------------------------


async def test_erasure_takes_the_bytes_of_one_user_and_of_no_other(
    house: House, queue: Queue
) -> None:
    spool = await house.spool()
    for n in range(6):
        await spool.append(house.ann if n % 2 else house.bob, exchange(f"x{n}"))
    assert await spool.erase(house.ann.tenant) == 3
    assert house.ann.tenant.encode() not in house.path.read_bytes()
    assert [path.name for path in house.directory.glob("*.new")] == []
    assert await spool.count(house.ann.tenant) == 0
    assert await spool.drain(queue.put) == 3
    assert queue.ids == ["x0", "x2", "x4"]


async def test_erasure_takes_what_was_handed_over_already_too(house: House, queue: Queue) -> None:
    spool = await house.spool()
    for n, owner in enumerate((house.ann, house.bob, house.bob)):
        await spool.append(owner, exchange(f"x{n}"))
    queue.refuse["x1"] = QueueUnavailable("away")
    await spool.drain(queue.put)
    assert await spool.erase(house.ann.tenant) == 0
    assert house.ann.tenant.encode() not in house.path.read_bytes()
    queue.refuse.clear()
    assert await spool.drain(queue.put) == 2
    assert queue.ids == ["x0", "x1", "x2"]


async def test_an_erased_user_is_not_spooled_again(house: House) -> None:
    spool = await house.spool()
    await spool.erase(house.ann.tenant)
    with pytest.raises(OwnerGone):
        await spool.append(house.ann, exchange("late"))
    await spool.append(house.bob, exchange("x"))
    assert await spool.count(house.ann.tenant) == 0


async def test_an_erasure_that_the_disk_refuses_is_said_to_be_unavailable(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = await house.spool()
    await spool.append(house.ann, exchange("x"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(spool_file, "_write_all", full)
        with pytest.raises(SpoolUnavailable, match="No space left"):
            await spool.erase(house.ann.tenant)
    assert await spool.erase(house.ann.tenant) == 1


async def test_erasure_during_a_drain_loses_nobody_elses_words(house: House, queue: Queue) -> None:
    spool = await house.spool()
    for n in range(150):
        await spool.append(house.ann if n % 3 == 0 else house.bob, exchange(f"x{n}"))

    async def put(owner: Owner, said: Exchange) -> bool:
        if said.id == "x10":
            house.owners.pop(house.ann.tenant, None)
            await spool.erase(house.ann.tenant)
        return await queue.put(owner, said)

    await spool.drain(put)
    assert [id for tenant, id in queue.taken if tenant == house.bob.tenant] == [
        f"x{n}" for n in range(150) if n % 3
    ]
    assert await spool.count() == 0


# --- several processes ------------------------------------------------------------------------


async def test_any_process_drains_counts_and_erases_what_another_spooled(
    house: House, queue: Queue
) -> None:
    first, second = await house.spool(), await house.spool()
    await asyncio.gather(
        *(
            spool.append(house.ann, exchange(f"{n}{name}"))
            for n in range(20)
            for name, spool in (("a", first), ("b", second))
        )
    )
    await first.append(house.bob, exchange("bob"))
    assert await second.count() == 41
    assert await second.erase(house.bob.tenant) == 1
    await first.append(house.ann, exchange("after"))
    assert await second.drain(queue.put) == 41


async def test_one_process_drains_at_a_time(house: House, queue: Queue) -> None:
    first, second = await house.spool(), await house.spool()
    await first.append(house.ann, exchange("x1"))
    seen: list[int] = []

    async def put(owner: Owner, said: Exchange) -> bool:
        seen.append(await second.drain(queue.put))
        return await queue.put(owner, said)

    assert await first.drain(put) == 1
    assert seen == [0]


async def test_a_process_that_is_stopped_with_the_lock_does_not_stop_the_others(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "LOCK_S", 0.05)
    spool = await house.spool()
    await spool.append(house.ann, exchange("x1"))
    with house.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OverBudget, match="holds"):
            await spool.append(house.ann, exchange("x2"))
    await spool.append(house.ann, exchange("x3"))


APPENDER = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.spool import FileSpool
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Owner, Person

async def main():
    owner = Owner(Person("default", "ann"), sys.argv[2], bytes.fromhex(sys.argv[3]))
    spool = FileSpool(Path(sys.argv[1]), cipher=AesGcmCipher(), by_tenant=None, max_bytes=10**9)
    await spool.open()
    for n in range(10**6):
        await spool.append(owner, Exchange(f"x{n}", "s", 1.0, (Turn(0, "user", "a" * 500, 1.0),)))
        print(n, flush=True)

asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_after_kill_9(house: House, queue: Queue) -> None:
    command = [sys.executable, "-c", APPENDER, str(house.directory), house.ann.tenant]
    with subprocess.Popen([*command, house.ann.key.hex()], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines() if line]
    spool = await house.spool()
    await spool.append(house.ann, exchange("after"))
    await spool.drain(queue.put)
    assert queue.ids[: len(acknowledged)] == [f"x{n}" for n in acknowledged]
    assert queue.ids[-1] == "after"


# --- whatever a kill left -----------------------------------------------------------------------


async def whole_file(house: House) -> tuple[bytes, int]:
    """A file of three frames, and where the last of them begins."""
    spool = await house.spool()
    for n in range(2):
        await spool.append(house.ann, exchange(f"x{n}", "short"))
    start = house.path.stat().st_size
    await spool.append(house.bob, exchange("last", "short"))
    return house.path.read_bytes(), start


async def test_a_file_cut_at_any_byte_of_its_last_frame_keeps_the_others(house: House) -> None:
    whole, start = await whole_file(house)
    for cut in range(start, len(whole) + 1):
        house.path.write_bytes(whole[:cut])
        spool, queue = await house.spool(), Queue()
        torn = [] if cut < len(whole) else ["last"]
        assert house.path.stat().st_size == (start if cut < len(whole) else cut)
        await spool.append(house.ann, exchange("after"))
        await spool.drain(queue.put)
        assert sorted(queue.ids) == sorted(["x0", "x1", *torn, "after"]), f"cut at {cut}"


async def test_a_torn_frame_is_passed_over_when_more_was_appended_after_it(house: House) -> None:
    whole, start = await whole_file(house)
    spool = await house.spool()
    for cut in range(start, len(whole), 7):
        house.path.write_bytes(whole[:cut])
        await spool.append(house.ann, exchange("after"))  # not opened anew: nothing was cut
        queue = Queue()
        await spool.drain(queue.put)
        assert sorted(queue.ids) == ["after", "x0", "x1"], f"cut at {cut}"


async def test_any_damaged_byte_costs_one_frame_at_most(house: House) -> None:
    whole, _ = await whole_file(house)
    for at in range(len(whole)):
        house.path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        spool, queue = await house.spool(), Queue()
        await spool.drain(queue.put)
        lost = {"x0", "x1", "last"} - set(queue.ids)
        assert len(lost) <= 1, f"damaged at {at}"
        assert at >= 28 or not lost, "a damaged header costs nothing"


async def test_a_header_torn_at_any_byte_starts_anew(house: House) -> None:
    whole, _ = await whole_file(house)
    for cut in range(28):
        house.path.write_bytes(whole[:cut])
        spool, queue = await house.spool(), Queue()
        await spool.append(house.ann, exchange("after"))
        await spool.drain(queue.put)
        assert queue.ids == ["after"], f"cut at {cut}"


async def test_a_newer_programs_file_stops_the_start_and_is_left_alone(house: House) -> None:
    house.directory.mkdir()
    house.path.write_bytes(b"MGSPOOL2" + b"?" * 100)
    with pytest.raises(Unreadable, match="newer memory-gateway") as caught:
        await house.spool()
    assert caught.value.code == NEWER
    assert house.path.read_bytes() == b"MGSPOOL2" + b"?" * 100
