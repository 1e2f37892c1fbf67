"""What commands print, and ask: tables for people (in colour on a terminal), JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def show_json(value: Any) -> None:
    """One JSON value on stdout; indented where a person looks on."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def show_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, none: str) -> None:
    """A table of rows, one column for each heading (key: heading); `none` where there is none.

    Away from a terminal: one line a row, cells parted by tabs, for `cut` and `awk`.
    """
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(_cell(row.get(key)) for key in columns))
        return
    if not rows:
        print(none)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in columns.values():
        table.add_column(heading)
    for row in rows:
        table.add_row(*(Text(_cell(row.get(key))) for key in columns))
    Console().print(table)


def show_pairs(pairs: Mapping[str, Any]) -> None:
    """Named values, one a line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        print(f"{name:<{width}}  {_cell(value)}")


def agreed(question: str) -> bool:
    """Whether a person says yes. Ctrl-D, and what is no text, say no."""
    try:
        answer = input(f"{question} [y/N] ")
    except (EOFError, UnicodeError):
        print()
        return False
    return answer.strip().lower() in ("y", "yes")


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, gone when it is done; call what is yielded with how
    much more there is."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda n: shown.advance(task, n)


def _cell(value: Any) -> str:
    """One line of text; control characters, which could repaint a terminal, are spelled out."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
