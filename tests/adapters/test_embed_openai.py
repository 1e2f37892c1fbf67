"""Embeddings over HTTP, against a real server: what is sent, read, split and said of failures."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.adapters.embed_openai import BATCH_TEXTS, TEXT_CHARS, OpenAIEmbedder
from gateway.core.errors import EmbedderUnavailable
from gateway.lab.scripted_upstream import (
    Die,
    Raw,
    Recorded,
    Scripted,
    ScriptedUpstream,
    Stall,
    embed,
    refusal,
)
from gateway.ports import EmbeddingModel


class EmbeddingServer(ScriptedUpstream):
    """Its `answers` come before the deterministic embeddings."""

    def __init__(self) -> None:
        super().__init__(dimensions=16)
        self.answers: deque[Scripted] = deque()
        self.longest: int | None = None

    def _choose(self, request: Recorded) -> Scripted:
        if self.answers:
            return self.answers.popleft()
        texts = request.json()["input"]
        if self.longest is not None and sum(map(len, texts)) > self.longest:
            return refusal(400, "maximum context length exceeded: " + texts[0])
        return super()._choose(request)


@pytest.fixture(scope="module")
def _server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as running:
        yield running


@pytest.fixture
def server(_server: EmbeddingServer) -> EmbeddingServer:
    """One for all tests (its end takes 0.2 s); each finds it as new."""
    _server.renewed()
    _server.answers.clear()
    _server.longest = None
    return _server


@pytest.fixture
async def embedder(server: EmbeddingServer) -> AsyncIterator[OpenAIEmbedder]:
    made = OpenAIEmbedder(server.base_url, api_key="sk-own-key", model="small", timeout_s=5.0)
    yield made
    await made.close()


def _answer(*vectors: Any, indices: list[int] | None = None) -> Raw:
    data = [
        {"index": n if indices is None else indices[n], "embedding": vector}
        for n, vector in enumerate(vectors)
    ]
    return Raw(body=json.dumps({"data": data}).encode())


async def test_each_text_gets_its_vector_in_order(embedder: OpenAIEmbedder) -> None:
    vectors = await embedder.embed(["one", "two", "three"])
    for text, vector in zip(["one", "two", "three"], vectors, strict=True):
        assert list(vector) == pytest.approx(embed(text, 16))


async def test_the_size_is_known_from_the_first_answer(embedder: OpenAIEmbedder) -> None:
    assert embedder.model is None
    await embedder.embed(["x"])
    assert embedder.model == EmbeddingModel("openai", "small", 16)


async def test_only_the_gateways_own_key_and_the_texts_are_sent(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    await embedder.embed(["x"], query=True)
    (request,) = server.all
    assert request.path == "/v1/embeddings"
    assert request.values("authorization") == ["Bearer sk-own-key"]
    assert request.json() == {"model": "small", "input": ["x"]}


async def test_dimensions_are_asked_for_where_they_are_set(server: EmbeddingServer) -> None:
    embedder = OpenAIEmbedder(server.base_url, api_key=None, model="small", dimensions=8)
    assert len((await embedder.embed(["x"]))[0]) == 8
    assert server.all[0].json()["dimensions"] == 8
    assert server.all[0].values("authorization") == []
    await embedder.close()


async def test_many_texts_go_in_bounded_batches(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    texts = [f"text {n}" for n in range(BATCH_TEXTS + 5)]
    vectors = await embedder.embed(texts)
    assert [len(request.json()["input"]) for request in server.all] == [BATCH_TEXTS, 5]
    assert list(vectors[-1]) == pytest.approx(embed(texts[-1], 16))


async def test_no_texts_make_no_call(embedder: OpenAIEmbedder, server: EmbeddingServer) -> None:
    assert await embedder.embed([]) == []
    assert server.all == []


async def test_answers_out_of_order_are_put_back_by_index(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.answers.append(_answer([0, 1], [1, 0], indices=[1, 0]))
    assert await embedder.embed(["a", "b"]) == [[1.0, 0.0], [0.0, 1.0]]


async def test_base64_answers_are_read_too(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.answers.append(_answer(base64.b64encode(struct.pack("<2f", 0.0, 1.0)).decode()))
    assert await embedder.embed(["a"]) == [[0.0, 1.0]]


async def test_vectors_come_out_normalised(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.answers.append(_answer([3.0, 4.0]))
    (vector,) = await embedder.embed(["a"])
    assert math.hypot(*vector) == pytest.approx(1.0)


async def test_an_empty_text_and_a_lone_surrogate_are_no_trouble(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    assert len(await embedder.embed(["", "a\ud800b"])) == 2
    assert server.all[0].json()["input"] == [" ", "a?b"]


async def test_a_text_beyond_what_models_read_is_cut(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    await embedder.embed(["x" * (TEXT_CHARS + 1)])
    assert len(server.all[0].json()["input"][0]) == TEXT_CHARS


async def test_a_refused_batch_is_split_until_the_culprit_is_alone_and_cut(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.longest = 100
    vectors = await embedder.embed(["short", "w " * 80, "brief"])
    assert list(vectors[0]) == pytest.approx(embed("short", 16))
    assert list(vectors[1]) == pytest.approx(embed("w " * 40, 16))
    assert list(vectors[2]) == pytest.approx(embed("brief", 16))


async def test_a_text_that_stays_refused_is_said_to_be_and_is_not_repeated(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.longest = 0
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed(["I live in Lyon"])
    assert caught.value.code == "refused"
    assert "Lyon" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "mend"),
    [
        (401, "key", "embedding.api_key"),
        (403, "key", "embedding.api_key"),
        (404, "unknown", "embedding.base_url"),
        (429, "rate_limited", "rate limit"),
        (500, "failing", "HTTP 500"),
        (503, "failing", "HTTP 503"),
        (302, "failing", "HTTP 302"),
    ],
)
async def test_each_refusal_says_what_to_do(
    embedder: OpenAIEmbedder, server: EmbeddingServer, status: int, code: str, mend: str
) -> None:
    server.answers.append(refusal(status, "no", location="http://127.0.0.1:9/elsewhere"))
    with pytest.raises(EmbedderUnavailable, match=mend) as caught:
        await embedder.embed(["x"])
    assert caught.value.code == code
    assert "sk-own-key" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        Raw(body=b"not json"),
        Raw(body=b"[]"),
        Raw(body=b'{"data": 3}'),
        Raw(body=b'{"data": [{"index": 0}]}'),
        Raw(body=b'{"data": [{"embedding": ["a"]}]}'),
        Raw(body=b'{"data": [{"embedding": "%%%"}]}'),
        Raw(body=b'{"data": [{"embedding": []}]}'),
        Raw(body=b'{"data": [{"embedding": [1e400, 1]}]}'),
        Raw(body=b'{"data": []}'),
    ],
)
async def test_an_answer_that_is_no_embedding_is_unavailable_not_nonsense(
    embedder: OpenAIEmbedder, server: EmbeddingServer, answer: Raw
) -> None:
    server.answers.append(answer)
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed(["x"])
    assert caught.value.code == "unreadable"


async def test_a_vector_of_another_size_than_stored_is_refused(server: EmbeddingServer) -> None:
    embedder = OpenAIEmbedder(server.base_url, api_key=None, model="small", expected=384)
    assert embedder.model == EmbeddingModel("openai", "small", 384)
    with pytest.raises(EmbedderUnavailable, match=r"16 numbers, while 384") as caught:
        await embedder.embed(["x"])
    assert caught.value.code == "dimensions"
    await embedder.close()


async def test_nobody_listening_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        embedder = OpenAIEmbedder(url, api_key=None, model="small")
        with pytest.raises(EmbedderUnavailable, match="cannot be reached") as caught:
            await embedder.embed(["x"])
        await embedder.close()
    assert caught.value.code == "unreachable"


async def test_a_server_that_stalls_is_given_up_in_time(server: EmbeddingServer) -> None:
    embedder = OpenAIEmbedder(server.base_url, api_key=None, model="small", timeout_s=0.05)
    server.answers.append(Raw(before=[Stall()]))
    with pytest.raises(EmbedderUnavailable, match=r"within 0\.05 s") as caught:
        await embedder.embed(["x"])
    assert caught.value.code == "timed_out"
    await embedder.close()


async def test_a_kept_connection_that_closes_under_a_call_is_tried_once_more() -> None:
    body = json.dumps({"data": [{"index": 0, "embedding": [1.0, 0.0]}]}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    connections = 0

    async def once_then_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        writer.write(answer)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(once_then_close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    embedder = OpenAIEmbedder(f"http://127.0.0.1:{port}/v1", api_key=None, model="small")
    await embedder.embed(["warm"])
    assert await embedder.embed(["x"]) == [[1.0, 0.0]]
    assert connections == 2
    await embedder.close()
    server.close()


async def test_an_answer_that_breaks_off_is_unavailable(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    server.answers.append(Raw(steps=[b'{"data": [', Die()]))
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.embed(["x"])
    assert caught.value.code == "unreachable"


async def test_a_ping_is_not_paid_for_while_answers_come(
    embedder: OpenAIEmbedder, server: EmbeddingServer
) -> None:
    await embedder.ping()
    await embedder.ping()
    assert len(server.all) == 1
