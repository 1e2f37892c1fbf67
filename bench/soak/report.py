"""The account of a run, in words and figures."""

from __future__ import annotations

import json
from collections import Counter
from statistics import median
from typing import Any, Final

from bench.soak.faults import Faults
from bench.soak.growth import Watch
from bench.soak.house import House
from bench.soak.ledger import Account
from bench.soak.people import People

NEVER: Final = frozenset(
    {"work_failed", "hand_stumbled", "batch_failed", "round_failed", "exchange_lost"}
)
"""Lines of the log that no fault of another part explains."""


def show(
    account: Account,
    people: People,
    faults: Faults,
    house: House,
    watch: Watch,
    end: dict[str, Any],
) -> int:
    """Print it; 0 where it balances."""
    tries = account.tries
    print("\nChats, by how each try ended for its client")
    print(f"  sent                                   {sum(tries.values())}")
    print(f"  answered whole                         {tries['answered']}")
    print(f"  given up by the client                 {tries['left']}")
    print(f"  failed by a fault of the upstream's    {tries['upstream']}")
    print(f"  cut off by the gateway's own end       {tries['dead']}")
    print(f"  failed otherwise                       {tries['failed']}")
    print(f"  refused while there was no gateway     {people.refused}")
    shown = ", ".join(f"{name} {n}" for name, n in people.statuses.most_common())
    print(f"  memory's status, and other answers     {shown}")
    print("Exchanges")
    print(f"  must be found                          {account.expected}")
    print(f"  found                                  {account.found}")
    print(f"  lost                                   {len(account.lost)}")
    print(f"  doubled                                {len(account.doubled)}")
    print(
        f"  answered within the second before a kill -9: {account.at_risk},"
        f" of which lost {account.lost_at_risk}"
    )
    print("Memories written through the API")
    print(f"  {', '.join(f'{n} {c}' for n, c in people.done.most_common())}")
    print(
        f"  not as answered                        {len(account.written_wrong)}"
        f" of {account.written}"
    )
    print("Faults")
    for name, count in sorted(faults.happened.items()):
        print(f"  {name:38} {count}")
    print(
        f"  starts of the gateway: {len(house.starts_s)}, median {median(house.starts_s):.1f} s,"
        f" longest {max(house.starts_s):.1f} s"
    )
    print("In the end")
    print(
        f"  settled after {end['settled_s']:.1f} s; the queue {end['queue']};"
        f" dead letters retried {end['dead_retried']}"
    )
    print("Held of the machine, first and last of the line through it")
    trends = watch.trends()
    for trend in trends:
        mark = "grows" if trend.grows else ("" if trend.judged else "(too short to judge)")
        print(
            f"  {trend.name:28} {trend.first:8.1f} {trend.last:8.1f}"
            f"  in {trend.span_s:4.0f} s {mark}"
        )
    log = _log(house)
    print("Log lines, warnings and above")
    for event, count in log.most_common():
        print(f"  {event:60} {count}")
    wrong: dict[str, Any] = dict(account.wrong)
    if tries["failed"] or people.odd:
        wrong["failed without a fault of another's"] = [f"{n}× {k}" for k, n in people.odd.items()]
    if end["left"]:
        wrong["left of the erased"] = [f"{who} {told}" for who, told in end["left"].items()]
    if any(end["queue"].get(k, 1) for k in ("pending", "leased", "dead", "spooled")):
        wrong["still waiting"] = [json.dumps(end["queue"])]
    if bad := [f"{n}× {event}" for event, n in log.items() if event in NEVER]:
        wrong["faults of its own in the log"] = bad
    if grown := [t.name for t in trends if t.grows]:
        wrong["grows"] = grown
    if codes := [name for name in faults.happened if "ended with status" in name]:
        wrong["ended badly"] = codes
    for name, examples in wrong.items():
        print(f"WRONG, {name}: {len(examples)}")
        for example in examples[:12]:
            print(f"    {example}")
    print("The account balances." if not wrong else "The account does NOT balance.")
    return 1 if wrong else 0


def _log(house: House) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in house.log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found[f"{entry['event']}"[:100]] += 1
        except (ValueError, KeyError, TypeError):
            if line.startswith(("Traceback", "Exception", "Fatal")):
                found[line[:80]] += 1
    return found
