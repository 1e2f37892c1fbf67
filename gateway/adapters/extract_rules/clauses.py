"""A message cut into the clauses that state something about the one who wrote it.

Strategy: what is fenced, cited or quoted is hidden first; sentences that suppose, ask or give
text to work on are left out; the rest is cut where a new statement begins, so that "I like
tea, and my name is Ana" is two and "I like tea, coffee and cake" is one.
"""

from __future__ import annotations

import re

MAX_CHARS = 20_000
"""Of one message. Whoever states something about themselves does not need more."""
MAX_CLAUSES = 100

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CITED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
# Said by someone, as one says it oneself: two words and more in quotation marks.
_QUOTED = re.compile(
    r"[\"“„«][^\"“”„«»\n]{0,300}[ ][^\"“”„«»\n]{1,300}[\"”“»]"
    r"|(?<!\w)'[^'\n]{1,200}[ ][^'\n]{1,200}'(?!\w)"
)
_SHORTENED = r"(?<=\bSt)|(?<=\bMr)|(?<=\bMs)|(?<=\bMrs)|(?<=\bDr)|(?<=\bProf)|(?<=\b[A-Z])"
_SENTENCE = re.compile(rf"[^.!?;\n]+(?:(?:\.(?=\w)|(?:{_SHORTENED})\.(?=\s\w))[^.!?;\n]*)*[.!?;]*")
_STARTS = (
    r"(?:i|i'm|i've|i'd|we|we're|my|please|call me|remember|forget|always|never|from now on|what"
    r"|where|ich|mein|meine|bitte|me (?:llamo|gusta|encanta|mudé)|mi|vivo|soy|no me|je|j'\w+|ma|mon"
    r"|which|how|can|could|should|would|who|why|when|do|does|is|are|answer|reply|respond|keep)\b"
)
# Spaces are counted: where any number may stand, 20,000 of them took 13 s to split.
_JOINT = re.compile(
    r"(?:,\s{0,9}(?:and|but|so|also|then|because|since|und|aber|y|pero|et|mais)?\s{0,9}"
    r"|\s{1,9}(?:and|but|because|so|und|aber|y|pero|et|mais)\s{1,9}|:\s{1,9}"
    rf"|\s{{1,9}}[-–—]\s{{1,9}})(?={_STARTS})",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"^(?:(?:well|hi|hello|hey|also|actually|btw|by the way|so|oh|ok|okay|and|but|please|just so"
    r" you know|fyi|note that|for the record|as you know|no|yes|sure|thanks|thank you|today|now"
    r"|hallo|hola|bonjour|übrigens|por cierto|au fait"
    r"|honestly|anyway|first|besides|sorry|correction|hi there|hello there)\b[\s,:!-]*)+",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if (?:i|my|we|only)|suppos(?:e|ing)|imagine|pretend|let's say|lets say|what if|assume"
    r"|hypothetically|as if|say that i|wish|character|story|role-?play|novel|act as"
    r"|wenn ich|falls ich|angenommen|stell dir vor|vielleicht|si yo|si vivo|imagina|supón|quizás?"
    r"|tal vez|si je|si j'\w+|imagine[sz]?|suppose[sz]?|peut-être|histoire|roman|geschichte)\b",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"^(?:what|where|which|how|can|could|should|would|who|why|when|do|does|did|is|are|am|was|have"
    r"|has)\b",
    re.IGNORECASE,
)
# What follows is not said but worked on.
_TASK = re.compile(
    r"\s*(?:please |can you |could you )*(?:translate|rewrite|rephrase|paraphrase|proofread|correct"
    r"|fix|edit|improve|complete|continue|summari[sz]e|write|draft|compose|explain"
    r"|übersetze?|korrigiere?|verbessere?|formuliere?|traduce|corrige|mejora|traduis|traduisez"
    r"|améliore|résume[sz]?|resume)\b",
    re.IGNORECASE,
)
_GREETED = re.compile(r"\W*(?:hi|hello|hey|good (?:morning|evening|afternoon))\b", re.IGNORECASE)


def clauses(text: str) -> list[str]:
    """The clauses of a message that state something, each as it stands in it."""
    text = text[:MAX_CHARS].replace("’", "'")
    for hidden in (_FENCED, _CITED, _QUOTED):
        text = hidden.sub(lambda m: "\0" * len(m[0]), text)
    stated: list[str] = []
    for sentence in _SENTENCE.findall(text):
        if _TASK.match(sentence):
            if ":" in sentence:
                break
            continue
        if not _SUPPOSED.search(sentence):
            stated += _stated(sentence)
        if len(stated) >= MAX_CLAUSES:
            break
    return stated[:MAX_CLAUSES]


def greets(text: str) -> bool:
    """Whether a message opens with a greeting: "I'm Ana" is an introduction then."""
    return _GREETED.match(text) is not None


def bare(clause: str) -> str:
    """A clause without the small words that lead into it."""
    return _FILLER.sub("", clause)


def _stated(sentence: str) -> list[str]:
    """In "I'm allergic to nuts, what can I eat?" only the part before asks nothing."""
    question = sentence.rstrip().endswith("?")
    parts = [part.strip(" \t,;:!?.-–—") for part in _JOINT.split(sentence)]
    return [
        part
        for i, part in enumerate(parts)
        if part
        and "\0" not in part
        and not _ASKED.match(bare(part))
        and not (question and i == len(parts) - 1)
    ]
