"""What is installed elsewhere holds all that it needs: a wheel is built, unpacked and asked."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, away from the checkout."""
    target = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=TOP,
        check=True,
        capture_output=True,
    )
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(target / "content")
    return target / "content"


def test_settings_prompts_and_scripts_travel_in_the_wheel(unpacked: Path) -> None:
    shipped = {p.relative_to(TOP / "config") for p in (TOP / "config").rglob("*") if p.is_file()}
    packed = unpacked / "gateway/_config"
    assert {p.relative_to(packed) for p in packed.rglob("*") if p.is_file()} == shipped
    scripts = {p.name for p in (TOP / "gateway").rglob("*.lua")}
    assert {p.name for p in unpacked.rglob("*.lua")} == scripts


def test_tests_and_data_do_not(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"gateway"}


def test_the_program_in_the_wheel_finds_its_own_files(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from gateway import config\n"
        "print(config.shipped('gateway.toml')); print(config.shipped('prompts').is_dir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(unpacked)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str(unpacked / "gateway/_config/gateway.toml"), "True"]
