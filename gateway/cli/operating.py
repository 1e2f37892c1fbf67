"""What operators do from the command line: users, queue, keys, audit, by the admin API."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway import config
from gateway.cli import Failed
from gateway.cli.running import Admin, admin
from gateway.cli.shown import agreed, bar, show_json, show_pairs, show_rows
from gateway.telemetry import logs

PART_LINES = 1000
PART_BYTES = 8 * 2**20

Asked = argparse.Namespace


@asynccontextmanager
async def _opened(asked: Asked) -> AsyncIterator[Admin]:
    settings = config.load(asked.config)
    # A command's own output is what counts; of the parts it opens, only trouble is said.
    logs.configure("warning", settings.log.format)
    async with admin(settings) as opened:
        yield opened


def _run(asked: Asked, work: Callable[[Admin], Awaitable[int]]) -> int:
    async def whole() -> int:
        async with _opened(asked) as opened:
            return await work(opened)

    return asyncio.run(whole())


def _of(app: str, user: str, rest: str = "") -> str:
    return f"/apps/{_segment(app)}/users/{_segment(user)}/memories{rest}"


def _segment(name: str) -> str:
    """A name as a part of a path. Two are none's: the client would take them out, and what
    comes before with them."""
    if name in (".", ".."):
        raise Failed(f"{name!r} given; no user, app or id has this name", code=2)
    return quote(name, safe="")


# --- users -----------------------------------------------------------------------------------


def list_users(asked: Asked) -> int:
    """Everyone known, a page at a time."""

    async def work(api: Admin) -> int:
        users: list[dict[str, Any]] = []
        after = None
        while True:
            page = (await api.get("/users", app=asked.app, after=after, limit=1000))["users"]
            users += page
            if len(page) < 1000:
                break
            last = page[-1]
            after = last["user"] if asked.app else f"{last['app']}/{last['user']}"
        if asked.json:
            show_json({"users": users})
        else:
            show_rows(users, {"app": "APP", "user": "USER"}, none="nobody is known yet")
        return 0

    return _run(asked, work)


def export_user(asked: Asked) -> int:
    """Everything remembered of a user, as lines of JSON."""

    async def work(api: Admin) -> int:
        lines = api.lines(_of(asked.app, asked.user, "/export"))
        if asked.output is None:
            size = 0
            async for part in lines:
                size += sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        else:
            whole = b"".join([part async for part in lines])
            size = len(whole)
            _write_private(asked.output, whole)
            _done(asked, {"file": str(asked.output), "memories": whole.count(b"\n")})
        if not size and not await _is_known(api, asked.app, asked.user):
            # An empty file of a name that was misspelt would pass for a backup.
            print(_nobody(asked), file=sys.stderr)
        return 0

    return _run(asked, work)


def _nobody(asked: Asked) -> str:
    return f"nobody named {asked.user!r} is known in app {asked.app!r}: see `users list`"


async def _is_known(api: Admin, app: str, user: str) -> bool:
    """Of the names that begin with a user's, the user's own is the first."""
    first = (await api.get("/users", app=app, prefix=user, limit=1))["users"]
    return any(each["user"] == user for each in first)


def export_recordings(asked: Asked) -> int:
    """A user's recorded recalls with the memories that they looked through: a line for `replay`."""

    async def work(api: Admin) -> int:
        whole = b"".join([part async for part in api.lines(_of(asked.app, asked.user, "/export"))])
        of_user = _of(asked.app, asked.user).removesuffix("/memories")
        kept = (await api.get(f"{of_user}/receipts", limit=500))["receipts"]
        recalls = [_recording(receipt) for receipt in kept if receipt.get("recorded")]
        if not recalls:
            raise Failed(
                f"no recall of {asked.user!r} is recorded: set receipts.record, and have the"
                " user chat"
            )
        memories = [json.loads(line) for line in whole.splitlines() if line.strip()]
        row = {"user": asked.user, "app": asked.app, "memories": memories, "recalls": recalls}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        if asked.output is None:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return 0
        _write_private(asked.output, line)
        _done(asked, {"file": str(asked.output), "recalls": len(recalls)})
        return 0

    return _run(asked, work)


def _recording(receipt: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "at", "query", "before", "as_of", "timezone", "latency_ms", "recorded")
    return {name: receipt.get(name) for name in names}


def _write_private(path: Path, content: bytes) -> None:
    """What a person said is for nobody else to read: 0600, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.touch(mode=0o600)
        partial.write_bytes(content)
        partial.rename(path)
    except OSError as exc:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise Failed(f"{path} cannot be written: {exc.strerror}") from exc


def import_users(asked: Asked) -> int:
    """Take exported lines back, each to the user that it names."""
    by_user = _sorted_by_user(_read_lines(asked.file), asked.app, asked.user)

    async def work(api: Admin) -> int:
        counts = []
        with bar("memories", sum(len(lines) for lines in by_user.values())) as advance:
            for (app, user), numbered in by_user.items():
                imported = done = 0
                for part in _parts([line for _, line in numbered]):
                    try:
                        answer = await api.post_lines(_of(app, user, "/import"), b"\n".join(part))
                    except Failed as exc:
                        raise _of_file(exc, [number for number, _ in numbered[done:]]) from None
                    imported += answer["imported"]
                    done += len(part)
                    advance(len(part))
                counts.append({"app": app, "user": user, "imported": imported})
        if asked.json:
            show_json({"users": counts})
        else:
            columns = {"app": "APP", "user": "USER", "imported": "MEMORIES"}
            show_rows(counts, columns, none="the file holds no memories")
        return 0

    return _run(asked, work)


def _parts(lines: list[bytes]) -> Iterator[list[bytes]]:
    """As many lines at a time as one request may hold. What was brought back before one that is
    refused stays; bringing it back again changes nothing."""
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) == PART_LINES or size + len(line) > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


def _of_file(refused: Failed, numbers: list[int]) -> Failed:
    """The gateway counts the lines of one request; who is to mend the file counts the file's."""
    here = re.match(r"line (\d+)\b", str(refused))
    if here is None:
        return refused
    return Failed(
        f"line {numbers[int(here[1]) - 1]}{str(refused)[here.end() :]}", code=refused.code
    )


