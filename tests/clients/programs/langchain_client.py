"""LangChain's ChatOpenAI."""

from __future__ import annotations

import time
from typing import Any

import openai
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from playing import ASK, CALLS_OF_TOOLS, PICTURE_PARTS, TOOLS, Target, headers_of, left, play
from pydantic import BaseModel

MESSAGES = [SystemMessage(ASK[0]["content"]), HumanMessage(ASK[1]["content"])]


class Weather(BaseModel):
    city: str
    degrees: float


def model_of(target: Target, scene: str, retries: int = 0, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model=scene,
        base_url=target["base_url"],
        api_key="sk-the-clients-own",
        default_headers=headers_of(target, scene),
        max_retries=retries,
        timeout=10,
        **more,
    )


def shown(message: Any) -> Any:
    """The whole message, but for the identifier that LangChain draws for it."""
    dumped = message.model_dump(mode="json")
    return {key: value for key, value in dumped.items() if key != "id"}


def said(message: Any) -> dict[str, Any]:
    return {
        "text": message.text,
        "finish": message.response_metadata.get("finish_reason"),
        "tokens": message.usage_metadata["total_tokens"],
        "raw": shown(message),
    }


def called(message: Any) -> dict[str, Any]:
    calls = [[call["id"], call["name"], call["args"]] for call in message.tool_calls]
    finish = message.response_metadata.get("finish_reason")
    return {"finish": finish, "calls": calls, "raw": shown(message)}


def gathered(chunks: Any) -> Any:
    whole = None
    for chunk in chunks:
        whole = chunk if whole is None else whole + chunk
    return whole


def stream(target: Target) -> Any:
    return said(gathered(model_of(target, "stream", stream_usage=True).stream(MESSAGES)))


def tools(target: Target) -> Any:
    return called(model_of(target, "tools").bind_tools(TOOLS).invoke(MESSAGES))


def tools_streamed(target: Target) -> Any:
    bound = model_of(target, "tools streamed").bind_tools(TOOLS)
    return called(gathered(bound.stream(MESSAGES)))


def tool_loop(target: Target) -> Any:
    bound = model_of(target, "tool loop").bind_tools(TOOLS)
    messages: list[Any] = list(MESSAGES)
    while True:
        message = bound.invoke(messages)
        if not message.tool_calls:
            return {"text": message.text, "raw": shown(message)}
        messages.append(message)
        messages += [
            ToolMessage(CALLS_OF_TOOLS[call["name"]], tool_call_id=call["id"])
            for call in message.tool_calls
        ]


def structured(target: Target) -> Any:
    asked = model_of(target, "structured").with_structured_output(Weather, method="json_schema")
    return asked.invoke(MESSAGES).model_dump()


def vision(target: Target) -> Any:
    message = model_of(target, "vision").invoke([HumanMessage(PICTURE_PARTS)])
    return {"text": message.text, "raw": shown(message)}


def refused(target: Target) -> Any:
    try:
        model_of(target, "refused", retries=2).invoke(MESSAGES)
    except openai.BadRequestError as exc:
        return {"status": exc.status_code, "code": exc.code, "raw": str(exc)}


def retried(target: Target, scene: str) -> Any:
    began = time.monotonic()
    message = model_of(target, scene, retries=2).invoke(MESSAGES)
    return {"text": message.text, "waited_s": time.monotonic() - began}


def cancel(target: Target) -> Any:
    text = ""
    chunks = model_of(target, "cancel").stream(MESSAGES)
    while not text:
        text = next(chunks).text
    chunks.close()
    return {"text": text, "left": left(target)}


def broken(target: Target, scene: str) -> Any:
    text, raised = "", False
    try:
        for chunk in model_of(target, scene).stream(MESSAGES):
            text += chunk.text
    except Exception:  # which one it is differs: a torn connection, or the gateway's error event
        raised = True
    return {"text": text, "raised": raised}


def responses(target: Target) -> Any:
    model = model_of(target, "responses", use_responses_api=True)
    message = model.invoke(MESSAGES)
    return {"text": message.text, "tokens": message.usage_metadata["total_tokens"]}


def responses_streamed(target: Target) -> Any:
    model = model_of(target, "responses streamed", use_responses_api=True)
    message = gathered(model.stream(MESSAGES))
    return {"text": message.text, "tokens": message.usage_metadata["total_tokens"]}


def responses_tools(target: Target) -> Any:
    model = model_of(target, "responses tools", use_responses_api=True).bind_tools(TOOLS)
    return {"calls": called(model.invoke(MESSAGES))["calls"]}


def embeddings(target: Target) -> Any:
    embedder = OpenAIEmbeddings(
        model="embeddings",
        base_url=target["base_url"],
        api_key="sk-the-clients-own",
        default_headers=headers_of(target, "embeddings"),
        check_embedding_ctx_length=False,  # else it would fetch a tokenizer
        max_retries=0,
    )
    vectors = embedder.embed_documents(["one", "two"])
    return {"sizes": [len(vector) for vector in vectors], "raw": vectors}


if __name__ == "__main__":
    play(
        {
            "chat": lambda target: said(model_of(target, "chat").invoke(MESSAGES)),
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
        }
    )
