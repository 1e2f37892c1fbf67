"""Rereading by a real cross-encoder, tiny, from a directory; no hub is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.rerank_fastembed import FastembedReranker
from gateway.core.errors import EmbedderUnavailable
from tests.adapters.tiny_cross_encoder import write_tiny_cross_encoder


@pytest.fixture
async def reranker(tmp_path: Path) -> AsyncIterator[FastembedReranker]:
    made = FastembedReranker(str(write_tiny_cross_encoder(tmp_path)))
    await made.settle(20.0)
    yield made
    await made.close()


async def test_each_text_is_read_with_the_question(reranker: FastembedReranker) -> None:
    fits = await reranker.rerank("what is best", ["good", "best", "better good"])
    assert fits == [4.0, 6.0, 6.0]


async def test_no_texts_are_no_work(reranker: FastembedReranker) -> None:
    assert await reranker.rerank("what", []) == []


async def test_texts_of_any_kind_and_length_are_read(reranker: FastembedReranker) -> None:
    texts = ["", "🙂", "best " * 5000, "\x00"]
    assert len(await reranker.rerank("what", texts)) == 4


async def test_a_model_that_cannot_be_had_is_unavailable_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    made = FastembedReranker(str(tmp_path))
    await made.settle(20.0)
    with pytest.raises(EmbedderUnavailable, match=r"memory\.rerank_model") as caught:
        await made.rerank("what", ["good"])
    assert caught.value.code == "failed"
    await made.close()


async def test_while_it_is_loading_it_is_unavailable(tmp_path: Path) -> None:
    made = FastembedReranker(str(write_tiny_cross_encoder(tmp_path)))
    if made.state == "loading":
        with pytest.raises(EmbedderUnavailable, match="loaded"):
            await made.rerank("what", ["good"])
    await made.settle(20.0)
    assert made.state == "ready"
    await made.close()
