"""The operators' token where the settings hold none: made once and kept in the data directory."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gateway.config import Settings
from gateway.core.errors import SettingsError

TOKEN_FILE: Final = "admin.token"  # noqa: S105 - a file's name


def admin_token(settings: Settings) -> str:
    """The token set, else the one made at the first start and kept (0600).

    Raises SettingsError where it cannot be read or kept.
    """
    if settings.admin.token is not None:
        return settings.admin.token.get_secret_value()
    path = settings.data_dir / TOKEN_FILE
    try:
        return _kept(path)
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it holds no token"
        raise SettingsError(
            f"data_dir: {path} cannot be used: {why}. Let the user that runs the gateway read and"
            " write it, or set GATEWAY_ADMIN__TOKEN",
            param="admin.token",
        ) from exc


def _kept(path: Path) -> str:
    with _alone(path.parent):
        with suppress(FileNotFoundError):
            if token := path.read_text("ascii").strip():
                return token
        token = secrets.token_urlsafe(32)
        _write_private(path, token.encode() + b"\n")
        return token


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Of several processes on one directory (`--workers`, a worker beside a gateway) one at a time:
    each drew a token at a first start, and all but the last refused the one that was kept."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system that locks no directories: as well as it goes
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
