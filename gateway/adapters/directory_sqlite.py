"""The directory of an embedded gateway: persons, links, keys and the audit in a small SQLite file.

This is the keyring, so what is deleted must be gone from the disk: `secure_delete` overwrites
what a row leaves behind, and the rollback journal (which holds pages as they were) is truncated
with every commit, where a write-ahead log would keep them. A commit is synced before it is
answered: a text must never outlive the key that it was sealed with by accident.

One process owns the file (it is locked), which makes the cache of owners exact: after its first
request a person is found without leaving the event loop. Everything else happens on one thread
of its own, in order, so that no sync of the disk ever stalls a stream.

Tables: person (app, user -> tenant, key); link (app, identity -> user); erased (receipts of
erasures); gateway_key; audit (append-only: a trigger refuses to change it).
"""

from __future__ import annotations

import os
import sqlite3
from asyncio import get_running_loop
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from gateway.config import Settings, seconds_of
from gateway.core.errors import DirectoryUnavailable, Unprocessable
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.keys import GatewayKey
from gateway.core.memory import Instant
from gateway.ports import Clock

CACHED: Final = 20_000
"""Owners held in memory (about 0.6 kB each); the others cost a hop to the thread."""
ENDED_TOLD: Final = 10_000
"""Dropped tenants that are told: this process alone asks, every other second."""
ERASURES_KEPT: Final = 10_000
ERASURES_OF_ONE: Final = 100
"""One who erases again and again takes the place of their own receipts, not of everyone's: a
restored backup goes by them."""
_APP, _USER = "json_extract(record, '$.app')", "json_extract(record, '$.user')"

_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = TRUNCATE",
    "PRAGMA secure_delete = ON",
    "PRAGMA synchronous = FULL",
)
_TABLES = f"""
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS person (
  app TEXT NOT NULL, user TEXT NOT NULL, tenant TEXT NOT NULL UNIQUE, key BLOB NOT NULL,
  PRIMARY KEY (app, user));
CREATE TABLE IF NOT EXISTS link (
  app TEXT NOT NULL, identity TEXT NOT NULL, user TEXT NOT NULL, PRIMARY KEY (app, identity));
CREATE INDEX IF NOT EXISTS link_user ON link (app, user);
CREATE TABLE IF NOT EXISTS erased (
  n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS erased_of ON erased ({_APP}, {_USER});
CREATE TABLE IF NOT EXISTS gateway_key (
  id TEXT PRIMARY KEY, hash TEXT NOT NULL, app TEXT NOT NULL, created_at REAL NOT NULL,
  label TEXT NOT NULL, requests_per_minute INTEGER, tokens_per_minute INTEGER, revoked_at REAL);
CREATE TABLE IF NOT EXISTS audit (
  n INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, app TEXT, user TEXT, entry TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS audit_at ON audit (at);
CREATE INDEX IF NOT EXISTS audit_user ON audit (app, user);
CREATE TRIGGER IF NOT EXISTS audit_stands BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
COMMIT;
"""
_ROOT = """
WITH RECURSIVE up (user) AS (
  VALUES (?2) UNION SELECT link.user FROM link JOIN up ON link.identity = up.user WHERE app = ?1)
SELECT user FROM up"""
_LINKED = """
WITH RECURSIVE down (user) AS (
  SELECT identity FROM link WHERE app = ?1 AND user = ?2
  UNION SELECT identity FROM link JOIN down ON link.user = down.user WHERE app = ?1)
SELECT user FROM down ORDER BY user"""
_DROP_BUT = """
DELETE FROM erased WHERE n IN (SELECT n FROM erased {} ORDER BY n DESC LIMIT -1 OFFSET ?)"""
_KEY_FIELDS = ", ".join(field.name for field in fields(GatewayKey))

T = TypeVar("T")


