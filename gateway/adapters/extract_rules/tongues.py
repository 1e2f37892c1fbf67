"""The commonest plain forms in German, Spanish and French.

Strategy: as in `forms`, a pattern over a whole clause, with a reading; fewer of them, for what
matters most on the first day: who one is, where one lives, what one bears, how one wants to be
answered, and what is to be forgotten. What is stored reads as in English, with the user's own
words as its quote, so that a value replaces the one that was told in another language.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from gateway.adapters.extract_rules import readings as read
from gateway.adapters.extract_rules import taking_back
from gateway.adapters.extract_rules.readings import Found, Known, Match, fact
from gateway.adapters.extract_rules.vocabulary import LANGUAGES, NO_HOMES, NO_PLACE

# fmt: off
_LANGUAGES = {
    "deutsch": "German", "alemán": "German", "allemand": "German", "englisch": "English",
    "inglés": "English", "anglais": "English", "spanisch": "Spanish", "español": "Spanish",
    "castellano": "Spanish", "espagnol": "Spanish", "französisch": "French", "francés": "French",
    "français": "French", "italienisch": "Italian", "italiano": "Italian", "italien": "Italian",
    "portugiesisch": "Portuguese", "portugués": "Portuguese", "portugais": "Portuguese",
    "niederländisch": "Dutch", "russisch": "Russian", "ruso": "Russian", "russe": "Russian",
    "türkisch": "Turkish", "polnisch": "Polish", "catalán": "Catalan",
}
_SHORT = (
    r"kurz(?:e|er)?|kürzere?|knapp(?:e|er)?|cort[oa]s?|breves?|brevemente|concis[oa]s?|courtes?"
    r"|brèves?|brièvement|bref|concis(?:e|es)?"
)
_LONG = (
    r"lang(?:e|er)?|längere?|ausführlich(?:e|er)?|detailliert(?:e|er)?|larg[oa]s?|detallad[oa]s?"
    r"|longues?|détaillées?"
)
_WHO = {
    "tochter": "daughter", "hija": "daughter", "fille": "daughter", "sohn": "son", "hijo": "son",
    "fils": "son", "frau": "wife", "esposa": "wife", "mujer": "wife", "femme": "wife",
    "mann": "husband", "marido": "husband", "esposo": "husband", "mari": "husband",
    "partner": "partner", "partnerin": "partner", "pareja": "partner", "compagnon": "partner",
    "compagne": "partner", "freundin": "girlfriend", "novia": "girlfriend", "copine": "girlfriend",
    "freund": "boyfriend", "novio": "boyfriend", "copain": "boyfriend", "hund": "dog",
    "hündin": "dog", "perro": "dog", "perra": "dog", "chien": "dog", "chienne": "dog",
    "katze": "cat", "kater": "cat", "gato": "cat", "gata": "cat", "chat": "cat", "mutter": "mother",
    "madre": "mother", "mère": "mother", "vater": "father", "padre": "father", "père": "father",
    "bruder": "brother", "hermano": "brother", "frère": "brother", "schwester": "sister",
    "hermana": "sister", "sœur": "sister", "soeur": "sister",
}
_DIETS = (
    (r"vegetari\w+|végétari\w+", "vegetarian"), (r"vegan\w*|végan\w*|végétali\w+", "vegan"),
    (r"diabeti\w+|diabétic\w+|diabétique", "diabetic"), (r"c[eé]l[ií]ac[oa]|zöliakie|cœliaque",
                                                         "coeliac"),
)
# fmt: on
_SINCE = re.compile(
    r"\s+(?:seit|letzte\w*|vor (?:\w+ ){1,2}(?:tagen|wochen|monaten|jahren)|mit|und|aber|weil|desde"
    r"|hace|el (?:mes|año) pasado|la semana pasada|con|y|pero|porque|depuis|il y a"
    r"|le mois dernier|l'année dernière|la semaine dernière|avec|et|mais|car)\b.*$",
    re.IGNORECASE,
)
_MOVED = [
    (re.compile(rf"\b(?:{form})\b", re.IGNORECASE), said)
    for form, said in (
        (r"gestern|ayer|hier", "yesterday"),
        (r"letzte woche|la semana pasada|la semaine dernière", "last week"),
        (r"letzten monat|el mes pasado|le mois dernier", "last month"),
        (r"letztes jahr|el año pasado|l'année dernière|l'an dernier", "last year"),
    )
]
"""Since when one lives where one has moved to, as `core/timeline` reads it."""
_ARTICLE = re.compile(
    r"^(?:(?:der|die|das|den|dem|ein|eine|einen|el|la|los|las|un|una|le|les|du|des|de la|une)\s+"
    r"|(?:l|d|de l)')",
    re.IGNORECASE,
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_SAID = _set("""
    ich mag liebe hasse dass mein meine meinen bin habe wohne arbeite heiße was über gesagt von bei
    mir mich nicht que me mi mis gusta gustan encanta soy tengo vivo trabajo llamo lo dije sobre de
    en el la los las j'aime aime j'adore adore je j'ai j'habite habite suis ai ma mon mes dit sur le
    les au aux un une
