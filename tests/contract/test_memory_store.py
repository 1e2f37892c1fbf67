"""What every memory store promises; two owners with the same words throughout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import SettingsError
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Entry, Memory, Probe, Source, Version, Where
from gateway.ports import EmbeddingModel, MemoryStore
from tests.contract.conftest import MODEL, until

ANNA = new_owner(Person("default", "anna"))
BOB = new_owner(Person("default", "bob"))
ANY = Where(statuses=())


def fact(id: str, text: str, *, at: float = 1000.0, **fields: Any) -> Memory:
    return Memory(
        **{
            "id": id,
            "kind": "fact",
            "type": "interaction",
            "text": text,
            "created_at": at,
            "updated_at": at,
            "valid_from": at,
            **fields,
        }
    )


def turn(id: str, text: str, *, at: float = 1000.0, **fields: Any) -> Memory:
    return fact(id, text, at=at, kind="turn", type=None, **fields)


async def put(store: MemoryStore, owner: Owner, *memories: Memory) -> None:
    await store.put(owner, [Entry(memory, dense=(1.0, 0.0, 0.0)) for memory in memories])


async def found(
    store: MemoryStore, owner: Owner, text: str, where: Where | None = None
) -> set[str]:
    answer = await store.search(owner, Probe(text, where or Where()))
    return {id for id, _ in answer.lists["lexical"]}


# --- writing and reading back ----------------------------------------------------------------


async def test_what_is_put_comes_back_whole(store: MemoryStore) -> None:
    whole = Memory(
        id="fact 1/ö",
        kind="fact",
        type="preference",
        text="Answers in Spanish, please. ¡Olé! 日本",
        key="language",
        value="es",
        importance=0.83,
        pinned=True,
        status="superseded",
        created_at=1_700_000_000.123456,
        updated_at=1_700_000_001.5,
        valid_from=1_600_000_000.0,
        valid_to=1_700_000_002.0,
        expires_at=1_800_000_000.0,
        superseded_at=1_700_000_002.25,
        superseded_by="fact 2",
        supersedes="fact 0",
        source=Source("user", "api", "ex-1", "s-1", "in Spanish"),
        speaker="Anna",
        covers=("turn_1", "turn_2"),
        metadata={"a": [1, "x", None, {"b": 1.5}], "c": True},
        history=(Version(1_650_000_000.0, "corrected", "In French", "language", "fr", "chat"),),
    )
    await put(store, ANNA, whole)
    assert await store.get(ANNA, ["fact 1/ö"]) == [whole]


async def test_get_keeps_the_order_asked_for_and_leaves_out_what_is_not_there(
    store: MemoryStore,
) -> None:
    a, b = fact("a", "one"), fact("b", "two")
    await put(store, ANNA, a, b)
    assert await store.get(ANNA, ["b", "nothing", "a"]) == [b, a]
    assert await store.get(ANNA, []) == []


async def test_putting_an_id_again_replaces_it(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "plays the violin"))
    await put(store, ANNA, fact("a", "plays the cello"))
    assert await store.count(ANNA.tenant) == 1
    assert await found(store, ANNA, "violin") == set()
    assert await found(store, ANNA, "cello") == {"a"}


async def test_the_same_id_is_another_memory_for_another_owner(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "lives in Berlin"))
    await put(store, BOB, fact("a", "lives in Berlin too"))
    assert [m.text for m in await store.get(ANNA, ["a"])] == ["lives in Berlin"]
    assert await store.delete(BOB, ["a"]) == 1
    assert await store.count(ANNA.tenant) == 1


async def test_a_text_with_what_no_encoding_can_carry_is_stored(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "broken \ud800 surrogate\x00"))
    assert await found(store, ANNA, "surrogate") == {"a"}


async def test_a_memory_of_a_megabyte_is_stored_and_found(store: MemoryStore) -> None:
    text = "start " + "filler words again " * 55_000
    await put(store, ANNA, fact("a", text))
    assert await found(store, ANNA, "start") == {"a"}
    assert [len(m.text) for m in await store.get(ANNA, ["a"])] == [len(text)]


async def test_deleting_tells_how_many_there_were(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "one"), fact("b", "two"))
    assert await store.delete(ANNA, ["a", "a", "nothing"]) == 1
    assert await store.delete(ANNA, ["a"]) == 0
    assert await store.delete(ANNA, []) == 0
    assert await store.get(ANNA, ["a", "b"]) == [fact("b", "two")]


async def test_erasing_removes_everything_of_a_tenant_and_nothing_of_others(
    store: MemoryStore,
) -> None:
    await put(store, ANNA, *(fact(str(i), f"anna sings {i}") for i in range(40)))
    await put(store, ANNA, fact("tomb", "", status="forgotten"))
    await put(store, BOB, fact("1", "anna sings"))
    await found(store, ANNA, "sings")
    assert await store.erase(ANNA.tenant) == 41
    assert await store.count(ANNA.tenant) == 0
    assert await store.erase(ANNA.tenant) == 0
    assert await found(store, ANNA, "sings") == set()
    assert await store.page(ANNA, ANY, limit=10) == []
    assert await found(store, BOB, "sings") == {"1"}
    assert await store.tenants() == [BOB.tenant]


# --- searching -------------------------------------------------------------------------------


async def test_no_search_finds_another_owners_memory(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "the dog is called Bella", pinned=True))
    await put(store, BOB, fact("b", "the dog is called Bella", pinned=True))
    probe = Probe("dog Bella", Where(), dense=(1.0, 0.0, 0.0), standing=10)
    answer = await store.search(ANNA, probe)
    assert set(answer.memories) == {"a"}
    assert {id for hits in answer.lists.values() for id, _ in hits} == {"a"}


async def test_words_are_found_by_their_stems_and_stop_words_do_not_count(
    store: MemoryStore,
) -> None:
    await put(store, ANNA, fact("a", "She was running in the mountains"), fact("b", "the of in"))
    assert await found(store, ANNA, "runs the mountain of") == {"a"}


async def test_each_list_comes_best_first_with_its_scores(store: MemoryStore) -> None:
    await store.put(
        ANNA,
        [
            Entry(fact("near", "cats and dogs"), dense=(0.9, 0.1, 0.0)),
            Entry(fact("far", "cats"), dense=(0.0, 1.0, 0.0), dense_window=(1.0, 0.0, 0.0)),
        ],
    )
    answer = await store.search(ANNA, Probe("dogs cats", Where(), dense=(2.0, 0.0, 0.0)))
    assert [id for id, _ in answer.lists["dense"]] == ["near", "far"]
    assert answer.lists["dense"][0][1] == pytest.approx(0.99388, abs=1e-4)
    assert [id for id, _ in answer.lists["dense_window"]] == ["far"]
    lexical = dict(answer.lists["lexical"])
    assert lexical["near"] > lexical["far"] > 0.0


async def test_a_turn_is_found_by_the_words_around_it(store: MemoryStore) -> None:
    window = "Where do you go on holiday?\nTo my sister.\nIn Norway?"
    await store.put(ANNA, [Entry(turn("t", "To my sister."), window=window)])
    answer = await store.search(ANNA, Probe("holiday in Norway", Where()))
    assert answer.lists["lexical"] == []
    assert [id for id, _ in answer.lists["lexical_window"]] == ["t"]


async def test_without_a_vector_the_dense_lists_are_not_claimed_to_be_empty(
    store: MemoryStore,
) -> None:
    await put(store, ANNA, fact("a", "tea"))
    answer = await store.search(ANNA, Probe("tea", Where()))
    assert "dense" not in answer.lists
    wrong_size = await store.search(ANNA, Probe("tea", Where(), dense=(1.0, 0.0)))
    assert "dense" not in wrong_size.lists
    assert [id for id, _ in wrong_size.lists["lexical"]] == ["a"]


async def test_how_rare_a_word_is_counts_over_the_owner_alone(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "violin"), fact("b", "tea"), fact("c", "tea biscuits"))
    before = await store.search(ANNA, Probe("violin tea", Where()))
    await put(store, BOB, *(fact(str(i), "violin") for i in range(50)))
    after = await store.search(ANNA, Probe("violin tea", Where()))
    assert dict(after.lists["lexical"]) == pytest.approx(dict(before.lists["lexical"]))
    scores = dict(after.lists["lexical"])
    assert scores["a"] > scores["b"]


async def test_a_question_without_words_finds_nothing_and_is_no_error(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "tea"), fact("p", "is vegan", type="profile"))
    for query in ("", "   ", "🦄", "the of", "\x00\x01", "?!", "\ud800"):
        answer = await store.search(ANNA, Probe(query, Where(), standing=5))
        assert list(answer.lists["lexical"]) == []
        assert [id for id, _ in answer.lists["standing"]] == ["p"]


async def test_a_gigantic_question_is_answered(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "the unicorn"))
    text = "unicorn " + " ".join(f"word{i}" for i in range(54_000))
    assert await found(store, ANNA, text) == {"a"}


async def test_a_search_of_an_owner_without_memories_finds_nothing(store: MemoryStore) -> None:
    nobody = new_owner(Person("default", "nobody"))
    answer = await store.search(nobody, Probe("x", Where(), dense=(1.0, 0.0, 0.0), standing=3))
    assert answer.memories == {}
    assert all(not hits for hits in answer.lists.values())


async def test_limits_hold_for_each_list(store: MemoryStore) -> None:
    await put(store, ANNA, *(fact(str(i), "tea", type="profile") for i in range(9)))
    probe = Probe("tea", Where(), limit=4, dense=(1.0, 0.0, 0.0), standing=2)
    lists = (await store.search(ANNA, probe)).lists
    assert {name: len(hits) for name, hits in lists.items()} == {
        "lexical": 4,
        "lexical_window": 0,
        "dense": 4,
        "dense_window": 0,
        "standing": 2,
    }


async def test_a_search_sees_a_correction_made_since_the_last_one(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "tea with milk"))
    await found(store, ANNA, "tea")
    await put(store, ANNA, fact("a", "tea with lemon", at=2000.0))
    answer = await store.search(ANNA, Probe("tea", Where()))
    assert answer.memories["a"].text == "tea with lemon"


# --- standing memories -----------------------------------------------------------------------


async def test_standing_are_pinned_then_important_then_new_profile_and_preferences(
    store: MemoryStore,
) -> None:
    await put(
        store,
        ANNA,
        fact("old", "likes tea", type="preference", at=1000.0),
        fact("new", "likes rice", type="preference", at=2000.0),
        fact("weighty", "is allergic", type="profile", importance=0.9),
        fact("pinned", "went out", pinned=True, importance=0.1),
        fact("other", "went home", importance=1.0),
        fact("past", "liked milk", type="preference", status="superseded"),
        turn("turn", "said so"),
    )
    answer = await store.search(ANNA, Probe("", Where(), standing=10))
    assert [id for id, _ in answer.lists["standing"]] == ["pinned", "weighty", "new", "old"]


@pytest.mark.parametrize("text", ["", "tea", "elsewhere"])
async def test_standing_are_as_they_were_corrected_since_the_last_search(
    store: MemoryStore, text: str
) -> None:
    probe = Probe(text, Where(), standing=10)
    for drink in ("milk", "lemon", "honey"):
        await put(store, ANNA, fact("a", f"tea with {drink}", type="preference"), turn("t", "so"))
        for _ in range(2):
            answer = await store.search(ANNA, probe)
            assert answer.memories["a"].text == f"tea with {drink}"


# --- which are meant -------------------------------------------------------------------------


async def test_only_active_memories_are_meant_unless_said_otherwise(store: MemoryStore) -> None:
    await put(
        store,
        ANNA,
        fact("a", "tea"),
        fact("s", "tea", status="superseded"),
        fact("q", "tea", status="quarantined"),
    )
    assert await found(store, ANNA, "tea") == {"a"}
    assert await found(store, ANNA, "tea", Where(statuses=("superseded",))) == {"s"}
    assert await found(store, ANNA, "tea", ANY) == {"a", "s", "q"}


async def test_kinds_and_types_narrow_a_search(store: MemoryStore) -> None:
    await put(store, ANNA, fact("f", "tea", type="profile"), fact("i", "tea"), turn("t", "tea"))
    assert await found(store, ANNA, "tea", Where(kinds=("turn",))) == {"t"}
    assert await found(store, ANNA, "tea", Where(types=("profile",))) == {"f"}
    assert await found(store, ANNA, "tea", Where(types=("profile", "interaction"))) == {"f", "i"}


async def test_metadata_must_match_key_by_key(store: MemoryStore) -> None:
    await put(
        store,
        ANNA,
        fact("a", "tea", metadata={"project": "x", "n": 1, "tags": ["red", "blue"]}),
        fact("b", "tea", metadata={"project": "x", "n": True}),
        fact("c", "tea", metadata={"project": "y", "n": 1}),
    )
    assert await found(store, ANNA, "tea", Where(metadata={"project": "x"})) == {"a", "b"}
    assert await found(store, ANNA, "tea", Where(metadata={"project": "x", "n": 1.0})) == {"a"}
    assert await found(store, ANNA, "tea", Where(metadata={"tags": "blue"})) == {"a"}
    assert await found(store, ANNA, "tea", Where(metadata={"absent": None})) == set()


async def test_a_session_narrows_a_search(store: MemoryStore) -> None:
    await put(
        store,
        ANNA,
        turn("a", "tea", source=Source(session="s1")),
        turn("b", "tea", source=Source(session="s2")),
    )
    assert await found(store, ANNA, "tea", Where(session="s1")) == {"a"}
    await put(store, ANNA, turn("c", "tea", source=Source(session="s3")), turn("d", "tea"))
    await put(store, BOB, turn("e", "tea", source=Source(session="s3")))
    where = Where(sessions=("s1", "s3", "s4"))
    assert await found(store, ANNA, "tea", where) == {"a", "c"}
    assert {m.id for m in await store.page(ANNA, where, limit=9)} == {"a", "c"}
    with pytest.raises(ValueError, match="owner"):
        await store.count(ANNA.tenant, where)


async def test_what_was_said_after_an_instant_is_found_alone(store: MemoryStore) -> None:
    said = [turn("old", "tea", created_at=1.0), turn("at", "tea", created_at=2.0)]
    await put(store, ANNA, *said, turn("new", "tea", created_at=2.5))
    assert await found(store, ANNA, "tea", Where(said_after=2.0)) == {"new"}
    assert [m.id for m in await store.page(ANNA, Where(said_after=1.0), limit=9)] == ["new", "at"]


async def test_as_of_keeps_what_was_true_then_superseded_or_not(store: MemoryStore) -> None:
    await put(
        store,
        ANNA,
        fact("was", "lives in Rome", valid_from=100.0, valid_to=200.0, status="superseded"),
        fact("is", "lives in Oslo", valid_from=200.0),
        fact("hidden", "lives in Paris", valid_from=100.0, status="quarantined"),
    )
    assert await found(store, ANNA, "lives", Where(as_of=150.0)) == {"was"}
    assert await found(store, ANNA, "lives", Where(as_of=200.0)) == {"is"}
    assert await found(store, ANNA, "lives", Where(as_of=50.0)) == set()


async def test_expired_memories_are_not_found_where_the_time_is_given(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "tea", expires_at=500.0), fact("b", "tea", expires_at=501.0))
    where = Where(expired_before=500.0)
    assert await found(store, ANNA, "tea", where) == {"b"}
    assert [m.id for m in await store.page(ANNA, where, limit=9)] == ["b"]
    assert await store.count(ANNA.tenant, where) == 1
    assert await found(store, ANNA, "tea") == {"a", "b"}


async def test_count_takes_all_or_those_that_are_meant(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "tea"), turn("t", "tea"))
    await put(store, ANNA, fact("tomb", "", status="forgotten"))
    assert await store.count(ANNA.tenant) == 3
    assert await store.count(ANNA.tenant, Where(kinds=("turn",))) == 1
    assert await store.count(BOB.tenant) == 0
    with pytest.raises(ValueError, match="owner"):
        await store.count(ANNA.tenant, Where(session="s"))


# --- paging ----------------------------------------------------------------------------------


async def pages(store: MemoryStore, limit: int, where: Where | None = None) -> list[list[Memory]]:
    seen: list[list[Memory]] = []
    after = None
    while page := await store.page(ANNA, where or Where(), limit=limit, after=after):
        seen.append(page)
        after = (page[-1].created_at, page[-1].id)
    return seen


async def test_pages_come_newest_first_and_end(store: MemoryStore) -> None:
    await put(store, ANNA, *(fact(f"m{i}", "tea", at=1000.0 + i) for i in range(7)))
    ids = [[m.id for m in page] for page in await pages(store, 3)]
    assert ids == [["m6", "m5", "m4"], ["m3", "m2", "m1"], ["m0"]]


async def test_a_thousand_memories_of_one_instant_are_paged_once_each(store: MemoryStore) -> None:
    same = [fact(f"same{i}", "tea", at=5000.25) for i in range(1000)]
    others = [fact("older", "tea", at=5000.0), fact("newer", "tea", at=5001.0)]
    await put(store, ANNA, *same, *others)
    ids = [m.id for page in await pages(store, 70) for m in page]
    assert ids[0] == "newer"
    assert ids[-1] == "older"
    assert sorted(ids[1:-1]) == sorted(m.id for m in same)


async def test_pages_neither_repeat_nor_skip_while_memories_are_written(store: MemoryStore) -> None:
    await put(store, ANNA, *(fact(f"m{i}", "tea", at=1000.0 + i // 4) for i in range(20)))
    first = await store.page(ANNA, Where(), limit=6)
    last = first[-1]
    await put(store, ANNA, fact("brand new", "tea", at=9000.0))
    await store.delete(ANNA, [last.id])  # the very one that the cursor names
    rest: list[Memory] = []
    after = (last.created_at, last.id)
    while page := await store.page(ANNA, Where(), limit=6, after=after):
        rest += page
        after = (page[-1].created_at, page[-1].id)
    assert sorted(m.id for m in first + rest) == sorted(f"m{i}" for i in range(20))


async def test_a_page_holds_only_what_is_meant(store: MemoryStore) -> None:
    await put(store, ANNA, fact("f", "tea"), turn("t", "tea"), fact("s", "", status="superseded"))
    await put(store, BOB, fact("b", "tea"))
    assert [m.id for m in await store.page(ANNA, Where(kinds=("turn",)), limit=9)] == ["t"]
    assert {m.id for m in await store.page(ANNA, ANY, limit=9)} == {"f", "t", "s"}


# --- over all tenants ------------------------------------------------------------------------


async def test_expired_memories_of_all_tenants_are_named_so_that_they_can_be_deleted(
    store: MemoryStore,
) -> None:
    await put(store, ANNA, fact("a", "x", expires_at=100.0), fact("b", "x", expires_at=200.0))
    await put(store, BOB, fact("a", "x", expires_at=50.0), fact("never", "x"))
    due = dict(await store.expired(150.0, 10))
    assert set(due) == {ANNA.tenant, BOB.tenant}
    assert [m.id for m in await store.get(ANNA, [due[ANNA.tenant]])] == ["a"]
    assert await store.get(BOB, [due[ANNA.tenant]]) == []
    assert await store.delete(BOB, [due[ANNA.tenant]]) == 0
    assert await store.delete(ANNA, [due[ANNA.tenant]]) == 1
    assert len(await store.expired(1000.0, 1)) == 1


async def test_memories_without_a_vector_are_found_again_and_given_one(store: MemoryStore) -> None:
    window = "Where to?\nTo Norway."
    await store.put(ANNA, [Entry(turn("t", "To Norway."), window=window)])
    await put(store, ANNA, fact("has one", "tea"))
    await store.put(ANNA, [Entry(fact("tomb", "", status="forgotten"))])
    [(tenant, reference)] = await store.unembedded(10)
    assert tenant == ANNA.tenant
    [memory] = await store.get(ANNA, [reference])
    vector = (0.0, 1.0, 0.0)
    assert await store.add_vectors(ANNA, [Entry(memory, dense=vector, dense_window=vector)]) == 1
    assert await store.unembedded(10) == []
    answer = await store.search(ANNA, Probe("Norway", Where(), dense=vector))
    assert answer.lists["dense"][0][0] == "t"
    assert [id for id, _ in answer.lists["dense_window"]] == ["t"]
    assert [id for id, _ in answer.lists["lexical_window"]] == ["t"]
    assert answer.memories["t"] == memory


async def test_a_memory_that_changed_meanwhile_is_not_given_a_vector_of_its_old_words(
    store: MemoryStore,
) -> None:
    old = fact("a", "tea")
    await store.put(ANNA, [Entry(old), Entry(fact("gone", "tea"))])
    await store.put(ANNA, [Entry(replace(old, text="coffee", updated_at=2000.0))])
    await store.delete(ANNA, ["gone"])
    late = [Entry(old, dense=(1.0, 0.0, 0.0)), Entry(fact("gone", "tea"), dense=(1.0, 0.0, 0.0))]
    assert await store.add_vectors(ANNA, late) == 0
    assert await store.add_vectors(BOB, late) == 0
    assert len(await store.unembedded(10)) == 1
    assert await store.count(ANNA.tenant) == 1


async def test_times_finer_than_a_microsecond_get_in_the_way_of_nothing(
    store: MemoryStore,
) -> None:
    # Qdrant's engine reads one in eight of such times back one bit off.
    times = [1_795_253_000 + n * 0.1234567891 for n in range(40)]
    for n, at in enumerate(times):
        await store.put(ANNA, [Entry(fact(f"f{n}", "tea", at=at))])
    page = await store.page(ANNA, Where(), limit=15)
    seen = list(page)
    while len(page) == 15:
        page = await store.page(ANNA, Where(), limit=15, after=(page[-1].created_at, page[-1].id))
        seen += page
    assert [memory.id for memory in seen] == [f"f{n}" for n in reversed(range(40))]
    assert [memory.created_at for memory in seen] == [round(at, 6) for at in reversed(times)]
    given = [Entry(memory, dense=(1.0, 0.0, 0.0)) for memory in seen]
    assert await store.add_vectors(ANNA, given) == 40
    assert await store.unembedded(100) == []


async def test_vectors_of_another_size_are_left_out_and_owed(store: MemoryStore) -> None:
    await store.put(ANNA, [Entry(fact("a", "tea"), dense=(1.0, 0.0))])
    await store.put(ANNA, [Entry(fact("b", "tea"), dense=(float("nan"), 0.0, 0.0))])
    assert len(await store.unembedded(10)) == 2
    assert await found(store, ANNA, "tea") == {"a", "b"}


async def test_tenants_names_each_one_with_a_record(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "x"), fact("b", "y"))
    await put(store, BOB, fact("a", "x"))
    assert sorted(await store.tenants()) == sorted([ANNA.tenant, BOB.tenant])


# --- the embedder's model --------------------------------------------------------------------


async def test_a_store_that_began_without_an_embedder_gets_vectors_later(bare: MemoryStore) -> None:
    await put(bare, ANNA, fact("a", "tea"))
    assert bare.model is None
    assert await found(bare, ANNA, "tea") == {"a"}
    await bare.adopt(MODEL)
    assert bare.model == MODEL
    [(_, reference)] = await bare.unembedded(10)
    [memory] = await bare.get(ANNA, [reference])
    assert await bare.add_vectors(ANNA, [Entry(memory, dense=(1.0, 0.0, 0.0))]) == 1
    answer = await bare.search(ANNA, Probe("", Where(), dense=(1.0, 0.0, 0.0)))
    assert [id for id, _ in answer.lists["dense"]] == ["a"]


async def test_adopting_the_same_model_again_changes_nothing(store: MemoryStore) -> None:
    await put(store, ANNA, fact("a", "tea"))
    await store.adopt(EmbeddingModel("test", "three-numbers", 3))
    assert await store.unembedded(10) == []


async def test_another_model_is_refused_with_both_names_and_the_way_out(store: MemoryStore) -> None:
    with pytest.raises(SettingsError, match=r"three-numbers.*bigger.*reembed") as refusal:
        await store.adopt(EmbeddingModel("test", "bigger", 5))
    assert "3" in refusal.value.message
    assert "5" in refusal.value.message
    assert store.model == MODEL


async def test_a_model_is_changed_on_demand_and_words_find_memories_meanwhile(
    store: MemoryStore,
) -> None:
    await put(store, ANNA, *(fact(str(i), "tea") for i in range(5)))
    await store.put(ANNA, [Entry(fact("tomb", "", status="forgotten"))])
    bigger = EmbeddingModel("test", "bigger", 4)
    await store.adopt(bigger, replace=True)
    assert store.model == bigger

    async def owed() -> int:
        return len(await store.unembedded(100))

    await until(owed, 5)
    assert await found(store, ANNA, "tea") == {"0", "1", "2", "3", "4"}
    for _, reference in await store.unembedded(100):
        [memory] = await store.get(ANNA, [reference])
        await store.add_vectors(ANNA, [Entry(memory, dense=(1.0, 0.0, 0.0, 0.0))])
    answer = await store.search(ANNA, Probe("", Where(), dense=(1.0, 0.0, 0.0, 0.0)))
    assert len(answer.lists["dense"]) == 5


# --- six languages -----------------------------------------------------------------------------


IN_LANGUAGES = [
    ("en", "My dog Bella is allergic to peanuts", "which allergies does the dog have"),
    ("de", "Meine Häuser stehen in München", "In welcher Stadt steht mein Haus in Muenchen?"),
    ("de", "Ich esse gerne Äpfel", "apfel essen"),
    ("es", "Mi perro tiene alergia a los cacahuetes y vive en Málaga", "alergias perros malaga"),
    ("zh", "我住在北京市朝阳区，我的狗对花生过敏", "花生"),
    ("zh", "我住在北京市朝阳区，我的狗对花生过敏", "你住在哪个城市"),
    ("ja", "東京に住んでいます。犬を飼っています", "東京"),
    ("ja", "私は花粉症で、ピーナッツアレルギーです", "ピーナッツは食べられますか"),
    ("th", "ฉันชอบกินข้าวผัดและอาศัยอยู่ในกรุงเทพ", "ข้าวผัด"),
    ("th", "สุนัขของฉันแพ้ถั่วลิสง", "แพ้อะไร"),
    ("ko", "강아지는 땅콩에 알레르기가 있다", "땅콩"),
]


@pytest.mark.parametrize("known", [True, False], ids=["language known", "language unknown"])
async def test_a_question_finds_its_memory_by_words_in_its_language(
    store: MemoryStore, known: bool
) -> None:
    for language, memory, question in IN_LANGUAGES:
        somebody = new_owner(Person("default", "somebody"))
        given = language if known else None
        texts = {"it": memory, "other": "xylophone qwertz"}
        entries = [Entry(fact(id, text), language=given) for id, text in texts.items()]
        await store.put(somebody, entries)
        for asked in (given, None):
            answer = await store.search(somebody, Probe(question, Where(), language=asked))
            assert [id for id, _ in answer.lists["lexical"]] == ["it"], (memory, question, asked)
