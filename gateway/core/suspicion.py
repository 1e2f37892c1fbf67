"""Texts that try to instruct the model instead of telling about the user.

Strategy: what is remembered is read by a model in every later conversation, so that a planted
sentence would go on working long after the page it came from. Such a text is not thrown away
but put in quarantine: kept, never injected, shown for review. The patterns name what attacks
have in common (overriding, posing as another speaker, closing the block, sending data away).
A user may well ask for things "from now on"; a document, a tool or the assistant may not.
English stands here, what is not told by its language too; other languages in `core/orders`.
"""

from __future__ import annotations

import re
from collections.abc import Set
from functools import lru_cache

from gateway.core import orders
from gateway.core.normal import normalized
from gateway.core.wording import folded, stands_in

_OVERRIDE = re.compile(
    r"""
      \b (?<! n't\ ) (?<! not\ ) (?<! never\ )
         (?: ignore | disregard | forget | override | bypass | neglect | overlook | skip ) \b
         .{0,40} \b (?: previous | prior | above | earlier | preceding | existing | former | system
         | all (?:\ of)? (?:\ the | \ your)? | any | your | these | those | safety | the )
         .{0,25} \b (?: instruction | prompt | rule | guideline | direction | polic | command
         | message | context | constraint | restriction | guardrail | filter )
    | \b (?: new | updated | real | actual | hidden | secret | following ) \s instructions? \s? :
    | \b (?: system | developer | initial | hidden ) \s (?: prompt | message | instruction )
    | \b you \s (?: are \s now | must \s now | will \s now | are \s no \s longer ) \b
    | \b (?: pretend | act | behave | roleplay ) \s (?: to \s be | as \s if | as | like )
         .{0,40} \b (?: no | without | unrestricted | jailb ) \b
    | \b (?: jailbreak | jailbroken | developer \s mode | god \s mode | do \s anything \s now
         | DAN \s mode | unrestricted \s mode ) \b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_POSES = re.compile(
    r"""
      (?: ^ | [\n.:;>\]] ) [\[<(*#\s]{0,8}
        \b (?: system | developer | assistant | instructions? | admin (?:istrator)? )
        [\])>*\s]{0,6} [:\]#] \s{0,4} \S
    | < \|? \s? /? \s? (?: im_start | im_end | system | endoftext | end_of_turn | start_of_turn
        | eot_id | start_header_id | assistant | user | human ) \s? \|? >
    | \[ /? (?: INST | SYS | SYSTEM ) \] | << /? SYS >>
    | ^ [ \t]{0,8} \#{2,6} [ \t]{0,4} (?: system | instruction | human | assistant )
    | \b (?: this | the \s following ) \s is
        \s (?: a \s message \s from | an? \s (?: order | instruction ) \s (?: from | by ) )
        .{0,20} \b (?: system | developer | admin | openai | anthropic | operator ) \b
    """,
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_CLOSES = re.compile(
    r"<\s{0,4}/\s{0,4}[\w.:-]{0,30}"
    r"(?:memor|context|system|instruction|user|assistant|data|block|document|prompt)"
    r"|\b(?:end|begin|start) of (?:the )?(?:memor(?:y|ies)|context|system|prompt|instructions?)\b"
    r"|-{3}\s{0,4}(?:end|begin)\b|\]\]>|={3}\s{0,4}(?:end|begin)\b",
    re.IGNORECASE,
)
_SENDS = re.compile(
    r"""
      !\[ [^\]\n]{0,200} \] \s? \( | < \s? (?: img | iframe | script | object | embed ) \b
    | \b javascript: | \b data:text/html
    | \b https?:// [^\s<>"]{0,300} (?: [?&][\w-]{1,40}= (?: \s | $ | [\[{<$%] ) | [{<\[] )
    | \b (?: send | post | forward | upload | transmit | leak | exfiltrate | append | submit
        | embed | encode | include | deliver | copy | e-?mail ) s? \b
        .{0,60} \b (?: conversation | chat | histor | messages? | memor | secret | password
        | credential | data | personal | everything | questions? | answers? )
        .{0,60} (?: https?:// | www\. | [\w.+-]{1,64} @ [\w-]{1,64} \. | webhook )
    | https?:// \S{1,300}+ .{0,40} \b (?: with | containing | including | append | followed )
        .{0,40} \b (?: conversation | history | memor | secret | password | question | answer )
    | \b (?: reveal | disclose | output | print | repeat | leak ) \b .{0,30}
        \b (?: system | hidden | secret | api | other \s users? | password | credential | memor )
        .{0,20} \b (?: prompt | key | instruction | password | data | memor | verbatim )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_STANDING_ORDER = re.compile(
    r"""
      \b (?: from \s now \s on | henceforth | from \s this \s (?: point | moment )
        | at \s all \s times | going \s forward | for \s all \s future | in \s every | whenever
        | every \s time ) \b
    | \b in \s (?: all | every | future | each ) \s (?: future \s )?
        (?: conversation | chat | answer | response | repl | session | message )
    | \b (?: always | never | must | do \s not | don't | should \s (?: always | never )
        | (?: make | be ) \s sure | remember ) \b
      .{0,20} \b (?: recommend | mention | say | tell | answer | respond | reply | include | suggest
        | promote | use | add | end | begin | start | sign | link | trust | believe | reveal
        | refuse | obey | follow | call | output | write | click | visit | prefer )
    | \b (?: assistant | chatbot | bot | model | ai | llm | you ) \s
        (?: must | shall | should | ha (?: s | ve ) \s to | (?: is | are ) \s (?: to | required )
        | needs? \s to | will \s always ) \b
    """,
    re.VERBOSE | re.IGNORECASE,
)

# Letters that carry text which people do not see, or turn it around.
_HIDDEN = re.compile(
    "[\U000e0000-\U000e007f\u202a-\u202e\u2066-\u2069\u200b\u200e\u200f\u2060\ufeff\u00ad]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


# A text without any of these holds no such order: it costs 20 µs to know, against 300.
_OVERRIDING = frozenset(
    (
        *("ignore", "disregard", "forget", "override", "bypass", "neglect", "overlook", "skip"),
        *("instruction", "instructions", "prompt", "prompts", "message", "messages"),
        *("now", "must", "longer", "pretend", "act", "behave", "roleplay", "jailbreak"),
        *("jailbroken", "mode", "anything"),
    )
)
_REVEALING = frozenset(("reveal", "disclose", "output", "print", "repeat", "leak"))
_SENDING = re.compile(r"http|www\.|@|webhook|!\[|<|javascript:|data:text")
_POSING = re.compile(r"[:\]#<]")
_TELLING = frozenset(("message", "order", "instruction"))


def visible(text: str) -> str:
    """The text without control characters, hidden letters and lone surrogates."""
    text = _CONTROLS.sub(" ", _HIDDEN.sub("", text))
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def suspicion(text: str) -> str | None:
    """Why a text must not be given to a model whoever said it, or None.

    Asked of facts and of raw turns alike. The reasons are few and fixed: `override`,
    `poses`, `closes_block`, `exfiltrates`, `hidden_text`.
    """
    if len(text) > 100_000:
        text = f"{text[:50_000]}\n{text[-50_000:]}"
    if re.search("[\U000e0000-\U000e007f]", text):
        return "hidden_text"
    flat = text if text.isascii() else normalized("NFKC", visible(text))
    low = flat.lower()
    words = set(_WORD.findall(low))
    if not words.isdisjoint(_OVERRIDING) and _OVERRIDE.search(flat):
        return "override"
    if orders.overrides(low, words):
        return "override"
    if _may_close(low, words) and _CLOSES.search(flat):
        return "closes_block"
    if _may_pose(low, words) and _POSES.search(flat):
        return "poses"
    sends = _SENDING.search(low) is not None
    if (sends or not words.isdisjoint(_REVEALING)) and _SENDS.search(flat):
        return "exfiltrates"
    return "exfiltrates" if sends and orders.sends_away(low) else None


def _may_close(low: str, words: Set[str]) -> bool:
    """Whether there is what each way to close a block needs."""
    return "of" in words or "<" in low or "---" in low or "===" in low or "]]>" in low


def _may_pose(low: str, words: Set[str]) -> bool:
    """Whether there is what each way to pose as another speaker needs. Beyond ASCII, letters
    match in more ways than one."""
    return not low.isascii() or _POSING.search(low) is not None or not words.isdisjoint(_TELLING)


def standing_order(text: str) -> bool:
    """Whether a text tells the model how to behave from now on: the user's own right alone."""
    said = folded(text)
    return _STANDING_ORDER.search(said) is not None or orders.standing_order(said)


_WORD = re.compile(r"\w+")
_FENCED = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|\"\"\".*?(?:\"\"\"|\Z)", re.DOTALL)
_CITED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_TAGGED = re.compile(
    r"<(document|email|page|article|file|quote|text|context)\b.*?(?:</\1>|\Z)", re.DOTALL
)
_PASTED = re.compile(
    r"\b(?:here(?:'s| is| are)|this is|below is|see|summari[sz]e|translate|proofread|the following"
    r"|review|read|analy[sz]e|explain|rewrite)\b[^\n]{0,120}?"
    r"(?:article|e-?mail|document|page|text|letter|transcript|report|contract|log|review|website"
    r"|message|post|readme|file|notes?|paragraph|this|following)[^\n]{0,60}?[:\n]\s*(?=\S)"
    r"|\b(?:hier ist|fasse|übersetze|korrigiere|lies|voici|résume[zs]?|tradui[st]\w*|corrige[zs]?"
    r"|aquí (?:está|tienes|va)|resume|traduce|lee|aqui está|resuma|traduza|ecco|riassumi|traduci"
    r"|hier is|vat|vertaal|вот|переведи|перескажи)\b[^\n]{0,120}?[:\n]\s*(?=\S)"
    r"|(?:总结|總結|翻译|翻譯|要約|翻訳|요약|번역)[^\n]{0,60}?[:：\n]\s*(?=\S)",
    re.IGNORECASE,
)


def is_pasted(quote: str, turn: str) -> bool:
    """Whether a quote stands only in what the user pasted, not in what they said themselves.

    Pasted is what is fenced, cited, tagged as a document, or follows "here is the e-mail:".
    """
    return not stands_in(quote, _own(turn))


@lru_cache(maxsize=2)
def _own(turn: str) -> str:
    """What of a turn the user said themselves. It is asked for with each of its facts, up to a
    hundred times, and takes 4 ms for the longest."""
    own = _TAGGED.sub(" ", _CITED.sub(" ", _FENCED.sub(" ", turn)))
    found = _PASTED.search(own)
    return own[: found.end()] if found else own
