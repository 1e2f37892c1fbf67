"""The words of a question, and how much of them a text holds. Pure, small, for any language.

This is not the search's tokenizer (that is the lexicon's, with a stemmer of its own): it
serves judgements on a few candidates, where the search's raw scores say too little. How much of
the question does a text answer? Which passage of a long message? Are two texts the same?
Words lose their endings by a few blunt rules, so that "painted" finds "painting"; scripts that
write no spaces are cut into pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from gateway.core.normal import normalized

MAX_QUERY_CHARS = 2000
"""How much of a question is read. Nobody asks longer; pasted documents are cut."""
MAX_TERMS = 24
"""Different words of a question that count, the first ones."""
MIN_STEM = 3
QUESTION_MARKS = ("?", "？", "? ", "؟")

# Vowel signs of Hebrew, Arabic and the scripts of India are no letters to `re`, and part of a word.
_SIGNS = "\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0971-\u0de5\u0df0-\u0df3"
_WORD = re.compile(rf"[^\W_]+(?:[{_SIGNS}]+[^\W_]*)*(?:['’][^\W_]+)?")
# Han, kana, Thai, Lao, Khmer and Burmese are written without spaces between words; in Korean
# particles cling to them.
_CLITIC = re.compile(r"['’].*$")
_SIGN = re.compile(f"[{_SIGNS}]")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_ENDINGS = re.findall(
    r"\S+", "ations ation ingly ments ment ness ings ing edly ies ied ers est er ed es ly s y e"
)
_ENDINGS_IN = {last: [e for e in _ENDINGS if e[-1] == last] for last in {e[-1] for e in _ENDINGS}}
"""By their last letter: one in five has to be tried."""

# Words that say how something is asked and not what about, in the languages that the lexicon
# stems most often. Only words that carry nothing anywhere: "die", "man" and "son" are missing on
# purpose, as they are words of substance in a neighbour language.
_ENGLISH = """
a about above after again all also am an and any are as at be because been before being below
between both but by called can could did do does doing done down during each few for from further
get got had has have having he her here hers him his how i if in into is it its itself just kind
know let like me mention mentioned might more most much must my name named no nor not now of off
on once one only or other our ours out over own please really recall remember remind said same say
says shall she should so some something sort still such tell than that the their theirs them then
there these they thing things this those through to told too under until up upon us very was we
were what when where which while who whom whose why will with would you your yours
earlier former formerly previous previously
"""
_OTHERS = """
der das den dem des ein eine einen einem einer und oder aber ist sind war waren bin bist hat habe
haben ich du er sie es wir ihr mich dich mir dir mein meine dein deine nicht kein keine was wer wie
wo wann warum welche welcher welches mit von zu zum zur auf für im ins bei nach aus noch auch
le la les un une et ou est sont était je tu il elle nous vous ils elles mon ma mes ton ta tes ce
cette ces que qui quoi quel quelle où quand comment pourquoi avec pour dans sur pas ne de du au aux
el los las una unos y o es son era yo tú él ella nosotros mi mis tu tus su sus que quién qué cuál
cuándo cómo dónde con para por en de del al se me te no lo
o os um uma e ou é são eu você ele ela nós meu minha seu sua que quem qual quando como onde com
para por em no na do da
het een en of ik jij hij zij wij mijn jouw zijn niet wat wie waar wanneer hoe welke met voor van op
damals früher vorher avant antes
wieviel wohin woher worauf worüber cuánto cuánta cuántos cuántas combien quanto quanta quantos
quantas quanti quante hoeveel
il gli cosa quale quali quando perché sono è miei nel nella della non
как где когда куда откуда кто что чем какой какая какое какие каком какую почему сколько я мы ты вы
он она они мне меня мой моя моё мои моего моей моему моим моих мою наш наша наше наши нашу нашей
у в на с и или не ли это этот эта есть был была было были зовут для о по
jak gdzie kiedy kto co jaki jaka jakie ile dlaczego ja mój moja moje mojej mojego jest są był
była w na z i czy nie się
jag är och att som har inte vad vem när hur heter på av
ne nerede nasıl kimin hangi kaç benim ve bir bu mı mü için
ما ماذا متى أين اين من كيف هل هو هي في إلى على عن أنا كم لماذا
"""
_MAY_BE_NAMES = """
di che chi dove quale ho hai mio mia mie del alla con per una lo mam min mitt mina med
kim ben mi mu zaman
"""
_LITTLE_HAN = re.compile(
    "什么时候|什麼時候|什么|什麼|哪里|哪裡|哪儿|怎么|怎麼|为什么|多少|名字|我们|我們|[我你您他她它的了吗嗎呢吧谁誰是在叫]"
)
"""In Chinese. They split what stands around them, as spaces would."""
_LITTLE_KANA = re.compile("[\u3041-\u309f]+|名前|[何誰私僕俺]")
"""In Japanese: what is written in hiragana alone is grammar."""
_HIRAGANA = re.compile("[\u3041-\u309f]")
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_CYRILLIC_ENDING = re.compile(
    "(?<=[\u0400-\u04ff]{3})(?:[аяоеыи]ми|[оеы]го|[ое]му|[аоеыия][ихмю]|[аяоеуюыиь])$"
)
"""Of nouns, adjectives and most verbs; folding has made й an и."""


def words(text: str) -> list[str]:
    """Every word of a text, folded, in order; pairs of characters for unspaced scripts."""
    folded = _folded(text)
    if folded.isascii():
        return _WORD.findall(folded)
    found: list[str] = []
    for word in _WORD.findall(folded):
        if _UNSPACED.search(word):
            found.extend(_pairs(word))
        else:
            found.append(word)
    return found


def terms(text: str) -> tuple[str, ...]:
    """The stems of what a question is about, each once, in order: at most `MAX_TERMS`."""
    return _terms(text[:MAX_QUERY_CHARS])


@lru_cache(maxsize=64)
def _terms(text: str) -> tuple[str, ...]:
    """One recall asks five times for those of its question."""
    seen: dict[str, None] = {}
    for word in _of_substance(text):
        bare = word if word.isalnum() else _CLITIC.sub("", word)
        if bare in _STOP or (len(bare) < 2 and not bare.isdigit() and bare.isascii()):
            continue
        if bare in _OR_NAMES and bare in _WORD.findall(text) and not may_be_english(text):
            continue
        seen[stem(bare)] = None
        if len(seen) == MAX_TERMS:
            break
    return tuple(seen)


def _of_substance(text: str) -> list[str]:
    """The words of a text; of scripts that write no spaces without what only asks, where more is
    left: "何の楽器を習っていますか" is about 楽器 and 習. Of the pairs of all its characters
    most were grammar, and no memory was about it."""
    folded = _folded(text)
    if folded.isascii():
        return _WORD.findall(folded)
    found: list[str] = []
    for word in _WORD.findall(folded):
        if not _UNSPACED.search(word):
            found.append(word)
            continue
        little = _LITTLE_KANA if _HIRAGANA.search(word) else _LITTLE_HAN
        left = [part for part in little.split(word) if part]
        for part in left or (word,):
            found.extend(_pairs(part))
    return found


def stem(word: str) -> str:
    """A word without its ending: what its forms begin with."""
    if not word.isalpha() or len(word) <= MIN_STEM:
        return word
    if _CYRILLIC.match(word):
        return _CYRILLIC_ENDING.sub("", word)
    for ending in _ENDINGS_IN.get(word[-1], ()):
        if word.endswith(ending) and len(word) - len(ending) >= MIN_STEM:
            cut = word[: -len(ending)]
            # "planned", "running": the letter that was doubled before the ending
            if len(cut) > MIN_STEM and cut[-1] == cut[-2] and cut[-1] not in "aeiouls":
                cut = cut[:-1]
            return cut
    return word


@lru_cache(maxsize=512)
def finder(stems: tuple[str, ...]) -> re.Pattern[str]:
    """A pattern that finds words beginning with one of the stems in folded text."""
    ordered = sorted(stems, key=len, reverse=True)
    return re.compile("|".join([_begun_by(s) for s in ordered if s]) or r"(?!)")


def _begun_by(stem: str) -> str:
    if _UNSPACED.search(stem):
        return re.escape(stem)
    after = rf"[\w{_SIGNS}]" if _is_whole(stem) else r"\d"
    return rf"(?<![\w{_SIGNS}]){re.escape(stem)}(?!{after})"


def _is_whole(stem: str) -> bool:
    """Whether a stem is a word by itself: of two letters ("Ei") half of all words may begin."""
    return len(stem) < MIN_STEM and stem.isalpha()


def is_unspaced(term: str) -> bool:
    """Whether this is a piece of a script that writes no spaces."""
    return _UNSPACED.search(term) is not None


def may_be_english(text: str) -> bool:
    """Whether a text is not plainly of another language: by its script, by its little words, or by
    its accents where these do not tell. Words with a capital may be names ("Los Angeles")."""
    text = text[:MAX_QUERY_CHARS].translate(_TYPOGRAPHY)
    beyond = [] if text.isascii() else [c for c in text if c.isalpha() and not c.isascii()]
    if beyond and 2 * sum(not _is_latin(c) for c in beyond) > sum(map(str.isalpha, text)):
        return False
    said = {_folded(word) for word in _WORD.findall(text) if word[0].islower()}
    english, other = len(said & _IN_ENGLISH - _IN_OTHERS), len(said & _IN_OTHERS - _IN_ENGLISH)
    return english > other if english != other else not beyond


def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")


def fold(text: str) -> str:
    """Lower case without accents; for ASCII the plain lower case, which is quick."""
    return _folded(text)


def held(stems: Sequence[str], text: str) -> set[str]:
    """Which of the stems some word of a folded text begins with.

    `finder` finds the same; but compiling its pattern, which no two questions share, takes
    150 µs, and looking for each stem by itself 0.2.
    """
    there = [stem for stem in stems if stem in text]
    if not there:
        return set()
    if not _apart(tuple(stems)):
        return set(finder(tuple(stems)).findall(text))
    return {stem for stem in there if next(_beginnings(stem, text), None) is not None}


def places(stems: Sequence[str], text: str) -> list[tuple[int, int, str]]:
    """Where words of a folded text begin with one of the stems: from, to and which, in order."""
    if not _apart(tuple(stems)):
        return [(m.start(), m.end(), m.group()) for m in finder(tuple(stems)).finditer(text)]
    return sorted((at, at + len(s), s) for s in stems for at in _beginnings(s, text))


@lru_cache(maxsize=512)
def _apart(stems: tuple[str, ...]) -> bool:
    """Whether each stem may be looked for by itself: whole words of spaced scripts, none of which
    is how another one begins (the longer one takes its place from it)."""
    ordered = sorted(stems)
    return all(s.isalnum() and not _UNSPACED.search(s) for s in ordered) and not any(
        longer.startswith(s) for s, longer in pairwise(ordered) if s != longer
    )


def _beginnings(stem: str, text: str) -> Iterator[int]:
    at, whole = text.find(stem), _is_whole(stem)
    while at >= 0:
        before, end = text[at - 1 : at], at + len(stem)
        after = text[end : end + 1]
        if not _goes_on(before) and not (_goes_on(after) if whole else after.isdecimal()):
            yield at
        at = text.find(stem, at + 1)


def _goes_on(sign: str) -> bool:
    """Whether a word goes on with this sign ("": the text ends)."""
    return sign.isalnum() or sign == "_" or (sign > "\x7f" and _SIGN.match(sign) is not None)


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    plain = text.translate(_TYPOGRAPHY)
    if plain.isascii():
        return plain.lower()
    decomposed = normalized("NFKD", plain.casefold())
    return normalized("NFKC", _ACCENTS.sub("", decomposed))


# What word processors put for ', " and -: most text that is not ASCII is so for them alone.
_TYPOGRAPHY = str.maketrans("‘’“”–—\u00a0", "''\"\"-- ")
# Marks above and below letters of Latin, Greek and Cyrillic. Those of other scripts are vowels.
_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")

_IN_ENGLISH, _IN_OTHERS = (frozenset(_folded(said).split()) for said in (_ENGLISH, _OTHERS))
_STOP = _IN_ENGLISH | _IN_OTHERS
_OR_NAMES = frozenset(_MAY_BE_NAMES.split())
"""Little words of those languages that are names elsewhere: "Who is Kim?" is about Kim. They are
little in lower case alone, in a text that is not English."""


def _pairs(word: str) -> list[str]:
    return [word[i : i + 2] for i in range(len(word) - 1)] or [word]
