"""Which text is searched for a memory: its own, and that of a turn's neighbourhood.

A turn alone ("Yes, last week!") says little; the words that a question uses often stand in
the turns around it. A window over the two turns before and the one after is worth eight points
of recall on chats (docs/recall.md), and costs five where messages are long: their words match
anything in the neighbourhood. So long ones have none. Whoever writes memories takes these texts
from here: the worker, imports and the evaluation search the same things.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.memory import Memory

BEFORE = 2
AFTER = 1
"""Neighbours in a window. It reaches forward, so writing a turn rewrites the window of the
`AFTER` turns before it."""

NEIGHBOUR_CHARS = 600
"""How much of each neighbour counts: a long one would drown the turn in the middle."""

LONG_CHARS = 360
"""Characters (60 words) a turn on the average above which a window is not worth having."""

DENSE_CHARS = 2000
"""How much of a text an embedder is given. Small models read 256 to 512 tokens and cut the rest
themselves; a megabyte would only cost the time of tokenising it."""


def window_texts(turns: Sequence[Memory]) -> list[str]:
    """The window of each turn; `turns` are of one session, in the order of their times."""
    windows: list[str] = []
    for i, turn in enumerate(turns):
        before = [_head(t.text) for t in turns[max(0, i - BEFORE) : i]]
        after = [_head(t.text) for t in turns[i + 1 : i + 1 + AFTER]]
        windows.append("\n".join([*before, turn.text, *after]))
    return windows


def windows_of(memories: Iterable[Memory]) -> dict[str, str]:
    """The windows of all turns among these that are worth one, by the turns' ids.

    Turns are taken session by session, in the order of their times; a turn without a session
    has no neighbours and no window.
    """
    sessions: dict[str, list[Memory]] = {}
    for memory in memories:
        if memory.kind == "turn" and memory.source.session is not None:
            sessions.setdefault(memory.source.session, []).append(memory)
    windows: dict[str, str] = {}
    for turns in sessions.values():
        turns.sort(key=lambda turn: turn.created_at)
        for i, (turn, window) in enumerate(zip(turns, window_texts(turns), strict=True)):
            members = min(i, BEFORE) + 1 + min(len(turns) - 1 - i, AFTER)
            if len(window) <= LONG_CHARS * members:
                windows[turn.id] = window
    return windows


def dense_text(memory: Memory) -> str:
    """What is embedded for the memory itself."""
    return memory.text[:DENSE_CHARS]


def dense_window_text(window: str) -> str:
    """What is embedded for a turn's window."""
    return window[:DENSE_CHARS]


def _head(text: str) -> str:
    return text if len(text) <= NEIGHBOUR_CHARS else text[:NEIGHBOUR_CHARS]
