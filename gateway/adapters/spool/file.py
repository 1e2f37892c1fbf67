"""Exchanges on disk while Redis is away: one append-only file, checksummed, handed over later.

The gateway processes of a machine share the file; a `flock`, held for one step at a time,
keeps them apart and ends with whoever dies holding it. What one process spooled any other
drains or erases, so that nothing has to be adopted after a death. The file is a header and
frames (big endian):

    header   8 bytes of name and version, 8 random ones of this generation of the file,
             u64 the place up to which all was handed over, u32 CRC-32 of those two
    frame    4 bytes of mark, u32 length, u32 CRC-32 of length and body, body
    body     u8 length of the tenant, the tenant, the sealed exchange

Whatever a kill leaves is read: an unfinished frame at the end is cut, damage in the middle
is passed over to the next frame that is whole, and a damaged header means "from the start",
which is harmless since the queue refuses what it has seen. Nothing here awaits: it is called
in threads.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final
from zlib import crc32

import structlog

from gateway.core.errors import OverBudget, OwnerGone, SettingsError, Unreadable
from gateway.core.wire import NEWER

_log = structlog.get_logger("gateway.spool")

MAGIC: Final = b"MGSPOOL1"
MARK: Final = b"\xf7MGx"
LOCK_S: Final = 5.0
"""A process that is stopped while it holds the lock must not stop the others for ever."""
CHUNK: Final = 64
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""What is handed over between two notes of how far it went; that is repeated after a kill."""

_HEADER: Final = Struct(">8s8sQI")
_FRAME: Final = Struct(">4sII")
_LENGTH: Final = Struct(">I")


@dataclass(frozen=True, slots=True)
class Append:
    tenant: str
    frame: bytes
    settled: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame from `start` to `end` of the file."""

    start: int
    end: int
    tenant: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next frames to hand over, from the place `start` in this generation of the file."""

    generation: bytes
    start: int
    frames: tuple[Frame, ...]


def frame_of(tenant: str, sealed: bytes) -> bytes:
    name = tenant.encode()
    body = bytes([len(name)]) + name + sealed
    length = _LENGTH.pack(len(body))
    return MARK + length + _LENGTH.pack(crc32(body, crc32(length))) + body


def _header(generation: bytes, place: int) -> bytes:
    told = generation + place.to_bytes(8)
    return MAGIC + told + _LENGTH.pack(crc32(told))


