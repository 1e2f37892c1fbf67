"""What the local embedder takes for a question by itself, in a process that does nothing else.

`python -m bench.embedder QUESTIONS [MODEL_PATH]` prints JSON; exit 3 where the model cannot be had.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from bench.data import question
from gateway.adapters.embed_fastembed.embedder import FastembedEmbedder


async def run(count: int, model_path: Path | None) -> dict[str, float] | None:
    embedder = FastembedEmbedder(model_path=model_path, retry=False)
    try:
        await embedder.settle(300.0)
        if embedder.model is None:
            print(embedder.reason, file=sys.stderr)
            return None
        drawn, taken = random.Random(11), []
        for _ in range(count):
            text = question(drawn.randrange(200), drawn)
            began = time.perf_counter()
            await embedder.embed([text], query=True)
            taken.append((time.perf_counter() - began) * 1e3)
    finally:
        await embedder.close()
    taken.sort()
    return {
        "p50_ms": taken[count // 2],
        "p99_ms": taken[int(count * 0.99)],
        "dimensions": embedder.model.dimensions,
    }


if __name__ == "__main__":
    found = asyncio.run(run(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    if found is None:
        sys.exit(3)
    print(json.dumps(found))
