"""The page of promises names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_test_that_the_page_of_promises_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)`::(test_\w+)", PAGE.read_text("utf-8"))
    assert len(named) > 12
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"def {name}\(", (TESTS / file).read_text("utf-8"))
    ]
    assert missing == []
