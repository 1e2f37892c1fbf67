"""From exchanges to what an extractor is shown and what is kept of the turns themselves.

Strategy: a batch is one user's pending exchanges in the order of their times. Its turns are
numbered from 1 for the extractor; each is also kept as a memory of its own for its retention.
What cannot hold a fact (greetings, thanks, code alone) is told by its look, before a model is
paid to say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gateway.core.delivery import Put
from gateway.core.exchange import Exchange, Turn, turn_memory_id
from gateway.core.extraction import ExtractionTurn
from gateway.core.memory import Instant, Memory, Source
from gateway.core.slots import may_take_back
from gateway.core.suspicion import suspicion, visible
from gateway.core.timeline import is_zone, remembered_zone
from gateway.core.windows import AFTER, BEFORE, windows_of
from gateway.core.wording import content_words, folded, gist
from gateway.core.words import QUESTION_MARKS

MAX_TURN_CHARS = 32_000
"""Of a turn that is kept. What is longer was pasted, and is cut in the middle."""


def in_order(exchanges: Sequence[Exchange]) -> tuple[Exchange, ...]:
    """By when they were said; ids decide where that is the same, so that all agree."""
    return tuple(sorted(exchanges, key=lambda e: (e.at, e.id)))


def numbered_turns(exchanges: Sequence[Exchange]) -> tuple[ExtractionTurn, ...]:
    """The batch's turns as an extractor sees them, numbered from 1.

    An answer that failed is left out, one that broke off is shown but proves nothing; what
    the user said in that exchange counts as always. System messages are nobody's words.
    """
    turns: list[ExtractionTurn] = []
    for exchange in exchanges:
        for turn in exchange.turns:
            answer = turn.role == "assistant"
            if not turn.text.strip() or turn.role in ("system", "developer"):
                continue
            if answer and exchange.outcome == "error" and _is_last(turn, exchange):
                continue
            turns.append(
                ExtractionTurn(
                    n=len(turns) + 1,
                    role=turn.role,
                    at=round(turn.at, 6),
                    text=turn.text,
                    exchange_id=exchange.id,
                    turn_id=turn_memory_id(exchange.origin, turn.n),
                    speaker=turn.speaker,
                    session=exchange.session,
                    whole=not (
                        answer and exchange.outcome != "complete" and _is_last(turn, exchange)
                    ),
                )
            )
    return tuple(turns)


def _is_last(turn: Turn, exchange: Exchange) -> bool:
    """The outcome speaks of the answer, which is the last turn; earlier ones were whole."""
    return turn.n == max(t.n for t in exchange.turns)


def timezone_of(exchanges: Sequence[Exchange], known: Sequence[Memory]) -> str:
    """The user's timezone: as the newest request said, else as is remembered, else UTC."""
    for exchange in reversed(exchanges):
        if is_zone(exchange.timezone):
            return exchange.timezone or "UTC"
    return remembered_zone(known) or "UTC"


# --- what cannot hold a fact -------------------------------------------------------------------

