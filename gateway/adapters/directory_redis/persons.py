"""Persons, their incarnations and links, as `ports.Directory` has them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from gateway.adapters.directory_redis.erasures import Erasures
from gateway.adapters.directory_redis.keystore import KeyStore
from gateway.adapters.directory_redis.wire import (
    CACHED,
    CACHED_S,
    FORMERLY_S,
    PAGE,
    PATIENCE_S,
    fields_of,
    hashed,
    keeps_a_log,
    unavailable,
)
from gateway.adapters.redis_script import FAILURES, Script
from gateway.config import Settings
from gateway.core.errors import DirectoryUnavailable, Unprocessable
from gateway.core.identity import Owner, Person, new_owner
from gateway.ports import Clock

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

ENDED_MS: Final = 7 * 86_400_000
"""How long it is told which tenants were dropped: the time of a process that was cut off."""
LOCK_MS: Final = 10_000
LOCK_TRIES: Final = 40
LOCK_WAIT_S: Final = 0.05
MOST_LINKS: Final = 32
"""Links in a row that are followed; a longer row is refused when it is made."""

_CLAIM = Script("directory_claim")
_DROP = Script("directory_drop")
_UNLINK = Script("directory_unlink")
_DONE = Script("directory_done")


@dataclass(frozen=True, slots=True)
class _Known:
    """Whose something is: as Redis told at `told`, and not asked again before `until`."""

    owner: Owner
    told: float
    until: float


class RedisDirectory(Erasures, KeyStore):
    """Implements ports.Directory and ports.KeyStore on a ready client, which its maker also
    closes."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        clock: Clock,
        settings: Settings,
        cached_s: float = CACHED_S,
        tell_open: Callable[[bool], object] = bool,
    ) -> None:
        """`tell_open` is told when the breaker opens, and when it closes."""
        super().__init__(client, clock, settings, cached_s, tell_open)
        self._keys = {}
        self._cache: dict[Person | str, _Known] = {}
        self._changes = 0

    # --- persons -----------------------------------------------------------------------------

    async def owner(self, person: Person, *, create: bool = False) -> Owner | None:
        if (known := self._cached(person)) is not None:
            return known
        former, ask = self._formerly(person), partial(self._asked, person, create)
        if former is None:
            return await self._for_a_chat(ask, None)
        # Without this nobody would have a memory while Redis is away, not even on the disk.
        # What comes of one who was erased meanwhile is swept, like all that was under way then.
        before = self._changes
        try:
            return await self._for_a_chat(ask, PATIENCE_S)
        except DirectoryUnavailable:
            if before == self._changes:
                self._cache[person] = replace(former, until=time.monotonic() + self._cached_s)
            return former.owner

    async def _asked(self, person: Person, create: bool) -> Owner | None:
        before = self._changes
        meant, found = await self._present(person)
        if found is None and create:
            found = await self._begin(meant)
        if found is not None:
            self._remember(person, found, before)
        else:
            self._cache.pop(person, None)
        return found

    async def _present(self, person: Person) -> tuple[Person, Owner | None]:
        """Whom a person stands for, links followed, and their incarnation: one round trip
        where nothing is linked."""
        for _ in range(MOST_LINKS):
            tenant, key, link = await self._ask("HMGET", _person(person), "tenant", "key", "link")
            if link is None:
                break
            person = Person(person.app, link.decode())
        return person, Owner(person, tenant.decode(), key) if tenant is not None else None

    async def _begin(self, person: Person) -> Owner:
        """What leads to the incarnation is written before it, so that it can always be found."""
        owner = new_owner(person)
        if not self._settings.app(person.app).privacy.seal:
            owner = replace(owner, key=b"")
        await self._ask("SADD", "dir:apps", person.app)
        await self._ask("ZADD", f"dir:people:{person.app}", 0, person.user)
        await self._ask("SET", _tenant(owner.tenant), hashed(person))
        claim = (person.app, person.user, owner.tenant, owner.key)
        tenant, key = await self._run(_CLAIM, _person(person), *claim)
        if tenant.decode() == owner.tenant:
            return owner
        await self._ask("DEL", _tenant(owner.tenant))
        return Owner(person, tenant.decode(), key)

    async def by_tenant(self, tenant: str) -> Owner | None:
        if (known := self._cached(f"tenant {tenant}")) is not None:
            return known
        before = self._changes
        hashed = await self._ask("GET", _tenant(tenant))
        if hashed is None:
            return None
        entry = f"dir:person:{hashed.decode()}"
        app, user, present, key = await self._ask("HMGET", entry, "app", "user", "tenant", "key")
        if present is None or present.decode() != tenant:
            return None
        owner = Owner(Person(app.decode(), user.decode()), tenant, key)
        self._remember(f"tenant {tenant}", owner, before)
        return owner

    async def incarnations(self, person: Person) -> list[Owner]:
        root, _ = await self._present(person)
        users = [root.user, *await self.links(root)]
        found = []
        for user in users:
            own = Person(person.app, user)
            tenant, key = await self._ask("HMGET", _person(own), "tenant", "key")
            if tenant is not None:
                found.append(Owner(own, tenant.decode(), key))
        return found

    async def drop(self, owner: Owner) -> None:
        self._forget_cached()
        await self._ask("SET", "dir:uncompacted", secrets.token_hex(8))
        # Told before it is so, for a crash must not keep it from the others, and once it is.
        await self._tell_ended(owner.tenant)
        # First from the list: one who begins anew while this runs must be listed again.
        await self._ask("ZREM", f"dir:people:{owner.app}", owner.user)
        if not await self._run(_DROP, _person(owner.person), owner.tenant):
            _, present = await self._present(owner.person)
            if present is not None and present.person == owner.person:
                await self._ask("ZADD", f"dir:people:{owner.app}", 0, owner.user)
        await self._ask("DEL", _tenant(owner.tenant))
        await self._tell_ended(owner.tenant)
        # Once more: a log that was rewritten meanwhile may still hold the key.
        await self._ask("SET", "dir:uncompacted", secrets.token_hex(8))
        self._forget_cached()

    async def _tell_ended(self, tenant: str) -> None:
        since = max(int(self._clock() * 1000) - ENDED_MS, 0)
        await self._ask("XADD", "dir:ended", "MINID", "~", since, "*", "tenant", tenant)

    async def ended(self, since: str = "") -> tuple[str, list[str]]:
        if not since:
            last = await self._ask("XREVRANGE", "dir:ended", "+", "-", "COUNT", 1)
            return (last[0][0].decode() if last else "0-0"), []
        found: list[str] = []
        while True:
            page = await self._ask("XRANGE", "dir:ended", f"({since}", "+", "COUNT", PAGE)
            for id, values in page:
                since = id.decode()
                found.append(fields_of(values)[b"tenant"].decode())
            if len(page) < PAGE:
                return since, list(dict.fromkeys(found))

    def let_go(self, tenant: str) -> None:
        for key in [key for key, kept in self._cache.items() if kept.owner.tenant == tenant]:
            del self._cache[key]

    async def compact(self) -> None:
        """Have Redis rewrite its append-only file, if it keeps one and a key was dropped.

        Where it will not now (it is at it already, or it may not be asked), the next call
        asks again.
        """
        due = await self._ask("GET", "dir:uncompacted")
        if due is None:
            return
        from redis.asyncio import RedisCluster

        nodes = self._client.get_nodes() if isinstance(self._client, RedisCluster) else [None]
        ask = self._client.execute_command
        try:
            for node in nodes:
                where: dict[str, Any] = {} if node is None else {"target_nodes": node}
                told = await ask("INFO", "persistence", **where)
                if keeps_a_log(told):
                    await ask("BGREWRITEAOF", **where)
        except ResponseError:
            return
        except FAILURES as exc:
            raise unavailable(exc) from exc
        await self._run(_DONE, "dir:uncompacted", due)

    # --- links -------------------------------------------------------------------------------

    async def link(self, identity: Person, person: Person) -> None:
        """Links are kept as they were made and followed when asked, so that each can be taken
        back alone."""
        if identity.app != person.app:
            raise Unprocessable("identities are linked within one app", code="other_app")
        async with self._linking():
            above = await self._above(person)
            if identity in above:
                raise Unprocessable(
                    "these two are linked the other way round, or are the same; unlink first",
                    code="link_cycle",
                )
            if len(above) + len(await self.links(identity)) >= MOST_LINKS:
                raise Unprocessable(
                    "too many links in a row; link to the last person of it", code="link_too_long"
                )
            self._forget_cached()
            await self._take_back(identity)
            await self._ask("SADD", _linked(person), identity.user)
            named = ("app", identity.app, "user", identity.user, "link", person.user)
            await self._ask("HSET", _person(identity), *named)
            self._forget_cached()

    async def _above(self, person: Person) -> list[Person]:
        row = [person]
        while len(row) < MOST_LINKS and (link := await self._ask("HGET", _person(row[-1]), "link")):
            row.append(Person(person.app, link.decode()))
        return row

    @asynccontextmanager
    async def _linking(self) -> AsyncIterator[None]:
        token = secrets.token_hex(8)
        for _ in range(LOCK_TRIES):
            if await self._ask("SET", "dir:linking", token, "NX", "PX", LOCK_MS):
                break
            await asyncio.sleep(LOCK_WAIT_S)
        else:
            raise DirectoryUnavailable("another link is being made; try again", code="busy")
        try:
            yield
        finally:
            await self._run(_DONE, "dir:linking", token)

    async def unlink(self, identity: Person) -> None:
        """What the identity had before it was linked is its own again."""
        self._forget_cached()
        await self._take_back(identity)
        self._forget_cached()

    async def _take_back(self, identity: Person) -> None:
        target = await self._run(_UNLINK, _person(identity))
        if target is not None:
            person = Person(identity.app, target.decode())
            await self._ask("SREM", _linked(person), identity.user)

    async def links(self, person: Person) -> list[str]:
        found: set[str] = set()
        next_ones = [person]
        while next_ones:
            one = next_ones.pop()
            for name in await self._members("SMEMBERS", _linked(one)):
                identity = Person(person.app, name)
                link = await self._ask("HGET", _person(identity), "link")
                if link is not None and link.decode() == one.user and name not in found:
                    found.add(name)
                    next_ones.append(identity)
        return sorted(found)

    # --- for operators -----------------------------------------------------------------------

    async def people(
        self, app: str | None = None, *, prefix: str = "", limit: int = 100, after: str = ""
    ) -> list[Person]:
        if app is not None:
            return await self._people_of(app, prefix, limit, after)
        after_app, _, after_user = after.partition("/")
        found: list[Person] = []
        for name in sorted(await self._members("SMEMBERS", "dir:apps")):
            if name >= after_app and len(found) < limit:
                after = after_user if name == after_app else ""
                found += await self._people_of(name, prefix, limit - len(found), after)
        return found

    async def _people_of(self, app: str, prefix: str, limit: int, after: str) -> list[Person]:
        found: list[Person] = []
        last = b"[" + prefix.encode() + b"\xff"  # no byte of UTF-8 sorts after it
        while len(found) < limit:
            first = b"(" + after.encode() if after >= prefix and after else b"[" + prefix.encode()
            first = b"-" if first == b"[" else first
            bounds = (f"dir:people:{app}", first, last, "LIMIT", 0, PAGE)
            users = await self._members("ZRANGEBYLEX", *bounds)
            for user in users:
                person = Person(app, user)
                if await self._ask("HEXISTS", _person(person), "tenant"):
                    found.append(person)
                if len(found) == limit:
                    break
            if len(users) < PAGE:
                break
            after = users[-1]
        return found

    # --- what is kept for a moment ---------------------------------------------------------

    def _cached(self, key: Person | str) -> Owner | None:
        entry = self._cache.get(key)
        return entry.owner if entry is not None and time.monotonic() < entry.until else None

    def _formerly(self, person: Person) -> _Known | None:
        """Who this was when it was last told, where that is not too long ago."""
        entry = self._cache.get(person)
        return entry if entry and time.monotonic() < entry.told + FORMERLY_S else None

    def _remember(self, key: Person | str, value: Owner, before: int) -> None:
        """Unless something has changed here since it was read."""
        if before == self._changes:
            self._cache.pop(key, None)
            if len(self._cache) >= CACHED:
                del self._cache[next(iter(self._cache))]
            now = time.monotonic()
            self._cache[key] = _Known(value, told=now, until=now + self._cached_s)

    def _forget_cached(self) -> None:
        self._changes += 1
        self._cache.clear()

    async def _members(self, *command: Any) -> Sequence[str]:
        return [name.decode() for name in await self._ask(*command)]


def _person(person: Person) -> str:
    return f"dir:person:{hashed(person)}"


def _linked(person: Person) -> str:
    return f"dir:linked:{hashed(person)}"


def _tenant(tenant: str) -> str:
    return f"dir:tenant:{tenant}"
