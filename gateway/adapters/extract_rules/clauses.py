"""A message cut into the clauses that state something about the one who wrote it.

Strategy: what is fenced, cited or quoted is hidden first; a message that plays or jokes states
nothing; sentences that suppose, ask, give text to work on or let somebody else speak are left out;
the rest is cut where a new statement begins, so that "I like tea, and my name is Ana" is two and
"I like tea, coffee and cake" is one.
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
    r"(?:i|i'm|i've|i'd|im|ive|we|we're|my|please|call me|remember|forget|always|never|from now on"
    r"|what|where|ich|mein|meine|bitte|me (?:llamo|gusta|encanta|mudé)|mi|vivo|soy|no me"
    r"|je|j'\w+|ma|mon|which|how|can|could|should|would|who|why|when|do|does|is|are|answer|reply|respond|keep"
    r"|wohne|lebe|arbeite|jetzt (?:wohne|lebe|arbeite)|antworte|fasse? dich|halte? dich|trabajo"
    r"|tengo|odio|detesto|ya no|responde|contesta|sé|réponds|sois|parle-moi)\b"
)
_BEFORE_A_START = r"(?:(?:now|currently|actually|these days|today|ahora|maintenant)\s{1,9})?"
# Spaces are counted: where any number may stand, 20,000 of them took 13 s to split.
_JOINT = re.compile(
    r"(?:,\s{0,9}(?:and|but|so|also|then|because|since|und|aber|y|pero|et|mais)?\s{0,9}"
    r"|\s{1,9}(?:and|but|because|so|und|aber|y|pero|et|mais)\s{1,9}|:\s{1,9}"
    rf"|\s{{1,9}}[-–—]\s{{1,9}})(?={_BEFORE_A_START}{_STARTS})",
    re.IGNORECASE,
)
_LEADS_IN = (
    r"^(?:(?:well|hi|hello|hey|also|actually|btw|by the way|so|oh|ok|okay|and|but|please|just so"
    r" you know|fyi|note that|for the record|as you know|{no}|yes|sure|thanks|thank you|today|now"
    r"|currently|these days|hallo|hola|bonjour|übrigens|por cierto|au fait|maintenant|désormais"
    r"|(?:it )?turns out(?: that)?|honestly|anyway|first|besides|sorry|correction|hi there"
    r"|hello there)\b[\s,:!-]*)+"
)
_FILLER = re.compile(_LEADS_IN.format(no="no"), re.IGNORECASE)
# "No vivo en Madrid": in Spanish the word itself denies, unless it stands apart.
_FILLER_OR_NO = re.compile(_LEADS_IN.format(no=r"no(?=\s{0,9}[,:!.-])"), re.IGNORECASE)
_SUPPOSED = re.compile(
    r"\b(?:if (?:i|my|we|only)|suppos(?:e|ing)|imagine|pretend|let's say|lets say|what if|assume"
    r"|hypothetically|as if|say that i|wish|character|story|role-?play|novel|act as"
    r"|wenn ich|falls ich|angenommen|stell dir vor|vielleicht|si yo|si vivo|imagina|supón|quizás?"
    r"|tal vez|si je|si j'\w+|imagine[sz]?|suppose[sz]?|peut-être|histoire|roman|geschichte)\b",
    re.IGNORECASE,
)
# What is supposed in a sentence of its own holds for those after it: "Imagine I'm a pirate. My
# name is …". One that asks at once has ended with that; one that exclaims tells news.
_SUPPOSES_ON = re.compile(
    r"(?:imagine|suppose|assume|let's say|lets say)(?: that)? (?:i|i'm|my|we|we're|you're|you)\b"
    r"|(?:stell dir vor|angenommen|nehmen wir an),? (?:dass )?(?:ich|wir|mein\w*|du)\b"
    r"|(?:imagina|supón|supongamos|digamos) que\b"
    r"|(?:imagine|suppose|disons|admettons|imaginons|supposons)[sz]? (?:que |qu')",
    re.IGNORECASE,
)
# "Explain it as if I were a child. I'm 5."
_EXPLAINS_AS_IF = re.compile(
    r"\bas (?:if|though) i\b|\b(?:explain|talk|speak|write)\b.{0,60}\blike i(?:'m| am)\b",
    re.IGNORECASE,
)
_FOR_EXAMPLE = re.compile(
    r"\W*(?:for (?:example|instance)|zum beispiel|por ejemplo|par exemple)\b", re.IGNORECASE
)
# An order meant for one answer is no preference: "For this question only, answer in German",
# "Answer in French: what is love?".
_THIS_ONCE = re.compile(
    r"(?=.*\b(?:answer|reply|respond|write|speak|be|keep|use|give|make|antwort\w*|schreib\w*|fasse?"
    r"|responde\w*|contesta\w*|réponds|écris|parle|sois|sé)\b)"
    r".*\b(?:(?:just|only) (?:this )?once|this (?:one )?time|this once"
    r"|(?:for|in) this (?:one|answer|question|reply|response|message|task|request)"
    r"|diesmal|nur (?:dieses mal|hier)|für diese (?:frage|antwort)|(?:por|para) esta (?:vez"
    r"|pregunta|respuesta)|solo esta vez|cette fois|pour cette (?:question|réponse))\b"
    r"|\W*(?:(?:please|now|bitte|por favor) )?(?:answer|reply|respond|antworte|responde|réponds)\b"
    r"(?![^:]*\b(?:always|from now on|immer|ab jetzt|siempre|toujours|désormais)\b)"
    r"[^:]{0,40}: .*\?",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"^(?:what|where|which|how|can|could|should|would|who|why|when|do|does|did|is|are|am|was|have"
    r"|has)\b",
    re.IGNORECASE,
)
# A question by its form alone.
_ASKS_TO_FORGET = re.compile(
    r"(?:can|could|would|will) you (?:please |kindly )?(?:forget|unlearn|stop remembering)\b",
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
# "Translate the following. I live in Rome": what comes then is the text.
_TEXT_WORK = (
    r"(?:translate|rewrite|rephrase|paraphrase|proofread|correct|summari[sz]e|übersetze?|korrigiere?"
    r"|formuliere?|traduce|corrige|traduis|traduisez|résume[sz]?)"
)
_THE_TEXT = (
    r"\b(?:this|these|below|following|my (?:text|essay|e-?mail|letter|bio|cv|draft)|folgende\w*"
    r"|diese\w*|est[aeo]s?|siguientes?|cet?t?e?|suivante?s?)\b"
)
_TO_WORK_ON = re.compile(
    rf"(?:^\W*|\b(?:please|you|you to) ){_TEXT_WORK}\b(?:\W*$|.{{0,80}}{_THE_TEXT})"
    r"|\b(?:continue|complete|finish) (?:the|this|my) (?:story|poem|song|text|sentence|dialogue)\b"
    r"|\bmake (?:this|it) sound\b",
    re.IGNORECASE,
)
_ASKED_OF_TEXT = re.compile(
    r"\bis (?:this|the following)(?: sentence| text| phrase)? (?:grammatically )?"
    r"(?:correct|right|grammatical|idiomatic)(?: english| german| spanish| french)?\W*$"
    r"|\bhow does (?:this|the following) sound\W*$"
    r"|\b(?:in the following|(?:this|the following) (?:sentence|phrase|paragraph))\W*$",
    re.IGNORECASE,
)
# A part that is played, or what is taken back as a joke: nothing in the whole message is meant.
_PLAYED = re.compile(
    r"\b(?:role[ -]?play\w*|pretend(?:ing)?"
    r"|(?:in|for) this (?:game|scenario|scene|story|exercise),? (?:i|i'm|my)"
    r"|in (?:my|this|the) dream|in my (?:novel|story)|for the sake of argument|my character"
    r"|play(?:ing)? a character|rollenspiel|tun wir so|juego de rol|finge|jeu de rôle"
    r"|(?:fais(?:ons)?|faire) semblant)\b"
    r"|(?<!no )(?<!not )\b(?:just|only|i'm|i was|am) (?:kidding|joking)\b|\bjk\b|\bj/k\b"
    r"|\byou(?:'re| are) (?:an? |my |the )[^.,;]{1,40}[.,;]\s{1,9}(?:and )?i(?:'m| am) your\b"
    r"|\bno,? wait\b|\bscratch that\b|\bnur (?:ein )?(?:spaß|scherz)\b|\bes (?:una )?broma\b"
    r"|\bje (?:rigole|plaisante)\b|\s/s\b|[.!] (?-i:NOT)\b",
    re.IGNORECASE,
)
_SAYS = (
    r"(?:said|says|told|tells|wrote|writes|replied|replies|answered|claims|claimed|thinks|believes"
    r"|goes|sings|sagt|sagte|meint|meinte|schreibt|schrieb|behauptet|dice|dijo|escribió|dit|disait"
    r"|écrit|lyrics|quote)"
)
# "My friend said: I …", "Er sagt, ich …"; but "as I said, I …" is one's own.
_LETS_SPEAK = re.compile(
    r"(?:^|[,;:]\s)(?![^,;:]{0,80}\b(?:i|we|ich|wir|je|j'\w+|yo|nous)\b)[^,;:]{0,80}\b"
    rf"{_SAYS}(?: (?:to )?(?:me|him|her|us|them|mir|uns|ihm|ihr|nos|nous))?"
    r"(?: (?:this|that|the following|back|folgendes|esto|ceci))?\s?[:,](?:\s|$)",
    re.IGNORECASE,
)
_ATTRIBUTED = re.compile(rf",\s?{_SAYS}\b(?!\s(?:i|ich)\b)", re.IGNORECASE)
# "Alice: I live in Rome", "The first line is: I …": what a colon introduces is somebody's words, or
# an example, unless what stands before it says that it is the writer's own.
_INTRODUCES = re.compile(rf":\s{{1,9}}(?={_STARTS})", re.IGNORECASE)
# "Persona: My name is Karen. I'm 45." goes on after its first sentence; "1: I'm 45." is a number.
_SPEAKS_ON = re.compile(
    r"(?<!\d):(?:\s*$|\s{1,9}(?:(?:i|im|my|we|ich|mein\w*|je|ma|mon|mi|me|soy|vivo)\b|i'm\b|j'))",
    re.IGNORECASE,
)
_INTRODUCES_ONESELF = re.compile(
    r"^\W*me\W*$|\b(?:i|we|ich|wir|je|j'ai|yo|about me|myself|note|notes|remember|reminder|forget"
    r"|keep in mind|info|information|important|background|context|situation|details?|facts?"
    r"|things?|question|update|edit|ps|btw|fyi|correction|profile|location|problem|preferences?"
    r"|über mich|hintergrund|achtung|hinweis|wichtig|merke? dir|frage|sobre mí|nota|importante|ojo"
    r"|recuerda|pregunta|à propos|rappel|attention|retiens|souviens-toi)\b",
    re.IGNORECASE,
)
_WRITES = re.compile(
    r"\b(?:wrote|writes?|writing|typed?|begins?|reads?|says?|said to)\b", re.IGNORECASE
)
_AROUND = " \t,;:!?.-–—"
_GREETED = re.compile(r"\W*(?:hi|hello|hey|good (?:morning|evening|afternoon))\b", re.IGNORECASE)


# "I'm Ana and live in Graz": the second says of the same one what the first began with.
_GOES_ON = re.compile(
    r",?\s{1,9}(?:and|but)\s{1,9}(?=(?:(?:now|currently|also)\s{1,9})?"
    r"(?:live in|work (?:as|at|for)|speak|am)\s)",
    re.IGNORECASE,
)
_STATES = re.compile(
    r"(?:i am|i'm|im|my name is|i live in|i work (?:as|at|for)|i was born|i speak)\b"
    r"(?!.*\b(?:going|want|hope|plan\w*|try\w*|reading|writing|about|who|people|they"
    r"|to (?!\w+$))\b)",
    re.IGNORECASE,
)


def clauses(text: str) -> list[tuple[str, str]]:
    """The clauses of a message that state something, each as it stands in it and with its
    subject."""
    text = text[:MAX_CHARS].replace("’", "'")
    for hidden in (_FENCED, _CITED, _QUOTED):
        text = hidden.sub(lambda m: "\0" * len(m[0]), text)
    stated: list[tuple[str, str]] = []
    if _PLAYED.search(text):
        return stated
    for sentence in _SENTENCE.findall(text):
        if _TO_WORK_ON.search(sentence) or _ASKED_OF_TEXT.search(sentence):
            break
        if _EXPLAINS_AS_IF.search(sentence):
            break
        if _TASK.match(sentence):
            if ":" in sentence:
                break
            continue
        if _SUPPOSES_ON.match(bare(sentence.lstrip())) and sentence.rstrip()[-1:] not in {"?", "!"}:
            break
        if _THIS_ONCE.match(sentence) or _FOR_EXAMPLE.match(sentence):
            continue
        own = _own(sentence)
        if not _SUPPOSED.search(sentence) and not _ATTRIBUTED.search(sentence):
            stated += _stated(own)
        if own != sentence and _SPEAKS_ON.search(sentence):
            break
        if len(stated) >= MAX_CLAUSES:
            break
    return stated[:MAX_CLAUSES]


def greets(text: str) -> bool:
    """Whether a message opens with a greeting: "I'm Ana" is an introduction then."""
    return _GREETED.match(text) is not None


def bare(clause: str, *, no_denies: bool = False) -> str:
    """A clause without the small words that lead into it; "no" is one of them only where it stands
    apart, if it denies what follows."""
    return (_FILLER_OR_NO if no_denies else _FILLER).sub("", clause)


def _own(sentence: str) -> str:
    """A sentence as far as it is the writer's own."""
    if colon := _INTRODUCES.search(sentence):
        before = sentence[: colon.start()]
        own = _INTRODUCES_ONESELF.search(before) and not _WRITES.search(before)
        if bare(before) and not own:
            return before
    if given := _LETS_SPEAK.search(sentence):
        return sentence[: given.start()]
    return sentence


def _stated(sentence: str) -> list[tuple[str, str]]:
    """In "I'm allergic to nuts, what can I eat?" only the part before asks nothing."""
    question = sentence.rstrip().endswith("?")
    parts = [part.strip(_AROUND) for part in _JOINT.split(sentence)]
    return [
        clause
        for i, part in enumerate(parts)
        if part
        and "\0" not in part
        and (
            _ASKS_TO_FORGET.match(bare(part))
            or not (_ASKED.match(bare(part)) or (question and i == len(parts) - 1))
        )
        for clause in _with_subjects(part)
    ]


def _with_subjects(part: str) -> list[tuple[str, str]]:
    first, *others = [one.strip(_AROUND) for one in _GOES_ON.split(part)]
    if not others or not _STATES.match(bare(first)):
        return [(part, part)]
    return [(first, first), *((one, f"I {one}") for one in others)]
