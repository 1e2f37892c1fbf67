"""What was measured, beside what it should be: as a table, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Figures: TypeAlias = dict[str, Any]
Row: TypeAlias = tuple[str, str, str, bool | None]


def rows(parts: Mapping[str, Figures]) -> Iterator[Row]:
    """(what, the bar, measured, whether it holds; None: nothing to compare with)."""
    figures = {name: part["figures"] for name, part in parts.items()}
    yield from _load_rows(figures.get("load", {}))
    hybrid = figures.get("hybrid", {})
    if "portkey" in hybrid:
        share = hybrid["hybrid"]["per_s"] / hybrid["portkey"]["per_s"]
        told = f"{share:.2f} × ({hybrid['hybrid']['per_s']:.0f} against"
        told += f" {hybrid['portkey']['per_s']:.0f})"
        yield "requests/s, hybrid recall", "0.6 × Portkey's", told, share >= 0.6
    if local := figures.get("local"):
        yield from _local_rows(local)
    if streams := figures.get("streams"):
        added = streams["added_p99_ms"]
        told = f"{added:.2f} ms (direct {streams['direct_p99_ms']:.2f})"
        yield "added to a chunk, p99, 200 streams", "1 ms", told, added <= 1.0
        told = f"{streams['added_p99_ms_opening']:.2f} ms"
        yield "the same while 100 more a second begin", "", told, None
        stalls = f"{streams['stalls']:.0f} (direct {streams['stalls_direct']:.0f})"
        yield "stalls over 40 ms, 200 streams", "0", stalls, streams["stalls"] == 0
        for count, held in streams["held"].items():
            told = f"{held['stalls']:.0f} ({held['stalls_opening']:.0f} while they begin,"
            told += f" direct {held['stalls_direct']:.0f})"
            yield f"stalls, {count} streams", "0", told, held["stalls"] == 0
        yield "CPU of a chunk, µs", "", f"{streams['cpu_us_a_chunk']:.0f}", None
    if memory := figures.get("memory"):
        empty, warm, after = memory["empty_mb"], memory["warm_mb"], memory["after_mb"]
        what = "anonymous memory of its own process"
        yield f"{what}, empty", "120 MB", f"{empty:.0f} MB", empty <= 120
        yield "the same with 100,000 memories", "250 MB", f"{warm:.0f} MB", warm <= 250
        grown = after / warm - 1
        what = f"growth over {memory['after_s']:.0f} s of load"
        yield what, "10%", f"{grown:.0%} ({after:.0f} MB)", grown <= 0.1
        each = ", ".join(f"{n} {mb:.0f}" for n, mb in memory.get("by_process_mb", {}).items())
        told = f"{memory['whole_tree_mb']:.0f} MB" + (f" ({each})" if each else "")
        yield "with Redis and the store's process then", "", told, None
    if start := figures.get("start"):
        clean, killed, cpu = start["clean_s"], start["killed_s"], start["import_cpu_s"]
        yield "start after a clean end", "2 s", f"{clean:.1f} s", clean <= 2
        yield "start after kill -9", "5 s", f"{killed:.1f} s", killed <= 5
        yield "CPU of import gateway.asgi", "0.5 s", f"{cpu:.2f} s", cpu <= 0.5
    if scale := figures.get("scale"):
        share = scale["1000000"] / scale["10000"]
        yield "p50 at 1,000,000 memories to 10,000", "2 ×", f"{share:.2f} ×", share <= 2
    if prefix := figures.get("prefix"):
        off = prefix["off"]
        yield "prompt prefix seen before, memory off", "", f"{off:.1%}", None
        for placement in ("split", "tail", "system"):
            apart = abs(off - prefix[placement]) * 100
            bar = "" if placement == "system" else "3 points apart"
            told = f"{prefix[placement]:.1%} ({apart:.1f} apart)"
            yield f"the same, {placement}", bar, told, None if not bar else apart <= 3


def _load_rows(load: Figures) -> Iterator[Row]:
    if not load:
        return
    own, direct = load["ours"], load["direct"]
    for peer, bar in (("portkey", 1.0), ("litellm", 12.0)):
        if peer in load:
            share = own["per_s"] / load[peer]["per_s"]
            told = f"{share:.2f} × ({own['per_s']:.0f} against {load[peer]['per_s']:.0f})"
            what = "requests/s, 16 connections, lexical"
            yield what, f"{bar:g} × {peer.title()}'s", told, share >= bar
    for quantile, bar in (("p50_ms", 1.2), ("p99_ms", 6.0)):
        added = own[quantile] - direct[quantile]
        others = ", ".join(
            f"{peer} {load[peer][quantile] - direct[quantile]:.1f}"
            for peer in ("portkey", "litellm")
            if peer in load
        )
        told = f"{added:.2f} ms ({others})"
        yield f"added at one connection, {quantile[:3]}", f"{bar} ms", told, added <= bar
    each = ", ".join(f"{n} {load[n]['cpu_ms']:.2f}" for n in load if n != "direct")
    yield "CPU a request of its own process, ms", "", each, None
    if recalled := own.get("recalls"):
        told = f"{recalled['whole']:.1%}, {recalled['injected']:.1f} memories injected a request"
        yield "recalls that were whole", "", told, None


def _local_rows(local: Figures) -> Iterator[Row]:
    own, alone = local["embedder"], local["local"]["p50_ms"] - local["direct"]["p50_ms"]
    over = alone - own["p50_ms"]
    told = f"{over:.2f} ms ({alone:.1f} added, the embedder alone {own['p50_ms']:.1f})"
    yield "local embedder: over its own time, p50", "1.5 ms", told, over <= 1.5
    held, idle = local["pulse"]["p999_ms"], local["idle"]["p999_ms"]
    what = "the same: event loop held, p99.9"
    told = f"{held:.1f} ms (at rest {idle:.1f}"
    if bystander := local.get("bystander"):
        told += f"; a server beside it that has nothing to do {bystander['p999_ms']:.1f}"
    yield what, "5 ms", f"{told})", held <= 5.0


def show(parts: Mapping[str, Figures]) -> None:
    """Print the table of these parts."""
    found = list(rows(parts))
    widths = [max((len(row[i]) for row in found), default=0) for i in range(3)]
    for what, bar, told, holds in found:
        mark = {True: "holds", False: "MISSED", None: ""}[holds]
        print(f"{what:<{widths[0]}}  {bar:<{widths[1]}}  {told:<{widths[2]}}  {mark}")


def picture(parts: Mapping[str, Figures]) -> str:
    """Bars of requests a second, drawn by hand: a plotting library would be the only use of one.

    Empty where neither part that counts them is there.
    """
    drawn = {name: parts[name]["figures"] for name in ("load", "hybrid") if name in parts}
    if not drawn:
        return ""
    load = {n: v["per_s"] for n, v in drawn.get("load", {}).items() if n != "direct"}
    if "hybrid" in drawn:
        load["ours, hybrid"] = drawn["hybrid"]["hybrid"]["per_s"]
    most = max(load.values())
    bars = []
    for n, (name, value) in enumerate(sorted(load.items(), key=lambda item: -item[1])):
        y, width = 40 + 34 * n, 380 * value / most
        fill = "#2f6f4f" if name.startswith("ours") else "#8a8f98"
        bars.append(
            f'<text x="116" y="{y + 17}" text-anchor="end">{name}</text>'
            f'<rect x="124" y="{y}" width="{width:.1f}" height="24" rx="3" fill="{fill}"/>'
            f'<text x="{132 + width:.1f}" y="{y + 17}">{value:.0f}</text>'
        )
    height = 72 + 34 * len(load)
    when = ", ".join(f"{name} {parts[name]['at'][:10]}" for name in drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="580" height="{height}" '
        'font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="16" y="24" font-weight="bold">Requests a second, one process, 16 connections'
        f'</text>{"".join(bars)}<text x="16" y="{height - 12}" font-size="11">{when}</text></svg>\n'
    )
