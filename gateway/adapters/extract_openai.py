"""Facts from any OpenAI-compatible LLM, asked as docs/formats.md says.

Strategy: one chat completion a batch. The answer's form is asked for as strictly as the
upstream allows: a JSON schema, else any JSON object, else plain text; a form that is refused
once is not tried again in this process. An answer that does not fit is asked for once more,
with what was wrong; then whatever of it is well-formed is taken. Retrying is the queue's
business: this adapter says whether the try counts, and how long the upstream asked to wait.

The request goes straight to the upstream, not through the gateway: it neither gains memory
nor is it remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from gateway.config import extraction_prompt
from gateway.core.errors import ExtractorUnavailable
from gateway.core.extraction import (
    SCHEMA_NAME,
    ExtractionBatch,
    NoAnswer,
    faults_of,
    read_answer,
    request_json,
    response_schema,
    salvage,
)
from gateway.telemetry import tracing
from gateway.telemetry.logs import log, without_secrets
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FORMS: Final[tuple[dict[str, Any] | None, ...]] = (
    {
        "type": "json_schema",
        "json_schema": {"name": SCHEMA_NAME, "strict": True, "schema": response_schema()},
    },
    {"type": "json_object"},
    None,
)
"""Ways to ask for JSON, the strictest first."""

FORM_REFUSED: Final = frozenset({400, 404, 415, 422, 501})
"""Statuses that upstreams give to a response format they do not have, with its name in the
message: a 400 has many other reasons."""
UNSAID: Final = frozenset({400, 415, 422, 501})
"""Of those, statuses with which some refuse a form and do not name it ("Unknown name
additionalProperties", "Bad Request"): a weaker form is tried, and learned if it is taken."""
ABOUT_THE_BATCH: Final = re.compile(
    r"context|length|too (?:long|large|many|big)|maximum|exceed|tokens?\b"
    r"|polic|filter|safety|flagged"
)
"""A refusal of what was asked, not of how: another form would be refused as well."""
FORM_WORDS: Final = (
    "response_format",
    "response format",
    "json_schema",
    "json schema",
    "json_object",
    "structured output",
    "guided",
    "grammar",
)
FAULTS_NAMED: Final = 10
MAX_BODY: Final = 8 * 2**20
MAX_WAIT_S: Final = 3600.0
PING_S: Final = 10.0


class OpenAIExtractor:
    """The port `Extractor` over `/chat/completions`. `api_key` may be absent for a server of
    one's own; `prompt` is what the model is told in place of our own words."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        model: str,
        timeout_s: float = 60.0,
        prompt: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._base_url = base_url
        self._place = without_secrets(base_url)  # what is told of it: /readyz is open to all
        self._api_key = api_key
        self._model = model
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._form = 0
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        self._prompt = prompt or extraction_prompt(None)

    @property
    def name(self) -> str:
        return self._model

    async def extract(self, batch: ExtractionBatch) -> list[Any]:
        """Raises ExtractorUnavailable."""
        request = request_json(batch)
        answer = await self._ask(self._prompt, request)
        facts, faults = _read(answer)
        if not faults:
            return facts or []
        again = await self._ask(f"{self._prompt}\n{_correction(answer, faults)}", request)
        better, _ = _read(again)
        # An empty second answer to a first one that held facts is no correction of them.
        taken = better or facts or better
        if taken is None:
            # Nothing could be read, twice. What was whole before it was torn off still counts.
            taken = salvage(again) or salvage(answer)
            if not taken:
                raise ExtractorUnavailable(
                    f"{self._model} gave no usable answer: {faults[0]}", counts_as_try=True
                )
        return taken

    async def ping(self) -> None:
        """Ask for the list of models, which costs nothing; raises ExtractorUnavailable."""
        import openai

        client = await self._opened()
        try:
            await client.with_options(timeout=PING_S).models.with_raw_response.list()
        except openai.APIStatusError as exc:
            if exc.status_code in (401, 403) or exc.status_code >= 500:
                raise self._refused(exc) from exc
            # Many servers have no such list; that they answer is enough.
        except (openai.OpenAIError, ValueError) as exc:
            raise self._unreachable(exc) from exc

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    # --- one call ----------------------------------------------------------------------------

    async def _ask(self, system: str, request: str) -> str:
        """The text of one answer, in the strictest form that this upstream takes."""
        form = self._form
        unsaid: _FormRefused | None = None
        while True:
            try:
                body = await self._completion(system, request, FORMS[form])
            except _FormRefused as refused:
                form += 1
                if refused.named:
                    self._learn(form, refused.status)
                else:
                    unsaid = unsaid or refused
            except ExtractorUnavailable:
                if unsaid is None:
                    raise
                # Refused in every form: it was not the form.
                raise self._refused(unsaid.cause) from unsaid.cause
            else:
                if unsaid is not None:
                    self._learn(form, unsaid.status)
                return self._text_of(body)

    def _learn(self, form: int, status: int) -> None:
        # Another call of this process may have learned it meanwhile.
        if self._form < form:
            self._form = form
            log("extraction").info("response_format_not_taken", model=self._model, status=status)

    async def _completion(self, system: str, request: str, form: dict[str, Any] | None) -> bytes:
        import openai

        client = await self._opened()
        extra: dict[str, Any] = {} if form is None else {"response_format": form}
        about = tracing.model_call("chat", self._model, self._base_url)
        try:
            with tracing.span(f"chat {self._model}", "client", about):
                raw = await client.chat.completions.with_raw_response.create(
                    model=self._model,
                    messages=[
                        {"role": "system", "content": system},
                        {"role": "user", "content": request},
                    ],
                    **extra,
                )
        except openai.APIStatusError as exc:
            said = _message(exc).casefold()
            named = any(word in said for word in FORM_WORDS)
            unsaid = exc.status_code in UNSAID and not ABOUT_THE_BATCH.search(said)
            if form is not None and ((named and exc.status_code in FORM_REFUSED) or unsaid):
                raise _FormRefused(exc, named=named) from exc
            raise self._refused(exc) from exc
        except (openai.OpenAIError, ValueError) as exc:
            raise self._unreachable(exc) from exc
        body: bytes = raw.http_response.content
        if len(body) > MAX_BODY:
            raise ExtractorUnavailable(
                f"{self._model} answered {len(body)} bytes", counts_as_try=True
            )
        return body

    def _text_of(self, body: bytes) -> str:
        """The message's text. What is no chat completion at all came from something between."""
        try:
            answer = json.loads(body)
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
            raise ExtractorUnavailable(
                f"what {self._place} answered is no chat completion", counts_as_try=False
            ) from exc
        self._count(answer.get("usage"))
        if isinstance(text, list):
            said = [part.get("text") for part in text if isinstance(part, Mapping)]
            text = "".join(part for part in said if isinstance(part, str))
        if not isinstance(text, str) or not text.strip():
            why = "refused" if message.get("refusal") else "answered without any text"
            raise ExtractorUnavailable(f"{self._model} {why}", counts_as_try=True)
        return text

    def _count(self, usage: Any) -> None:
        if self._metrics is None or not isinstance(usage, Mapping):
            return
        for direction, name in (("in", "prompt_tokens"), ("out", "completion_tokens")):
            if isinstance(count := usage.get(name), int) and count > 0:
                self._metrics.extractor_tokens.labels(direction).inc(count)

    # --- translation -------------------------------------------------------------------------

    def _refused(self, exc: Any) -> ExtractorUnavailable:
        """Refusals that are about this very request count as a try; all others may pass."""
        status = exc.status_code
        counts = status in (400, 413, 415, 422)
        hint = {
            401: "; check extraction.api_key",
            403: "; check extraction.api_key",
            404: "; check extraction.base_url and extraction.model",
        }.get(status, "")
        return ExtractorUnavailable(
            f"{self._model} at {self._place} answered {status}{hint}",
            counts_as_try=counts,
            retry_after_s=_retry_after(exc.response.headers),
            code=str(status),
        )

    def _unreachable(self, exc: Exception) -> ExtractorUnavailable:
        return ExtractorUnavailable(
            f"{self._model} at {self._place} gave no answer ({type(exc).__name__});"
            " see that it runs",
            counts_as_try=False,
        )

    async def _opened(self) -> AsyncOpenAI:
        """The client, made at first use: importing it takes most of a second."""
        async with self._opening:
            if self._client is None:
                await asyncio.to_thread(__import__, "openai")
                import openai

                nobodys: dict[str, Any] = {
                    "OpenAI-Organization": openai.omit,
                    "OpenAI-Project": openai.omit,
                }
                self._client = openai.AsyncOpenAI(
                    base_url=self._base_url,
                    # Never the environment's: a key goes only where it was set for.
                    api_key=self._api_key or "none",
                    admin_api_key="",
                    organization="",
                    project="",
                    default_headers=nobodys,
                    max_retries=0,
                    timeout=self._timeout_s,
                    http_client=openai.DefaultAsyncHttpxClient(
                        follow_redirects=False, timeout=self._timeout_s
                    ),
                )
            return self._client


class _FormRefused(Exception):
    """`named` where the refusal says that it is about the form."""

    def __init__(self, cause: Any, *, named: bool) -> None:
        super().__init__(cause.status_code)
        self.cause = cause
        self.status: int = cause.status_code
        self.named = named


def _read(answer: str) -> tuple[list[Any] | None, list[str]]:
    """The facts of an answer (None: it cannot be read), and what is wrong with it."""
    try:
        facts = read_answer(answer)
    except NoAnswer as exc:
        return None, [str(exc)]
    return facts, faults_of(facts)


def _correction(answer: str, faults: Sequence[str]) -> str:
    """What to tell the model before it answers again. Its first answer is shown in part:
    a long one would crowd out the turns."""
    named = "\n".join(f"- {fault}" for fault in faults[:FAULTS_NAMED])
    return (
        "\n# Correction\n\nYour first answer to this request could not be used:\n"
        f"{named}\nIt began: {json.dumps(answer[:500], ensure_ascii=False)}\n"
        'Answer again, with the whole object {"facts": […]} and nothing else.\n'
    )


def _message(exc: Any) -> str:
    return f"{exc.message} {exc.body!r}"[:4000]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that an upstream asked to wait: `retry-after-ms`, or `Retry-After` as seconds or
    as a date; at most an hour."""
    seconds: float | None = None
    with contextlib.suppress(ValueError, TypeError):
        seconds = float(headers["retry-after-ms"]) / 1000 if "retry-after-ms" in headers else None
    given = headers.get("retry-after")
    if seconds is None and given is not None:
        try:
            seconds = float(given)
        except ValueError:
            with contextlib.suppress(ValueError, TypeError):
                sent = parsedate_to_datetime(headers.get("date", ""))
                seconds = (parsedate_to_datetime(given) - sent).total_seconds()
    if seconds is None or not seconds > 0:
        return None
    return min(seconds, MAX_WAIT_S)
