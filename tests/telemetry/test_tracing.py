"""Traces: one request across gateway, upstream and worker, without a word of what was said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes
from opentelemetry.trace import SpanKind

from gateway.core.errors import SettingsError
from gateway.flows.parts import Parts
from gateway.telemetry import tracing
from gateway.telemetry.tracing import NO_SPAN, begin, span
from tests.flows.workshop import ScriptedModel, fact, workshop
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Any, redis: Any) -> AsyncIterator[House]:
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened


CONVENTIONS = (
    gen_ai_attributes,
    messaging_attributes,
    server_attributes,
    http_attributes,
    error_attributes,
)
ABOVE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.close()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    return next(s for s in exporter.get_finished_spans() if s.name == name)


def attributes(one: ReadableSpan) -> dict[str, Any]:
    return dict(one.attributes or {})


def test_switched_off_a_span_is_nothing() -> None:
    with span("recall") as opened:
        assert opened is NO_SPAN
        opened.set({"memory.status": "ok"})
    assert begin("chat").traceparent is None


def test_spans_lie_within_one_another_and_below_the_callers(spans: InMemorySpanExporter) -> None:
    with span("outer", "server", parent=ABOVE), span("inner"):
        pass
    outer, inner = named(spans, "outer"), named(spans, "inner")
    assert outer.parent is not None
    assert inner.parent is not None
    assert f"{outer.parent.span_id:x}" == "b" * 16
    assert inner.parent.span_id == outer.context.span_id


def test_an_error_is_named_by_its_type_and_not_by_its_words(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), span("recall"):
        raise ValueError("a secret")
    one = named(spans, "recall")
    assert attributes(one) == {"error.type": "ValueError"}
    assert "secret" not in one.to_json()


async def test_a_chat_is_traced_to_the_upstream_and_its_exchange(
    spans: InMemorySpanExporter, gateway: Any, upstream: Any
) -> None:
    async with gateway.client(x_memory_user="ana", traceparent=ABOVE) as client:
        await client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "I like figs"}]},
        )
    said = await gateway.handed_over()
    call, request = named(spans, "chat m"), named(spans, "POST /v1/chat/completions")
    assert f"{call.context.trace_id:x}" == "a" * 32
    assert call.parent is not None
    assert call.parent.span_id == request.context.span_id
    assert upstream.requests[0].header("traceparent") == said[0].trace
    assert attributes(call)["gen_ai.operation.name"] == "chat"
    assert attributes(call)["gen_ai.request.model"] == "m"
    assert attributes(named(spans, "recall"))["memory.status"] == "ok"
    assert not [s for s in spans.get_finished_spans() if "figs" in s.to_json()]


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(SettingsError, match=r"memory-gateway\[otel\]"):
        tracing.configure(endpoint=None, service_name="x")


async def test_each_stage_of_a_recall_is_a_span_below_it(
    spans: InMemorySpanExporter, gateway: Any
) -> None:
    await gateway.know("The user likes figs")
    async with gateway.client(x_memory_user="ana") as client:
        await client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "do I like figs?"}]},
        )
    recall = named(spans, "recall")
    for stage in ("pending", "lexical", "embedding", "scoring", "choice"):
        below = named(spans, f"recall-{stage}")
        assert below.parent is not None
        assert below.parent.span_id == recall.context.span_id
        assert recall.start_time <= below.start_time <= below.end_time <= recall.end_time


async def test_a_stage_that_is_late_ends_with_the_recall(spans: InMemorySpanExporter) -> None:
    parts = Parts(0.01)
    late = parts.begin(asyncio.Event().wait(), "recall-dense")
    assert await parts.within(late, "dense") is None
    parts.end()
    await asyncio.wait([late])
    assert attributes(named(spans, "recall-dense")) == {"error.type": "cancelled"}


async def test_a_workers_span_is_linked_to_the_chat_and_holds_the_models_calls(
    spans: InMemorySpanExporter, tmp_path: Path, redis: Redis
) -> None:
    with ScriptedModel() as model:
        async with workshop(tmp_path, redis, model, embeds=True) as shop:
            await shop.learn("I like figs", "Noted", facts=[fact("User likes figs")], trace=ABOVE)
    distilled, plan = named(spans, "distil"), named(spans, "plan")
    assert [f"{link.context.trace_id:x}" for link in distilled.links] == ["a" * 32]
    assert plan.parent is not None
    assert plan.parent.span_id == distilled.context.span_id
    calls = [s for s in spans.get_finished_spans() if "gen_ai.operation.name" in attributes(s)]
    assert {attributes(s)["gen_ai.operation.name"] for s in calls} == {"chat", "embeddings"}
    for call in calls:
        assert call.parent is not None
        assert call.kind is SpanKind.CLIENT
        assert attributes(call)["server.address"] == "127.0.0.1"
        assert "figs" not in call.to_json()


async def test_names_of_attributes_are_those_of_the_conventions(
    spans: InMemorySpanExporter, gateway: Any
) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        await client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "I like figs"}]},
        )
    await gateway.background.drain(5)
    call = attributes(named(spans, "chat m"))
    assert call["gen_ai.response.finish_reasons"] == ("stop",)
    known = {
        value
        for module in CONVENTIONS
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }
    ours = {name for one in spans.get_finished_spans() for name in attributes(one)}
    assert {name for name in ours if not name.startswith("memory.")} <= known
