"""A cross-encoder computed here, by fastembed (ONNX on the CPU): the port `Reranker`.

Off unless the settings ask for it: reading twenty memories together with a question takes some
100 ms of a core, while all the rest of a recall takes two. The model is loaded by a thread of its
own; until it is there, rereading is unavailable and recall goes on without.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gateway.core.errors import EmbedderUnavailable
from gateway.telemetry.logs import log

DEFAULT_MODEL = "Xenova/ms-marco-MiniLM-L-6-v2"
"""80 MB, Apache-2.0, English."""

_log = log("reranker")


class FastembedReranker:
    """`model` is a name that fastembed knows, or a directory in its layout (`onnx/model.onnx`
    and the tokenizer's files), which is read without asking a hub."""

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        cache_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        self._name = model
        self._cache_dir = cache_dir
        self._threads = threads or max(1, (os.cpu_count() or 2) - 1)
        self._engine: Any = None
        self.state = "loading"
        self.reason = "the model is being loaded"
        self._settled = threading.Event()
        self._line = ThreadPoolExecutor(1, "rerank")
        threading.Thread(target=self._load, name="rerank-load", daemon=True).start()

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        """One number a text, in order; larger is better. Raises EmbedderUnavailable."""
        if self._engine is None:
            raise EmbedderUnavailable(f"no rereading: {self.reason}", code=self.state)
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._line, self._read, question, list(texts))

    async def settle(self, timeout_s: float) -> None:
        """Wait until loading has succeeded or failed, at most so long."""
        await asyncio.get_running_loop().run_in_executor(None, self._settled.wait, timeout_s)

    async def close(self) -> None:
        self._line.shutdown(wait=False, cancel_futures=True)

    # --- in threads of their own -----------------------------------------------------------

    def _load(self) -> None:
        try:
            from fastembed.rerank.cross_encoder import TextCrossEncoder

            local = Path(self._name).is_dir()
            self._engine = TextCrossEncoder(
                DEFAULT_MODEL if local else self._name,
                cache_dir=str(self._cache_dir) if self._cache_dir else None,
                threads=self._threads,
                specific_model_path=self._name if local else None,
            )
            self.state, self.reason = "ready", ""
            _log.info("model_loaded", model=self._name)
        except Exception as exc:  # noqa: BLE001 - hub, ONNX and tokenizers raise anything
            self.state = "failed"
            self.reason = (
                f"the model {self._name!r} cannot be had ({type(exc).__name__}); set"
                " memory.rerank_model to a name that fastembed knows, or to a directory with"
                " onnx/model.onnx and the tokenizer's files"
            )
            _log.warning("model_not_loaded", model=self._name, reason=self.reason)
        finally:
            self._settled.set()

    def _read(self, question: str, texts: list[str]) -> list[float]:
        try:
            return [float(fit) for fit in self._engine.rerank(question, texts)]
        except Exception as exc:  # ONNX and tokenizers raise types of their own
            raise EmbedderUnavailable(
                f"no rereading: {self._name} failed ({type(exc).__name__})", code="failing"
            ) from exc
