"""`replay FILE`: recorded recalls again, as a table on a terminal, else as one JSON object.

With `--distil` the recorded exchanges are distilled again before, by the settings of extraction;
with `--prompt FILE` under another prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.config import Settings
from gateway.config import load as load_settings
from gateway.core.errors import BadRequest, SettingsError
from gateway.lab.evaluate import open_embedder, open_reranker
from gateway.lab.recordings import UserRecordings, exchanges_of, read
from gateway.lab.redistil import Redistilled, redistil
from gateway.lab.replay import drawn, figures, replay
from gateway.lab.scratch import Once, scratch_services
from gateway.ports import Embedder, Extractor
from gateway.telemetry.metrics import Metrics
from gateway.wiring.models import choose_extractor

Advance = Callable[[str, int], object]

SHOWN_CHARS: Final = 80
SHOWN_TURNS: Final = 3


def main(asked: argparse.Namespace) -> int:
    """Run it. Raises SettingsError for a file or a setting that cannot be, ExtractorUnavailable
    where exchanges are to be distilled and nobody does it."""
    settings = load_settings(asked.config)
    try:
        users = read(asked.file)
    except BadRequest as exc:
        raise SettingsError(exc.message, param="FILE") from exc
    if asked.prompt is not None:
        settings = _prompted(settings, users, asked.prompt)
    told = asyncio.run(_replayed(users, settings, distil=asked.distil or asked.prompt is not None))
    if asked.json or not sys.stdout.isatty():
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _show(told)
    return 0


def _prompted(settings: Settings, users: Sequence[UserRecordings], prompt: Path) -> Settings:
    """These settings with another prompt, in every app that is replayed."""
    changed: dict[str, Any] = {
        "extraction": settings.extraction.model_copy(update={"prompt": prompt}),
        "apps": {
            name: app.model_copy(
                update={"extraction": app.extraction.model_copy(update={"prompt": prompt})}
            )
            for name, app in settings.apps.items()
        },
    }
    prompted = settings.model_copy(update=changed)
    for app in {user.app for user in users}:
        extractor, note = choose_extractor(prompted.app(app))
        if extractor is None or not note.endswith(str(prompt)):
            raise SettingsError(
                f"--prompt: nobody reads it, for what extracts is {note}. Set extraction.model and"
                " a key (GATEWAY_EXTRACTION__MODEL, GATEWAY_EXTRACTION__API_KEY)",
                param="--prompt",
            )
    return prompted


async def _replayed(
    users: Sequence[UserRecordings], settings: Settings, *, distil: bool
) -> dict[str, Any]:
    recalls = sum(len(user.recalls) for user in users)
    totals = (
        {"distilling again": sum(len(exchanges_of(u.memories)) for u in users)} if distil else {}
    )
    async with open_embedder(settings) as embedder, open_reranker(settings) as reranker:
        with _Bars({**totals, "recalling again": recalls}) as advance:
            again: list[Redistilled] = []
            told: dict[str, Any] = {}
            if distil:
                again, told = await _redistilled(users, settings, embedder, advance)
            compared = await replay(
                users,
                embedder=embedder,
                settings_for=settings.app,
                reranker=reranker,
                redistilled=again,
                done=lambda n: advance("recalling again", n),
            )
        return figures(compared, embedder, settings) | told


async def _redistilled(
    users: Sequence[UserRecordings], settings: Settings, embedder: Embedder, advance: Advance
) -> tuple[list[Redistilled], dict[str, Any]]:
    metrics = Metrics()
    extractors: dict[str, Extractor] = {}
    notes = []
    for app in dict.fromkeys(user.app for user in users):
        extractor, note = choose_extractor(settings.app(app), metrics=metrics)
        if extractor is None:
            raise SettingsError(
                f"--distil: {note}; set extraction.provider", param="extraction.provider"
            )
        extractors[app] = extractor
        notes.append(note)
    try:
        again = [
            await redistil(
                user,
                scratch_services(Once(embedder)),
                extractors[user.app],
                settings.app(user.app),
                done=lambda n: advance("distilling again", n),
            )
            for user in users
        ]
    finally:
        for extractor in extractors.values():
            await extractor.close()
    asked = {"extractor": "; ".join(dict.fromkeys(notes)), "tokens": _tokens(metrics)}
    return again, {"extraction": asked | drawn(again)}


def _tokens(metrics: Metrics) -> dict[str, int]:
    """What the extractor's upstream counted."""
    name = "memory_gateway_extractor_tokens_total"
    return {
        direction: int(metrics.registry.get_sample_value(name, {"direction": direction}) or 0)
        for direction in ("in", "out")
    }


