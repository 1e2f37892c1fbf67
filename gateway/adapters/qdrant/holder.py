"""One process holds the directory of an embedded store; it says so in a file that it locks."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

ORPHAN_WAIT_S: Final = 30.0


class Refused(Exception):
    """The store cannot be opened as it is; the message says what to do."""


def only_holder(path: Path) -> int:
    """Lock the directory for this process, or say who holds it.

    A holder whose gateway is dead is about to flush and end; it is waited for.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + ORPHAN_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            gateway = os.pread(lock, 32, 0).decode(errors="replace").strip()
            orphan = gateway.isdigit() and not _alive(int(gateway))
            if not orphan or time.monotonic() > deadline:
                raise Refused(
                    f"the memory store at {path} is in use by the gateway with process id"
                    f" {gateway or 'unknown'}. Stop that one, or set GATEWAY_DATA_DIR to another"
                    " directory"
                ) from None
            time.sleep(0.05)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getppid()).encode(), 0)
    return lock


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
