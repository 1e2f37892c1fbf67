"""The port: vectors from a model that a process of ours holds.

A thread keeps that process from the moment the embedder is made, so that neither a download nor
a start of Python delays anything; until the model is loaded, and while it cannot be had, embedding
is unavailable. A process that dies is started again.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Final

from gateway.adapters.embed_fastembed.model import BATCH
from gateway.adapters.embed_fastembed.process import Greeting, ModelProcess
from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import EmbeddingModel
from gateway.telemetry.logs import log

DEFAULT_MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
"""384 numbers, 90 MB, Apache-2.0: small enough for a laptop, and what `model_path` is taken
for where no model is named."""
FIRST_RETRY_S = 60.0
LAST_RETRY_S = 3600.0
RESTART_S: Final = 1.0
"""Before a process that has died is started again; ever longer, up to `FIRST_RETRY_S`, for those
that live no longer than that."""
STOP_S: Final = 10.0

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
        self._size: int | None = None
        self.process: ModelProcess | None = None
        self.state = "loading"
        self.reason = "the model is being loaded"
        self._closing = threading.Event()
        self._settled = threading.Event()
        self._beginning = threading.Lock()
        self._keeper = threading.Thread(target=self._keep, name="embed-keeper", daemon=True)
        self._keeper.start()

    @property
    def model(self) -> EmbeddingModel | None:
        if self._size is None:
            return None
        return EmbeddingModel("fastembed", self._name, self._size)

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        """One normalised vector a text, in order. Cancelling a call that has not begun to
        compute takes it out of the line."""
        await self.ping()
        vectors: list[Vector] = []
        for start in range(0, len(texts), BATCH):
            await self.ping()
            process = self.process
            assert process is not None  # noqa: S101 (for the type: the state is "ready")
            vectors += await process.embed(texts[start : start + BATCH], query=query)
        return vectors

    async def ping(self) -> None:
        if self.state != "ready" or self._closing.is_set():
            raise EmbedderUnavailable(f"no embedding: {self.reason}", code=self.state)

    async def settle(self, timeout_s: float) -> None:
        """Wait until loading has succeeded or failed once, at most so long: for `doctor`."""
        await asyncio.get_running_loop().run_in_executor(None, self._settled.wait, timeout_s)

    async def close(self) -> None:
        """End the process, and wait until it is gone; repeating it is harmless."""
        with self._beginning:
            self._closing.set()
            if self.process is not None:
                self.process.end()
        await asyncio.get_running_loop().run_in_executor(None, self._keeper.join, STOP_S)

    # --- in a thread of its own --------------------------------------------------------------

    def _keep(self) -> None:
        """Hold one process at a time until the embedder is closed, or cannot be had at all."""
        failing, dying = FIRST_RETRY_S, RESTART_S
        while not self._closing.is_set():
            began = monotonic()
            try:
                failure = self._held()
            except OSError as exc:
                failure = f"no process can be started for the model ({type(exc).__name__})"
            if self._closing.is_set():
                break
            if failure is None:
                if monotonic() - began > FIRST_RETRY_S:
                    dying = RESTART_S
                elif dying > RESTART_S:  # again: nobody is to wait for it as for one that loads
                    self.state = "failed"
                pause, dying = dying, min(dying * 2, FIRST_RETRY_S)
            else:
                self.state, self.reason = "failed", failure
                self._settled.set()
                _log.warning("model_not_loaded", model=self._name, reason=failure)
                if not self._retry and self._size is None:
                    break
                pause, failing = failing, min(failing * 2, LAST_RETRY_S)
            self._closing.wait(pause)
        self._settled.set()

    def _held(self) -> str | None:
        """One process from its start to its end: None where it served, else why it did not."""
        process = self._begun()
        if process is None:
            return None
        try:
            greeting = process.greeting()
            failure = self._failure(process, greeting)
            if greeting is None or failure is not None:
                return failure
            self._size = greeting.size
            self.state, self.reason = "ready", ""
            self._settled.set()
            _log.info("model_loaded", model=self._name, dimensions=greeting.size)
            status = process.wait()
            self.state = "loading"
            self.reason = (
                f"the model's process ended (exit status {status}) and is started again; if it"
                " goes on, see that there is memory enough"
            )
            if not self._closing.is_set():
                _log.error("model_process_ended", model=self._name, code=status, restarted=True)
            return None
        finally:
            process.discard()

    def _begun(self) -> ModelProcess | None:
        with self._beginning:
            if self._closing.is_set():
                return None
            self.process = ModelProcess(
                {
                    "model": self._name,
                    "cache_dir": str(self._cache_dir) if self._cache_dir else None,
                    "model_path": str(self._model_path) if self._model_path else None,
                    "threads": self._threads,
                }
            )
            return self.process

    def _failure(self, process: ModelProcess, greeting: Greeting | None) -> str | None:
        """Why what it says at its start is not enough; None where it is."""
        if greeting is None:
            return (
                f"the process of the model {self._name!r} ended at its start (exit status"
                f" {process.wait()}); see that there is memory enough"
            )
        if greeting.failure is not None:
            return _why(greeting.failure, self._name, self._model_path)
        expected = self._expected or self._size
        if expected is not None and greeting.size != expected:
            return (
                f"embedding.model {self._name!r} gives vectors of {greeting.size} numbers, while"
                f" {expected} are stored; vectors of two sizes are never mixed. Set the model back"
                " to what it was"
            )
        return None


def _why(failure: str, model: str, model_path: Path | None) -> str:
    if model_path is not None:
        return (
            f"embedding.model_path {str(model_path)!r} cannot be read as {model!r}"
            f" ({failure}); it must hold model.onnx, tokenizer.json and their configs"
        )
    return (
        f"the model {model!r} cannot be had ({failure}); a machine that cannot reach a"
        " model hub needs embedding.model_path"
    )
