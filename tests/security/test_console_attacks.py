"""The console and a person's own page: what is shown to whom, and what a page may run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.identity import Person
from gateway.lab.scripted_upstream import Raw, ScriptedUpstream
from gateway.web.browser_session import OPERATOR_COOKIE, PERSON_COOKIE, BrowserSessions
from gateway.web.console import PAGES
from tests.web.house import ADMIN_TOKEN, House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

MARK = "zqmarkxv"
SCRIPT = f"<script>alert('{MARK}')</script><img src=x onerror=alert('{MARK}')>"
APIS = ("overview", "settings", "groups", "receipts", f"receipts/{MARK}")
PATHS = ("/console", *(f"/console/{page}" for page in PAGES), "/me")


def signed_in(gateway: House) -> dict[str, str]:
    value = BrowserSessions(ADMIN_TOKEN).sign_in(ADMIN_TOKEN, now=gateway.now)
    return {"Cookie": f"{OPERATOR_COOKIE}={value}"}


@pytest.mark.parametrize("cookie", ["", "mg_console=x", f"mg_console={ADMIN_TOKEN}"])
async def test_nobody_sees_anything_without_a_session(gateway: House, cookie: str) -> None:
    await gateway.know(MARK)
    await gateway.owner(f"user-{MARK}")
    headers = {"Cookie": cookie} if cookie else {}
    async with gateway.client(**headers) as client:
        for api in APIS:
            answer = await client.get(f"/console/api/{api}")
            assert answer.status_code == 401
        for path in PATHS:
            answer = await client.get(path)
            assert MARK not in answer.text
            assert ADMIN_TOKEN not in answer.text


async def test_a_persons_link_opens_no_page_of_the_console(gateway: House) -> None:
    sessions = BrowserSessions(ADMIN_TOKEN)
    token, _ = sessions.link(Person("default", "ana"), now=gateway.now, until=gateway.now + 100)
    for headers in (
        {"Cookie": f"{PERSON_COOKIE}={token}"},
        {"Cookie": f"{OPERATOR_COOKIE}={token}"},
        {"Authorization": f"Bearer {token}"},
    ):
        async with gateway.client(**headers) as client:
            for api in APIS:
                assert (await client.get(f"/console/api/{api}")).status_code == 401


async def test_no_page_runs_a_script_that_is_not_our_own_file(gateway: House) -> None:
    memory = await gateway.know(SCRIPT)
    assert memory.text == SCRIPT
    await gateway.owner(SCRIPT[:200])
    async with gateway.client(**signed_in(gateway)) as client:
        for path in (*PATHS, f"/console/users?user={SCRIPT}", f"/console?to={SCRIPT}"):
            answer = await client.get(path)
            assert f"alert('{MARK}')" not in answer.text, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"
            for script in re.findall(r"<script\b([^>]*)>(.*?)</script>", answer.text, re.DOTALL):
                attributes, inside = script
                data = 'type="application/json"' in attributes
                assert data or ("src=" in attributes and not inside.strip()), path
            assert not re.search(r"<[^>]+\son\w+\s*=", answer.text), path
            assert not re.search(r"<[^>]+\sstyle\s*=", answer.text), path
            assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text), path


@pytest.mark.parametrize("path", ["/v1/files/f-1/content", "/v1/chat/completions"])
async def test_no_page_of_an_upstream_acts_at_the_consoles_address(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    page = Raw(SCRIPT.encode(), headers=(("content-type", "text/html"),))
    upstream.script(page, page)
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.client() as client:
        opened = await client.post(path, json=body, headers={"Sec-Fetch-Mode": "navigate"})
        asked = await client.post(path, json=body, headers={"Sec-Fetch-Mode": "cors"})
    assert opened.content == asked.content == SCRIPT.encode()
    assert opened.headers["content-security-policy"] == "sandbox"
    assert "content-security-policy" not in asked.headers


def test_our_scripts_write_no_html() -> None:
    static = Path(__file__).resolve().parents[2] / "gateway" / "web" / "console" / "static"
    scripts = list(static.glob("*.js"))
    assert scripts
    for script in scripts:
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
            script.read_text("utf-8"),
        )
        assert found is None, script.name


@pytest.mark.parametrize(
    "name", ["../__init__.py", "..%2f__init__.py", "%2e%2e%2f%2e%2e%2fapp.py", "x.js%00.css"]
)
async def test_static_files_are_our_own_alone(gateway: House, name: str) -> None:
    async with gateway.client() as client:
        answer = await client.get(f"/console/static/{name}")
    assert answer.status_code in (401, 404)
    assert "import" not in answer.text


@pytest.mark.parametrize(
    "to",
    ["https://evil.test", "//evil.test", "/\\evil.test", "javascript:alert(1)", "/console/../../x"],
)
async def test_signing_in_leads_to_no_other_site(gateway: House, to: str) -> None:
    async with gateway.client() as client:
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN, "to": to})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ADMIN_TOKEN not in cookie


async def test_a_form_without_an_end_is_not_taken_apart(gateway: House) -> None:
    async with gateway.client() as client:
        for path in ("/console/login", "/me/session"):
            answer = await client.post(path, content=b"a&" * 50_000)
            assert answer.status_code == 413


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_signs_nobody_in_or_out(gateway: House, site: str) -> None:
    foreign = {"Sec-Fetch-Site": site, "Origin": "https://evil.test"}
    async with gateway.client(**signed_in(gateway)) as client:
        answer = await client.post("/console/login", data={"token": ADMIN_TOKEN}, headers=foreign)
        assert answer.status_code == 403
        answer = await client.post("/console/logout", headers=foreign)
        assert answer.status_code == 403
        answer = await client.post("/me/session", content=b"mgl_x", headers=foreign)
        assert answer.status_code == 403


@pytest.mark.parametrize("token", ["", "wrong", ADMIN_TOKEN[:-1], ADMIN_TOKEN.upper(), "é" * 50])
async def test_a_wrong_token_signs_nobody_in_and_is_not_repeated(
    gateway: House, token: str
) -> None:
    async with gateway.client() as client:
        answer = await client.post("/console/login", data={"token": token, "to": SCRIPT})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert f"alert('{MARK}')" not in answer.text
    assert not token or f'value="{token}"' not in answer.text


async def test_the_settings_in_force_tell_no_secret(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    secret = "a-secret-that-nobody-is-told"
    sections: dict[str, Any] = {
        "upstream": {"api_key": secret},
        "identity": {"signing_secret": secret, "trusted_peers": ["127.0.0.1"]},
        "embedding": {"api_key": secret},
        "extraction": {"api_key": secret},
        "admin": {"token": secret},
        "apps": {"support": {"upstream": {"api_key": secret}}},
    }
    async with (
        house(tmp_path, upstream.base_url, redis, **sections) as gateway,
        gateway.client(**signed_in(gateway)) as client,
    ):
        answer = await client.get("/console/api/settings")
        assert answer.status_code == 200
        assert "upstream" in answer.text
        assert secret not in answer.text
        for path in PATHS:
            assert secret not in (await client.get(path)).text
