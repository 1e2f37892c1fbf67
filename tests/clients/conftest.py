"""One gateway process and one upstream for all clients, and each client's whole performance.

A client's program is started once, plays all scenes three times (straight to the upstream,
through the gateway as a newcomer in each scene, through the gateway as a user of whom something
is known), and ends. Tests then look at what it reported and at what the upstream got.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.lab.scripted_upstream import Recorded, ScriptedUpstream
from tests import loopback
from tests.clients.cast import Cast
from tests.gateway_process import GatewayProcess

HERE = Path(__file__).parent
NODE = HERE / "node"
PYTHON_OF_CLIENTS = HERE.parents[1] / ".venv-clients" / "bin" / "python"
BOUND_S = 280

DIRECT, NEWCOMER, KNOWN = "direct", "newcomer", "known"
KNOWN_OF_ANA = [
    {"text": "The user is called Ana and lives in Ávila", "type": "profile"},
    {
        "text": "The user wants answers in Spanish: “sí”",
        "type": "preference",
        "key": "language",
        "value": "es",
    },
]


@dataclass(frozen=True)
class Performance:
    """What a client reported of each run and scene, and what the upstream got."""

    client: str
    reported: dict[str, dict[str, Any]]
    requests: list[Recorded]

    def got(self, run: str, scene: str) -> list[Recorded]:
        """The requests of a scene, which is named by their model."""
        return [
            request
            for request in self.requests
            if request.header("x-run") == f"{self.client} {run}"
            and (request.header("content-type") or "").startswith("application/json")
            and request.json()["model"] == scene
        ]


@pytest.fixture(scope="session")
def upstream_of_clients() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        Cast(upstream)
        yield upstream


@pytest.fixture(scope="session")
def gateway_of_clients(
    tmp_path_factory: pytest.TempPathFactory, upstream_of_clients: ScriptedUpstream
) -> Iterator[GatewayProcess]:
    data_dir = tmp_path_factory.mktemp("clients") / "data"
    # The deadline is long: whether recall is quick enough on a busy machine is shown elsewhere.
    with GatewayProcess(
        data_dir, upstream_of_clients.base_url, memory__deadline_ms=5000
    ) as gateway:
        answer = loopback.post(
            f"{gateway.base_url}/memories",
            json=KNOWN_OF_ANA,
            headers={"X-Memory-User": "ana"},
            timeout=10,
        )
        assert answer.status_code == 201, answer.text
        yield gateway


@pytest.fixture(scope="session")
def performance(
    request: pytest.FixtureRequest,
    upstream_of_clients: ScriptedUpstream,
    gateway_of_clients: GatewayProcess,
) -> Iterator[Callable[[str], Performance]]:
    """What became of a client's three runs. Two clients play at a time: they mostly wait."""
    direct, through = upstream_of_clients.base_url, gateway_of_clients.base_url
    stage = ThreadPoolExecutor(max_workers=2)
    running = {
        client: stage.submit(_perform, client, program, direct, through, upstream_of_clients)
        for client in _asked_for(request.session)
        if isinstance(program := _program(client), list)
    }

    def performed(client: str) -> Performance:
        if client not in running:
            pytest.skip(str(_program(client)))
        return running[client].result()

    yield performed
    stage.shutdown(cancel_futures=True)


def _asked_for(session: pytest.Session) -> list[str]:
    """The clients of the tests that were selected, in their order."""
    here = [item for item in session.items if item.path.is_relative_to(HERE)]
    params = [item.callspec.params for item in here if hasattr(item, "callspec")]
    return list(dict.fromkeys(one["client"] for one in params if "client" in one))


def _perform(
    client: str, program: list[str], direct: str, through: str, upstream: ScriptedUpstream
) -> Performance:
    targets = [
        {"run": f"{client} {DIRECT}", "base_url": direct, "user": ""},
        {"run": f"{client} {NEWCOMER}", "base_url": through, "user": f"{client}-*"},
        {"run": f"{client} {KNOWN}", "base_url": through, "user": "ana"},
    ]
    ended = subprocess.run(
        [*program, json.dumps(targets)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    reported = json.loads(ended.stdout.splitlines()[-1])
    return Performance(
        client,
        {run: reported[f"{client} {run}"] for run in (DIRECT, NEWCOMER, KNOWN)},
        [one for one in list(upstream.all) if (one.header("x-run") or "").startswith(client)],
    )


def _program(client: str) -> list[str] | str:
    """The command of a client's program, or what is missing to run it."""
    if (NODE / f"{client}_client.mjs").exists():
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "openai").exists():
            return "Node or its packages are missing: apt install nodejs npm, make test-clients"
        return [node, str(NODE / f"{client}_client.mjs")]
    python = sys.executable if client == "openai_python" else str(PYTHON_OF_CLIENTS)
    if not Path(python).exists():
        return "the environment of foreign clients is missing: make test-clients"
    return [python, str(HERE / "programs" / f"{client}_client.py")]
