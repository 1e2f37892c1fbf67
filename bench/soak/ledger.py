"""What was said, what became of it, and what must be found in the end. Nothing here waits.

Every message carries a word of its own (its token). What a client saw of the answer says how
often the message must be found as a turn: exactly once where the answer came whole; at most
once where it did not, for what was said until then may count. What was answered less than
`DURABLE_S` before the gateway was killed may be lost: that is the promise of
`queue.durable = "everysec"`. After an erasure nothing that was said before it may be found.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

DURABLE_S: Final = 1.0
SLOT: Final = "colour"
"""The key that is said anew and anew: the last value is the one that counts."""
TOKEN: Final = re.compile(r"\bp\d\d-\d{6}\b")

Outcome = Literal["answered", "left", "upstream", "dead", "failed"]
"""How one try of a chat ended for its client: whole; given up by the client; by a fault of the
upstream's own; because the gateway was dead or ended under it; in any other way, which is ours."""


@dataclass
class Said:
    """One message of a person's, under its token. `slot`: it also says a new value of a key."""

    token: str
    person: str
    at: float
    slot: bool = False
    tries: list[Outcome] = field(default_factory=list)
    answered_at: float | None = None
    at_risk: bool = False
    erased: bool = False

    @property
    def least(self) -> int:
        return int(self.answered_at is not None and not self.at_risk and not self.erased)

    @property
    def most(self) -> int:
        return 0 if self.erased else 1


@dataclass
class Written:
    """A memory written through the API: how often its text must be found as an active fact.
    None: a call about it has not been answered."""

    token: str
    person: str
    id: str | None = None
    present: bool | None = None


@dataclass(frozen=True)
class Death:
    """The gateway was killed: between the signal and the end of the process (monotonic)."""

    at: float
    over: float


@dataclass(frozen=True)
class Found:
    """What one person's memory holds at the end, read through the API."""

    turns: Sequence[Mapping[str, Any]]
    facts: Sequence[Mapping[str, Any]]


@dataclass
class Account:
    """The balance. `wrong` names what does not add up, with examples."""

    tries: Counter[str] = field(default_factory=Counter)
    said: int = 0
    expected: int = 0
    found: int = 0
    at_risk: int = 0
    lost_at_risk: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left_after_erasure: list[str] = field(default_factory=list)
    facts_lost: list[str] = field(default_factory=list)
    facts_doubled: list[str] = field(default_factory=list)
    slots_wrong: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    written_wrong: list[str] = field(default_factory=list)
    written: int = 0
    strangers: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, list[str]]:
        kinds = {
            "lost": self.lost,
            "doubled": self.doubled,
            "left after an erasure": self.left_after_erasure,
            "facts lost": self.facts_lost,
            "facts doubled": self.facts_doubled,
            "keys with another value than the last": self.slots_wrong,
            "out of order": self.out_of_order,
            "written through the API and not as answered": self.written_wrong,
            "with another person": self.strangers,
        }
        return {name: examples for name, examples in kinds.items() if examples}


class Ledger:
    """The books of a run. Times are monotonic seconds of the load's own clock."""

    def __init__(self) -> None:
        self.said: dict[str, Said] = {}
        self.written: dict[str, Written] = {}
        self.deaths: list[Death] = []
        self.erasures: list[tuple[str, str]] = []
        """Who was erased, and the receipt's id."""

    def erased(self, person: str, receipt: str) -> None:
        """All that this person said and wrote until now is to be gone."""
        self.erasures.append((person, receipt))
        for said in self.said.values():
            if said.person == person:
                said.erased = True
        for written in self.written.values():
            if written.person == person:
                written.present = False

    def balance(self, found: Mapping[str, Found]) -> Account:
        account = Account()
        for said in self.said.values():
            account.tries.update(said.tries)
            said.at_risk = said.answered_at is not None and any(
                death.at - DURABLE_S <= said.answered_at <= death.over for death in self.deaths
            )
        for person, holds in found.items():
            self._balance_person(account, person, holds)
        return account

    def _balance_person(self, account: Account, person: str, holds: Found) -> None:
        turns = Counter(_tokens(m for m in holds.turns if m["source"]["role"] == "user"))
        answers = Counter(_tokens(m for m in holds.turns if m["source"]["role"] == "assistant"))
        facts = Counter(_tokens(m for m in holds.facts if m["source"]["via"] == "chat"))
        mine = [said for said in self.said.values() if said.person == person]
        account.strangers += [t for t in turns | facts if not t.startswith(person + "-")]
        for said in mine:
            self._balance_turn(account, said, turns[said.token], answers[said.token])
            wanted = 2 if said.slot else 1
            if turns[said.token] and not said.erased:
                # A value that was replaced is superseded: it is not among the active facts.
                if facts[said.token] > wanted:
                    account.facts_doubled.append(said.token)
                if not facts[said.token]:
                    account.facts_lost.append(said.token)
        self._balance_slot(account, mine, turns, holds)
        order = [
            t
            for m in oldest_first(holds.turns)
            if m["source"]["role"] == "user"
            for t in _tokens([m])
        ]
        account.out_of_order += [b for a, b in itertools.pairwise(order) if b < a]
        active = Counter(_tokens(m for m in holds.facts if m["source"]["via"] != "chat"))
        for written in (w for w in self.written.values() if w.person == person):
            account.written += 1
            if written.present is not None and active[written.token] != int(written.present):
                account.written_wrong.append(f"{written.token} {active[written.token]}x")

    @staticmethod
    def _balance_turn(account: Account, said: Said, turns: int, answers: int) -> None:
        account.said += 1
        account.expected += said.least
        account.found += turns > 0
        account.at_risk += said.at_risk and not said.erased
        if said.erased:
            if turns or answers:
                account.left_after_erasure.append(said.token)
            return
        if turns < said.least or (said.least and len(said.tries) == 1 and not answers):
            account.lost.append(said.token)
        elif said.at_risk and said.answered_at is not None and not turns:
            account.lost_at_risk += 1
        if turns > said.most or answers > said.most:
            account.doubled.append(f"{said.token} {turns}+{answers}x {'/'.join(said.tries)}")

    @staticmethod
    def _balance_slot(
        account: Account, mine: Iterable[Said], turns: Mapping[str, int], holds: Found
    ) -> None:
        """The value that a key has is the one that was said last."""
        values = [said.token for said in mine if said.slot and turns[said.token]]
        active = [m for m in holds.facts if m.get("key") == SLOT]
        if values and [m.get("value") for m in active] != [values[-1]]:
            account.slots_wrong.append(f"{values[-1]} is not {[m.get('value') for m in active]}")


def oldest_first(memories: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(memories, key=lambda m: (m["created_at"], m["id"]))


def _tokens(memories: Iterable[Mapping[str, Any]]) -> list[str]:
    return [token for m in memories for token in dict.fromkeys(TOKEN.findall(m["text"]))]
