"""Server mode: what a request costs the gateway's own process over a Redis and a Qdrant by URL.

`python -m bench.servers [KIND…]` prints the CPU of a request of the gateway's process and of Redis:
`embedded`, over a plain `redis` server, and over a `redis+cluster` of one node. Another client
speaks to Qdrant than embedded, and to a cluster another one to Redis. No worker runs, so that each
of the users soon has fifty exchanges waiting, which is more than people have. Qdrant is the tests'
stand-in with one request at a time: nothing here tells of a server's own speed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from bench.gateways import cpu_s, ours, upstream
from bench.load import load, words_file
from bench.recalls import checked, recalls
from gateway.adapters.embedded_redis import find_server
from tests.gateway_process import free_port
from tests.qdrant_over_http import QdrantOverHttp

USERS, MEMORIES = 40, 500
CONNECTIONS = 4
"""More would only wait for the stand-in, beyond a recall's deadline."""
SECONDS = 12.0
SLOTS = 16_384
KINDS = ("embedded", "redis", "redis+cluster")
WORK = Path(__file__).parent / ".work" / "servers"


@contextmanager
def redis_server(*, cluster: bool) -> Iterator[tuple[int, int]]:
    """A redis-server with its log on disk: its process and port. A cluster's node has all slots."""
    port, place = free_port(), WORK / f"redis-{cluster}"
    place.mkdir(parents=True)
    command = [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)]
    command += ["--appendonly", "yes", "--save", "", *(["--cluster-enabled", "yes"] * cluster)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            _until_up(client)
            if cluster:
                client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
                while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                    time.sleep(0.05)
        yield server.pid, port
    finally:
        server.terminate()
        server.wait()


def _until_up(client: redis.Redis) -> None:
    for _ in range(200):
        try:
            client.ping()
        except redis.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("redis-server did not come up")


def measure(kind: str) -> str:
    cores = sorted(os.sched_getaffinity(0))
    first, rest = ({cores[0]}, set(cores[1:])) if len(cores) > 1 else (None, None)
    shutil.rmtree(WORK, ignore_errors=True)
    with ExitStack() as open_:
        redis_pid, urls = 0, {}
        if kind != "embedded":
            cluster = kind == "redis+cluster"
            redis_pid, port = open_.enter_context(redis_server(cluster=cluster))
            qdrant = open_.enter_context(QdrantOverHttp())
            urls = {"redis__url": f"{kind}://127.0.0.1:{port}", "qdrant__url": qdrant.url}
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "bench.seed", WORK / "data", str(USERS), str(USERS * MEMORIES)],
            env=os.environ | {f"GATEWAY_{name.upper()}": url for name, url in urls.items()},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        up = open_.enter_context(upstream(free_port(), WORK, rest))
        made = ours(
            free_port(), up.url, WORK / "data", WORK, pin=first, arguments=["--no-worker"], **urls
        )
        gateway = open_.enter_context(made)
        words = words_file(WORK, USERS, MEMORIES)

        def run(for_s: float) -> int:
            asked = {"connections": CONNECTIONS, "upstream_url": up.url, "pin": rest}
            return load(gateway.url, words, seconds=for_s, **asked).requests

        run(8.0)  # code, caches, connections; each memory is opened once
        begun, own = recalls(gateway.url), gateway.cpu_s()
        stored = cpu_s(redis_pid) if redis_pid else 0.0
        requests = run(SECONDS)
        own = 1e3 * (gateway.cpu_s() - own) / requests
        stored = 1e3 * (cpu_s(redis_pid) - stored) / requests if redis_pid else 0.0
        checked(begun, recalls(gateway.url))
    told = f", Redis {stored:.2f} ms" if redis_pid else ""
    return f"{kind}: gateway {own:.2f} ms CPU a request{told}"


if __name__ == "__main__":
    for each in sys.argv[1:] or KINDS:
        print(measure(each), flush=True)
