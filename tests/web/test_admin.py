"""What operators do over HTTP, and what is written down about it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from gateway.core.identity import Person, new_owner
from gateway.core.keys import make_key
from gateway.core.memory import Memory, rfc3339
from gateway.core.records import to_public
from gateway.lab.scripted_upstream import Raw, ScriptedUpstream
from gateway.web import admin, memories, openapi
from gateway.web.browser_session import BrowserSessions
from gateway.web.callers import caller_from_headers
from tests.web.house import ADMIN_TOKEN, House, house

ANA = "/admin/v1/apps/default/users/ana"


def operator(gateway: House) -> httpx.AsyncClient:
    return gateway.client(Authorization=f"Bearer {ADMIN_TOKEN}")


async def audit(gateway: House, **params: Any) -> list[dict[str, Any]]:
    async with operator(gateway) as client:
        answer = await client.get("/admin/v1/audit", params=params)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


# --- who may -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {ADMIN_TOKEN}"},
        {"Authorization": ADMIN_TOKEN},
        {"Authorization": f"Bearer {ADMIN_TOKEN[:-1]}"},
        {"Authorization": f"Bearer {ADMIN_TOKEN}x"},
        {"X-Memory-Key": ADMIN_TOKEN},
        {"Cookie": f"mg_console={ADMIN_TOKEN}"},
    ],
)
async def test_every_operators_route_asks_for_the_admin_token(
    gateway: House, headers: dict[str, str]
) -> None:
    async with gateway.client(**headers) as client:
        for path, operation in openapi.operations():
            if path.startswith("/admin/"):
                whole = path.format(app="default", user="ana", id="x", identity="y")
                answer = await client.request(operation.method, whole)
                assert answer.status_code == 401, (operation.method, whole)
                assert ADMIN_TOKEN not in answer.text


async def test_the_admin_token_sent_twice_is_refused(gateway: House) -> None:
    async with gateway.client() as client:
        twice = [("Authorization", f"Bearer {ADMIN_TOKEN}"), ("Authorization", "Bearer other")]
        answer = await client.get("/admin/v1/users", headers=twice)
    assert answer.status_code == 400


# --- people ------------------------------------------------------------------------------------


async def test_an_operator_does_all_that_a_user_can(gateway: House) -> None:
    async with operator(gateway) as client:
        memory = (
            await client.post(f"{ANA}/memories", json={"text": "likes tea", "type": "preference"})
        ).json()["memories"][0]
        assert memory["user"] == "ana"
        path = f"{ANA}/memories/{memory['id']}"
        assert (await client.get(path)).json() == memory
        assert (await client.patch(path, json={"pinned": True})).json()["pinned"] is True
        found = await client.post(f"{ANA}/memories/search", json={"query": "tea"})
        assert len(found.json()["results"]) == 1
        assert len((await client.get(f"{path}/history")).json()["versions"]) == 2
        lines = (await client.get(f"{ANA}/memories/export")).content
        receipt = (await client.delete(f"{ANA}/memories")).json()
        assert receipt["completed"] is True
        look = await client.get(f"{ANA}/erasures/{receipt['id']}", params={"verify": "true"})
        assert look.json()["completed"] is True
        assert (await client.post(f"{ANA}/memories/import", content=lines)).status_code == 200
        assert len((await client.get(f"{ANA}/memories")).json()["memories"]) == 1
        assert (await client.get(f"{ANA}/receipts")).json() == {"receipts": []}
    async with gateway.client(X_Memory_User="ana") as user:
        assert len((await user.get("/v1/memories")).json()["memories"]) == 1


NAMES = [
    "a b",
    "é",
    "日本",
    "a/b",
    "a%2Fb",
    "ann@example.com",
    "/",
    "a/",
    "a/..",
    "...",
    "a?b#c",
    "%",
]
NAMES += ["memories", "ana/memories", "a/identities/b"]


@pytest.mark.parametrize("user", NAMES)
async def test_users_of_any_name_are_reached(gateway: House, user: str) -> None:
    path = f"/admin/v1/apps/default/users/{quote(user, safe='')}"
    async with operator(gateway) as client:
        answer = await client.post(f"{path}/memories", json={"text": "x", "type": "profile"})
        assert answer.json()["user"] == user
        people = (await client.get("/admin/v1/users")).json()["users"]
        assert people == [{"app": "default", "user": user}]
        assert (await client.get(f"{path}/memories/{answer.json()['id']}")).json() == {
            name: value for name, value in answer.json().items() if name != "memories"
        }
        assert (await client.post(f"{ANA}/identities", json={"user": user})).status_code == 200
        taken_back = await client.delete(f"{ANA}/identities/{quote(user, safe='')}")
        assert taken_back.status_code == 204
        assert (await client.get(f"{ANA}/identities")).json()["identities"] == []
        assert (await client.delete(f"{path}/memories")).json()["counts"]["memories"] == 1


@pytest.mark.parametrize("step", [".", ".."])
async def test_a_step_in_a_path_is_no_name_at_any_door(gateway: House, step: str) -> None:
    shown, key = make_key("default", now=gateway.now)
    await gateway.services.keys.add(key)
    headers = [
        {"X-Memory-User": step},
        {"X-User-Id": step},
        {"X-Memory-User": "ana", "X-Memory-App": step},
        {"X-Memory-User": step, "X-Memory-Key": shown},
    ]
    async with operator(gateway) as client:
        for sent in headers:
            for method, path in (("GET", "/v1/memories"), ("POST", "/v1/chat/completions")):
                bare = {"Authorization": "", **sent}
                answer = await client.request(method, path, headers=bare, json={})
                assert answer.status_code == 400, (sent, path)
                assert answer.json()["error"]["code"] in {"invalid_user", "invalid_app"}
        for path, body in (
            ("/admin/v1/keys", {"app": step}),
            (f"{ANA}/identities", {"user": step}),
        ):
            assert (await client.post(path, json=body)).status_code == 400
    # A client takes it out of a path; who writes to the socket can leave it in.
    for path in (f"apps/default/users/{step}/memories", f"apps/{step}/users/ana/memories"):
        head = f"Host: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        reader, writer = await asyncio.open_connection(*gateway.base_url[7:].split(":"))
        writer.write(f"GET /admin/v1/{path} HTTP/1.1\r\n{head}".encode())
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 10)
        writer.close()


async def test_people_are_listed_by_app_prefix_and_page(gateway: House) -> None:
    for user in ("ana", "anna", "bob"):
        await gateway.owner(user)
    await gateway.owner("carl", "other")
    async with operator(gateway) as client:

        async def users(**params: Any) -> list[str]:
            answer = await client.get("/admin/v1/users", params=params)
            return [person["user"] for person in answer.json()["users"]]

        assert set(await users()) == {"ana", "anna", "bob", "carl"}
        assert await users(app="default", prefix="an") == ["ana", "anna"]
        assert await users(app="default", limit=1, after="ana") == ["anna"]
        assert (await client.get("/admin/v1/users", params={"limit": "0"})).status_code == 400


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1_0", "٣", "9" * 5000])
@pytest.mark.parametrize("path", ["users", "queue/dead", "audit"])
async def test_a_limit_that_is_none_is_refused(gateway: House, path: str, limit: str) -> None:
    async with operator(gateway) as client:
        answer = await client.get(f"/admin/v1/{path}", params={"limit": limit})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "limit"


async def test_identities_are_linked_listed_and_unlinked_and_keep_both_histories(
    gateway: House,
) -> None:
    await gateway.know("lives in Porto")
    await gateway.know("plays chess", user="slack:U1")
    async with operator(gateway) as client, gateway.client(X_Memory_User="slack:U1") as slack:

        async def seen() -> list[str]:
            return [m["text"] for m in (await slack.get("/v1/memories")).json()["memories"]]

        answer = await client.post(f"{ANA}/identities", json={"user": "slack:U1"})
        assert answer.json() == {"user": "ana", "identities": ["slack:U1"]}
        assert await seen() == ["lives in Porto"]
        cycle = await client.post(
            "/admin/v1/apps/default/users/slack:U1/identities", json={"user": "ana"}
        )
        assert cycle.status_code == 422
        assert (await client.delete(f"{ANA}/identities/slack:U1")).status_code == 204
        assert await seen() == ["plays chess"]
        assert (await client.get(f"{ANA}/identities")).json()["identities"] == []
        longest = await client.post(f"{ANA}/identities", json={"user": "u" * 256})
        assert longest.json()["identities"] == ["u" * 256]


# --- queue -------------------------------------------------------------------------------------


async def test_the_queue_is_counted_and_dead_letters_are_tried_again(gateway: House) -> None:
    log = {"messages": [{"role": "user", "content": "hello"}], "at": "2024-05-01T10:00:00Z"}
    queue = gateway.services.queue
    async with gateway.client(X_Memory_User="ana") as user:
        await user.post("/v1/exchanges", json={"exchanges": [log]})
    lease = await queue.lease("w", now=gateway.now + 1000)
    assert lease is not None
    await queue.bury(lease, reason="no answer", now=gateway.now)
    async with operator(gateway) as client:
        assert (await client.get("/admin/v1/queue")).json()["dead"] == 1
        [letter] = (await client.get("/admin/v1/queue/dead")).json()["dead"]
        assert (letter["user"], letter["reason"]) == ("ana", "no answer")
        unknown = await client.post("/admin/v1/queue/retry", json={"id": "nothing"})
        assert unknown.status_code == 404
        answer = await client.post("/admin/v1/queue/retry", json={"id": letter["id"]})
        assert answer.json() == {"retried": 1}
        assert (await client.get("/admin/v1/queue")).json()["pending"] == 1


# --- gateway keys ------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_kept_hashed(gateway: House) -> None:
    async with operator(gateway) as client:
        made = await client.post("/admin/v1/keys", json={"app": "support", "label": "bot"})
        assert made.status_code == 201
        key = made.json()["key"]
        assert key.startswith("mg_")
        listed = await client.get("/admin/v1/keys")
        assert key not in listed.text
        assert key.rsplit("_", 1)[1] not in listed.text
        assert listed.json()["keys"][0]["app"] == "support"
        async with gateway.client(X_Memory_Key=key, X_Memory_User="ana") as user:
            answer = await user.post("/v1/memories", json={"text": "x", "type": "profile"})
            assert answer.json()["app"] == "support"
            other = await user.get("/v1/memories", headers={"X-Memory-App": "default"})
            assert other.status_code == 403
            id = made.json()["id"]
            assert (await client.delete(f"/admin/v1/keys/{id}")).status_code == 204
            assert (await user.get("/v1/memories")).status_code == 401
        assert (await client.delete("/admin/v1/keys/000000000000")).status_code == 404
    files = b"".join(f.read_bytes() for f in gateway.settings.data_dir.rglob("*") if f.is_file())
    assert key.encode() not in files
    entries = await audit(gateway)
    assert {e["action"] for e in entries} == {"key.create", "key.revoke", "create"}
    [written] = [e for e in entries if e["action"] == "create"]
    assert written["key"] == id


@pytest.mark.parametrize(
    "body",
    [{"app": "no such/app"}, {"requests_per_minute": 0}, {"label": 7}, {"admin": True}],
)
async def test_a_key_that_cannot_be_is_refused(gateway: House, body: dict[str, Any]) -> None:
    async with operator(gateway) as client:
        assert (await client.post("/admin/v1/keys", json=body)).status_code == 400


async def test_a_key_over_its_limit_is_told_when_to_come_back(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with operator(gateway) as client:
        made = await client.post("/admin/v1/keys", json={"requests_per_minute": 2})
    async with gateway.client(Authorization=f"Bearer {made.json()['key']}") as user:
        for _ in range(2):
            assert (await user.post("/v1/chat/completions", json=body)).status_code == 200
        for path in ("/v1/chat/completions", "/v1/embeddings"):
            answer = await user.post(path, json=body)
            assert answer.status_code == 429
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.json()["error"]["code"] == "key_limit_reached"
        gateway.now += 61
        assert (await user.post("/v1/chat/completions", json=body)).status_code == 200
    assert len(upstream.requests) == 3
    for request in upstream.all:
        assert b"mg_" not in b"".join(value for _, value in request.headers)


async def test_a_key_over_its_tokens_is_told_when_to_come_back(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with operator(gateway) as client:
        made = await client.post("/admin/v1/keys", json={"tokens_per_minute": 1})
    async with gateway.client(Authorization=f"Bearer {made.json()['key']}") as user:
        assert (
            await user.post("/v1/chat/completions", json=body, headers={"X-Memory-User": "ana"})
        ).status_code == 200
        await gateway.background.drain(5)
        answer = await user.post("/v1/chat/completions", json=body)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Memory-User": "ana", "X-Memory-Mode": "off"},
        {"X-Memory-User": "ana", "X-Memory-Mode": "readonly"},
    ],
)
async def test_what_is_said_without_memory_counts_against_a_keys_tokens_too(
    gateway: House, headers: dict[str, str]
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with operator(gateway) as client:
        made = await client.post("/admin/v1/keys", json={"tokens_per_minute": 1})
    headers = {"Authorization": f"Bearer {made.json()['key']}", **headers}
    async with gateway.client() as user:
        statuses = []
        for _ in range(2):
            answer = await user.post("/v1/chat/completions", json=body, headers=headers)
            await gateway.background.drain(5)
            statuses.append(answer.status_code)
    assert statuses == [200, 429]


async def test_a_key_outlives_an_answer_whose_count_of_tokens_is_nonsense(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    nonsense = b'{"choices": [], "usage": {"total_tokens": 1e308}}'
    upstream.script(Raw(headers=[("content-type", "application/json")], body=nonsense))
    async with operator(gateway) as client:
        made = await client.post("/admin/v1/keys", json={"tokens_per_minute": 1})
    headers = {"Authorization": f"Bearer {made.json()['key']}", "X-Memory-User": "ana"}
    async with gateway.client() as user:
        for _ in range(2):
            answer = await user.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200
            await gateway.background.drain(5)


# --- the audit ---------------------------------------------------------------------------------


async def test_the_audit_says_who_did_what_to_whom_and_no_content(gateway: House) -> None:
    word = "accordion"
    async with gateway.client(X_Memory_User="ana") as user, operator(gateway) as client:
        body = {"text": f"owns an {word}", "type": "profile", "metadata": {"x": word}}
        id = (await user.post("/v1/memories", json=body)).json()["id"]
        await user.get("/v1/memories")  # one's own look is nobody's business
        await user.patch(f"/v1/memories/{id}", json={"text": f"plays the {word}"})
        await user.get("/v1/memories/export")
        await client.get(f"{ANA}/memories")
        await client.post(f"{ANA}/memories/search", json={"query": word})
        await client.get(f"{ANA}/memories/{id}")
        await client.get(f"{ANA}/memories/{id}/history")
        await client.get(f"{ANA}/receipts")
        await client.post(f"{ANA}/link", json={})
        await user.delete(f"/v1/memories/{id}")
        await user.delete("/v1/memories")
        answer = await client.get("/admin/v1/audit")
    assert word not in answer.text
    entries = [(e["by"], e["action"]) for e in reversed(answer.json()["entries"])]
    assert entries == [
        ("api", "create"),
        ("api", "correct"),
        ("api", "export"),
        ("operator", "list"),
        ("operator", "search"),
        ("operator", "read"),
        ("operator", "history"),
        ("operator", "receipts"),
        ("operator", "link.create"),
        ("api", "forget"),
        ("api", "erase"),
    ]
    assert {(e["app"], e["user"]) for e in answer.json()["entries"]} == {("default", "ana")}
    assert answer.json()["entries"][0]["at"] == rfc3339(gateway.now)
    assert await audit(gateway, user="bob") == []
    assert len(await audit(gateway, app="default", user="ana", limit=2)) == 2


async def test_the_audit_is_kept_for_its_time_and_no_longer(gateway: House) -> None:
    async with gateway.client(X_Memory_User="ana") as user:
        await user.delete("/v1/memories")
        gateway.now += 366 * 86_400
        await user.delete("/v1/memories")
    assert len(await audit(gateway)) == 1


# --- apps of their own -------------------------------------------------------------------------


async def test_an_app_has_its_own_retention_redaction_and_types(
    tmp_path: Any, upstream: ScriptedUpstream, redis: Any
) -> None:
    apps = {
        "strict": {
            "retention": {"profile": "1h"},
            "privacy": {"redact": ["email"], "allow_types": ["profile"]},
        }
    }
    async with house(tmp_path, upstream.base_url, redis, apps=apps) as gateway:
        async with gateway.client(X_Memory_User="ana", X_Memory_App="strict") as user:
            body = {"text": "mail ana@example.com", "type": "profile"}
            memory = (await user.post("/v1/memories", json=body)).json()
            assert memory["text"] == "mail [removed: email address]"
            assert memory["expires_at"] == rfc3339(gateway.now + 3600)
            refused = await user.post("/v1/memories", json={"text": "x", "type": "task_state"})
            assert refused.status_code == 422
        async with gateway.client(X_Memory_User="ana") as user:
            memory = (await user.post("/v1/memories", json=body)).json()
            assert memory["text"] == "mail ana@example.com"
            assert "expires_at" not in memory
            assert len((await user.get("/v1/memories")).json()["memories"]) == 1


# --- what is written about it ------------------------------------------------------------------


async def test_every_route_of_the_api_is_described_and_every_description_is_a_route(
    gateway: House,
) -> None:
    sessions = BrowserSessions(ADMIN_TOKEN)
    deployment: Any = gateway
    served = [
        *memories.routes(caller_from_headers(deployment, sessions), "/v1"),
        *admin.routes(deployment, ADMIN_TOKEN, sessions),
    ]
    there = {
        (method, route.path)
        for route in served
        for method in (route.methods or set())
        if method != "HEAD"
    }
    told = {(operation.method.upper(), path) for path, operation in openapi.operations()}
    assert there - told == set()
    assert told - there == set()
    async with gateway.client() as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (method, path)


async def test_a_memory_is_described_with_each_field_that_it_may_have(gateway: House) -> None:
    async with gateway.client() as client:
        document = (await client.get("/openapi.json")).json()
    fields = document["components"]["schemas"]["Memory"]["properties"]
    whole = Memory("m", "fact", "x", 1.0, 1.0, 1.0, "profile", "k", "v", valid_to=1.0)
    whole = replace(whole, expires_at=1.0, superseded_by="n", supersedes="l")
    assert set(fields) == set(to_public(whole, new_owner(Person("default", "ana"))))
    importing = document["paths"]["/v1/memories/import"]["post"]["requestBody"]
    assert list(importing["content"]) == ["application/x-ndjson"]
    storing = document["paths"]["/v1/memories"]["post"]["parameters"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in storing}
    assert "202" in document["paths"]["/v1/memories"]["delete"]["responses"]


async def test_a_correction_is_described_with_what_null_may_empty(gateway: House) -> None:
    async with gateway.client(X_Memory_User="ana") as client:
        made = await client.post("/v1/memories", json={"text": "x", "type": "profile"})
        document = (await client.get("/openapi.json")).json()
        fields = document["components"]["schemas"]["MemoryChange"]["properties"]
        for name, field in fields.items():
            path = f"/v1/memories/{made.json()['id']}"
            emptied = (await client.patch(path, json={name: None})).status_code == 200
            assert emptied == ({"type": "null"} in field.get("anyOf", ())), name
            assert "default" not in field, name


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "Api-Key", "X-Memory-Key"])
@pytest.mark.parametrize("before", ["", "Bearer "])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_the_admin_token_is_never_sent_upstream(
    gateway: House, upstream: ScriptedUpstream, header: str, before: str, path: str
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with gateway.client() as client:
        answer = await client.post(path, json=body, headers={header: before + ADMIN_TOKEN})
    assert answer.status_code == 401
    assert upstream.all == []
