"""Plain load by `wrk`, with another text, user and session in each request (`chat.lua`)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.data import pairs

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Load:
    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    errors: int

    @property
    def per_s(self) -> float:
        return self.requests / self.seconds


def words_file(work: Path, users: int, memories: int) -> Path:
    """A line for each user, two words of each memory on it, for `chat.lua`."""
    path = work / f"pairs-{users}-{memories}.txt"
    if not path.exists():
        lines = (" ".join(" ".join(pair) for pair in pairs(u, memories)) for u in range(users))
        path.write_text("\n".join(lines) + "\n")
    return path


_drawn = 0


def load(
    url: str,
    words: Path,
    *,
    connections: int,
    seconds: float,
    upstream_url: str,
    pin: set[int] | None = None,
) -> Load:
    """One run. Raises RuntimeError where any request failed."""
    global _drawn
    _drawn += 1000
    command = [
        *("wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"),
        *("-s", str(HERE / "chat.lua"), f"{url}/v1/chat/completions", "--"),
        *(str(words), str(_drawn)),
    ]
    if pin:
        command = ["taskset", "-c", ",".join(map(str, sorted(pin))), *command]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "BENCH_UPSTREAM": f"{upstream_url}/v1"},
    )
    found = re.search(r"^JSON (.*)$", ran.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"wrk failed: {ran.stdout}{ran.stderr}")
    measured = Load(**json.loads(found[1]))
    if measured.errors:
        raise RuntimeError(f"{measured.errors} of {measured.requests} requests to {url} failed")
    return measured