def _read_lines(name: str) -> list[bytes]:
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise Failed(f"{name} cannot be read: {exc.strerror}", code=2) from exc
    return raw.splitlines()


def _sorted_by_user(
    lines: list[bytes], app: str | None, user: str | None
) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
    """Each user's lines, with their numbers in the file."""
    by_user: dict[tuple[str, str], list[tuple[int, bytes]]] = defaultdict(list)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise Failed(
                f"line {number} is not JSON; `users export` writes such files", code=2
            ) from exc
        named = row if isinstance(row, dict) else {}
        whose = (app or named.get("app") or "default", user or named.get("user"))
        if not isinstance(whose[0], str) or not isinstance(whose[1], str) or not whose[1]:
            raise Failed(f"line {number} names no user; say whose it is with --user", code=2)
        by_user[whose[0], whose[1]].append((number, line))
    return by_user


def erase_user(asked: Asked) -> int:
    """Erase a user, at once and for good."""
    question = f"Erase everything of {asked.user!r} in app {asked.app!r}?"
    if sys.stdin.isatty() and sys.stdout.isatty() and not (asked.yes or agreed(question)):
        raise Failed("nothing was erased")

    async def work(api: Admin) -> int:
        receipt = await api.delete(_of(asked.app, asked.user))
        if asked.json:
            show_json(receipt)
        else:
            show_pairs({"erasure": receipt["id"], **receipt["counts"]})
        if receipt["completed"] and not receipt["counts"]:
            # The receipt of a name that was misspelt would pass for that of the one who asked.
            print(_nobody(asked), file=sys.stderr)
        if not receipt["completed"]:
            raise Failed(
                f"erasure {receipt['id']} is not complete yet; the gateway goes on with it"
            )
        return 0

    return _run(asked, work)


# --- queue -----------------------------------------------------------------------------------


def queue_status(asked: Asked) -> int:
    """How much waits, and how long."""

    async def work(api: Admin) -> int:
        _done(asked, await api.get("/queue"))
        return 0

    return _run(asked, work)


def queue_dead(asked: Asked) -> int:
    """What could not be distilled after its last try."""

    async def work(api: Admin) -> int:
        dead = await api.get("/queue/dead", limit=1000)
        if asked.json:
            show_json(dead)
        else:
            columns = {
                "id": "ID",
                "app": "APP",
                "user": "USER",
                "at": "AT",
                "tries": "TRIES",
                "exchanges": "EXCHANGES",
                "reason": "REASON",
            }
            show_rows(dead["dead"], columns, none="there are no dead letters")
        return 0

    return _run(asked, work)


def queue_retry(asked: Asked) -> int:
    """Put one dead letter, or all, back in line."""

    async def work(api: Admin) -> int:
        _done(asked, await api.post("/queue/retry", {"id": asked.id} if asked.id else {}))
        return 0

    return _run(asked, work)


# --- keys and audit --------------------------------------------------------------------------


def create_key(asked: Asked) -> int:
    """Make a gateway key. Its text is all that is on stdout, for a script to catch."""

    async def work(api: Admin) -> int:
        key = await api.post(
            "/keys",
            {
                "app": asked.app,
                "label": asked.label,
                "requests_per_minute": asked.requests_per_minute,
                "tokens_per_minute": asked.tokens_per_minute,
            },
        )
        if asked.json:
            show_json(key)
        else:
            print(key["key"])
            note = f"key {key['id']} for app {key['app']!r}; it is not shown again"
            print(note, file=sys.stderr)
        return 0

    return _run(asked, work)


def list_keys(asked: Asked) -> int:
    """Gateway keys, without their secrets."""

    async def work(api: Admin) -> int:
        keys = await api.get("/keys")
        if asked.json:
            show_json(keys)
        else:
            columns = {
                "id": "ID",
                "app": "APP",
                "label": "LABEL",
                "created_at": "CREATED",
                "revoked_at": "REVOKED",
            }
            show_rows(keys["keys"], columns, none="there are no keys")
        return 0

    return _run(asked, work)


def revoke_key(asked: Asked) -> int:
    """Refuse a key from now on."""

    async def work(api: Admin) -> int:
        await api.delete(f"/keys/{_segment(asked.id)}")
        _done(asked, {"revoked": asked.id})
        return 0

    return _run(asked, work)


def show_audit(asked: Asked) -> int:
    """Who did what to whose memory, newest first."""

    async def work(api: Admin) -> int:
        entries = await api.get(
            "/audit", app=asked.app, user=asked.user, limit=min(asked.limit, 1000)
        )
        if asked.json:
            show_json(entries)
        else:
            columns = {"at": "AT", "by": "BY", "action": "ACTION", "app": "APP", "user": "USER"}
            show_rows(entries["entries"], columns, none="nothing was done yet")
        return 0

    return _run(asked, work)


def _done(asked: Asked, answer: dict[str, Any]) -> None:
    show_json(answer) if asked.json else show_pairs(answer)
