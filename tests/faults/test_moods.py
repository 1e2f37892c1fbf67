"""Models in every bad mood: the chat goes on where it can, and says honestly how it went.

One gateway serves all of it; upstream, embedder and extractor are one scripted server.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import httpx
import pytest

from bench.soak.models import MOODS, Models
from tests.faults.conftest import SLACK_S, Chat, logged, metric, pending
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults

FIRST_BYTE_S = 2.0
USER = {"X-Memory-User": "ana"}


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    with Models(random.Random(1)) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    model = {"base_url": models.base_url, "provider": "openai", "api_key": "k", "model": "m"}
    with GatewayProcess(
        tmp_path_factory.mktemp("moods") / "data",
        models.base_url,
        upstream__first_byte_timeout_s=FIRST_BYTE_S,
        **{f"embedding__{name}": value for name, value in model.items()},
        **{f"extraction__{name}": value for name, value in model.items()},
        extraction__timeout_s=1,
    ) as running:
        yield running


def ask(gateway: GatewayProcess, token: str) -> httpx.Response:
    message = {"role": "user", "content": f"Note {token}, please."}
    return httpx.post(
        f"{gateway.base_url}/chat/completions",
        headers={**USER, "X-Memory-Session": token},
        json={"model": "m", "messages": [message]},
        timeout=20,
    )


def test_a_chat_does_not_wait_for_an_embedder_or_an_extractor_in_a_bad_mood(
    gateway: GatewayProcess, models: Models
) -> None:
    said = [f"p01-{n:06}" for n in range(len(MOODS))]
    for token, mood in zip(said, MOODS, strict=True):
        models.moods.update(embedding=mood, extraction=mood)
        began = time.monotonic()
        answer = ask(gateway, token)
        assert time.monotonic() - began < SLACK_S, mood
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"].startswith(f"Noted {token}")
        assert answer.headers["x-memory-status"] in {"ok", "partial", "degraded"}
        assert answer.headers["x-memory-stage"] != "full"
    models.moods.clear()

    ana = Chat(gateway)
    ana.until_known(*said, seconds=45)
    until(lambda: pending(gateway) == 0, 20)
    assert ana.texts() == [f"Made the note {token}" for token in said]
    turns = sorted(
        (m for m in ana.memories("turn") if m["source"]["role"] == "user"),
        key=lambda m: str(m["created_at"]),
    )
    assert [m["text"] for m in turns] == [f"Note {token}, please." for token in said]
    assert metric(gateway, "extractor_calls_total") > 0
    assert len([*logged(gateway, "warning"), *logged(gateway, "error")]) <= 12


EXPECTED = {
    "fails": 500,
    "is too busy": 429,
    "hangs": 504,
    "cuts": None,
    "talks rubbish": 200,
    "is slow": 200,
}
"""What the client gets; None: half an answer, and the connection closed."""


def test_an_upstream_in_a_bad_mood_is_told_as_it_is_and_the_next_chat_is_served(
    gateway: GatewayProcess, models: Models
) -> None:
    for n, mood in enumerate(MOODS):
        models.moods["chat"] = mood
        began = time.monotonic()
        if EXPECTED[mood] is None:
            with pytest.raises(httpx.RemoteProtocolError):
                ask(gateway, f"p02-{n:06}")
        else:
            answer = ask(gateway, f"p02-{n:06}")
            assert answer.status_code == EXPECTED[mood], mood
            assert "x-memory-status" in answer.headers
        assert time.monotonic() - began < FIRST_BYTE_S + SLACK_S, mood
    models.moods.clear()
    assert ask(gateway, "p02-000099").status_code == 200
