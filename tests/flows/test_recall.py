"""Recall as a whole: stages under a deadline, what a conversation keeps, honesty about failures."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.inmemory import InMemoryStore
from gateway.config import AppSettings, MemorySettings
from gateway.core.errors import (
    EmbedderUnavailable,
    QueueUnavailable,
    StoreUnavailable,
    Unavailable,
)
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Found, Memory, Probe, Source, Type, Vector, Version, Where
from gateway.core.words import terms
from gateway.flows.outdated import OVER
from gateway.flows.recall import Question, Recalled, recall, search
from gateway.lab.scratch import load, scratch_services
from gateway.ports import Conversation, Embedder, EmbeddingModel, Services

NOW = 1_780_000_000.0
DAY_S = 86_400.0


class WordVectors:
    """Vectors by hashed stems: what shares words is near. `hold` keeps answers back."""

    model: EmbeddingModel | None = EmbeddingModel("test", "all-MiniLM-L6-v2 by words", 64)

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None
        self.error: Exception | None = None

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        if query:
            self.asked += texts
        if self.error is not None:
            raise self.error
        if query and self.hold is not None:
            await self.hold.wait()
        return [_vector(text) for text in texts]

    async def ping(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Holds nothing."""


def _vector(text: str) -> list[float]:
    vector = [0.0] * 64
    for stem in terms(text):
        vector[hashlib.blake2b(stem.encode(), digest_size=1).digest()[0] % 64] += 1.0
    length = sum(x * x for x in vector) ** 0.5 or 1.0
    return [x / length for x in vector]


class TroubledStore(InMemoryStore):
    """The twin, with what can go wrong: `error` is raised, `hold` keeps searches back,
    `hold_dense` those by vector alone."""

    error: Exception | None = None
    hold: asyncio.Event | None = None
    hold_dense: asyncio.Event | None = None
    searches = 0

    async def search(self, owner: Owner, probe: Probe) -> Found:
        self.searches += 1
        if self.error is not None:
            raise self.error
        held = self.hold or (self.hold_dense if probe.dense is not None else None)
        if held is not None:
            await held.wait()
        return await super().search(owner, probe)

    async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            await self.hold.wait()
        return await super().get(owner, ids)


class Queue:
    """Only what recall asks of a queue."""

    def __init__(self) -> None:
        self.waiting: list[Exchange] = []
        self.error: Exception | None = None

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Exchange]:
        if self.error is not None:
            raise self.error
        return self.waiting[-limit:]


