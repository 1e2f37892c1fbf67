"""Traces across gateway, upstream and worker, for OpenTelemetry where it is installed and on.

Off (the default), a span costs one comparison and holds nothing. On, names and attributes
follow the GenAI semantic conventions; attributes are ids, counts and times, never what was said.
An exchange carries the trace of the request that it came from (`traceparent`), and the worker's
spans link to it: what is distilled a minute later is no child of a request that is long over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

from gateway import __version__
from gateway.core.errors import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Kind: TypeAlias = Literal["internal", "server", "client", "consumer"]
Value: TypeAlias = str | int | float | bool | None

LISTS: Final = frozenset({"gen_ai.response.finish_reasons"})
"""Attributes that the conventions have as lists, though we know of one value alone."""


class _State:
    tracer: Tracer | None = None
    provider: TracerProvider | None = None


class Span:
    """A span that is open, or nothing at all."""

    __slots__ = ("_span",)

    def __init__(self, span: OtelSpan | None) -> None:
        self._span = span

    def set(self, attributes: dict[str, Value]) -> None:
        """Add attributes; those that are None are left out."""
        if self._span is not None:
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(name, [str(value)] if name in LISTS else value)

    def failed(self, kind: str) -> None:
        """What the span stands for went wrong; `kind` is a name without content."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """For a span of `begin`; a second end changes nothing."""
        if self._span is not None and self._span.is_recording():
            self._span.end()

    @property
    def traceparent(self) -> str | None:
        """How a request or a record names this span (W3C Trace Context)."""
        if self._span is None:
            return None
        context = self._span.get_span_context()
        flags = int(context.trace_flags)
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


NO_SPAN: Final = Span(None)


def is_on() -> bool:
    return _State.tracer is not None


def begin(
    name: str,
    kind: Kind = "internal",
    attributes: dict[str, Value] | None = None,
    *,
    parent: str | None = None,
    links: Iterable[str | None] = (),
) -> Span:
    """A span that its caller ends. `parent` and `links` are `traceparent`s; without a parent it
    lies within the span that is open here."""
    if _State.tracer is None:
        return NO_SPAN
    from opentelemetry import trace
    from opentelemetry.trace import Link, SpanKind

    above = _context_of(parent)
    linked = [found for link in links if (found := _context_of(link)) is not None]
    span = Span(
        _State.tracer.start_span(
            name,
            context=above,
            kind=SpanKind[kind.upper()],
            links=[Link(trace.get_current_span(one).get_span_context()) for one in linked],
        )
    )
    span.set(attributes or {})
    return span


@contextmanager
def span(
    name: str,
    kind: Kind = "internal",
    attributes: dict[str, Value] | None = None,
    *,
    parent: str | None = None,
    links: Iterable[str | None] = (),
) -> Iterator[Span]:
    """A span around what is done inside; an error that leaves it is named by its type."""
    if _State.tracer is None:
        yield NO_SPAN
        return
    from opentelemetry import trace

    opened = begin(name, kind, attributes, parent=parent, links=links)
    assert opened._span is not None  # noqa: S101 (for the type)
    with trace.use_span(
        opened._span, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield opened
        except asyncio.CancelledError:
            opened.failed("cancelled")
            raise
        except BaseException as exc:
            opened.failed(type(exc).__name__)
            raise


def past(name: str, seconds: float) -> None:
    """A span of what has just ended, and took so long."""
    if _State.tracer is not None:
        now_ns = time.time_ns()
        begun_ns = now_ns - int(seconds * 1e9)
        _State.tracer.start_span(name, start_time=begun_ns).end(now_ns)


def model_call(operation: str, model: str, url: str) -> dict[str, Value] | None:
    """The attributes of a call of a model, by the GenAI conventions; None while tracing is off.

    `openai` is the API that is spoken, whoever answers.
    """
    if _State.tracer is None:
        return None
    place = urlsplit(url)
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model or None,
        "server.address": place.hostname,
        "server.port": place.port or {"https": 443, "http": 80}.get(place.scheme),
    }


def _context_of(traceparent: str | None) -> Any:
    if not traceparent:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({"traceparent": traceparent})


# --- on and off --------------------------------------------------------------------------------


def configure(*, endpoint: str | None, service_name: str) -> None:
    """Send spans from now on. Raises SettingsError where OpenTelemetry is not installed."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        raise SettingsError(
            "tracing.enabled: true given, but OpenTelemetry is not installed; install the extra"
            ' (pip install "memory-gateway[otel]", or make run EXTRAS=otel) or turn it off',
            param="tracing.enabled",
        ) from exc
    resource = Resource.create({"service.name": service_name, "service.version": __version__})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    use(provider)


def use(provider: TracerProvider | None) -> None:
    """Send spans by this provider; None turns them off."""
    _State.provider = provider
    _State.tracer = None if provider is None else provider.get_tracer("gateway", __version__)


def close() -> None:
    """Send what waits, and no more after it."""
    provider = _State.provider
    use(None)
    if provider is not None:
        provider.shutdown()
