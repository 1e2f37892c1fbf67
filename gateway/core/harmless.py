"""What a remembered text may not do in somebody else's prompt: end the block that it stands in,
open another, begin a line, or pass for a message of its own.
"""

from __future__ import annotations

import re

from gateway.core.scan import whole

# Line breaks of any kind become spaces: a memory is one line and cannot begin another.
# Then what cannot be seen goes: C0 and C1 controls, zero-width space and joiners of words,
# bidirectional overrides and isolates, byte order marks, interlinear and tag characters
# (texts hidden in U+E0000 have been used to smuggle instructions). ZWNJ and ZWJ stay: Persian
# and emoji need them.
_SPACES = re.compile(r"\s+")
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
# `<` before anything but a number or an arrow may open a tag (`</memory-gateway>`, `<system>`,
# `<|im_start|>`): it becomes `‹`. Look-alikes that NFKC folds to `<` go the same way.
_TAG = re.compile(r"[<＜﹤](?!\s*[\d=-])")
_INSTRUCTION_MARK = re.compile(r"\[(?=\s*/?\s*(?:inst|sys|system|/?b_sys)\b)", re.IGNORECASE)
# A role at the start of a line, as transcripts and some prompt formats write it. It is looked
# for before lines are joined.
_ROLE_LINE = re.compile(
    r"^[ \t#*>_-]*+(system|developer|assistant|user|human|ai|tool)"
    r"(?:\s+(message|prompt|instructions?|note|override))?[\s*_]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)


def harmless(text: str) -> str:
    """The text as one line that cannot close the block, open another or pose as a message.

    Deterministic, and for ordinary sentences the identity: each rule is tried only where a sign
    that it needs is there.
    """
    if text.isascii() and text.isprintable():
        text = text.strip()  # one line, in which all can be seen
    else:
        lines = (part.strip() for part in _UNSEEN.sub("", whole(text)).splitlines())
        text = "\n".join(lines)
    if ":" in text or "：" in text:
        text = _ROLE_LINE.sub(_role_in_words, text)
    if not text.isprintable() or "  " in text:
        text = _SPACES.sub(" ", text).strip()
    if "<" in text or "＜" in text or "﹤" in text:
        text = _TAG.sub("‹", text)
    return _INSTRUCTION_MARK.sub("(", text) if "[" in text else text


def _role_in_words(match: re.Match[str]) -> str:
    return f"{' '.join(word for word in match.groups() if word)} -"
