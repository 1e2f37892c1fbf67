"""`make bench` tells of its own run alone, and what is committed changes only where asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench import peers
from bench.gateways import Process
from bench.keeping import RESULTS, save
from bench.report import picture, rows

START = {"clean_s": 1.0, "killed_s": 1.5, "import_cpu_s": 0.2}
PREFIX = {"off": 0.93, "split": 0.91, "tail": 0.91, "system": 0.08}


def part(at: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {"at": at, "rounds": 5, "seconds": 2.0, "figures": figures}


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is committed, in a place of the test's: the parts `start` and `prefix` of one day."""
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    former = part("2026-01-01T00:00:00Z", START), part("2026-01-01T00:00:00Z", PREFIX)
    save(dict(zip(("start", "prefix"), former, strict=True)), bench.RESULTS, beside_former=False)
    return bench.RESULTS / "latest.json"


def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """A run in which the start took two seconds and the local embedder cannot be had."""
    monkeypatch.setattr(bench.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bench, "words_file", lambda *_: tmp_path / "words")
    monkeypatch.setattr(bench.Bench, "start", lambda _: {**START, "clean_s": 2.0})
    monkeypatch.setattr(bench.Bench, "local", lambda _: None)
    return bench.main(["--work", str(tmp_path / "work"), *arguments])


def test_the_table_shows_only_what_was_run(
    committed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = committed.read_bytes()

    assert run(tmp_path, monkeypatch, "--quick", "--only", "start") == 0

    told = capsys.readouterr().out
    assert "2.0 s" in told
    assert "prompt prefix" not in told
    assert committed.read_bytes() == before
    looked = json.loads((tmp_path / "work" / "latest.json").read_text())
    assert list(looked) == ["start"]
    assert looked["start"]["rounds"] == 3


def test_what_is_kept_replaces_its_own_parts_and_leaves_others_their_date(
    committed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(tmp_path, monkeypatch, "--keep", "--only", "start")

    kept = json.loads(committed.read_text())
    assert kept["start"]["figures"]["clean_s"] == 2.0
    assert kept["start"]["at"] > "2026-01-01T00:00:00Z"
    assert kept["prefix"] == part("2026-01-01T00:00:00Z", PREFIX)
    told = capsys.readouterr().out
    assert "prompt prefix" not in told
    assert "prefix, of 2026-01-01T00:00:00Z, which was not run" in told


def test_a_part_that_was_left_out_has_no_figures(
    committed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = committed.read_bytes()

    assert run(tmp_path, monkeypatch, "--keep", "--only", "local") == 0

    assert capsys.readouterr().out == ""
    assert committed.read_bytes() == before


def test_quick_figures_are_not_kept(
    committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = committed.read_bytes()

    with pytest.raises(SystemExit):
        run(tmp_path, monkeypatch, "--keep", "--quick", "--only", "start")

    assert committed.read_bytes() == before


def test_what_is_committed_is_read_and_says_of_each_part_when_it_was_measured() -> None:
    kept = json.loads((RESULTS / "latest.json").read_text())

    assert {"load", "hybrid", "local", "streams", "memory", "start", "prefix"} <= set(kept)
    assert all({"at", "rounds", "seconds", "figures"} <= set(part) for part in kept.values())
    assert len(list(rows(kept))) > len(kept)
    assert picture(kept) == (RESULTS / "latest.svg").read_text()


def test_a_picture_says_of_which_day_each_of_its_parts_is() -> None:
    load = {"direct": {"per_s": 9.0}, "ours": {"per_s": 2.0}, "portkey": {"per_s": 3.0}}
    hybrid = {"hybrid": {"per_s": 1.0}}

    drawn = picture(
        {
            "load": part("2026-01-02T00:00:00Z", load),
            "hybrid": part("2026-01-01T00:00:00Z", hybrid),
        }
    )

    assert "load 2026-01-02, hybrid 2026-01-01" in drawn
    assert picture({"start": part("2026-01-02T00:00:00Z", START)}) == ""


def test_a_peer_that_is_never_measured_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    peers.bifrost()

    assert "Bifrost is left out" in capsys.readouterr().out


FORKING = """
import os, time
held = bytearray(os.urandom(1) * 2**26)  # 64 MB
if os.fork():
    print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def forked() -> Iterator[Process]:
    """A process with 64 MB, all of which a fork of it shares."""
    process = Process([], "", log=Path(os.devnull))
    with subprocess.Popen(
        [sys.executable, "-c", FORKING], stdout=subprocess.PIPE, start_new_session=True
    ) as process.child:
        assert process.child.stdout is not None
        process.child.stdout.readline()
        yield process
        os.killpg(process.child.pid, 9)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it, in /proc")
def test_memory_that_a_fork_shares_counts_once(forked: Process) -> None:
    each = forked.anonymous_by_process()

    assert len(each) == 2
    assert 64 < sum(each.values()) < 100
