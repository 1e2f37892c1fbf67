"""What the documents promise is so: settings, commands, links, and the README's own examples."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from gateway import __version__, config
from gateway.cli.parser import commands, read
from gateway.core.choice import LeftOut
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.telemetry.metrics import PREFIX, Metrics
from tests.gateway_process import GatewayProcess

TOP = Path(__file__).resolve().parent.parent
README = TOP / "README.md"
DOCS = [README, TOP / "CHANGELOG.md", *sorted((TOP / "docs").glob("*.md"))]
SETTINGS = {name for name, _ in config.every_setting()}
SECTIONS = {name.partition(".")[0] for name in SETTINGS if "." in name}


def _blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def _commands(page: Path = README) -> list[str]:
    """A page's shell commands, one a line, without their comments."""
    joined = "\n".join(_blocks("sh", page)).replace("\\\n", " ")
    return [line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()]


# --- what is named exists ----------------------------------------------------------------------


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_variable_that_is_named_is_a_setting(page: Path) -> None:
    for name in set(re.findall(r"\bGATEWAY_[A-Z_]*[A-Z]\b", page.read_text())):
        if name in {"GATEWAY_CONFIG", "GATEWAY_DATA_DIR"} or name.startswith("GATEWAY_TEST_"):
            continue
        assert name.removeprefix("GATEWAY_").lower().replace("__", ".") in SETTINGS, name


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_setting_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`([a-z]+\.[a-z_]+)`", page.read_text()):
        if name.partition(".")[0] in SECTIONS and not name.endswith((".py", ".toml", ".json")):
            assert name in SETTINGS, name


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), f"{target}#{anchor}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_leads_to_every_page() -> None:
    for page in (TOP / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in README.read_text()


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_no_page_holds_a_path_of_somebodys_machine(page: Path) -> None:
    assert not re.search(r"(/home/|/root/|/Users/|[A-Z]:\\)", page.read_text())


def test_the_architecture_names_every_room_and_only_what_is_there() -> None:
    text = (TOP / "docs/architecture.md").read_text()
    cells = [cell for row in re.findall(r"(?m)^\| `(.*?)` \|", text) for cell in row.split("`, `")]
    rooms = {path.name + "/" * path.is_dir() for path in (TOP / "gateway").glob("[a-z]*")}
    assert set(cells) == rooms
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        assert any((TOP / place / name).exists() for place in ("gateway", "tests", "")), name


def test_every_figure_is_told_of_with_its_labels_and_no_other() -> None:
    page = (TOP / "docs/observe.md").read_text().partition("## Every figure")[2]
    told = {
        name: re.findall(r"`(\w+)`", kind)
        for name, kind in re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|", page)
    }
    own = [v for v in vars(Metrics()).values() if isinstance(v, Counter | Gauge | Histogram)]
    figures = {
        v._name.removeprefix(f"{PREFIX}_") + "_total" * isinstance(v, Counter): list(v._labelnames)
        for v in own
    }
    assert told == figures | {"build_info": ["version"]}


def test_every_reason_to_leave_a_memory_out_is_explained() -> None:
    page = (TOP / "docs/observe.md").read_text()
    console = (TOP / "gateway/web/console/static/page-receipt.js").read_text()
    for reason in get_args(LeftOut):
        assert f"`{reason}`" in page
        assert f"{reason}: " in console


# --- commands ------------------------------------------------------------------------------


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z][a-z -]*):", (TOP / "Makefile").read_text()))
    known = {word for target in targets for word in target.split()}
    named = set(re.findall(r"\bmake ([a-z-]+)", README.read_text() + (TOP / ".ci/run").read_text()))
    assert named <= known
    assert {"run", "demo", "test", "check", "doctor"} <= named


def test_every_command_of_the_program_can_be_said_as_it_is_written() -> None:
    said = [line for line in _commands() if line.startswith("memory-gateway ")]
    assert len(said) >= 6
    for line in said:
        words = shlex.split(line.split(">")[0])[1:]
        assert read(words).run


def test_every_command_of_the_program_is_told_of_and_no_other() -> None:
    page = (TOP / "docs/operate.md").read_text()
    cells = re.findall(
        r"(?m)^\| (`[a-z].*?) \|", page.partition("## Commands")[2].partition("\n## ")[0]
    )
    told = {
        re.sub(r" [A-Z].*", "", words) for cell in cells for words in re.findall(r"`(.*?)`", cell)
    }
    assert told == set(commands())


def test_the_two_commands_stand_in_the_readme() -> None:
    text = "\n".join(_commands())
    assert "make demo" in text
    assert "make run" in text
    assert "make test" in text


# --- the examples run ----------------------------------------------------------------------


@pytest.fixture
def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "data", upstream.base_url) as running:
        yield running


def _environment() -> dict[str, str]:
    return {**os.environ, "OPENAI_API_KEY": "sk-example-0000"}


def test_the_python_example_works_as_it_stands(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    (example,) = _blocks("python")
    program = example.replace("http://127.0.0.1:8080", gateway.url)
    done = subprocess.run(
        [sys.executable, "-c", program], env=_environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
    assert upstream.requests[0].header("x-memory-user") is None


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_curl_examples_work_as_they_stand(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    examples = [line for page in DOCS for line in _commands(page) if line.startswith("curl ")]
    assert len(examples) == 4
    token = (gateway.data_dir / "admin.token").read_text().strip()
    environ = {**_environment(), "ADMIN_TOKEN": token}
    for line in examples:
        command = line.replace("http://127.0.0.1:8080", gateway.url) + " --fail-with-body"
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert upstream.requests[0].header("authorization") == "Bearer sk-example-0000"


# --- deploy --------------------------------------------------------------------------------


def test_the_compose_file_gives_the_gateway_settings_that_it_starts_with() -> None:
    compose = yaml.safe_load((TOP / "deploy/compose.yaml").read_text())
    environ = {
        name: re.sub(r"\$\{\w+:-\}", "", value)
        for name, value in compose["services"]["gateway"]["environment"].items()
    }
    image = dict(re.findall(r"(GATEWAY_\w+)=(\S+)", (TOP / "deploy/Dockerfile").read_text()))
    settings = config.load(environ={**image, **environ})
    assert settings.server.host == "0.0.0.0"
    assert not settings.embedded
    for name in ("gateway", "worker"):
        assert read(compose["services"][name]["command"]).run


def test_the_compose_file_keeps_the_queue_on_disk_and_evicts_nothing() -> None:
    compose = yaml.safe_load((TOP / "deploy/compose.yaml").read_text())
    command = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    for name in ("redis", "qdrant"):
        assert "test" in compose["services"][name]["healthcheck"]
        assert compose["services"][name]["volumes"]


def test_the_image_that_is_built_for_the_chart_is_the_one_that_it_asks_for() -> None:
    chart = yaml.safe_load((TOP / "deploy/kubernetes/Chart.yaml").read_text())
    image = yaml.safe_load((TOP / "deploy/kubernetes/values.yaml").read_text())["image"]
    wanted = f"{image['repository']}:{image['tag'] or chart['appVersion']}"
    told = (TOP / "docs/operate.md").read_text()
    assert f"docker build -f deploy/Dockerfile -t {wanted} ." in told
    assert chart["appVersion"] == __version__


def test_the_image_runs_as_nobody_in_particular_and_says_whether_it_is_well() -> None:
    text = (TOP / "deploy/Dockerfile").read_text()
    assert re.search(r"(?m)^USER (?!0|root)\d+", text)
    assert "HEALTHCHECK" in text
    assert "--require-hashes" in text
