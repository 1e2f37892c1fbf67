"""Sessions in a browser: an operator's, and a person's on their own page."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.adapters.redis_revocations import RedisRevocations
from gateway.core.errors import BadRequest, Forbidden, StateUnavailable, Unauthenticated
from gateway.core.identity import Person
from gateway.core.keys import LINK_PREFIX, Link, make_link
from gateway.web.browser_session import (
    OPERATOR_COOKIE,
    PAGE_HEADERS,
    PERSON_COOKIE,
    SESSION_S,
    BrowserSessions,
    clear_cookie,
    require_own_page,
    set_cookie,
)
from tests.web.house import ADMIN_TOKEN, NOW, House

ANA = Person("default", "ana")
SESSIONS = BrowserSessions(ADMIN_TOKEN)


def carrying(value: str, name: str = OPERATOR_COOKIE) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"gateway.test"), (b"cookie", f"theme=dark; {name}={value}".encode())]


def a_token(sessions: BrowserSessions = SESSIONS, *, now: float = NOW) -> str:
    """A link's token for ana that ends after a hundred seconds."""
    token, _ = sessions.link(ANA, now=now, until=NOW + 100)
    return token


# --- operators -------------------------------------------------------------------------------


async def test_the_admin_token_begins_a_session_that_ends() -> None:
    value = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)
    session = await SESSIONS.operator(carrying(value), now=NOW)
    assert session is not None
    assert session.kind == "operator"
    assert await SESSIONS.operator(carrying(value), now=NOW + SESSION_S) is None
    assert ADMIN_TOKEN not in value


@pytest.mark.parametrize("token", ["", "an-admin-token-for-test", ADMIN_TOKEN + "x", "é"])
def test_any_other_token_begins_none(token: str) -> None:
    with pytest.raises(Unauthenticated):
        SESSIONS.sign_in(token, now=NOW)


async def test_without_an_admin_token_nobody_gets_in() -> None:
    closed = BrowserSessions("")
    with pytest.raises(Unauthenticated):
        closed.sign_in("", now=NOW)
    with pytest.raises(Unauthenticated):
        await closed.person(a_token(closed), now=NOW)
    forged = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)
    assert await closed.operator(carrying(forged), now=NOW) is None


async def test_a_session_is_not_made_longer_nor_taken_to_another_gateway() -> None:
    until, nonce, mac = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW).split(".")
    for forged in (
        f"{int(until) + 1}.{nonce}.{mac}",
        f"{until}.{nonce[::-1]}.{mac}",
        f"{until}.{nonce}.{'0' * 64}",
        f"{until}.{nonce}",
        "",
    ):
        assert await SESSIONS.operator(carrying(forged), now=NOW) is None
    whole = f"{until}.{nonce}.{mac}"
    assert await BrowserSessions("another token").operator(carrying(whole), now=NOW) is None


async def test_who_signs_out_is_out() -> None:
    sessions = BrowserSessions(ADMIN_TOKEN)
    one, two = (sessions.sign_in(ADMIN_TOKEN, now=NOW) for _ in range(2))
    await sessions.sign_out(carrying(one), now=NOW)
    assert await sessions.operator(carrying(one), now=NOW) is None
    assert await sessions.operator(carrying(two), now=NOW) is not None


async def test_a_cookie_that_came_twice_is_refused() -> None:
    value = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)
    with pytest.raises(BadRequest, match="twice"):
        await SESSIONS.operator([*carrying(value), *carrying("planted")], now=NOW)


# --- what a page must show ---------------------------------------------------------------------


async def test_reading_needs_no_word_and_changing_needs_the_pages_own() -> None:
    value = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)
    session = await SESSIONS.operator(carrying(value), now=NOW)
    assert session is not None
    require_own_page("GET", carrying(value), session)
    with pytest.raises(Forbidden, match="reload"):
        require_own_page("DELETE", carrying(value), session)
    word = (b"x-csrf-token", session.csrf.encode())
    require_own_page("DELETE", [*carrying(value), word], session)
    require_own_page("POST", carrying(value), session, form_token=session.csrf)
    other = await SESSIONS.operator(carrying(SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)), now=NOW)
    assert other is not None
    with pytest.raises(Forbidden):
        require_own_page("DELETE", [*carrying(value), word], other)


@pytest.mark.parametrize(
    "header",
    [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-site", b"same-site"),
        (b"origin", b"https://evil.test"),
        (b"origin", b"null"),
        (b"origin", b"http://gateway.test.evil.test"),
    ],
)
async def test_another_site_is_refused_even_with_the_word(header: tuple[bytes, bytes]) -> None:
    value = SESSIONS.sign_in(ADMIN_TOKEN, now=NOW)
    session = await SESSIONS.operator(carrying(value), now=NOW)
    assert session is not None
    with pytest.raises(Forbidden, match="not made by a page"):
        require_own_page(
            "POST",
            [*carrying(value), (b"x-csrf-token", session.csrf.encode()), header],
            session,
        )


