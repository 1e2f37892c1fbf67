"""`make soak` in small, and that its account finds what does not add up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.soak.ledger import Death, Found, Ledger, Said, Written

ROOT = Path(__file__).parents[2]


@pytest.mark.faults
@pytest.mark.timeout(150)
def test_under_random_faults_for_some_seconds_the_account_balances() -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "bench.soak", "--seconds", "10", "--seed", "11"),
            *("--people", "8", "--fault-every", "1.0"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "The account balances." in run.stdout


# --- the books ---------------------------------------------------------------------------------

TOKEN = "p00-000001"


def turn(role: str, token: str = TOKEN, at: str = "1") -> dict[str, Any]:
    return {
        "id": f"{role}{at}",
        "text": f"Note {token}",
        "created_at": at,
        "source": {"role": role},
    }


def fact(token: str = TOKEN, via: str = "chat", **more: Any) -> dict[str, Any]:
    return {"id": "f", "text": f"Made the note {token}", "source": {"via": via}, **more}


def books(**changes: Any) -> Ledger:
    """One message that was answered whole, ten seconds into the run."""
    said = Said(TOKEN, "p00", 9.0, tries=["answered"], answered_at=10.0)
    for name, value in changes.items():
        setattr(said, name, value)
    ledger = Ledger()
    ledger.said[said.token] = said
    return ledger


WHOLE = Found([turn("user"), turn("assistant")], [fact()])
GONE = Found([], [])


def wrong(ledger: Ledger, found: Found) -> set[str]:
    return set(ledger.balance({"p00": found}).wrong)


def erased() -> Ledger:
    ledger = books()
    ledger.erased("p00", "era_1")
    return ledger


def written(present: bool) -> Ledger:
    ledger = Ledger()
    ledger.written[TOKEN] = Written(TOKEN, "p00", "mem_1", present)
    return ledger


def slots() -> Ledger:
    """A key that was said twice."""
    ledger = books(slot=True)
    ledger.said["p00-000002"] = Said("p00-000002", "p00", 11.0, True, ["answered"], 12.0)
    return ledger


def two_values(active: str) -> Found:
    second = "p00-000002"
    return Found(
        [*WHOLE.turns, turn("user", second, "2"), turn("assistant", second, "2")],
        [fact(), fact(second), fact(active, key="colour", value=active)],
    )


CASES: dict[str, tuple[Callable[[], Ledger], Found, set[str]]] = {
    "all there": (books, WHOLE, set()),
    "lost": (books, GONE, {"lost"}),
    "its answer lost": (books, Found([turn("user")], [fact()]), {"lost"}),
    "doubled": (books, Found([*WHOLE.turns, turn("user", at="2")], [fact()]), {"doubled"}),
    "its fact lost": (books, Found(WHOLE.turns, []), {"facts lost"}),
    "its fact doubled": (books, Found(WHOLE.turns, [fact(), fact()]), {"facts doubled"}),
    "not answered": (lambda: books(tries=["upstream"], answered_at=None), GONE, set()),
    "erased": (erased, GONE, set()),
    "erased and there": (erased, WHOLE, {"left after an erasure"}),
    "written": (lambda: written(True), Found([], [fact(via="api")]), set()),
    "written and lost": (
        lambda: written(True),
        GONE,
        {"written through the API and not as answered"},
    ),
    "forgotten and there": (
        lambda: written(False),
        Found([], [fact(via="api")]),
        {"written through the API and not as answered"},
    ),
    "the last value": (slots, two_values("p00-000002"), set()),
    "an older value": (
        slots,
        two_values(TOKEN),
        {"keys with another value than the last"},
    ),
    "somebody else's": (
        Ledger,
        Found([turn("user", "p01-000001")], []),
        {"with another person"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_account_tells_what_does_not_add_up(case: str) -> None:
    ledger, found, expected = CASES[case]
    assert wrong(ledger(), found) == expected


@pytest.mark.parametrize(("killed_at", "is_lost"), [(10.9, False), (11.1, True), (9.9, True)])
def test_only_what_was_answered_within_the_second_before_a_kill_may_be_lost(
    killed_at: float, is_lost: bool
) -> None:
    ledger = books()
    ledger.deaths.append(Death(killed_at, killed_at + 0.05))
    account = ledger.balance({"p00": GONE})
    assert bool(account.lost) == is_lost
    assert account.lost_at_risk == (not is_lost)
