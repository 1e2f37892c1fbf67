"""The memory of questions' vectors: what it answers, what it keeps, what it counts."""

from __future__ import annotations

import pytest

from gateway.adapters.embed_cached import ENTRY_OVERHEAD, CachedEmbedder
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.embed_openai import OpenAIEmbedder
from gateway.core.errors import EmbedderUnavailable
from gateway.lab.scripted_upstream import ScriptedUpstream, embed
from gateway.telemetry.metrics import Metrics


def _over(upstream: ScriptedUpstream, metrics: Metrics, **options: int) -> CachedEmbedder:
    inner = OpenAIEmbedder(upstream.base_url, api_key=None, model="small")
    return CachedEmbedder(inner, metrics, **options)


async def test_a_question_that_was_asked_before_is_not_asked_again(
    upstream: ScriptedUpstream,
) -> None:
    metrics = Metrics()
    embedder = _over(upstream, metrics)
    first = await embedder.embed(["where do I live?", "who am I?"], query=True)
    again = await embedder.embed(["who am I?", "where do I live?"], query=True)
    assert again == [first[1], first[0]]
    assert list(first[0]) == pytest.approx(embed("where do I live?", 64), abs=1e-6)
    assert len(upstream.all) == 1
    assert b'memory_gateway_query_cache_lookups_total{result="hit"} 2.0' in metrics.render()
    await embedder.close()


async def test_only_what_is_missing_is_asked_and_twice_the_same_once(
    upstream: ScriptedUpstream,
) -> None:
    embedder = _over(upstream, Metrics())
    await embedder.embed(["a"], query=True)
    vectors = await embedder.embed(["b", "a", "b"], query=True)
    assert upstream.all[1].json()["input"] == ["b"]
    assert vectors[0] == vectors[2] != vectors[1]
    await embedder.close()


async def test_documents_pass_by(upstream: ScriptedUpstream) -> None:
    embedder = _over(upstream, Metrics())
    await embedder.embed(["a"])
    await embedder.embed(["a"])
    assert len(upstream.all) == 2
    await embedder.close()


async def test_it_stays_within_its_bytes_and_forgets_the_oldest_first(
    upstream: ScriptedUpstream,
) -> None:
    embedder = _over(upstream, Metrics(), max_bytes=2 * (64 * 4 + ENTRY_OVERHEAD))
    for text in ("a", "b", "a", "c", "a", "b"):
        await embedder.embed([text], query=True)
    assert [request.json()["input"] for request in upstream.all] == [["a"], ["b"], ["c"], ["b"]]
    await embedder.close()


async def test_a_failure_is_passed_on_counted_and_not_kept() -> None:
    metrics = Metrics()
    embedder = CachedEmbedder(NoEmbedder("embedding.provider is none"), metrics)
    with pytest.raises(EmbedderUnavailable, match="provider is none"):
        await embedder.embed(["a"], query=True)
    with pytest.raises(EmbedderUnavailable, match="provider is none"):
        await embedder.ping()
    assert embedder.model is None
    assert b'embedder_calls_total{result="none",use="query"} 1.0' in metrics.render()
