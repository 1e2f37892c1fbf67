"""Asking an OpenAI-compatible model for facts: over a real HTTP server that misbehaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from gateway.adapters.extract_openai import OpenAIExtractor
from gateway.core.errors import ExtractorUnavailable
from gateway.core.extraction import ExtractionBatch, ExtractionTurn
from gateway.lab.scripted_upstream import Die, Raw, Say, Stall, refusal
from gateway.telemetry.metrics import Metrics
from tests.flows.workshop import ScriptedModel, fact

AT = 1_780_000_000.0
BATCH = ExtractionBatch(
    AT, "UTC", (), (ExtractionTurn(1, "user", AT, "I live in Rome", "exc_1", "turn_1"),)
)
HOME = fact("User lives in Rome", quote="I live in Rome")


@pytest.fixture(scope="module")
def _model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as running:
        yield running


@pytest.fixture
def model(_model: ScriptedModel) -> ScriptedModel:
    return _model.as_new()


@pytest.fixture
async def extractor(model: ScriptedModel) -> AsyncIterator[OpenAIExtractor]:
    opened = OpenAIExtractor(model.base_url, api_key="sk-own", model="small", timeout_s=5)
    yield opened
    await opened.close()


def formats(model: ScriptedModel) -> list[str | None]:
    return [(body.get("response_format") or {}).get("type") for body in model.bodies]


async def test_the_request_is_the_contracts(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [[HOME]]
    assert await extractor.extract(BATCH) == [HOME]
    (body,) = model.bodies
    assert body["model"] == "small"
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["name"] == "memory_extraction"
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert model.asked[0]["turns"][0]["text"] == "I live in Rome"
    assert "stream" not in body


async def test_the_key_is_the_one_that_was_set_and_nothing_of_the_environments(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    for key, sent in (("sk-own", "Bearer sk-own"), (None, "Bearer none")):
        extractor = OpenAIExtractor(model.base_url, api_key=key, model="small")
        await extractor.extract(BATCH)
        await extractor.close()
        request = model.all[-1]
        assert request.header("authorization") == sent
        assert not any(b"environment" in value for _, value in request.headers)


async def test_a_form_that_is_refused_is_learned_and_not_tried_again(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [
        refusal(400, "response_format json_schema is not supported"),
        refusal(422, "Unknown field: response_format"),
        [HOME],
        [HOME],
    ]
    assert await extractor.extract(BATCH) == [HOME]
    assert await extractor.extract(BATCH) == [HOME]
    assert formats(model) == ["json_schema", "json_object", None, None]


async def test_a_refusal_of_something_else_is_no_refusal_of_the_form(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [refusal(400, "maximum context length exceeded")]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert caught.value.counts_as_try
    assert formats(model) == ["json_schema"]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(400, "Bad Request"),
        refusal(422, "Unknown name additionalProperties"),
        Raw(b"", status=501),
    ],
)
async def test_a_form_that_is_refused_without_its_name_is_learned_by_what_is_taken(
    model: ScriptedModel, extractor: OpenAIExtractor, answer: Raw
) -> None:
    model.answers = [answer, answer, [HOME], [HOME]]
    assert await extractor.extract(BATCH) == [HOME]
    assert await extractor.extract(BATCH) == [HOME]
    assert formats(model) == ["json_schema", "json_object", None, None]


async def test_what_is_refused_in_every_form_was_not_refused_for_its_form(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [refusal(400, "Bad Request")] * 3 + [[HOME]]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert (caught.value.counts_as_try, caught.value.code) == (True, "400")
    assert await extractor.extract(BATCH) == [HOME]
    assert formats(model) == ["json_schema", "json_object", None, "json_schema"]


async def test_an_answer_that_is_no_json_is_asked_for_once_more_with_what_was_wrong(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = ["The user lives in Rome.", [HOME]]
    assert await extractor.extract(BATCH) == [HOME]
    first, second = model.bodies
    assert second["messages"][-1] == first["messages"][-1]
    told = second["messages"][0]["content"]
    assert told.startswith(first["messages"][0]["content"])
    assert "no JSON object" in told
    assert "The user lives in Rome." in told


async def test_an_answer_of_the_wrong_shape_is_named_and_then_taken_as_far_as_it_goes(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    wrong = {**HOME, "action": "remember"}
    model.answers = [[HOME, wrong], [HOME, wrong]]
    assert await extractor.extract(BATCH) == [HOME, wrong]
    assert "facts[1].action" in model.bodies[1]["messages"][0]["content"]
    assert len(model.bodies) == 2


async def test_a_second_answer_that_is_worse_leaves_the_first(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [[HOME, {**HOME, "turn": "one"}], "sorry"]
    assert HOME in await extractor.extract(BATCH)
    model.answers = [[HOME, {**HOME, "turn": "one"}], []]
    assert HOME in await extractor.extract(BATCH)


async def test_no_facts_after_a_correction_is_an_answer(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = ["none", []]
    assert await extractor.extract(BATCH) == []


async def test_of_an_answer_that_was_torn_off_twice_the_whole_facts_are_saved(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    torn = json.dumps({"facts": [HOME, HOME]})[:-10]
    model.answers = [torn, torn]
    assert await extractor.extract(BATCH) == [HOME]


@pytest.mark.parametrize(
    "answer",
    [
        "no facts here",
        Say("", refusal="I can't"),
        Say(""),
        Raw(b'{"choices": [{"message": {"content": [7, {"text": 7}, {"text": null}]}}]}'),
    ],
)
async def test_an_unusable_answer_counts_as_a_try(
    model: ScriptedModel, extractor: OpenAIExtractor, answer: Any
) -> None:
    model.answers = [answer, answer]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert caught.value.counts_as_try


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal(429, "slow down"), "429"),
        (refusal(500, "oops"), "500"),
        (refusal(503, "overloaded"), "503"),
        (refusal(401, "bad key"), "401"),
        (refusal(404, "no such model"), "404"),
        (refusal(408, "timeout"), "408"),
        (Raw(b"<html>gateway</html>", headers=[("content-type", "text/html")]), None),
        (Raw(b'{"choices": "none"}'), None),
        (Raw(b"{", status=200), None),
        (Raw(steps=[Die()]), None),
    ],
)
async def test_what_lies_outside_the_batch_does_not_count_as_a_try(
    model: ScriptedModel, extractor: OpenAIExtractor, answer: Raw, code: str | None
) -> None:
    model.answers = [answer]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert not caught.value.counts_as_try
    assert caught.value.code == code
    assert "Rome" not in str(caught.value)
    assert len(model.bodies) == 1, "retrying is the queue's business"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after": "99999"}, 3600.0),
        (
            {
                "retry_after": "Sat, 23 May 2026 09:00:30 GMT",
                "date": "Sat, 23 May 2026 09:00:00 GMT",
            },
            30.0,
        ),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
async def test_how_long_an_upstream_asks_to_wait_is_passed_on(
    model: ScriptedModel,
    extractor: OpenAIExtractor,
    headers: dict[str, str],
    seconds: float | None,
) -> None:
    model.answers = [refusal(429, "slow down", **headers)]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert caught.value.retry_after_s == seconds


async def test_an_upstream_that_hangs_is_given_up(model: ScriptedModel) -> None:
    extractor = OpenAIExtractor(model.base_url, api_key=None, model="small", timeout_s=0.2)
    model.answers = [Raw(steps=[Stall()])]
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert not caught.value.counts_as_try
    await extractor.close()


async def test_nobody_there_does_not_count_as_a_try() -> None:
    extractor = OpenAIExtractor("http://127.0.0.1:9/v1", api_key=None, model="small")
    with pytest.raises(ExtractorUnavailable) as caught:
        await extractor.extract(BATCH)
    assert not caught.value.counts_as_try
    with pytest.raises(ExtractorUnavailable):
        await extractor.ping()
    await extractor.close()


async def test_a_redirect_is_not_followed_with_the_key(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    model.answers = [Raw(b"", status=307, headers=[("location", "http://127.0.0.1:9/v1")])]
    with pytest.raises(ExtractorUnavailable):
        await extractor.extract(BATCH)
    assert len(model.all) == 1


async def test_ping_reaches_the_model_server(
    model: ScriptedModel, extractor: OpenAIExtractor
) -> None:
    await extractor.ping()
    assert httpx.URL(model.base_url).port is not None
    assert model.bodies == []


async def test_tokens_are_counted_where_the_upstream_tells_them(model: ScriptedModel) -> None:
    metrics = Metrics()
    extractor = OpenAIExtractor(model.base_url, api_key=None, model="small", metrics=metrics)
    await extractor.extract(BATCH)
    await extractor.close()
    spent = metrics.registry.get_sample_value(
        "memory_gateway_extractor_tokens_total", {"direction": "in"}
    )
    assert spent == 10
