"""A place in memory for what tests keep in files, where the system has one with room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

PLACE: Final = Path("/dev/shm")
ROOM_BYTES: Final = 4 * 2**30
"""An embedded store takes 65 MB there, whatever it holds, and the suite has some thirty at a time.
A container has 64 MB in all if nobody asks for more: the store's process was ended by SIGBUS."""


def place() -> Path | None:
    """Where there; None: on a disk, as anywhere else."""
    return PLACE if PLACE.is_dir() and shutil.disk_usage(PLACE).free >= ROOM_BYTES else None
