"""The plain forms in which people say things about themselves, each with its reading.

A form is a pattern with names in angle brackets for what recurs. It is matched at the
beginning of a clause and, unless it ends in `$` or `…`, must reach the clause's end (small
words such as "these days" aside). Forms are tried in order; the first that yields is it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from gateway.adapters.extract_rules import happenings, taking_back
from gateway.adapters.extract_rules import readings as read
from gateway.adapters.extract_rules.readings import Found, Known, Match, fact
from gateway.adapters.extract_rules.vocabulary import LANGUAGES, LENGTHS

_NAMES = {
    "value": r"(?P<value>.{1,120}?)",
    "I am": r"(?:i am|i'm|im)",
    "answers": r"(?:answers?|repl(?:y|ies)|responses?)",
    "language": f"(?P<value>{'|'.join(LANGUAGES)})",
    "length": f"(?P<value>{'|'.join(LENGTHS)})",
    "diet": (
        "(?P<value>vegetarian|vegan|pescatarian|kosher|halal|gluten-free|keto|celiac|coeliac"
        "|diabetic)"
    ),
    "article": "(?P<article>an?|the)",
    "event": happenings.EVENT,
    "more": happenings.MORE,
    "when": happenings.WHEN,
    "time": happenings.TIME,
    "wish": r"i(?:'d| would)? (?:prefer|want|like|love|need)",
    "order": (
        r"(?:(?:from now on|always|i want you to|i'd like you to|can you please|you should|please"
        r"|to)[, ]+)*"
    ),
    "person": (
        "(?P<who>wife|husband|partner|girlfriend|boyfriend|son|daughter|dog|cat|mother|father"
        "|sister|brother|boss|company|horse|baby)"
    ),
}
_END = (
    r"(?:\s+(?:now|currently|at the moment|these days|right now|too|as well|by the way|btw|though"
    r"|anyway|tbh|lol|haha))*$"
)


def _pattern(form: str) -> re.Pattern[str]:
    form = re.sub(r"(?<!\?P)<([\w ]+)>", lambda m: _NAMES[m[1]], form)
    if form.endswith("…"):
        form = form[:-1]
    elif not form.endswith("$"):
        form += _END
    return re.compile(form, re.IGNORECASE)


def facts_of(clause: str, known: Known) -> Found:
    """What one clause states. The first form that fits is what it says."""
    for pattern, reading in FORMS:
        if (m := pattern.match(clause)) and (facts := list(reading(m, known))):
            yield from facts
            return


def _remember(m: Match, known: Known) -> Found:
    """What is to be remembered, in a form that is known or as it was said."""
    what = m["value"].strip()
    plain: list[dict[str, Any]] = list(facts_of(what, known))
    if plain:
        yield from plain
    else:
        yield fact("profile", f"User asked to remember: {what}", importance=0.8)


def _noted(m: Match, known: Known) -> Found:
    """ "Note: the function returns None" is an aside; what is noted about oneself is meant."""
    if re.search(r"\b(?:i|i'm|i've|my|we|our)\b", m["value"], re.IGNORECASE):
        yield from _remember(m, known)


def _ends(m: Match, known: Known) -> Found:
    """ "You don't have to answer in Spanish any more": what was wished is wished no longer."""
    order = re.sub(r"^\w+", lambda verb: _DOING.get(verb[0].lower(), verb[0]), m["value"])
    for wished in facts_of(order, ()):
        for n, text, key in known:
            if wished["type"] == "preference" and (text, key) == (wished["text"], wished["key"]):
                yield fact("preference", "", action="retract", target=n)


_DOING = {
    "answering": "answer", "replying": "reply", "responding": "respond", "speaking": "speak",
    "writing": "write", "talking": "talk", "keeping": "keep", "giving": "give", "using": "use",
    "being": "be",
}  # fmt: skip

Reading: TypeAlias = Callable[[Match, Known], Found]

_ALL: list[tuple[Reading, list[str]]] = [
    (_remember, [r"(?:don't|do not|never) forget\s+(?!to\b|about\b)(?:that\s+|:\s*)?<value>$"]),
    (
        taking_back.forget_all,
        [
            r"(?:clear|wipe|erase|reset|empty) (?:your (?:entire |whole )?memory|(?:the|all|my)"
            r" memor(?:y|ies)(?= (?:of|about) me))(?: (?:of|about) me)?(?: completely| please)?$",
        ],
    ),
    (
        taking_back.forget,
        [
            r"(?:you (?:can|should|may|must) |i want you to |i'd like you to "
            r"|(?:can|could|would|will) you (?:please |kindly )?)?"
            r"(?:forget|unlearn|stop remembering|erase|delete|remove|don't remember"
            r"|do not remember|i (?:don't|do not) want you to remember)\s+"
            r"(?:that\s+|about\s+|everything (?:that )?(?:you know )?about\s+(?!me\b)"
            r"|(?:the fact|what (?:i|you) (?:said|told you|know))(?: about| that)?\s+"
            r"|from (?:your )?memory\s+)?<value>$",
        ],
    ),
    (
        _remember,
        [
            r"(?:i want you to |you should |i'd like you to )?"
            r"(?:remember|keep in mind|memori[sz]e)(?!\s+(?:when|how|to\b|the time|me\b))"
            r"\s*(?:this|that)?[:,]?\s+<value>$",
        ],
    ),
    (_noted, [r"note(?!\s+(?:when|how|to\b|the time|me\b))\s*(?:this|that)?[:,]?\s+<value>$"]),
    (
        taking_back.left,
        [
            r"i(?:'ve| have)? (?:just |recently )?(?:left|quit|resigned from"
            r"|(?:got|was|been) (?:fired|laid off) (?:from|by|at))\s+"
            r"(?P<value>[\w&'-]+(?: [A-Z][\w&'-]+)??)"
            r"(?:\s+(?:and|for|to|last|in|this|after|because|yesterday|today)\b.*)?$",
        ],
    ),
    (
        taking_back.not_favourite,
        [
            r"my favou?rite (?P<what>[\w -]{2,30}?) (?:is not|isn't|is no longer)\s+<value>"
            r"(?:\s+any ?(?:more|longer))?(?:,.*)?$",
        ],
    ),
    (
        taking_back.no_longer,
        [
            r"i used to\s+(?:be (?:an? )?)?<value>",
            r"i (?:don't|do not)\s+(?P<value>(?:live|work) (?:in|at|for|as) .{2,100}?)",
            r"i (?:don't|do not)\s+(?:really )?(?P<value>(?!like|love|enjoy|know|think|want"
            r"|have to|understand).{2,100}?)\s+any ?more$",
            r"i (?:no longer|quit|have quit)\s+<value>",
            r"i (?:have |just )?stopped\s+(?P<value>\w+ing .{2,100}?)",
            r"<I am> (?:no longer|not)\s+(?:an?\s+)?<value>\s+any ?more$",
            r"<I am> no longer\s+(?:an?\s+)?<value>$",
            r"<I am> not (?:actually |really )?(?P<value>allergic to .{1,60}?)$",
            r"<I am> not (?:an? )?(?:strict )?<diet>$",
        ],
    ),
    (
        read.name,
        [
            r"my (?:full |first )?name(?: is|'s)\s+<value>",
            r"(?:you can |please |just |everyone )?calls? me\s+<value>",
            r"<I am> called\s+<value>",
        ],
    ),
    (
        read.name,
        [
            r"i(?:'d| would)? (?:like|prefer) (?:to be called|you to call me|going by)\s+<value>",
            r"i go by\s+(?P<value>[A-Z][\w'-]+(?: [A-Z][\w'-]+)?)",
        ],
    ),
    (read.age, [r"i(?:'ve| have)? (?:just )?turned (?P<value>\d{1,3})…"]),
    (
        read.turned,
        [
            r"my <person> (?P<name>[A-Z][\w'-]+) (?:has )?(?:just )?(?:turned|turns|is turning)"
            r" (?P<years>\d{1,2})(?: years old)?(?: (?P<when>today|yesterday|last \w+|on \w+))?",
        ],
    ),
    (
        read.age,
        [r"<I am>\s+(?:now\s+)?(?P<value>\d{1,3})(?:\s+years?(?:\s+old)?|\s+y/?o)?(?:\s+now)?$"],
    ),
    (
        read.birthday,
        [
            r"my birthday is (?:on )?<value>",
            r"i was born (?:on|in) (?P<value>(?=.*\d).{3,40}?)",
        ],
    ),
    (
        read.named,
        [
            r"my <person>(?:'s name)? is (?:called |named )?<value>",
            r"i have an? <person> (?:called|named)\s+<value>",
        ],
    ),
    (
        read.home,
        [
            r"(?:i|<I am>) (?:currently |now |still )?(?:live|living|reside|residing) in\s+<value>",
            r"<I am> (?:currently |now )?based in\s+<value>",
            r"(?:i|i've|i have) (?:just |recently |finally |now )?(?:moved|relocated)"
            r"(?: (?:house|home|back))?(?: from [^,]{1,40}?)? to\s+<value>",
            r"my home (?:town |city )?is (?:in )?<value>",
            r"(?:i have|i've) been living in\s+<value>",
            r"we (?:currently |now )?live in\s+<value>",
            r"we (?:just |recently |have )?moved to\s+<value>",
        ],
    ),
    (read.moving, [r"<I am> (?:going to move|moving|relocating) to\s+<value>"]),
    (
        read.origin,
        [
            r"<I am> (?:originally )?from\s+<value>",
            r"i was born (?:and raised )?in\s+(?P<value>(?!.*\d)[A-Z].{1,40}?)",
        ],
    ),
    (read.speaks, [r"i (?:also )?speak\s+(?:fluent |some )?<value>"]),
    (read.learns, [r"<I am> (?:currently )?learning\s+<value>"]),
    (
        read.plays,
        [
            r"i (?:also )?play (?P<value>the (?!victim|fool|long|part|role|field|lottery|game)\w+"
            r"|(?:guitar|piano|violin|drums|chess|tennis|football|soccer|basketball|golf|badminton"
            r"|hockey|rugby|volleyball))",
        ],
    ),
    (
        read.has_children,
        [
            r"(?:i|we)(?: have|'ve got) (?P<value>(?:a|one|two|three|four|five|six|\d) "
            r"(?:kids?|child(?:ren)?|sons?|daughters?|dogs?|cats?|brothers?|sisters?|siblings?))",
        ],
    ),
    (
        read.abstains,
        [
            r"i (?:don't|do not|never) (?P<verb>eat|drink|smoke)\s+<value>",
            r"i (?:can't|cannot) (?P<verb>eat|drink)\s+<value>",
        ],
    ),
    (
        read.illness,
        [
            r"i have (?P<value>(?:type [12] )?diabetes|asthma|epilepsy|adhd|dyslexia"
            r"|coeliac disease|celiac disease|high blood pressure|migraines?|arthritis|autism)",
        ],
    ),
    (read.units, [r"<order>use (?P<value>metric|imperial)(?: units)?(?: please)?…"]),
    (
        read.layout,
        [
            r"<order>(?P<no>)(?:use|give me|answer (?:in|with)) (?P<value>bullet points|emojis?"
            r"|tables|markdown)(?: please)?",
            r"<order>(?P<no>don't use|do not use|avoid|no|stop using|never use) (?:any )?"
            r"(?P<value>bullet points|emojis?|tables|markdown)(?: please)?",
        ],
    ),
    (
        read.timezone,
        [r"my time ?zone is\s+<value>", r"<I am> (?:in|on) (?:the )?<value> time ?zone$"],
    ),
    (
        read.role,
        [
            r"(?:i (?:currently |now )?work|<I am> (?:currently |now )?working) as <article>"
            r"\s+<value>",
            r"my (?:job|role|occupation|profession|job title) is (?:being )?"
            r"(?:<article>\s+)?<value>",
        ],
    ),
    (
        read.diet,
        [
            r"<I am> (?:an? )?(?:strict )?<diet>(?: \w+)?",
            r"i(?:'ve| have)? (?:just |recently )?(?:become|became|gone|went|turned)"
            r" (?:an? )?<diet>(?: (?:last|this|in|since|a few|\w+ \w+ ago).*)?",
            r"i(?:'ve| have) been (?:an? )?<diet> (?:for|since) .*",
        ],
    ),
    (
        read.intolerance,
        [r"<I am> (?P<value>lactose|gluten|histamine|fructose)[ -]intolerant"],
    ),
    (
        read.allergy,
        [
            r"<I am> (?:very |severely |highly |also |deathly )?allergic to\s+<value>",
            r"i have an? (?:severe |bad |strong )?allergy to\s+<value>",
            r"i have an? (?:severe |bad |strong )?(?P<value>[\w -]{2,30}?) allergy",
        ],
    ),
    (
        read.like,
        [
            r"<I am> an? (?:big |huge |great )?(?:fan|lover) of\s+<value>",
            r"<I am> (?:really |very |also )?(?:fond of|into)\s+<value>",
        ],
    ),
    (read.perhaps_role, [r"<I am>\s+(?:now\s+|also\s+)?<article>\s+<value>"]),
    (
        read.employer,
        [
            r"(?:i (?:currently |now )?work|<I am> (?:currently |now )?working) (?P<how>at|for)"
            r"\s+<value>",
            r"i(?:'ve| have)? (?:just |recently )?(?:got|started|found|have) a (?:new )?job"
            r" (?P<how>at)\s+<value>",
        ],
    ),
    (
        happenings.event,
        [
            r"(?:i|we)(?:'ve| have)(?: got)? (?:an?|my|our)\s+(?P<what><event>)<more>"
            r"\s+<when><time>…",
            r"(?:my|our)\s+(?P<what><event>)<more> is\s+<when><time>",
        ],
    ),
    (
        happenings.moved,
        [
            r"(?:my|our|the)\s+(?P<what><event>)<more> (?:is|was|got|has been|had to be) (?:now )?"
            r"(?:(?:re)?scheduled|moved|postponed|put off|pushed(?: back)?|brought forward)"
            r"(?: from .{2,30}?)? (?:to|until|for)\s+<when><time>",
            r"(?:my|our|the)\s+(?P<what><event>) (?:is|was|got|has been)(?P<when>(?!))?"
            r" (?:cancell?ed|called off)",
        ],
    ),
    (
        happenings.deadline,
        [
            r"(?:i|we) (?:still |also |really )?(?:need to|have to|must|'ve got to)\s+"
            r"(?P<what>[^,;]{3,80}?)\s+(?:by|before|until)\s+<when><time>",
        ],
    ),
    (
        happenings.done,
        [
            r"(?:i|we)(?:'ve| have)? (?:just |already |finally |now )?(?:finished|completed"
            r"|submitted|sent(?: off)?|handed in|done|delivered|shipped)\s+(?:with )?<value>"
            r"(?:\s+(?:today|yesterday|this morning|last night|already))?",
        ],
    ),
    (
        read.language_of_code,
        [r"i (?:mostly |mainly |usually )?(?:code|program|develop) in\s+(?P<value>[\w+#.]{1,20})…"],
    ),
    (
        read.language,
        [
            r"<order>(?:answer|reply|respond|speak|write|talk|communicate)(?: to)?"
            r"(?: me| my questions)?(?: back)?(?: only| always)? in <language>\b"
            r"(?!\s+(?:what|how|why|who|where|whether)\b)"
            r"(?!.*\b(?:this|following|poem|story|essay)\b)…",
            r"<wish> (?:your |all |my )?(?:<answers> (?:to be )?)?in <language>",
        ],
    ),
    (
        read.switched,
        [
            r"<order>(?:you can |let's )?(?:switch|go|change) (?:back )?to <language>"
            r"(?: again| now| from now on)?(?:,? please)?$",
        ],
    ),
    (
        read.length,
        [
            r"<order>(?:keep|make|give me) (?:your |the |all )?(?:<answers> )?(?:more )?<length>"
            r"(?: <answers>)?\b(?! (?:story|poem|list|summary))…",
            r"<wish> (?:your )?<length> <answers>\b(?! (?:in|for|from|on) (?:my|our|the|an?)\b)…",
            r"<wish> (?:your )?<answers> (?:to be |that are )?<length>\b…",
            r"<length> <answers>(?: only)?(?:,? please)?$",
            r"<order>be (?:more )?<length>",
        ],
    ),
    (
        read.dislike,
        [
            r"i (?:really |absolutely |truly )?(?:don't|do not|never)(?: really)?"
            r" (?:like|enjoy|love)\s+<value>",
            r"i (?:really |absolutely |also )?(?:dislike|hate|detest|can't stand|cannot stand"
            r"|loathe)\s+<value>",
            r"<I am> not (?:an? (?:big |huge )?fan of|into|fond of)\s+<value>",
        ],
    ),
    (
        read.like,
        [r"i (?:really |absolutely |also |still |do )?(?:like|love|enjoy|adore)\s+<value>"],
    ),
    (read.prefer, [r"i (?:really |always |usually )?prefer\s+<value>"]),
    (
        read.favourite,
        [r"my (?:all-time )?favou?rite (?P<what>[\w -]{2,30}?) (?:is|are)\s+<value>"],
    ),
    (
        read.tool,
        [
            r"i (?:mostly |usually |always |mainly |currently |also )?(?:use|work with)\s+<value>",
            r"<I am> (?:currently |mostly |also )?(?:using|working with)\s+<value>",
        ],
    ),
    (
        _ends,
        [
            r"(?:you (?:don't|do not|no longer|needn't)(?: (?:have|need) to)?|you can stop|stop"
            r"|don't|do not)\s+<value>(?:\s+any ?(?:more|longer))?",
        ],
    ),
]
FORMS: list[tuple[re.Pattern[str], Reading]] = [
    (_pattern(form), reading) for reading, forms in _ALL for form in forms
]
INTRODUCTION = _pattern(r"<I am>\s+(?P<value>[A-Z][\w'-]+(?: [A-Z][\w'-]+)?)$")
"""A name only where the message opens with a greeting; else "I'm German" would be one."""
