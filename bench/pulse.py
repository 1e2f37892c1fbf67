"""How long the gateway's event loop lets others wait: a small request again and again.

`python -m bench.pulse HOST PORT SECONDS` asks for `/healthz`, which waits for nothing, `PAUSE_S`
after each answer, over one connection. The time to its answer is how long the loop was held by
something else, and the way there and back: an upper bound.
"""

from __future__ import annotations

import json
import socket
import sys
import time

PAUSE_S = 0.001
REQUEST = b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n"


def pulse(host: str, port: int, seconds: float) -> list[float]:
    """Seconds to each answer, sorted."""
    taken: list[float] = []
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            connection.sendall(REQUEST)
            answer = connection.recv(4096)
            taken.append(time.perf_counter() - began)
            while not answer.endswith(b"}"):  # the body, which may come by itself
                answer += connection.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"/healthz answered {answer[:60]!r}")
            time.sleep(PAUSE_S)
    return sorted(taken)


if __name__ == "__main__":
    taken = pulse(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    quantiles = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    found = {name: taken[int(len(taken) * q)] * 1e3 for name, q in quantiles.items()}
    print(json.dumps({"asked": len(taken), **found, "max_ms": taken[-1] * 1e3}))
