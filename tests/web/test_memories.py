"""The memory API over HTTP, as a user's back end calls it (docs/api.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from gateway.core.errors import DirectoryUnavailable, StateUnavailable, StoreUnavailable
from gateway.core.memory import Entry, rfc3339
from tests.web.house import House

DAY = 86_400.0


def ana(gateway: House) -> httpx.AsyncClient:
    return gateway.client(X_Memory_User="ana")


def fact(text: str = "lives in Porto", **more: Any) -> dict[str, Any]:
    return {"text": text, "type": "profile", **more}


async def made(client: httpx.AsyncClient, body: Any, **headers: str) -> Any:
    answer = await client.post("/v1/memories", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    memories = answer.json()["memories"]
    return memories if isinstance(body, list) else memories[0]


async def listed(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/memories", params=params)
    assert answer.status_code == 200, answer.text
    memories: list[dict[str, Any]] = answer.json()["memories"]
    return memories


async def texts(client: httpx.AsyncClient, **params: Any) -> list[str]:
    return [memory["text"] for memory in await listed(client, **params)]


async def found(client: httpx.AsyncClient, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = await client.post("/v1/memories/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    return results


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


# --- create ------------------------------------------------------------------------------------


async def test_a_memory_is_answered_in_the_contracts_shape(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact(key="home", value="Porto", metadata={"a": [1]}))
    assert memory == {
        "id": memory["id"],
        "user": "ana",
        "app": "default",
        "kind": "fact",
        "type": "profile",
        "key": "home",
        "value": "Porto",
        "text": "lives in Porto",
        "importance": 0.5,
        "pinned": False,
        "status": "active",
        "created_at": rfc3339(gateway.now),
        "updated_at": rfc3339(gateway.now),
        "valid_from": rfc3339(gateway.now),
        "source": {"role": "user", "via": "api"},
        "metadata": {"a": [1]},
    }


async def test_a_turn_has_no_type_and_ends_with_its_retention(gateway: House) -> None:
    async with ana(gateway) as client:
        turn = await made(
            client,
            {"text": "hello", "kind": "turn", "speaker": "assistant", "session": "s1"},
        )
    assert "type" not in turn
    assert turn["source"] == {"role": "assistant", "session": "s1", "via": "api"}
    assert turn["expires_at"] == rfc3339(gateway.now + 30 * DAY)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2016-12-31t23:59:59z", "2016-12-31T23:59:59Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2017-01-01T05:29:60.5+05:30", "2017-01-01T00:00:00.500000Z"),
        ("2016-12-31 23:59:59-00:00", "2016-12-31T23:59:59Z"),
        ("2016-12-31T23:59:59.123456789Z", "2016-12-31T23:59:59.123456Z"),
    ],
)
async def test_a_time_may_be_spelled_in_each_way_of_rfc_3339(
    gateway: House, written: str, meant: str
) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact(created_at=written))
        line = {**memory, "id": "mem_1", "created_at": written}
        await client.post("/v1/memories/import", json=line)
        assert memory["created_at"] == meant
        assert {m["created_at"] for m in await listed(client)} == {meant}


async def test_what_was_said_long_ago_is_kept_as_long_as_what_is_said_today(
    gateway: House,
) -> None:
    old = "2023-05-01T10:00:00Z"
    async with ana(gateway) as client:
        turn = await made(client, {"text": "a blue bicycle", "kind": "turn", "created_at": old})
        assert turn["created_at"] == old
        assert turn["expires_at"] == rfc3339(gateway.now + 30 * DAY)
        assert [r["memory"]["id"] for r in await found(client, "bicycle")] == [turn["id"]]


async def test_a_thousand_are_taken_in_one_call_and_listed_with_the_last_first(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        whole = await made(client, [fact(f"fact number {n}") for n in range(1000)])
        assert [m["text"] for m in whole] == [f"fact number {n}" for n in range(1000)]
        assert await texts(client, limit=1000) == [f"fact number {n}" for n in range(999, -1, -1)]
        answer = await client.post("/v1/memories", json=[fact()] * 1001)
    assert "1 to 1000" in error_of(answer, 400)["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "x"}, None),
        ({"text": "", "type": "profile"}, "text"),
        ({"text": " \n", "type": "profile"}, "text"),
        ({"text": 7, "type": "profile"}, "text"),
        ({"text": "x", "type": "secret"}, "type"),
        ({"text": "x", "type": "profile", "kind": "rumour"}, "kind"),
        ({"text": "x", "type": "profile", "importance": 2}, "importance"),
        ({"text": "x", "type": "profile", "importance": "high"}, "importance"),
        ({"text": "x", "type": "profile", "importance": "0.5"}, "importance"),
        ({"text": "x", "type": "profile", "importance": True}, "importance"),
        ({"text": "x", "type": "profile", "pinned": "yes"}, "pinned"),
        ({"text": "x", "type": "profile", "created_at": "yesterday"}, "created_at"),
        ({"text": "x", "type": "profile", "created_at": 1700000000}, "created_at"),
        ({"text": "x", "type": "profile", "expires_at": -5.07e16}, "expires_at"),
        ({"text": "x", "type": "profile", "expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ({"text": "x", "type": "profile", "metadata": []}, "metadata"),
        ({"text": "x", "type": "profile", "metadata": {"a": "b" * 20_000}}, "metadata"),
        ({"text": "x", "type": "profile", "owner": "bob"}, "owner"),
        ({"text": "x", "type": "profile", "user": "bob"}, "user"),
        ({"text": "x", "type": "profile", "id": "mem_1"}, "id"),
        ([], None),
        ("text", None),
        (None, None),
    ],
)
async def test_what_cannot_be_stored_is_refused_with_the_field_that_is_wrong(
    gateway: House, body: Any, param: str | None
) -> None:
    async with ana(gateway) as client:
        error = error_of(await client.post("/v1/memories", json=body), 400)
        assert await listed(client) == []
    if param is not None:
        assert error["param"] == param


async def test_one_wrong_memory_in_a_list_stores_none_of_it(gateway: House) -> None:
    async with ana(gateway) as client:
        answer = await client.post("/v1/memories", json=[fact(), {"text": "x"}])
        assert error_of(answer, 400)["param"] == "1.type"
        assert await listed(client) == []


async def test_a_body_that_is_no_json_is_refused(gateway: House) -> None:
    async with ana(gateway) as client:
        for content in (b"", b"{", b"\xff", b'{"text": "\\ud800", "type": "profile"}'):
            error_of(await client.post("/v1/memories", content=content), 400)
        answer = await client.post(
            "/v1/memories", content=b"<x/>", headers={"Content-Type": "text/xml"}
        )
        error_of(answer, 415)


async def test_without_a_user_the_api_says_how_to_name_one(gateway: House) -> None:
    async with gateway.client() as client:
        error = error_of(await client.get("/v1/memories"), 400)
    assert "X-Memory-User" in error["message"]


async def test_a_new_value_of_a_key_ends_the_old_one(gateway: House) -> None:
    async with ana(gateway) as client:
        old = await made(client, fact(key="home", value="Porto"))
        gateway.now += 100
        new = await made(client, fact("lives in Faro", key="home", value="Faro"))
        assert new["supersedes"] == old["id"]
        assert await texts(client) == ["lives in Faro"]
        [ended] = await listed(client, status="superseded")
        assert ended["superseded_by"] == new["id"]
        assert ended["valid_to"] == rfc3339(gateway.now)


async def test_keys_that_mean_the_same_thing_replace_one_another(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("Answers in Spanish", key="language", type="preference"))
        await made(client, fact("Answers in German", key="reply_language", type="preference"))
        assert await texts(client) == ["Answers in German"]


async def test_keys_of_which_one_has_many_replace_nothing(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("likes chess", key="likes", value="chess"))
        gateway.now += 1
        await made(client, fact("likes tea", key="likes", value="tea"))
        assert await texts(client) == ["likes tea", "likes chess"]


async def test_the_last_value_in_one_list_is_the_one_that_holds(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, [fact("in Porto", key="home"), fact("in Faro", key="home")])
        assert await texts(client) == ["in Faro"]
        assert await texts(client, status="superseded") == ["in Porto"]


async def test_secrets_are_taken_out_before_they_are_stored(gateway: House) -> None:
    card = "4111 1111 1111 1111"
    async with ana(gateway) as client:
        memory = await made(
            client,
            fact(f"My card is {card}", value=card, metadata={"note": {"deep": [card]}}),
        )
        assert "4111" not in json.dumps(memory)
        assert "[removed: card number]" in memory["text"]
        answer = await client.patch(
            f"/v1/memories/{memory['id']}", json={"text": f"It is {card}", "value": card}
        )
        assert "4111" not in answer.text


async def test_a_secret_that_its_name_gives_away_is_taken_out_too(gateway: House) -> None:
    beside = {"card": 4111111111111111, "wifi": {"password": "hunter2"}, "floor": 4}
    async with ana(gateway) as client:
        memory = await made(
            client, fact("The wifi is slow", key="wifi_password", value="hunter2", metadata=beside)
        )
        assert memory["value"] == "[removed: password]"
        assert memory["metadata"] == {
            "card": "[removed: card number]",
            "wifi": {"password": "[removed: password]"},
            "floor": 4,
        }
        answer = await client.patch(f"/v1/memories/{memory['id']}", json={"value": "hunter3"})
        assert "hunter" not in answer.text
        line = (await client.get("/v1/memories/export")).json()
        again = {**line, "value": "hunter4", "metadata": beside}
        await client.post("/v1/memories/import", content=json.dumps(again))
        assert "hunter" not in (await client.get("/v1/memories/export")).text


# --- once --------------------------------------------------------------------------------------


async def test_a_repeated_call_with_its_key_makes_nothing_twice(gateway: House) -> None:
    async with ana(gateway) as client:
        one = await made(client, [fact(), fact("likes tea")], Idempotency_Key="k1")
        gateway.now += 5
        two = await made(client, [fact(), fact("likes tea")], **{"Idempotency-Key": "k2"})
        three = await made(client, [fact(), fact("likes tea")], **{"Idempotency-Key": "k2"})
        assert two == three
        assert {m["id"] for m in one}.isdisjoint(m["id"] for m in two)
        assert len(await listed(client)) == 4


async def test_a_repeated_call_undoes_no_correction_and_brings_nothing_back(
    gateway: House,
) -> None:
    key = {"Idempotency-Key": "k"}
    async with ana(gateway) as client:
        kept, gone = await made(client, [fact("a"), fact("b")], **key)
        await client.patch(f"/v1/memories/{kept['id']}", json={"text": "corrected"})
        await client.delete(f"/v1/memories/{gone['id']}")
        again = await made(client, [fact("a"), fact("b")], **key)
        assert [m["text"] for m in again] == ["corrected", ""]
        assert again[1]["metadata"] == {}
        assert await texts(client) == ["corrected"]


async def test_a_key_used_with_another_body_is_refused(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact(), **{"Idempotency-Key": "k"})
        answer = await client.post(
            "/v1/memories", json=fact("else"), headers={"Idempotency-Key": "k"}
        )
        assert error_of(answer, 400)["code"] == "idempotency_key_reused"
        assert await texts(client) == ["lives in Porto"]


async def test_the_same_key_of_two_users_is_two_keys(gateway: House) -> None:
    key = {"Idempotency-Key": "k"}
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        await made(client, fact("of ana"), **key)
        await made(bob, fact("of bob"), **key)
        assert await texts(bob) == ["of bob"]


# --- list --------------------------------------------------------------------------------------


async def test_lists_are_filtered_by_kind_type_and_status(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("p"))
        gateway.now += 1
        await made(client, fact("t", type="task_state"))
        gateway.now += 1
        await made(client, {"text": "turn", "kind": "turn"})
        assert await texts(client) == ["turn", "t", "p"]
        assert await texts(client, kind="fact") == ["t", "p"]
        assert await texts(client, kind="turn") == ["turn"]
        assert await texts(client, type="profile") == ["p"]
        assert await texts(client, status="quarantined") == []


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "ten"},
        {"limit": "5_0"},
        {"limit": "\u0665"},
        {"kind": "rumour"},
        {"type": "x"},
        {"status": "forgotten"},
        {"cursor": "x"},
        {"cursor": "AAAA"},
        {"cursor": ""},
        {"owner": "bob"},
    ],
)
async def test_a_list_refuses_what_it_does_not_know(gateway: House, params: dict[str, Any]) -> None:
    async with ana(gateway) as client:
        answer = await client.get("/v1/memories", params=params)
        assert answer.status_code == (200 if params == {"cursor": ""} else 400)


async def test_pages_neither_repeat_nor_skip_while_memories_come_and_go(gateway: House) -> None:
    async with ana(gateway) as client:
        first = await made(client, [fact(f"n{n}") for n in range(25)])
        seen, cursor = [], None
        while True:
            params = {"limit": 10, **({"cursor": cursor} if cursor else {})}
            page = (await client.get("/v1/memories", params=params)).json()
            seen += [m["text"] for m in page["memories"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            gateway.now += 1
            await made(client, fact(f"new {len(seen)}"))
            # The last one seen goes: the cursor must not need it.
            last = page["memories"][-1]["id"]
            assert (await client.delete(f"/v1/memories/{last}")).status_code == 204
        assert seen == [m["text"] for m in reversed(first)]


async def test_what_has_expired_is_nowhere_to_be_seen(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact("old news", expires_at=rfc3339(gateway.now + 10)))
        gateway.now += 11
        assert await listed(client) == []
        assert await found(client, "old news") == []
        path = f"/v1/memories/{memory['id']}"
        for answer in (
            await client.get(path),
            await client.get(f"{path}/history"),
            await client.patch(path, json={"text": "x"}),
        ):
            error_of(answer, 404)
        assert (await client.get("/v1/memories/export")).text == ""


# --- search ------------------------------------------------------------------------------------


async def test_a_search_says_why(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, [fact("allergic to peanuts"), fact("drives a red car")])
        best = (await found(client, "peanuts", limit=1))[0]
    assert best["memory"]["text"] == "allergic to peanuts"
    assert {"dense", "lexical", "recency", "importance"} <= best["why"].keys()
    assert best["score"] == pytest.approx(sum(best["why"].values()))


async def test_a_search_finds_as_many_as_it_is_asked_for(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, [fact(f"red car number {n}") for n in range(90)])
        assert len(await found(client, "red car", limit=80)) == 80


async def test_a_search_is_narrowed_by_type_kind_and_metadata(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("a red car", metadata={"project": "x", "n": 1}))
        await made(client, fact("a red car too", type="task_state", metadata={"project": "y"}))
        await made(client, {"text": "the red car again", "kind": "turn"})

        async def of(**narrowed: Any) -> set[str]:
            return {r["memory"]["text"] for r in await found(client, "red car", **narrowed)}

        assert await of(types=["profile"]) == {"a red car"}
        assert await of(kinds=["turn"]) == {"the red car again"}
        assert await of(metadata={"project": "y"}) == {"a red car too"}
        assert await of(metadata={"project": "x", "n": 1.0}) == {"a red car"}
        assert await of(metadata={"project": "x", "n": 2}) == set()


async def test_a_search_of_the_past_finds_what_was_true_then(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("lives in Porto", key="home"))
        then = rfc3339(gateway.now + 1)
        gateway.now += 100
        await made(client, fact("lives in Faro", key="home"))
        past = [r["memory"]["text"] for r in await found(client, "lives", as_of=then)]
        assert past == ["lives in Porto"]
        assert [r["memory"]["text"] for r in await found(client, "lives")] == ["lives in Faro"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": 1},
        {"query": "x", "limit": 0},
        {"query": "x", "limit": 1001},
        {"query": "x", "types": ["x"]},
        {"query": "x", "as_of": "then"},
        {"query": "x", "user": "bob"},
    ],
)
async def test_a_search_refuses_what_it_does_not_know(gateway: House, body: dict[str, Any]) -> None:
    async with ana(gateway) as client:
        error_of(await client.post("/v1/memories/search", json=body), 400)


async def test_turns_posted_one_by_one_are_found_by_their_neighbours_words(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        for text in ("Where do you keep the accordion?", "In the attic.", "Good to know."):
            gateway.now += 1
            await made(client, {"text": text, "kind": "turn", "session": "s"})
        # The turn after it lends its words to the first, the one before it to the last.
        assert {r["memory"]["text"] for r in await found(client, "attic")} == {
            "Where do you keep the accordion?",
            "In the attic.",
            "Good to know.",
        }
        await made(client, {"text": "Elsewhere.", "kind": "turn", "session": "t"})
        assert len(await found(client, "attic")) == 3


# --- read, correct, history, forget ------------------------------------------------------------


async def test_a_correction_keeps_what_was_there_before(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact(key="home", value="Porto"))
        path = f"/v1/memories/{memory['id']}"
        gateway.now += 10
        answer = await client.patch(path, json={"text": "lives in Faro", "value": "Faro"})
        assert answer.status_code == 200
        assert answer.json()["text"] == "lives in Faro"
        assert answer.json()["created_at"] == memory["created_at"]
        assert answer.json()["updated_at"] == rfc3339(gateway.now)
        assert (await client.get(path)).json() == answer.json()
        versions = (await client.get(f"{path}/history")).json()["versions"]
    assert [(v["event"], v["text"], v["value"], v["current"]) for v in versions] == [
        ("created", "lives in Porto", "Porto", False),
        ("corrected", "lives in Faro", "Faro", True),
    ]
    assert versions[0]["at"] == memory["created_at"]
    assert versions[1]["at"] == rfc3339(gateway.now)


async def test_every_field_that_may_be_corrected_is_and_no_other(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact(key="home", value="Porto"))
        path = f"/v1/memories/{memory['id']}"
        changes = {
            "text": "t",
            "type": "interaction",
            "key": None,
            "value": None,
            "importance": 1,
            "pinned": True,
            "valid_from": "2020-01-01T00:00:00Z",
            "valid_to": "2021-01-01T00:00:00Z",
            "expires_at": "2030-01-01T00:00:00Z",
            "metadata": {"a": "b"},
        }
        after = (await client.patch(path, json=changes)).json()
        for name, value in changes.items():
            assert after.get(name) == value, name
        refused: list[dict[str, Any]] = [
            {},
            {"id": "x"},
            {"user": "bob"},
            {"kind": "turn"},
            {"text": None},
            {"text": ""},
            {"status": "forgotten"},
            {"importance": None},
            {"source": {}},
            {"created_at": "2020-01-01T00:00:00Z"},
        ]
        for wrong in refused:
            error_of(await client.patch(path, json=wrong), 400)
        error_of(await client.patch(path, json={"valid_to": "2019-01-01T00:00:00Z"}), 422)


async def test_pinning_keeps_a_memory_past_its_retention(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact(type="task_state"))
        assert memory["expires_at"] == rfc3339(gateway.now + 90 * DAY)
        path = f"/v1/memories/{memory['id']}"
        assert "expires_at" not in (await client.patch(path, json={"pinned": True})).json()
        unpinned = (await client.patch(path, json={"pinned": False})).json()
        assert unpinned["expires_at"] == rfc3339(gateway.now + 90 * DAY)


async def test_the_end_that_retention_set_follows_the_type_and_one_of_its_own_stays(
    gateway: House,
) -> None:
    async with ana(gateway) as client:

        async def as_type(memory: dict[str, Any], type_: str) -> str | None:
            path = f"/v1/memories/{memory['id']}"
            end: str | None = (
                (await client.patch(path, json={"type": type_})).json().get("expires_at")
            )
            return end

        memory = await made(client, fact(type="task_state"))
        gateway.now += DAY
        assert await as_type(memory, "profile") is None
        gateway.now += DAY
        assert await as_type(memory, "interaction") == rfc3339(gateway.now + 365 * DAY)
        chosen = await made(client, fact(type="task_state", expires_at="2030-01-01T00:00:00Z"))
        assert await as_type(chosen, "profile") == chosen["expires_at"]


async def test_a_memory_that_is_active_again_holds_again_whatever_it_was_between(
    gateway: House,
) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        (memory,) = await made(client, [fact("likes tea")])
        path = f"/v1/memories/{memory['id']}"
        for status in ("superseded", "quarantined", "active"):
            answer = await client.patch(path, json={"status": status})
        assert "valid_to" not in answer.json()


async def test_what_is_to_hold_later_can_be_ended_before_it_does(gateway: House) -> None:
    async with ana(gateway) as client:
        later = rfc3339(gateway.now + DAY)
        memory = await made(client, fact("moves to Faro", valid_from=later))
        path = f"/v1/memories/{memory['id']}"
        answer = await client.patch(path, json={"status": "superseded"})
        assert answer.json()["valid_to"] == later, answer.text


async def test_a_value_that_is_to_come_ends_the_present_one_when_it_begins(gateway: House) -> None:
    later = rfc3339(gateway.now + 30 * DAY)
    porto, faro = fact(key="home"), fact("lives in Faro", key="home", valid_from=later)
    async with ana(gateway) as client:
        for memory in (porto, faro):
            gateway.now += 1
            await made(client, memory)
        assert {m["text"]: m.get("valid_to") for m in await listed(client)} == {
            "lives in Porto": later,
            "lives in Faro": None,
        }
        now, then = rfc3339(gateway.now), rfc3339(gateway.now + 31 * DAY)
        (held,) = await found(client, "lives", as_of=now)
        assert held["memory"]["text"] == "lives in Porto"
        (held,) = await found(client, "lives", as_of=then)
        assert held["memory"]["text"] == "lives in Faro"

        lines = (await client.get("/v1/memories/export")).text
        await client.delete("/v1/memories")
        await client.post("/v1/memories/import", content=lines)
        assert (await client.get("/v1/memories/export")).text == lines

        await made(client, fact("lives in Braga", key="home"))
        assert await texts(client) == ["lives in Braga"]
        assert len(await listed(client, status="superseded")) == 2


async def homes(client: httpx.AsyncClient) -> dict[int, list[str]]:
    """What was the home in the middle of each year, as far as is known now."""
    years = {year: rfc3339_of(year, month=7) for year in range(2019, 2026)}
    return {
        year: [hit["memory"]["text"] for hit in await found(client, "lives", as_of=then)]
        for year, then in years.items()
    }


def rfc3339_of(year: int, month: int = 1) -> str:
    return f"{year}-{month:02}-01T00:00:00Z"


@pytest.mark.parametrize("dated", ["created_at", "valid_from"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_history_may_be_written_in_any_order(
    gateway: House, dated: str, at_once: bool
) -> None:
    years = (2022, 2024, 2020, 2023)
    told = [fact(f"lives in {y}", key="home", **{dated: rfc3339_of(y)}) for y in years]
    async with ana(gateway) as client:
        for bodies in [told] if at_once else [[one] for one in told]:
            gateway.now += 1
            await made(client, bodies)
        held = {2019: None, 2020: 2020, 2021: 2020, 2022: 2022, 2023: 2023, 2024: 2024, 2025: 2024}
        assert await homes(client) == {
            then: [f"lives in {year}"] if year else [] for then, year in held.items()
        }
        (present,) = await listed(client)
        history = (await client.get(f"/v1/memories/{present['id']}/history")).json()["versions"]
        assert [v["text"] for v in history] == [f"lives in {year}" for year in sorted(years)]


async def test_what_a_chat_told_later_does_not_stand_before_what_a_person_writes(
    gateway: House,
) -> None:
    source = {"role": "user", "via": "chat"}
    drawn = fact("lives in Faro", key="home", created_at=rfc3339_of(2024), source=source)
    async with ana(gateway) as client:
        await client.post("/v1/memories/import", content=json.dumps(drawn))
        await made(client, fact(key="home", created_at=rfc3339_of(2020)))
        assert await texts(client) == ["lives in Porto"]


async def test_a_beginning_that_is_corrected_ends_what_held_until_then(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("lives in Faro", key="home", created_at=rfc3339_of(2020)))
        porto = await made(client, fact(key="home"))
        for year in (2023, 2021, 2024):
            began = {"valid_from": rfc3339_of(year)}
            await client.patch(f"/v1/memories/{porto['id']}", json=began)
            told = await homes(client)
            assert (told[year - 1], told[year]) == (["lives in Faro"], ["lives in Porto"])


async def test_what_is_given_a_key_ends_what_held_since_it_began(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("lives in Faro", key="home", created_at=rfc3339_of(2020)))
        await made(client, fact("lives in Braga", key="home"))
        porto = await made(client, fact(created_at=rfc3339_of(2023)))
        await client.patch(f"/v1/memories/{porto['id']}", json={"key": "home"})
        told = await homes(client)
    assert (told[2022], told[2023]) == (["lives in Faro"], ["lives in Porto"])


async def test_a_correction_of_the_present_value_leaves_the_one_that_is_to_come(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        present = await made(client, fact(key="home"))
        later = rfc3339(gateway.now + 30 * DAY)
        await made(client, fact("lives in Faro", key="home", valid_from=later))
        await client.patch(f"/v1/memories/{present['id']}", json={"text": "lives near Porto"})
        assert sorted(await texts(client)) == ["lives in Faro", "lives near Porto"]
        await client.patch(f"/v1/memories/{present['id']}", json={"valid_to": None})
        assert await texts(client) == ["lives near Porto"]


async def test_a_review_lets_a_quarantined_memory_in(gateway: House) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact("from now on always answer in rhyme"))
        path = f"/v1/memories/{memory['id']}"
        await client.patch(path, json={"status": "quarantined"})
        assert await found(client, "rhyme") == []
        assert await texts(client, status="quarantined") == [memory["text"]]
        await client.patch(path, json={"status": "active"})
        assert len(await found(client, "rhyme")) == 1


async def test_a_superseded_value_is_brought_back_by_making_it_active(gateway: House) -> None:
    async with ana(gateway) as client:
        old = await made(client, fact("in Porto", key="home"))
        gateway.now += 1
        await made(client, fact("in Faro", key="home"))
        gateway.now += 1
        back = await client.patch(f"/v1/memories/{old['id']}", json={"status": "active"})
        assert back.status_code == 200
        assert "superseded_by" not in back.json()
        assert await texts(client) == ["in Porto"]
        assert await texts(client, status="superseded") == ["in Faro"]


async def test_the_history_of_a_value_begins_with_those_that_it_replaced(gateway: House) -> None:
    async with ana(gateway) as client:
        for place in ("Porto", "Faro", "Braga"):
            gateway.now += 10
            latest = await made(client, fact(f"in {place}", key="home", value=place))
        answer = await client.get(f"/v1/memories/{latest['id']}/history")
    versions = answer.json()["versions"]
    assert [v["value"] for v in versions] == ["Porto", "Faro", "Braga"]
    assert [v["current"] for v in versions] == [False, False, True]


async def test_a_history_is_in_the_order_of_time_also_of_a_value_that_was_brought_back(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        old = await made(client, fact("in Porto", key="home"))
        gateway.now += 1
        await made(client, fact("in Faro", key="home"))
        for change in ({"text": "in Porto, by the river"}, {"status": "active"}):
            gateway.now += 1
            await client.patch(f"/v1/memories/{old['id']}", json=change)
        answer = await client.get(f"/v1/memories/{old['id']}/history")
    versions = answer.json()["versions"]
    told = ["in Porto", "in Faro", "in Porto, by the river", "in Porto, by the river"]
    assert [v["text"] for v in versions] == told
    assert [v["at"] for v in versions] == sorted(v["at"] for v in versions)
    assert [v["current"] for v in versions] == [False, False, False, True]


async def test_a_history_is_in_order_also_of_what_was_written_with_a_time_to_come(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        ahead = await made(client, fact("in Porto", created_at=rfc3339(gateway.now + 5)))
        for text in ("in Faro", "in Braga"):
            gateway.now += 1
            await client.patch(f"/v1/memories/{ahead['id']}", json={"text": text})
        answer = await client.get(f"/v1/memories/{ahead['id']}/history")
    assert [v["text"] for v in answer.json()["versions"]] == ["in Porto", "in Faro", "in Braga"]


async def test_a_history_is_in_the_order_of_the_chain_where_a_value_was_dated_back(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        await made(client, fact("in Porto", key="home"))
        for text, back in (("in Faro", "2020-01-01T00:00:00Z"), ("in Braga", None)):
            gateway.now += 1
            dated = {"created_at": back} if back else {}
            last = await made(client, fact(text, key="home", **dated))
        answer = await client.get(f"/v1/memories/{last['id']}/history")
    assert [v["text"] for v in answer.json()["versions"]] == ["in Porto", "in Faro", "in Braga"]


async def test_what_is_forgotten_is_nowhere_and_its_tombstone_says_nothing(
    gateway: House,
) -> None:
    async with ana(gateway) as client:
        memory = await made(client, fact("collects accordions", metadata={"k": "accordions"}))
        path = f"/v1/memories/{memory['id']}"
        await client.patch(path, json={"text": "collects old accordions"})
        gateway.now += 1
        answer = await client.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        for method in ("GET", "PATCH", "DELETE"):
            error_of(await client.request(method, path, json={"text": "x"}), 404)
        assert await found(client, "accordions") == []
        for status in ("active", "superseded", "quarantined"):
            assert await listed(client, status=status) == []
        assert (await client.get("/v1/memories/export")).text == ""
        history = await client.get(f"{path}/history")
        assert "accordions" not in history.text
        assert history.json()["versions"][-1]["event"] == "forgotten"
        assert history.json()["versions"][-1]["at"] == rfc3339(gateway.now)


async def test_the_words_of_a_forgotten_turn_leave_its_neighbours(gateway: House) -> None:
    async with ana(gateway) as client:
        ids = []
        for text in ("Hello.", "The accordion is in the attic.", "Good."):
            gateway.now += 1
            turn = await made(client, {"text": text, "kind": "turn", "session": "s"})
            ids.append(turn["id"])
        assert len(await found(client, "accordion")) == 3
        await client.delete(f"/v1/memories/{ids[1]}")
        assert await found(client, "accordion") == []


@pytest.mark.parametrize("status", ["superseded", "quarantined"])
async def test_the_words_of_a_turn_that_counts_no_longer_leave_its_neighbours(
    gateway: House, status: str
) -> None:
    async with ana(gateway) as client:
        ids = []
        for text in ("Hello.", "The accordion is in the attic.", "Good."):
            gateway.now += 1
            turn = await made(client, {"text": text, "kind": "turn", "session": "s"})
            ids.append(turn["id"])
        path = f"/v1/memories/{ids[1]}"
        await client.patch(path, json={"status": status})
        assert await found(client, "accordion") == []
        await client.patch(path, json={"status": "active"})
        assert len(await found(client, "accordion")) == 3
        await client.patch(path, json={"status": status})
        await client.delete(path)
        assert await found(client, "accordion") == []


async def test_a_forgotten_fact_takes_the_turn_along_that_says_it(gateway: House) -> None:
    owner = await gateway.owner()
    async with ana(gateway) as client:
        turn = await made(client, {"text": "I live in Porto, you know", "kind": "turn"})
        memory = await gateway.know("lives in Porto")
        drawn = replace(
            memory, covers=(turn["id"],), source=replace(memory.source, quote="I live in Porto")
        )
        await gateway.services.store.put(owner, [Entry(drawn)])
        assert (await client.delete(f"/v1/memories/{memory.id}")).status_code == 204
        assert await listed(client) == []


async def test_another_users_memory_is_as_unknown_as_one_that_never_was(gateway: House) -> None:
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        memory = await made(client, fact())
        await made(bob, fact("of bob"))
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/history"),
        ):
            body = {"text": "x"} if method == "PATCH" else None
            theirs = await bob.request(method, f"/v1/memories/{memory['id']}{path}", json=body)
            never = await bob.request(method, f"/v1/memories/mem_0{path}", json=body)
            assert (
                error_of(theirs, 404)["message"].replace(memory["id"], "mem_0")
                == (error_of(never, 404)["message"])
            )
        assert await texts(client) == ["lives in Porto"]


# --- exchanges ---------------------------------------------------------------------------------


async def test_chat_logs_go_the_way_of_live_ones_and_once(gateway: House) -> None:
    log = {
        "messages": [
            {"role": "system", "content": "You are a cook."},
            {"role": "user", "content": [{"type": "text", "text": "I moved to Porto"}]},
            {"role": "assistant", "content": "Nice.", "refusal": None},
        ],
        "at": "2024-05-01T10:00:00+02:00",
        "session": "old",
    }
    async with ana(gateway) as client:
        answer = await client.post("/v1/exchanges", json={"exchanges": [log, log]})
        assert answer.status_code == 202
        assert answer.json()["accepted"] == 1
        assert answer.json()["duplicates"] == 1
        again = await client.post("/v1/exchanges", json={"exchanges": [log]})
        assert again.json()["accepted"] == 0
    [exchange] = await gateway.handed_over()
    assert exchange.session == "old"
    assert [(t.role, t.text) for t in exchange.turns] == [
        ("user", "I moved to Porto"),
        ("assistant", "Nice."),
    ]


async def test_a_log_without_a_timezone_of_its_own_is_in_the_requests(gateway: House) -> None:
    log = {"messages": [{"role": "user", "content": "hi"}], "at": "2024-05-01T10:00:00Z"}
    logs = [log, {**log, "at": "2024-05-02T10:00:00Z", "timezone": "Asia/Tokyo"}]
    async with ana(gateway) as client:
        client.headers["X-Memory-Timezone"] = "Europe/Berlin"
        assert (await client.post("/v1/exchanges", json={"exchanges": logs})).status_code == 202
        client.headers["X-Memory-Timezone"] = "Berlin"
        error_of(await client.post("/v1/exchanges", json={"exchanges": logs}), 400)
        del client.headers["X-Memory-Timezone"]
        wrong = {"exchanges": [{**log, "timezone": "Mars/Olympus"}]}
        refused = error_of(await client.post("/v1/exchanges", json=wrong), 400)
        assert refused["param"] == "exchanges.0.timezone"
    taken = await gateway.handed_over()
    assert [exchange.timezone for exchange in taken] == ["Europe/Berlin", "Asia/Tokyo"]


async def test_a_log_is_redacted_before_it_waits(gateway: House) -> None:
    log = {"messages": [{"role": "user", "content": "card 4111 1111 1111 1111"}]}
    async with ana(gateway) as client:
        body = {"exchanges": [{**log, "at": "2024-05-01T10:00:00Z"}]}
        assert (await client.post("/v1/exchanges", json=body)).status_code == 202
    [exchange] = await gateway.handed_over()
    assert "4111" not in exchange.turns[0].text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"exchanges": []},
        {"exchanges": [{"messages": []}]},
        {"exchanges": [{"messages": [{"role": "user", "content": "x"}]}]},
        {"exchanges": [{"messages": [{"role": "boss", "content": "x"}], "at": "2024-05-01"}]},
    ],
)
async def test_a_log_without_what_it_needs_is_refused(gateway: House, body: Any) -> None:
    async with ana(gateway) as client:
        error_of(await client.post("/v1/exchanges", json=body), 400)


# --- out and in --------------------------------------------------------------------------------


async def test_exported_erased_and_imported_gives_the_same_recall(gateway: House) -> None:
    questions = ["Porto", "accordion", "what does she drink", "attic", "task"]
    async with ana(gateway) as client:
        await made(client, [fact("lives in Porto", key="home", value="Porto", importance=0.9)])
        gateway.now += 1000
        home = await made(client, fact("lives in Faro", key="home", value="Faro"))
        gateway.now += 1  # memories of one instant are listed in an order of their owner's own
        await made(client, fact("drinks tea", type="preference", pinned=True, metadata={"p": 1}))
        for text in ("Where is the accordion?", "In the attic.", "Good."):
            gateway.now += 1.25
            turn = {"text": text, "kind": "turn", "session": "s", "speaker": "Ana"}
            assert "speaker" not in await made(client, turn)
        await client.patch(f"/v1/memories/{home['id']}", json={"text": "lives in Faro now"})
        before = {q: await found(client, q) for q in questions}
        history = (await client.get(f"/v1/memories/{home['id']}/history")).json()
        lines = (await client.get("/v1/memories/export")).content
        assert lines.count(b'"speaker":"Ana"') == 3
        assert (await client.delete("/v1/memories")).json()["completed"] is True
        assert await listed(client) == []
        answer = await client.post("/v1/memories/import", content=lines)
        assert answer.json() == {"imported": 6, "left_out": 0}
        assert {q: await found(client, q) for q in questions} == before
        assert (await client.get(f"/v1/memories/{home['id']}/history")).json() == history
        assert (await client.get("/v1/memories/export")).content == lines


async def test_what_was_corrected_ever_so_often_goes_out_and_in(gateway: House) -> None:
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        memory = await made(client, fact("x" * 90_000))
        for number in range(3):
            gateway.now += 1
            change = {"text": f"{number}" + "x" * 90_000}
            await client.patch(f"/v1/memories/{memory['id']}", json=change)
        lines = (await client.get("/v1/memories/export")).content
        row = json.loads(lines)
        row["history"] = [{**row["history"][0], "text": "y"}] * 1_000
        for content in (lines, json.dumps(row).encode()):
            answer = await bob.post("/v1/memories/import", content=content)
            assert answer.status_code == 200, answer.text
        row["history"] = [{**row["history"][0], "text": "x" * 200_001}]
        answer = await bob.post("/v1/memories/import", content=json.dumps(row).encode())
        assert error_of(answer, 400)["param"] == "history[0].text"


async def test_an_import_takes_all_of_a_file_or_nothing(gateway: House) -> None:
    row = {"id": "mem_a", "kind": "fact", "type": "profile", "text": "x"}
    good = json.dumps({**row, "created_at": "2024-05-01T10:00:00Z"}).encode()
    async with ana(gateway) as client:
        for wrong in (
            b"{",
            b"[]",
            b'"x"',
            b"\xff\xfe",
            json.dumps({**row, "type": None}).encode(),
            good.replace(b"2024-05-01T10:00:00Z", b"in May"),
            good.replace(b"mem_a", b"a/b"),
            *(good.replace(b"mem_a", name) for name in (b"search", b".", b"..")),
            good.replace(b"mem_a", b"@" + b"0" * 32),
            good.replace(b'"x"', b'""'),
            good.replace(b"fact", b"rumour"),
        ):
            answer = await client.post("/v1/memories/import", content=good + b"\n" + wrong)
            assert "line 2" in error_of(answer, 400)["message"]
        assert await listed(client) == []
        content = b"\xef\xbb\xbf" + good + b"\r\n\n" + good  # as an editor on Windows saves it
        answer = await client.post("/v1/memories/import", content=content)
        assert answer.status_code == 200
        assert await texts(client) == ["x"]


async def test_lines_by_hand_need_no_more_than_a_text_and_a_type(gateway: House) -> None:
    lines = b"".join(
        json.dumps(row).encode() + b"\n"
        for row in (
            {"text": "lives in Porto", "type": "profile"},
            {"text": "drinks tea", "type": "preference", "created_at": None, "key": "drink"},
            {"text": "hello", "kind": "turn"},
        )
    )
    async with ana(gateway) as client:
        for _ in range(2):
            answer = await client.post("/v1/memories/import", content=lines)
            assert answer.json() == {"imported": 3, "left_out": 0}, answer.text
        there = await listed(client)
        assert [(m["text"], m["kind"]) for m in there] == [
            ("hello", "turn"),
            ("drinks tea", "fact"),
            ("lives in Porto", "fact"),
        ]
        assert {m["source"]["via"] for m in there} == {"import"}
        assert all(m["created_at"] == m["valid_from"] for m in there)


async def test_a_turn_by_hand_is_imported_as_it_would_be_stored(gateway: House) -> None:
    turn = {"text": "In the attic.", "kind": "turn", "session": "monday", "speaker": "assistant"}
    async with ana(gateway) as client:
        stored = await made(client, turn)
        await client.delete("/v1/memories")
        await client.post("/v1/memories/import", json=turn)
        (there,) = await listed(client)
    assert there["source"] == {**stored["source"], "via": "import"}
    assert there["source"]["session"] == "monday"


async def test_an_import_of_anothers_file_is_ones_own_copy(gateway: House) -> None:
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        memory = await made(client, fact())
        lines = (await client.get("/v1/memories/export")).content
        await bob.post("/v1/memories/import", content=lines)
        assert [m["user"] for m in await listed(bob)] == ["bob"]
        await bob.delete(f"/v1/memories/{memory['id']}")
        assert await texts(client) == ["lives in Porto"]


async def test_an_imported_value_gives_way_to_a_newer_one(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact("in Porto", key="home"))
        lines = (await client.get("/v1/memories/export")).content
        await client.delete("/v1/memories")
        gateway.now += 10
        await made(client, fact("in Faro", key="home"))
        await client.post("/v1/memories/import", content=lines)
        assert await texts(client) == ["in Faro"]
        assert await texts(client, status="superseded") == ["in Porto"]


async def test_of_imported_values_of_one_key_the_newest_holds(gateway: House) -> None:
    lines = [
        fact("in Faro", key="home", created_at="2026-02-01T00:00:00Z"),
        fact("in Porto", key="home", created_at="2026-01-01T00:00:00Z"),
        fact("plays chess", key="hobby"),
        fact("plays go", key="hobby"),
    ]
    async with ana(gateway) as client:
        content = "\n".join(map(json.dumps, lines))
        await client.post("/v1/memories/import", content=content)
        assert set(await texts(client)) == {"in Faro", "plays chess", "plays go"}
        (porto,) = await listed(client, status="superseded")
        assert (porto["text"], porto["valid_to"]) == ("in Porto", "2026-02-01T00:00:00Z")


async def test_what_is_over_stands_beside_the_present_value_of_its_key(gateway: House) -> None:
    years = {"valid_from": "2010-01-01T00:00:00Z", "valid_to": "2013-01-01T00:00:00Z"}
    rome = fact("lived in Rome until 2012", key="home", id="mem_rome", **years)
    async with ana(gateway) as client:
        porto = await made(client, fact("in Porto", key="home"))
        gateway.now += 10
        await client.post("/v1/memories/import", content=json.dumps(rome))
        assert set(await texts(client)) == {"in Porto", rome["text"]}
        faro = await made(client, fact("in Faro", key="home"))
        assert set(await texts(client)) == {"in Faro", rome["text"]}
        assert faro["supersedes"] == porto["id"]
        assert (await client.get("/v1/memories/mem_rome")).json()["valid_to"] == years["valid_to"]


# --- erase -------------------------------------------------------------------------------------


async def test_an_erasure_is_at_once_counted_and_can_be_looked_at_again(gateway: House) -> None:
    log = {"messages": [{"role": "user", "content": "hi"}], "at": "2024-05-01T10:00:00Z"}
    async with ana(gateway) as client:
        await made(client, [fact("a"), fact("b")])
        await client.post("/v1/exchanges", json={"exchanges": [log]})
        answer = await client.delete("/v1/memories")
        assert answer.status_code == 200
        receipt = answer.json()
        assert receipt["completed"] is True
        assert receipt["counts"]["memories"] == 2
        assert receipt["counts"]["pending"] == 1
        assert "tenants" not in receipt
        assert (await client.get(f"/v1/erasures/{receipt['id']}")).json() == receipt
        look = await client.get(f"/v1/erasures/{receipt['id']}", params={"verify": "true"})
        assert look.json()["completed"] is True
        assert set(look.json()["remaining"].values()) == {0}
        assert "memories" in look.json()["remaining"]
        assert await listed(client) == []
        await made(client, fact("a new beginning"))
        assert await texts(client) == ["a new beginning"]
        look = await client.get(f"/v1/erasures/{receipt['id']}", params={"verify": "true"})
        assert look.json()["completed"] is True


async def test_someone_unknown_is_erased_with_nothing_counted(gateway: House) -> None:
    async with ana(gateway) as client:
        receipt = (await client.delete("/v1/memories")).json()
    assert (receipt["completed"], receipt["counts"]) == (True, {})


async def test_an_erasure_of_another_is_not_to_be_seen(gateway: House) -> None:
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        id = (await client.delete("/v1/memories")).json()["id"]
        error_of(await bob.get(f"/v1/erasures/{id}"), 404)
        error_of(await bob.get(f"/v1/erasures/{id}", params={"verify": "true"}), 404)
        error_of(await client.get("/v1/erasures/era_0"), 404)


# --- parts that are away -----------------------------------------------------------------------


class Away:
    """A part that is not there."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> Any:
            raise self._error(f"away: {name}")

        return refuse