def test_cookies_are_for_no_script_and_no_other_site() -> None:
    made = set_cookie(PERSON_COOKIE, "mgl_a-b_c.d", max_age_s=60, secure=True)
    assert made.startswith("mg_me=mgl_a-b_c.d;")
    for attribute in ("HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=60"):
        assert attribute in made
    assert "Secure" not in set_cookie(PERSON_COOKIE, "x", max_age_s=60, secure=False)
    assert "Max-Age=0" in clear_cookie(PERSON_COOKIE, secure=True)


def test_pages_run_no_script_but_our_own_files() -> None:
    policy = dict(PAGE_HEADERS)["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy


# --- links -------------------------------------------------------------------------------------


async def test_a_link_stands_for_its_person_until_it_ends() -> None:
    token = a_token()
    assert token.startswith(LINK_PREFIX)
    assert (await SESSIONS.person(token, now=NOW)).person == ANA
    for late in (100, 101):
        with pytest.raises(Unauthenticated):
            await SESSIONS.person(token, now=NOW + late)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "mgl_",
        "mgl_.",
        LINK_PREFIX + make_link(ADMIN_TOKEN, Link(ANA, "a1", NOW, NOW + 100)),
        a_token(BrowserSessions("another")),
        SESSIONS.sign_in(ADMIN_TOKEN, now=NOW),
    ],
    ids=["empty", "bare", "torn", "by the token itself", "by another's", "a sign-in"],
)
async def test_nothing_else_is_a_link(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await SESSIONS.person(token, now=NOW)


# --- taken back --------------------------------------------------------------------------------


class Away:
    """Revocations that cannot be asked."""

    async def revoke(self, name: str, *, now: float, until: float) -> None:
        raise StateUnavailable("away")

    async def revoked_at(self, name: str) -> float | None:
        raise StateUnavailable("away")


async def test_who_signs_out_of_one_process_is_out_of_all(redis: Redis) -> None:
    one, other = (BrowserSessions(ADMIN_TOKEN, RedisRevocations(redis)) for _ in range(2))
    value = one.sign_in(ADMIN_TOKEN, now=NOW)
    assert await other.operator(carrying(value), now=NOW) is not None
    await one.sign_out(carrying(value), now=NOW)
    assert await other.operator(carrying(value), now=NOW) is None


async def test_a_link_taken_back_is_refused_by_all_and_the_others_stay(redis: Redis) -> None:
    one, other = (BrowserSessions(ADMIN_TOKEN, RedisRevocations(redis)) for _ in range(2))
    token, id = one.link(ANA, now=NOW, until=NOW + 100)
    second, _ = one.link(ANA, now=NOW, until=NOW + 100)
    await one.take_back(ANA, id, now=NOW + 1)
    with pytest.raises(Unauthenticated):
        await other.person(token, now=NOW + 1)
    assert (await other.person(second, now=NOW + 1)).person == ANA


async def test_all_links_of_a_person_are_taken_back_and_later_ones_are_good(redis: Redis) -> None:
    sessions = BrowserSessions(ADMIN_TOKEN, RedisRevocations(redis))
    bob = Person("default", "bob")
    before = [sessions.link(ANA, now=NOW + n, until=NOW + 100)[0] for n in range(2)]
    bobs, _ = sessions.link(bob, now=NOW, until=NOW + 100)
    await sessions.take_back(ANA, now=NOW + 1)
    after, _ = sessions.link(ANA, now=NOW + 1.000001, until=NOW + 100)
    for token in before:
        with pytest.raises(Unauthenticated):
            await sessions.person(token, now=NOW + 2)
    assert (await sessions.person(after, now=NOW + 2)).person == ANA
    assert (await sessions.person(bobs, now=NOW + 2)).person == bob


async def test_where_it_cannot_be_told_links_are_refused_and_operators_let_in() -> None:
    sessions = BrowserSessions(ADMIN_TOKEN, Away())
    with pytest.raises(StateUnavailable):
        await sessions.person(a_token(), now=NOW)
    value = sessions.sign_in(ADMIN_TOKEN, now=NOW)
    assert await sessions.operator(carrying(value), now=NOW) is not None
    await sessions.sign_out(carrying(value), now=NOW)
    assert await sessions.operator(carrying(value), now=NOW) is None, "known here at least"


async def test_what_was_taken_back_is_kept_no_longer_than_it_would_have_held(redis: Redis) -> None:
    revocations = RedisRevocations(redis)
    await revocations.revoke("link x", now=NOW, until=NOW + 100)
    await revocations.revoke("ended", now=NOW, until=NOW)
    assert await revocations.revoked_at("link x") == NOW
    [key] = await redis.keys()
    assert 0 < await redis.pttl(key) <= 100_001
    assert b"x" not in key.split(b":")[-1]


# --- over the API ------------------------------------------------------------------------------


async def test_an_operator_takes_links_back_one_or_all(gateway: House) -> None:
    base = "/admin/v1/apps/default/users/ana/link"
    async with gateway.client(Authorization=f"Bearer {ADMIN_TOKEN}") as operator:
        made = [(await operator.post(base)).json() for _ in range(3)]

        async def open_ones() -> list[bool]:
            found = []
            for link in made:
                headers = {"Authorization": f"Bearer {link['token']}"}
                answer = await operator.get("/v1/memories", headers=headers)
                found.append(answer.status_code == 200)
            return found

        assert await open_ones() == [True, True, True]
        assert (await operator.delete(f"{base}/{made[0]['id']}")).status_code == 204
        assert await open_ones() == [False, True, True]
        assert (await operator.delete(base)).status_code == 204
        assert await open_ones() == [False, False, False]
        audit = (await operator.get("/admin/v1/audit")).json()["entries"]
        assert [entry["action"] for entry in audit[:2]] == ["link.revoke", "link.revoke"]


async def a_link(gateway: House, user: str = "ana", **body: Any) -> str:
    async with gateway.client(Authorization=f"Bearer {ADMIN_TOKEN}") as operator:
        answer = await operator.post(f"/admin/v1/apps/default/users/{user}/link", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["url"] == f"/me#{answer.json()['token']}"
    return str(answer.json()["token"])


async def test_a_link_opens_that_persons_memories_and_says_who_wrote_them(
    gateway: House,
) -> None:
    await gateway.know("lives in Porto")
    await gateway.know("lives in Oslo", user="bob")
    token = await a_link(gateway)
    async with gateway.client(Authorization=f"Bearer {token}") as page:
        listed = (await page.get("/v1/memories")).json()["memories"]
        assert [m["text"] for m in listed] == ["lives in Porto"]
        answer = await page.patch(f"/v1/memories/{listed[0]['id']}", json={"text": "in Faro"})
        assert answer.json()["source"]["via"] == "user"


async def test_a_link_ends(gateway: House) -> None:
    token = await a_link(gateway, ttl_s=60)
    gateway.now += 61
    async with gateway.client(Authorization=f"Bearer {token}") as page:
        assert (await page.get("/v1/memories")).status_code == 401


@pytest.mark.parametrize("ttl_s", [0, 59, 31 * 86_400, "soon", None])
async def test_a_link_cannot_be_had_for_ever(gateway: House, ttl_s: Any) -> None:
    async with gateway.client(Authorization=f"Bearer {ADMIN_TOKEN}") as operator:
        answer = await operator.post("/admin/v1/apps/default/users/ana/link", json={"ttl_s": ttl_s})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/receipts"),
        ("POST", "/v1/exchanges"),
        ("GET", "/admin/v1/users"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
    ],
)
async def test_a_link_opens_nothing_else_and_never_goes_upstream(
    gateway: House, upstream: Any, method: str, path: str
) -> None:
    token = await a_link(gateway)
    async with gateway.client(Authorization=f"Bearer {token}") as page:
        answer = await page.request(method, path, json={"messages": []})
    assert answer.status_code in (401, 403)
    assert upstream.all == []


async def test_a_link_and_a_header_that_disagree_are_refused(gateway: House) -> None:
    token = await a_link(gateway)
    for headers in ({"X-Memory-User": "bob"}, {"X-Memory-App": "other"}):
        async with gateway.client(Authorization=f"Bearer {token}") as page:
            answer = await page.get("/v1/memories", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "conflicting_identity"


async def test_a_cookie_of_the_link_needs_the_pages_word_to_change_anything(
    gateway: House,
) -> None:
    memory = await gateway.know("lives in Porto")
    token = await a_link(gateway)
    csrf = BrowserSessions(ADMIN_TOKEN).csrf_of(token)
    async with gateway.client(Cookie=f"{PERSON_COOKIE}={token}") as page:
        assert len((await page.get("/v1/memories")).json()["memories"]) == 1
        path = f"/v1/memories/{memory.id}"
        assert (await page.delete(path)).status_code == 403
        assert (await page.delete(path, headers={"X-CSRF-Token": csrf})).status_code == 204


async def test_a_signed_in_operator_reaches_the_admin_api_from_our_pages_alone(
    gateway: House,
) -> None:
    sessions = BrowserSessions(ADMIN_TOKEN)
    value = sessions.sign_in(ADMIN_TOKEN, now=gateway.now)
    csrf = {"X-CSRF-Token": sessions.csrf_of(value)}
    async with gateway.client(Cookie=f"{OPERATOR_COOKIE}={value}") as page:
        assert (await page.get("/admin/v1/users")).status_code == 200
        assert (await page.post("/admin/v1/keys", json={})).status_code == 403
        assert (await page.post("/admin/v1/keys", json={}, headers=csrf)).status_code == 201
        foreign = {**csrf, "Sec-Fetch-Site": "cross-site"}
        assert (await page.post("/admin/v1/keys", json={}, headers=foreign)).status_code == 403


async def test_our_cookies_never_go_upstream(gateway: House, upstream: Any) -> None:
    async with gateway.client(Cookie="mg_console=a.b.c; theirs=1; mg_me=x") as page:
        answer = await page.get("/v1/models")
        assert answer.status_code == 200, answer.text
    assert upstream.all[-1].values("cookie") == ["theirs=1"]
