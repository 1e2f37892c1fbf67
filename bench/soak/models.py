"""The upstream, the embedder and the extractor of a run: one scripted server that has moods.

In a bad mood the chats, the embeddings or the extractions are answered as a broken server
would. Which chats were harmed is noted by their token, so that the account can tell a fault of
the upstream's own from one of the gateway's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from bench.soak.ledger import SLOT, TOKEN
from gateway.lab.script import Die, Raw, Say, Scripted, Stall, ToolCall, refusal, spoken
from gateway.lab.scripted_upstream import Recorded, ScriptedUpstream

Use = Literal["chat", "embedding", "extraction"]
MOODS: Final = ("fails", "is too busy", "hangs", "cuts", "talks rubbish", "is slow")
SLOT_WORDS: Final = "My colour is"
PACE_S: Final = 0.004
LATE_S: Final = 0.4


class Models(ScriptedUpstream):
    """`moods` says how each use is answered now; absent: well."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self.moods: dict[Use, str] = {}
        self.harmed: set[str] = set()
        self._dice = dice

    def _choose(self, request: Recorded) -> Scripted:
        self.all.clear()  # a long run must not keep every request
        self.requests.clear()
        if request.path.endswith("/embeddings"):
            return self._in_mood("embedding", super()._choose(request), request)
        if request.path.endswith("/models"):
            return super()._choose(request)
        if request.is_extraction:
            return self._in_mood("extraction", self._extraction(request.json()), request)
        return self._chat(request)

    def _chat(self, request: Recorded) -> Scripted:
        body = request.json()
        token = _last_token(body["messages"])
        said = self._said(body, token)
        mood = self.moods.get("chat")
        if mood not in (None, "is slow"):
            self.harmed.add(token)
        return self._in_mood("chat", said, request, stream=bool(body.get("stream")))

    def _said(self, body: Mapping[str, Any], token: str) -> Say:
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            return Say("", tool_calls=(ToolCall("look_up", json.dumps({"for": token})),))
        padding = " ".join(["It is kept."] * self._dice.randrange(1, 12))
        return Say(f"Noted {token}. {padding}", pause_s=PACE_S if body.get("stream") else 0.0)

    def _in_mood(
        self, use: Use, well: Scripted, request: Recorded, *, stream: bool = False
    ) -> Scripted:
        match self.moods.get(use):
            case "fails":
                return refusal(500, "broken")
            case "is too busy":
                return refusal(429, "too busy", retry_after="1")
            case "hangs":
                return Raw(before=[Stall()])
            case "cuts" if stream:
                kind = [("content-type", "text/event-stream")]
                return Raw(headers=kind, steps=[b'data: {"choices":[]}\n\n', 0.05, Die()])
            case "cuts":
                return Raw(steps=[b'{"choices":', 0.05, Die()])
            case "talks rubbish":
                return Raw(body=b"\xff\xfe{{{", headers=[("content-type", "text/plain")])
            case "is slow":
                raw = well if isinstance(well, Raw) else spoken(well, request.path, request.json())
                return replace(raw, before=[LATE_S])
        return well

    def _extraction(self, body: Mapping[str, Any]) -> Say:
        """A note of each thing that a user said, and the value of the key where one is named."""
        batch = json.loads(body["messages"][-1]["content"])
        facts = []
        for turn in batch["turns"]:
            if turn["role"] != "user":
                continue
            for token in TOKEN.findall(turn["text"]):
                quote = turn["text"]
                facts.append(_fact(turn["n"], quote, "interaction", f"Made the note {token}"))
                if SLOT_WORDS in quote:
                    facts.append(
                        _fact(turn["n"], quote, "preference", f"Likes the colour {token}")
                        | {"key": SLOT, "value": token}
                    )
        return Say(json.dumps({"facts": facts}))


def _fact(turn: int, quote: str, kind: str, text: str) -> dict[str, Any]:
    return {
        "action": "add",
        "target": None,
        "type": kind,
        "key": None,
        "value": None,
        "text": text,
        "turn": turn,
        "quote": quote,
        "importance": 0.5,
        "event_start": None,
        "event_end": None,
        "ttl_days": None,
    }


def _last_token(messages: list[Mapping[str, Any]]) -> str:
    for message in reversed(messages):
        if message["role"] == "user" and (found := TOKEN.findall(str(message["content"]))):
            return str(found[-1])
    return ""
