"""The official Python client."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from playing import ASK, CALLS_OF_TOOLS, IMAGE, PICTURE_PARTS, TOOLS, Target, headers_of, left, play
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: float


def client_of(target: Target, scene: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=target["base_url"],
        api_key="sk-the-clients-own",
        default_headers=headers_of(target, scene),
        max_retries=retries,
        timeout=10,
    )


def said(completion: Any) -> dict[str, Any]:
    choice = completion.choices[0]
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "tokens": completion.usage.total_tokens,
        "raw": completion.model_dump(mode="json"),
    }


def called(choice: Any) -> dict[str, Any]:
    calls = [
        [call.id, call.function.name, json.loads(call.function.arguments)]
        for call in choice.message.tool_calls
    ]
    return {"finish": choice.finish_reason, "calls": calls}


def chat(target: Target) -> Any:
    client = client_of(target, "chat")
    return said(client.chat.completions.create(model="chat", messages=ASK, temperature=1.0, seed=7))


def stream(target: Target) -> Any:
    client = client_of(target, "stream")
    text, finish, tokens, raw = "", None, None, []
    for chunk in client.chat.completions.create(
        model="stream", messages=ASK, stream=True, stream_options={"include_usage": True}
    ):
        raw.append(chunk.model_dump(mode="json"))
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return {"text": text, "finish": finish, "tokens": tokens, "raw": raw}


def tools(target: Target) -> Any:
    client = client_of(target, "tools")
    answer = client.chat.completions.create(model="tools", messages=ASK, tools=TOOLS)
    return {**called(answer.choices[0]), "raw": answer.model_dump(mode="json", warnings=False)}


def tools_streamed(target: Target) -> Any:
    client = client_of(target, "tools streamed")
    with client.chat.completions.stream(
        model="tools streamed", messages=ASK, tools=TOOLS, parallel_tool_calls=True
    ) as events:
        kinds = [event.type for event in events]
        answer = events.get_final_completion()
    return {
        **called(answer.choices[0]),
        "raw": [kinds, answer.model_dump(mode="json", warnings=False)],
    }


def tool_loop(target: Target) -> Any:
    client = client_of(target, "tool loop")
    messages: list[Any] = list(ASK)
    while True:
        answer = client.chat.completions.create(model="tool loop", messages=messages, tools=TOOLS)
        message = answer.choices[0].message
        if not message.tool_calls:
            return {"text": message.content, "raw": answer.model_dump(mode="json", warnings=False)}
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
    client = client_of(target, "structured")
    answer = client.chat.completions.parse(
        model="structured", messages=ASK, response_format=Weather
    )
    parsed = answer.choices[0].message.parsed
    assert parsed is not None
    return {**parsed.model_dump(), "raw": answer.model_dump(mode="json", warnings=False)}


def vision(target: Target) -> Any:
    client = client_of(target, "vision")
    message = {"role": "user", "content": PICTURE_PARTS}
    answer = client.chat.completions.create(model="vision", messages=[message])
    return {
        "text": answer.choices[0].message.content,
        "raw": answer.model_dump(mode="json", warnings=False),
    }


def refused(target: Target) -> Any:
    client = client_of(target, "refused", retries=2)
    try:
        client.chat.completions.create(model="refused", messages=ASK)
    except openai.BadRequestError as exc:
        return {"status": exc.status_code, "code": exc.code, "raw": [str(exc), exc.body]}


def retried(target: Target, scene: str) -> Any:
    client = client_of(target, scene, retries=2)
    began = time.monotonic()
    answer = client.chat.completions.create(model=scene, messages=ASK)
    waited = time.monotonic() - began
    return {"text": answer.choices[0].message.content, "waited_s": waited}


def cancel(target: Target) -> Any:
    client = client_of(target, "cancel")
    with client.chat.completions.create(model="cancel", messages=ASK, stream=True) as chunks:
        text = next(iter(chunks)).choices[0].delta.content
    return {"text": text, "left": left(target)}


def broken(target: Target, scene: str) -> Any:
    client = client_of(target, scene)
    text, raised = "", False
    try:
        for chunk in client.chat.completions.create(model=scene, messages=ASK, stream=True):
            text += chunk.choices[0].delta.content or ""
    except Exception:  # which one it is differs: a torn connection, or the gateway's error event
        raised = True
    return {"text": text, "raised": raised}


def responses(target: Target) -> Any:
    client = client_of(target, "responses")
    answer = client.responses.create(model="responses", input="Tell me.", instructions="Be brief.")
    tokens = answer.usage.total_tokens if answer.usage else None
    return {
        "text": answer.output_text,
        "tokens": tokens,
        "raw": answer.model_dump(mode="json", warnings=False),
    }


def responses_streamed(target: Target) -> Any:
    client = client_of(target, "responses streamed")
    picture = {"type": "input_image", "image_url": IMAGE, "detail": "low"}
    words = {"type": "input_text", "text": "What is this?"}
    with client.responses.stream(
        model="responses streamed", input=[{"role": "user", "content": [words, picture]}]
    ) as events:
        raw = [event.model_dump(mode="json", warnings=False) for event in events]
        answer = events.get_final_response()
    tokens = answer.usage.total_tokens if answer.usage else None
    return {"text": answer.output_text, "tokens": tokens, "raw": raw}


def responses_tools(target: Target) -> Any:
    client = client_of(target, "responses tools")
    flat = [{"type": "function", **one["function"], "strict": True} for one in TOOLS]
    answer = client.responses.create(model="responses tools", input="Tell me.", tools=flat)
    calls = [
        [item.call_id, item.name, json.loads(item.arguments)]
        for item in answer.output
        if item.type == "function_call"
    ]
    return {"calls": calls, "raw": answer.model_dump(mode="json", warnings=False)}


def embeddings(target: Target) -> Any:
    client = client_of(target, "embeddings")
    answer = client.embeddings.create(model="embeddings", input=["one", "two"])
    sizes = [len(one.embedding) for one in answer.data]
    return {"sizes": sizes, "raw": answer.model_dump(mode="json", warnings=False)}


def models(target: Target) -> Any:
    return {"ids": [model.id for model in client_of(target, "models").models.list()]}


def files(target: Target) -> Any:
    client = client_of(target, "files")
    content = bytes(range(256)) * 40
    made = client.files.create(file=("ñ.jsonl", content), purpose="batch")
    back = client.files.content(made.id).read()
    return {"name": made.filename, "content": back.hex()}


if __name__ == "__main__":
    play(
        {
            "chat": chat,
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
            "responses streamed": responses_streamed,
            "responses tools": responses_tools,
            "embeddings": embeddings,
            "models": models,
            "files": files,
        }
    )
