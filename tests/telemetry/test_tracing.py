"""Traces: one request across gateway, upstream and worker, without a word of what was said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.core.errors import SettingsError
from gateway.telemetry import tracing
from gateway.telemetry.tracing import NO_SPAN, begin, span
from tests.web.house import House, house


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Any, redis: Any) -> AsyncIterator[House]:
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened


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
