"""Made-up memories and questions of made-up users: the same on each machine, by seed.

Each user has a vocabulary of their own, drawn from one of some 4,000 made words beside the
common English ones, so that a question finds what it is about among the user's memories.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

FRAMES = (
    "I moved to {0} with {1} last spring and we like the {2} there",
    "My {2} from {0} is called {1} and needs a walk each morning",
    "For {1} I always take the {0} with {2}, never the other one",
    "We talked about the {0} project: {1} does the {2} until Friday",
    "The doctor said that {0} and {1} do not go well with {2}",
    "Remember that the {2} meeting with {0} was moved to {1}",
)
ASKED = (
    "what did I say about {0} and {1}?",
    "do you remember what it was with {0} and {1}?",
    "who was it that told me of {0} and {1}",
    "say it again please: {0}, {1}",
)
"""With two words of one memory: questions that memory has an answer to."""
FILLER = [
    *("and", "then", "it", "would", "be", "that", "you", "just", "know", "how", "the", "same"),
    *("thing", "is", "still", "there", "for", "me"),
]
"""Words without substance; some of them make each question another text."""
_SYLLABLES = [c + v for c in "bdfgklmnprstv" for v in "aeo"]


def vocabulary(size: int = 4000, seed: int = 7) -> list[str]:
    drawn = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < size:
        found["".join(drawn.choice(_SYLLABLES) for _ in range(drawn.randint(2, 4)))] = None
    return list(found)


VOCABULARY = vocabulary()
OF_A_USER = 300


def words_of(user: int) -> list[str]:
    return random.Random(user).sample(VOCABULARY, OF_A_USER)


def texts(user: int, count: int) -> Iterator[str]:
    """What a user once said."""
    drawn, words = random.Random(1_000_003 * (user + 1)), words_of(user)
    for _ in range(count):
        yield drawn.choice(FRAMES).format(*drawn.sample(words, 3))


def question(user: int, drawn: random.Random, memories: int = 500) -> str:
    """A question about one of what a user once said, never the same text twice."""
    pair = drawn.choice(pairs(user, memories))
    return f"{drawn.choice(ASKED).format(*pair)} {' '.join(drawn.choices(FILLER, k=7))}"


@cache
def pairs(user: int, memories: int = 500) -> list[tuple[str, str]]:
    """Two words of each memory of a user."""
    known = set(words_of(user))
    found = []
    for text in texts(user, memories):
        first, second, *_ = (w for w in text.replace(",", " ").split() if w in known)
        found.append((first, second))
    return found


def name(user: int) -> str:
    return f"user-{user}"
