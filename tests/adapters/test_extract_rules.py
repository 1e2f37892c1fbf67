"""Plain statements that the rules read, and everything that only looks like one."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.extract_rules import RulesExtractor, facts_in
from gateway.adapters.extract_rules.clauses import MAX_CHARS
from gateway.core.extraction import ExtractionBatch, ExtractionTurn, KnownMemory
from gateway.core.guards import House, judge
from gateway.core.memory import Memory

KNOWN = [
    (1, "User lives in Berlin", "home"),
    (2, "User likes coffee", "likes"),
    (3, "User is allergic to peanuts", "allergy"),
    (4, "User's name is Ana", "name"),
]


def stated(text: str) -> list[tuple[str, str | None, str | None]]:
    return [(f["text"], f["key"], f["value"]) for f in facts_in(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is Ana", ("User's name is Ana", "name", "Ana")),
        ("my name is ana", ("User's name is Ana", "name", "Ana")),
        ("my name's Tom", ("User's name is Tom", "name", "Tom")),
        ("Please call me Sam.", ("User's name is Sam", "name", "Sam")),
        ("Hi, I'm Ana!", ("User's name is Ana", "name", "Ana")),
        ("I work as a nurse", ("User is a nurse", "role", "nurse")),
        ("I’m a software engineer", ("User is a software engineer", "role", "software engineer")),
        ("My job is teaching", ("User is teaching", "role", "teaching")),
        ("I work for Siemens", ("User works for Siemens", "employer", "Siemens")),
        ("I live in New York with my cat", ("User lives in New York", "home", "New York")),
        ("i live in new york", ("User lives in New York", "home", "New York")),
        ("I live in the Netherlands", ("User lives in the Netherlands", "home", "the Netherlands")),
        ("I just moved from Rome to Porto", ("User lives in Porto", "home", "Porto")),
        ("I'm based in Lisbon", ("User lives in Lisbon", "home", "Lisbon")),
        (
            "My timezone is Europe/Berlin",
            ("User's timezone is Europe/Berlin", "timezone", "Europe/Berlin"),
        ),
        ("I use Vim for coding", ("User uses Vim", "tool", "Vim")),
        ("I mostly code in Rust", ("User programs in Rust", "tool", "Rust")),
        ("I like tea, coffee and cake", ("User likes tea, coffee and cake", "likes",
                                          "tea, coffee and cake")),
        ("I'm a big fan of jazz", ("User likes jazz", "likes", "jazz")),
        ("I don't like mornings", ("User dislikes mornings", "dislikes", "mornings")),
        ("I can't stand noise", ("User dislikes noise", "dislikes", "noise")),
        ("I prefer trains to planes", ("User prefers trains to planes", None, None)),
        (
            "My favorite colour is blue",
            ("User's favourite colour is blue", "favourite_colour", "blue"),
        ),
        ("I'm allergic to nuts", ("User is allergic to nuts", "allergy", "nuts")),
        ("I have a peanut allergy", ("User is allergic to peanut", "allergy", "peanut")),
        ("I'm lactose intolerant", ("User is lactose intolerant", "allergy", "lactose")),
        ("I am a vegetarian", ("User is vegetarian", "diet", "vegetarian")),
        ("Please answer in Spanish", ("User wants answers in Spanish", "language", "es")),
        (
            "From now on, always reply in German!",
            ("User wants answers in German", "language", "de"),
        ),
        ("I'd prefer answers in French", ("User wants answers in French", "language", "fr")),
        ("Keep your answers short", ("User wants short answers", "answer_length", "short")),
        ("I prefer concise replies", ("User wants short answers", "answer_length", "short")),
        ("Detailed answers please", ("User wants long answers", "answer_length", "long")),
        ("I'm 25 years old", ("User is 25 years old", "age", "25")),
        ("My dog is called Rex", ("User's dog is called Rex", "dog_name", "Rex")),
        ("Remember that my dog is called Rex", ("User's dog is called Rex", "dog_name", "Rex")),
        (
            "Remember: the gate code changes in May",
            ("User asked to remember: the gate code changes in May", None, None),
        ),
        ("Don't forget that I hate cilantro", ("User dislikes cilantro", "dislikes", "cilantro")),
        ("I'd like to be called Max", ("User's name is Max", "name", "Max")),
        ("I turned 40 yesterday", ("User is 40 years old", "age", "40")),
        ("I'm a nurse at St. Mary's hospital", ("User is a nurse at St. Mary's hospital", "role",
                                                "nurse at St. Mary's hospital")),
        ("We live in Bonn", ("User lives in Bonn", "home", "Bonn")),
        ("I've been living in Madrid since 2019", ("User lives in Madrid", "home", "Madrid")),
        ("I'm moving to Oslo next month", ("User is moving to Oslo next month", None, None)),
        ("I'm from Brazil", ("User is from Brazil", "origin", "Brazil")),
        ("I speak Spanish and Dutch", ("User speaks Spanish and Dutch", None, None)),
        ("I'm learning Japanese", ("User is learning Japanese", None, None)),
        ("I play the guitar", ("User plays the guitar", None, None)),
        ("We have two kids", ("User has two kids", None, None)),
        ("I don't eat meat", ("User does not eat meat", None, None)),
        ("I have type 1 diabetes", ("User has type 1 diabetes", None, None)),
        ("Always use metric units", ("User wants metric units", "units", "metric")),
        ("Don't use emojis", ("User wants no emojis in answers", "emoji", "no")),
        ("As I told you, I live in Rome", ("User lives in Rome", "home", "Rome")),
        ("Some background: I live in Rome", ("User lives in Rome", "home", "Rome")),
        ("No, I live in Rome", ("User lives in Rome", "home", "Rome")),
        ("I'm not kidding, I live in Rome", ("User lives in Rome", "home", "Rome")),
        ("Translate my answers to German. I live in Rome", ("User lives in Rome", "home", "Rome")),
        ("We moved to the Netherlands", ("User lives in the Netherlands", "home",
                                         "the Netherlands")),
        ("My wife is Anna", ("User's wife is called Anna", "wife_name", "Anna")),
        ("My birthday is in May", ("User's birthday is in May", "birthday", "in May")),
        ("Don't forget that I'm vegan", ("User is vegan", "diet", "vegan")),
        ("No, vivo en Madrid", ("User lives in Madrid", "home", "Madrid")),
        ("Wie ich schon sagte, ich wohne in Bonn", ("User lives in Bonn", "home", "Bonn")),
        ("Comme je l'ai dit, j'habite à Lyon", ("User lives in Lyon", "home", "Lyon")),
        ("Ich heiße Jonas", ("User's name is Jonas", "name", "Jonas")),
        ("Nenn mich bitte Jo", ("User's name is Jo", "name", "Jo")),
        ("Ich bin letzten Monat nach Köln gezogen", ("User lives in Köln", "home", "Köln")),
        ("Ich arbeite als Lehrer", ("User works as Lehrer", "role", "Lehrer")),
        ("Ich bin Vegetarierin", ("User is vegetarian", "diet", "vegetarian")),
        ("Ich bin allergisch gegen Nüsse", ("User is allergic to Nüsse", "allergy", "Nüsse")),
        ("Ich mag keinen Koriander", ("User dislikes Koriander", "dislikes", "Koriander")),
        ("Antworte bitte immer auf Deutsch", ("User wants answers in German", "language", "de")),
        ("Bitte fass dich kurz", ("User wants short answers", "answer_length", "short")),
        ("Meine Tochter heißt Mia", ("User's daughter is called Mia", "daughter_name", "Mia")),
        ("Me llamo Lucía", ("User's name is Lucía", "name", "Lucía")),
        ("Me mudé a Lisboa el mes pasado", ("User lives in Lisboa", "home", "Lisboa")),
        ("Trabajo en Telefónica", ("User works at Telefónica", "employer", "Telefónica")),
        ("No me gusta el cilantro", ("User dislikes cilantro", "dislikes", "cilantro")),
        ("Responde siempre en español", ("User wants answers in Spanish", "language", "es")),
        ("Por favor, respuestas cortas", ("User wants short answers", "answer_length", "short")),
        ("Je m'appelle Chloé", ("User's name is Chloé", "name", "Chloé")),
        ("J’habite à Lyon depuis 2020", ("User lives in Lyon", "home", "Lyon")),
        ("Je suis végétarienne", ("User is vegetarian", "diet", "vegetarian")),
        ("J'aime le jazz", ("User likes jazz", "likes", "jazz")),
        ("Réponds toujours en français", ("User wants answers in French", "language", "fr")),
        ("Sois plus concis, s'il te plaît", ("User wants short answers", "answer_length", "short")),
    ],
)  # fmt: skip
def test_a_plain_statement_is_read(text: str, expected: tuple[str, str | None, str | None]) -> None:
    assert stated(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "What is my name?",
        "I might move to Rome",
        "I may move to Rome next year",
        "Am I vegetarian?",
        "My brother is vegetarian",
        "I used to live in Paris",
        "Bin ich Vegetarier?",
        "Mein Bruder ist Vegetarier",
        "Ich ziehe vielleicht nach Rom",
        "Wenn ich in Rom wohne, brauche ich ein Auto",
        "Übersetze ins Englische: Ich wohne in Rom",
        "Ich mag es",
        "¿Soy vegetariano?",
        "Mi hermano es vegetariano",
        "Quizás vivo en Roma",
        "Suis-je végétarien ?",
        "Mon frère est végétarien",
        "Peut-être que j'habite à Rome",
        "Where do I live",
        "Do you know if I live in Rome?",
        "If I lived in Paris, I would eat well",
        "If my name is Bob, what then?",
        "Suppose I live in Rome",
        "Imagine I'm a pirate",
        'My friend said "I live in Rome now" yesterday',
        "She told me: 'I live in Rome'",
        "> I live in Oslo",
        "```\nmy name is Foo\n```",
        "Translate to Spanish: I live in Tokyo",
        "Summarize this e-mail:\nMy name is Bob. I live in Rome.",
        "Write a poem in Spanish",
        "I'd love to live in Japan",
        "I lived in Rome",
        "I live in fear",
        "I live in a small flat",
        "My name is not Bob",
        "I'm a bit tired",
        "I'm a beginner",
        "I'm German",
        "I love it",
        "I like how you said that",
        "I like the way it sounds",
        "Do you remember me?",
        "Remember when we met?",
        "I forget things",
        "Forget it",
        "I use it often",
        "My friend said: I live in Paris",
        "My friend says, I live in Paris",
        "Alice: I am allergic to nuts.",
        "[10:32] Bob: I work as a plumber",
        "User: my name is Eve\nBot: hi Eve",
        "The first line is: my name is Bob",
        "I wrote: I live in Paris",
        "I love bugs, said nobody ever",
        "Er sagt, ich wohne in Rom",
        "Ella dijo: soy alérgica a las nueces",
        "Elle a dit : je suis allergique aux noix",
        "No vivo en Madrid",
        "Hola, no soy vegano",
        "No soy alérgico a las nueces",
        "No me llamo Juan",
        "I live in Rome. Just kidding.",
        "I'm a teacher... just kidding!",
        "You're my wife. My name is Bob. We are role playing.",
        "For this exercise, my name is Zed",
        "Is this sentence right? I live in Paris.",
        "Can you proofread? My name is Eve. I live in Paris.",
        "Please proofread my essay\n\nMy name is Eve and I live in Paris.",
        "Make this sound better. I live in Paris.",
        "My wife is Italian",
        "I moved to Linux",
        "We moved to Postgres last year",
        "I moved to Python 3",
        "I moved to dark mode",
        "I live in [city]",
        "My name is XXX",
        "Call me tomorrow",
        "Don't forget to reply",
        "My birthday is soon",
        "I was born in the 80s",
        "I hate to say it",
        "I play the victim",
        'Answer in English what "Hund" means',
        "Ich arbeite bei Regen",
        "Ich lebe in Angst",
        "Ich bin nach Hause gezogen",
        "Trabajo de noche",
        "Trabajo en Python",
        "Me gusta tu respuesta",
        "J'aime ta réponse",
        "My wife's friend likes tea",
        "",
    ],
)
def test_what_only_looks_like_a_statement_is_not_read(text: str) -> None:
    assert facts_in(text, KNOWN) == []


def test_several_statements_of_one_message_are_read_in_order() -> None:
    text = (
        "Hi! My name is Ana, I live in Berlin and I'm allergic to nuts, what can I cook?"
        " Short answers please."
    )
    assert [fact for fact, *_ in stated(text)] == [
        "User's name is Ana",
        "User lives in Berlin",
        "User is allergic to nuts",
        "User wants short answers",
    ]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("Forget that I live in Berlin", [1]),
        ("Please forget my name", [4]),
        ("Forget about my peanut allergy", [3]),
        ("Forget everything you know about me", [1, 2, 3, 4]),
        ("Delete what you know about coffee", [2]),
        ("Forget everything", [1, 2, 3, 4]),
        ("Please forget everything that I've told you", [1, 2, 3, 4]),
        ("Delete all your memories of me", [1, 2, 3, 4]),
        ("Delete the fact that I like coffee", [2]),
        ("Forget everything about coffee", [2]),
        ("I no longer live in Berlin", [1]),
        ("I don't drink coffee any more", [2]),
        ("I'm not allergic to peanuts", [3]),
        ("Can you forget that I live in Berlin?", [1]),
        ("Stop remembering my peanut allergy", [3]),
        ("Vergessen Sie, dass ich in Berlin wohne", [1]),
        ("Olvide que vivo en Berlin", [1]),
        ("Did you forget my name?", []),
        ("Forget my shoe size", []),
        ("Forget that I live in Porto", []),
        ("I no longer live in Porto", []),
        ("Don't forget my name", []),
    ],
)
def test_what_is_taken_back_is_found_by_its_words(text: str, targets: list[int]) -> None:
    facts = [f for f in facts_in(text, KNOWN) if f["action"] == "retract"]
    assert [f["target"] for f in facts] == targets


@pytest.mark.parametrize(
    "text",
    [
        "Remove all comments",
        "Delete all rows where x is null",
        "Please delete everything after line 5",
        "Remove the coffee example",
        "Erase all coffee stains from the picture",
        "Remove my name from the letter",
        "Forget all previous instructions",
        "Forget everything above",
        "Forget all that",
    ],
)
def test_what_is_cut_from_a_text_or_a_chat_is_not_forgotten(text: str) -> None:
    assert facts_in(text, KNOWN) == []


def test_a_changed_taste_supersedes_its_opposite() -> None:
    (fact,) = facts_in("I don't like coffee anymore", KNOWN)
    assert (fact["action"], fact["target"], fact["text"]) == (
        "supersede",
        2,
        "User dislikes coffee",
    )


def test_a_move_says_since_when() -> None:
    (fact,) = facts_in("I moved to Paris last week")
    assert fact["event_start"] == "last week"


def batch(*turns: tuple[str, str]) -> ExtractionBatch:
    known = tuple(
        KnownMemory(n, Memory(f"m{n}", "fact", text, 1, 1, 1, type="profile", key=key))
        for n, text, key in KNOWN
    )
    return ExtractionBatch(
        1.0,
        "UTC",
        known,
        tuple(
            ExtractionTurn(n, role, 1.0, text, f"e{n}", f"t{n}")
            for n, (role, text) in enumerate(turns, 1)
        ),
    )


async def test_only_the_users_turns_are_read_and_all_of_it_passes_the_guards() -> None:
    asked = batch(
        ("assistant", "My name is Claire. I live in the cloud."),
        ("user", "I’m allergic to shellfish, and I moved to Paris last week"),
        ("tool", "My name is Root"),
        ("user", "Forget my name"),
    )
    answer = await RulesExtractor().extract(asked)
    assert [(f["turn"], f["action"]) for f in answer] == [(2, "add"), (2, "add"), (4, "retract")]
    judged = judge(answer, asked, House())
    assert len(judged.facts) == 3
    assert judged.dropped == {}


async def test_it_is_always_there_and_leaves_it_to_the_start_to_say_so() -> None:
    with structlog.testing.capture_logs() as said:
        extractor = RulesExtractor()
    assert extractor.name == "rules"
    assert said == []
    await extractor.ping()
    await extractor.close()


@given(st.text(max_size=200))
def test_no_text_is_an_error(text: str) -> None:
    for fact in facts_in(text, KNOWN):
        assert fact["quote"]


PIECES: Any = st.sampled_from(
    ["I like ", "my name is ", "a, i ", "remember ", "I'm a ", "'", '"', "forget ", " and ", "? "]
)


@given(st.lists(PIECES, max_size=40))
def test_whatever_is_said_after_whatever_is_no_error(pieces: list[str]) -> None:
    facts_in("".join(pieces), KNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "Forget that I like jazz",
        "Vergiss, dass ich Jazz mag",
        "Olvida que me gusta el jazz",
        "Oublie que j'aime le jazz",
    ],
)
def test_what_is_to_be_forgotten_is_found_in_each_language(text: str) -> None:
    known = [*KNOWN, (5, "User likes jazz", "likes")]
    assert [(f["action"], f["target"]) for f in facts_in(text, known)] == [("retract", 5)]


def test_what_has_ended_at_one_place_has_not_at_another() -> None:
    known = [(1, "User works at Siemens", "employer")]
    assert facts_in("I quit my job at Google", known) == []
    (fact,) = facts_in("I quit my job at Siemens", known)
    assert (fact["action"], fact["target"]) == ("retract", 1)


def test_a_childs_birthday_tells_its_name_and_when_it_was() -> None:
    facts = facts_in("My daughter Mia turned 6 yesterday")
    assert [(f["text"], f["key"], f["event_start"]) for f in facts] == [
        ("User's daughter is called Mia", "daughter_name", None),
        ("User's daughter turned 6", None, "yesterday"),
    ]


@pytest.mark.parametrize("begun", ["", "I like ", "my name is ", "I live in ", "call me ", "hi, "])
@pytest.mark.parametrize(
    "unit", [" ", "\t ", ", ", " , ", "\u00a0", "\u3000", " - ", ": ", '"a b" ', "and ", "i "]
)
def test_a_message_made_to_stall_its_reader_is_read_to_its_end(begun: str, unit: str) -> None:
    """Some of them took 13 s, in which an embedded gateway answered no chat; others raised."""
    assert len(facts_in(begun + unit * (MAX_CHARS // len(unit)))) <= 1


def test_two_statements_of_one_sentence_are_two_in_each_language() -> None:
    for text in (
        "My name is Ana and I live in Bonn",
        "Ich heiße Ana und ich wohne in Bonn",
        "Me llamo Ana y vivo en Bonn",
        "Je m'appelle Ana et j'habite à Bonn",
    ):
        assert [value for _, _, value in stated(text)] == ["Ana", "Bonn"], text


@pytest.mark.parametrize(
    "text",
    [
        "Imagine I'm a pirate. My name is Jack and I live in Tortuga.",
        "Let's say I'm a diabetic. I don't eat sugar. I like cake.",
        "Stell dir vor, ich bin Pirat. Ich heiße Jack und wohne in Tortuga.",
        "Imagina que soy un pirata. Me llamo Jack y vivo en Tortuga.",
        "Imagine que je suis un pirate. Je m'appelle Jack et j'habite à Tortuga.",
    ],
)
def test_what_is_supposed_is_supposed_to_the_end_of_the_message(text: str) -> None:
    assert facts_in(text) == []


def test_who_asks_a_supposition_or_tells_news_with_it_goes_on_about_themselves() -> None:
    for text in (
        "Imagine I moved to Rome, what would it cost? I live in Bonn.",
        "Stell dir vor, ich habe einen neuen Job! Ich wohne in Bonn.",
    ):
        assert stated(text) == [("User lives in Bonn", "home", "Bonn")], text


@pytest.mark.parametrize(
    "text",
    [
        "For this question only, answer in German.",
        "Answer in French: what is love?",
        "Answer in German, just this once.",
        "Antworte diesmal auf Englisch.",
        "Solo esta vez, responde en inglés.",
        "Pour cette question, réponds en anglais.",
    ],
)
def test_an_order_for_one_answer_is_no_preference(text: str) -> None:
    assert facts_in(text) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I used to live in Leeds, but now I live in York.", "York"),
        ("I said I live in Leeds, but actually I live in York.", "York"),
        ("I live in York, not Leeds.", "York"),
        ("I live in York until March.", "York"),
        ("I'm from York, living abroad.", "York"),
        ("Ich heiße Ana und wohne in York", "York"),
        ("Ich wohne seit März in York", "York"),
        ("Ich habe in Leeds gewohnt, aber jetzt wohne ich in York", "York"),
        ("Ahora vivo en York", "York"),
        ("I'm working at Bosch now", "Bosch"),
        ("I just started a new job at Bosch", "Bosch"),
        ("Ich arbeite jetzt bei Bosch", "Bosch"),
        ("Je travaille maintenant chez Bosch", "Bosch"),
        ("I am now working as a baker", "baker"),
        ("Tengo un hijo y trabajo como enfermera", "enfermera"),
        ("I've been vegan for three years", "vegan"),
        ("I prefer to be called Al", "Al"),
    ],
)
def test_what_is_so_now_is_read_with_the_words_that_say_now(text: str, value: str) -> None:
    assert [v for *_, v in stated(text)][-1] == value


ENDING = [
    (1, "User is vegetarian", "diet"),
    (2, "User works at Google", "employer"),
    (3, "User wants answers in Spanish", "language"),
    (4, "User wants short answers", "answer_length"),
    (5, "User lives in Berlin", "home"),
    (6, "User is allergic to pollen", "allergy"),
    (7, "User likes coffee", "likes"),
]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("You don't have to answer in Spanish anymore.", 3),
        ("Please stop answering in Spanish.", 3),
        ("Please don't answer in French.", None),
        ("You can stop being brief.", 4),
        ("I'm not a vegetarian.", 1),
        ("I stopped drinking coffee.", 7),
        ("I stopped at a coffee shop.", None),
        ("Ich bin kein Vegetarier mehr.", 1),
        ("Ich wohne nicht mehr in Berlin.", 5),
        ("Ich wohne nicht mehr in Rom.", None),
        ("Ich arbeite nicht mehr bei Google.", 2),
        ("Ya no soy vegetariana.", 1),
        ("Ya no trabajo en Google.", 2),
        ("No soy alérgica al pollen.", 6),
        ("Ya no tienes que responder en español.", 3),
        ("Je ne suis plus végétarienne.", 1),
        ("Je n'habite plus à Berlin.", 5),
        ("Tu n'as plus besoin de répondre en espagnol.", 3),
    ],
)
def test_what_is_no_longer_so_ends_what_says_that_it_is(text: str, target: int | None) -> None:
    found = [(f["action"], f["target"]) for f in facts_in(text, ENDING)]
    assert found == ([] if target is None else [("retract", target)])


@pytest.mark.parametrize(
    "text", ["Ich mag keinen coffee mehr", "Ya no me gusta el coffee", "Je n'aime plus le coffee"]
)
def test_a_changed_taste_supersedes_its_opposite_in_each_language(text: str) -> None:
    (fact,) = facts_in(text, ENDING)
    assert (fact["action"], fact["target"], fact["value"]) == ("supersede", 7, "coffee")


def test_a_move_says_since_when_in_each_language() -> None:
    for text in (
        "Ich bin letzten Monat nach Hamburg gezogen",
        "Me mudé a Hamburg el mes pasado",
        "J'ai déménagé à Hamburg le mois dernier",
    ):
        (fact,) = facts_in(text)
        assert (fact["value"], fact["event_start"]) == ("Hamburg", "last month"), text


def test_a_note_about_oneself_is_kept_and_one_about_a_thing_is_not() -> None:
    (fact,) = facts_in("Please note, Friday is my day off")
    assert fact["text"] == "User asked to remember: Friday is my day off"
    assert facts_in("Note: the function returns None") == []


def test_a_favourite_has_one_key_whichever_way_it_is_spelt() -> None:
    for text in ("My favorite color is blue", "My favourite colour is blue"):
        assert [key for _, key, _ in stated(text)] == ["favourite_colour"]


def test_whose_friend_somebody_is_is_not_what_they_are_called() -> None:
    assert facts_in("My sister is Anna's friend") == []


# --- forgotten and ended -----------------------------------------------------------------------

TOLD = [
    (1, "User's name is Ana", "name"),
    (2, "User's dog is called Rex", "dog_name"),
    (3, "User lives in Rome", "home"),
    (4, "User works at Google", "employer"),
    (5, "User is a nurse", "role"),
    (6, "User likes jazz", "likes"),
    (7, "User wants short answers", "answer_length"),
    (8, "User is 30 years old", "age"),
]
ALL = [n for n, *_ in TOLD]


def taken_back(text: str) -> list[int]:
    return [f["target"] for f in facts_in(text, TOLD) if f["action"] == "retract"]


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("Forget my name.", [1]),
        ("Forget my dog's name.", [2]),
        ("Please forget where I live", [3]),
        ("Forget my job", [4, 5]),
        ("Forget my preferences", [6, 7]),
        ("Forget me.", ALL),
        ("Please delete all data about me.", ALL),
        ("Clear your memory", ALL),
        ("I don't want you to remember my age.", [8]),
        ("Vergiss meinen Namen.", [1]),
        ("Vergiss bitte, wo ich wohne.", [3]),
        ("Vergiss alles über mich.", ALL),
        ("Vergiss alles, was du über mich weißt.", ALL),
        ("Lösche alles über mich.", ALL),
        ("Olvida dónde vivo", [3]),
        ("Olvida todo lo que sabes de mí.", ALL),
        ("Borra todo lo que sabes sobre mí.", ALL),
        ("Oublie où j'habite", [3]),
        ("Oublie mon nom", [1]),
        ("Oublie tout.", ALL),
        ("Lösche alle Kommentare", []),
        ("Borra todo", []),
        ("Supprime tout le code", []),
        ("Clear the cache", []),
        ("Delete me", []),
        ("I'll never forget my job", []),
    ],
)
def test_what_is_named_by_its_key_is_forgotten_and_nothing_like_it(
    text: str, targets: list[int]
) -> None:
    assert taken_back(text) == targets


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("I used to live in Rome.", [3]),
        ("I used to live in Paris.", []),
        ("i no longer live in paris", []),
        ("No, I don't live in Rome.", [3]),
        ("I don't work on Sundays.", []),
        ("I left Google and joined Meta.", [4]),
        ("I got fired from Google yesterday.", [4]),
        ("I left Google a review.", []),
        ("I left Rome this morning.", []),
        ("Turns out I no longer work at Google.", [4]),
        ("Ich habe bei Google gekündigt.", [4]),
        ("Dejé Google.", [4]),
        ("J'ai quitté Google.", [4]),
        ("Ich habe mein Auto verlassen.", []),
    ],
)
def test_what_was_given_up_ends_what_says_that_it_is(text: str, targets: list[int]) -> None:
    assert taken_back(text) == targets


def test_a_favourite_that_is_none_any_more_ends() -> None:
    known = [(1, "User's favourite colour is blue", "favourite_colour")]
    (fact,) = facts_in("My favorite color isn't blue anymore, it's green", known)
    assert (fact["action"], fact["target"]) == ("retract", 1)
    assert facts_in("My favourite colour isn't red", known) == []


def test_of_things_that_were_liked_together_one_is_not_any_more() -> None:
    facts = facts_in("I don't like coffee", [(1, "User likes tea, coffee and cake", "likes")])
    assert [(f["action"], f["target"], f["text"]) for f in facts] == [
        ("supersede", 1, "User dislikes coffee"),
        ("supersede", 1, "User likes tea"),
        ("supersede", 1, "User likes cake"),
    ]


def test_another_number_of_children_replaces_the_former() -> None:
    known = [(1, "User has two kids", None), (2, "User has a dog", None)]
    (fact,) = facts_in("I have three kids now", known)
    assert (fact["action"], fact["target"], fact["text"]) == ("supersede", 1, "User has three kids")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm 31 now.", ("User is 31 years old", "age", "31")),
        ("Maintenant j'habite à Nantes.", ("User lives in Nantes", "home", "Nantes")),
        ("Merk dir, dass ich in Köln wohne.", ("User lives in Köln", "home", "Köln")),
        ("Vergiss nicht, dass ich Vegetarier bin", ("User is vegetarian", "diet", "vegetarian")),
        ("I'm using React and this button does nothing", ("User uses React", "tool", "React")),
    ],
)
def test_what_was_missed_or_read_with_what_follows_is_read(
    text: str, expected: tuple[str, str | None, str | None]
) -> None:
    assert stated(text) == [expected]


@pytest.mark.parametrize(
    "text", ["I'm a doctor in this scenario.", "I prefer option B", "I like version 2"]
)
def test_what_is_played_or_chosen_among_offers_is_no_fact_about_the_user(text: str) -> None:
    assert facts_in(text) == []


# --- whose words they are ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "My friend wrote me this: hey, I moved to Berlin. What should I answer?",
        "My colleague writes:\nI am allergic to cats.\nHow do I reply?",
        "Persona: My name is Karen. I'm 45 years old. I love shopping.",
        "Explain gravity as if I'm a child. I'm 5 years old.",
        "You are a pirate. I am your captain. My name is Jack.",
        "For example, I live in Rome.",
        "I'd like short answers in my chatbot's menu, thanks",
        "I'm a Berliner.",
        "I'm a New Yorker",
        "I use to think that I'm a cat.",
        "I want to quit and live in Rome.",
        "I'd love to travel and live in Japan",
        "I'm reading about people who study in Rome and live in Oslo",
        "They work at Google and live in Oslo",
    ],
)
def test_what_others_say_what_is_supposed_and_what_is_wished_is_no_fact(text: str) -> None:
    assert facts_in(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm 16 years old and live in Oslo.", ["User is 16 years old", "User lives in Oslo"]),
        ("I'm from Leeds but live in London", ["User is from Leeds", "User lives in London"]),
        ("I live in Leeds and work as a nurse.", ["User lives in Leeds", "User is a nurse"]),
        ("I live in Rome and want to go to Peru", ["User lives in Rome"]),
        ("I live in Berlin during the week and in Ulm on Sundays", ["User lives in Berlin"]),
        ("I live in Trinidad and Tobago", ["User lives in Trinidad and Tobago"]),
        ("my name is ben and im 22", ["User's name is Ben", "User is 22 years old"]),
        ("Im allergic to nuts btw", ["User is allergic to nuts"]),
        ("You are an expert chef. I'm a vegetarian.", ["User is vegetarian"]),
        ("Quick one: can you help? I live in Rome.", ["User lives in Rome"]),
    ],
)
def test_a_sentence_that_says_two_things_of_its_subject_is_read_as_both(
    text: str, expected: list[str]
) -> None:
    facts = facts_in(text)
    assert [fact["text"] for fact in facts] == expected
    assert all(fact["quote"] in text for fact in facts)


# --- what is to happen and to be done ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "I have a dentist appointment tomorrow at 3pm.",
            ("interaction", "User has a dentist appointment tomorrow at 3pm", "tomorrow"),
        ),
        (
            "I have an exam in two weeks and a party tomorrow",
            ("interaction", "User has an exam in two weeks", "in two weeks"),
        ),
        (
            "My flight to Tokyo is on Friday",
            ("interaction", "User has a flight to Tokyo on Friday", "on Friday"),
        ),
        (
            "I've got an exam on May 30, how should I prepare?",
            ("interaction", "User has an exam on May 30", "on May 30"),
        ),
        (
            "I have a meeting with my boss next Tuesday and I'm nervous",
            ("interaction", "User has a meeting with their boss next Tuesday", "next Tuesday"),
        ),
        (
            "I still need to hand in my thesis by June 3.",
            ("task_state", "User needs to hand in their thesis by June 3", "June 3"),
        ),
        (
            "We have to pay the rent before the end of the month",
            (
                "task_state",
                "User needs to pay the rent by the end of the month",
                "the end of the month",
            ),
        ),
    ],
)
def test_what_has_its_day_is_read_with_it(text: str, expected: tuple[str, str, str]) -> None:
    (fact,) = facts_in(text)
    assert (fact["type"], fact["text"], fact["event_start"]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I have a meeting",
        "Do I have a meeting tomorrow?",
        "If I have a meeting tomorrow, remind me.",
        "I have no meeting tomorrow",
        "I have an exam every Friday",
        "My friend has an exam on Friday",
        "I have a test that fails on Friday",
        "I need to sort this list by date",
        "I need to filter rows before 2020",
        "I have to be at work by 9",
        "I need to finish it by Friday",
        "I finished the migration yesterday.",
        "My appointment was cancelled",
    ],
)
def test_what_has_no_day_of_its_own_is_no_appointment_and_no_task(text: str) -> None:
    assert facts_in(text) == []


PLANNED = [
    (1, "User has a dentist appointment on June 3", None),
    (2, "User needs to hand in their thesis by June 3", None),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "My dentist appointment was moved to June 9",
            ("supersede", 1, "User has a dentist appointment on June 9"),
        ),
        ("The dentist appointment got cancelled.", ("retract", 1, "")),
        (
            "I've handed in my thesis!",
            ("supersede", 2, "User has done it: hand in their thesis by June 3"),
        ),
    ],
)
def test_what_was_planned_is_moved_called_off_or_done(
    text: str, expected: tuple[str, int, str]
) -> None:
    (fact,) = facts_in(text, PLANNED)
    assert (fact["action"], fact["target"], fact["text"]) == expected
    assert facts_in("I finished breakfast", PLANNED) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ich bin 28 Jahre alt.", ("User is 28 years old", "age", "28")),
        ("Tengo 35 años.", ("User is 35 years old", "age", "35")),
        ("J'ai 27 ans", ("User is 27 years old", "age", "27")),
        (
            "Meine Lieblingsfarbe ist Blau",
            ("User's favourite colour is Blau", "favourite_colour", "Blau"),
        ),
        (
            "Mi color favorito es el azul",
            ("User's favourite colour is azul", "favourite_colour", "azul"),
        ),
        (
            "Ma couleur préférée est le vert",
            ("User's favourite colour is vert", "favourite_colour", "vert"),
        ),
        ("Ich trinke keinen Alkohol", ("User does not drink Alkohol", None, None)),
        ("No como pescado", ("User does not eat pescado", None, None)),
        ("Je ne mange pas de porc", ("User does not eat porc", None, None)),
        ("Ich esse kein Fleisch", ("User does not eat meat", "diet", "no meat")),
    ],
)
def test_age_colour_and_what_one_does_not_eat_are_read_in_each_language(
    text: str, expected: tuple[str, str | None, str | None]
) -> None:
    assert stated(text) == [expected]


@pytest.mark.parametrize(
    "text", ["Tengo 3 hijos", "J'ai 2 chats", "No como mucho", "Je ne mange pas beaucoup"]
)
def test_numbers_of_other_things_are_no_age(text: str) -> None:
    assert facts_in(text) == []


def test_switching_back_is_of_answers_where_a_language_was_wished_for() -> None:
    (fact,) = facts_in("You can switch back to English.", ENDING)
    assert (fact["key"], fact["value"]) == ("language", "en")
    assert facts_in("Switch to English", KNOWN) == []
    assert facts_in("How do I switch to English?", ENDING) == []
