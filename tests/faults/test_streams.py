"""Streams through a real gateway process: upstreams that die, reset or stall, clients that leave.

One gateway serves all tests here, as none of them may leave it worse than it was.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.lab.scripted_upstream import Die, Gate, Raw, Say, ScriptedUpstream, Stall, sse
from tests import loopback
from tests.faults.conftest import logged, metric
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults

STALL_S = 1.0
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def streaming(
    tmp_path_factory: pytest.TempPathFactory, _scripted_upstream: ScriptedUpstream
) -> Iterator[GatewayProcess]:
    data_dir = tmp_path_factory.mktemp("streams") / "data"
    with GatewayProcess(
        data_dir, _scripted_upstream.base_url, upstream__idle_timeout_s=STALL_S
    ) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _no_worse_than_before(streaming: GatewayProcess, upstream: ScriptedUpstream) -> Iterator[None]:
    """No request stays open, none was an accident, and the next chat is served."""
    yield
    until(lambda: metric(streaming, "open_requests") <= 1)  # the one that asks
    assert [line for line in logged(streaming, "error") if "exc" in line] == []
    upstream.clear()
    upstream.script(Say("Gladly."))
    assert loopback.post(streaming.url + CHAT, json=body_of("hi"), timeout=10).status_code == 200


def body_of(text: str, *, stream: bool = False) -> dict[str, Any]:
    """Good for chat and for responses alike."""
    messages = [{"role": "user", "content": text}]
    return {"model": "m", "stream": stream, "messages": messages, "input": text}


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


def ask(gateway: GatewayProcess, text: str, user: str) -> httpx.Response:
    return loopback.post(
        gateway.url + CHAT,
        json=body_of(text, stream=True),
        headers={"X-Memory-User": user},
        timeout=20,
    )


def turns(gateway: GatewayProcess, user: str) -> list[str]:
    answer = loopback.get(
        f"{gateway.base_url}/memories?kind=turn", headers={"X-Memory-User": user}, timeout=10
    )
    return [memory["text"] for memory in answer.json()["memories"]]


# --- upstreams that break ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "code"), [(Die(), "upstream_unreachable"), (Stall(), "upstream_stalled")]
)
def test_a_stream_that_ends_badly_ends_with_an_error_event_and_its_words_are_remembered(
    streaming: GatewayProcess, upstream: ScriptedUpstream, end: Die | Stall, code: str
) -> None:
    upstream.script(sse(delta("As I was "), delta("saying"), end))
    began = time.monotonic()
    answer = ask(streaming, "My cat is called Miro.", code)
    assert answer.status_code == 200
    assert answer.content.startswith(delta("As I was ") + delta("saying"))
    assert b"[DONE]" not in answer.content
    last = json.loads(answer.content.strip().rpartition(b"\n\n")[2].removeprefix(b"data: "))
    assert last["error"]["code"] == code
    assert time.monotonic() - began < STALL_S + 5
    until(lambda: "My cat is called Miro." in turns(streaming, code))


def test_an_upstream_that_resets_the_connection_is_told_as_one_that_broke(
    tmp_path: Path, streaming: GatewayProcess
) -> None:
    with ResettingUpstream(delta("As I was")) as url:
        data_dir = tmp_path / "data"
        with GatewayProcess(data_dir, url, extraction__provider="none") as gateway:
            answer = ask(gateway, "hi", "ana")
    assert answer.content.startswith(delta("As I was"))
    assert b'"code":"upstream_unreachable"' in answer.content.replace(b": ", b":")


class ResettingUpstream:
    """Answers with the head of a stream and one event, and then resets the connection."""

    def __init__(self, event: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        chunk = b"%x\r\n%s\r\n" % (len(event), event)
        self._said = head + b"transfer-encoding: chunked\r\n\r\n" + chunk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with closing(peer):
                if b"/chat/completions" not in peer.recv(65536):
                    continue
                peer.sendall(self._said)
                time.sleep(0.2)  # else the reset overtakes what was sent
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- clients that leave --------------------------------------------------------------------------

ANSWERS: dict[str, Callable[[], Raw]] = {
    "before the first byte": lambda: Raw(before=[Stall()]),
    "in the middle of a stream": lambda: sse(delta("Once"), Stall()),
    "in the middle of a whole answer": lambda: Raw(
        headers=[("content-type", "application/json"), ("content-length", "1000")],
        steps=[b'{"choices":', Stall()],
    ),
}


def raw_request(gateway: GatewayProcess, *, path: str = CHAT, stream: bool) -> socket.socket:
    body = json.dumps(body_of("hi", stream=stream)).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Memory-User: ana\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=10)
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("how", ["closes", "resets"])
@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/completions"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_upstream_sees_within_a_second_that_the_client_is_gone(
    streaming: GatewayProcess, upstream: ScriptedUpstream, answer: str, path: str, how: str
) -> None:
    upstream.script(ANSWERS[answer]())
    connection = raw_request(streaming, path=path, stream="stream" in answer)
    until(lambda: upstream.requests)
    if answer != "before the first byte":
        assert connection.recv(65536)
    if how == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert upstream.requests[0].left.wait(1.0)


def test_a_client_that_is_killed_ends_the_upstreams_work(
    streaming: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(delta("Once"), Stall()))
    program = (
        "import httpx, sys, time\n"
        "with httpx.stream('POST', sys.argv[1], content=sys.argv[2],"
        " headers={'content-type': 'application/json'}) as answer:\n"
        "    for _ in answer.iter_raw(): print('there', flush=True)\n"
    )
    body = json.dumps(body_of("hi", stream=True))
    with subprocess.Popen(
        [sys.executable, "-c", program, streaming.url + CHAT, body], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"there\n"
        client.kill()
        assert upstream.requests[0].left.wait(1.0)


def test_a_crowd_that_leaves_at_once_leaves_nothing_behind(
    streaming: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    upstream.default = lambda _: sse(delta("Once"), Stall())
    crowd = [raw_request(streaming, stream=True) for _ in range(60)]
    for client in crowd:
        assert client.recv(65536)
    held = descriptors(streaming)
    for client in crowd:
        client.close()
    for request in upstream.requests:
        assert request.left.wait(5.0)
    until(lambda: descriptors(streaming) <= held - len(crowd))
    upstream.default = Say("ok")


def descriptors(gateway: GatewayProcess) -> int:
    return len(os.listdir(f"/proc/{gateway.pid}/fd"))


# --- clients that read slowly --------------------------------------------------------------------


def test_a_client_that_reads_slowly_slows_its_upstream_and_fills_no_memory(
    streaming: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    piece = b": " + b"x" * 65_534
    pieces = 1500
    half, end = Gate(), b"data: [DONE]\n\n"
    upstream.script(sse(*[piece] * pieces, half, end))
    half.open()
    resident(streaming)  # whatever the first look costs
    before = resident(streaming)
    connection = raw_request(streaming, stream=True)
    with closing(connection):
        first = connection.recv(65536)
        time.sleep(STALL_S * 0.7)  # it reads nothing: the upstream must be held back
        assert not upstream.requests[0].done.is_set()
        assert resident(streaming) - before < 30_000_000
        got = len(first)
        tail = first
        while not tail.endswith(b"0\r\n\r\n"):
            chunk = connection.recv(1 << 20)
            assert chunk
            got += len(chunk)
            tail = (tail + chunk)[-1000:]
    assert got > pieces * len(piece)
    assert end in tail


def resident(gateway: GatewayProcess) -> int:
    """Bytes of memory that the process holds."""
    pages = int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
