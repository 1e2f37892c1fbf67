"""Whether a user asks for everything about them to be forgotten.

Strategy: only a sentence that says that and nothing else, in English, German, Spanish or French: so
much goes with it that "How do I make it forget everything about me?" must not be one.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 2_000
"""Of a message. Who asks for this does not write more."""
OF_MEMORY = re.compile(
    r"\b(?:memor(?:y|ies)|remember\w*|(?:about|of|on) me|you (?:know|learn(?:ed|t)|stored|saved)"
    r"|i(?:'ve| have)? (?:said|told|mentioned)|the fact that (?:i|my)|that (?:i|my|i'm|i've)"
    r"|(?:über|von) mi(?:ch|r)|weißt|gedächtnis|(?:sobre|de) mí|sabes|memoria|(?:sur|de) moi|sais"
    r"|mémoire)\b",
    re.IGNORECASE,
)
"""What says that "delete" is meant of what is remembered."""
EVERYTHING = re.compile(
    r"(?:everything|anything|all)(?: of it)?(?: that(?= (?:you|i)\b))?"
    r"(?:,? (?:you (?:know|remember|have|learn(?:ed|t)|stored|saved)"
    r"|i(?:'ve| have)?(?: ever)? (?:said|told you|mentioned)|(?:of )?(?:the |my |your )?memories))*"
    r"(?: (?:about|of) (?:me|us|myself))?(?: (?:so far|until now|(?:from|in) (?:your )?memory"
    r"|again|now|please))*"
    r"|me(?: completely| entirely| please)?"
    r"|all (?:of )?(?:the |my |your )?(?:personal )?(?:data|info(?:rmation)?|facts|details)"
    r"(?: (?:that )?you (?:have|know|stored|saved))? (?:about|of|on) me(?: please)?"
    r"|alles(?: (?:über|von) mi(?:ch|r))?(?:,? was (?:du|sie) .*(?:weißt|wissen|hast|haben)"
    r"|,? was ich (?:dir )?(?:gesagt|erzählt) habe)?|mich"
    r"|todo(?: lo que (?:sabes|te (?:dije|he dicho|conté|he contado)))?(?: (?:de|sobre) mí)?"
    r"|tout(?: ce que (?:tu sais|je t'ai dit))?(?: (?:de|sur) moi| à mon sujet)?",
    re.IGNORECASE,
)
"""Not "everything above", "all that" or "all previous instructions"."""

_SENTENCE = re.compile(r"[^.!?\n]+")
_ASKS = re.compile(
    r"(?:please |bitte |por favor,? |s'il te plaît,? |ok(?:ay)?,? |now |and )*"
    r"(?:(?:can|could|would|will) you (?:please |kindly )?|you (?:can|should|may|must) "
    r"|i want you to |i'd like you to )?"
    r"(?:(?P<forget>forget|unlearn|stop remembering|vergiss|vergessen sie|olvida|oublie[sz]?)"
    r"|erase|delete|wipe|remove|lösche?|entferne|borra|elimina|efface[sz]?|supprime[sz]?)"
    r"(?: bitte| about)? (?P<what>.+)",
    re.IGNORECASE,
)
_CLEARS = re.compile(
    r"(?:please )?(?:clear|wipe|erase|reset|empty) your (?:entire |whole )?memory"
    r"(?: (?:of|about) me)?(?: completely| please)?",
    re.IGNORECASE,
)


def forgets_everything(text: str) -> bool:
    """Whether a message asks for just that in one of its sentences."""
    for sentence in _SENTENCE.findall(text[:MAX_CHARS]):
        said = " ".join(sentence.split())
        asked = _ASKS.fullmatch(said)
        if _CLEARS.fullmatch(said):
            return True
        if asked is None or not EVERYTHING.fullmatch(asked["what"].strip(" ,")):
            continue
        if asked["forget"] or OF_MEMORY.search(said):
            return True
    return False
