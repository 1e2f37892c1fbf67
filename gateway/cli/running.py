"""Finding the gateway that runs on a data directory, and talking to one either way.

A serving gateway holds a kernel lock on `gateway.json` and writes its address there, so that a
file left by a killed one is never mistaken for a running one (whose port may be another
program's by now). Where none runs, the command opens the stores itself and speaks to the same
admin API in its own process: there is one way of doing things.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli import Failed
from gateway.config import Settings

if TYPE_CHECKING:
    import httpx

FILE = "gateway.json"
TOKEN_FILE = "admin.token"  # noqa: S105 - a file name
_AS_ASKED = (400, 413, 422)
"""Refused for what was asked, whatever there is: bad usage."""
TIMEOUT_S = 300.0
"""An erasure or a large import may take long; a person can interrupt."""


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves now, on this machine."""

    url: str
    pid: int


@contextlib.contextmanager
def announced(data_dir: Path, url: str) -> Iterator[None]:
    """While inside, `find` leads here. Where another gateway (server mode) is announced for
    this directory already, or it cannot be written, nothing is: commands open the stores."""
    try:
        fd = os.open(data_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"url": url, "pid": os.getpid()}).encode(), 0)
        yield
    finally:
        os.close(fd)


def find(data_dir: Path) -> Running | None:
    """The gateway that serves on this data directory, if one does."""
    try:
        fd = os.open(data_dir / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(ValueError, KeyError):
            said = json.loads(os.read(fd, 4096))
            return Running(said["url"], said["pid"])
    finally:
        os.close(fd)
    return None


class Admin:
    """The admin API (`/admin/v1`) of one gateway. Raises Failed, in the gateway's own words."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **params: Any) -> Any:
        given = {name: value for name, value in params.items() if value is not None}
        return (await self._ask("GET", path, params=given)).json()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return (await self._ask("POST", path, json=body)).json()

    async def post_lines(self, path: str, lines: bytes) -> Any:
        headers = {"content-type": "application/x-ndjson"}
        return (await self._ask("POST", path, content=lines, headers=headers)).json()

    async def delete(self, path: str) -> Any:
        answer = await self._ask("DELETE", path)
        return answer.json() if answer.content else {}

    async def parts(self) -> Mapping[str, Any]:
        """What of the gateway is up and what is not, part by part (`/readyz`)."""
        with self._answering():
            parts: Mapping[str, Any] = (await self._client.get("/readyz")).json()["parts"]
            return parts

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The body of an answer as it comes."""
        with self._answering():
            async with self._client.stream("GET", f"/admin/v1{path}") as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    raise _failed(answer)
                async for part in answer.aiter_bytes():
                    yield part

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._answering():
            answer = await self._client.request(method, f"/admin/v1{path}", **options)
        if answer.is_error:
            raise _failed(answer)
        return answer

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """A gateway that is ending, or ends amid its answer, is said in a line."""
        import httpx

        try:
            yield
        except httpx.HTTPError as exc:
            raise Failed(
                f"the gateway at {self._client.base_url} did not answer ({type(exc).__name__});"
                " try again, or stop it to work on its data directly"
            ) from exc


def _failed(answer: httpx.Response) -> Failed:
    code = 2 if answer.status_code in _AS_ASKED else 1
    try:
        return Failed(str(answer.json()["error"]["message"]), code=code)
    except (ValueError, KeyError, TypeError):
        return Failed(f"the gateway answered HTTP {answer.status_code}", code=code)


@contextlib.asynccontextmanager
async def admin(settings: Settings, *, replaces_model: bool = False) -> AsyncIterator[Admin]:
    """The running gateway's admin API, or that of stores opened here and now.

    Raises SettingsError, Failed.
    """
    import httpx

    running = find(settings.data_dir)
    if running is not None:
        headers = {"authorization": f"Bearer {_token(settings)}"}
        async with httpx.AsyncClient(
            base_url=running.url, headers=headers, timeout=TIMEOUT_S, trust_env=False
        ) as client:
            yield Admin(client)
        return
    from gateway.asgi import GatewayApp

    app = GatewayApp(settings, worker=False, replaces_model=replaces_model)
    try:
        await app.open()
        token = app.deployment.admin_token if app.deployment else ""
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            headers={"authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        ) as client:
            yield Admin(client)
    finally:
        await app.close()


def _token(settings: Settings) -> str:
    if settings.admin.token is not None:
        return settings.admin.token.get_secret_value()
    path = settings.data_dir / TOKEN_FILE
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise Failed(
            f"a gateway is running, but its admin token cannot be read from {path}: run this as"
            " the user that runs the gateway, or set GATEWAY_ADMIN__TOKEN"
        ) from exc
