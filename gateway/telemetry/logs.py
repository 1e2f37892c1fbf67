"""One stream of log lines on stderr, for people (console) or machines (JSON).

Everything goes through here: structlog's events, and the standard logging of uvicorn, httpx
and whoever else speaks. The last step before a line is written takes out what must not be in
a log: secrets always, words of a conversation unless `log.content` is on. That is a net, not
a licence: no caller hands such things to the log in the first place.

A part that stays away would say so with every request: `Outage` says it once, counts, and
says when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from gateway.core.errors import GatewayError

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# fmt: off
SECRET_KEYS = frozenset({
    "api_key", "apikey", "authorization", "cookie", "credential", "credentials", "key_material",
    "password", "proxy_authorization", "secret", "set_cookie", "signature", "signing_secret",
    "token", "x_memory_key",
})
CONTENT_KEYS = frozenset({
    "answer", "body", "content", "facts", "input", "memories", "memory", "messages", "output",
    "prompt", "query", "question", "quote", "request_body", "response_body", "summary", "text",
    "texts", "transcript", "turn", "turns", "value", "words",
})
# fmt: on
LEFT_OUT = "(left out)"

_SECRETS = re.compile(
    r"""
      (?P<bearer> \b (?:bearer|basic) \s+ ) [^\s"',]+
    | (?P<userinfo> ://[^\s/:@"']* : ) [^\s/"']+ (?=@)
    | (?P<named> :// ) [^\s/?\#:@"']+ (?=@)          # a token that stands where a name would
    | (?P<parameter> [?&]\w*password= ) [^\s&"']+
    | \b (?P<prefix> sk- | mgl?_ | pk- | gsk_ | xox[abp]- ) [A-Za-z0-9_\-]{6,}
    | \b eyJ[A-Za-z0-9_\-]{8,} \. [A-Za-z0-9_\-]+ \. [A-Za-z0-9_\-]+      # a JSON web token
    """,
    re.VERBOSE | re.IGNORECASE,
)

UNFINISHED = "ASGI callable returned without completing response."
CANCELLED = "Cancel %s running task(s), timeout graceful shutdown exceeded"

# These say whole requests and answers when they are asked to debug, and a line a call before.
_TALKATIVE = (
    "aiohttp", "hpack", "httpcore", "httpcore2", "httpx", "httpx2", "openai", "qdrant_client",
    "urllib3",
)  # fmt: skip


def log(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room: `log("recall").warning("part_away", part="store")`.

    Events are short snake_case names; everything that varies is a keyword.
    """
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


class _Said:
    """From which level on lines are written, and whether a terminal's may be in colour."""

    threshold = 0
    colours = True


def allow_colours(allowed: bool) -> None:
    """Whether this process may use colours at all: who started it may not want any (NO_COLOR)."""
    _Said.colours = allowed


def in_colour(stream: TextIO) -> bool:
    return _Said.colours and stream.isatty()


def is_said(level: str) -> bool:
    """Whether a line of this level is written at all: asking takes less than a line that is not
    (4 µs), where there is one with every chat."""
    return LEVELS[level] >= _Said.threshold


def configure(
    level: str = "info",
    format: str = "console",
    *,
    content: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Set up logging for this process; calling it again replaces the set-up before.

    `content` lets conversation words through (never secrets). `stream` is stderr unless
    told otherwise.
    """
    sink = stream or sys.stderr
    threshold = _Said.threshold = LEVELS[level]
    first: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _Clean(content=content),
        _renderer(format, colours=in_colour(sink)),
    ]
    structlog.configure(
        processors=[*first, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=first, processors=last)
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "gateways_own", False)]:
        root.removeHandler(old)
    handler.gateways_own = True  # type: ignore[attr-defined]
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(threshold if content else max(threshold, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        # Its coming and going are said by who runs it, in lines of ours. (Also: a server made
        # silent earlier in this process speaks.)
        logger.setLevel(max(threshold, logging.WARNING))
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"
    logging.getLogger("uvicorn.error").addFilter(_not_said_by_us)
    logging.captureWarnings(capture=True)


def _not_said_by_us(record: logging.LogRecord) -> bool:
    """Not uvicorn's error for an answer that broke off at the upstream: it is left unfinished on
    purpose, so that the client sees it. The chat's own line says so (`outcome`), and a metric.
    Nor its errors for answers that an end cuts off, of which each had a traceback besides: `serve`
    says it once (`cut_off`)."""
    cancelled = isinstance(_error_of(record.exc_info), asyncio.CancelledError)
    return not cancelled and record.msg not in (UNFINISHED, CANCELLED)


def _renderer(format: str, *, colours: bool) -> structlog.typing.Processor:
    if format == "console":
        return structlog.dev.ConsoleRenderer(colors=colours, timestamp_key="at")
    return structlog.processors.JSONRenderer(serializer=_json)


def _json(event: Mapping[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


# --- what a line may hold ----------------------------------------------------------------


def without_secrets(text: str) -> str:
    """The text with keys, tokens and passwords masked, their kind still to be seen."""
    return _SECRETS.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    kept = next((part for part in found.groupdict().values() if part), "")
    return f"{kept}***"


class _Clean:
    """The last processor before rendering: exceptions to text, secrets and content out."""

    def __init__(self, *, content: bool) -> None:
        self._content = content

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        exc_info = event.pop("exc_info", None)
        error = _error_of(exc_info)
        if error is not None:
            event["exception"] = "\n".join(_told(error, content=self._content))
        # asyncio puts the repr of a failed task, its exception's words included, below the
        # first line of its message.
        if event.get("logger") == "asyncio" and not self._content:
            event["event"] = str(event.get("event", "")).split("\n", 1)[0]
        for key in list(event):
            event[key] = self._clean(key, event[key])
        return event

    def _clean(self, key: str, value: Any) -> Any:
        name = key.lower().replace("-", "_")
        if name in SECRET_KEYS and value is not None:
            return LEFT_OUT
        if isinstance(value, bool | int | float) or value is None:
            return value  # `memories=3` is a count
        if name in CONTENT_KEYS and not self._content:
            return LEFT_OUT
        if isinstance(value, str):
            return without_secrets(value)
        if isinstance(value, Mapping):
            return {str(k): self._clean(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(key, part) for part in value]
        if isinstance(value, BaseException):
            return without_secrets(_words(value, content=self._content))
        return without_secrets(str(value))


def _error_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _told(error: BaseException, *, content: bool) -> Iterator[str]:
    """A traceback, causes first. Frames are our code; words only where they can hold no
    conversation: those of our own errors and of the operating system."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _told(cause, content=content)
        yield "then:"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield _words(error, content=content)
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _told(part, content=content)


def _words(error: BaseException, *, content: bool) -> str:
    kind = type(error).__qualname__
    if content or isinstance(error, GatewayError | OSError):
        return f"{kind}: {error}"
    return f"{kind} (its words are left out while log.content is off)"


# --- a failure that repeats ----------------------------------------------------------------


STEADY_S = 0.5
"""A part is back once it answers this long after its last failure: what answers and fails in turns
(a server whose short answers come through and whose long ones break off) is one outage."""


class Outage:
    """Says once that a part failed, counts while it goes on, and says when it is back.

    A reminder comes every `remind_s` seconds. One per part and process; cheap to call.
    """

    def __init__(
        self,
        logger: structlog.stdlib.BoundLogger,
        part: str,
        *,
        remind_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = logger
        self._part = part
        self._remind_s = remind_s
        self._clock = clock
        self._failures = 0
        self._failed_at = 0.0
        self._said_at = 0.0

    @property
    def ongoing(self) -> bool:
        return self._failures > 0

    def failed(self, reason: object, **context: Any) -> None:
        """The part failed (again). `reason` is an error or a short text without content."""
        self._failures += 1
        now = self._failed_at = self._clock()
        if self._failures == 1 or now - self._said_at >= self._remind_s:
            self._said_at = now
            self._log.warning(
                "part_failing", part=self._part, reason=reason, times=self._failures, **context
            )

    def recovered(self) -> None:
        """The part answered; says so where it had failed, and has not for `STEADY_S`."""
        if self._failures and self._clock() - self._failed_at >= STEADY_S:
            self._log.info("part_back", part=self._part, after_failures=self._failures)
            self._failures = 0