class SqliteDirectory:
    """Implements ports.Directory and ports.KeyStore on one file, made 0600 where there is none."""

    def __init__(self, path: Path, *, clock: Clock, settings: Settings) -> None:
        self._path = path
        self._clock = clock
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directory")
        self._connection: sqlite3.Connection | None = None
        self._owners: dict[Person, Owner] = {}
        self._tenants: dict[str, Owner] = {}
        self._keys: dict[str, GatewayKey] = {}
        self._ended: deque[tuple[int, str]] = deque(maxlen=ENDED_TOLD)
        self._changes = 0
        self._closed = False

    # --- persons -----------------------------------------------------------------------------

    async def owner(self, person: Person, *, create: bool = False) -> Owner | None:
        if (known := self._owners.get(person)) is not None:
            return known
        before = self._changes
        found = await self._do(self._find, person, create)
        if found is not None and before == self._changes:
            _remember(self._owners, person, found)
        return found

    def _find(self, db: sqlite3.Connection, person: Person, create: bool) -> Owner | None:
        *_, root = (user for (user,) in db.execute(_ROOT, (person.app, person.user)))
        meant = Person(person.app, root)
        found = _incarnation(db, meant)
        if found is None and create:
            found = self._new(meant)
            with db:
                db.execute(
                    "INSERT INTO person VALUES (?, ?, ?, ?)",
                    (meant.app, meant.user, found.tenant, found.key),
                )
        return found

    def _new(self, person: Person) -> Owner:
        owner = new_owner(person)
        return owner if self._settings.app(person.app).privacy.seal else replace(owner, key=b"")

    async def by_tenant(self, tenant: str) -> Owner | None:
        if (known := self._tenants.get(tenant)) is not None:
            return known
        before = self._changes
        found = await self._do(_of_tenant, tenant)
        if found is not None and before == self._changes:
            _remember(self._tenants, tenant, found)
        return found

    async def incarnations(self, person: Person) -> list[Owner]:
        return await self._do(_incarnations, person)

    async def drop(self, owner: Owner) -> None:
        await self._change("DELETE FROM person WHERE tenant = ?", (owner.tenant,))
        self._ended.append((self._last_ended + 1, owner.tenant))

    @property
    def _last_ended(self) -> int:
        return self._ended[-1][0] if self._ended else 0

    async def ended(self, since: str = "") -> tuple[str, list[str]]:
        told = str(self._last_ended)
        if not since:
            return told, []
        return told, list(dict.fromkeys(t for n, t in self._ended if n > int(since)))

    def let_go(self, tenant: str) -> None:
        """Nothing: `drop` has cleared the cache, and nobody else drops."""

    async def compact(self) -> None:
        """Nothing: this file keeps no log of its own, and overwrites what it deletes."""

    # --- links -------------------------------------------------------------------------------

    async def link(self, identity: Person, person: Person) -> None:
        """Links are kept as they were made and followed when asked, so that each can be taken
        back alone."""
        if identity.app != person.app:
            raise Unprocessable("identities are linked within one app", code="other_app")
        self._forget_cached()
        await self._do(_link, identity, person)
        self._forget_cached()

    async def unlink(self, identity: Person) -> None:
        """What the identity had before it was linked is its own again."""
        await self._change(
            "DELETE FROM link WHERE app = ? AND identity = ?", (identity.app, identity.user)
        )

    async def links(self, person: Person) -> list[str]:
        rows = await self._rows(_LINKED, (person.app, person.user))
        return [user for (user,) in rows]

    # --- for operators -----------------------------------------------------------------------

    async def people(
        self, app: str | None = None, *, prefix: str = "", limit: int = 100, after: str = ""
    ) -> list[Person]:
        after_app, _, after_user = after.partition("/") if app is None else (app, "", after)
        rows = await self._rows(
            "SELECT app, user FROM person WHERE (?1 IS NULL OR app = ?1)"
            " AND (app, user) > (?2, ?3) AND user >= ?4 AND substr(user, 1, ?5) = ?4"
            " ORDER BY app, user LIMIT ?6",
            (app, after_app, after_user, prefix, len(prefix), limit),
        )
        return [Person(*row) for row in rows]

    async def keep_erasure(self, record: Mapping[str, Any]) -> None:
        """Of all the newest ten thousand stay, of one person the newest hundred."""
        await self._do(_keep_erasure, dict(record))

    async def erasure(self, id: str) -> dict[str, Any] | None:
        rows = await self._rows("SELECT record FROM erased WHERE id = ?", (id,))
        return orjson.loads(rows[0][0]) if rows else None

    async def erased(self, *, unfinished: bool = False) -> list[dict[str, Any]]:
        rows = await self._rows(
            "SELECT record FROM erased"
            " WHERE NOT ?1 OR NOT json_extract(record, '$.completed') ORDER BY n DESC",
            (unfinished,),
        )
        return [orjson.loads(text) for (text,) in rows]

    # --- gateway keys and the audit ------------------------------------------------------------

    async def add(self, key: GatewayKey) -> None:
        marks = ", ".join("?" * len(fields(GatewayKey)))
        await self._change(
            f"INSERT INTO gateway_key ({_KEY_FIELDS}) VALUES ({marks})",  # noqa: S608  names of ours
            astuple(key),
        )

    async def find(self, id: str) -> GatewayKey | None:
        if (known := self._keys.get(id)) is not None:
            return known
        before = self._changes
        found = await self._keys_where("id = ?", id)
        if found and before == self._changes:
            self._keys[id] = found[0]
        return found[0] if found else None

    async def all(self) -> list[GatewayKey]:
        return await self._keys_where("1 ORDER BY created_at, id")

    async def _keys_where(self, condition: str, *args: str) -> list[GatewayKey]:
        query = f"SELECT {_KEY_FIELDS} FROM gateway_key WHERE {condition}"  # noqa: S608  ours
        return [GatewayKey(*row) for row in await self._rows(query, args)]

    async def revoke(self, id: str, at: Instant) -> bool:
        """Whether there is such a key; one revoked before keeps its time."""
        return await self._change(
            "UPDATE gateway_key SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (at, id)
        )

    async def audit(self, entry: Mapping[str, Any]) -> None:
        """Kept for `retention.audit`; `at` is now where the entry does not say."""
        now = self._clock()
        whole = {"at": now, **entry}
        kept_s = seconds_of(self._settings.retention.audit)
        row = (whole["at"], whole.get("app"), whole.get("user"), orjson.dumps(whole).decode())
        await self._do(_append, row, None if kept_s is None else now - kept_s)

    async def audited(
        self, *, limit: int = 100, app: str | None = None, user: str | None = None
    ) -> list[dict[str, Any]]:
        rows = await self._rows(
            "SELECT entry FROM audit WHERE (?1 IS NULL OR app = ?1)"
            " AND (?2 IS NULL OR user = ?2) ORDER BY n DESC LIMIT ?3",
            (app, user, limit),
        )
        return [orjson.loads(text) for (text,) in rows]

    # --- the thread ----------------------------------------------------------------------------

    async def ping(self) -> None:
        await self._rows("SELECT 1", ())

    async def copy_to(self, path: Path) -> None:
        """Write the directory as it is now to a new file (0600): it holds everyone's keys."""

        def copy(db: sqlite3.Connection) -> None:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_RDWR, 0o600))
            target = sqlite3.connect(path)
            try:
                db.backup(target)
            finally:
                target.close()

        await self._do(copy)

    async def close(self) -> None:
        """Closing it again is harmless."""

        def end() -> None:
            if self._connection is not None:
                self._connection.close()

        if not self._closed:
            self._closed = True
            await get_running_loop().run_in_executor(self._thread, end)
            self._thread.shutdown()

    def _forget_cached(self) -> None:
        self._changes += 1
        for cache in (self._owners, self._tenants, self._keys):
            cache.clear()

    async def _rows(self, query: str, args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return await self._do(lambda db: db.execute(query, args).fetchall())

    async def _change(self, statement: str, args: tuple[Any, ...]) -> bool:
        """Whether a row was changed. What was cached is forgotten before, so that it is not
        used while the change is under way, and after, so that nothing read meanwhile stays."""

        def change(db: sqlite3.Connection) -> bool:
            with db:
                return db.execute(statement, args).rowcount > 0

        self._forget_cached()
        try:
            return await self._do(change)
        finally:
            self._forget_cached()

    async def _do(self, step: Callable[..., T], *args: Any) -> T:
        def run() -> T:
            if self._connection is None:
                self._connection = _connect(self._path)
            return step(self._connection, *args)

        if self._closed:
            raise DirectoryUnavailable("the gateway is ending", code="directory_unavailable")
        try:
            return await get_running_loop().run_in_executor(self._thread, run)
        except sqlite3.OperationalError as exc:
            locked = "locked" in str(exc)
            raise DirectoryUnavailable(
                f"the directory of users ({self._path.name}) "
                + ("is in use by another process" if locked else f"cannot be used: {exc}"),
                code="directory_unavailable",
            ) from exc
        except (sqlite3.Error, OSError) as exc:
            raise DirectoryUnavailable(
                f"the directory of users ({self._path.name}) cannot be used ({type(exc).__name__});"
                " restore it from a backup if it is damaged: without it, sealed memories cannot be"
                " read",
                code="directory_unavailable",
            ) from exc


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC | os.O_RDWR, 0o600))
    db = sqlite3.connect(path, check_same_thread=False, timeout=0)
    try:
        for pragma in _PRAGMAS:
            db.execute(pragma).fetchall()
        db.executescript(_TABLES)
    except BaseException:
        db.close()
        raise
    return db