""")
"""Words of what is to be forgotten that name nothing."""
_MEAT = _set("fleisch carne viande nada rien nichts mucho viel")
_NO_WORK = _set("ob noche día tarde mañana lunes pie regen geld nacht licht schnee spaß bedarf")
"""When and for what people work, rather than as what and where."""

Reading: TypeAlias = Callable[[Match, Known], Found]


def facts_of(clause: str, known: Known) -> Found:
    """What one clause states in one of these languages."""
    for pattern, reading in _FORMS:
        if (m := pattern.match(clause)) and (facts := list(reading(m, known))):
            yield from facts
            return


def _bare(value: str) -> str:
    return _ARTICLE.sub("", _SINCE.sub("", value)).strip(" ,")


def _home(m: Match, _: Known) -> Found:
    place = _SINCE.sub("", m["value"]).strip(" ,")
    if place[:1].isupper() and len(place) <= 60 and place.casefold() not in NO_PLACE:
        since = next((said for form, said in _MOVED if form.search(m[0])), None)
        yield fact(
            "profile",
            f"User lives in {place}",
            key="home",
            value=place,
            importance=0.7,
            event_start=since,
        )


def _role(m: Match, _: Known) -> Found:
    what = _bare(m["value"])
    if what and len(what) <= 60 and what.casefold() not in _NO_WORK:
        yield fact("profile", f"User works as {what}", key="role", value=what, importance=0.7)


def _employer(m: Match, _: Known) -> Found:
    where = _SINCE.sub("", m["value"]).strip(" ,")
    if where[:1].isupper() and where.casefold() not in _NO_WORK | NO_HOMES:
        yield fact("profile", f"User works at {where}", key="employer", value=where, importance=0.6)


def _diet(m: Match, _: Known) -> Found:
    what = next(name for form, name in _DIETS if re.fullmatch(form, m["value"], re.IGNORECASE))
    yield fact("profile", f"User is {what}", key="diet", value=what, importance=0.8)


def _favourite_colour(m: Match, _: Known) -> Found:
    value = _bare(m["value"])
    text = f"User's favourite colour is {value}"
    yield fact("preference", text, key="favourite_colour", value=value)


def _abstains(m: Match, _: Known) -> Found:
    """ "Fleisch" is a diet (`_no_meat`)."""
    thing = _bare(m["value"])
    verb = "drink" if m["verb"].lower() in ("trinke", "bebo", "bois") else "eat"
    if len(thing.split()) <= 2 and thing.casefold() not in _MEAT:
        yield fact("profile", f"User does not {verb} {thing}", importance=0.7)


def _no_meat(_m: Match, _: Known) -> Found:
    yield fact("profile", "User does not eat meat", key="diet", value="no meat", importance=0.8)


def _allergy(m: Match, _: Known) -> Found:
    to = _bare(m["value"])
    text = f"User is allergic to {to}"
    yield fact("profile", text, key="allergy", value=to, importance=0.9)


def _taste(key: str) -> Reading:
    def reading(m: Match, known: Known) -> Found:
        thing = _bare(m["value"])
        if len(thing) > 1 and not re.match(
            r"(?:es|das|dich|dir|dein\w*|eso|esto|tus?|ça|cela|ta|ton|tes|votre|vos|te|que|wenn"
            r"|cuando|quand|cómo|comment|bien)\b",
            thing,
            re.IGNORECASE,
        ):
            yield from read.taste(thing, known, key, "likes" if key == "dislikes" else "dislikes")

    return reading


def _ended(*keys: str) -> Reading:
    """What one says is no longer so; only a fact of this kind that says it has ended."""

    def reading(m: Match, known: Known) -> Found:
        what = _bare(m["value"])
        for form, name in _DIETS if "diet" in keys else ():
            what = name if re.fullmatch(form, what, re.IGNORECASE) else what
        for n in taking_back.about(what, [k for k in known if k[2] in keys])[:1]:
            yield fact("profile", "", action="retract", target=n)

    return reading


def _left(m: Match, known: Known) -> Found:
    for n, text, key in known:
        if key == "employer" and text.casefold().endswith(f" {_bare(m['value']).casefold()}"):
            yield fact("profile", "", action="retract", target=n)


def _other_language(m: Match, known: Known) -> Found:
    wished = next(_language(m, known))
    for n, text, key in known:
        if (text, key) == (wished["text"], wished["key"]):
            yield fact("preference", "", action="retract", target=n)


def _language(m: Match, _: Known) -> Found:
    name = _LANGUAGES[m["value"].lower()]
    code = LANGUAGES[name.lower()]
    text = f"User wants answers in {name}"
    yield fact("preference", text, key="language", value=code, importance=0.8)


def _length(m: Match, _: Known) -> Found:
    value = "short" if re.fullmatch(_SHORT, m["value"], re.IGNORECASE) else "long"
    text = f"User wants {value} answers"
    yield fact("preference", text, key="answer_length", value=value, importance=0.7)


def _named(m: Match, _: Known) -> Found:
    who = _WHO[m["who"].lower()]
    if said := re.match(r"[^\W\d_a-zà-ÿ][\w'-]*(?:\s+[^\W\d_a-zà-ÿ][\w'-]*)*", m["value"]):
        text = f"User's {who} is called {said[0]}"
        yield fact("profile", text, key=f"{who}_name", value=said[0], importance=0.6)


_VERB_LAST = re.compile(r"(ich|mein\w* \w+) (.+) (\w+)$", re.IGNORECASE)
"""As German has it after "dass": "ich in Köln wohne"."""


def _remember(m: Match, known: Known) -> Found:
    what = m["value"].strip()
    plain = list(facts_of(what, known)) or list(facts_of(_VERB_LAST.sub(r"\1 \3 \2", what), known))
    yield from plain or [fact("profile", f"User asked to remember: {what}", importance=0.8)]


def _forget(m: Match, known: Known) -> Found:
    words = [w for w in re.findall(r"[\w'-]+", m["value"]) if w.casefold() not in _SAID]
    for n in taking_back.meant(m["value"], known, " ".join(words)):
        yield fact("profile", "", action="retract", target=n)


def _delete(m: Match, known: Known) -> Found:
    """ "Lösche alles über mich": meant of memory where that is said."""
    yield from taking_back.forget(m, known)


_V = r"(?P<value>.{1,80}?)"
_TONGUE = f"(?P<value>{'|'.join(_LANGUAGES)})"
_LENGTH = f"(?P<value>{_SHORT}|{_LONG})"
_DIET = f"(?P<value>{'|'.join(form for form, _ in _DIETS)})"
_PERSON = f"(?P<who>{'|'.join(_WHO)})"
_PLEASE = r"(?:bitte|por favor|s'il te plaît|s'il vous plaît|merci)"
_ORDER = rf"(?:{_PLEASE},? )?(?:ab jetzt |von nun an |a partir de ahora,? |désormais,? )?"
_END = rf"(?:,? {_PLEASE})?$"
_NOW = r"(?:jetzt|zurzeit|derzeit|inzwischen|mittlerweile|nun)"
_FOR_SO_LONG = r"seit (?:\w+ )?\w+"

_ALL: list[tuple[Reading, list[str]]] = [
    (
        _remember,
        [
            rf"(?:merke? dir|denke? daran|vergiss nicht)(?: bitte)?,? (?:dass )?{_V}",
            rf"(?:recuerda|acuérdate de|no olvides)(?: por favor)?,? que {_V}",
            rf"(?:rappelle-toi|souviens-toi|retiens|n'oublie pas)(?: bien)?,? (?:que |qu'){_V}",
        ],
    ),
    (
        _forget,
        [
            rf"{_ORDER}(?:vergiss|vergesst|vergessen sie)(?: bitte)?,? {_V}",
            rf"{_ORDER}olvid[ae](?:te de| lo)? {_V}",
            rf"{_ORDER}oublie[sz]? {_V}",
        ],
    ),
    (
        _delete,
        [
            rf"{_ORDER}(?:lösche?|entferne?)(?: bitte)? {_V}",
            rf"{_ORDER}(?:borra|elimina|bórrame) {_V}",
            rf"{_ORDER}(?:efface|supprime)[sz]? {_V}",
        ],
    ),
    (
        read.name,
        [
            rf"ich hei(?:ß|ss)e {_V}",
            rf"mein (?:name|vorname) ist {_V}",
            rf"{_ORDER}nenne? mich(?: bitte)? {_V}",
            rf"du kannst mich {_V} nennen",
            rf"(?:me llamo|mi nombre es|ll[aá]mame|puedes llamarme) {_V}",
            rf"(?:je m'appelle|mon (?:nom|prénom) est|appelle[sz]?-moi) {_V}",
        ],
    ),
    (
        read.age,
        [
            r"ich bin (?:jetzt )?(?P<value>\d{1,3}) ?(?:jahre(?: alt)?)",
            r"(?:ahora )?tengo (?:ahora )?(?P<value>\d{1,3}) años",
            r"j'ai (?:maintenant )?(?P<value>\d{1,3}) ans",
        ],
    ),
    (
        _favourite_colour,
        [
            rf"meine lieblingsfarbe ist (?:jetzt )?{_V}",
            rf"mi color (?:favorito|preferido) es (?:ahora )?{_V}",
            rf"ma couleur préférée est (?:maintenant )?{_V}",
        ],
    ),
    (
        _abstains,
        [
            rf"ich (?P<verb>esse|trinke) keine?n? {_V}(?: mehr)?",
            rf"no (?P<verb>como|bebo) {_V}",
            rf"je ne (?P<verb>mange|bois) (?:pas|jamais) (?:de |d'){_V}",
        ],
    ),
    (
        _home,
        [
            rf"(?:(?:ich|wir) (?:wohnen?|leben?)|wohne|lebe)(?: {_NOW})?(?: {_FOR_SO_LONG})?"
            rf" in {_V}",
            rf"{_NOW} (?:wohne|lebe) ich in {_V}",
            rf"(?:ich bin|wir sind) (?:.{{1,30}} )?nach {_V} (?:ge|umge)zogen",
            rf"(?:ahora )?(?:vivo|vivimos|resido)(?: ahora)? en {_V}",
            rf"(?:me mudé|me he mudado|nos mudamos|acabo de mudarme) a {_V}",
            rf"(?:j'habite|je vis|nous habitons)(?: maintenant)? (?:à|en|au|aux) {_V}",
            rf"(?:j'ai|nous avons|je viens de)(?: récemment)? déménag\w+ (?:à|en|au|aux) {_V}",
        ],
    ),
    (
        _role,
        [
            rf"(?:ich )?arbeite(?: {_NOW})?(?: {_FOR_SO_LONG})? als {_V}",
            rf"(?:ahora )?trabajo(?: ahora)? (?:como|de) {_V}",
            rf"je travaille(?: maintenant)? comme {_V}",
        ],
    ),
    (
        _employer,
        [
            rf"(?:ich )?arbeite(?: {_NOW})?(?: {_FOR_SO_LONG})? (?:bei|für) {_V}",
            rf"{_NOW} arbeite ich (?:bei|für) {_V}",
            rf"(?:ahora )?trabajo(?: ahora)? (?:en|para) {_V}",
            rf"je travaille(?: maintenant)? (?:chez|pour) {_V}",
        ],
    ),
    (
        _ended("diet"),
        [
            rf"ich (?:bin|esse|ernähre mich|lebe) (?:keine?r?|nicht(?: mehr)?) {_DIET}(?: mehr)?",
            rf"(?:ya )?no soy {_DIET}",
            rf"je ne suis (?:plus|pas) {_DIET}",
        ],
    ),
    (
        _ended("home"),
        [
            rf"ich (?:wohne|lebe) nicht mehr in {_V}",
            rf"ya no vivo en {_V}",
            rf"je (?:n'habite|ne vis) plus (?:à|en|au|aux) {_V}",
        ],
    ),
    (
        _left,
        [
            rf"ich habe (?:bei )?{_V} (?:gekündigt|verlassen)",
            rf"(?:he dejado|dejé|me fui de|renuncié a) {_V}",
            rf"j'ai (?:quitté|démissionné de) {_V}",
        ],
    ),
    (
        _ended("employer", "role"),
        [
            rf"ich arbeite nicht mehr (?:bei|für|als) {_V}",
            rf"ich bin keine? {_V} mehr",
            rf"ya no trabajo (?:en|para|como|de) {_V}",
            rf"je ne travaille plus (?:chez|pour|comme) {_V}",
        ],
    ),
    (
        _ended("allergy"),
        [
            rf"ich bin nicht(?: mehr)? allergisch (?:gegen|auf) {_V}",
            rf"(?:ya )?no (?:soy al[eé]rgic[oa]|tengo alergia) (?:al |a la |a los |a las |a ){_V}",
            rf"je ne suis (?:plus|pas) allergique (?:à la |à l'|aux |au |à ){_V}",
        ],
    ),
    (
        _other_language,
        [
            rf"du (?:musst|brauchst|sollst)(?: mir)? nicht(?: mehr)?(?: immer)? auf {_TONGUE}"
            r"(?: zu)? antworten",
            rf"antworte(?: mir)?(?: bitte)? nicht(?: mehr)? auf {_TONGUE}",
            rf"ya no (?:tienes que|necesitas) (?:responder|contestar)(?:me)? en {_TONGUE}",
            rf"no (?:me )?(?:respondas|contestes)(?: más)? en {_TONGUE}",
            rf"tu n'as plus besoin de (?:me )?répondre en {_TONGUE}",
            rf"ne (?:me )?réponds plus en {_TONGUE}",
        ],
    ),
    (
        _diet,
        [
            rf"ich (?:bin|esse|ernähre mich|lebe)(?: streng)? {_DIET}",
            rf"soy {_DIET}",
            rf"je suis {_DIET}",
        ],
    ),
    (
        _no_meat,
        [r"ich esse kein fleisch", r"no como carne", r"je ne mange pas de viande"],
    ),
    (
        _allergy,
        [
            rf"ich bin (?:sehr |stark |auch )?allergisch (?:gegen|auf) {_V}",
            r"ich habe eine (?P<value>\w+?)-?allergie",
            rf"(?:soy (?:muy )?al[eé]rgic[oa]|tengo alergia) (?:al |a la |a los |a las |a ){_V}",
            rf"je suis (?:très )?allergique (?:à la |à l'|aux |au |à ){_V}",
        ],
    ),
    (
        _taste("dislikes"),
        [
            rf"ich mag keine?n? {_V}(?: mehr)?",
            rf"ich mag {_V} (?:gar |überhaupt )?nicht(?: mehr)?",
            rf"ich (?:hasse|verabscheue) {_V}",
            rf"(?:ya )?no me gustan?(?: nada)? {_V}",
            rf"(?:odio|detesto) {_V}",
            rf"je n'aime (?:plus|pas|pas du tout) {_V}",
            rf"je déteste {_V}",
        ],
    ),
    (
        _taste("likes"),
        [
            rf"ich (?:mag|liebe) (?!keine?n?\b|.*\bnicht(?: mehr)?$){_V}(?: sehr| gerne?)?",
            rf"me (?:gusta|encanta)n?(?: mucho)? {_V}",
            rf"j'(?:aime|adore)(?: bien| beaucoup)? (?!pas\b){_V}",
        ],
    ),
    (
        _language,
        [
            rf"{_ORDER}(?:antworte|schreibe?|sprich|rede)(?: mir| mit mir)?(?: bitte)?"
            rf"(?: ab jetzt)?(?: immer| nur)? auf {_TONGUE}",
            rf"{_ORDER}(?:responde|contesta|respóndeme|contéstame|háblame|escríbeme)(?: siempre"
            rf"| solo)? en {_TONGUE}",
            rf"{_ORDER}(?:réponds|répondez|parle|écris)(?:-moi)?(?: toujours| seulement)? en"
            rf" {_TONGUE}",
        ],
    ),
    (
        _length,
        [
            rf"{_ORDER}(?:antworte|fasse? dich|halte? dich|schreibe?)(?: mir)?(?: bitte)?"
            rf"(?: immer)? (?:etwas )?{_LENGTH}",
            rf"{_ORDER}halte? (?:deine |die )?antworten(?: bitte)?(?: immer)? {_LENGTH}",
            rf"{_ORDER}{_LENGTH} antworten",
            rf"{_ORDER}respuestas (?:más )?{_LENGTH}",
            rf"{_ORDER}(?:responde|contesta)(?:me)?(?: siempre)? (?:de forma )?{_LENGTH}",
            rf"{_ORDER}sé (?:más )?{_LENGTH}",
            rf"{_ORDER}(?:des )?réponses (?:plus )?{_LENGTH}",
            rf"{_ORDER}(?:réponds|répondez)(?:-moi)?(?: toujours)? (?:de façon )?{_LENGTH}",
            rf"{_ORDER}sois (?:plus )?{_LENGTH}",
        ],
    ),
    (
        _named,
        [
            rf"meine? {_PERSON} hei(?:ß|ss)t {_V}",
            rf"mi {_PERSON} se llama {_V}",
            rf"(?:ma|mon) {_PERSON} s'appelle {_V}",
        ],
    ),
]
_FORMS: list[tuple[re.Pattern[str], Reading]] = [
    (re.compile(form + _END, re.IGNORECASE), reading) for reading, forms in _ALL for form in forms
]
