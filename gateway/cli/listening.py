"""The port that a gateway listens on: bound before anything is opened, listened on once all is."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address

from gateway.cli.running import find
from gateway.config import Settings
from gateway.core.errors import SettingsError

BACKLOG = 2048


def listen(settings: Settings, port: int) -> socket.socket:
    """The bound socket; connections are accepted only once everything is open."""
    host = settings.server.host
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with contextlib.ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            unless_bound.pop_all()
    except OSError as exc:
        raise _refused(settings, port, exc) from exc
    return listener


def begin_to_listen(settings: Settings, listener: socket.socket) -> None:
    """Before anybody is told: who connected on the word of the log or of `gateway.json` was
    refused in the milliseconds until uvicorn would have listened. Of two that bound one port at
    the same time the second learns it here."""
    try:
        listener.listen(BACKLOG)
    except OSError as exc:
        raise _refused(settings, listener.getsockname()[1], exc) from exc


def _refused(settings: Settings, port: int, exc: OSError) -> SettingsError:
    running = find(settings.data_dir) if settings.embedded else None
    if running is not None:
        return SettingsError(
            f"data_dir: {settings.data_dir} is in use by the gateway at {running.url} (pid"
            f" {running.pid}). Stop that one first, or set GATEWAY_DATA_DIR and --port",
            param="data_dir",
        )
    return SettingsError(
        f"server.port: {settings.server.host}:{port} cannot be listened on:"
        f" {exc.strerror or exc}. Stop what holds it, or choose another with --host and --port",
        param="server.port",
    )


def url_of(listener: socket.socket) -> str:
    """The address for callers on this machine; "any address" is not one to connect to."""
    host, port = listener.getsockname()[:2]
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
