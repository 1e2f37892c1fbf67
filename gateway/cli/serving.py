"""Running the gateway: one process, several on one port, or a worker; and ending them well.

Everything is opened before the first connection is accepted, so that what stops a start is
said in one line. SIGTERM, Ctrl-C and a terminal that closes (SIGHUP): accept no more, let open
streams finish within `server.grace_s`, hand over what was said, close every part.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
import uvloop

from gateway import config
from gateway.asgi import Asgi, GatewayApp
from gateway.cli import Failed
from gateway.cli.garbage import collected_by_the_loop
from gateway.cli.listening import BACKLOG, begin_to_listen, listen, url_of
from gateway.cli.running import announced
from gateway.cli.supervising import end_with_parent, supervise
from gateway.config import Settings
from gateway.core.errors import SettingsError
from gateway.flows.tasks import beside
from gateway.telemetry import logs
from gateway.web.protocol import GatewayHttpProtocol

if TYPE_CHECKING:
    from gateway.wiring import GatewayDeployment

KEEP_ALIVE_S = 75
"""Longer than load balancers keep theirs (60 s is common), so that they close first."""
DRAIN_POLL_S = 0.05

_log = logs.log("serve")


def serve(asked: argparse.Namespace) -> int:
    """The gateway, until it is told to end."""
    settings = config.load(
        asked.config,
        overrides={
            "server.host": asked.host,
            "server.port": asked.port,
            "server.workers": asked.workers,
        },
    )
    logs.configure(settings.log.level, settings.log.format, content=settings.log.content)
    if asked.listen_fd is not None:
        with socket.socket(fileno=asked.listen_fd) as listener:
            return _run(_serve(settings, listener, asked, child=True))
    with listen(settings, settings.server.port) as listener:
        if settings.server.workers > 1:
            return supervise(settings, listener, asked, ends=_ends())
        return _run(_serve(settings, listener, asked, child=False))


def worker(asked: argparse.Namespace) -> int:
    """A worker process, until it is told to end."""
    settings = config.load(
        asked.config,
        overrides={"extraction.concurrency": asked.concurrency, "server.host": asked.host},
    )
    if settings.embedded:
        raise SettingsError(
            "worker: qdrant.url and redis.url are not set, and embedded stores have one owner:"
            " `serve` distils by itself. Set both URLs to run workers of their own",
            param="qdrant.url",
        )
    logs.configure(settings.log.level, settings.log.format, content=settings.log.content)
    if asked.port is None:
        return _run(_work(settings, None))
    with listen(settings, asked.port) as listener:
        return _run(_work(settings, listener))


def _ends() -> list[signal.Signals]:
    """What this process is told to end by. A hang-up is among them: whoever closed the terminal of
    `make run` cut every answer off, and lost what was just said. Under `nohup` it stays ignored."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if nohup else [signal.SIGHUP])]


def _run(main: Any) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code: int = runner.run(main)
        return code


# --- one process -----------------------------------------------------------------------------


async def _serve(
    settings: Settings, listener: socket.socket, asked: argparse.Namespace, *, child: bool
) -> int:
    app = GatewayApp(settings, worker=False if asked.no_worker else None)
    server = _Server(_uvicorn(app, settings), app)
    with _signals(server):
        if child:
            end_with_parent(server.end)
        try:
            await app.open()
            begin_to_listen(settings, listener)
            url = url_of(listener)
            told = contextlib.nullcontext() if child else announced(settings.data_dir, url)
            with told, collected_by_the_loop(lambda: bool(server.server_state.tasks)):
                server.serves = True
                _log.info(
                    "serving",
                    pid=os.getpid(),
                    base_url=f"{url}/v1",
                    upstream=settings.upstream.base_url,
                    stores="embedded" if settings.embedded else "servers",
                )
                await server.serve(sockets=[listener])
        finally:
            await app.close()
    _log.info("ended", pid=os.getpid())
    return 0


STILL_S = 0.5
"""How long who was told a moment ago that this gateway is ready may still come. Closed at once, a
connection that the kernel had taken and we had not was reset, chat and all (one rolling restart
in three on a busy machine)."""