_SMALL_TALK = frozenset(
    {
        *("hi", "hello", "hey", "hi there", "hello there", "good morning", "good evening", "yo"),
        *("good afternoon", "good night", "how are you", "how are you doing", "what's up", "sup"),
        *("thanks", "thank you", "thank you very much", "thanks a lot", "many thanks", "thx", "ty"),
        *("thank you so much", "ok", "okay", "ok thanks", "okay thanks", "k", "great", "cool"),
        *("nice", "perfect", "awesome", "got it", "i see", "sure", "fine", "alright", "all right"),
        *("great thanks", "perfect thanks", "lol", "haha", "wow", "bye", "goodbye", "see you"),
        *("test", "ping", "stop", "hallo", "danke", "danke schön", "tschüss", "hola"),
        *("gracias", "adiós", "bonjour", "salut", "merci", "au revoir", "ciao", "grazie", "oi"),
        *(
            "olá",
            "obrigado",
            "obrigada",
            "tchau",
            "tudo bem",
            "oi tudo bem",
            "hola qué tal",
            "guten morgen",
            "guten abend",
            "gute nacht",
            "danke dir",
            "vielen dank",
            "merci beaucoup",
            "bonsoir",
            "buongiorno",
            "grazie mille",
            "muchas gracias",
            "buenos días",
            "bom dia",
            "cześć",
            "dziękuję",
            "hej",
            "tack",
            "merhaba",
            "teşekkürler",
            "привет",
            "здравствуйте",
            "спасибо",
            "مرحبا",
            "شكرا",
            "你好",
            "谢谢",
            "谢谢你",
            "こんにちは",
            "ありがとう",
            "ありがとうございます",
            "안녕하세요",
            "감사합니다",
        ),
    }
)
_GOES_ON = frozenset(
    {
        *("continue", "go on", "go ahead", "more", "next", "again", "try again"),
        *("please continue", "help"),
    }
)
"""They tell nothing, and ask for more of what the turn before is about."""
_FIRST_WORDS = frozenset(phrase.partition(" ")[0] for phrase in _SMALL_TALK | _GOES_ON)
_WORD = re.compile(r"[\w']+")
MAX_SMALL_TALK_CHARS = 80
"""No greeting is longer, its punctuation included."""
_ASSENT = frozenset({"yes", "no", "yep", "nope", "yeah", "nah", "ja", "nein", "oui", "non", "sí"})
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def holds_nothing(exchange: Exchange) -> bool:
    """Whether no turn of the user's can hold a fact, by its look alone.

    A bare "yes" may: it answers what the assistant asked before.
    """
    return all(is_small_talk(turn.text) for turn in exchange.turns if turn.role == "user")


def takes_back_at(exchanges: Sequence[Exchange]) -> int | None:
    """The first exchange, after the first of all, in which the user may ask to forget something.

    What is to be forgotten has to be known by then: it may be what was said just before.
    """
    for i, exchange in enumerate(exchanges):
        if i and any(t.role == "user" and may_take_back(t.text) for t in exchange.turns):
            return i
    return None


def is_small_talk(text: str) -> bool:
    """Whether a text is a greeting, thanks or code alone."""
    if len(text) > MAX_SMALL_TALK_CHARS and "```" not in text:
        return not any(c.isalnum() for c in text)
    first = _WORD.search(text)  # recall asks of each turn that it found: most differ here
    if first is not None and "```" not in text and folded(first[0]) not in _FIRST_WORDS:
        return not any(c.isalnum() for c in text)
    bare = _bare(_CODE.sub(" ", text[:MAX_TURN_CHARS]))
    if not any(c.isalnum() for c in bare):
        return True
    return bare not in _ASSENT and (bare in _SMALL_TALK or bare in _GOES_ON)


def asks_for_nothing(text: str, before: str = "") -> bool:
    """Whether a message is a greeting or thanks, and no answer to a question of the turn before:
    "ok" may be that, and "go on" wants more of the same."""
    if before.rstrip().endswith(QUESTION_MARKS) or not says_nothing(text):
        return False
    return _bare(text) not in _GOES_ON


def says_nothing(text: str) -> bool:
    """Whether a text is a greeting or thanks; code alone may be what is asked for."""
    return is_small_talk(text) and "```" not in text


def _bare(text: str) -> str:
    """A text's words without signs."""
    return " ".join(re.sub(r"[^\w' ]+", " ", folded(text)).split())


# --- turns that are kept -----------------------------------------------------------------------