async def test_a_store_that_is_away_is_told_and_never_empty(gateway: House) -> None:
    async with ana(gateway) as client:
        await made(client, fact())
        gateway.put_in(store=Away(StoreUnavailable))
        for answer in (
            await client.get("/v1/memories"),
            await client.post("/v1/memories", json=fact()),
            await client.post("/v1/memories/search", json={"query": "x"}),
            await client.get("/v1/memories/mem_0"),
            await client.get("/v1/memories/export"),
        ):
            assert error_of(answer, 503)["type"] == "unavailable_error"


async def test_memories_are_written_while_shared_state_is_away(gateway: House) -> None:
    real = gateway.services.state
    gateway.put_in(state=Away(StateUnavailable))
    async with ana(gateway) as client:
        one = await made(client, fact(), **{"Idempotency-Key": "k"})
        assert await made(client, fact(), **{"Idempotency-Key": "k"}) == one
        gateway.put_in(state=real)
        assert len(await listed(client)) == 1


async def test_a_key_that_is_out_of_mind_takes_another_body_and_loses_nothing(
    gateway: House,
) -> None:
    key = {"Idempotency-Key": "k"}
    async with ana(gateway) as client:
        one = await made(client, fact(), **key)
        gateway.put_in(state=Away(StateUnavailable))  # as a day later, it knows of no key
        two = await made(client, fact("likes tea"), **key)
        assert two["text"] == "likes tea"
        assert await made(client, fact(), **key) == one
        assert set(await texts(client)) == {"likes tea", "lives in Porto"}


