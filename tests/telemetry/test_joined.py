"""The log of a running gateway: one id leads from a chat to what was made of it, and no word of
it is told on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until

SAID = "I live in Ouagadougou and my cat is called Zebulon."
ANSWERED = "Greetings to Zebulon, wherever Quisquilia lies."


def test_request_receipt_and_exchange_are_joined_and_content_is_left_out(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(Say(ANSWERED)) as upstream,
        GatewayProcess(tmp_path / "data", upstream.base_url, log__level="debug") as gateway,
        loopback.Client(base_url=gateway.url, headers={"X-Memory-User": "ana"}) as client,
    ):
        client.post("/v1/memories", json={"text": "Plays the theremin", "type": "profile"})
        answer = client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": SAID}]},
        )

        def lines(event: str) -> list[dict[str, Any]]:
            rows = [
                json.loads(row) for row in gateway.log.read_text().splitlines() if row[:1] == "{"
            ]
            return [row for row in rows if row.get("event") == event]

        (distilled,) = until(lambda: lines("distilled"))
        (answered,) = lines("answered")
    assert answered["receipt"] == answer.headers["x-memory-receipt-id"]
    assert answered["request"].startswith("req_")
    assert distilled["exchanges"] == [answered["exchange"]]
    assert distilled["receipts"] == [answered["receipt"]]
    log = gateway.log.read_text()
    for word in ("Ouagadougou", "Zebulon", "Quisquilia", "theremin"):
        assert word not in log
