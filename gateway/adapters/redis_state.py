"""What gateway processes share about conversations, in Redis 6.2 or newer; one round trip to open.

Keys (`n` is the tenant's partition, so that one tenant's keys share one slot):

    {p<n>}:conv:<tenant>       hash    born: when it was begun
                                       m<mark>: "1" seen or "0" on its way, then the session
                                       u<mark>: how many messages were new in the request that
                                                ends with it, where its answer broke off
                                       a<session>: when it was last active
                                       l<session>: the mark of what the user said last
                                       n<session>: its id, "p" ours, "s" a client's, sealed
                                       i<session>: what was injected there, sealed
    {p<n>}:conv:<tenant>:old   hash    the generation before, read where the newer one has nothing
    {p<n>}:standing:<tenant>   string  changes with every write of a memory
    {p<n>}:once:<tenant>       hash    idempotency key -> answer, sealed
    {p<n>}:once:<tenant>:due   zset    idempotency key by when it ends
    {p<n>}:gone:<tenant>       string  fence: erased, nothing of this tenant is written again
    limits:<scope and model>   hash    what an upstream model could not take of an app or a person
    rate:<bucket>              string  when a bucket will be full again (GCRA)

Every key ends: conversations 30 days after their last use, answers and limits after a day.
Fields of a hash cannot end by themselves before Redis 7.4, so a tenant's hash is put aside as a
whole when it is 30 days old (or large) and a new one begun: what was written stays readable
for 30 days at least and 60 at most, and no script walks over old entries.

Sessions and idempotency keys are hashed with the owner's key, as marks are by those who make
them (`core/capture`), so that they tell nothing after erasure.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.adapters.redis_script import Script, answered, probe
from gateway.core.errors import OwnerGone, Unreadable
from gateway.core.identity import Owner, partition_of
from gateway.core.memory import Instant
from gateway.core.sessions import session_id
from gateway.ports import Cipher, Conversation, Injected, Opening

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

IDLE_S: Final = 30 * 86_400
ANSWER_S: Final = 86_400
LIMITS_S: Final = 86_400
LIMITS_CACHED_S: Final = 5.0
LIMITS_CACHED: Final = 1000
ANSWERS_PER_OWNER: Final = 1000
ENTRIES_PER_GENERATION: Final = 50_000
CHUNK: Final = 64
"""Messages looked at first, from the end: the last one seen is nearly always among them."""
MOST_MARKS: Final = 4096
"""Messages of one request, from the end, that count at all: what bounds the work of a request."""
SEEN_IN_A_ROW: Final = 8
"""So many messages noted already, one after the other: those before them were noted too."""
RATE_WINDOW_S: Final = 60
GONE: Final = b"gone"
"""What `state_standing.lua` answers of a tenant that was erased."""

_OPEN = Script("state_open")
_NOTE_SEEN = Script("state_note_seen")
_NOTE_INJECTED = Script("state_note_injected")
_STANDING = Script("state_standing")
_ONCE = Script("state_once")
_TAKE = Script("state_take")
_LEFT = Script("state_left")
_LIMIT = Script("state_limit")


class RedisState:
    """Implements ports.ConversationState on a ready client, which its maker also closes."""

    def __init__(self, client: Redis | RedisCluster, cipher: Cipher) -> None:
        self._client = client
        self._cipher = cipher
        self._limits: dict[str, tuple[float, dict[str, Any]]] = {}

    # --- conversations -----------------------------------------------------------------------

    async def open(self, owner: Owner, opening: Opening) -> Conversation:
        """Raises OwnerGone where the tenant was erased: look the owner up again."""
        marks = opening.marks[-MOST_MARKS:]
        name = opening.session or session_id(
            owner, opening.marks, now=opening.now, idle_gap_s=opening.idle_gap_s
        )
        answer = await self._open(owner, opening, name, marks[-CHUNK:], len(marks) > CHUNK)
        if answer[0] == 0:  # a long loop of tools, or the first sight of a long history
            answer = await self._open(owner, opening, name, marks, False)
        if answer[0] == -2:
            # The same words ("hi") begin another one. An id is derived of them and of the time.
            anew = (f"{marks[0]} {opening.now!r}",)
            name = session_id(owner, anew, now=opening.now, idle_gap_s=opening.idle_gap_s)
            answer = await self._open(owner, opening, name, marks, False, anew=True)
        if answer[0] == -1:
            raise OwnerGone("this user was erased a moment ago", code="owner_gone")
        _, kept_name, fresh, sealed, standing, session = answer
        recalled_for, injected = self._injected(owner, session, sealed)
        return Conversation(
            session=opening.session or self._named(owner, session, kept_name) or name,
            fresh=fresh,
            injected=injected,
            recalled_for=recalled_for,
            standing_version=standing.decode(),
        )

    def _open(
        self,
        owner: Owner,
        opening: Opening,
        name: str,
        marks: Sequence[str],
        more: bool,
        *,
        anew: bool = False,
    ) -> Awaitable[Any]:
        of, session = _names(owner.tenant), _hashed(owner, name)
        if opening.session is None:
            kept_name = b"p" + name.encode()
        else:
            kept_name = b"s" + self._cipher.seal(owner, name.encode(), _place("name", session))
        turn_at = 0 if marks and marks[-1] == opening.turn else -1
        if turn_at < 0 and opening.turn in marks:  # a loop of tools
            turn_at = len(marks) - 1 - marks.index(opening.turn)
        numbers = (
            f"{opening.now!r} {opening.idle_gap_s!r} {IDLE_S} {ENTRIES_PER_GENERATION}"
            f" {len(marks)} {int(more)} {int(opening.session is not None)} {turn_at} {int(anew)}"
        )
        args = [numbers, session, kept_name, secrets.token_hex(8), "\n".join(reversed(marks))]
        if opening.alone is not None:
            mark, follow = opening.alone
            args.append(f"{mark} {follow}")
        return self._run(_OPEN, (of.conv, of.old, of.standing, of.gone), *args)

    def _named(self, owner: Owner, session: bytes, shown: bytes) -> str | None:
        if shown[:1] == b"p":
            return shown[1:].decode()
        try:
            return self._cipher.open(owner, shown[1:], _place("name", session)).decode()
        except Unreadable:
            return None

    def _injected(
        self, owner: Owner, session: bytes, sealed: bytes | None
    ) -> tuple[str | None, tuple[str, ...]]:
        if sealed is None:
            return None, ()
        try:
            plain = self._cipher.open(owner, sealed, _place("injected", session))
        except Unreadable:
            return None, ()  # the block is chosen afresh: that costs a cache, not a chat
        recalled_for, *ids = orjson.loads(plain)
        return recalled_for, tuple(ids)

    async def note_injected(
        self, owner: Owner, session: str, injected: Injected, *, now: Instant
    ) -> None:
        of, hashed = _names(owner.tenant), _hashed(owner, session)
        sealed = self._sealed(owner, hashed, injected)
        await self._run(_NOTE_INJECTED, (of.conv, of.gone), now, IDLE_S, hashed, sealed)

    def _sealed(self, owner: Owner, session: bytes, injected: Injected) -> bytes:
        plain = orjson.dumps([injected.recalled_for, *injected.ids])
        return self._cipher.seal(owner, plain, _place("injected", session))

    async def note_seen(
        self,
        owner: Owner,
        session: str,
        marks: Sequence[str],
        *,
        now: Instant,
        owed: int = 0,
        injected: Injected | None = None,
    ) -> None:
        of, hashed = _names(owner.tenant), _hashed(owner, session)
        marks = marks[-MOST_MARKS:]
        sealed = b"" if injected is None else self._sealed(owner, hashed, injected)
        for end in range(len(marks), 0, -CHUNK):
            chunk = "\n".join(reversed(marks[max(0, end - CHUNK) : end]))
            asked = owed if end == len(marks) else -1
            args = (now, IDLE_S, hashed, SEEN_IN_A_ROW, chunk, asked, sealed)
            if await self._run(_NOTE_SEEN, (of.conv, of.gone), *args):
                return

    async def touch_standing(self, tenant: str) -> bool:
        return bool(await self._standing(tenant, b"1") != GONE)

    async def standing_version(self, tenant: str) -> str:
        version: bytes = await self._standing(tenant, b"0")
        return version.decode()

    def _standing(self, tenant: str, renew: bytes) -> Awaitable[Any]:
        of = _names(tenant)
        candidate = secrets.token_hex(8)  # drawn, not counted: a version never comes back
        return self._run(_STANDING, (of.standing, of.gone), candidate, IDLE_S, renew)

    # --- what an upstream cannot take ------------------------------------------------------------

    async def remember_limit(self, app: str, model: str, limit: Mapping[str, Any]) -> None:
        key = _limits_key(app, model)
        self._limits.pop(key, None)
        if limit:
            pairs = [part for name in limit for part in (name, orjson.dumps(limit[name]))]
            await self._run(_LIMIT, (key,), LIMITS_S, *pairs)

    async def limits(self, app: str, model: str) -> dict[str, Any]:
        """Kept in the process for a few seconds: every request asks, and it seldom changes."""
        key = _limits_key(app, model)
        now = time.monotonic()
        cached = self._limits.get(key)
        if cached is None or now - cached[0] > LIMITS_CACHED_S:
            raw = await self._ask("HGETALL", key)
            pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
            cached = now, {name.decode(): orjson.loads(value) for name, value in pairs}
            if len(self._limits) >= LIMITS_CACHED:
                self._limits.clear()
            self._limits[key] = cached
        return dict(cached[1])

    # --- once, and not too often -----------------------------------------------------------------

    async def once(self, owner: Owner, key: str, answer: bytes | None = None) -> bytes | None:
        """The first answer that was kept for this key within a day; with `answer`, that one
        where there was none."""
        of, hashed = _names(owner.tenant), _hashed(owner, key)
        args: list[Any] = [hashed, ANSWER_S, ANSWERS_PER_OWNER]
        if answer is not None:
            args.append(self._cipher.seal(owner, answer, _place("once", hashed)))
        kept = await self._run(_ONCE, (of.once, of.once_due, of.gone), *args)
        if kept is None:
            return None
        return self._cipher.open(owner, kept, _place("once", hashed))

    async def allow(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> float:
        """A bucket of one minute's worth that fills evenly. A cost of 0 asks whether it is
        open; a cost above a minute's worth goes through when it is full, into debt."""
        if per_minute <= 0:
            return float(RATE_WINDOW_S)
        return float(await self._take(bucket, cost, per_minute, now, b"0"))

    async def charge(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> None:
        if per_minute > 0:
            await self._take(bucket, cost, per_minute, now, b"1")

    def _take(
        self, bucket: str, cost: int, per_minute: int, now: Instant, always: bytes
    ) -> Awaitable[Any]:
        args = (now, max(cost, 0), per_minute, RATE_WINDOW_S, always)
        return self._run(_TAKE, (f"rate:{bucket}",), *args)

    # --- a tenant's end --------------------------------------------------------------------------

    async def erase(self, tenant: str) -> int:
        """Remove all of a tenant and write nothing of it again; how many entries there were."""
        left: int = await self._run(_LEFT, _names(tenant).all, b"1", IDLE_S)
        return left

    async def count(self, tenant: str) -> int:
        left: int = await self._run(_LEFT, _names(tenant).all, b"0", IDLE_S)
        return left

    async def ping(self) -> None:
        await self._ask(*probe())

    async def close(self) -> None:
        """Nothing: the client is closed by whoever made it."""

    # --- the wire --------------------------------------------------------------------------------

    def _run(self, script: Script, keys: Sequence[str], *args: Any) -> Awaitable[Any]:
        return answered(script.run(self._client, keys, *args))

    def _ask(self, *command: Any) -> Awaitable[Any]:
        return answered(self._client.execute_command(*command))


class _Names:
    """The keys of one tenant."""

    __slots__ = ("conv", "gone", "old", "once", "once_due", "standing")

    def __init__(self, tenant: str) -> None:
        slot = f"{{p{partition_of(tenant)}}}"
        self.conv = f"{slot}:conv:{tenant}"
        self.old = f"{self.conv}:old"
        self.standing = f"{slot}:standing:{tenant}"
        self.once = f"{slot}:once:{tenant}"
        self.once_due = f"{self.once}:due"
        self.gone = f"{slot}:gone:{tenant}"

    @property
    def all(self) -> tuple[str, ...]:
        return self.conv, self.old, self.standing, self.once, self.once_due, self.gone


@lru_cache(maxsize=8192)
def _names(tenant: str) -> _Names:
    return _Names(tenant)


def _hashed(owner: Owner, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), key=owner.key, digest_size=12).digest()


def _place(what: str, hashed: bytes) -> str:
    return f"{what}:{hashed.hex()}"


def _limits_key(app: str, model: str) -> str:
    return "limits:" + hashlib.blake2b(f"{app}\0{model}".encode(), digest_size=16).hexdigest()
