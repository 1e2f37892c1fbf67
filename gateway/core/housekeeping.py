"""Calls that chat front ends make for themselves: titles, tags, follow-up suggestions, search
queries, a choice of tools, completions of a half-typed line.

They quote the conversation, so that remembering them would remember everything twice and
recalling for them would colour titles. They are told by shape, conservatively: the
instruction stands at the start of the last user message, or of the system prompt of a call
with no history of its own, and has both what is to be made and that it is made from a chat.
A person who asks for a title for their novel is a person. One instruction counts with any history:
retrieval chains ask for a standalone question in a call that ends in the user's own words, and then
for the answer, which was taken for a retry.

The shapes are those of Open WebUI, LibreChat, LobeChat, NextChat, Jan, Cherry Studio, Chatbox,
BetterChatGPT, Dify, chat-ui, the chat templates of the Vercel AI SDK, and the retrieval chains of
LangChain and LlamaIndex, as of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.core.chat import ChatRequest

WINDOW_CHARS = 1500
"""How much of a message's start is looked at."""

MAX_HISTORY = 2
"""Messages beside the system prompt up to which a system prompt may be an instruction."""

_CHAT = r"(?:chat(?: history)?|conversation|discussion|dialogue?|thread)"
_SHORT = (
    r"(?:concise|short|brief|punctuation|only|without|title[- ]case|no more than|within"
    r"|(?:\d+|three|four|five|six|ten)[- ]?(?:word|character|letter))"
)

_TITLES = (
    # a title of the chat, in few words
    rf"(?=.{{0,400}}{_SHORT}).{{0,160}}\btitle\b[^.]{{0,60}}\b(?:for|of|(?:summari[sz]|captur)"
    rf"(?:ing|es)(?: the essence of)?) (?:this|the|our|a|an|your) (?:\w+ )?{_CHAT}\b",
    rf".{{0,120}}\bsummari[sz]e [^.]{{0,60}}\b{_CHAT}\b[^.]{{0,20}}\binto [^.]{{0,20}}\btitle\b",
    r"[\s-]*you will generate a short title based on the first message",
    r"summarize in a \d+-word title\. give the title only",
    r"generate a title in less than \d+ words for the following message\b",
    r"analyze this conversation and provide:? .{0,80}\ba concise title\b",
    r"(?:# task )?you are a (?:chat (?:thread )?titling assistant|(?:(?:chat|conversation) )?"
    r"title generator)",
    r"you are a summarization ai\b.{0,80}\bsummarize user requests into a single short title",
)
_TASKS = (
    # Open WebUI's tasks, with its own words or an operator's
    r"#{1,3} task:? (?:generate \d.{0,20}tags categori[sz]ing|suggest \d.{0,20}follow-?up"
    r" questions|analyze the chat history to determine the necessity|you are an"
    r" autocompletion system|generate a detailed prompt for an? ?m? image generation)",
    r"#{1,3} task:? (?=.*### output:?.{0,60}json format: ?\{).*<chat_history>",
)
_REWRITE = (
    "standalone",
    r"given (?:a|an|the|this)(?: following)? (?:chat history|conversation)\b.{0,250}"
    r"\bstandalone (?:question|query|message)\b",
)
_SHAPES = tuple(
    (sign, re.compile("|".join(patterns)))
    for sign, *patterns in (
        ("titl", *_TITLES),
        ("标题", r".{0,40}(?:会话|对话|聊天).{0,30}(?:总结|概括).{0,20}标题"),
        ("使用", r"使用四到五个字直接返回这句话的简要主题"),
        # a summary that stands in for older messages
        (
            "discussion",
            r"summarize (?:the|our) discussion briefly in \d+ words or less to use as a prompt",
        ),
        ("#", *_TASKS),
        _REWRITE,
        ("based on", r"based on the chat history, give this conversation a (?:name|title)\b"),
        ("decompose", r'you need to decompose the user\'s input into "subject" and "intention"'),
        # tools chosen in words, before each answer, where a model is not to call them itself
        ("available tools", r"available tools: ?\[.* to choose and return the correct tool"),
        # answers of several models made into one
        (
            "responses",
            r"you have been provided with a set of responses from various models to the latest"
            r" user query\b",
        ),
        (
            "emoji",
            r"your task is to reflect the speaker's likely facial expression through a fitting"
            r" emoji",
        ),
        (
            "search",
            r"(?:assess the need for a web search|analyze the chat history to determine the"
            r" necessity of generating search queries)",
        ),
        ("follow", r"suggest \d.{0,20}follow-?up questions or prompts that the user might"),
    )
)
"""What an instruction begins with; each with a sign without which none of its patterns fits: a
message seldom has one, and is read no further then (6 -> 0.4 µs)."""
_WITH_ANY_HISTORY = tuple((sign, shape) for sign, shape in _SHAPES if sign == _REWRITE[0])

_FURTHER_ON = (
    ("#", "<chat_history>"),
    ("available tools", "to choose and return the correct tool"),
)
"""What tells Open WebUI's tasks apart may stand behind what they quote: the chat, or the tools."""


def is_housekeeping(request: ChatRequest) -> bool:
    """Whether a front end asks this for itself rather than a person for themselves."""
    said = [m for m in request.messages if m.role not in ("system", "developer")]
    last = said[-1].text if said and said[-1].role == "user" else ""
    if _is_task(last):
        return True
    shapes = _SHAPES if len(said) <= MAX_HISTORY else _WITH_ANY_HISTORY
    systems = (m.text for m in request.messages if m.role in ("system", "developer"))
    return any(_is_task(text, shapes) for text in systems)


def _is_task(text: str, known: Sequence[tuple[str, re.Pattern[str]]] = _SHAPES) -> bool:
    lower = text[:WINDOW_CHARS].lower()
    shapes = [shape for sign, shape in known if sign in lower]
    if not shapes:
        return False
    start = " ".join(lower.split())
    for beginning, sign in _FURTHER_ON:
        if start.startswith(beginning) and sign in text:
            start += f" {sign}"
    return any(shape.match(start) for shape in shapes)
