"""`make soak SECONDS=600`: an embedded gateway under mixed load and random faults, and its account.

For three fifths of the time any process may be killed at any moment; for the last two fifths
none is, and what its processes hold of the machine is watched. Then all faults end, what waits
is waited for, and the account is made: every exchange whose answer came whole is found exactly
once, what was erased is gone, and nothing grew. Exit 1 if it does not balance. The same `--seed`
makes the same people and faults; moments differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import httpx

from bench.soak.faults import Faults
from bench.soak.growth import Watch
from bench.soak.house import House
from bench.soak.ledger import Found, Ledger
from bench.soak.models import Models
from bench.soak.people import People
from bench.soak.report import show

KILLING_SHARE: Final = 0.6
CALM_S: Final = 5.0
"""Without new faults, at the end of a run."""
SETTLE_S: Final = 180.0
SETTINGS: Final = {
    "upstream__first_byte_timeout_s": 6,
    "upstream__idle_timeout_s": 3,
    "embedding__provider": "openai",
    "embedding__api_key": "k",
    "embedding__model": "scripted",
    "embedding__timeout_s": 2,
    "extraction__provider": "openai",
    "extraction__api_key": "k",
    "extraction__model": "scripted",
    "extraction__timeout_s": 3,
    "extraction__idle_s": 0.3,
    "extraction__max_wait_s": 3,
    "queue__lease_s": 5,
    "retention__sweep_every_s": 5,
    "server__grace_s": 8,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--people", type=int, default=40)
    parser.add_argument("--fault-every", type=float, default=2.0, metavar="S")
    parser.add_argument("--keep", type=Path, help="keep the data and the log in this directory")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it takes its processes along
    print(f"seed {asked.seed}, {asked.seconds:.0f} s, {asked.people} people", flush=True)
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
        return asyncio.run(_soak(asked, asked.keep))
    with tempfile.TemporaryDirectory(prefix="memory-gateway-soak-") as directory:
        return asyncio.run(_soak(asked, Path(directory)))


async def _soak(asked: argparse.Namespace, directory: Path) -> int:
    dice = random.Random(asked.seed)
    with Models(random.Random(dice.random())) as models:
        urls = {
            f"{part}__base_url": models.base_url for part in ("upstream", "embedding", "extraction")
        }
        house = House(directory, {**SETTINGS, **urls})
        ledger = Ledger()
        people = People(house, models, ledger, random.Random(dice.random()), asked.people)
        faults = Faults(house, models, random.Random(dice.random()), asked.fault_every)
        watch = Watch(house)
        try:
            await house.start()
            await _run(asked.seconds, people, faults, watch)
            ledger.deaths = house.deaths
            end = await _settled(house, people.client)
            found = {p.name: await _found(people, p.name) for p in people.people}
            end["left"] = await _verified(people, ledger)
            account = ledger.balance(found)
            if asked.keep is not None:
                _keep(asked.keep, ledger, found, faults)
            return show(account, people, faults, house, watch, end)
        finally:
            house.close()
            await people.client.aclose()


def _keep(directory: Path, ledger: Ledger, found: Mapping[str, Found], faults: Faults) -> None:
    """What was said, what was found and what happened, for whoever looks for the cause."""
    books = {
        "began": faults.began,
        "said": [asdict(said) for said in ledger.said.values()],
        "deaths": [asdict(death) for death in ledger.deaths],
        "found": {person: asdict(holds) for person, holds in found.items()},
        "story": faults.story,
    }
    (directory / "books.json").write_text(json.dumps(books, indent=1))


async def _run(seconds: float, people: People, faults: Faults, watch: Watch) -> None:
    stop, calm = asyncio.Event(), asyncio.Event()
    calm_s = min(CALM_S, seconds / 5)

    async def clock() -> None:
        await asyncio.sleep(seconds * KILLING_SHARE)
        faults.killing = False
        await asyncio.sleep(seconds * (1 - KILLING_SHARE) - calm_s)
        calm.set()
        await asyncio.sleep(calm_s)
        stop.set()

    async with asyncio.TaskGroup() as all_at_once:
        all_at_once.create_task(clock())
        all_at_once.create_task(faults.rage(calm))
        all_at_once.create_task(people.talk(stop))
        all_at_once.create_task(watch.look(stop, people.ledger))


async def _settled(house: House, client: httpx.AsyncClient) -> dict[str, Any]:
    """Wait until nothing is under way; dead letters are retried once. What is left waiting."""
    headers = {"Authorization": f"Bearer {house.token}"}
    began = time.monotonic()
    retried = 0
    state: dict[str, Any] = {}
    calm = 0
    while time.monotonic() - began < SETTLE_S and calm < 4:
        await asyncio.sleep(0.5)
        try:
            answer = await client.get(f"{house.url}/admin/v1/queue", headers=headers)
            state = answer.json()
            spooled = _spooled((await client.get(f"{house.url}/metrics")).text)
        except (httpx.HTTPError, ValueError):
            continue
        state["spooled"] = spooled
        if state.get("dead") and not state["pending"] + state["leased"]:
            retried += state["dead"]
            await client.post(f"{house.url}/admin/v1/queue/retry", headers=headers, json={})
            calm = 0
            continue
        busy = state.get("pending", 1) + state.get("leased", 1) + spooled
        calm = 0 if busy else calm + 1
    return {"queue": state, "dead_retried": retried, "settled_s": time.monotonic() - began}


def _spooled(told: str) -> int:
    lines = (n for n in told.splitlines() if n.startswith("memory_gateway_spool_exchanges "))
    return int(float(next(lines).rpartition(" ")[2]))


async def _found(people: People, person: str) -> Found:
    """All that is active of a person's, turns and facts."""
    kinds: dict[str, list[Any]] = {"turn": [], "fact": []}
    for kind in kinds:
        cursor = None
        while True:
            params = {"kind": kind, "limit": "500"} | ({"cursor": cursor} if cursor else {})
            answer = await people.answered(
                "GET", "/memories", params=params, headers={"X-Memory-User": person}
            )
            page = answer.json()
            kinds[kind] += page["memories"]
            if not (cursor := page.get("next_cursor")):
                break
    return Found(kinds["turn"], kinds["fact"])


async def _verified(people: People, ledger: Ledger) -> dict[str, Any]:
    """What is left of anybody who was erased, place by place, as the gateway says."""
    left: dict[str, Any] = {}
    for person, receipt in ledger.erasures:
        answer = await people.answered(
            "GET", f"/erasures/{receipt}?verify=true", headers={"X-Memory-User": person}
        )
        told = answer.json()
        if not told.get("completed") or any(told.get("remaining", {"?": 1}).values()):
            left[f"{person} {receipt}"] = told
    return left


if __name__ == "__main__":
    sys.exit(main())
