"""What of a batch is embedded, and its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.delivery import Put
from gateway.core.errors import EmbedderUnavailable
from gateway.core.guards import Fact
from gateway.core.memory import Vector
from gateway.core.windows import DENSE_CHARS, dense_text, dense_window_text
from gateway.ports import Services


@dataclass
class Vectors:
    """Embeddings of one batch by text, so that nothing is embedded twice; empty while the
    embedder is away."""

    of: dict[str, Vector] = field(default_factory=dict)

    async def have(self, services: Services, texts: Sequence[str]) -> None:
        """Embed those of the texts that are missing, in one call."""
        missing = list(dict.fromkeys(text for text in texts if text and text not in self.of))
        if not missing:
            return
        try:
            vectors = await services.embedder.embed(missing)
        except EmbedderUnavailable:
            # Memories are stored without; the sweep gives them theirs when it is back.
            return
        self.of.update(zip(missing, vectors, strict=True))


def texts_of(puts: Sequence[Put]) -> list[str]:
    """What is to be embedded for these."""
    texts = [dense_text(put.memory) for put in puts]
    return texts + [dense_window_text(put.window) for put in puts if put.window is not None]


def dense_fact(fact: Fact) -> str:
    """What of a fact is embedded."""
    return fact.text[:DENSE_CHARS]
