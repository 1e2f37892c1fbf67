"""Which calls a front end makes for itself. The prompts are shaped like theirs, not theirs."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from gateway.core.capture import is_housekeeping
from gateway.core.chat import read_chat


def chat(*messages: tuple[str, Any]) -> bool:
    said = [{"role": role, "content": content} for role, content in messages]
    return is_housekeeping(read_chat(json.dumps({"messages": said}).encode()))


HISTORY = "### Chat History:\n<chat_history>\nUSER: I am Bob\nASSISTANT: Hi Bob\n</chat_history>"


def task(instruction: str, answer: str) -> str:
    return (
        f"### Task:\n{instruction}\n### Guidelines:\n- Be accurate.\n### Output:\n"
        f"JSON format: {answer}\n{HISTORY}"
    )


FOR_THEMSELVES = {
    "open webui title": task(
        "Generate a concise, 3-5 word title with an emoji summarizing the chat history.",
        '{ "title": "your title" }',
    ),
    "open webui tags": task(
        "Generate 1-3 broad tags categorizing the main themes of the chat history.",
        '{ "tags": ["tag1"] }',
    ),
    "open webui follow-ups": task(
        "Suggest 3-5 relevant follow-up questions or prompts that the user might ask next.",
        '{ "follow_ups": ["Q1?"] }',
    ),
    "open webui queries": task(
        "Analyze the chat history to determine the necessity of generating search queries.",
        '{ "queries": ["q"] }',
    ),
    "open webui autocompletion": (
        "### Task:\nYou are an autocompletion system. Continue the text in `<text>`."
    ),
    "an operator's own task": task("Name this talk.", '{ "title": "x" }'),
    "a task with long guidelines": (
        "### Task:\nName it.\n### Output:\nJSON format: { }\n" + "- rule\n" * 900 + HISTORY
    ),
    "open webui emoji": (
        "Your task is to reflect the speaker's likely facial expression through a fitting emoji."
    ),
    "librechat": (
        "Provide a concise, 5-word-or-less title for the conversation, using title case"
        " conventions. Only return the title itself.\n\nConversation:\nUser: hi"
    ),
    "librechat structured": (
        "Analyze this conversation and provide:\n1. The detected language of the conversation\n"
        "2. A concise title in the detected language (5 words or less)\n\nUser: hi"
    ),
    "nextchat": (
        "Please generate a four to five word title summarizing our conversation without any"
        " lead-in, punctuation or additional text."
    ),
    "nextchat in chinese": "使用四到五个字直接返回这句话的简要主题，不要解释、不要标点。",
    "nextchat summary": (
        "Summarize the discussion briefly in 200 words or less to use as a prompt for future"
        " context."
    ),
    "jan": 'Summarize in a 10-word Title. Give the title only. Here is the message: "hi"',
    "open webui, answers of several models": (
        "You have been provided with a set of responses from various models to the latest user"
        ' query: "I am Bob"\n\nMake one of them.'
    ),
    "chatbox": "Based on the chat history, give this conversation a name.\nKeep it short.",
    "dify": (
        'You need to decompose the user\'s input into "subject" and "intention" in order to find'
        " its language.\nI am Bob"
    ),
    "betterchatgpt": (
        "Generate a title in less than 6 words for the following message (language: en):\nUser: hi"
    ),
    "llamaindex": (
        "Given a conversation (between Human and Assistant) and a follow up message from Human,"
        " make it a standalone question.\n\n<Chat History>\nuser: I am Bob"
    ),
    "langchain in one message": (
        "Given the following conversation and a follow up question, make it a standalone question."
        "\n\nChat History:\nHuman: I am Bob"
    ),
    "cherry studio": (
        "You are an assistant skilled in conversation. You need to summarize the user's"
        " conversation into a title within 10 words."
    ),
}

AS_SYSTEM = {
    "lobechat": (
        "You are a professional conversation summarizer. Generate a concise title that captures"
        " the essence of the conversation."
    ),
    "lobechat in chinese": "你是一名擅长会话的助理，你需要将用户的会话总结为 10 个字以内的标题",
    "vercel template": (
        "\n\n    - you will generate a short title based on the first message a user begins a"
        " conversation with\n    - ensure it is not more than 80 characters long"
    ),
    "librechat old": (
        "Write a concise title for this conversation in the given language. Title in 5 Words or"
        " Less. No Punctuation or Quotation."
    ),
    "chat-ui": "You are a chat thread titling assistant.",
    "open webui tools": (
        f'Available Tools: [{{"name": "weather", "description": "{"x" * 3000}"}}]\n\nYour task is'
        " to choose and return the correct tool(s). Return JSON."
    ),
}


@pytest.mark.parametrize("prompt", FOR_THEMSELVES.values(), ids=FOR_THEMSELVES.keys())
def test_a_front_ends_own_task_is_told_by_its_shape(prompt: str) -> None:
    assert chat(("user", prompt))
    assert chat(
        ("system", "You are helpful."), ("user", "hi"), ("assistant", "yo"), ("user", prompt)
    )


@pytest.mark.parametrize("prompt", AS_SYSTEM.values(), ids=AS_SYSTEM.keys())
def test_so_is_one_that_stands_in_the_system_prompt(prompt: str) -> None:
    assert chat(("system", prompt), ("user", "User: hi\nAssistant: yo"))


def test_a_question_that_is_to_be_made_anew_for_a_search_is_a_task_with_any_history() -> None:
    prompt = (
        "Given a chat history and the latest user question which might refer to it, formulate a"
        " standalone question. Do not answer it."
    )
    turns = [("user", "I am Ana"), ("assistant", "Hi"), ("user", "I like tea")]

    for said in (turns[:1], turns, turns * 3):
        assert chat(("system", prompt), *said)
        assert not chat(("system", f"You answer. {prompt}"), *said)


def test_a_task_in_parts_is_told_too() -> None:
    assert chat(("user", [{"type": "text", "text": FOR_THEMSELVES["open webui title"]}]))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "hi",
        "Generate a concise title for my novel about a lighthouse.",
        "I need a short title for my talk about conversation design.",
        "Summarize our quarterly report into a short title slide.",
        "Our conversation yesterday was great. My name is Ana and my title is director.",
        "### Task:\nRespond to the user query using the provided context, with citations.\n"
        "<user_query>I am Ana</user_query>",
        "### Task:\nWrite a poem about tea.\n### Output:\nJSON format: { }",
        "What does '### Task: Generate 1-3 broad tags categorizing the main themes' mean?",
        "Suggest 3 follow-up questions for my interview on Monday.",
        "Summarize the discussion in the attached text.",
        "Remember that I like short titles in the thread view.",
        "Based on the chat history, what do you know of me?",
        "Given the conversation we had, is that a question?",
        "Available tools: [hammer, saw]. Which is the correct tool to choose for oak?",
        "你能给我的小说起一个标题吗？",
    ],
)
def test_a_persons_own_words_are_not_taken_for_a_task(words: str) -> None:
    assert not chat(("user", words))
    assert not chat(
        ("system", "You name chats."), ("user", words), ("assistant", "x"), ("user", words)
    )


def test_a_system_prompt_about_titles_does_not_silence_a_conversation() -> None:
    prompt = AS_SYSTEM["lobechat"]
    turns = [("user", "I am Ana"), ("assistant", "Hi"), ("user", "I like tea")]

    assert not chat(("system", prompt), *turns)


def test_an_answer_pending_is_no_task() -> None:
    assert not chat(("user", "hi"), ("assistant", FOR_THEMSELVES["jan"]))


def test_no_text_takes_long_to_judge() -> None:
    units = (
        "title ",
        "title for the ",
        "### task: ",
        "3 word title of our ",
        "对话总结",
        "### output ",
    )
    start = time.perf_counter()
    for unit in units:
        chat(("user", unit * 100_000), ("system", "### Task: " + unit * 100_000))

    assert time.perf_counter() - start < 2.0  # 0.05 s on the machine it was written on