class SpoolFile:
    """Each step opens the file anew, for another process may have put a new one in its place."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._dir = directory
        self._path = directory / "exchanges.spool"
        self._max_bytes = max_bytes

    def open(self) -> None:
        try:
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._held() as file:
                self._path.with_suffix(".new").unlink(missing_ok=True)
                if file is not None:
                    _cut(file)
        except OSError as exc:
            raise SettingsError(
                f"data_dir: the spool {self._path} cannot be used: {exc.strerror}. Name a"
                " directory that this user may write with GATEWAY_DATA_DIR",
                param="data_dir",
            ) from exc

    def append(self, batch: Sequence[Append], gone: set[str]) -> list[Exception | None]:
        """What became of each: None where it is on disk now."""
        try:
            with self._held(create=True) as file:
                return self._append(file, batch, gone) if file is not None else []
        except OSError as exc:
            return [_refused(exc)] * len(batch)
        except (OverBudget, Unreadable) as exc:
            return [OverBudget(exc.message)] * len(batch)

    def _append(
        self, file: _Held, batch: Sequence[Append], gone: set[str]
    ) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        data = bytearray()
        for each in batch:
            if each.tenant in gone:
                outcomes.append(OwnerGone("this user was erased; nothing more is kept"))
            elif file.size + len(data) + len(each.frame) > self._max_bytes:
                outcomes.append(
                    OverBudget(
                        f"queue.spool_max_bytes: {file.size} bytes wait on disk already. Bring"
                        " Redis back, or raise the bound"
                    )
                )
            else:
                data += each.frame
                outcomes.append(None)
        try:
            _write_all(file.fd, data, file.size)
            os.fsync(file.fd)
        except OSError as exc:
            with suppress(OSError):
                os.ftruncate(file.fd, file.size)
            return [outcome or _refused(exc) for outcome in outcomes]
        return outcomes

    def next_chunk(self, generation: bytes, place: int) -> Chunk:
        """The frames after a place of this generation; those not yet handed over otherwise."""
        with self._held() as file:
            if file is None:
                return Chunk(b"", 0, ())
            start = max(place, file.place) if file.generation == generation else file.place
            frames = tuple(_some(_frames(file.fd, start)))
            if not frames and start == file.place and file.size > _HEADER.size:
                # All is handed over: the place first, so that a kill in between repeats at most.
                os.pwrite(file.fd, _header(file.generation, _HEADER.size), 0)
                os.ftruncate(file.fd, _HEADER.size)
            return Chunk(file.generation, start, frames)

    def advance(self, generation: bytes, place: int) -> None:
        """Note how far it went, unless the file was rewritten meanwhile: places moved then."""
        with self._held() as file:
            if file is not None and file.generation == generation and place > file.place:
                os.pwrite(file.fd, _header(generation, place), 0)

    def remove(self, tenant: str) -> int:
        with self._held() as file:
            if file is None:
                return 0
            frames = list(_frames(file.fd, _HEADER.size))
            if not any(frame.tenant == tenant for frame in frames):
                return 0
            waiting = [frame for frame in frames if frame.start >= file.place]
            kept = [frame for frame in waiting if frame.tenant != tenant]
            self._replace(frame_of(frame.tenant, frame.sealed) for frame in kept)
            return len(waiting) - len(kept)

    def count(self, tenant: str | None) -> int:
        with self._held() as file:
            if file is None:
                return 0
            waiting = _frames(file.fd, file.place)
            return sum(tenant is None or frame.tenant == tenant for frame in waiting)

    @contextmanager
    def only_drainer(self) -> Iterator[bool]:
        """Whether this process is the one that drains now."""
        try:
            fd = os.open(self._dir / "drain.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False  # no directory: nothing was ever spooled
            return
        try:
            yield _locked(fd)
        finally:
            os.close(fd)

    @contextmanager
    def _held(self, *, create: bool = False) -> Iterator[_Held | None]:
        """The file, locked, its header read; None where there is none."""
        fd = self._open_locked(os.O_CREAT if create else 0)
        if fd is None:
            yield None
            return
        try:
            yield _read_header(fd, self._dir)
        finally:
            os.close(fd)

    def _open_locked(self, flags: int) -> int | None:
        give_up = time.monotonic() + LOCK_S
        while True:
            try:
                fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
            except FileNotFoundError:
                if flags:
                    raise
                return None
            if _locked(fd):
                with suppress(FileNotFoundError):
                    if self._path.stat().st_ino == os.fstat(fd).st_ino:
                        return fd
            os.close(fd)
            if time.monotonic() > give_up:
                raise OverBudget(
                    f"another process holds {self._path} and does not let go: see what stopped it"
                )
            time.sleep(0.002)

    def _replace(self, frames: Iterator[bytes]) -> None:
        """A new file in the place of the old one, of which no byte is left behind."""
        new = self._path.with_suffix(".new")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, _header(secrets.token_bytes(8), _HEADER.size), 0)
            at = _HEADER.size
            for frame in frames:
                _write_all(fd, frame, at)
                at += len(frame)
            os.fsync(fd)
        finally:
            os.close(fd)
        new.replace(self._path)
        _sync_directory(self._dir)


@dataclass(frozen=True, slots=True)
class _Held:
    fd: int
    size: int
    generation: bytes
    place: int


def _read_header(fd: int, directory: Path) -> _Held:
    """The header of a locked file; written anew where there is none or it is damaged."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, _HEADER.size, 0)
    if head[:7] == MAGIC[:7] and head[7:8].isdigit() and head[7:8] > MAGIC[7:8]:
        raise Unreadable(
            "the spool was written by a newer memory-gateway. Start that version (or a later one)"
            " until it is drained",
            code=NEWER,
        )
    if len(head) == _HEADER.size:
        magic, generation, place, checked = _HEADER.unpack(head)
        sound = magic == MAGIC and crc32(head[8:24]) == checked
        if sound and _HEADER.size <= place <= size:
            return _Held(fd, size, generation, place)
    generation = secrets.token_bytes(8)
    _write_all(fd, _header(generation, _HEADER.size), 0)
    os.fsync(fd)
    _sync_directory(directory)
    return _Held(fd, max(size, _HEADER.size), generation, _HEADER.size)


def _frames(fd: int, at: int) -> Iterator[Frame]:
    """The whole frames from a place on; damage is passed over to the next mark."""
    size = os.fstat(fd).st_size
    while at < size:
        frame = _frame_at(fd, at, size)
        if frame is None:
            at = _next_mark(fd, at + 1, size)
            continue
        yield frame
        at = frame.end


def _cut(file: _Held) -> None:
    """Cut what a kill left unfinished at the end; say what lies damaged before it."""
    whole, read = _HEADER.size, _HEADER.size
    for frame in _frames(file.fd, _HEADER.size):
        whole, read = frame.end, read + frame.end - frame.start
    if whole < file.size:
        _log.warning("spool_end_cut", bytes=file.size - whole)
        os.ftruncate(file.fd, whole)
    if read < whole:
        _log.error("spool_damage_passed_over", bytes=whole - read)


def _some(frames: Iterator[Frame]) -> Iterator[Frame]:
    size = 0
    for n, frame in enumerate(frames, 1):
        yield frame
        size += len(frame.sealed)
        if n >= CHUNK or size >= CHUNK_BYTES:
            return


def _frame_at(fd: int, at: int, size: int) -> Frame | None:
    head = os.pread(fd, _FRAME.size, at)
    if len(head) < _FRAME.size:
        return None
    mark, length, checked = _FRAME.unpack(head)
    end = at + _FRAME.size + length
    if mark != MARK or end > size or length == 0:
        return None
    body = os.pread(fd, length, at + _FRAME.size)
    if crc32(body, crc32(head[4:8])) != checked:
        return None
    cut = 1 + body[0]
    return Frame(at, end, body[1:cut].decode("utf-8", "replace"), body[cut:])


def _next_mark(fd: int, at: int, size: int) -> int:
    while at < size:
        block = os.pread(fd, 65_536, at)
        found = block.find(MARK)
        if found >= 0:
            return at + found
        at += max(1, len(block) - len(MARK) + 1)
    return size


def _write_all(fd: int, data: bytes | bytearray, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refused(exc: OSError) -> OverBudget:
    return OverBudget(f"the spool cannot be written: {exc.strerror}. Make room on its disk")
