"""Every example in docs/api.md, run in its order against a gateway; and none is missing."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.core.keys import verify_signature
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.web import openapi
from tests.web.house import ADMIN_TOKEN, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "api.md"
WEB = TOP / "gateway" / "web"
EXAMPLE = re.compile(
    r"```http\n(?P<request>.*?)```\s+```(?P<form>json|ndjson) (?P<status>\d{3})"
    r"(?: (?P<header>[\w-]+)=(?P<name>\$\w+))?\n(?P<answer>.*?)```",
    re.DOTALL,
)
COMMANDS = {"/admin/v1/backup", "/admin/v1/reembed"}
"""Calls that commands make of a whole gateway, shown and tested where the commands are."""
ANY = "…"
MORE = "… more"


@dataclass(frozen=True)
class Example:
    method: str
    target: str
    headers: dict[str, str]
    body: str
    status: int
    answers: list[Any]
    header: tuple[str, str] | None


def examples() -> list[Example]:
    return [_read(found) for found in EXAMPLE.finditer(PAGE.read_text("utf-8"))]


def _read(found: re.Match[str]) -> Example:
    head, _, body = found["request"].partition("\n\n")
    first, *rest = head.strip().splitlines()
    method, target = first.split(" ")
    answer = re.sub(r"…\s*}", f'"{MORE}": null}}', found["answer"].strip())
    whole = answer.splitlines() if found["form"] == "ndjson" else [answer] if answer else []
    return Example(
        method=method,
        target=target,
        headers=dict(line.split(": ", 1) for line in rest),
        body=body.strip(),
        status=int(found["status"]),
        answers=[json.loads(part) for part in whole],
        header=(found["header"], found["name"]) if found["header"] else None,
    )


def fits(shown: Any, given: Any, known: dict[str, str], where: str = "answer") -> None:
    """What is shown fits what was given; names that are new are learnt."""
    if shown == ANY:
        return
    if isinstance(shown, str) and shown.startswith("$"):
        assert isinstance(given, str)
        assert known.setdefault(shown, given) == given, f"{where}: {shown}"
    elif isinstance(shown, dict):
        assert isinstance(given, dict), where
        wanted = shown.keys() - {MORE}
        assert wanted <= given.keys(), f"{where}: {wanted - given.keys()} missing"
        if MORE not in shown and shown:
            assert wanted == given.keys(), f"{where}: {given.keys() - wanted} not shown"
        for name in wanted:
            fits(shown[name], given[name], known, f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(given, list), where
        assert len(shown) == len(given), where
        for n, (one, other) in enumerate(zip(shown, given, strict=True)):
            fits(one, other, known, f"{where}[{n}]")
    else:
        assert shown == given, where


def named(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$[A-Z]+", lambda found: known[found[0]], text)


async def test_every_example_answers_as_it_is_shown(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    known = {"$ADMIN": ADMIN_TOKEN}
    async with house(tmp_path, upstream.base_url, redis) as gateway, gateway.client() as client:
        for example in examples():
            gateway.now += 1
            answer = await client.request(
                example.method,
                named(example.target, known),
                headers={name: named(value, known) for name, value in example.headers.items()},
                content=named(example.body, known).encode() or None,
            )
            await gateway.background.drain(5)
            where = f"{example.method} {example.target}"
            assert answer.status_code == example.status, f"{where}: {answer.text}"
            if example.header is not None:
                known[example.header[1]] = answer.headers[example.header[0]]
            given = [json.loads(line) for line in answer.text.splitlines()]
            if not example.answers:
                assert answer.content == b"", where
            elif len(example.answers) == 1:
                fits(example.answers[0], answer.json(), known, where)
            else:
                fits(example.answers, given, known, where)


def test_every_call_has_its_example() -> None:
    shown = {(e.method, e.target.partition("?")[0]) for e in examples()}
    own = [(o.method.upper(), path) for path, o in openapi.operations()]
    of_users = "/admin/v1/apps/{app}/users/{user}"
    for method, path in own:
        as_user = path.replace(of_users, "/v1")
        if as_user != path and (method, as_user) in own:
            continue  # the same call, by another way in
        if path in COMMANDS:
            continue
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
        assert any(m == method and pattern.fullmatch(target) for m, target in shown), (method, path)


def test_every_memory_header_is_explained_and_each_of_the_page_exists() -> None:
    code = "".join(path.read_text("utf-8") for path in WEB.rglob("*.py"))
    header = re.compile(r"x-memory(?:-[a-z]+)+", re.IGNORECASE)
    known = {name.title() for name in header.findall(code)}
    assert set(header.findall(PAGE.read_text("utf-8"))) == known
    assert len(known) >= 16


def test_a_signature_made_as_the_page_shows_is_accepted() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    shown: dict[str, Any] = {}
    exec(example, shown)
    verify_signature(shown["signature"]("s3cret", "ana"), "s3cret", "default", "ana", time.time())
