"""Embeddings computed here, with a tiny real ONNX model in fastembed's layout: no hub is asked.

The model looks up a vector for each of its few words and leaves pooling to fastembed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.embed_auto import AutoEmbedder
from gateway.adapters.embed_fastembed import (
    DEFAULT_MODEL,
    DOCUMENTS_NICE,
    FastembedEmbedder,
    installed,
)
from gateway.adapters.embed_none import NoEmbedder
from gateway.core.errors import EmbedderUnavailable
from gateway.ports import EmbeddingModel
from tests.adapters.tiny_model import SIZE, write_tiny_model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def embedder(model_path: Path) -> AsyncIterator[FastembedEmbedder]:
    made = FastembedEmbedder(model_path=model_path, threads=1)
    await made.settle(30.0)
    yield made
    await made.close()


def _cosine(a: object, b: object) -> float:
    assert isinstance(a, list)
    assert isinstance(b, list)
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_it_is_installed_for_these_tests() -> None:
    assert installed() == (importlib.util.find_spec("fastembed") is not None) is True


async def test_texts_become_normalised_vectors_in_order(embedder: FastembedEmbedder) -> None:
    cat, dog, cats = await embedder.embed(["cat", "dog", "cat cat"])
    assert len(cat) == SIZE
    assert math.hypot(*cat) == pytest.approx(1.0, abs=1e-5)
    assert _cosine(cat, cats) == pytest.approx(1.0, abs=1e-4)
    assert _cosine(cat, dog) < 0.9


async def test_a_question_has_the_same_vector_as_its_words(embedder: FastembedEmbedder) -> None:
    (question,) = await embedder.embed(["cat"], query=True)
    (document,) = await embedder.embed(["cat"])
    assert question == pytest.approx(document, abs=1e-5)


async def test_more_texts_than_one_batch_keep_their_order(embedder: FastembedEmbedder) -> None:
    texts = ["cat", "dog"] * 20
    vectors = await embedder.embed(texts)
    assert vectors[0] == pytest.approx(vectors[38], abs=1e-5)
    assert vectors[1] == pytest.approx(vectors[39], abs=1e-5)


async def test_the_model_is_named_with_the_size_of_its_files(embedder: FastembedEmbedder) -> None:
    assert embedder.state == "ready"
    assert embedder.model == EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)
    await embedder.ping()


async def test_nothing_waits_for_the_model_to_load(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path)
    if embedder.state == "loading":
        assert embedder.model is None
        with pytest.raises(EmbedderUnavailable) as caught:
            await embedder.embed(["cat"])
        assert caught.value.code == "loading"
    await embedder.settle(30.0)
    assert len(await embedder.embed(["cat"])) == 1
    await embedder.close()


async def test_a_model_path_that_holds_no_model_says_what_it_must_hold(tmp_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=tmp_path, retry=False)
    await embedder.settle(30.0)
    assert embedder.state == "failed"
    with pytest.raises(EmbedderUnavailable, match=r"must hold model\.onnx"):
        await embedder.ping()
    await embedder.close()


async def test_a_model_of_another_size_than_stored_is_not_used(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path, expected=384, retry=False)
    await embedder.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match=f"{SIZE} numbers, while 384"):
        await embedder.embed(["cat"])
    assert embedder.model is None
    await embedder.close()


async def test_a_question_is_not_behind_a_long_batch_of_documents(
    embedder: FastembedEmbedder,
) -> None:
    batch = asyncio.gather(embedder.embed(["cat dog " * 200] * 400))
    await embedder.embed(["cat"], query=True)
    assert not batch.done()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all threads have one niceness")
async def test_documents_step_back_before_questions_and_requests(
    embedder: FastembedEmbedder,
) -> None:
    await embedder.embed(["cat"], query=True)
    await embedder.embed(["cat"])
    threads = [(t.name, t.native_id) for t in threading.enumerate() if t.native_id is not None]

    def nice(name: str) -> set[int]:
        return {os.getpriority(os.PRIO_PROCESS, id) for n, id in threads if n.startswith(name)}

    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice("embed-question") == {here}
    assert nice("embed-documents") == {min(19, here + DOCUMENTS_NICE)}


async def test_after_closing_it_is_unavailable(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path)
    await embedder.settle(30.0)
    await embedder.close()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["cat"])


async def test_auto_takes_the_local_model_once_it_is_ready(model_path: Path) -> None:
    auto = AutoEmbedder(local := FastembedEmbedder(model_path=model_path), NoEmbedder("none"))
    await local.settle(30.0)
    assert auto.model == local.model
    assert len(await auto.embed(["cat"])) == 1
    await auto.close()


async def test_auto_takes_the_other_once_the_local_model_has_failed(tmp_path: Path) -> None:
    local = FastembedEmbedder(model_path=tmp_path, retry=False)
    auto = AutoEmbedder(local, NoEmbedder("lexical only"))
    await local.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match="lexical only"):
        await auto.embed(["cat"])
    with pytest.raises(EmbedderUnavailable, match="lexical only"):
        await auto.ping()
    await auto.close()


async def test_auto_without_another_is_none_for_as_long_as_the_local_model_cannot_be_had(
    tmp_path: Path,
) -> None:
    local = FastembedEmbedder(model_path=tmp_path, retry=False)
    auto = AutoEmbedder(local, None)
    await local.settle(30.0)
    assert auto.model is None
    with pytest.raises(EmbedderUnavailable, match="recall is lexical") as caught:
        await auto.ping()
    assert caught.value.code == "none"
    await auto.close()


def test_the_tiny_model_is_as_small_as_it_says(model_path: Path) -> None:
    assert json.loads((model_path / "config.json").read_text())["hidden_size"] == SIZE
    assert (model_path / "model.onnx").stat().st_size < 10_000
