"""The operators' token that a first start makes."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.wiring.admin_token import TOKEN_FILE, admin_token


def test_processes_that_start_together_on_a_new_directory_have_one_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = iter("abcdefgh")

    def slowly(_: int) -> str:
        time.sleep(0.02)
        return next(drawn)

    monkeypatch.setattr(secrets, "token_urlsafe", slowly)
    settings = Settings(data_dir=tmp_path)
    with ThreadPoolExecutor(4) as together:
        tokens = list(together.map(admin_token, [settings] * 4))
    assert tokens == ["a"] * 4
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]