class _Server(uvicorn.Server):
    """Tells the deployment that an end was asked for, before connections are closed."""

    def __init__(self, options: uvicorn.Config, app: GatewayApp) -> None:
        super().__init__(options)
        self._app = app
        self.serves = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._drain()
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """As a signal would."""
        self._drain()
        self.should_exit = True

    def _drain(self) -> None:
        if self._app.deployment is not None:
            self._app.deployment.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Go on listening for `STILL_S` and while open answers finish, so that /readyz can say 503
        and who routes requests here learns of it; all within `server.grace_s`."""
        loop = asyncio.get_running_loop()
        grace_s = self.config.timeout_graceful_shutdown or 0.0
        began = loop.time()
        end, still = began + grace_s, began + min(STILL_S, grace_s)
        _log.info("ending", open_answers=len(self.server_state.tasks), grace_s=grace_s)
        while (  # noqa: ASYNC110 (uvicorn has no event for it)
            (self.server_state.tasks or loop.time() < still)
            and loop.time() < end
            and not self.force_exit
        ):
            await asyncio.sleep(DRAIN_POLL_S)
        if cut_off := len(self.server_state.tasks):
            _log.warning("cut_off", open_answers=cut_off)
        self.config.timeout_graceful_shutdown = max(end - loop.time(), 0.1)  # type: ignore[assignment]
        await super().shutdown(sockets)


def _uvicorn(app: Asgi, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http=GatewayHttpProtocol,
        ws="none",
        lifespan="off",  # opened and closed here: what stops the start is one line, exit 2
        log_config=None,
        access_log=False,
        # The peer that a request came from decides whether its identity headers count; no
        # header may replace it.
        proxy_headers=False,
        # The upstream's own `server` and `date` pass; ours would double them.
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=settings.server.grace_s,  # type: ignore[arg-type]
    )


@contextlib.contextmanager
def _signals(server: _Server) -> Iterator[None]:
    """SIGTERM and Ctrl-C while uvicorn does not listen to them: before it serves, they end
    the start; after it, the end that has begun goes on (uvicorn raises them once more). In the
    milliseconds between "serving" and uvicorn's own handlers they end it well: one in five that
    was told so on that word had exited with 1. A hang-up is never listened to by uvicorn."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def told(number: int, frame: FrameType | None) -> None:
        if not server.started or number == signal.SIGHUP:
            server.handle_exit(number, frame)
            loop.call_soon_threadsafe(end_the_start)

    def end_the_start() -> None:
        if not server.serves and task is not None:
            task.cancel()

    before = {number: signal.signal(number, told) for number in _ends()}
    try:
        yield
    except asyncio.CancelledError:
        raise Failed("ended before it had started") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- a worker --------------------------------------------------------------------------------


async def _work(settings: Settings, listener: socket.socket | None) -> int:
    from gateway.wiring import open_deployment

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ends():
        loop.add_signal_handler(number, told.set)
    deployment = await open_deployment(settings, worker=True)
    async with _watched(deployment, listener):
        try:
            _log.info("working", pid=os.getpid(), concurrency=settings.extraction.concurrency)
            await told.wait()
        finally:
            await deployment.close()  # /readyz says so meanwhile
    _log.info("ended", pid=os.getpid())
    return 0


@contextlib.asynccontextmanager
async def _watched(
    deployment: GatewayDeployment, listener: socket.socket | None
) -> AsyncIterator[None]:
    """While inside, health and figures are answered, where a port was asked for."""
    if listener is None:
        yield
        return
    from starlette.applications import Starlette

    from gateway.web import health
    from gateway.web.figures import Figures

    readiness = health.Readiness(deployment)
    refresh = Figures(deployment, readiness).refresh
    app = Starlette(routes=health.routes(deployment, readiness, refresh))
    server = _Beside(_uvicorn(app, deployment.settings))
    task = beside(server.serve(sockets=[listener]), "answer health and figures")
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait([task])


class _Beside(uvicorn.Server):
    """Signals are for the worker that it stands beside."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
