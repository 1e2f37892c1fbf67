"""The command line: exit codes, one line for what went wrong, and the same work done through a
gateway that runs or on data opened here."""

from __future__ import annotations

import argparse
import asyncio
import errno
import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.adapters.data_dir import DataDirLock
from gateway.asgi import GatewayApp
from gateway.cli import doctor, listening, main, operating, serving, shown, supervising
from gateway.cli.running import FILE, announced, find
from gateway.config import ServerSettings, Settings
from gateway.core.errors import SettingsError
from gateway.lab.scripted_upstream import Gate, ScriptedUpstream, sse
from gateway.telemetry import logs
from tests import loopback
from tests.gateway_process import GatewayProcess, free_port, until
from tests.web.identity_house import issuer

Run = Callable[..., tuple[int, str, str]]


pytestmark = pytest.mark.usefixtures("own_log")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway for the tests that leave it as it was, but for users of their own."""
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with ScriptedUpstream() as upstream, GatewayProcess(data_dir, upstream.base_url) as running:
        yield running


@pytest.fixture
def data_dir(request: pytest.FixtureRequest, quick_path: Path) -> Path:
    if "either_way" in request.fixturenames:
        way: Path | None = request.getfixturevalue("either_way")
        return way or quick_path / "data"
    return quick_path / "data"


@pytest.fixture
def run(
    data_dir: Path,
    tmp_path: Path,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in this process; its exit code, stdout and stderr."""
    for name in [n for n in os.environ if n.startswith(("GATEWAY_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(data_dir))
    monkeypatch.setenv("GATEWAY_UPSTREAM__BASE_URL", upstream.base_url)
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "none")

    def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as exc:
            code = int(exc.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


@pytest.fixture
def gateway(data_dir: Path, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    with GatewayProcess(data_dir, upstream.base_url) as running:
        yield running


@pytest.fixture(params=["through the gateway that runs", "on data opened here"])
def either_way(request: pytest.FixtureRequest) -> Path | None:
    """The data directory of a running gateway, or none: data of the test's own."""
    if request.param.startswith("through"):
        shared: GatewayProcess = request.getfixturevalue("shared")
        return shared.data_dir
    return None


# --- bad usage -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "COMMAND"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("serve", "--port", "many"), "'many' given; a port from 0 to 65535"),
        (("serve", "--workers", "0"), "'0' given; a whole number from 1"),
        (("serve", "--workers", "2"), "server.workers: 2 given"),
        (("serve", "--host", "0.0.0.0"), "identity.trusted_peers"),
        (("serve", "--portt", "1"), "--portt"),
        (("serve", "--config", "none.toml"), "settings file none.toml cannot be read"),
        (("--config", "none.toml", "queue", "status"), "none.toml cannot be read"),
        (("worker",), "qdrant.url and redis.url are not set"),
        (("queue",), "COMMAND"),
        (("users", "erase"), "USER"),
        (("users", "import", "none.ndjson"), "none.ndjson cannot be read: No such file"),
        (("users", "erase", ""), "USER: '' given; what is meant must be named"),
        (("users", "export", "mara", "--app", " "), "--app: ' ' given"),
        (("queue", "retry", ""), "ID: '' given"),
        (("keys", "create", "--requests-per-minute", "-1"), "requests-per-minute"),
        (("eval",), "FILE"),
        (("eval", "f", "--format", "csv"), "invalid choice: 'csv'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(run: Run, words: tuple[str, ...], says: str) -> None:
    code, out, err = run(*words)
    assert code == 2
    assert says in err
    assert err.startswith("memory-gateway: ")
    assert err.count("\n") == 1
    assert out == ""


def test_a_wrong_setting_is_one_line_and_exit_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MEMORY__PLACEMENT", "top")
    code, _, err = run("serve")
    assert code == 2
    assert "memory.placement: 'top' given; allowed is" in err
    assert err.count("\n") == 1


def test_the_program_and_the_module_are_the_same() -> None:
    for command in ([sys.executable, "-m", "gateway"], [_script()]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert done.stdout.startswith("memory-gateway 0.")


def _script() -> str:
    return str(Path(sys.executable).with_name("memory-gateway"))


NOWHERE_TO_PRINT = {
    "closed": ("users list >&-", 0, ""),
    "all closed": ("users list <&- >&- 2>&-", 0, ""),
    "no room": ("users list --json >/dev/full", 1, "cannot be written: No space left on device"),
    "nobody reads": ("--help | true; exit ${PIPESTATUS[0]}", 1, ""),
    "no room for help": ("--help >/dev/full", 1, "cannot be written: No space left on device"),
}


@pytest.mark.parametrize("how", NOWHERE_TO_PRINT)
def test_where_nothing_can_be_printed_there_is_no_traceback(how: str, data_dir: Path) -> None:
    words, code, says = NOWHERE_TO_PRINT[how]
    done = _in_a_shell(words, data_dir)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says)


def test_what_goes_into_a_pipe_is_utf_8_whatever_the_locale(data_dir: Path) -> None:
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = '{"id":"mem_1","user":"x","kind":"fact","type":"profile","text":"Lives in Łódź"}'
    done = _in_a_shell(f"users import - --user jürgen <<< '{line}'", data_dir, **plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert "jürgen" in done.stdout
    done = _in_a_shell("users list --json", data_dir, **plain)
    assert json.loads(done.stdout) == {"users": [{"app": "default", "user": "jürgen"}]}
    assert "Łódź" in _in_a_shell("users export jürgen", data_dir, **plain).stdout
    done = _in_a_shell(r"users export $'\xff'", data_dir, **plain)
    assert done.returncode == 2
    assert "text in UTF-8 is needed" in done.stderr


def _in_a_shell(words: str, data_dir: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m gateway {words}"],
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "",
            "GATEWAY_DATA_DIR": str(data_dir),
            "GATEWAY_EMBEDDING__PROVIDER": "none",
            **environ,
        },
        cwd=data_dir.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def test_ctrl_c_while_it_is_read_what_to_do_is_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "configure", interrupted)
    assert run("queue", "status") == (130, "", "")


def test_help_loads_no_vendor() -> None:
    program = (
        "import sys, gateway.cli as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: pass\n"
        "print({'httpx','openai','qdrant_client','redis','uvicorn','pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


# --- finding the gateway that runs -----------------------------------------------------------


def test_nothing_is_found_where_no_gateway_runs(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    (tmp_path / FILE).write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    assert find(tmp_path) is None, "a file that a killed gateway left is no gateway"


def test_a_gateway_is_found_as_long_as_it_is_announced(tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1"):
        found = find(tmp_path)
        assert found is not None
        assert (found.url, found.pid) == ("http://127.0.0.1:1", os.getpid())
        assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert find(tmp_path) is None


def test_a_second_announcement_leaves_the_first_alone(tmp_path: Path) -> None:
    with announced(tmp_path, "http://one"), announced(tmp_path, "http://two"):
        found = find(tmp_path)
        assert found is not None
        assert found.url == "http://one"


def test_an_announcement_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert find(tmp_path) is None


def test_a_directory_that_cannot_be_written_does_not_stop_a_gateway(tmp_path: Path) -> None:
    with announced(tmp_path / "none", "http://one"):
        assert find(tmp_path / "none") is None


# --- what is printed -----------------------------------------------------------------------


def test_away_from_a_terminal_a_table_is_lines_of_cells_parted_by_tabs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"a": 1, "b": "x\ty\x1b[2J", "c": "unseen"}, {"a": None}]
    shown.show_rows(rows, {"a": "A", "b": "B"}, none="nothing")
    assert capsys.readouterr().out == "1\tx\\ty\\x1b[2J\n\t\n"


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_only_a_yes_is_a_yes_and_the_end_of_what_is_typed_is_no_traceback(
    typed: str, yes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert shown.agreed("Erase everything?") is yes


def test_no_rows_are_no_lines_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown.show_rows([], {"a": "A"}, none="nothing")
    assert capsys.readouterr().out == ""


def test_a_full_disk_does_not_stop_who_takes_the_data_and_announces_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    held, second = DataDirLock(tmp_path), DataDirLock(tmp_path)
    held.acquire()
    with announced(tmp_path, "http://127.0.0.1:1"):
        assert find(tmp_path) is None
    with pytest.raises(SettingsError, match="in use by a running gateway"):
        second.acquire()
    held.release()
    second.acquire()
    second.release()


# --- serving -------------------------------------------------------------------------------


def test_a_gateway_serves_announces_itself_and_ends_well(
    gateway: GatewayProcess, data_dir: Path
) -> None:
    found = find(data_dir)
    assert found is not None
    assert found.url == gateway.url
    assert data_dir.stat().st_mode & 0o777 == 0o700
    assert gateway.stop() == 0
    assert find(data_dir) is None
    assert '"event":"serving"' in gateway.log.read_text().replace(" ", "")


def test_who_reads_that_it_serves_can_connect(data_dir: Path) -> None:
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0"]
    environ = {
        **os.environ,
        "GATEWAY_DATA_DIR": str(data_dir),
        "GATEWAY_EMBEDDING__PROVIDER": "none",
    }
    with subprocess.Popen(
        command, env=environ, cwd=data_dir.parent, stderr=subprocess.PIPE
    ) as served:
        assert served.stderr is not None
        try:
            assert any(b"serving" in line for line in served.stderr)
            found = find(data_dir)
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found.url.rpartition(":")[2]))):
                pass
        finally:
            served.terminate()
            served.communicate()


def test_of_two_that_bound_one_port_the_second_says_so_in_one_line(tmp_path: Path) -> None:
    settings = Settings(server=ServerSettings(port=free_port()), data_dir=tmp_path)
    with (
        listening.listen(settings, settings.server.port) as first,
        listening.listen(settings, settings.server.port) as second,
    ):
        listening.begin_to_listen(settings, first)
        with pytest.raises(SettingsError, match="cannot be listened on: Address already in use"):
            listening.begin_to_listen(settings, second)
        with pytest.raises(SettingsError, match="cannot be listened on: Address already in use"):
            supervising.supervise(settings, second, argparse.Namespace(), ends=())


async def test_told_to_end_on_the_word_that_it_serves_it_ends_well(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    app = GatewayApp(settings)
    server = serving._Server(serving._uvicorn(app, settings), app)
    with serving._signals(server):
        server.serves = True
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.05)
        with listening.listen(settings, 0) as listener:
            await asyncio.wait_for(server.serve(sockets=[listener]), 10)
    assert server.started


def test_ctrl_c_ends_it_as_well(gateway: GatewayProcess) -> None:
    assert gateway.stop(signal.SIGINT) == 0
    assert "Traceback" not in gateway.log.read_text()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_an_open_stream_is_finished_before_the_end(
    gateway: GatewayProcess, upstream: ScriptedUpstream, end: signal.Signals
) -> None:
    gate = Gate()
    first, last = b'data: {"choices": []}\n\n', b"data: [DONE]\n\n"
    upstream.script(sse(first, gate, last))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with loopback.stream("POST", f"{gateway.base_url}/chat/completions", json=body) as answer:
        parts = answer.iter_raw()
        assert next(parts) == first
        os.kill(gateway.pid, end)
        until(lambda: loopback.get(f"{gateway.url}/readyz").status_code == 503)
        gate.open()
        assert b"".join(parts) == last
    assert gateway.stop() == 0


async def test_who_was_started_to_outlive_its_terminal_does(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    app = GatewayApp(settings)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with serving._signals(serving._Server(serving._uvicorn(app, settings), app)):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_start_and_an_end_are_told_in_lines_of_one_form_and_each_thing_once(
    gateway: GatewayProcess,
) -> None:
    assert gateway.stop() == 0
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    told = [(line["logger"], line["event"], line.get("part")) for line in lines]
    assert told == [
        ("wiring", "chosen", "embedding"),
        ("wiring", "chosen", "extraction"),
        ("serve", "serving", None),
        ("serve", "ending", None),
        ("serve", "ended", None),
    ]
    assert "the fallback. Set extraction.model" in lines[1]["what"]
    assert lines[2]["pid"] == lines[4]["pid"] == gateway.pid


def test_answers_that_an_end_cuts_off_are_told_once(
    data_dir: Path, upstream: ScriptedUpstream
) -> None:
    first = b'data: {"choices": []}\n\n'
    upstream.script(sse(first, Gate()))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with (
        GatewayProcess(data_dir, upstream.base_url, server__grace_s=0.2) as gateway,
        loopback.stream("POST", f"{gateway.base_url}/chat/completions", json=body) as answer,
    ):
        parts = answer.iter_raw()
        assert next(parts) == first
        assert gateway.stop() == 0
        lines = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    ending = [line for line in lines if line["event"] == "ending"]
    assert [line["open_answers"] for line in ending] == [1]
    assert [line["open_answers"] for line in lines if line["event"] == "cut_off"] == [1]
    assert not any(line["logger"].startswith("uvicorn") for line in lines)


def test_a_second_start_on_the_same_data_says_in_one_line_who_holds_it(
    gateway: GatewayProcess, run: Run
) -> None:
    for port in (gateway.port, 0):
        code, _, err = run("serve", "--port", str(port))
        assert code == 2
        assert str(gateway.pid) in err
        assert "is in use by" in err
        assert err.count("\n") == 1
    assert loopback.get(f"{gateway.url}/readyz").status_code == 200


@pytest.mark.parametrize("file", ["admin.token", "redis/redis.lock", "qdrant/lock", "lock"])
def test_a_file_of_the_data_that_may_not_be_read_stops_the_start_with_a_line_that_names_it(
    file: str, run: Run, data_dir: Path
) -> None:
    """As after a command with sudo. A directory in its place, for root may read any file."""
    (data_dir / file).mkdir(mode=0o700, parents=True)
    code, _, err = run("serve", "--port", "0")
    assert code == 2
    assert f"data_dir: {(data_dir / file).parent}" in err
    assert "cannot be used: Is a directory" in err
    assert err.count("\n") == 1
    code, out, _ = run("doctor")
    assert code == 1
    assert "cannot be used" in out


def test_a_path_that_nobody_can_look_at_is_said_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Below another user's folder, say. Here a name that is too long for any, for root may look
    anywhere."""
    nowhere = str(tmp_path / ("x" * 300))
    code, _, err = run("backup", nowhere)
    assert (code, err.count("\n")) == (2, 1)
    assert "cannot be written: File name too long" in err
    monkeypatch.setenv("GATEWAY_DATA_DIR", nowhere)
    code, _, err = run("users", "list")
    assert (code, err.count("\n")) == (2, 1)
    code, out, _ = run("doctor")
    assert code == 1
    assert "FAILED  data directory  " in out
    assert "cannot be looked at: File name too long" in out


def test_a_port_that_is_taken_is_said_in_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run("serve", "--port", str(port))
    assert code == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in err


# --- operating -----------------------------------------------------------------------------


def _memory(user: str, text: str) -> str:
    return json.dumps(
        {
            "id": f"mem_{zlib.crc32(text.encode()):x}",
            "user": user,
            "app": "default",
            "kind": "fact",
            "type": "profile",
            "text": text,
            "importance": 0.5,
            "pinned": False,
            "status": "active",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-01-01T00:00:00Z",
            "valid_from": "2026-01-01T00:00:00Z",
            "source": {"role": "user", "via": "api"},
            "metadata": {},
        }
    )


@pytest.mark.usefixtures("either_way")
def test_a_users_memories_go_in_out_and_are_gone(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text(f"{_memory('mara', 'Lives in Lisbon')}\n\n{_memory('tom', 'Is a baker')}\n")
    assert run("users", "import", str(lines)) == (0, "default\tmara\t1\ndefault\ttom\t1\n", "")
    assert run("users", "list")[1].splitlines()[:2] == ["default\tmara", "default\ttom"]
    assert json.loads(run("users", "list", "--app", "default", "--json")[1])["users"][:2] == [
        {"app": "default", "user": "mara"},
        {"app": "default", "user": "tom"},
    ]

    code, out, _ = run("users", "export", "mara")
    assert code == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["Lives in Lisbon"]

    target = tmp_path / "out.ndjson"
    code, said, _ = run("users", "export", "mara", "-o", str(target), "--json")
    assert json.loads(said) == {"file": str(target), "memories": 1}
    assert target.read_text() == out
    assert target.stat().st_mode & 0o777 == 0o600
    (tmp_path / "taken").mkdir()
    assert run("users", "export", "mara", "-o", str(tmp_path / "taken"))[0] == 1
    assert not (tmp_path / "taken.partial").exists(), "nothing of hers is left lying about"

    code, said, _ = run("users", "erase", "mara", "--json")
    assert code == 0
    assert json.loads(said)["completed"] is True
    assert run("users", "export", "mara")[1] == ""
    assert run("users", "export", "tom")[1] != ""


@pytest.mark.usefixtures("either_way")
def test_an_export_of_a_name_that_nobody_has_is_empty_and_says_so(run: Run, tmp_path: Path) -> None:
    lines, target = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    lines.write_text(_memory("nobodys-sister", "Is a nurse"))
    assert run("users", "import", str(lines))[0] == 0
    note = "nobody named 'nobody' is known in app 'default': see `users list`\n"
    assert run("users", "export", "nobody") == (0, "", note)
    code, out, said = run("users", "export", "nobody", "-o", str(target), "--json")
    assert (code, json.loads(out)["memories"], said) == (0, 0, note)
    assert target.read_bytes() == b""

    assert run("users", "export", "nobodys-sister")[2] == ""
    assert "app 'elsewhere'" in run("users", "export", "nobodys-sister", "--app", "elsewhere")[2]

    past = {**json.loads(_memory("silent", "Is in town")), "expires_at": "2026-01-02T00:00:00Z"}
    lines.write_text(json.dumps(past))
    assert run("users", "import", str(lines))[0] == 0
    assert run("users", "export", "silent") == (0, "", ""), "known, with nothing to export"


@pytest.mark.usefixtures("either_way")
def test_an_erasure_of_a_name_that_nobody_has_says_so(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text(_memory("mara", "Lives in Lisbon"))
    assert run("users", "import", str(lines))[0] == 0
    code, out, said = run("users", "erase", "Mara", "--json")
    assert (code, json.loads(out)["counts"]) == (0, {})
    assert said == "nobody named 'Mara' is known in app 'default': see `users list`\n"
    assert run("users", "erase", "mara")[2] == ""


@pytest.mark.usefixtures("either_way")
def test_memories_can_be_imported_for_another_user_and_app(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text(_memory("mara", "Lives in Lisbon"))
    code, out, _ = run("users", "import", str(lines), "--user", "a/b", "--app", "eu", "--json")
    assert code == 0
    assert json.loads(out) == {"users": [{"app": "eu", "user": "a/b", "imported": 1}]}
    assert "Lisbon" in run("users", "export", "a/b", "--app", "eu")[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "line 1 is not JSON"),
        ('{"text": "x"}', "line 1 names no user; say whose it is with --user"),
        ("[]", "line 1 names no user"),
    ],
)
def test_a_file_that_is_no_export_is_refused(
    run: Run, tmp_path: Path, content: str, says: str
) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text(content)
    code, _, err = run("users", "import", str(lines))
    assert code == 2
    assert says in err


def test_what_the_gateway_refuses_is_said_in_its_words(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text('{"user": "mara", "kind": "nonsense"}')
    code, _, err = run("users", "import", str(lines))
    assert code == 2
    assert "line 1:" in err
    assert err.count("\n") == 1


def test_a_line_that_is_refused_is_named_by_its_place_in_the_file(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "in.ndjson"
    lines.write_text(_memory("mara", "Lives in Porto") + '\n\n{"user": "leo", "kind": "nonsense"}')
    code, _, err = run("users", "import", str(lines))
    assert code == 2
    assert "line 3: " in err


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("keys", "create", "--app", "the shop"), "app: an app's name has"),
        (("keys", "create", "--label", "x" * 201), "label: "),
        (("users", "export", "mara\nleo"), "user: a user's id has"),
        (("users", "erase", ".."), "'..' given; no user, app or id has this name"),
        (("users", "export", "mara", "--app", "."), "'.' given; no user"),
        (("keys", "revoke", ".."), "'..' given; no user"),
        (("users", "erase", "mara", "--app", "the shop"), "app: an app's name has"),
    ],
)
def test_what_could_be_done_nowhere_is_bad_usage(
    run: Run, words: tuple[str, ...], says: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("either_way")
def test_the_queue_is_told_and_retried(run: Run) -> None:
    code, out, _ = run("queue", "status", "--json")
    assert code == 0
    assert json.loads(out)["pending"] == 0
    assert "pending" in run("queue", "status")[1]
    assert run("queue", "dead") == (0, "", "")
    assert json.loads(run("--json", "queue", "dead")[1]) == {"dead": []}
    assert json.loads(run("queue", "retry", "--json")[1]) == {"retried": 0}
    code, _, err = run("queue", "retry", "nothing-of-this-name")
    assert code == 1
    assert "no dead letter" in err
    assert "`memory-gateway queue dead` lists them" in err


@pytest.mark.usefixtures("either_way")
def test_keys_are_made_listed_and_revoked(run: Run) -> None:
    code, out, err = run("keys", "create", "--app", "support", "--label", "the bot")
    assert code == 0
    assert out.startswith("mg_")
    assert out.count("\n") == 1
    assert "not shown again" in err
    (key,) = json.loads(run("keys", "list", "--json")[1])["keys"]
    assert (key["app"], key["label"], key["revoked_at"]) == ("support", "the bot", None)
    assert key["id"] in err
    assert out.strip() not in run("keys", "list")[1]
    assert run("keys", "revoke", key["id"])[0] == 0
    assert json.loads(run("keys", "list", "--json")[1])["keys"][0]["revoked_at"]
    assert run("keys", "revoke", "nothing-of-this-name")[0] == 1


@pytest.mark.usefixtures("either_way")
def test_the_audit_tells_what_was_done(run: Run) -> None:
    run("users", "erase", "zoe")
    code, out, _ = run("audit", "show", "--user", "zoe")
    assert code == 0
    assert "erase" in out
    entries = json.loads(run("audit", "show", "--limit", "1", "--json")[1])["entries"]
    assert [entry["user"] for entry in entries] == ["zoe"]


def test_without_the_admin_token_a_command_says_what_to_do(
    gateway: GatewayProcess, run: Run, data_dir: Path
) -> None:
    (data_dir / "admin.token").unlink()
    code, _, err = run("queue", "status")
    assert code == 1
    assert "GATEWAY_ADMIN__TOKEN" in err


@pytest.mark.parametrize("words", ["users list", "users export ana", "doctor"])
@pytest.mark.parametrize("begins", [False, True])
def test_a_gateway_that_ends_amid_a_command_is_said_in_one_line(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch, words: str, begins: bool
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN__TOKEN", "secret")
    data_dir.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

        def breaks() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65_536)
                        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf")

        if begins:
            listener.listen()
            threading.Thread(target=breaks, daemon=True).start()
        with announced(data_dir, f"http://127.0.0.1:{listener.getsockname()[1]}"):
            code, out, err = run(*words.split())
        listener.close()
    assert code == 1
    assert len([line for line in (out + err).splitlines() if "did not answer" in line]) == 1


def test_the_admin_token_of_the_settings_is_used(
    data_dir: Path, upstream: ScriptedUpstream, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN__TOKEN", "a-token-of-ones-own")
    with GatewayProcess(data_dir, upstream.base_url, admin__token="a-token-of-ones-own"):
        assert run("queue", "status")[0] == 0


# --- doctor --------------------------------------------------------------------------------


@pytest.mark.usefixtures("either_way")
def test_doctor_has_a_line_for_each_part_and_is_content(run: Run) -> None:
    code, out, _ = run("doctor")
    assert code == 0, out
    for part in ("settings", "data directory", "upstream", "store", "queue", "embedder"):
        assert any(part in line and not line.startswith("FAILED") for line in out.splitlines())


def test_doctor_says_what_is_wrong_with_the_upstream_and_how_to_mend_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_UPSTREAM__BASE_URL", "http://us:hunter2secret@127.0.0.1:9/v1")
    code, out, _ = run("doctor", "--json")
    assert code == 1
    assert "hunter2secret" not in out
    told = json.loads(out)
    (upstream,) = [check for check in told["checks"] if check["name"] == "upstream"]
    assert upstream["status"] == "failed"
    assert "does not answer" in upstream["detail"]
    assert "upstream.base_url" in upstream["mend"]


def test_doctor_asks_a_gateway_that_runs_for_the_upstream_that_it_has(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch, upstream: ScriptedUpstream
) -> None:
    nobody = "http://127.0.0.1:9/v1"

    def told() -> tuple[int, dict[str, tuple[str, str, str]]]:
        code, out, _ = run("doctor", "--json")
        checks = json.loads(out)["checks"]
        return code, {c["name"]: (c["status"], c["detail"], c["mend"]) for c in checks}

    with GatewayProcess(data_dir, upstream.base_url) as running:
        monkeypatch.setenv("GATEWAY_UPSTREAM__BASE_URL", nobody)
        code, checks = told()
        assert code == 1
        assert checks["settings"][1].endswith("the gateway that runs may have others)")
        assert checks["upstream"][:2] == ("ok", "answers the gateway that runs")
        assert checks["upstream as set here"][0] == "failed"
        assert nobody in checks["upstream as set here"][1]

        running.stop()
        running.change(upstream__base_url=nobody)
        running.start()
        monkeypatch.setenv("GATEWAY_UPSTREAM__BASE_URL", upstream.base_url)
        code, checks = told()
        assert code == 1
        assert (checks["upstream"][0], checks["upstream as set here"][0]) == ("failed", "ok")
        assert "upstream.base_url" in checks["upstream"][2]

    code, checks = told()
    assert (code, checks["upstream"][0]) == (0, "ok"), "as a start from here would have it"
    assert "upstream as set here" not in checks


def test_doctor_says_which_setting_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_MEMORY__PLACEMENT", "top")
    code, out, _ = run("doctor")
    assert code == 1
    assert "memory.placement" in out


def test_doctor_says_when_others_may_read_the_data(run: Run, data_dir: Path) -> None:
    data_dir.mkdir()
    data_dir.chmod(0o755)
    code, out, _ = run("doctor")
    assert code == 1
    assert "chmod 700" in out


def test_doctor_says_when_a_servers_stores_are_away(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_QDRANT__URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GATEWAY_REDIS__URL", "redis://127.0.0.1:9")
    code, out, _ = run("doctor", "--json")
    assert code == 1
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert checks["store"]["status"] == checks["queue"]["status"] == "failed"
    assert "Qdrant at http://127.0.0.1:9 does not answer" in checks["store"]["detail"]
    assert checks["upstream"]["status"] == "ok"


@pytest.mark.parametrize(
    ("told", "status", "words"),
    [
        ({"redis_version": "7.0.15", "maxmemory_policy": "noeviction"}, "ok", "7.0.15"),
        ({"redis_version": "7.0.15", "aof_enabled": 0}, "ok", "append-only file is off"),
        ({"redis_version": "6.0.16"}, "failed", "6.2 or newer"),
        ({"redis_version": "8.2.0", "maxmemory_policy": "volatile-lru"}, "failed", "noeviction"),
    ],
)
def test_doctor_says_of_a_redis_that_loses_what_it_is_given_what_to_set(
    told: dict[str, object], status: str, words: str
) -> None:
    check = doctor._redis_said(told)
    assert check.status == status
    assert words in check.detail + check.mend


async def test_doctor_says_whether_there_are_keys_to_check_tokens_with() -> None:
    async with issuer() as published:
        settings = Settings.model_validate({"identity": {"mode": "jwt", "jwks_url": published.url}})
        (check,) = [check async for check in doctor._issuers(settings)]
        assert (check.name, check.status) == ("identity", "ok")
        published.status = 404
        (check,) = [check async for check in doctor._issuers(settings)]
    assert check.status == "failed"
    assert "it answers 404" in check.detail


@pytest.mark.parametrize("url", ["redis://127.0.0.1:9", "redis+cluster://127.0.0.1:9", "ftp://a"])
async def test_of_a_redis_that_says_nothing_of_itself_doctor_leaves_it_to_its_parts(
    url: str,
) -> None:
    servers = {"qdrant": {"url": "http://127.0.0.1:9"}, "redis": {"url": url}}
    assert [check async for check in doctor._redis(Settings.model_validate(servers))] == []


class _StillLoading:
    """A gateway whose model is looked for, and goes on being looked for."""

    async def parts(self) -> dict[str, dict[str, str]]:
        return {"store": {"status": "ok"}, "embedder": {"status": "loading", "note": "a model"}}


@pytest.mark.parametrize(("provider", "status"), [("auto", "off"), ("fastembed", "failed")])
async def test_doctor_does_not_wait_for_a_model_that_nobody_gives_it(
    provider: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(doctor, "QUICK_S", 0.01)
    settings = Settings.model_validate(
        {"data_dir": str(tmp_path), "embedding": {"provider": provider}}
    )
    async with asyncio.timeout(20):
        parts = await doctor._settled(cast("Any", _StillLoading()), settings)
    assert parts["store"] == {"status": "ok"}
    assert parts["embedder"]["status"] == status
    assert "http://127.0.0.1:9 does not answer" in parts["embedder"]["reason"]
    assert "embedding.model_path" in parts["embedder"]["reason"]


async def test_doctor_waits_for_a_model_that_was_fetched_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    settings = Settings.model_validate({"data_dir": str(tmp_path)})
    assert await doctor._hub_away(settings) is not None
    (tmp_path / "models" / "mini").mkdir(parents=True)
    (tmp_path / "models" / "mini" / "model.onnx").touch()
    assert await doctor._hub_away(settings) is None


# --- demo ----------------------------------------------------------------------------------


def test_the_demo_shows_session_two_using_session_one_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    code, out, err = run("demo", "--json")
    assert code == 0, out + err
    story: dict[str, Any] = json.loads(out)
    assert {fact["text"] for fact in story["learned"]} >= {"Lives in Lisbon"}
    assert "peanuts" in story["injected"]
    assert "no peanuts" in story["answer"]
    assert story["injected_for_another"] == ""
    assert list(scratch.iterdir()) == []
    assert not data_dir.exists()


def test_the_demo_tells_its_story_to_people(run: Run) -> None:
    code, out, _ = run("demo")
    assert code == 0
    for heading in ("Session one", "What was learned", "Session two", "Another user"):
        assert heading in out
    readme = Path(__file__).parents[1].joinpath("README.md").read_text()
    shown = readme.partition("```\n- [")[2].partition("```")[0].splitlines()
    assert len(shown) == 5
    for line in shown:
        assert line.removeprefix("- [") in out


def test_a_large_import_goes_in_parts_that_a_request_may_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operating, "PART_LINES", 3)
    monkeypatch.setattr(operating, "PART_BYTES", 10)
    lines = [b"1", b"2", b"3", b"4", b"55555", b"666666", b"a line that is longer", b"8"]
    parts = list(operating._parts(lines))
    assert parts == [[b"1", b"2", b"3"], [b"4", b"55555"], [b"666666"], [lines[6]], [b"8"]]
    assert list(operating._parts([])) == []
