"""A redis-server of our own: one per directory, gone with its gateway, back with its data."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.adapters import embedded_redis
from gateway.adapters.data_dir import DataDirLock
from gateway.adapters.embedded_redis import EmbeddedRedis, find_server
from gateway.core.errors import QueueUnavailable, SettingsError
from tests.processes import is_gone

GATEWAY = """
import asyncio, structlog, sys
from pathlib import Path
from gateway.adapters.embedded_redis import EmbeddedRedis

# Where the last server is still ending, it says so: not before the line that is read here.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    server = EmbeddedRedis(Path(sys.argv[1]))
    print(await server.start(), server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short, for a socket lies in it; not below tmp_path, whose name is the test's."""
    made = Path(tempfile.mkdtemp(prefix="mg-", dir="/tmp"))
    yield made / "redis"
    shutil.rmtree(made, ignore_errors=True)


async def until(reached: Callable[[], bool], within_s: float = 10.0) -> bool:
    for _ in range(int(within_s / 0.005)):
        if reached():
            return True
        await asyncio.sleep(0.005)
    return reached()


async def told(url: str, *command: str) -> object:
    async with Redis.from_url(url, decode_responses=True) as client:
        return await client.execute_command(*command)


async def setting(url: str, name: str) -> str:
    async with Redis.from_url(url, decode_responses=True) as client:
        return str((await client.config_get(name))[name])


class Gateway:
    """A process of its own that runs an embedded Redis, to be killed."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", GATEWAY, str(directory)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        url, pid = self.process.stdout.readline().split()
        self.url, self.redis_pid = url, int(pid)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


async def test_it_serves_on_a_private_socket_and_no_port(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    url = await server.start()
    try:
        socket = Path(unquote(url.removeprefix("unix://")))
        assert await setting(url, "port") == "0"
        assert socket.parent == directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    finally:
        await server.stop()


@pytest.mark.parametrize("durable", ["everysec", "always"])
async def test_it_logs_every_write_and_evicts_nothing(directory: Path, durable: str) -> None:
    server = EmbeddedRedis(directory, durable=durable)  # type: ignore[arg-type]
    url = await server.start()
    try:
        assert await setting(url, "appendonly") == "yes"
        assert await setting(url, "appendfsync") == durable
        assert await setting(url, "maxmemory-policy") == "noeviction"
        assert await setting(url, "save") == ""
    finally:
        await server.stop()


async def test_what_was_written_is_there_after_a_restart(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    await told(await server.start(), "SET", "said", "hello")
    await server.stop()
    again = EmbeddedRedis(directory)
    try:
        assert await told(await again.start(), "GET", "said") == "hello"
    finally:
        await again.stop()


async def test_a_stop_leaves_no_process_and_no_socket(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    await server.start()
    pid = server.pid
    assert pid is not None
    await server.stop()
    assert is_gone(pid)
    assert server.pid is None
    assert not (directory / "redis.sock").exists()
    await server.stop()  # again: harmless


async def test_a_second_start_of_the_same_one_changes_nothing(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    try:
        url, pid = await server.start(), server.pid
        assert (await server.start(), server.pid) == (url, pid)
    finally:
        await server.stop()


async def test_a_long_path_gets_its_socket_below_tmp(directory: Path) -> None:
    deep = directory / ("d" * 60) / ("e" * 60)
    server = EmbeddedRedis(deep)
    url = await server.start()
    far = Path(unquote(url.removeprefix("unix://"))).parent
    try:
        assert await told(url, "PING")
        assert stat.S_IMODE(far.stat().st_mode) == 0o700
        assert (deep / "socket-dir").read_text() == str(far)
    finally:
        await server.stop()
    assert not far.exists()


async def test_a_path_with_odd_characters_works(directory: Path) -> None:
    server = EmbeddedRedis(directory / "größe 50% #1?")
    try:
        assert await told(await server.start(), "PING")
    finally:
        await server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
async def test_it_dies_with_a_killed_gateway(directory: Path) -> None:
    gateway = Gateway(directory)
    gateway.kill()
    assert await until(lambda: is_gone(gateway.redis_pid))


async def test_an_orphan_is_ended_by_the_next_start_and_its_data_are_there(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel_cannot = embedded_redis._LAUNCHER.replace(".prctl(1,", ".prctl(-1,")
    gateway = Gateway(directory)
    await told(gateway.url, "SET", "said", "hello")
    gateway.kill()
    # An orphan as it is where the kernel ends nobody with their parent: one more generation.
    launch = (
        "import sys; from gateway.adapters import embedded_redis as e;"
        f" e._LAUNCHER = {kernel_cannot!r}; exec({GATEWAY!r})"
    )
    monkeypatch.setattr(sys.modules[__name__], "GATEWAY", launch)
    orphaned = Gateway(directory)
    orphaned.kill()
    assert not is_gone(orphaned.redis_pid)
    server = EmbeddedRedis(directory)
    try:
        assert await told(await server.start(), "GET", "said") == "hello"
        assert is_gone(orphaned.redis_pid)
        assert server.pid != orphaned.redis_pid
    finally:
        await server.stop()


async def test_a_hanging_orphan_is_killed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_cannot = embedded_redis._LAUNCHER.replace(".prctl(1,", ".prctl(-1,")
    launch = (
        "import sys; from gateway.adapters import embedded_redis as e;"
        f" e._LAUNCHER = {kernel_cannot!r}; exec({GATEWAY!r})"
    )
    monkeypatch.setattr(sys.modules[__name__], "GATEWAY", launch)
    monkeypatch.setattr(embedded_redis, "STOP_S", 0.2)
    monkeypatch.setattr(embedded_redis, "ASK_S", 0.2)
    orphaned = Gateway(directory)
    os.kill(orphaned.redis_pid, signal.SIGSTOP)
    orphaned.kill()
    server = EmbeddedRedis(directory)
    try:
        await server.start()
        assert is_gone(orphaned.redis_pid)
    finally:
        await server.stop()


async def test_a_living_gateways_server_is_left_alone(directory: Path) -> None:
    gateway = Gateway(directory)
    try:
        with pytest.raises(SettingsError, match=rf"pid {gateway.process.pid}\)"):
            await EmbeddedRedis(directory).start()
        assert await told(gateway.url, "PING")
    finally:
        gateway.kill()
        assert await until(lambda: is_gone(gateway.redis_pid))


async def test_a_killed_server_is_started_again_at_the_same_place(directory: Path) -> None:
    server = EmbeddedRedis(directory, durable="always")
    url = await server.start()
    watch = asyncio.create_task(server.keep_alive(every_s=0.01))
    try:
        await told(url, "SET", "said", "hello")
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert await until(lambda: server.pid not in (None, killed))
        assert server.url == url

        async def answer() -> object:
            for _ in range(500):
                try:
                    return await told(url, "GET", "said")
                except RedisConnectionError:
                    await asyncio.sleep(0.01)
            return None

        assert await answer() == "hello"
    finally:
        await server.stop()
        await asyncio.wait_for(watch, 10)
    assert server.pid is None


async def test_a_machine_that_has_no_room_for_a_program_now_is_tried_again_later(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedRedis(directory)
    await server.start()
    (directory / "appendonlydir").mkdir(exist_ok=True)  # as of Redis 7, whose version is asked for
    asked, refused = subprocess.run, 0

    def run(*command: object, **options: object) -> object:
        nonlocal refused
        refused += 1
        if refused <= 2:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        told: object = asked(*command, **options)  # type: ignore[call-overload]
        told.stdout = told.stdout.replace("v=6", "v=7")  # type: ignore[attr-defined]
        return told

    monkeypatch.setattr(subprocess, "run", run)
    watch = asyncio.create_task(server.keep_alive(every_s=0.01))
    try:
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert await until(lambda: server.pid not in (None, killed))
    finally:
        await server.stop()
        await asyncio.wait_for(watch, 10)


async def test_a_server_that_does_not_listen_yet_ends_at_once(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    starting = asyncio.create_task(server.start())
    assert await until(lambda: server.pid is not None)
    launched = server.pid
    assert launched is not None
    async with asyncio.timeout(embedded_redis.STOP_S / 2):
        await server.stop()
    assert is_gone(launched)
    with pytest.raises(QueueUnavailable):
        await starting


async def test_a_torn_end_of_the_log_is_cut_and_not_fatal(directory: Path) -> None:
    server = EmbeddedRedis(directory, durable="always")
    url = await server.start()
    await told(url, "SET", "first", "whole")
    await told(url, "SET", "second", "torn")
    await server.stop()
    log = next(directory.rglob("*.aof"), directory / "appendonly.aof")
    os.truncate(log, log.stat().st_size - 5)
    again = EmbeddedRedis(directory)
    try:
        url = await again.start()
        assert await told(url, "GET", "first") == "whole"
        assert await told(url, "GET", "second") is None
    finally:
        await again.stop()


async def test_a_log_that_cannot_be_read_is_named_with_where_to_look(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "appendonly.aof").write_bytes(b"rubbish\r\n" * 100)
    (directory / "appendonlydir").mkdir()  # for a server of version 7 and later
    (directory / "appendonlydir" / "appendonly.aof.manifest").write_bytes(b"rubbish")
    with pytest.raises((QueueUnavailable, SettingsError), match=r"redis\.log|written by Redis 7"):
        await EmbeddedRedis(directory).start()


async def test_an_older_server_does_not_pass_over_a_newer_ones_log(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "appendonlydir").mkdir(parents=True)
    old = directory / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0:0 bits=64'\n")
    old.chmod(0o700)
    monkeypatch.setenv("PATH", str(directory))
    with pytest.raises(SettingsError, match=r"is 6\.2\.14.*Install redis-server 7"):
        await EmbeddedRedis(directory).start()


def test_a_server_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("valkey-server", "redis-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == str(program)


def test_a_server_beside_python_is_found_where_its_folder_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where `.venv/bin/memory-gateway` is called by its path."""
    beside, elsewhere = tmp_path / "venv" / "bin", tmp_path / "elsewhere"
    for folder in (beside, elsewhere):
        folder.mkdir(parents=True)
        (folder / "redis-server").write_text("#!/bin/sh\n")
        (folder / "redis-server").chmod(0o700)
    (beside / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == str(beside / "redis-server")
    monkeypatch.setenv("PATH", str(elsewhere))
    assert find_server() == str(elsewhere / "redis-server"), "one on PATH was put there by choice"


def test_without_any_server_the_error_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(embedded_redis.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"apt install redis-server.*redis\.url") as caught:
        find_server()
    assert caught.value.param == "redis.url"


async def test_a_directory_that_cannot_be_made_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="GATEWAY_DATA_DIR"):
        await EmbeddedRedis(tmp_path / "file" / "redis").start()


# --- the lock of the data directory -----------------------------------------------------


def test_a_data_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    lock = DataDirLock(tmp_path / "data")
    lock.acquire()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    lock.release()


def test_a_second_gateway_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    first, second = DataDirLock(tmp_path), DataDirLock(tmp_path)
    first.acquire()
    with pytest.raises(SettingsError) as caught:
        second.acquire()
    assert f"(pid {os.getpid()})" in caught.value.message
    assert "\n" not in caught.value.message
    first.release()
    second.acquire()
    second.release()


def test_a_killed_holders_directory_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, pathlib\n"
            "from gateway.adapters.data_dir import DataDirLock\n"
            "DataDirLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True)\n"
            "sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(SettingsError, match=rf"pid {holder.pid}\)"):
            DataDirLock(tmp_path).acquire()
        holder.kill()
        holder.wait()
        lock = DataDirLock(tmp_path)
        lock.acquire()
        lock.release()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(SettingsError, match="GATEWAY_DATA_DIR"):
        DataDirLock(tmp_path / "data").acquire()
