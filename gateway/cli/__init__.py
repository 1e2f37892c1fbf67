"""The command line: reads what was asked for, runs it, and says in one line what went wrong.

`parser` knows the words, `serving` runs the gateway and its workers, `operating` is what
operators do to a gateway, `running` finds the one that runs, `shown` prints. Vendors are
imported by the command that uses them: `--help` is instant.

Exit codes: 0 done; 1 it could not be done (a check failed, a part is away); 2 bad usage or
settings; 130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence

from gateway.cli.parser import PROGRAM, read
from gateway.core.errors import GatewayError, SettingsError


class Failed(Exception):
    """What was asked for could not be done; the message is for people. `code` 2: it could
    not have been, as it was asked."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; the exit code."""
    _standard_streams()
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except SettingsError as exc:
        return _said(exc.message, 2)
    except Failed as exc:
        return _said(str(exc), exc.code)
    except GatewayError as exc:
        return _said(exc.message, 1)
    except BrokenPipeError:  # the reader (`| head`) has left
        return _let_go(1)
    except OSError as exc:
        if exc.errno not in _NO_ROOM:
            raise
        return _let_go(_said(f"what was asked for cannot be written: {exc.strerror}", 1))
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str]) -> int:
    try:
        asked = read(argv)
    except SystemExit:  # `--help` was printed
        sys.stdout.flush()
        raise
    module, function = asked.run.split(":")
    _quiet()
    code: int = getattr(importlib.import_module(f"gateway.{module}"), function)(asked)
    sys.stdout.flush()
    return code


def _let_go(code: int) -> int:
    """What is still in the buffer has nowhere to go; the interpreter would say so at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _standard_streams() -> None:
    """All three of them, and able to print anything.

    Where one was closed (`>&-`, or by an init script) there is none in Python, and the next file
    that is opened, a database of ours say, takes its number and whatever is printed there. What is
    written into files and pipes is UTF-8, as exports are, whatever the locale; a terminal of
    another encoding is shown what it cannot show spelled out.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


def _quiet() -> None:
    """Stdout is for what was asked for: until a command sets up its own, the log is for trouble
    and goes to stderr."""
    from gateway import config
    from gateway.telemetry import logs

    logs.allow_colours(config.colours_are_wanted())
    logs.configure("warning")


def _said(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
