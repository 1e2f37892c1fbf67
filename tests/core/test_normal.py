"""Unicode's normal forms: those of the standard library, also of what is long."""

from __future__ import annotations

import random
import unicodedata
from typing import Literal

import pytest

from gateway.core.normal import normalized

SIGNS = [chr(code) for code in (
    *(0x20, 0x61, 0x65, 0xE9, 0x1EBF, 0x301, 0x323, 0x2190, 0x338, 0x915, 0x93F, 0x1100, 0x1161),
    *(0x11A8, 0xAC00, 0x4E00, 0x30AB, 0xFF76, 0xFF9E, 0x1F44D, 0x1F3FD, 0x200D, 0xFDFA),
)]  # fmt: skip


@pytest.mark.parametrize("form", ["NFKC", "NFKD"])
def test_a_text_has_the_form_that_the_standard_library_gives_it(
    form: Literal["NFKC", "NFKD"],
) -> None:
    chosen = random.Random(1)
    for length in (0, 10, 3000):
        text = "".join(chosen.choices(SIGNS, k=length))
        assert normalized(form, text) == unicodedata.normalize(form, text)


def test_letters_around_a_run_of_marks_without_an_end_are_as_they_were() -> None:
    text = "Cafe\u0301 " * 200 + "a" + "\u0300" * 5000 + " zu\u0308rich"
    found = normalized("NFKC", text)
    assert found.startswith("Café Café ")
    assert found.endswith(" zürich")
    assert len(found) > 5000
