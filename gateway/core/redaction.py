"""What is never stored: card numbers, account numbers, keys, passwords, and more by setting.

Strategy: a pattern finds candidates, and where the thing has a check digit the check decides
(python-stdnum), so that an order number is not taken for a card. What is found is replaced by
a mark that says what was there. Applied before anything is queued or written, so that no log,
dead letter or snapshot holds the original. It lowers the risk, it does not end it: a password
told in plain prose ("it's my dog's name") cannot be seen from outside.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from stdnum import iban
from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.pl import pesel
from stdnum.us import ssn

from gateway.core.exchange import Exchange

MARK = "[removed: "
"""How every replacement begins: nothing with it in its quote is worth remembering."""

TOLD_BY_NAMES: Final = frozenset({"key", "password"})
"""Kinds that are told by what stands before them. The others are found by themselves: looking for
them once more beside a name took as long again."""


def redact(text: str, kinds: Collection[str]) -> str:
    """The text with everything of these kinds (`privacy.redact`) replaced by a mark."""
    if not text:
        return text
    for kind, replacer in _REPLACERS.items():
        if kind in kinds:
            text = replacer(text)
    return text


def redact_named(name: str | None, value: str, kinds: Collection[str]) -> str:
    """A value as it may be kept that stands beside a name of its own: of "hunter2" alone nobody
    could tell that it is one, of "wifi_password: hunter2" anyone can."""
    clean = redact(value, kinds)
    if not name:
        return clean
    before = f"{name.replace('_', ' ')}: "
    whole = redact(before + clean, TOLD_BY_NAMES.intersection(kinds))
    return whole.removeprefix(before) if whole.startswith(before) else clean


def redact_exchange(exchange: Exchange, kinds: Collection[str]) -> Exchange:
    """The exchange as it may be kept; the same object where there was nothing to remove."""
    turns = tuple(
        turn if (clean := redact(turn.text, kinds)) == turn.text else replace(turn, text=clean)
        for turn in exchange.turns
    )
    return exchange if turns == exchange.turns else replace(exchange, turns=turns)


def _mark(what: str) -> str:
    return f"{MARK}{what}]"


# --- numbers with a check digit --------------------------------------------------------------

# What a phone or a web page writes for a space, a hyphen or a digit: a number that is copied from
# one has no-break spaces between its groups, Japanese keyboards write wide digits, Persian cards
# are told in Persian ones. One sign for one: what is found is at the same place in the text.
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000\u200b\u2060\ufeff", " "),
        **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\uff0d", "-"),
        **{chr(wide): chr(wide - 0xFEE0) for wide in range(0xFF10, 0xFF5B)},
        **{chr(ord(zero) + n): str(n) for zero in "\u0660\u06f0\u0966\u09e6" for n in range(10)},
    }
)
_DIGIT = re.compile(r"\d")
# Behind four digits; its dot comes first, so that a text without any is passed over quickly.
_DOTTED = re.compile(r"\.(?<=\d{4}\.)(?<![\d.]\d{4}\.)\d{4}\.\d{4}\.\d{4}(?!\.?\d)")


def _plain(text: str) -> str:
    """The text with such signs as the ones that patterns know."""
    plain = text if text.isascii() else text.translate(_ALIKE)
    return _DOTTED.sub(lambda m: m[0].replace(".", " "), plain) if "." in plain else plain


# A card may be followed by its expiry ("… 1111 12/27") and preceded by a count: every
# beginning of a run of digits is tried, and every end within it.
_CARD = re.compile(r"(?<![\d.])[2-6](?:[ -]?\d){12,18}(?!\d)")
_CARD_LENGTHS = (16, 15, 19, 18, 17, 14, 13)
_DOUBLED = bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]) + bytes(range(10, 256))
_IBAN_DIGITS = 2
_IBAN_LEAST = 15
_APART = " -"
_VALUES = {c: int(c, 36) for c in string.ascii_letters + string.digits}
_IBAN = re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def _digits(text: str) -> int:
    """How many digits a text has. Nearly no text has as many as a number has, and this look takes
    a tenth of the time."""
    if text.isascii():
        return len(text) - len(text.encode().translate(None, b"0123456789"))
    return len(_DIGIT.findall(text))


def _cards(text: str) -> str:
    if _digits(text) < min(_CARD_LENGTHS):
        return text
    return _replaced(text, _CARD, _card_end, _mark("card number"))


def _card_end(candidate: str) -> int | None:
    """Luhn's sum over every length at once: a pasted column of numbers has a candidate at every
    digit (a megabyte of them took 11 s a length at a time, and takes 3)."""
    ends = [i + 1 for i, c in enumerate(candidate) if c.isdigit()]
    digits = bytes([int(candidate[end - 1]) for end in ends])
    doubled = digits.translate(_DOUBLED)
    for length in _CARD_LENGTHS:
        if length > len(ends):
            continue
        end = ends[length - 1]
        whole = end == len(candidate) or not candidate[end].isdigit()
        total = sum(digits[length - 1 :: -2]) + sum(doubled[length - 2 :: -2])
        if whole and total % 10 == 0 and len(set(digits[:length])) > 1:
            return end
    return None


def _ibans(text: str) -> str:
    if _digits(text) < _IBAN_DIGITS:
        return text
    return _replaced(text, _IBAN, _iban_end, _mark("account number"))


def _iban_end(candidate: str) -> int | None:
    """Where the account number that a candidate begins with ends: words may follow it, so that
    it may end with each of them. One pass has the remainder for all (a megabyte of beginnings
    took 6 s an end at a time); it rules out 96 of 97, and is much cheaper than the whole check."""
    head = int("".join(str(int(c, 36)) for c in candidate[:4]))
    ends: list[int] = []
    left = 0
    for end, c in enumerate(candidate[4:], 5):
        if c in _APART:
            continue
        value = _VALUES[c]
        left = (left * (10 if value < 10 else 100) + value) % 97
        if (left * 1_000_000 + head) % 97 == 1 and end >= _IBAN_LEAST:
            ends.append(end)
    for end in reversed(ends):
        whole = end == len(candidate) or candidate[end] in _APART
        if whole and iban.is_valid(re.sub(r"[ -]", "", candidate[:end])):
            return end
    return None


def _replaced(
    text: str, pattern: re.Pattern[str], end_of: Callable[[str], int | None], mark: str
) -> str:
    """Replace what `end_of` finds at the beginning of each candidate."""
    parts: list[str] = []
    at = kept = 0
    plain = _plain(text)
    while found := pattern.search(plain, at):
        end = end_of(found[0])
        if end is None:
            at = found.start() + 1
        else:
            parts += [text[kept : found.start()], mark]
            at = kept = found.start() + end
    return "".join(parts) + text[kept:] if parts else text


# --- keys and passwords ------------------------------------------------------------------------

_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r".*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_TOKENS = re.compile(
    r"""(?<![A-Za-z0-9]) (?:
        (?: sk | rk | pk ) [-_] [A-Za-z0-9_\-]{16,}
      | gh[pousr]_ [A-Za-z0-9]{20,}        | github_pat_ [A-Za-z0-9_]{20,}
      | gl[a-z]{1,6}- [A-Za-z0-9_\-]{20,}  | xox[a-z]- [A-Za-z0-9\-]{10,}
      | (?: AKIA | ASIA | AROA ) [A-Z0-9]{16}
      | AIza [A-Za-z0-9_\-]{30,}           | ya29\. [A-Za-z0-9_\-]{20,}
      | hf_ [A-Za-z0-9]{20,}               | npm_ [A-Za-z0-9]{30,}
      | pypi- [A-Za-z0-9_\-]{40,}          | gsk_ [A-Za-z0-9]{20,}
      | SG\. [A-Za-z0-9_\-]{16,} \. [A-Za-z0-9_\-]{16,}
      | mgl?_ [A-Za-z0-9_\-.]{16,}          | dop_v1_ [a-f0-9]{40,}
      | xai- [A-Za-z0-9]{20,}              | GOCSPX- [A-Za-z0-9_\-]{20,}
    )""",
    re.VERBOSE,
)
# A JSON web token. Whether a dot follows is looked for once for all the signs of a run: from each
# `eyJ` in it anew, a memory of 200,000 signs held up the whole process for two seconds.
_JWT = re.compile(
    r"(?<![\w\-])(?=[\w\-]++\.[\w\-]{8,}+\.)(?P<before>(?:[\w\-]*?[_\-])??)"
    r"eyJ[\w\-]{8,}+\.[\w\-]{8,}+\.[\w\-]*+",
    re.ASCII,
)
_BOT = re.compile(r"(?<![A-Za-z0-9])\d{8,10}:AA[A-Za-z0-9_\-]{32,}")
_USERINFO = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.\-]{1,20}://[^\s/:@]{0,100}:)[^\s/@]{1,200}(?=@)"
)
_BEARER = re.compile(
    r"(?P<before>\b(?:Bearer|Authorization[\"']?:\s?[\"']?Basic)\s{1,3})[A-Za-z0-9_\-.=/+]{16,}",
    re.IGNORECASE,
)
# Variables of an environment have a name before it: MISTRAL_API_KEY, aws_secret_access_key.
_NAMED_KEY = re.compile(
    r"(?P<before>(?<![^\W_])(?:api|access|account|secret|private|auth|client)[ _\-]?"
    r"(?:key|token|secret)s?\b"
    r"[\"']?\s{0,3}(?:is|=|:|:=)\s{0,3}[\"']?)(?P<value>[A-Za-z0-9_\-./+=]{12,})",
    re.IGNORECASE,
)


def _keys(text: str) -> str:
    mark = _mark("key")
    text = _PEM.sub(mark, text)
    text = _TOKENS.sub(mark, text)
    if "eyJ" in text:
        text = _JWT.sub(lambda m: m["before"] + mark, text)
    if ":AA" in text:
        text = _BOT.sub(mark, text)
    if "://" in text:
        text = _USERINFO.sub(lambda m: m["before"] + mark, text)
    if _may_hold(text, ("bearer", "basic")):
        text = _BEARER.sub(lambda m: m["before"] + mark, text)
    if not _may_hold(text, ("key", "token", "secret")):
        return text
    return _NAMED_KEY.sub(
        # A name of a setting ("api_key=settings.key") has no digit in it; keys have.
        lambda m: m["before"] + (mark if re.search(r"\d", m["value"]) else m["value"]),
        text,
    )


def _may_hold(text: str, words: Sequence[str]) -> bool:
    """Whether a pattern that needs one of these words is worth trying: nearly no text holds one,
    and this look takes a tenth of the time. Beyond ASCII, letters match in more ways than one."""
    if not text.isascii():
        return True
    lower = text.lower()
    for word in words:  # noqa: SIM110 (half the time of any())
        if word in lower:
            return True
    return False


_PASSWORD_WORDS = (
    *("pass", "pwd", "kennwort", "contrase", "contrasena", "senha", "pin", "cvv", "cvc"),
    "security code",
)
_PASSWORD = re.compile(
    r"""(?P<before>
        (?: (?<![^\W_]) (?: pass(?:word|phrase|code|wort) | pwd | passwd )  # DB_PASSWORD
          | (?<=_) pass
          | \b (?: kennwort | contraseña | contrasena | senha | mot\ de\ passe
              | pin | cvv | cvc | pin\ code | security\ code )
        ) \b ["']?
        [^\S\n]{0,3} (?:\([^)\n]{0,40}\)\s)? (?:(?:for|to|of)\ [^\n.,;:=]{1,40}?\ )?
        (?P<link> is\ now | is | are | was | ist | lautet | est | es | é | è | := | = | : )
        [^\S\n]{0,3}
    )
    (?P<value> "[^"\n]{1,100}" | '[^'\n]{1,100}' | `[^`\n]{1,100}` | [^\s"'`]{2,100} )""",
    re.VERBOSE | re.IGNORECASE,
)
# What follows "my password is" without being one.
# fmt: off
_NO_PASSWORD = frozenset({
    "a", "all", "already", "also", "always", "an", "at", "being", "case", "compromised", "correct",
    "different", "easy", "empty", "expired", "forgotten", "hard", "hashed", "in", "incorrect",
    "invalid", "it", "known", "long", "lost", "missing", "my", "never", "no", "not", "null", "old",
    "on", "only", "optional", "or", "required", "reset", "safe", "same", "saved", "secure", "sent",
    "set", "short", "still", "stored", "stolen", "strong", "supposed", "that", "the", "this", "too",
    "very", "weak", "what", "wrong", "your",
})
# fmt: on
# Words that no space stands beside; the password itself is in letters of a keyboard.
_PASSWORD_ABROAD = re.compile(
    r"(?P<before>(?:密码|密碼|口令|パスワード|暗証番号|비밀번호|암호|парол[ья])[^\S\n]?"
    r"(?:是|为|為|は|는|은|이|[-—–=:：])[^\S\n]{0,3})(?P<value>[!-~]{4,100})",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(r"\s*(?:$|[.,;!?)\]\n]|and\b|but\b|so\b|please\b|for\b)", re.IGNORECASE)


def _passwords(text: str) -> str:
    if not _may_hold(text, _PASSWORD_WORDS):
        return text

    def checked(m: re.Match[str]) -> str:
        value = m["value"]
        bare = value.rstrip(".,;!?)")
        if not bare or value.startswith(MARK[:2]):
            return m[0]
        quoted = value[0] in "\"'`"
        telling = quoted or any(not c.isalpha() for c in bare)
        if not telling and (
            bare.casefold() in _NO_PASSWORD
            or not (value != bare or _CLAUSE_END.match(text, m.end()))
        ):
            return m[0]
        return m["before"] + _mark("password") + ("" if quoted else value[len(bare) :])

    text = _PASSWORD.sub(checked, text)
    return text if text.isascii() else _PASSWORD_ABROAD.sub(checked, text)


# --- by setting ----------------------------------------------------------------------------

_EMAIL = re.compile(r"\b[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9\-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_PHONE = re.compile(r"(?<![\w.])(?:\+|00)?\(?\d[\d \-./()]{6,20}\d(?!\w)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_ID = re.compile(
    r"""\b (?: [A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]             # Italy
      | [A-Z]{2}[ ]?\d{2}[ ]?\d{2}[ ]?\d{2}[ ]?[A-D]             # United Kingdom
      | [XYZ]?\d(?:[ .\-/]?\d){6,14}(?:[ \-]?[A-Z])? ) \b""",
    re.VERBOSE | re.IGNORECASE,
)
_NINO = re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")
_IDS = (ssn, dni, nie, codicefiscale, nir, cpf, pesel, idnr, aadhaar)


def _emails(text: str) -> str:
    return _EMAIL.sub(_mark("email address"), text)


def _phones(text: str) -> str:
    def checked(m: re.Match[str]) -> str:
        digits = sum(c.isdigit() for c in m[0])
        separated = m[0][0] in "+(" or any(c in " -/()" for c in m[0])
        if not 8 <= digits <= 15 or not separated or _DATE.search(m[0]):
            return m[0]
        return _mark("phone number")

    return _PHONE.sub(checked, text)


def _government_ids(text: str) -> str:
    return _ID.sub(lambda m: _mark("government id") if _is_id(m[0]) else m[0], text)


def _is_id(token: str) -> bool:
    compact = re.sub(r"[ .\-/]", "", token).upper()
    if _NINO.fullmatch(compact):
        return True
    if compact.isdigit() and len(compact) == 9 and token.count("-") != 2:
        return False  # nine bare digits are too often something else than a US number
    return any(module.is_valid(compact) for module in _IDS)


_REPLACERS: dict[str, Callable[[str], str]] = {
    "key": _keys,
    "password": _passwords,
    "iban": _ibans,
    "card": _cards,
    "government_id": _government_ids,
    "email": _emails,
    "phone": _phones,
}
