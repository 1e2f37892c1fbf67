"""The command line: reads what was asked for, runs it, and says in one line what went wrong.

`parser` knows the words, `serving` runs the gateway and its workers, `operating` is what
operators do to a gateway, `running` finds the one that runs, `shown` prints. Vendors are
imported by the command that uses them: `--help` is instant.

Exit codes: 0 done; 1 it could not be done (a check failed, a part is away); 2 bad usage or
settings; 130 interrupted.
"""

from __future__ import annotations

import importlib
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


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; the exit code."""
    try:
        asked = read(sys.argv[1:] if argv is None else argv)
        module, function = asked.run.split(":")
        _quiet()
        code: int = getattr(importlib.import_module(f"gateway.{module}"), function)(asked)
        sys.stdout.flush()
        return code
    except SettingsError as exc:
        return _said(exc.message, 2)
    except Failed as exc:
        return _said(str(exc), exc.code)
    except GatewayError as exc:
        return _said(exc.message, 1)
    except BrokenPipeError:
        # The reader (`| head`) has left; what is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _quiet() -> None:
    """Stdout is for what was asked for: until a command sets up its own, the log is for trouble
    and goes to stderr."""
    from gateway.telemetry import logs

    logs.configure("warning")


def _said(message: str, code: int) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
    return code
