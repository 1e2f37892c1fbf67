"""Embeddings from any OpenAI-compatible `/v1/embeddings`.

It runs once for every question that is asked, so it speaks plain aiohttp: a client's layers
above it cost as much again as the call to an instant upstream. The key is the gateway's own;
nothing of a client's request comes here. Whatever goes wrong becomes `EmbedderUnavailable`,
whose `code` tells a refusal of these very texts (`refused`) from everything that may pass.
"""

from __future__ import annotations

import base64
import binascii
import math
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import httpx
import orjson

from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import EmbeddingModel
from gateway.telemetry import tracing
from gateway.telemetry.logs import without_secrets

BATCH_TEXTS = 128
BATCH_CHARS = 100_000
"""Bounds of one call: the API takes 2,048 texts and about 300,000 tokens, servers of one's own
often less."""
TEXT_CHARS = 24_000
"""About the 8,192 tokens that common models read; what is beyond would be refused."""
HALVINGS = 4
"""A text that is refused is tried again cut in half, so often: scripts with a token a
character reach the limit sooner."""
PING_FRESH_S = 60.0


class OpenAIEmbedder:
    """`dimensions` is asked of the model where it is set; `expected` is the size that the
    store holds already, and an answer of another size is refused."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        model: str,
        dimensions: int | None = None,
        expected: int | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._place = without_secrets(self._url)  # what is told of it: /readyz is open to all
        self._name = model
        self._asked_dimensions = dimensions
        self._size = expected or dimensions
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._answered_at = -math.inf

    @property
    def model(self) -> EmbeddingModel | None:
        if self._size is None:
            return None
        return EmbeddingModel("openai", self._name, self._size)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:  # noqa: ARG002
        """One normalised vector a text, in order."""
        vectors: list[Vector] = []
        for batch in _batches([text[:TEXT_CHARS] for text in texts]):
            vectors += await self._embed_batch(batch, HALVINGS)
        return vectors

    async def ping(self) -> None:
        """Asks for one small embedding, unless one came within the last minute (they cost)."""
        if time.monotonic() - self._answered_at > PING_FRESH_S:
            await self.embed(["ping"])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _embed_batch(self, texts: list[str], halvings: int) -> list[Vector]:
        try:
            return await self._call(texts)
        except EmbedderUnavailable as exc:
            if exc.code != "refused":
                raise
            if len(texts) > 1:
                middle = len(texts) // 2
                return [
                    *await self._embed_batch(texts[:middle], halvings),
                    *await self._embed_batch(texts[middle:], halvings),
                ]
            if halvings == 0 or len(texts[0]) < 2:
                raise
            return await self._embed_batch([texts[0][: len(texts[0]) // 2]], halvings - 1)

    async def _call(self, texts: list[str]) -> list[Vector]:
        # The API refuses empty strings; a blank has a vector like any other text.
        asked: dict[str, Any] = {"model": self._name, "input": [text or " " for text in texts]}
        if self._asked_dimensions is not None:
            asked["dimensions"] = self._asked_dimensions
        about = tracing.model_call("embeddings", self._name, self._url)
        with tracing.span(f"embeddings {self._name}", "client", about) as span:
            status, answer = await self._post(orjson.dumps(_encodable(asked)))
            if status != 200:
                span.failed(str(status))
        if status != 200:
            raise _refusal(status, self._place, self._name)
        vectors = self._read(answer, len(texts))
        self._answered_at = time.monotonic()
        return vectors

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        """Post once, and once more where a kept-alive connection turned out to be closed."""
        for last in (False, True):
            try:
                async with self._open().post(
                    self._url, data=body, headers=self._headers, allow_redirects=False
                ) as response:
                    return response.status, await response.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if last or isinstance(exc, aiohttp.ClientConnectorError):
                    raise EmbedderUnavailable(
                        f"no embedding: {self._place} cannot be reached ({type(exc).__name__})",
                        code="unreachable",
                    ) from exc
            except TimeoutError as exc:
                raise EmbedderUnavailable(
                    f"no embedding: {self._place} gave no answer within {self._timeout.total:g} s"
                    " (embedding.timeout_s)",
                    code="timed_out",
                ) from exc
            except (aiohttp.ClientError, OSError, ValueError) as exc:
                raise EmbedderUnavailable(
                    f"no embedding: {self._place} failed ({type(exc).__name__})", code="unreachable"
                ) from exc
        raise AssertionError("the second try returns or raises")

    def _open(self) -> aiohttp.ClientSession:
        """The session, made at first use: it belongs to the running event loop."""
        if self._session is None:
            context: ssl.SSLContext | bool = (
                httpx.create_ssl_context() if self._url.startswith("https:") else False
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, ssl=context),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=self._timeout,
            )
        return self._session

    def _read(self, answer: bytes, count: int) -> list[Vector]:
        try:
            rows = orjson.loads(answer)["data"]
            if any("index" in row for row in rows):
                rows = sorted(rows, key=lambda row: row["index"])
            vectors: list[Vector] = [_normalised(_numbers(row["embedding"])) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, struct.error) as exc:
            raise EmbedderUnavailable(
                f"no embedding: what {self._place} answered is no list of embeddings",
                code="unreadable",
            ) from exc
        if len(vectors) != count:
            raise EmbedderUnavailable(
                f"no embedding: {self._place} answered {len(vectors)} vectors for {count} texts",
                code="unreadable",
            )
        for vector in vectors:
            if self._size is None:
                self._size = len(vector)
            if len(vector) != self._size:
                raise EmbedderUnavailable(
                    f"embedding.model {self._name!r} answers vectors of {len(vector)} numbers,"
                    f" while {self._size} are expected; vectors of two sizes are never mixed."
                    " Set embedding.model and embedding.dimensions back to what they were",
                    code="dimensions",
                )
        return vectors


def _batches(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    size = 0
    for text in texts:
        if not batches or len(batches[-1]) >= BATCH_TEXTS or size + len(text) > BATCH_CHARS:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text)
    return batches


def _encodable(asked: dict[str, Any]) -> dict[str, Any]:
    """Lone surrogates, which JSON bodies can carry, have no UTF-8 form: they become "?"."""
    asked["input"] = [text.encode("utf-8", "replace").decode() for text in asked["input"]]
    return asked


def _numbers(embedding: Any) -> list[float]:
    if isinstance(embedding, str):
        try:
            raw = base64.b64decode(embedding, validate=True)
        except binascii.Error as exc:
            raise ValueError("neither numbers nor base64") from exc
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return [float(number) for number in embedding]


def _normalised(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    if not vector or not math.isfinite(length):
        raise ValueError("an embedding must be finite numbers")
    if length == 0.0 or abs(length - 1.0) < 1e-4:
        return vector
    return [number / length for number in vector]


def _refusal(status: int, url: str, model: str) -> EmbedderUnavailable:
    """What a status means here, and what to do about it. The body may quote the texts: it is
    not repeated."""
    if status in (401, 403):
        what, code = "refuses the key: set embedding.api_key", "key"
    elif status in (404, 405):
        what = f"does not know this path or the model {model!r}: see embedding.base_url and .model"
        code = "unknown"
    elif status in (400, 413, 422):
        what, code = f"refuses these texts or the settings of model {model!r}", "refused"
    elif status == 429:
        what, code = "is over its rate limit", "rate_limited"
    else:
        what, code = "cannot answer now", "failing"
    return EmbedderUnavailable(f"no embedding: {url} {what} (HTTP {status})", code=code)
