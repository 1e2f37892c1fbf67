"""Who may use a data directory: one gateway at a time, told by a lock that the kernel keeps.

The lock is a `flock`, so that it ends with the process that held it, however it died, and a
stale file never blocks a start. The file holds the pid only to name the holder.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.core.errors import SettingsError

LOCK_FILE: Final = "lock"


class DataDirLock:
    """Holds a data directory for this process, making it (0700) where there is none."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the directory. Raises SettingsError where it cannot be used, or names the pid
        of the gateway that holds it."""
        if self._fd is not None:
            return
        make_private(self._path)
        try:
            fd = os.open(self._path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _unusable(self._path, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise SettingsError(
                f"data_dir: {self._path} is in use by a running gateway (pid {holder}). Stop"
                " that one first, or set GATEWAY_DATA_DIR to another directory",
                param="data_dir",
            ) from exc
        self._fd = fd
        os.ftruncate(fd, 0)
        with suppress(OSError):  # a full disk: the lock holds, and names nobody
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes hold "the" lock."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def is_directory(path: Path) -> bool:
    """Whether it is one, as far as this user can tell: not below what may not be entered."""
    try:
        return path.is_dir()
    except OSError:
        return False


def make_private(path: Path) -> None:
    """Make a directory that only this user may enter; one that exists is left as it is.

    Raises SettingsError where it cannot be made or used.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise _unusable(path, exc) from exc
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(path, PermissionError("it may not be written"))


def _unusable(path: Path, exc: OSError) -> SettingsError:
    return SettingsError(
        f"data_dir: {path} cannot be used: {exc.strerror or exc}. Name a directory that this"
        " user may write with GATEWAY_DATA_DIR",
        param="data_dir",
    )
