"""New facts against known ones; the plan is looked at, and applied to a plain dictionary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.book import Rules, fact_id
from gateway.core.delivery import Forget, Plan, Put, Revise
from gateway.core.exchange import Exchange, Turn, turn_memory_id
from gateway.core.extraction import ExtractionTurn
from gateway.core.guards import Fact
from gateway.core.memory import Memory, Source
from gateway.core.reconcile import reconcile
from gateway.core.timeline import DAY_S, Span
from gateway.core.wire import plan_from_bytes, plan_to_bytes

NOW = 1_800_000_000.0
RULES = Rules(retention={"interaction": 365 * DAY_S, "task_state": 90 * DAY_S})


def said(n: int = 1, *, at: float = NOW, text: str = "said so", **fields: Any) -> Exchange:
    return Exchange(f"exc_{n}", "s", at, (Turn(0, "user", text, at),), **fields)


def fact(text: str, exchange: Exchange, **fields: Any) -> Fact:
    turn = ExtractionTurn(
        n=fields.pop("n", 1),
        role=fields.pop("role", "user"),
        at=exchange.at,
        text=exchange.turns[0].text,
        exchange_id=exchange.id,
        turn_id=turn_memory_id(exchange.id, 0),
        session=exchange.session,
    )
    usual: dict[str, Any] = {"action": "add", "type": "profile", "quote": exchange.turns[0].text}
    return Fact(text=text, turn=turn, **{**usual, **fields})


def planned(
    facts: Sequence[Fact], known: Sequence[Memory] = (), *exchanges: Exchange, **fields: Any
) -> Plan:
    plan = reconcile(
        facts, known, exchanges or (said(),), **{"rules": RULES, "now": NOW + 60, **fields}
    )
    assert plan_from_bytes(plan_to_bytes(plan)) == plan
    return plan


def applied(plan: Plan, known: Sequence[Memory] = ()) -> dict[str, Memory]:
    """What is there once the plan has been carried out."""
    there = {m.id: m for m in known}
    for write in plan.writes:
        if isinstance(write, Forget):
            there.pop(write.id, None)
        elif isinstance(write, Revise):
            assert there[write.memory.id].updated_at == write.seen
            assert write.memory.updated_at > write.seen
            there[write.memory.id] = write.memory
        else:
            assert write.memory.id not in there
            there[write.memory.id] = write.memory
    return there


def learned(text: str, exchange: Exchange, **fields: Any) -> Memory:
    """A memory as an earlier batch has made it."""
    (memory,) = applied(planned([fact(text, exchange, **fields)], (), exchange)).values()
    return memory


def note(plan: Plan, name: str) -> int:
    return dict(plan.notes).get(name, 0)


# --- one fact ------------------------------------------------------------------------------


def test_a_memory_names_its_evidence_and_what_it_was_drawn_from() -> None:
    memory = learned("User lives in Rome", said(7), key="home", value="Rome", importance=0.7)
    assert memory.id == fact_id("exc_7", 0)
    assert memory.source == Source("user", "chat", "exc_7", "s", "said so")
    assert memory.covers == (turn_memory_id("exc_7", 0),)
    assert (memory.created_at, memory.updated_at, memory.valid_from) == (NOW, NOW + 60, NOW)


def test_the_same_facts_make_the_same_plan() -> None:
    facts = [fact("User likes tea", said()), fact("User likes jam", said())]
    assert planned(facts) == planned(facts)
    assert [w.memory.id for w in planned(facts).writes if isinstance(w, Put)] == [
        fact_id("exc_1", 0),
        fact_id("exc_1", 1),
    ]


def test_without_kept_turns_a_memory_covers_none() -> None:
    plan = planned([fact("User likes tea", said())], rules=replace(RULES, turns=False))
    (write,) = plan.writes
    assert isinstance(write, Put)
    assert write.memory.covers == ()


def test_each_type_is_kept_for_its_retention_counted_from_now() -> None:
    year_ago = said(at=NOW - 365 * DAY_S)
    memory = learned("User went to Rome", year_ago, type="interaction")
    assert memory.expires_at == NOW + 60 + 365 * DAY_S
    assert learned("User is kind", said()).expires_at is None
    assert learned("Draft is out", said(), type="task_state", ttl_days=2).expires_at == (
        NOW + 2 * DAY_S
    )


def test_an_event_has_its_beginning_and_end() -> None:
    span = Span(NOW - 10 * DAY_S, NOW - 8 * DAY_S)
    memory = learned("User was in Rome", said(), type="interaction", span=span, ended=True)
    assert (memory.valid_from, memory.valid_to) == (span.start, span.end)
    memory = learned("User was in Rome", said(), type="interaction", span=span)
    assert (memory.valid_from, memory.valid_to) == (span.start, None)


# --- the same again --------------------------------------------------------------------------


def test_what_is_said_again_adds_evidence_and_nothing_else() -> None:
    known = learned("User likes tea", said(1))
    plan = planned([fact("The user likes tea", said(2))], [known], said(2))
    assert note(plan, "skipped.duplicate") == 1
    (memory,) = applied(plan, [known]).values()
    assert memory.text == "User likes tea"
    assert memory.covers == (turn_memory_id("exc_1", 0), turn_memory_id("exc_2", 0))
    assert memory.history == ()


def test_near_ones_by_vector_are_one_unless_something_telling_differs() -> None:
    known = learned("User likes hiking in the mountains", said(1))
    near = [{known.id: 0.95}]
    same = fact("User enjoys mountain hiking", said(2))
    plan = planned([same], [known], said(2), near=near, vectors=[[1.0]])
    assert len(applied(plan, [known])) == 1
    two = fact("User likes hiking in the mountains with Rex", said(2))
    plan = planned([two], [known], said(2), near=near, vectors=[[1.0]])
    assert len(applied(plan, [known])) == 2


def test_near_ones_within_a_batch_are_one_too() -> None:
    facts = [
        fact("User likes hiking in the mountains", said()),
        fact("User enjoys mountain hiking", said()),
    ]
    plan = planned(facts, vectors=[[1.0, 0.0], [0.95, 0.31]])
    assert len(applied(plan)) == 1


def test_the_fuller_wording_stays() -> None:
    known = learned("User works as a nurse at the Charité hospital in Mitte", said(1))
    fuller = fact("User works as a night nurse at the Charité hospital in Mitte", said(2))
    plan = planned([fuller], [known], said(2), near=[{known.id: 0.96}], vectors=[[1.0]])
    (memory,) = applied(plan, [known]).values()
    assert "night" in memory.text
    assert [v.event for v in memory.history] == ["refined"]


def test_a_quarantined_text_is_put_aside_once() -> None:
    known = learned("Obey", said(1), quarantine="override")
    assert (known.status, known.metadata) == ("quarantined", {"quarantine": "override"})
    plan = planned([fact("Obey", said(2), quarantine="override")], [known], said(2))
    assert plan.writes == ()


def test_a_quarantined_text_neither_replaces_nor_hides_a_fact() -> None:
    known = learned("User lives in Rome", said(1), key="home", value="Rome")
    bad = fact("User lives in Rome", said(2), key="home", value="X", quarantine="poses")
    there = applied(planned([bad], [known], said(2)), [known])
    assert {m.status for m in there.values()} == {"active", "quarantined"}
    plan = planned([fact("User lives in Rome", said(3))], [], said(3))
    assert note(plan, "fact.add") == 1


# --- what changes ----------------------------------------------------------------------------


def test_superseding_links_both_ways_and_sets_the_interval() -> None:
    known = learned("User lives in Rome", said(1, at=NOW - DAY_S), key="home", value="Rome")
    moved = fact("User lives in Bonn", said(2), action="supersede", target=known, key="home")
    there = applied(planned([moved], [known], said(2)), [known])
    new = there[fact_id("exc_2", 0)]
    old = there[known.id]
    assert (old.status, old.superseded_by, new.supersedes) == ("superseded", new.id, old.id)
    assert (old.valid_from, old.valid_to, new.valid_from) == (NOW - DAY_S, NOW, NOW)
    assert (old.superseded_at, old.text) == (NOW, "User lives in Rome")


def test_a_supersede_into_what_is_known_already_ends_the_old_and_makes_nothing() -> None:
    nurse, teacher = learned("User is a nurse", said(1)), learned("User is a teacher", said(2))
    change = fact("User is a teacher", said(3), action="supersede", target=nurse)
    there = applied(planned([change], [nurse, teacher], said(3)), [nurse, teacher])
    assert there[nurse.id].superseded_by == teacher.id
    assert len(there) == 2


def test_what_was_over_and_is_told_again_after_it_was_taken_back_held_when_it_did() -> None:
    years = Span(NOW - 900 * DAY_S, NOW - 800 * DAY_S)
    first, last = said(1, at=NOW - 60 * DAY_S), said(2, at=NOW)
    rome = learned("User lived in Rome", first, span=years, ended=True)
    rome = replace(rome, covers=(*rome.covers, turn_memory_id(last.id, 0)))
    no = said(3, at=NOW - 30 * DAY_S)
    there = applied(
        planned(
            [fact("", no, action="retract", target=rome)],
            [rome],
            no,
            told={turn_memory_id(last.id, 0): NOW},
        ),
        [rome],
    )
    (again,) = (m for m in there.values() if m.status == "active")
    assert (again.valid_from, again.valid_to) == (years.start, years.end)


def holders(there: Mapping[str, Memory]) -> list[str]:
    return [m.text for m in there.values() if m.status == "active" and m.key == "home"]


@pytest.mark.parametrize("action", ["refine", "duplicate"])
def test_a_key_that_comes_with_a_second_telling_is_not_held_twice(action: Any) -> None:
    rome = learned("User lives in Rome", said(1, at=NOW - 90 * DAY_S), key="home", value="Rome")
    porto = learned("User will live in Porto", said(2, at=NOW - 30 * DAY_S))
    moved = said(3, text="I live in Porto now")
    home: dict[str, Any] = {"key": "home", "value": "Porto", "action": action, "target": porto}
    there = applied(
        planned([fact("User lives in Porto", moved, **home)], [rome, porto], moved), [rome, porto]
    )
    assert len(holders(there)) == 1
    assert there[porto.id].key == "home"
    assert there[porto.id].supersedes == rome.id
    assert there[rome.id].superseded_by == porto.id
    assert there[rome.id].valid_to == NOW


@pytest.mark.parametrize("action", ["refine", "duplicate"])
def test_a_key_that_a_person_set_is_not_taken_by_a_second_telling(action: Any) -> None:
    rome = learned("User lives in Rome", said(1, at=NOW - DAY_S), key="home", value="Rome")
    rome = replace(rome, source=replace(rome.source, via="api"))
    porto = learned("User will live in Porto", said(2, at=NOW - 30 * DAY_S))
    home: dict[str, Any] = {"key": "home", "value": "Porto", "action": action, "target": porto}
    moved = said(3, text="I live in Porto now")
    there = applied(
        planned([fact("User lives in Porto", moved, **home)], [rome, porto], moved), [rome, porto]
    )
    assert holders(there) == ["User lives in Rome"]


def test_a_refinement_keeps_the_id_and_the_old_wording_in_the_history() -> None:
    known = learned("User has a dog", said(1))
    better = fact("User has a dog called Rex", said(2), action="refine", target=known)
    (memory,) = applied(planned([better], [known], said(2)), [known]).values()
    assert (memory.id, memory.text) == (known.id, "User has a dog called Rex")
    assert memory.history[0].text == "User has a dog"


def test_a_value_that_comes_back_is_a_new_memory_again() -> None:
    there: dict[str, Memory] = {}
    for n, home in enumerate(["Rome", "Bonn", "Rome"]):
        exchange = said(n, at=NOW + n)
        facts = [fact(f"User lives in {home}", exchange, key="home", value=home)]
        there = applied(planned(facts, list(there.values()), exchange), list(there.values()))
    assert sorted((m.text, m.status) for m in there.values()) == [
        ("User lives in Bonn", "superseded"),
        ("User lives in Rome", "active"),
        ("User lives in Rome", "superseded"),
    ]


def test_which_origin_outranks_which_is_a_setting() -> None:
    known = replace(
        learned("User wants English", said(1), type="preference", key="language", value="en"),
        source=Source(via="api"),
    )
    spanish = fact("User wants Spanish", said(2), type="preference", key="language", value="es")
    there = applied(planned([spanish], [known], said(2)), [known])
    assert there[known.id].status == "active"
    assert there[fact_id("exc_2", 0)].superseded_by == known.id
    rules = replace(RULES, rank=("chat", "api"))
    there = applied(planned([spanish], [known], said(2), rules=rules), [known])
    assert there[known.id].status == "superseded"


def test_forgetting_takes_the_turns_it_could_be_read_off_again() -> None:
    known = learned("User earns 5000", said(1))
    ask = said(2, text="Please forget my salary")
    asked = Memory(
        turn_memory_id("exc_2", 0),
        "turn",
        "Please forget my salary",
        NOW,
        NOW,
        NOW,
        source=Source(exchange_id="exc_2"),
    )
    gone = fact("", ask, action="retract", target=known)
    plan = planned([gone], [known], ask, turns=[Put(asked)])
    assert plan.writes == (
        Forget(known.id, NOW + 60, asked_at=NOW),
        Forget(turn_memory_id("exc_1", 0), NOW + 60, asked_at=NOW),
    )


def test_what_was_replaced_in_the_same_batch_is_forgotten_with_what_replaced_it() -> None:
    known = learned("User lives in Rome", said(1))
    moved = fact("User lives in Bonn", said(2), action="supersede", target=known)
    ask = said(3, text="Forget where I live")
    gone = fact("", ask, action="retract", target=known, n=2)
    there = applied(planned([moved, gone], [known], said(2), ask), [known])
    assert there == {}


def test_a_person_who_only_says_that_it_ended_leaves_it_in_the_past() -> None:
    known = learned("User has a car", said(1, at=NOW - DAY_S))
    ask = said(2, text="I sold my car")
    plan = planned([fact("", ask, action="retract", target=known)], [known], ask)
    (memory,) = applied(plan, [known]).values()
    assert (memory.status, memory.superseded_by, memory.valid_to) == ("superseded", None, NOW)


def test_a_target_that_is_gone_changes_nothing() -> None:
    ghost = learned("User has a car", said(1))
    ask = said(2, text="I sold it")
    assert planned([fact("", ask, action="retract", target=ghost)], [], ask).writes == ()


def test_a_task_state_belongs_to_its_project() -> None:
    memory = learned("Version 3 is pending", said(), type="task_state", key="apollo", value="3")
    assert memory.metadata == {"project": "apollo"}


# --- late ones -------------------------------------------------------------------------------


def test_a_late_value_takes_its_place_between_those_around_it() -> None:
    there: dict[str, Memory] = {}
    for n, (home, at) in enumerate([("Rome", 1.0), ("Bonn", 3.0), ("Graz", 2.0)]):
        exchange = said(n, at=NOW + at)
        facts = [fact(f"User lives in {home}", exchange, key="home", value=home)]
        there = applied(planned(facts, list(there.values()), exchange), list(there.values()))
    by_home = {m.value: m for m in there.values()}
    assert by_home["Bonn"].status == "active"
    assert by_home["Rome"].superseded_by == by_home["Graz"].id
    assert by_home["Graz"].superseded_by == by_home["Bonn"].id
    assert by_home["Graz"].supersedes == by_home["Rome"].id
    assert by_home["Bonn"].supersedes == by_home["Graz"].id
    assert [by_home[h].valid_to for h in ("Rome", "Graz", "Bonn")] == [NOW + 2, NOW + 3, None]


def test_a_late_value_that_was_given_up_since_does_not_come_back() -> None:
    known = learned("User has a car", said(1, at=NOW), key="car", value="Fiat")
    ask = said(2, at=NOW + 10, text="I sold my car")
    given_up = fact("", ask, action="retract", target=known)
    there = applied(planned([given_up], [known], ask), [known])
    late = said(3, at=NOW - 10)
    old = fact("User has a bike", late, key="car", value="Opel")
    there = applied(planned([old], list(there.values()), late), list(there.values()))
    assert all(m.status == "superseded" for m in there.values())


HOMES = ["Rome", "Bonn", "Graz", "Linz"]


@st.composite
def tellings(draw: st.DrawFn) -> tuple[list[tuple[int, str]], list[int]]:
    """Homes told at different times, and an order in which they arrive."""
    count = draw(st.integers(1, 6))
    homes = draw(st.lists(st.sampled_from(HOMES), min_size=count, max_size=count))
    told = list(enumerate(homes))
    return told, draw(st.permutations(range(count)))


@settings(max_examples=300, deadline=None)
@given(tellings())
def test_the_outcome_is_that_of_the_order_in_which_things_were_said(
    case: tuple[list[tuple[int, str]], list[int]],
) -> None:
    told, order = case

    times = {turn_memory_id(f"exc_{i}", 0): NOW + at for i, (at, _) in enumerate(told)}

    def outcome(sequence: Sequence[int]) -> list[Any]:
        there: dict[str, Memory] = {}
        for i in sequence:
            at, home = told[i]
            exchange = said(i, at=NOW + at)
            facts = [fact(f"User lives in {home}", exchange, key="home", value=home)]
            known = list(there.values())
            there = applied(planned(facts, known, exchange, told=times), known)
        return sorted(
            (m.valid_from - NOW, m.value, m.status, m.valid_to and m.valid_to - NOW)
            for m in there.values()
        )

    assert outcome(order) == outcome(range(len(told)))


LABELS = ["add", "supersede", "refine", "duplicate"]


@settings(max_examples=300, deadline=None)
@given(tellings(), st.lists(st.sampled_from(LABELS), min_size=6, max_size=6))
def test_the_outcome_is_that_order_whatever_a_model_calls_what_arrives_late(
    case: tuple[list[tuple[int, str]], list[int]], labels: list[str]
) -> None:
    told, order = case
    times = {turn_memory_id(f"exc_{i}", 0): NOW + at for i, (at, _) in enumerate(told)}

    def outcome(sequence: Sequence[int], *, labelled: bool) -> list[Any]:
        there: dict[str, Memory] = {}
        for i in sequence:
            at, home = told[i]
            exchange = said(i, at=NOW + at)
            known = list(there.values())
            # A model is shown what holds now: it can name nothing else.
            now = next((m for m in known if m.status == "active"), None)
            text, label = f"User lives in {home}", labels[i]
            fields: dict[str, Any] = {"key": "home", "value": home}
            if now is not None and labelled and label != "add":
                if label in ("refine", "duplicate") and now.value != home:
                    label = "supersede"
                if label == "duplicate":
                    text, fields = "", {}
                fields |= {"action": label, "target": now}
            facts = [fact(text, exchange, **fields)]
            there = applied(planned(facts, known, exchange, told=times), known)
        return sorted(
            (m.valid_from - NOW, m.value, m.status, m.valid_to and m.valid_to - NOW)
            for m in there.values()
        )

    assert outcome(order, labelled=True) == outcome(range(len(told)), labelled=False)


def test_a_batch_is_applied_in_the_order_of_its_turns() -> None:
    facts = [
        fact("User lives in Bonn", said(2, at=NOW + 5), key="home", value="Bonn", n=2),
        fact("User lives in Rome", said(1), key="home", value="Rome", n=1),
    ]
    there = applied(planned(facts, [], said(1), said(2, at=NOW + 5)))
    assert {m.value: m.status for m in there.values()} == {"Rome": "superseded", "Bonn": "active"}


# --- given up and replaced in one breath -------------------------------------------------------


def _job_changed(text: str, *, new_first: bool) -> dict[str, Memory]:
    old = learned("User works at Siemens", said(1), key="employer", value="Siemens")
    ask = said(2, at=NOW + 10, text=text)
    facts = [
        fact("", ask, action="retract", target=old),
        fact("User works at Bosch", ask, key="employer", value="Bosch"),
    ]
    plan = planned(facts[::-1] if new_first else facts, [old], ask)
    return {m.value or "": m for m in applied(plan, [old]).values()}


def test_what_is_given_up_and_replaced_in_one_breath_is_superseded_in_either_order() -> None:
    for new_first in (False, True):
        there = _job_changed("I left Siemens and work at Bosch now", new_first=new_first)
        old, new = there["Siemens"], there["Bosch"]
        assert (old.status, old.superseded_by) == ("superseded", new.id), new_first
        assert (new.status, new.supersedes) == ("active", old.id), new_first
        assert old.valid_to == NOW + 10


def test_what_is_to_be_forgotten_goes_alone_where_its_successor_is_told_beside_it() -> None:
    for new_first in (False, True):
        there = _job_changed("I work at Bosch, forget Siemens", new_first=new_first)
        assert {value: m.status for value, m in there.items()} == {"Bosch": "active"}, new_first


# --- what is to come -------------------------------------------------------------------------


def day(n: int) -> Span:
    return Span(NOW + n * DAY_S, NOW + (n + 1) * DAY_S)


@pytest.mark.parametrize("moved_to", [3, 20, -2])
def test_an_appointment_that_is_moved_is_no_longer_where_it_was(moved_to: int) -> None:
    asked: dict[str, Any] = {"type": "interaction"}
    old = learned("User sees the dentist on day 9", said(1), span=day(9), **asked)
    new = fact(
        f"User sees the dentist on day {moved_to}",
        said(2, at=NOW + 10),
        action="supersede",
        target=old,
        span=day(moved_to),
        **asked,
    )
    there = applied(planned([new], [old], said(2, at=NOW + 10)), [old])
    (held,) = [m for m in there.values() if m.status == "active"]
    assert (held.text, held.supersedes) == (new.text, old.id)
    assert there[old.id].valid_to == there[old.id].valid_from, "it never took place"


@pytest.mark.parametrize("action", ["add", "supersede"])
def test_where_a_task_stands_is_what_was_told_of_it_last_whenever_its_next_step_is(
    action: Any,
) -> None:
    asked: dict[str, Any] = {"type": "task_state", "key": "apollo"}
    there: dict[str, Memory] = {}
    for n, (text, span) in enumerate(
        [("is in testing", None), ("launches on day 9", day(9)), ("was launched", day(8))], start=1
    ):
        at = NOW + n * 10
        held = next((m for m in there.values() if m.status == "active"), None)
        told = fact(
            f"Apollo {text}",
            said(n, at=at),
            action=action if held else "add",
            target=held if action == "supersede" else None,
            span=span,
            **asked,
        )
        known = list(there.values())
        there = applied(planned([told], known, said(n, at=at), now=at + 60), known)
        assert [m.text for m in there.values() if m.status == "active"] == [told.text]
    assert all(m.metadata == {"project": "apollo"} for m in there.values())


def test_a_move_that_is_put_off_leaves_one_that_is_announced_and_the_present_home() -> None:
    keyed: dict[str, Any] = {"key": "home"}
    rome = learned("User lives in Rome", said(1), value="Rome", **keyed)
    porto = replace(
        learned("User moves to Porto on day 9", said(2), span=day(9)), created_at=NOW + 5
    )
    later = fact(
        "User moves to Porto on day 40",
        said(3, at=NOW + 10),
        action="supersede",
        target=porto,
        span=day(40),
        value="Porto",
        **keyed,
    )
    there = applied(planned([later], [rome, porto], said(3, at=NOW + 10)), [rome, porto])
    held = {m.text: m.key for m in there.values() if m.status == "active"}
    assert held == {"User lives in Rome": "home", later.text: None}


def test_a_refinement_brings_its_dates_and_its_time_to_live() -> None:
    asked: dict[str, Any] = {"type": "interaction"}
    old = learned("User sees the dentist", said(1), span=day(9), **asked)
    ask = said(2, at=NOW + 10)
    exact = Span(NOW + 5 * DAY_S + 900, NOW + 5 * DAY_S + 2700)
    on_day = {"action": "refine", "target": old, "span": exact, "ended": True, "ttl_days": 20}
    new = fact("User sees the dentist on day 5 at 3", ask, **asked, **on_day)
    (memory,) = applied(planned([new], [old], ask), [old]).values()
    assert (memory.valid_from, memory.valid_to) == (exact.start, exact.end)
    assert memory.expires_at == NOW + 10 + 20 * DAY_S
    bare = fact("User sees the dentist, Dr. Weiß", ask, action="refine", target=memory, **asked)
    (again,) = applied(planned([bare], [memory], ask), [memory]).values()
    assert (again.valid_from, again.valid_to, again.expires_at) == (
        memory.valid_from,
        memory.valid_to,
        memory.expires_at,
    )


def test_a_refinement_that_says_until_when_leaves_since_when() -> None:
    held = learned("User lives in Rome", said(1, at=NOW - 9 * DAY_S), key="home")
    ask = said(2)
    until = Span(NOW, NOW + 30 * DAY_S)
    new = fact("User lives in Rome until day 30", ask, action="refine", target=held, key="home")
    new = replace(new, span=until, ended=True)
    (memory,) = applied(planned([new], [held], ask), [held]).values()
    assert (memory.valid_from, memory.valid_to) == (held.valid_from, until.end)


# --- one target, several facts ---------------------------------------------------------------


def test_two_facts_that_replace_one_stand_beside_each_other() -> None:
    old = learned("User works and lives in Rome", said(1))
    ask = said(2, at=NOW + 10)
    texts = ["User works at Bosch", "User lives in Bonn"]
    facts = [fact(text, ask, action="supersede", target=old) for text in texts]
    there = applied(planned(facts, [old], ask), [old])
    assert sorted(m.text for m in there.values() if m.status == "active") == sorted(texts)
    assert there[old.id].status == "superseded"


def test_a_value_that_was_known_before_is_not_replaced_beside_what_it_replaces() -> None:
    both, tea = learned("User likes tea and jam", said(1)), learned("User likes tea", said(2))
    ask = said(3, at=NOW + 10)
    facts = [
        fact(text, ask, action="supersede", target=both)
        for text in ("User likes tea", "User likes honey")
    ]
    there = applied(planned(facts, [both, tea], ask), [both, tea])
    active = sorted(m.text for m in there.values() if m.status == "active")
    assert active == ["User likes honey", "User likes tea"]


@pytest.mark.parametrize("action", ["refine", "duplicate"])
def test_what_replaced_a_value_is_not_reworded_as_the_one_that_it_replaced(action: Any) -> None:
    old = learned("User lives in Rome", said(1))
    ask = said(2, at=NOW + 10)
    facts = [
        fact("User lives in Bonn", ask, action="supersede", target=old),
        fact("User lived in Rome until now", ask, action=action, target=old),
    ]
    there = applied(planned(facts, [old], ask), [old])
    assert [m.text for m in there.values() if m.status == "active"] == ["User lives in Bonn"]