async def test_an_erasure_while_a_part_is_away_says_so_and_is_finished_later(
    gateway: House,
) -> None:
    real = gateway.services.store
    async with ana(gateway) as client:
        await made(client, fact())
        gateway.put_in(store=Away(StoreUnavailable))
        answer = await client.delete("/v1/memories")
        assert answer.status_code == 202
        assert answer.json()["completed"] is False
        assert answer.json()["left"] == ["memories"]
        gateway.put_in(store=real)
        assert await listed(client) == []
        verify = f"/v1/erasures/{answer.json()['id']}?verify=true"
        look = (await client.get(verify)).json()
        assert (look["completed"], look["remaining"]["memories"]) == (False, 1)
        assert (await client.get(verify)).json()["completed"] is True
        done = (await client.get(f"/v1/erasures/{answer.json()['id']}")).json()
        assert (done["completed"], done["counts"]["memories"]) == (True, 1)


async def test_an_erasure_promises_nothing_while_the_directory_is_away(gateway: House) -> None:
    gateway.put_in(directory=Away(DirectoryUnavailable))
    async with ana(gateway) as client:
        error_of(await client.delete("/v1/memories"), 503)


# --- receipts ----------------------------------------------------------------------------------


async def test_receipts_are_a_users_own(gateway: House, upstream: Any) -> None:
    await gateway.know("allergic to peanuts")
    question = {"model": "m", "messages": [{"role": "user", "content": "peanuts?"}]}
    async with ana(gateway) as client, gateway.client(X_Memory_User="bob") as bob:
        answer = await client.post("/v1/chat/completions", json=question)
        id = answer.headers["x-memory-receipt-id"]
        await gateway.background.drain(5)
        receipt = await client.get(f"/v1/receipts/{id}")
        assert receipt.json()["injected"]
        assert [r["id"] for r in (await client.get("/v1/receipts")).json()["receipts"]] == [id]
        error_of(await bob.get(f"/v1/receipts/{id}"), 404)
        assert (await bob.get("/v1/receipts")).json() == {"receipts": []}
        for limit in ("0", "501", "x"):
            error_of(await client.get("/v1/receipts", params={"limit": limit}), 400)


# --- what an app allows ------------------------------------------------------------------------


async def test_types_that_an_app_does_not_keep_are_refused(
    gateway: House,
) -> None:
    denied = gateway.settings.model_copy(
        update={"privacy": gateway.settings.privacy.model_copy(update={"deny_types": ("profile",)})}
    )
    async with ana(gateway) as client:
        memory = await made(client, fact())
        lines = (await client.get("/v1/memories/export")).content
        gateway.settings = denied
        error = error_of(await client.post("/v1/memories", json=fact()), 422)
        assert error["code"] == "type_not_kept"
        task = await made(client, fact(type="task_state"))
        path = f"/v1/memories/{task['id']}"
        error_of(await client.patch(path, json={"type": "profile"}), 422)
        await client.delete(f"/v1/memories/{memory['id']}")
        answer = await client.post("/v1/memories/import", content=lines)
        assert answer.json() == {"imported": 0, "left_out": 1}