def kept_turns(
    exchanges: Sequence[Exchange],
    *,
    expires_at: Instant | None,
    now: Instant,
    tool_output: bool,
) -> list[Memory]:
    """The turns of a batch as memories, in their order.

    What was cut off or failed says so in its metadata. A turn that tries to instruct a model
    is put in quarantine like a fact: it would be recalled just the same.
    """
    roles = ("user", "assistant", "tool") if tool_output else ("user", "assistant")
    kept: list[Memory] = []
    for exchange in exchanges:
        for turn in exchange.turns:
            text = visible_turn(turn.text)
            if turn.role not in roles or not text.strip():
                continue
            metadata: dict[str, str | bool] = {}
            if (
                turn.role == "assistant"
                and exchange.outcome != "complete"
                and _is_last(turn, exchange)
            ):
                metadata["outcome"] = exchange.outcome
            if len(text) > MAX_TURN_CHARS:
                half = MAX_TURN_CHARS // 2
                text = f"{text[:half]}\n[…]\n{text[-half:]}"
                metadata["shortened"] = True
            reason = suspicion(text)
            if reason is not None:
                metadata["quarantine"] = reason
            kept.append(
                Memory(
                    id=turn_memory_id(exchange.origin, turn.n),
                    kind="turn",
                    text=text,
                    created_at=round(turn.at, 6),
                    updated_at=now,
                    valid_from=round(turn.at, 6),
                    expires_at=expires_at,
                    status="active" if reason is None else "quarantined",
                    speaker=turn.speaker,
                    source=Source(
                        role=turn.role,
                        via=exchange.via,
                        exchange_id=exchange.origin,
                        session=exchange.session,
                    ),
                    metadata=metadata,
                )
            )
    return kept


def visible_turn(text: str) -> str:
    """A turn's text with its line breaks, without what people do not see."""
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(visible(line) for line in text.splitlines())


def with_windows(
    fresh: Sequence[Memory], stored: Mapping[str | None, Sequence[Memory]]
) -> list[Put]:
    """Turns to write with the text of their neighbourhood, by session in the order of time.

    `stored` are turns of the same sessions that are there already: they lend their words, and
    those who have a new neighbour are written again, after the new ones.
    """
    fresh_ids = {m.id for m in fresh}
    said: dict[str | None, list[Memory]] = {m.session: [] for m in fresh}
    for memory in fresh:
        if memory.status == "active":
            said[memory.session].append(memory)
    windows: dict[str, str] = {}
    neighbours: dict[str, Memory] = {}
    for session, now_said in said.items():
        before = [m for m in stored.get(session, ()) if m.status == "active"]
        whole = {m.id: m for m in [*before, *now_said]}
        turns = sorted(whole.values(), key=lambda m: m.created_at)
        windows |= windows_of(turns)
        for i, turn in enumerate(turns if before else ()):
            around = {m.id for m in turns[max(0, i - BEFORE) : i + AFTER + 1]}
            if turn.id not in fresh_ids and around & fresh_ids:
                neighbours[turn.id] = turn
    return [Put(m, windows.get(m.id)) for m in [*fresh, *neighbours.values()]]


def worth_showing(
    known: Sequence[Memory], turns: Sequence[ExtractionTurn], most: int
) -> list[Memory]:
    """The memories that an extractor is shown, in a fixed order: the active ones, those that held
    when this was said and have been followed since, and, where something may be to be forgotten,
    all.

    Where there are more than `most`: those with a key, and those that share words with what
    was said, come first.
    """
    first = min((turn.at for turn in turns), default=0.0)
    last = max((turn.at for turn in turns), default=0.0)
    forgets = any(turn.role == "user" and may_take_back(turn.text) for turn in turns)

    def held(memory: Memory) -> bool:
        if memory.status != "superseded":
            return memory.status == "active"
        return forgets or (memory.created_at <= last and first < (memory.superseded_at or 0.0))

    active = [memory for memory in known if memory.text and held(memory)]
    if len(active) > most:
        said = content_words("\n".join(turn.text for turn in turns)[-MAX_TURN_CHARS:])
        active.sort(
            key=lambda m: (len(gist(m.text).words & said), m.key is not None, m.created_at),
            reverse=True,
        )
        active = active[:most]
    return sorted(active, key=lambda m: (m.status != "active", m.created_at, m.id))


ASKING_TOKENS = 2_500
"""What an extraction costs beside its turns: the prompt, the known facts, the answer."""


def tokens_to_extract(chars: int) -> int:
    """What distilling turns of so many characters will about cost, in tokens: for a budget, known
    beforehand."""
    return ASKING_TOKENS + chars // 3
