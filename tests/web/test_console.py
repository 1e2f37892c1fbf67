"""The console over HTTP: who gets in, what pages ask, and what no answer tells."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway.web import health
from gateway.web.browser_session import OPERATOR_COOKIE
from tests.web.house import ADMIN_TOKEN, House

SITE = {"sec-fetch-site": "same-origin"}
API = ("overview", "settings", "groups", "receipts", "receipts/rcp_x", "receipts/rcp_x/again")


@asynccontextmanager
async def signed_in(gateway: House) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client() as client:
        answer = await client.post(
            "/console/login", data={"token": ADMIN_TOKEN, "to": "/console/queue"}, headers=SITE
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/queue")
        yield client


@pytest.mark.parametrize("path", API)
async def test_what_pages_ask_is_answered_to_operators_alone(gateway: House, path: str) -> None:
    async with gateway.client() as client:
        answer = await client.get(f"/console/api/{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "signed_out")
        forged = {"cookie": f"{OPERATOR_COOKIE}=99999999999.{'a' * 22}.{'0' * 64}"}
        assert (await client.get(f"/console/api/{path}", headers=forged)).status_code == 401


@pytest.mark.parametrize(
    "to",
    ["https://evil.example", "//evil.example", "/v1/memories", "/console\\@evil", "javascript:1"],
)
async def test_signing_in_leads_to_no_other_place(gateway: House, to: str) -> None:
    async with gateway.client() as client:
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN, "to": to})
        assert answer.headers["location"] == "/console"


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}],
)
async def test_another_sites_form_signs_nobody_in(gateway: House, headers: dict[str, str]) -> None:
    async with gateway.client() as client:
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_the_cookie_is_for_this_site_and_no_script(gateway: House) -> None:
    async with signed_in(gateway) as client:
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN}, headers=SITE)
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        https = {**SITE, "x-forwarded-proto": "https"}
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN}, headers=https)
        assert "Secure" in answer.headers["set-cookie"]


async def test_signing_out_needs_the_pages_word_and_ends_the_session(gateway: House) -> None:
    async with signed_in(gateway) as client:
        page = await client.get("/console")
        word = re.search(r'name="csrf" content="(\w+)"', page.text)
        assert word is not None
        assert (await client.post("/console/logout", headers=SITE)).status_code == 403
        kept = f"{OPERATOR_COOKIE}={client.cookies[OPERATOR_COOKIE]}"
        form = {"csrf_token": word[1]}
        assert (await client.post("/console/logout", data=form, headers=SITE)).status_code == 303
        again = await client.get("/console/api/overview", headers={"cookie": kept})
        assert again.status_code == 401


async def test_every_page_comes_with_the_headers_that_hold_others_off(gateway: House) -> None:
    async with signed_in(gateway) as client:
        for path in ("/console", "/console/settings", "/me", "/console/static/console.js"):
            answer = await client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in (await client.get("/console")).text


@pytest.mark.parametrize(
    "name", ["__init__.py", "..%2f__init__.py", "%2e%2e%2ftemplates%2flogin.html", "nothing.js"]
)
async def test_only_the_consoles_own_files_are_served(gateway: House, name: str) -> None:
    async with gateway.client() as client:
        assert (await client.get(f"/console/static/{name}")).status_code == 404


async def test_a_file_that_did_not_change_is_not_sent_again(gateway: House) -> None:
    async with gateway.client() as client:
        first = await client.get("/console/static/console.css")
        again = await client.get(
            "/console/static/console.css", headers={"if-none-match": first.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")


async def test_the_overview_tells_what_was_counted(gateway: House) -> None:
    await gateway.know("The user likes tea")
    async with gateway.client(x_memory_user="ana") as ana, signed_in(gateway) as client:
        await ana.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "tea?"}]},
        )
        await gateway.background.drain(5)
        shown = (await client.get("/console/api/overview")).json()
    assert shown["recall"]["count"] == 1
    assert shown["recall"]["with_memories"] == 1
    assert shown["recall"]["p50_ms"] > 0
    assert shown["queue"]["pending"] == 1
    assert shown["parts"]["store"]["status"] == "ok"
    assert gateway.metrics.render().count(b'queue_exchanges{state="pending"} 1.0') == 1


async def test_the_question_of_a_receipt_is_asked_again_and_nothing_is_written(
    gateway: House,
) -> None:
    await gateway.know("The user likes tea")
    async with gateway.client(x_memory_user="ana") as ana, signed_in(gateway) as client:
        answer = await ana.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "tea or coffee?"}]},
        )
        await gateway.background.drain(5)
        await gateway.know("The user gave up coffee and drinks tea")
        path = f"/console/api/receipts/{answer.headers['x-memory-receipt-id']}/again?user=ana"
        now = (await client.get(path)).json()
        less = (await client.get(f"{path}&max_memories=1")).json()
        odd = await client.get(f"{path}&floor=2")
        unknown = await client.get("/console/api/receipts/rcp_x/again?user=ana")
        latest = (await client.get("/console/api/receipts?user=ana")).json()["receipts"]
    assert {m["text"]: m["new"] for m in now["now"] if m["type"] == "profile"} == {
        "The user likes tea": False,
        "The user gave up coffee and drinks tea": True,
    }
    assert now["tokens"]["now"] > now["tokens"]["then"] > 0
    assert len(less["now"]) == 1
    assert less["settings"]["max_memories"] == 1
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "floor")
    assert unknown.status_code == 404
    assert len(latest) == 1


async def test_a_receipt_is_found_by_its_id_alone(gateway: House) -> None:
    await gateway.know("The user likes tea")
    async with gateway.client(x_memory_user="ana") as ana, signed_in(gateway) as client:
        answer = await ana.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "tea?"}]},
        )
        await gateway.background.drain(5)
        id = answer.headers["x-memory-receipt-id"]
        found = await client.get(f"/console/api/receipts/{id}")
        assert found.json() == {"app": "default", "user": "ana"}
        latest = (await client.get("/console/api/receipts")).json()["receipts"]
        assert [one["id"] for one in latest] == [id]
        assert (await client.get("/console/api/receipts/rcp_none")).status_code == 404


async def test_parts_are_asked_once_whoever_wants_to_know(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def ping() -> None:
        asked.append("directory")

    monkeypatch.setattr(health, "CACHED_S", 60.0)
    monkeypatch.setattr(gateway.services.directory, "ping", ping)
    async with signed_in(gateway) as client:
        for path in ("/readyz", "/metrics", "/console/api/overview"):
            assert (await client.get(path)).status_code == 200
    assert asked == ["directory"]


@pytest.mark.parametrize("days", ["0", "91", "٣", "9" * 5000])
async def test_days_that_are_none_are_refused(gateway: House, days: str) -> None:
    async with signed_in(gateway) as client:
        answer = await client.get("/console/api/groups", params={"days": days})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "days"


async def test_settings_tell_no_secret(gateway: House) -> None:
    async with signed_in(gateway) as client:
        answer = await client.get("/console/api/settings")
    rows: dict[str, Any] = {row["name"]: row["value"] for row in answer.json()["settings"]}
    assert rows["memory.placement"] == "system"
    assert rows["upstream.api_key"] is None
    assert ADMIN_TOKEN not in answer.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://***@host:6379/0"),
        (
            "redis+sentinel://u:secret@host/house?sentinel_password=secret",
            "redis+sentinel://***@host/house?sentinel_password=***",
        ),
        ("redis://host:6379", "redis://host:6379"),
        ("plain text", "plain text"),
    ],
)
def test_a_urls_password_is_not_shown(given: str, shown: str) -> None:
    from gateway.web.console import _plain

    assert _plain(given) == shown