class House:
    """One user's memory, and recalls from it."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = embedder or WordVectors()
        self.store = TroubledStore(Bm25Lexicon(), model=self.embedder.model)
        self.queue = Queue()
        self.services: Services = replace(
            scratch_services(self.embedder),
            store=self.store,
            queue=self.queue,  # type: ignore[arg-type]  # what else a queue does is not asked
        )
        self.settings = AppSettings()
        self.owner = new_owner(Person("default", "ana"))

    async def knows(self, *memories: Memory) -> House:
        await load(self.services, self.owner, memories)
        return self

    def set(self, **memory: Any) -> House:
        self.settings = self.settings.model_copy(
            update={"memory": MemorySettings(**{**self.settings.memory.model_dump(), **memory})}
        )
        return self

    async def recalls(self, text: str, **more: Any) -> Recalled:
        more.setdefault("deadline_ms", 5000.0)
        self.set(deadline_ms=more["deadline_ms"])
        return await recall(
            self.services, self.settings, self.owner, Question(text, **more), now=NOW
        )


def turn(id: str, text: str, **more: Any) -> Memory:
    at = NOW - more.pop("days_ago", 3) * DAY_S
    source = Source(role=more.pop("role", "user"), session=more.pop("session", "s1"))
    return Memory(id, "turn", text, at, at, at, source=source, **more)


def fact(id: str, text: str, type: Type = "interaction", **more: Any) -> Memory:
    at = NOW - more.pop("days_ago", 3) * DAY_S
    return Memory(id, "fact", text, at, at, more.pop("valid_from", at), type=type, **more)


def texts(recalled: Recalled) -> list[str]:
    return [m.text for m in recalled.memories]


def conversation(*injected: str, **more: Any) -> Conversation:
    return Conversation(session="here", fresh=1, injected=injected, **more)


DOG = turn("dog", "My dog Rex loves the beach")
CELLO = turn("cello", "I practise the cello every Tuesday evening", session="s2")
TEA = fact("tea", "Prefers green tea", "preference", key="drink", value="green tea")


# --- the whole way ---------------------------------------------------------------------------


async def test_the_memory_that_answers_is_recalled_and_the_others_are_not() -> None:
    house = await House().knows(DOG, CELLO)
    recalled = await house.recalls("What does my dog love?")
    assert texts(recalled) == ["My dog Rex loves the beach"]
    assert (recalled.status, recalled.stage) == ("ok", "full")
    assert recalled.tokens > 0
    assert recalled.refs == ("dog",)


async def test_every_candidate_says_why_it_was_chosen_or_left_out() -> None:
    house = await House().knows(DOG, CELLO, turn("again", "My dog Rex loves the beach!"))
    recalled = await house.recalls("What does my dog love?")
    reasons = {s.memory.id: s.left_out for s in recalled.considered}
    assert reasons["dog"] is None or reasons["again"] is None
    assert "duplicate" in reasons.values()
    assert {"dense", "lexical", "recency", "importance"} <= recalled.considered[0].why.keys()
    assert {"lexical", "embedding", "dense", "scoring", "total"} <= recalled.stage_ms.keys()


async def test_a_question_about_nothing_stored_injects_nothing_but_what_always_counts() -> None:
    house = await House().knows(DOG, CELLO, TEA)
    recalled = await house.recalls("What is the capital of Mongolia?")
    assert texts(recalled) == ["Prefers green tea"]
    assert recalled.status == "ok"


async def test_a_user_without_memories_is_no_failure() -> None:
    recalled = await House().recalls("What is my dog called?")
    assert recalled.memories == ()
    assert (recalled.status, recalled.stage) == ("ok", "full")


async def test_one_users_memories_are_never_anothers() -> None:
    house = await House().knows(DOG)
    house.owner = new_owner(Person("default", "ben"))
    assert (await house.recalls("What does my dog love?")).memories == ()


async def test_speakers_names_are_cut_from_what_is_embedded_alone() -> None:
    house = await House().knows(turn("a", "off to pottery class", speaker="Melanie"))
    assert texts(await house.recalls("When is Melanie's pottery class?")) == [
        "off to pottery class"
    ]
    assert house.embedder.asked == ["When is pottery class?"]  # type: ignore[attr-defined]


async def test_what_is_never_kept_is_not_told_to_the_embedder_either() -> None:
    house = House()
    await house.recalls("Does my card 4111 1111 1111 1111 work in Porto?")
    assert house.embedder.asked == [  # type: ignore[attr-defined]
        "Does my card [removed: card number] work in Porto?"
    ]


async def test_a_short_message_is_searched_with_the_turn_before() -> None:
    house = await House().knows(DOG, CELLO)
    recalled = await house.recalls("And my dog?", before="You practise the cello, I remember.")
    assert "My dog Rex loves the beach" in texts(recalled)


async def test_turns_can_be_left_out_by_setting() -> None:
    house = await House().set(turns="off").knows(DOG, fact("f", "The dog is called Rex"))
    assert texts(await house.recalls("What is my dog called?")) == ["The dog is called Rex"]


async def test_types_can_be_left_out_by_setting() -> None:
    house = await House().set(types=("profile",)).knows(TEA, fact("p", "Is a nurse", "profile"))
    assert texts(await house.recalls("Do I prefer green tea?")) == ["Is a nurse"]


async def test_the_budget_of_a_request_lowers_the_settings() -> None:
    memories = [turn(str(i), f"dog story number {i} {'woof ' * i}") for i in range(30)]
    house = await House().knows(*memories)
    all_of_it = await house.recalls("dog story")
    less = await house.recalls("dog story", max_tokens=150, max_memories=2)
    assert len(less.memories) <= 2 < len(all_of_it.memories)
    assert less.tokens <= 150


async def test_a_long_message_comes_back_as_the_passage_that_matched() -> None:
    filler = "Nothing of note happened on that day. " * 30
    house = await House().knows(turn("long", f"{filler}The dentist moved to Elm Street. {filler}"))
    recalled = await house.recalls("Where did the dentist move?")
    assert "The dentist moved to Elm Street." in recalled.memories[0].text
    assert len(recalled.memories[0].text) < 300
    assert recalled.refs[0].startswith("long@")


LANGUAGES = {
    "english": ("When is my dentist appointment?", "My dentist appointment is on Thursday"),
    "german": ("Wo habe ich mein Fahrrad gekauft?", "Das Fahrrad habe ich in Bremen gekauft"),
    "spanish": ("¿Dónde trabaja mi hermana?", "Mi hermana trabaja en un hospital de Málaga"),
    "french": ("Où habite mon frère ?", "Mon frère habite à Lyon depuis trois ans"),
    "russian": ("Как зовут мою кошку?", "Мою кошку зовут Мурка"),
    "chinese": ("我的猫叫什么名字？", "我的猫叫咪咪，今年三岁"),
    "japanese": ("犬の名前は何ですか？", "うちの犬の名前はポチです"),
    "thai": ("แมวของฉันชื่ออะไร", "แมวของฉันชื่อมะลิ"),
    "korean": ("우리 강아지 이름이 뭐야?", "우리 강아지 이름은 초코예요"),
}


@pytest.mark.parametrize("language", LANGUAGES)
async def test_words_alone_find_the_answer_in_any_language(language: str) -> None:
    house = House(NoEmbedder("none is set"))
    await house.knows(*(turn(name, said, session=name) for name, (_, said) in LANGUAGES.items()))
    question, answer = LANGUAGES[language]
    recalled = await house.recalls(question)
    assert texts(recalled) == [answer]


# --- time ------------------------------------------------------------------------------------


async def test_what_is_superseded_is_recalled_only_where_the_past_is_asked_for() -> None:
    oslo = fact("oslo", "The office is in Oslo", status="superseded", days_ago=300)
    oslo = replace(oslo, valid_to=NOW - 100 * DAY_S)
    rome = fact("rome", "The office is in Rome", days_ago=100)
    house = await House().knows(oslo, rome)
    assert texts(await house.recalls("Where is the office?")) == ["The office is in Rome"]
    then = await house.recalls("Where is the office?", as_of=NOW - 200 * DAY_S)
    assert texts(then) == ["The office is in Oslo"]


async def test_what_has_expired_is_not_recalled() -> None:
    house = await House().knows(replace(DOG, expires_at=NOW - 1))
    assert (await house.recalls("What does my dog love?")).memories == ()


@pytest.mark.parametrize("as_of", [-6.0e10, 2.5e11])
async def test_far_times_are_no_trouble(as_of: float) -> None:
    house = await House().knows(DOG)
    assert (await house.recalls("my dog", as_of=as_of)).status == "ok"


# --- a conversation --------------------------------------------------------------------------


async def test_what_was_injected_stays_in_its_order_with_new_ones_after_it() -> None:
    house = await House().knows(DOG, CELLO)
    first = await house.recalls("When do I practise the cello?", conversation=conversation())
    assert first.refs == ("cello",)
    second = await house.recalls("What does my dog love?", conversation=conversation(*first.refs))
    assert second.refs == ("cello", "dog")


async def test_what_was_forgotten_or_superseded_leaves_the_block() -> None:
    house = await House().knows(replace(DOG, status="superseded"))
    recalled = await house.recalls("hm", conversation=conversation("dog", "gone"))
    assert recalled.refs == ()


async def test_what_was_not_so_at_the_time_asked_about_leaves_the_block() -> None:
    house = await House().knows(DOG, CELLO)
    held = conversation("dog", "cello")
    long_ago = await house.recalls("hm", conversation=held, as_of=DOG.valid_from - 1)
    assert "dog" not in long_ago.refs
    later = await house.recalls("hm", conversation=held, as_of=DOG.valid_from)
    assert "dog" in later.refs


async def test_a_tool_loop_keeps_its_block_without_another_search() -> None:
    house = await House().knows(DOG, CELLO)
    recalled = await house.recalls(
        "What does my dog love?", conversation=conversation("cello"), again=True
    )
    assert recalled.refs == ("cello",)
    assert house.store.searches == 0


async def test_what_the_request_still_contains_is_not_injected_again() -> None:
    house = await House().knows(DOG, CELLO)
    recalled = await house.recalls("What does my dog love?", present=(DOG.text, "What …?"))
    assert recalled.memories == ()
    assert [s.left_out for s in recalled.considered if s.memory.id == "dog"] == ["present"]


def said(text: str, session: str = "elsewhere", id: str = "e1") -> Exchange:
    return Exchange(id, session, NOW - 5, (Turn(0, "user", text, NOW - 5),))


async def test_what_was_said_a_moment_ago_is_recalled_before_it_is_distilled() -> None:
    house = House()
    house.queue.waiting = [said("I have just moved to Lisbon")]
    recalled = await house.recalls("Where do I live?", conversation=conversation())
    assert texts(recalled) == ["I have just moved to Lisbon"]


@pytest.mark.parametrize("again", [False, True], ids=["another question", "a tool loop"])
async def test_what_waits_stays_in_the_block_whatever_is_asked_next(again: bool) -> None:
    house = await House().knows(DOG)
    house.queue.waiting = [said("I have just moved to Lisbon")]
    first = await house.recalls("Where do I live?", conversation=conversation("dog"))
    house.queue.waiting += [said(f"The {i}th box is blue", id=f"b{i}") for i in range(9)]
    block = conversation(*reversed(first.refs))
    second = await house.recalls("Thanks!", conversation=block, again=again)
    assert texts(second)[:2] == ["I have just moved to Lisbon", DOG.text]


# --- parts that are late or away -------------------------------------------------------------


async def test_without_an_embedder_by_choice_recall_is_lexical_and_whole() -> None:
    house = await House(NoEmbedder("none is set")).knows(DOG, CELLO)
    recalled = await house.recalls("What does my dog love?")
    assert texts(recalled) == ["My dog Rex loves the beach"]
    assert (recalled.status, recalled.stage) == ("ok", "lexical")


@pytest.mark.parametrize("error", [EmbedderUnavailable("down"), RuntimeError("a bug")])
async def test_an_embedder_that_fails_leaves_a_lexical_recall(error: Exception) -> None:
    house = await House().knows(DOG, CELLO)
    house.embedder.error = error  # type: ignore[attr-defined]
    recalled = await house.recalls("What does my dog love?")
    assert texts(recalled) == ["My dog Rex loves the beach"]
    assert (recalled.status, recalled.stage) == ("partial", "lexical")


@pytest.mark.parametrize("late", ["embedding", "dense"])
async def test_what_is_late_is_left_out_and_the_deadline_holds(late: str) -> None:
    house = await House().knows(DOG, CELLO)
    if late == "embedding":
        house.embedder.hold = asyncio.Event()  # type: ignore[attr-defined]
    else:
        house.store.hold_dense = asyncio.Event()
    began = time.perf_counter()
    recalled = await house.recalls("What does my dog love?", deadline_ms=80.0)
    assert time.perf_counter() - began < 1.0
    assert texts(recalled) == ["My dog Rex loves the beach"]
    assert (recalled.status, recalled.stage) == ("partial", "lexical")


async def test_a_store_that_is_late_leaves_the_profile_kept_from_before() -> None:
    house = await House().knows(DOG, TEA)
    known = conversation(standing_version="7")
    await house.recalls("hello", conversation=known)
    house.store.hold = asyncio.Event()
    recalled = await house.recalls("What does my dog love?", conversation=known, deadline_ms=60.0)
    assert texts(recalled) == ["Prefers green tea"]
    assert (recalled.status, recalled.stage) == ("partial", "profile")


async def test_a_profile_that_was_written_to_since_is_not_used() -> None:
    house = await House().knows(TEA)
    await house.recalls("hello", conversation=conversation(standing_version="7"))
    house.store.error = StoreUnavailable("down")
    recalled = await house.recalls("hello", conversation=conversation(standing_version="8"))
    assert recalled.memories == ()
    assert (recalled.status, recalled.stage) == ("degraded", "none")


@pytest.mark.parametrize("error", [StoreUnavailable("down"), RuntimeError("a bug")])
async def test_a_store_that_is_away_is_never_nothing_found(error: Exception) -> None:
    house = await House().knows(DOG)
    house.store.error = error
    recalled = await house.recalls("What does my dog love?")
    assert (recalled.status, recalled.stage) == ("degraded", "none")
    assert recalled.memories == ()


async def test_a_queue_that_is_away_is_said() -> None:
    house = await House().knows(DOG)
    house.queue.error = QueueUnavailable("down")
    recalled = await house.recalls("What does my dog love?")
    assert texts(recalled) == ["My dog Rex loves the beach"]
    assert (recalled.status, recalled.stage) == ("partial", "full")


async def test_a_tool_loop_keeps_what_the_store_has_where_the_queue_is_away() -> None:
    house = await House().knows(DOG)
    house.queue.error = QueueUnavailable("away")
    block = conversation("dog", "turn_that_waits")
    recalled = await house.recalls("What does my dog love?", conversation=block, again=True)
    assert texts(recalled) == [DOG.text]
    assert (recalled.status, recalled.stage) == ("partial", "full")


async def test_nothing_goes_on_after_a_recall_that_was_cut_short() -> None:
    house = await House().knows(DOG)
    house.embedder.hold = asyncio.Event()  # type: ignore[attr-defined]
    await house.recalls("What does my dog love?", deadline_ms=30.0)
    await asyncio.sleep(0)
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("recall")]


async def test_a_model_of_unknown_scale_is_probed_once() -> None:
    embedder = WordVectors()
    embedder.model = EmbeddingModel("test", "some other model", 64)
    house = await House(embedder).knows(DOG)
    for _ in range(2):
        recalled = await house.recalls("What does my dog love?")
        assert texts(recalled) == ["My dog Rex loves the beach"]
    assert "scale" not in recalled.stage_ms


# --- rereading ---------------------------------------------------------------------------------


class Reader:
    """Prefers texts with "Sunday"; can be held back."""

    def __init__(self) -> None:
        self.hold: asyncio.Event | None = None
        self.read = 0

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        if self.hold is not None:
            await self.hold.wait()
        self.read = len(texts)
        return [float("Sunday" in text) for text in texts]

    async def close(self) -> None:
        """Holds nothing."""


async def walks(**memory: Any) -> tuple[House, Reader]:
    days = ("Monday", "Friday", "Sunday")
    house = await House().knows(
        *(turn(d, f"walked the dog on {d}", session=d, days_ago=i) for i, d in enumerate(days))
    )
    reader = Reader()
    house.services = replace(house.services, reranker=reader)
    return house.set(**memory), reader


async def test_a_cross_encoder_has_its_say_where_it_is_asked_for() -> None:
    house, reader = await walks(rerank="on")
    recalled = await house.recalls("When did I walk the dog?")
    assert recalled.considered[0].memory.id == "Sunday"
    assert recalled.considered[0].why["rerank"] > 0
    assert reader.read == 3


async def test_it_is_off_unless_it_is_asked_for() -> None:
    house, reader = await walks()
    assert (await house.recalls("When did I walk the dog?")).status == "ok"
    assert reader.read == 0


async def test_one_that_is_late_is_left_out() -> None:
    house, reader = await walks(rerank="on")
    reader.hold = asyncio.Event()
    recalled = await house.recalls("When did I walk the dog?", deadline_ms=60.0)
    assert len(recalled.memories) == 3
    assert (recalled.status, recalled.stage) == ("partial", "full")


async def test_days_are_shown_in_the_requests_timezone_and_each_request_has_its_own() -> None:
    midnight = NOW // DAY_S * DAY_S - 9 * 3600  # in Tokyo
    trip = fact("trip", "Went to Nara", valid_from=midnight)
    house = await House().knows(replace(trip, pinned=True), fact("walk", "Walked the dog"))
    shown = [
        (await house.recalls("When was I in Nara?", timezone=zone)).lines[0][:14]
        for zone in ("Asia/Tokyo", None, "Asia/Tokyo")
    ]
    assert shown[0] == shown[2] > shown[1]


async def test_without_one_in_the_request_days_are_those_of_the_timezone_that_is_remembered() -> (
    None
):
    midnight = NOW // DAY_S * DAY_S - 9 * 3600  # in Tokyo
    zone = fact("z", "Lives by Tokyo time", "profile", key="timezone", value="Asia/Tokyo")
    house = await House().knows(zone, fact("trip", "Went to Nara", valid_from=midnight))
    asked = await house.recalls("When was I in Nara?")
    told = await house.recalls("When was I in Nara?", timezone="Asia/Tokyo")
    assert asked.lines == told.lines
    assert (asked.timezone, told.timezone) == ("Asia/Tokyo", "Asia/Tokyo")
    again = await house.recalls("And then?", conversation=conversation(*asked.refs), again=True)
    assert again.lines == asked.lines
    in_utc = await house.recalls("When was I in Nara?", timezone="UTC")
    assert in_utc.lines < asked.lines


@pytest.mark.parametrize("text", ["What does my dog love?", "My dog?"])
async def test_a_short_question_is_heard_after_an_answer_about_something_else(text: str) -> None:
    house = await House().knows(DOG, CELLO)
    pasta = (
        "Boil the pasta in salted water for nine minutes, fry garlic in olive oil, add tomatoes and"
    )
    recalled = await house.recalls(
        text, before=f"{pasta} a pinch of sugar, and stir in some basil."
    )
    assert texts(recalled) == ["My dog Rex loves the beach"]


@pytest.mark.parametrize(
    "text", ["What does my dog love?\n\n{page}", "{page}\n\nWhat does my dog love?"]
)
async def test_a_question_beside_a_pasted_page_is_heard(text: str) -> None:
    house = await House().knows(DOG, CELLO)
    lines = [f"Clause {i} binds the tenant of lot {i * 7} to maintenance." for i in range(200)]
    page = " ".join(lines)
    assert texts(await house.recalls(text.format(page=page))) == ["My dog Rex loves the beach"]
    assert texts(await house.recalls(f"Summarise this, please. {page}")) == []


@pytest.mark.parametrize("text", ["Thanks!", "Great, shorter please"])
async def test_what_asks_for_nothing_is_not_heard_by_its_own_words(text: str) -> None:
    house = House(NoEmbedder("left out"))
    await house.knows(turn("t", "Thanks for that tip, the shorter way was great"))
    pasta = "Boil the pasta in salted water for nine minutes, fry garlic in oil, and add tomatoes."
    recalled = await house.recalls(text, before=pasta)
    assert texts(recalled) == []


async def test_thanks_and_greetings_bring_nothing_into_the_block_unless_they_answer() -> None:
    house = await House().knows(turn("t", "It was a good night at the Rex hotel"), DOG)
    told = "You are booked at the Rex hotel."
    for text in ("Good night!", "thanks!", "👍", "?", "Okay."):
        assert texts(await house.recalls(text)) == []
        assert texts(await house.recalls(text, before=told)) == []
    for text, before in (("Okay.", f"{told} What was the night like?"), ("go on", told)):
        assert texts(await house.recalls(text, before=before)) != []


async def test_what_is_asked_of_a_time_alone_brings_what_was_said_then_or_is_to_happen() -> None:
    house = House(NoEmbedder("left out")).set(types=["interaction"])
    await house.knows(
        turn("mot", "My car failed its inspection", days_ago=1),
        turn("tea", "Green tea is what I like", days_ago=9),
        turn("priya", "I'm meeting Priya for coffee tomorrow", days_ago=0.1),
        fact("rome", "Flies to Rome", days_ago=9, valid_from=NOW + DAY_S),
    )
    assert texts(await house.recalls("What did I tell you yesterday?")) == [
        "My car failed its inspection"
    ]
    assert texts(await house.recalls("What do I have tomorrow?")) == [
        *("Flies to Rome", "I'm meeting Priya for coffee tomorrow")
    ]
    for other in ("What's the weather like tomorrow?", "What did we discuss last month?"):
        assert texts(await house.recalls(other)) == []
    await house.knows(turn("over", "I like the piano", days_ago=1, metadata={OVER: True}))
    assert len(texts(await house.recalls("What did I tell you yesterday?"))) == 1


# --- what is no longer so ----------------------------------------------------------------------


async def moved() -> House:
    """Ana lived in Porto, then in Lisbon, lives in Faro now, and said so each time."""
    return await House().knows(
        turn("t1", "I live in Porto", days_ago=90),
        turn("t2", "I live in Lisbon", days_ago=60),
        turn("t3", "I live in Faro now", days_ago=30),
        *(
            fact(id, text, "profile", status=status, covers=covers, supersedes=before, days_ago=30)
            for id, text, status, covers, before in (
                ("f1", "Lives in Porto", "superseded", ("t1",), None),
                ("f2", "Lives in Lisbon", "superseded", ("t2",), "f1"),
                ("f3", "Lives in Faro", "active", ("t3",), "f2"),
            )
        ),
    )


async def test_a_turn_whose_fact_was_superseded_does_not_answer_any_more() -> None:
    house = await moved()
    recalled = await house.recalls("Where do I live?")
    assert texts(recalled)[0] == "Lives in Faro"
    assert not {"t1", "t2"} & {memory.id for memory in recalled.memories}
    reasons = {s.memory.id: s.left_out for s in recalled.considered}
    assert (reasons["t1"], reasons["t2"]) == ("outdated", "outdated")


async def test_asked_for_the_past_it_answers() -> None:
    house = await moved()
    for question in ("Did I live in Porto before?", "When did I use to live in Porto, earlier?"):
        recalled = await house.recalls(question)
        assert "I live in Porto" in texts(recalled)
        assert "outdated" not in {s.left_out for s in recalled.considered}
    then = await house.recalls("Where do I live?", as_of=NOW - 80 * DAY_S)
    assert "I live in Porto" in texts(then)


async def test_asked_for_the_past_what_is_so_now_says_which_former_value_is_meant() -> None:
    house = await House().knows(
        turn("t1", "I work at Siemens as a mechanical engineer", days_ago=500),
        turn("t2", "My favourite colour is green", days_ago=500),
        turn("t3", "I quit my job at Siemens and I work at Bosch now", days_ago=100),
        turn("t4", "My favourite colour is blue now", days_ago=90),
        turn("t5", "Before the exam I always work out", days_ago=80),
        fact("f1", "Works at Siemens", status="superseded", covers=("t1",), days_ago=500),
        fact("f2", "Works at Bosch", covers=("t3",), supersedes="f1", days_ago=100),
        fact("f3", "Likes green best", status="superseded", covers=("t2",), days_ago=500),
        fact("f4", "Likes blue best", covers=("t4",), supersedes="f3", days_ago=90),
    )
    recalled = await house.recalls("Where did I work before Bosch?")
    lifts = {s.memory.id: s.why.get("links", 0.0) for s in recalled.considered}
    assert lifts["t1"] > 2 * lifts["t2"] > 0.0
    assert "t1" in {memory.id for memory in recalled.memories}
    now = await house.recalls("Where do I work?")
    assert "t1" not in {memory.id for memory in now.memories}


async def test_asked_for_the_past_by_what_it_is_kept_as_a_former_value_is_brought() -> None:
    house = await House(NoEmbedder("left out")).knows(
        turn("t1", "I've been at Siemens for years", days_ago=60),
        turn("t2", "I like to hike", days_ago=50),
        *(
            fact(id, text, "profile", key="employer", status=status, covers=covers, supersedes=old)
            for id, text, status, covers, old in (
                ("f1", "Is at Siemens", "superseded", ("t1",), None),
                ("f2", "Is at BMW", "active", (), "f1"),
            )
        ),
    )
    told = ["Is at BMW", "I've been at Siemens for years"]
    assert texts(await house.recalls("Who was my previous employer?")) == told
    assert texts(await house.recalls("Where did I go hiking before?")) == [
        told[0],
        "I like to hike",
    ]


async def test_a_look_into_the_past_knows_what_was_outdated_by_then() -> None:
    house = await moved()
    then = await house.recalls("Where do I live?", as_of=NOW - 1 * DAY_S)
    assert "Lives in Faro" in texts(then)
    assert not {"t1", "t2"} & {memory.id for memory in then.memories}


async def test_a_preference_whose_time_has_passed_no_longer_counts_whatever_the_question() -> None:
    def ended(id: str, text: str, days_ago: float, **more: Any) -> Memory:
        until = NOW - days_ago * DAY_S
        return fact(id, text, type="preference", valid_to=until, days_ago=30, **more)

    house = await House().knows(
        ended("over", "Answers in German", 1),
        ended("pinned", "Answers in rhymes", 1, pinned=True),
        ended("still", "Answers in prose", -1),
    )
    assert {memory.id for memory in (await house.recalls("hm")).memories} == {"pinned", "still"}
    assert "over" in {m.id for m in (await house.recalls("Did I want German answers?")).memories}
    before = await house.recalls("hm", as_of=NOW - 5 * DAY_S)
    assert "over" in {memory.id for memory in before.memories}


async def test_a_turn_whose_fact_was_corrected_does_not_answer_any_more() -> None:
    home = fact("f", "Lives in Faro", type="profile", covers=("old", "new"))
    corrected = replace(
        home,
        source=replace(home.source, quote="live in Porto"),
        history=(Version(home.created_at, "corrected", "Lives in Porto"),),
    )
    turns = turn("old", "I live in Porto"), turn("new", "I live in Faro by the sea")
    house = await House().knows(*turns, corrected)
    recalled = await house.recalls("Where do I live?", conversation=conversation("old"))
    assert {"f", "new"} == {memory.id for memory in recalled.memories}
    unpinned = replace(corrected, history=(replace(corrected.history[0], text=home.text),))
    house = await House().knows(*turns, unpinned)
    assert "old" in {memory.id for memory in (await house.recalls("Where do I live?")).memories}


async def test_an_answer_that_says_it_as_it_was_before_does_not_stand_beside_the_correction() -> (
    None
):
    wrong = Version(NOW - 9 * DAY_S, "corrected", "User lives in Porto")
    home = replace(
        fact("f", "User lives in Lisbon", type="profile", days_ago=9),
        updated_at=NOW - DAY_S,
        history=(wrong,),
    )

    house = await House().knows(
        home,
        turn("wrong", "You live in Porto.", days_ago=5, role="assistant"),
        turn("later", "You used to live in Porto.", days_ago=0.5, role="assistant"),
        turn("wine", "In Porto one drinks port.", days_ago=5, role="assistant"),
    )
    found = {m.id for m in (await house.recalls("Do I live in Porto?")).memories}
    assert found == {"f", "later", "wine"}


async def test_preferences_whose_time_has_passed_take_no_place_of_those_that_hold() -> None:
    over = [
        fact(f"over{n}", f"Wants {n} jokes", "preference", importance=0.9, valid_to=NOW - DAY_S)
        for n in range(20)
    ]
    house = await House().knows(TEA, *over)
    assert texts(await house.recalls("hm")) == [TEA.text]


async def test_a_language_that_was_wanted_until_a_time_is_searched_in_until_then() -> None:
    german = fact("german", "Wants German", "preference", key="language", value="de")
    house = await House().knows(replace(german, valid_to=NOW + 1), DOG)
    known = conversation(standing_version="7")
    await house.recalls("hello", conversation=known)
    asked_in: list[str | None] = []
    search_ = house.store.search

    async def noted(owner: Owner, probe: Probe) -> Found:
        asked_in.append(probe.language)
        return await search_(owner, probe)

    house.store.search = noted  # type: ignore[method-assign]
    for now in (NOW, NOW + 2):
        question = Question("What does my dog love?", conversation=known, deadline_ms=5000.0)
        await recall(house.services, house.settings, house.owner, question, now=now)
    assert asked_in[0] == "de"
    assert set(asked_in[-2:]) == {None}


async def test_a_turn_of_the_block_is_judged_alike_whether_the_question_finds_it_or_not() -> None:
    home = replace(
        fact("f", "Lives in Faro", type="profile", covers=("new",)),
        source=Source(role="user", via="chat", quote="live in Porto"),
        history=(Version(NOW - 9 * DAY_S, "corrected", "Lives in Porto"),),
    )
    house = await House(NoEmbedder("none")).knows(home, turn("new", "I live in Faro by the sea"))
    for question in ("Where do I live?", "What is nine times nine?"):
        recalled = await house.recalls(question, conversation=conversation("new"))
        assert "new" in recalled.refs


async def test_it_leaves_the_block_of_a_conversation_too() -> None:
    house = await moved()
    recalled = await house.recalls("Where do I live?", conversation=conversation("t1", "t3"))
    assert "t1" not in recalled.refs
    assert recalled.refs[0] == "t3"


async def test_superseded_facts_are_looked_up_once() -> None:
    house = await moved()
    await house.recalls("Where do I live?")
    asked: list[Sequence[str]] = []
    get = house.store.get

    async def noted(owner: Owner, ids: Sequence[str]) -> list[Memory]:
        asked.append(ids)
        return await get(owner, ids)

    house.store.get = noted  # type: ignore[method-assign]
    assert "t1" not in (await house.recalls("Where do I live?")).refs
    assert asked == []


async def test_a_search_puts_it_last() -> None:
    house = await moved()
    found = await search(
        house.services, house.settings, house.owner, "live", where=Where(), limit=10, now=NOW
    )
    assert {s.memory.id for s in found[-2:]} == {"t1", "t2"}


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "   ", "🙂", "\x00\x07\x1b", "\ud800", "'; DROP TABLE", "dog " * 54_000],
    ids=["empty", "blank", "emoji", "controls", "surrogate", "quote", "gigantic"],
)
async def test_any_message_gets_a_bounded_and_useful_answer(text: str) -> None:
    house = await House().knows(DOG, TEA)
    began = time.perf_counter()
    recalled = await house.recalls(text)
    assert time.perf_counter() - began < 1.0
    assert recalled.status == "ok"
    assert "Prefers green tea" in texts(recalled)


async def test_a_memory_of_a_megabyte_is_found_and_bounded() -> None:
    house = await House().knows(turn("big", "lorem ipsum dolor " * 55_000 + " zebra"), DOG)
    recalled = await house.recalls("my dog")
    assert "My dog Rex loves the beach" in texts(recalled)
    assert sum(len(text) for text in texts(recalled)) < 5000


async def test_an_unknown_timezone_is_taken_as_utc() -> None:
    house = await House().knows(DOG)
    assert (await house.recalls("dog yesterday", timezone="Mars/Olympus")).status == "ok"


# --- search ----------------------------------------------------------------------------------


async def test_search_ranks_as_recall_does_and_has_no_floor() -> None:
    house = await House().knows(DOG, CELLO)
    found = await search(
        house.services, house.settings, house.owner, "dog", where=Where(), limit=10, now=NOW
    )
    assert found[0].memory.id == "dog"
    assert found[0].score >= found[-1].score


async def test_search_has_a_limit_and_conditions() -> None:
    house = await House().knows(DOG, CELLO, fact("f", "The dog is called Rex"))
    facts = Where(kinds=("fact",))
    found = await search(
        house.services, house.settings, house.owner, "dog", where=facts, limit=1, now=NOW
    )
    assert [s.memory.id for s in found] == ["f"]


@pytest.mark.parametrize("error", [StoreUnavailable("down"), RuntimeError("a bug")])
async def test_search_says_that_the_store_is_away(error: Exception) -> None:
    house = await House().knows(DOG)
    house.store.error = error
    with pytest.raises(Unavailable):
        await search(
            house.services, house.settings, house.owner, "dog", where=Where(), limit=5, now=NOW
        )
