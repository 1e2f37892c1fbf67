"""Where a run's figures go: each part with the time, rounds and seconds of the run it is of.

What is committed changes only where asked (`--keep`), and only the parts that were run: parts of
former runs stay there with their own dates. Any other run is a look, and goes below `bench/.work`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from bench.report import picture

Part: TypeAlias = dict[str, Any]
"""`at`, `rounds`, `seconds`, `cores`, `load_average_before`, and `figures`: what was measured."""

RESULTS = Path(__file__).parent / "results"


def save(parts: dict[str, Part], directory: Path, *, beside_former: bool) -> dict[str, Part]:
    """Write the parts, and a picture of them; with `beside_former` what is there is not lost.

    Returns the parts of former runs that stand beside them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "latest.json"
    there = json.loads(path.read_text()) if beside_former and path.exists() else {}
    whole = {**there, **parts}
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    if drawn := picture(whole):
        (directory / "latest.svg").write_text(drawn)
    return {name: part for name, part in there.items() if name not in parts}