def _remember(cache: dict[Any, Owner], key: object, owner: Owner) -> None:
    if len(cache) >= CACHED:
        del cache[next(iter(cache))]
    cache[key] = owner


def _incarnation(db: sqlite3.Connection, person: Person) -> Owner | None:
    row = db.execute(
        "SELECT tenant, key FROM person WHERE app = ? AND user = ?", (person.app, person.user)
    ).fetchone()
    return Owner(person, *row) if row else None


def _of_tenant(db: sqlite3.Connection, tenant: str) -> Owner | None:
    row = db.execute(
        "SELECT app, user, tenant, key FROM person WHERE tenant = ?", (tenant,)
    ).fetchone()
    return Owner(Person(row[0], row[1]), row[2], row[3]) if row else None


def _incarnations(db: sqlite3.Connection, person: Person) -> list[Owner]:
    *_, root = (user for (user,) in db.execute(_ROOT, (person.app, person.user)))
    linked = [user for (user,) in db.execute(_LINKED, (person.app, root))]
    found = (_incarnation(db, Person(person.app, user)) for user in (root, *linked))
    return [owner for owner in found if owner is not None]


def _link(db: sqlite3.Connection, identity: Person, person: Person) -> None:
    above = {user for (user,) in db.execute(_ROOT, (person.app, person.user))}
    if identity.user in above:
        raise Unprocessable(
            "these two are linked the other way round, or are the same; unlink first",
            code="link_cycle",
        )
    with db:
        db.execute(
            "INSERT OR REPLACE INTO link VALUES (?, ?, ?)",
            (identity.app, identity.user, person.user),
        )


def _keep_erasure(db: sqlite3.Connection, record: dict[str, Any]) -> None:
    of = record.get("app"), record.get("user")
    with db:
        db.execute(
            "INSERT INTO erased (id, record) VALUES (?1, ?2)"
            " ON CONFLICT (id) DO UPDATE SET record = ?2",
            (record["id"], orjson.dumps(record).decode()),
        )
        db.execute(_DROP_BUT.format(f"WHERE {_APP} = ? AND {_USER} = ?"), (*of, ERASURES_OF_ONE))
        db.execute(_DROP_BUT.format(""), (ERASURES_KEPT,))


def _append(db: sqlite3.Connection, row: tuple[Any, ...], ended: Instant | None) -> None:
    with db:
        db.execute("INSERT INTO audit (at, app, user, entry) VALUES (?, ?, ?, ?)", row)
        if ended is not None:
            db.execute("DELETE FROM audit WHERE at < ?", (ended,))
