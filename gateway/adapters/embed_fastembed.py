"""Embeddings computed here, by fastembed (ONNX on the CPU).

The model is loaded by a thread of its own from the moment this is made, so that a download
never delays the start; until it is there, and while it cannot be had, embedding is
unavailable. Computing runs in two more threads, one for questions and one for documents: a
long batch of documents never stands before a question, and has the core only when nobody else
wants it. ONNX lets go of the GIL while it computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import EmbeddingModel
from gateway.telemetry.logs import log

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""384 numbers, 90 MB, Apache-2.0: small enough for a laptop, and what `model_path` is taken
for where no model is named."""
BATCH = 16
"""Texts that are padded to one length and computed together."""
DOCUMENTS_NICE = 10
"""Documents are computed when nobody waits for a core: who asked a question does."""
FIRST_RETRY_S = 60.0
LAST_RETRY_S = 3600.0

_log = log("embedder")


def installed() -> bool:
    """Whether fastembed can be imported; it is not imported to find out (that takes 1 s)."""
    return importlib.util.find_spec("fastembed") is not None


class FastembedEmbedder:
    """`model_path` is a directory in fastembed's layout: with it, no hub is asked.

    `expected` is the size that the store holds already. `threads` are ONNX's own; one core is
    left to serve requests. `state` is "loading", "ready" or "failed" (`reason` says why; it is
    tried again after a minute, then ever less often).
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        model_path: Path | None = None,
        cache_dir: Path | None = None,
        expected: int | None = None,
        threads: int | None = None,
        retry: bool = True,
    ) -> None:
        self._name = model
        self._model_path = model_path
        self._cache_dir = cache_dir
        self._expected = expected
        self._threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._retry = retry
        self._engine: Any = None
        self._size: int | None = None
        self.state = "loading"
        self.reason = "the model is being loaded"
        self._closing = threading.Event()
        self._settled = threading.Event()
        self._questions = ThreadPoolExecutor(1, "embed-question")
        self._documents = ThreadPoolExecutor(1, "embed-documents", initializer=_step_back)
        self._loader = threading.Thread(target=self._load, name="embed-load", daemon=True)
        self._loader.start()

    @property
    def model(self) -> EmbeddingModel | None:
        if self._size is None:
            return None
        return EmbeddingModel("fastembed", self._name, self._size)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        """One normalised vector a text, in order. Cancelling a call that has not begun to
        compute takes it out of the line."""
        await self.ping()
        compute = self._embed_query if query else self._embed_documents
        line = self._questions if query else self._documents
        loop = asyncio.get_running_loop()
        vectors: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            vectors += await loop.run_in_executor(line, compute, texts[start : start + BATCH])
        return vectors

    async def ping(self) -> None:
        if self._engine is None or self._closing.is_set():
            raise EmbedderUnavailable(f"no embedding: {self.reason}", code=self.state)

    async def settle(self, timeout_s: float) -> None:
        """Wait until loading has succeeded or failed once, at most so long: for `doctor`."""
        await asyncio.get_running_loop().run_in_executor(
            self._questions, self._settled.wait, timeout_s
        )

    async def close(self) -> None:
        self._closing.set()
        self._questions.shutdown(wait=False, cancel_futures=True)
        self._documents.shutdown(wait=False, cancel_futures=True)

    # --- in threads of their own -----------------------------------------------------------

    def _load(self) -> None:
        pause = FIRST_RETRY_S
        while not self._closing.is_set():
            try:
                self._make()
                return
            except Exception as exc:  # noqa: BLE001 - hub, ONNX and tokenizers raise anything
                self.reason = _why(exc, self._name, self._model_path)
                self.state = "failed"
                _log.warning("model_not_loaded", model=self._name, reason=self.reason)
            finally:
                self._settled.set()
            if not self._retry or self._closing.wait(pause):
                return
            pause = min(pause * 2, LAST_RETRY_S)

    def _make(self) -> None:
        from fastembed import TextEmbedding

        with contextlib.suppress(ImportError):
            from huggingface_hub.utils.tqdm import disable_progress_bars

            disable_progress_bars()
        with contextlib.suppress(ImportError):
            # fastembed writes to stderr past everybody's log; what it says is told in `reason`.
            from loguru import logger

            logger.disable("fastembed")
        engine = TextEmbedding(
            self._name,
            cache_dir=str(self._cache_dir) if self._cache_dir else None,
            threads=self._threads,
            specific_model_path=str(self._model_path) if self._model_path else None,
        )
        # The files decide about the size, not the catalogue: `model_path` may hold another
        # model than the one it is named for.
        size = len(next(iter(engine.query_embed("size"))))
        if self._expected is not None and size != self._expected:
            raise _SizeDiffers(size, self._expected)
        self._size, self._engine = size, engine
        self.state, self.reason = "ready", ""
        _log.info("model_loaded", model=self._name, dimensions=size)

    def _embed_query(self, texts: Sequence[str]) -> list[Vector]:
        return self._computed(lambda: self._engine.query_embed(list(texts)))

    def _embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        return self._computed(lambda: self._engine.passage_embed(list(texts), batch_size=BATCH))

    def _computed(self, compute: Callable[[], Any]) -> list[Vector]:
        try:
            return [_normalised(vector) for vector in compute()]
        except Exception as exc:  # ONNX and tokenizers raise types of their own
            raise EmbedderUnavailable(
                f"no embedding: {self._name} failed ({type(exc).__name__})", code="failing"
            ) from exc


def _step_back() -> None:
    """Give this thread's core to whatever else wants it: a niceness of a thread's own is Linux's.

    Beside a worker that embeds, four connections were answered 126 questions a second instead
    of 115, and on a busy machine 144 instead of 68 (p99 of one connection 15 ms instead of 36).
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed here: as it was
            os.setpriority(
                os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + DOCUMENTS_NICE)
            )


class _SizeDiffers(Exception):
    """The loaded model's vectors are not of the size that is stored."""


def _why(exc: Exception, model: str, model_path: Path | None) -> str:
    if isinstance(exc, _SizeDiffers):
        size, expected = exc.args
        return (
            f"embedding.model {model!r} gives vectors of {size} numbers, while {expected} are"
            " stored; vectors of two sizes are never mixed. Set the model back to what it was"
        )
    if model_path is not None:
        return (
            f"embedding.model_path {str(model_path)!r} cannot be read as {model!r}"
            f" ({type(exc).__name__}); it must hold model.onnx, tokenizer.json and their configs"
        )
    return (
        f"the model {model!r} cannot be had ({type(exc).__name__}); a machine that cannot reach a"
        " model hub needs embedding.model_path"
    )


def _normalised(vector: Any) -> list[float]:
    length = float((vector @ vector) ** 0.5)
    numbers: list[float] = (vector / length if length else vector).tolist()
    return numbers
