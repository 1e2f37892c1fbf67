"""LiteLLM's SDK, told that its provider is one that speaks the OpenAI API."""

from __future__ import annotations

import json
import os
import time
from typing import Any

# Without this its import fetches a price list from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from playing import ASK, CALLS_OF_TOOLS, PICTURE_PARTS, TOOLS, Target, headers_of, left, play
from pydantic import BaseModel

litellm.telemetry = False
litellm.suppress_debug_info = True
litellm.drop_params = False


class Weather(BaseModel):
    city: str
    degrees: float


def asked(target: Target, scene: str, messages: Any = ASK, retries: int = 0, **more: Any) -> Any:
    return litellm.completion(messages=messages, **_to(target, scene, retries), **more)


def _to(target: Target, scene: str, retries: int = 0) -> dict[str, Any]:
    return {
        "model": f"openai/{scene}",
        "api_base": target["base_url"],
        "api_key": "sk-the-clients-own",
        "extra_headers": headers_of(target, scene),
        "max_retries": retries,
        "timeout": 10,
    }


def shown(answer: Any) -> Any:
    return answer.model_dump(mode="json", warnings=False)


def said(answer: Any) -> dict[str, Any]:
    choice = answer.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "tokens": answer.usage.total_tokens,
        "raw": shown(answer),
    }


def called(answer: Any) -> dict[str, Any]:
    choice = answer.choices[0]
    calls = [
        [call.id, call.function.name, json.loads(call.function.arguments)]
        for call in choice.message.tool_calls
    ]
    return {"finish": choice.finish_reason, "calls": calls}


def stream(target: Target) -> Any:
    chunks = list(asked(target, "stream", stream=True, stream_options={"include_usage": True}))
    whole = litellm.stream_chunk_builder(chunks, messages=ASK)
    return {key: value for key, value in said(whole).items() if key != "raw"}


def tools(target: Target) -> Any:
    answer = asked(target, "tools", tools=TOOLS)
    return {**called(answer), "raw": shown(answer)}


def tools_streamed(target: Target) -> Any:
    chunks = list(asked(target, "tools streamed", tools=TOOLS, stream=True))
    return called(litellm.stream_chunk_builder(chunks, messages=ASK))


def tool_loop(target: Target) -> Any:
    messages: list[Any] = list(ASK)
    while True:
        message = asked(target, "tool loop", messages, tools=TOOLS).choices[0].message
        if not message.tool_calls:
            return {"text": message.content}
        messages.append(message)
        messages += [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": CALLS_OF_TOOLS[call.function.name],
            }
            for call in message.tool_calls
        ]


def structured(target: Target) -> Any:
    answer = asked(target, "structured", response_format=Weather)
    return Weather.model_validate_json(answer.choices[0].message.content).model_dump()


def vision(target: Target) -> Any:
    answer = asked(target, "vision", [{"role": "user", "content": PICTURE_PARTS}])
    return {"text": answer.choices[0].message.content, "raw": shown(answer)}


def refused(target: Target) -> Any:
    try:
        asked(target, "refused", retries=2)
    except litellm.BadRequestError as exc:
        return {"status": exc.status_code, "code": exc.code, "raw": str(exc)}


def retried(target: Target, scene: str) -> Any:
    began = time.monotonic()
    answer = asked(target, scene, retries=2)
    return {"text": answer.choices[0].message.content, "waited_s": time.monotonic() - began}


def cancel(target: Target) -> Any:
    text = ""
    chunks = asked(target, "cancel", stream=True)
    while not text:
        text = next(chunks).choices[0].delta.content or ""
    chunks.completion_stream.close()
    return {"text": text, "left": left(target)}


def broken(target: Target, scene: str) -> Any:
    text, raised = "", False
    try:
        for chunk in asked(target, scene, stream=True):
            text += chunk.choices[0].delta.content or ""
    except Exception:  # which one it is differs: a torn connection, or the gateway's error event
        raised = True
    return {"text": text, "raised": raised}


def responses(target: Target) -> Any:
    to = _to(target, "responses")
    answer = litellm.responses(input="Tell me.", instructions="Be brief.", **to)
    return {"text": answer.output_text, "tokens": answer.usage.total_tokens}


def embeddings(target: Target) -> Any:
    answer = litellm.embedding(input=["one", "two"], **_to(target, "embeddings"))
    return {"sizes": [len(one["embedding"]) for one in answer.data], "raw": shown(answer)}


if __name__ == "__main__":
    play(
        {
            "chat": lambda target: said(asked(target, "chat", temperature=1.0, seed=7)),
            "stream": stream,
            "tools": tools,
            "tools streamed": tools_streamed,
            "tool loop": tool_loop,
            "structured": structured,
            "vision": vision,
            "refused": refused,
            "retry 429": lambda target: retried(target, "retry 429"),
            "retry 500": lambda target: retried(target, "retry 500"),
            "cancel": cancel,
            "broken": lambda target: broken(target, "broken"),
            "error inside": lambda target: broken(target, "error inside"),
            "responses": responses,
            "embeddings": embeddings,
        }
    )
