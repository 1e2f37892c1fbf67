"""`make bench`: every figure of docs/performance.md, side by side in one run.

Gateways take turns, round by round, so that whatever else the machine does meets all of them;
medians over the rounds are compared. On two cores the gateway under test has the first, and
everything else (upstream, load, Redis, Qdrant) the second. `--only load,streams` runs parts;
`--quick` does fewer rounds; `--seconds` makes each load longer; `--scale` adds the store of a
million memories (some ten minutes); `--model` is the local embedder's, where no hub is near.
The table is of this run alone; `--keep` puts its parts into bench/results, which is committed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import peers
from bench.gateways import Process, ours, tree, upstream
from bench.keeping import RESULTS, Part, save
from bench.load import Load, load, words_file
from bench.prefix import prefix_reuse
from bench.recalls import checked, recalls
from bench.report import Figures, show
from bench.streams import OPENED_PER_S
from bench.upstream import PAUSE_S
from gateway.adapters.embed_fastembed.embedder import DEFAULT_MODEL

USERS, MEMORIES, DIMENSIONS = 200, 100_000, 384
HYBRID = f"openai:bench:{DIMENSIONS}"
LOCAL = f"fastembed:{DEFAULT_MODEL}:{DIMENSIONS}"
OURS = ("ours", "hybrid", "local")
PARTS = ("load", "hybrid", "local", "streams", "memory", "start", "prefix")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three short rounds instead of five")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load at 16 connections")
    parser.add_argument("--model", type=Path, help="a directory that holds the local embedder's")
    parser.add_argument("--scale", action="store_true", help="a million memories, too")
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / ".work")
    parser.add_argument("--keep", action="store_true", help="in bench/results, to be committed")
    asked = parser.parse_args(arguments)
    if asked.keep and asked.quick:
        parser.error("--keep is for whole runs: what --quick measures is a look")
    if shutil.which("wrk") is None:
        print("wrk is needed for plain load: apt install wrk, or brew install wrk", file=sys.stderr)
        return 2
    bench = Bench(asked.work, quick=asked.quick, seconds=asked.seconds, model=asked.model)
    parts: dict[str, Callable[[], Figures | None]] = {
        "load": bench.load,
        "hybrid": bench.hybrid,
        "local": bench.local,
        "streams": bench.streams,
        "memory": bench.memory,
        "start": bench.start,
        "prefix": bench.prefix,
        "scale": bench.scale,
    }
    chosen = asked.only.split(",") + (["scale"] if asked.scale else [])
    into = RESULTS if asked.keep else bench.work
    measured: dict[str, Part] = {}
    former: dict[str, Part] = {}
    for name in chosen:
        print(f"… {name}", file=sys.stderr)
        if (part := bench.part(parts[name])) is not None:
            measured[name] = part
            former = save(measured, into, beside_former=asked.keep)
    show(measured)
    if measured:
        print(f"These figures are in {into / 'latest.json'}.")
    for name, part in former.items():
        print(f"Beside them stands {name}, of {part['at']}, which was not run.")
    return 0


class Bench:
    """One run: a method for each part, which returns its figures, or None where it is left out."""

    def __init__(
        self, work: Path, *, quick: bool, seconds: float = 2.0, model: Path | None = None
    ) -> None:
        self.work = work.absolute()
        self.work.mkdir(parents=True, exist_ok=True)
        self.rounds, self.seconds = 3 if quick else 5, seconds
        self.model = model.absolute() if model else None
        cores = sorted(os.sched_getaffinity(0))
        self.first = {cores[0]} if len(cores) > 1 else None
        self.rest = set(cores[1:]) or None
        self.words = words_file(self.work, USERS, MEMORIES // USERS)
        self.about = {
            "cores": len(cores),
            "load_average_before": os.getloadavg()[0],
            "rounds": self.rounds,
            "seconds": self.seconds,
        }

    def part(self, measure: Callable[[], Figures | None]) -> Part | None:
        """One part's figures, with when and how they were had; None where it was left out."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        figures = measure()
        return None if figures is None else {"at": at, **self.about, "figures": figures}

    # --- data -----------------------------------------------------------------------------------

    def data(self, memories: int = MEMORIES, users: int = USERS, *, model: str = "") -> Path:
        """A fresh copy of a data directory with these memories; made once."""
        kind = f"-{model.partition(':')[0]}" if model else ""
        made = self.work / f"data-{users}-{memories}{kind}"
        if not (made / "seeded").exists():
            shutil.rmtree(made, ignore_errors=True)
            command = [sys.executable, "-m", "bench.seed", str(made), str(users), str(memories)]
            subprocess.run(
                [*command, model] if model else command,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            (made / "seeded").touch()
        copy = self.work / "data"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(made, copy)
        return copy

    def _pinned(self, gateway: Process) -> Process:
        """The gateway's own process on its core, what it started on the other."""
        if self.first is None or self.rest is None:
            return gateway
        for pid in tree(gateway.child.pid):
            cores = self.first if pid == gateway.child.pid else self.rest
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)
        return gateway

    # --- parts ----------------------------------------------------------------------------------

    def load(self) -> Figures:
        """Requests a second with 16 connections, and the time added at one connection."""
        with ExitStack() as open_:
            up = open_.enter_context(upstream(_port(), self.work, self.rest))
            gateways: dict[str, Process] = {
                "direct": up,
                "ours": open_.enter_context(ours(_port(), up.url, self.data(), self.work)),
            }
            for name, peer in (
                ("portkey", peers.portkey(_port(), self.work, self.first)),
                ("litellm", peers.litellm(_port(), up.url, self.work, self.first)),
                ("bifrost", peers.bifrost()),
            ):
                if peer is not None:
                    gateways[name] = open_.enter_context(peer)
            self._pinned(gateways["ours"])
            return self._rounds(gateways, up)

    def hybrid(self) -> Figures:
        """The same with a vector of each question, from an `/embeddings` that answers at once."""
        with ExitStack() as open_:
            up = open_.enter_context(upstream(_port(), self.work, self.rest))
            gateway = ours(
                _port(),
                up.url,
                self.data(model=HYBRID),
                self.work,
                embedding__provider="openai",
                embedding__base_url=f"{up.url}/v1",
                embedding__api_key="sk-bench",
                embedding__model="bench",
                embedding__dimensions=DIMENSIONS,
            )
            self._pinned(open_.enter_context(gateway))
            gateways = {"hybrid": gateway}
            if (peer := peers.portkey(_port(), self.work, self.first)) is not None:
                gateways["portkey"] = open_.enter_context(peer)
            return self._rounds(gateways, up, single=False)

    def local(self) -> Figures | None:
        """One connection with a vector of each question computed by the gateway's own embedder, how
        long its event loop is held meanwhile, and how long a server waits for a core that has
        nothing to do beside it."""
        command = [sys.executable, "-m", "bench.embedder", "300"]
        command += [str(self.model)] if self.model else []
        alone = subprocess.run(command, capture_output=True, text=True, check=False)
        if alone.returncode:
            print(f"The local embedder is left out: {alone.stderr.strip()[-300:]}")
            return None
        computes = json.loads(alone.stdout.splitlines()[-1])  # after what is logged
        with ExitStack() as open_:
            up = open_.enter_context(upstream(_port(), self.work, self.rest))
            chosen = {"embedding__model_path": self.model} if self.model else {}
            gateway = ours(
                _port(),
                up.url,
                self.data(model=LOCAL),
                self.work,
                embedding__provider="fastembed",
                **chosen,
            )
            open_.enter_context(gateway)  # on both cores: ONNX computes in a process of its own
            self._until_embedding(gateway)
            beside = open_.enter_context(upstream(_port(), self.work, None))
            figures = self._rounds({"direct": up, "local": gateway}, up, connections=4)
            seconds = 2.5 * self.rounds
            idle = self._pulse(gateway, 2.0)
            with self._offered(gateway, up, seconds + 1.0):
                held = self._pulse(gateway, seconds)
            with self._offered(gateway, up, seconds + 1.0):
                bystander = self._pulse(beside, seconds)
        found = {"pulse": held, "idle": idle, "bystander": bystander}
        return {**figures, "embedder": computes, **found}

    @contextmanager
    def _offered(self, gateway: Process, up: Process, seconds: float) -> Iterator[None]:
        """Within it the gateway has one connection's load, for so long."""
        with ThreadPoolExecutor(1) as beside:
            load = beside.submit(self._offer, gateway, up, seconds, connections=1)
            yield
            load.result()

    def _pulse(self, server: Process, seconds: float) -> Figures:
        host, _, port = server.url.removeprefix("http://").partition(":")
        command = [sys.executable, "-m", "bench.pulse", host, port, str(seconds)]
        found: Figures = json.loads(subprocess.check_output(command))
        return found

    def _until_embedding(self, gateway: Process) -> None:
        """The model loads behind the start."""
        for _ in range(1200):
            with urllib.request.urlopen(f"{gateway.url}/readyz", timeout=10) as answer:
                parts = json.load(answer)["parts"]
            if parts["embedder"]["status"] == "ok":
                return
            time.sleep(0.1)
        raise RuntimeError(f"the embedder did not become ready: {parts}")

    def _rounds(
        self,
        gateways: dict[str, Process],
        up: Process,
        *,
        single: bool = True,
        connections: int = 16,
    ) -> dict[str, Any]:
        def run(gateway: Process, connections: int, seconds: float) -> Load:
            return load(
                gateway.url,
                self.words,
                connections=connections,
                seconds=seconds,
                upstream_url=up.url,
                pin=self.rest,
            )

        for name, gateway in gateways.items():
            # code, caches, connections; ours opens each memory once
            run(gateway, connections, 2.0 if name in ("portkey", "litellm", "direct") else 8.0)
        per_s: dict[str, list[float]] = {name: [] for name in gateways}
        cpu: dict[str, list[float]] = {name: [] for name in gateways}
        p50: dict[str, list[float]] = {name: [] for name in gateways}
        p99: dict[str, list[float]] = {name: [] for name in gateways}
        own = {name: gateways[name] for name in gateways if name in OURS}
        begun = {name: recalls(gateway.url) for name, gateway in own.items()}
        for _ in range(self.rounds):
            for name, gateway in gateways.items():
                before = gateway.cpu_s()
                many = run(gateway, connections, self.seconds)
                cpu[name].append((gateway.cpu_s() - before) / many.requests * 1e3)
                per_s[name].append(many.per_s)
                if single:
                    one = run(gateway, 1, max(1.0, self.seconds / 2))
                    p50[name].append(one.p50_ms)
                    p99[name].append(one.p99_ms)
        recalled = {n: checked(begun[n], recalls(gateway.url)) for n, gateway in own.items()}
        return {
            name: {
                "per_s": median(per_s[name]),
                "cpu_ms": median(cpu[name]),
                **({"p50_ms": median(p50[name]), "p99_ms": median(p99[name])} if single else {}),
                **({"recalls": recalled[name]} if name in recalled else {}),
            }
            for name in gateways
        }

    def streams(self) -> Figures:
        """What is added to each chunk of a paced stream, and how many are held without a stall."""
        with ExitStack() as open_:
            up = open_.enter_context(upstream(_port(), self.work, self.rest))
            gateway = open_.enter_context(ours(_port(), up.url, self.data(), self.work))
            self._pinned(gateway)
            self._streams(gateway, 20)
            direct, through = [], []
            for _ in range(self.rounds):
                direct.append(self._streams(up, 200))
                through.append(self._streams(gateway, 200))
            held = {}
            for count in (256, 512):
                alone, ours_ = self._streams(up, count), self._streams(gateway, count)
                held[str(count)] = {
                    "stalls": ours_["stalls"],
                    "stalls_opening": ours_["stalls_opening"],
                    "longest_gap_ms": ours_["longest_gap_ms"],
                    "stalls_direct": alone["stalls"] + alone["stalls_opening"],
                }

        def added(name: str) -> float:
            return _median(through, name) - _median(direct, name)

        return {
            "added_p50_ms": added("p50_ms"),
            "added_p99_ms": added("p99_ms"),
            "added_p99_ms_opening": added("p99_ms_opening"),
            "direct_p99_ms": _median(direct, "p99_ms"),
            "stalls": _median(through, "stalls"),
            "longest_gap_ms": _median(through, "longest_gap_ms"),
            "stalls_direct": _median(direct, "stalls"),
            "cpu_us_a_chunk": min(run["cpu_us"] for run in through),
            "held": held,
        }

    def _streams(self, gateway: Process, count: int) -> dict[str, float]:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        command = [sys.executable, "-m", "bench.streams", host, port, str(count), str(USERS)]
        # All are open for two seconds at least, and twice as long in a run that counts.
        steady_s = 2.0 if self.rounds < 5 else 4.0
        chunks = round((count / OPENED_PER_S + 1.0 + steady_s) / PAUSE_S)
        command += [str(chunks), str(gateway.child.pid)]
        if self.rest:
            command = ["taskset", "-c", ",".join(map(str, self.rest)), *command]
        measured: dict[str, float] = json.loads(subprocess.check_output(command))
        if measured["whole"] != count:
            raise RuntimeError(f"{count - measured['whole']:.0f} of {count} streams broke")
        return measured

    def memory(self) -> Figures:
        """Anonymous resident memory: empty, with the memories, after load."""
        seconds = 20.0 if self.rounds < 5 else 600.0
        empty = self.work / "empty"
        shutil.rmtree(empty, ignore_errors=True)
        with upstream(_port(), self.work, self.rest) as up:
            with ours(_port(), up.url, empty, self.work) as gateway:
                nothing = gateway.anonymous_mb()
            with ours(_port(), up.url, self.data(), self.work) as gateway:
                started = gateway.anonymous_mb()
                self._offer(gateway, up, 60.0 if seconds > 60 else 20.0)
                warm = gateway.anonymous_mb()
                self._offer(gateway, up, seconds)
                after = gateway.anonymous_mb()
                whole = gateway.anonymous_by_process()
                return {
                    "empty_mb": nothing,
                    "started_mb": started,
                    "warm_mb": warm,
                    "after_mb": after,
                    "after_s": seconds,
                    "whole_tree_mb": sum(whole.values()),
                    "by_process_mb": whole,
                }

    def _offer(
        self, gateway: Process, up: Process, seconds: float, *, connections: int = 16
    ) -> None:
        load(
            gateway.url,
            self.words,
            connections=connections,
            seconds=seconds,
            upstream_url=up.url,
            pin=self.rest,
        )

    def start(self) -> Figures:
        """From `serve` to ready, after a clean end and after `kill -9`; and the import alone."""
        data = self.data()
        clean, killed = [], []
        for _ in range(self.rounds):
            with ours(_port(), "http://127.0.0.1:9", data, self.work) as gateway:
                clean.append(gateway.started_s)
            with ours(_port(), "http://127.0.0.1:9", data, self.work) as gateway:
                gateway.kill()
            with ours(_port(), "http://127.0.0.1:9", data, self.work) as gateway:
                killed.append(gateway.started_s)
        return {
            "clean_s": median(clean),
            "killed_s": median(killed),
            "import_cpu_s": median(_import_cpu_s() for _ in range(self.rounds)),
        }

    def prefix(self) -> Figures:
        """The share of each prompt that the upstream's cache holds."""
        return prefix_reuse(self.data(), self.work, _port())

    def scale(self) -> Figures:
        """Recall in a store of a million memories against one of ten thousand."""
        found = {}
        for memories, users in ((10_000, 100), (1_000_000, 10_000)):
            with ExitStack() as open_:
                up = open_.enter_context(upstream(_port(), self.work, self.rest))
                gateway = open_.enter_context(
                    ours(_port(), up.url, self.data(memories, users), self.work)
                )
                words = words_file(self.work, users, memories // users)
                runs = [
                    load(gateway.url, words, connections=1, seconds=4, upstream_url=up.url).p50_ms
                    for _ in range(self.rounds)
                ]
                found[str(memories)] = median(runs)
        return found


def _median(runs: list[dict[str, float]], name: str) -> float:
    return median(run[name] for run in runs)


def _import_cpu_s() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import gateway.asgi"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return whole - (bare.ru_utime + bare.ru_stime - after.ru_utime - after.ru_stime)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