# --- while it runs -----------------------------------------------------------------------------


class _Bars:
    """A bar on a terminal's standard error for each thing that is counted."""

    def __init__(self, totals: Mapping[str, int]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._bars = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._tasks = {what: self._bars.add_task(what, total=n) for what, n in totals.items()}

    def __enter__(self) -> Advance:
        self._bars.start()
        return lambda what, n: self._bars.advance(self._tasks[what], n)

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


# --- for people --------------------------------------------------------------------------------


def _show(told: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    if "extraction" in told:
        _show_drawn(console, told["extraction"])
    if told["changed"]:
        rows = [
            (
                row["user"],
                _line(row["query"]),
                _lines(row["added"]),
                _lines(row["gone"]),
                f"{row['tokens']['then']} → {row['tokens']['now']}",
            )
            for row in told["results"]
            if not row["same"]
        ]
        _table(console, ("USER", "ASKED", "NOW INJECTED", "NO LONGER", "TOKENS"), rows)
    console.print(
        f"{told['changed']} of {told['recalls']} recalls would inject something else;"
        f" tokens {told['tokens']['then']:.0f} → {told['tokens']['now']:.0f},"
        f" half within {told['p50_ms']['then']:.1f} → {told['p50_ms']['now']:.1f} ms"
    )
    evidence = told["evidence_recall"]
    if evidence["labelled"]:
        console.print(
            f"of the evidence in {evidence['labelled']} labelled questions"
            f" {evidence['then']:.0%} → {evidence['now']:.0%} is injected"
        )


def _show_drawn(console: Any, told: Mapping[str, Any]) -> None:
    rows = [
        (
            row["user"],
            "\n".join(_line(turn["text"]) for turn in row["said"][:SHOWN_TURNS]),
            _lines(row["added"]) or (f"failed: {_line(row['failed'])}" if row["failed"] else ""),
            _lines(row["gone"]),
        )
        for row in told["results"]
        if row["added"] or row["gone"] or row["failed"]
    ]
    if rows:
        _table(console, ("USER", "SAID", "NOW DRAWN", "NO LONGER"), rows)
    facts = told["facts"]
    console.print(
        f"{told['exchanges']} exchanges distilled again in {told['seconds']:.1f} s:"
        f" {facts['then']} facts then, {facts['now']} now, {facts['same']} of them the same;"
        f" tokens {told['tokens']['in']} in, {told['tokens']['out']} out"
    )
    if facts["kept"]:
        console.print(f"{facts['kept']} facts stay as they were: their turns are not kept any more")
    if told["failed"]:
        console.print(f"{told['failed']} of {told['batches']} batches failed", style="red")
    console.print()


def _table(console: Any, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"NOW INJECTED": "green", "NOW DRAWN": "green", "NO LONGER": "red"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in ("USER", "TOKENS"))
    for row in rows:
        shown = zip(headings, row, strict=True)
        table.add_row(*(Text(cell, style=styles.get(name, "")) for name, cell in shown))
    console.print(table)


def _lines(named: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(_line(str(one["text"] or one["id"])) for one in named)


def _line(text: str) -> str:
    """One short line; control characters could repaint a terminal."""
    line = " ".join(text.split())
    cut = line if len(line) <= SHOWN_CHARS else line[: SHOWN_CHARS - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in cut)
