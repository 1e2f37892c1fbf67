"""Processes that are to end, as seen from beside them."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path


def is_gone(pid: int) -> bool:
    """Ended. Where its parent was killed nobody may wait for it (the first process of a container
    often does not), and it stays on the list: it is as good as ended. A child of ours is not, until
    it was waited for."""
    try:
        os.kill(pid, 0)
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # ended since, or no Linux
        return Path("/proc/self").exists()
    return state == "Z" and int(parent) != os.getpid()


async def gone(pid: int) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + 10.0
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        await asyncio.sleep(0.02)
