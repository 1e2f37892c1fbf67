"""Log lines: one stream, no secret ever, no conversation unless asked for."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from uvicorn import Server
from uvicorn.protocols.http import httptools_impl

from gateway.core.errors import StoreUnavailable
from gateway.telemetry import logs

Lines = Callable[[], list[dict[str, Any]]]


pytestmark = pytest.mark.usefixtures("own_log")


def _json_log(**options: Any) -> Lines:
    sink = io.StringIO()
    logs.configure(options.pop("level", "info"), "json", stream=sink, **options)
    return lambda: [json.loads(line) for line in sink.getvalue().splitlines()]


def test_a_json_line_has_time_level_room_event_and_its_keywords() -> None:
    lines = _json_log()
    logs.log("recall").info("recalled", count=3)
    (line,) = lines()
    assert line["at"].endswith("Z")
    assert {k: line[k] for k in ("level", "logger", "event", "count")} == {
        "level": "info",
        "logger": "recall",
        "event": "recalled",
        "count": 3,
    }


def test_a_console_line_is_readable_and_without_colours_away_from_a_terminal() -> None:
    sink = io.StringIO()
    logs.configure("info", "console", stream=sink)
    logs.log("serve").warning("part_away", part="store")
    assert "part_away" in sink.getvalue()
    assert "part=store" in sink.getvalue()
    assert "\x1b" not in sink.getvalue()


@pytest.mark.parametrize("wanted", [True, False])
def test_a_terminal_has_colours_where_they_are_wanted(wanted: bool) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    sink = Terminal()
    logs.allow_colours(wanted)
    try:
        logs.configure("info", "console", stream=sink)
        logs.log("serve").warning("part_away", part="store")
    finally:
        logs.allow_colours(True)
    assert ("\x1b" in sink.getvalue()) is wanted


def test_below_the_level_nothing_is_said() -> None:
    lines = _json_log(level="warning")
    logs.log("x").info("quiet")
    logging.getLogger("elsewhere").info("quiet too")
    assert lines() == []


def test_the_standard_logging_of_others_comes_out_the_same_way() -> None:
    lines = _json_log()
    logging.getLogger("elsewhere").info("Started part [%d]", 7)
    logging.getLogger("uvicorn.error").warning("Invalid request of %s", "somebody's")
    part, server = lines()
    assert part["event"] == "Started part [7]"
    assert part["logger"] == "elsewhere"
    assert server["event"] == "Invalid request of somebody's"
    assert server["logger"] == "uvicorn.error"


def test_of_what_we_say_ourselves_the_server_says_nothing() -> None:
    """An answer left unfinished on purpose, answers cut off by an end, its coming and going."""
    for _ in range(2):  # configured again, too
        lines = _json_log()
    cycle = httptools_impl.RequestResponseCycle.run_asgi.__code__
    assert logs.UNFINISHED in cycle.co_consts, "the words are uvicorn's own"
    logging.getLogger("uvicorn.error").error(logs.UNFINISHED)
    assert logs.CANCELLED in Server.shutdown.__code__.co_consts
    logging.getLogger("uvicorn.error").error(logs.CANCELLED, 3)
    left = asyncio.CancelledError()
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=left)
    logging.getLogger("uvicorn.error").info("Shutting down")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\n")
    assert [line["event"].strip() for line in lines()] == ["Exception in ASGI application"]


def test_clients_that_debug_whole_requests_are_kept_quiet() -> None:
    lines = _json_log(level="debug")
    logging.getLogger("openai._base_client").debug("Request options: %s", {"content": "hi"})
    logging.getLogger("httpx").info("HTTP Request: POST http://x/?q=words")
    for core in ("httpcore.http11", "httpcore2.http11"):
        logging.getLogger(core).debug("receive_response_headers.complete [(b'Set-Cookie', b'id')]")
    assert lines() == []


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop",
        "mg_k1_0123456789abcdef",
        "Bearer abcdef.0123456789",
        "redis://user:hunter2secret@db:6379",
        "https://user:hun@hunter2secret@db:6379",
        "https://hunter2secret@db:6379",
        "redis+sentinel://one/house?sentinel_username=us&sentinel_password=hunter2secret",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2lnbmF0dXJl",
    ],
)
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    lines = _json_log(content=True)
    logs.log("x").error(f"failed with {secret}", detail={"url": f"<{secret}>"}, parts=[secret])
    logging.getLogger("other").error("failed with %s", secret)
    said = json.dumps(lines())
    for part in ("abcdef", "0123456789", "hunter2secret", "c2lnbmF0dXJl"):
        assert part not in said


def test_known_secret_fields_are_left_out_by_name() -> None:
    lines = _json_log(content=True)
    logs.log("x").info("seen", headers={"Authorization": "weird-form", "X-Memory-Key": "v"})
    assert lines()[0]["headers"] == {"Authorization": "(left out)", "X-Memory-Key": "(left out)"}


def test_conversation_fields_are_left_out_unless_asked_for() -> None:
    lines = _json_log()
    logs.log("x").info("seen", text="I live in Lyon", body={"a": 1}, count=2, memories=3)
    assert lines()[0]["text"] == lines()[0]["body"] == "(left out)"
    assert (lines()[0]["count"], lines()[0]["memories"]) == (2, 3)
    lines = _json_log(content=True)
    logs.log("x").info("seen", text="I live in Lyon")
    assert lines()[0]["text"] == "I live in Lyon"


def test_a_traceback_shows_where_but_not_the_words_of_a_foreign_error() -> None:
    lines = _json_log()
    said_by_user = "I live in Lyon"
    try:
        int(said_by_user)
    except ValueError:
        logs.log("x").exception("broke")
    (line,) = lines()
    assert "test_logs.py" in line["exception"]
    assert "ValueError" in line["exception"]
    assert "live in" not in json.dumps(line)


def test_a_traceback_keeps_the_words_of_our_own_errors_and_their_chain() -> None:
    lines = _json_log()
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as exc:
            raise StoreUnavailable("Qdrant does not answer: is it running?") from exc
    except StoreUnavailable:
        logs.log("x").exception("broke")
    said = lines()[0]["exception"]
    assert said.index("Connection refused") < said.index("Qdrant does not answer")


def test_an_error_as_a_keyword_is_told_without_foreign_words() -> None:
    lines = _json_log()
    logs.log("x").warning("broke", error=ValueError("I live in Lyon"))
    assert "Lyon" not in json.dumps(lines())
    assert "ValueError" in lines()[0]["error"]


def test_the_words_of_a_lost_asyncio_task_stay_out() -> None:
    lines = _json_log()
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task exception=ValueError('Lyon')>"
    )
    assert "Lyon" not in json.dumps(lines())


def test_a_context_bound_to_a_request_is_on_each_of_its_lines() -> None:
    lines = _json_log()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logs.log("x").info("one")
    logs.log("x").info("two")
    assert [line.get("request_id") for line in lines()] == ["r1", None]


def test_a_failure_that_repeats_is_said_once_and_its_end_too() -> None:
    lines = _json_log()
    now = [100.0]
    outage = logs.Outage(logs.log("x"), "store", clock=lambda: now[0])
    for _ in range(5):
        outage.failed(StoreUnavailable("away"))
    assert outage.ongoing
    now[0] += logs.STEADY_S
    outage.recovered()
    outage.recovered()
    assert [(line["event"], line.get("after_failures")) for line in lines()] == [
        ("part_failing", None),
        ("part_back", 5),
    ]


def test_a_part_that_answers_and_fails_in_turns_has_one_outage() -> None:
    lines = _json_log()
    now = [100.0]
    outage = logs.Outage(logs.log("x"), "state", clock=lambda: now[0])
    for _ in range(10):
        outage.failed("breaks off")
        now[0] += 0.4 * logs.STEADY_S
        outage.recovered()
    now[0] += logs.STEADY_S
    outage.recovered()
    outage.failed("away again")
    assert [(line["event"], line.get("after_failures")) for line in lines()] == [
        ("part_failing", None),
        ("part_back", 10),
        ("part_failing", None),
    ]


def test_a_long_outage_is_said_again_after_a_while() -> None:
    lines = _json_log()
    outage = logs.Outage(logs.log("x"), "store", remind_s=0.0)
    outage.failed("away")
    outage.failed("away")
    assert [line["times"] for line in lines()] == [1, 2]


def test_what_happened_is_named_by_one_word_for_whoever_searches_for_it() -> None:
    said = re.compile(r"""log(?:\(\S+\))?\.(?:debug|info|warning|error)\(\s*"([^"]*)\"""")
    package = Path(logs.__file__).parent.parent
    events = [event for path in package.rglob("*.py") for event in said.findall(path.read_text())]
    assert len(events) > 40
    assert [event for event in events if not re.fullmatch(r"[a-z]+(_[a-z]+)*", event)] == []


def test_setting_it_up_again_does_not_double_the_lines() -> None:
    _json_log()
    lines = _json_log()
    logs.log("x").info("once")
    assert len(lines()) == 1


def test_whether_a_level_is_said_can_be_asked_first() -> None:
    logs.configure("warning", "json", stream=io.StringIO())
    assert not logs.is_said("info")
    assert logs.is_said("error")
    logs.configure("info", "json", stream=io.StringIO())
    assert logs.is_said("info")
