"""Words to sparse vectors: BM25 by Qdrant's own tokenizer, stop words and stemmers.

Both Qdrant stores and the in-memory twin take their lexical vectors from here, so that all of
them rank alike; the store multiplies in the IDF. Stop words and stemming were worth nine points
of recall on LoCoMo.

Text of scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
and Korean, whose particles cling to words, is cut into single characters and overlapping pairs.
The engine's dictionary tokenizer was tried: it cuts a word differently by the text around it, so
that a note 東京に住んでいます is not found by 東京, nor ข้าวผัด in a longer sentence. Pairs
need no dictionary and are the same everywhere.

Documents are not known by language, and guessing it from a question of four words goes wrong.
So everything is stemmed as English, and where a language is known its stems come on top, in
documents and in questions: the two always share the English ones.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gateway.core.normal import normalized

if TYPE_CHECKING:
    from qdrant_edge import Bm25

    from gateway.ports import Sparse

MAX_QUERY_CHARS = 8_000
MAX_QUERY_WORDS = 160
"""A question is looked for by its first and last words where it is longer: the ask stands at
the start or the end of a pasted text. So many words, some 90 after stop words, cost a search
of two lists 1.6 ms."""
MAX_DOCUMENT_CHARS = 100_000

K1 = 0.8
B = 0.75
MEMORY_WORDS = 12.0
WINDOW_WORDS = 60.0
"""Saturation, and usual lengths after stop words (of a memory, of its window). Evidence among ten
by BM25 alone, LoCoMo turns / BEAM messages (dev): these 57.9 / 56.0; the engine's defaults
(k 1.2, length 256) under 55 / 45; b 0.4 60 / 51, as long answers then push out the user's own
short messages. Windows of LoCoMo: 72.4, and within a point of it whatever the values."""

_JOINED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3"  # Hangul
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"  # Han
)
_JOINED_RUN = re.compile(f"[{_JOINED}]+")

LANGUAGES = {
    "ar": "arabic", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "fi": "finnish", "fr": "french", "hu": "hungarian", "it": "italian",
    "nl": "dutch", "no": "norwegian", "nb": "norwegian", "nn": "norwegian", "pt": "portuguese",
    "ro": "romanian", "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
"""Languages with a stemmer, by their two-letter codes."""
_BY_NAME = frozenset(LANGUAGES.values())


class Bm25Lexicon:
    """The port `Lexicon`."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, bool], Bm25] = {}

    def load(self) -> None:
        """Load the engine's library and the usual models: the first question that needs them
        waited 50 ms, and a chat on a busy machine then went without its memories."""
        for window in (False, True):
            self._model("english", window)

    def document(self, text: str, language: str | None = None, *, window: bool = False) -> Sparse:
        """Token hashes with their weights by frequency and length of the text."""
        prepared = prepare(text[:MAX_DOCUMENT_CHARS])
        first, *others = _languages(language)
        vector: Any = self._model(first, window).embed_document(prepared)
        tokens: dict[int, float] = dict(zip(vector.indices, vector.values, strict=True))
        for name in others:
            vector = self._model(name, window).embed_document(prepared)
            for index, value in zip(vector.indices, vector.values, strict=True):
                tokens[index] = max(value, tokens.get(index, 0.0))
        return list(tokens), list(tokens.values())

    def query(self, text: str, language: str | None = None) -> Sparse:
        """Token hashes of the question, each with weight 1."""
        prepared = prepare(_ends(text))
        words = prepared.split()
        if len(words) > MAX_QUERY_WORDS:
            half = MAX_QUERY_WORDS // 2
            prepared = " ".join(words[:half] + words[-half:])
        tokens: dict[int, None] = {}
        for name in _languages(language):
            tokens.update(dict.fromkeys(self._model(name, False).embed_query(prepared).indices))
        return list(tokens), [1.0] * len(tokens)

    def _model(self, language: str, window: bool) -> Bm25:
        model = self._models.get((language, window))
        if model is None:
            # Imported where it is used: it is not needed to import the gateway.
            from qdrant_edge import Bm25, Bm25Config

            model = self._models[language, window] = Bm25(
                Bm25Config(
                    k=K1,
                    b=B,
                    avg_len=WINDOW_WORDS if window else MEMORY_WORDS,
                    language=language,
                    ascii_folding=True,  # "Malaga" finds "Málaga"
                )
            )
        return model


def _ends(text: str) -> str:
    half = MAX_QUERY_CHARS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} {text[-half:]}"


def prepare(text: str) -> str:
    """Text as the tokenizer is given it: joined scripts in pieces, nothing that is no UTF-8."""
    if text.isascii():
        return text
    text = text.encode("utf-8", "replace").decode()
    text = normalized("NFKC", text)
    return _JOINED_RUN.sub(_pieces, text)


def _pieces(run: re.Match[str]) -> str:
    """Single characters and pairs of neighbours, as words that no stemmer touches."""
    codes = [f"{ord(character):x}" for character in run.group()]
    singles = [f"u{code}0" for code in codes]
    pairs = [f"u{one}x{other}0" for one, other in pairwise(codes)]
    return f" {' '.join(singles + pairs)} "


def _languages(language: str | None) -> tuple[str, ...]:
    if language is None:
        return ("english",)
    named = language.strip().lower()
    name = named if named in _BY_NAME else LANGUAGES.get(re.split(r"[-_]", named)[0])
    return ("english",) if name in (None, "english") else ("english", str(name))
