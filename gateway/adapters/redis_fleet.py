"""Redis where it is more than one plain server: TLS, a cluster, or whoever sentinels name.

    rediss://host:6380/0                                  one server over TLS
    redis+cluster://host:6379,host:6379                   a cluster, found by any of its nodes
    redis+sentinel://host:26379,host:26379/mymaster/0     the master of that name, after a
                                                          failover the new one
    rediss+cluster://…  rediss+sentinel://…               the same over TLS

User and password (`redis+sentinel://user:password@…`) are those of the servers. What else there
is to say of a fleet stands behind a `?`, as `?sentinel_password=…&ssl_ca_certs=/etc/ca.pem`:

    sentinel_username, sentinel_password                  who we are to the sentinels
    ssl_ca_certs, ssl_certfile, ssl_keyfile               files, for TLS: whom to trust, who we are
    db, username, password                                of one server, and over TLS also
    ssl_cert_reqs, ssl_check_hostname                     how closely its certificate is looked at

redis-py does the work; the plain server, which is most often met, has a quicker client
(`redis_wire`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.exceptions import RedisError

from gateway.core.errors import SettingsError

POOL: Final = 64
DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
OF_SENTINELS: Final = {"sentinel_username": "username", "sentinel_password": "password"}
OF_TLS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
FLEETS: Final[dict[str, tuple[str, ...]]] = {
    "redis+cluster": (),
    "rediss+cluster": OF_TLS,
    "redis+sentinel": tuple(OF_SENTINELS),
    "rediss+sentinel": (*OF_SENTINELS, *OF_TLS),
}
OF_ONE: Final = ("db", "username", "password")
OF_ONE_OVER_TLS: Final = (*OF_ONE, *OF_TLS, "ssl_cert_reqs", "ssl_check_hostname")
PARAMETERS: Final = FLEETS | {"redis": OF_ONE, "rediss": OF_ONE_OVER_TLS, "unix": OF_ONE}
"""What can be said behind the `?`, by what stands before the `://`."""


def redis_fleet(url: str, *, timeout_s: float) -> Any:
    """A client of redis-py's for this URL. Raises SettingsError where the URL is not one."""
    from redis.asyncio import Redis, RedisCluster, Sentinel
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    patience: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        # One more try covers a connection that the server closed while idle. More would keep a
        # chat waiting for a Redis that is away; every write may be repeated.
        "retry": Retry(NoBackoff(), 1),
    }
    common = patience | {"health_check_interval": 0, "max_connections": POOL}
    scheme = url.partition("://")[0]
    if scheme in ("redis", "rediss", "unix"):
        return _single(Redis, scheme, url, common)
    if scheme not in FLEETS:
        raise SettingsError(
            f"redis.url: {scheme}:// given; allowed is redis, rediss, unix, redis+cluster or"
            " redis+sentinel (rediss+… over TLS)",
            param="redis.url",
        )
    parts = urlsplit(url)
    asked = _parameters(scheme, parts.query)
    tls: dict[str, Any] = {"ssl": True} if scheme.startswith("rediss+") else {}
    tls |= {name: asked[name] for name in OF_TLS if name in asked}
    common |= tls
    if parts.username:
        common["username"] = unquote(parts.username)
    if parts.password:
        common["password"] = unquote(parts.password)
    if scheme.endswith("+cluster"):
        nodes = [ClusterNode(host, port) for host, port in _hosts(url, DEFAULT_PORT)]
        return RedisCluster(startup_nodes=nodes, **common)
    service, _, db = parts.path.strip("/").partition("/")
    if not service or (db and not db.isdigit()):
        raise SettingsError(
            "redis.url: sentinels are asked for a master by its name; allowed is"
            " redis+sentinel://host:26379,host:26379/NAME or …/NAME/DB",
            param="redis.url",
        )
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        _hosts(url, SENTINEL_PORT),
        # redis-py's own patience has one that is away asked for some four seconds.
        sentinel_kwargs=patience
        | {theirs: asked[ours] for ours, theirs in OF_SENTINELS.items() if ours in asked}
        | tls,
        **common,
        db=int(db or 0),
    )
    return _BySentinels(sentinels.master_for(service), sentinels.sentinels)


def _single(kind: Any, scheme: str, url: str, common: dict[str, Any]) -> Any:
    """One server's client. redis-py would look at parameters only when it first connects."""
    _parameters(scheme, urlsplit(url).query)
    try:
        client = kind.from_url(url, **common)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, RedisError) as exc:
        # Of its words the parameter's name alone: a "/" in a password has a part of it taken for
        # a port, and quoted.
        named = re.search(r"(?<=value for) '\w+'", str(exc))
        raise SettingsError(
            f"redis.url: {scheme}:// has no parameter{named[0] if named else ''}, or it cannot"
            " be what was given; take it out, or put it right",
            param="redis.url",
        ) from exc
    return client


def _parameters(scheme: str, query: str) -> dict[str, str]:
    """What stands behind the `?`. One that is not known is refused: a password that went nowhere
    is noticed when the first chat comes."""
    # As in the rest of a URL, and unlike a form's, a plus is a plus: passwords have them.
    given = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    for name in given:
        if name not in PARAMETERS[scheme]:
            said = ", ".join(PARAMETERS[scheme]) or "none (those for TLS are of rediss+cluster://)"
            raise SettingsError(
                f"redis.url: {scheme}:// has no parameter {name!r}; allowed is {said}",
                param="redis.url",
            )
    return given


class _BySentinels:
    """The master's client; with it end those of the sentinels, which redis-py forgets."""

    def __init__(self, master: Any, sentinels: Sequence[Any]) -> None:
        self._master = master
        self._sentinels = sentinels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._master, name)

    async def aclose(self) -> None:
        for client in (self._master, *self._sentinels):
            await client.aclose()


def _hosts(url: str, port: int) -> list[tuple[str, int]]:
    """The hosts between user and path, separated by commas, each with its port or the usual one."""
    found = []
    for each in urlsplit(url).netloc.rpartition("@")[2].split(","):
        try:
            one = urlsplit(f"//{each.strip()}")
            found.append((one.hostname or "localhost", one.port or port))
        except ValueError as exc:
            raise SettingsError(f"redis.url: {each!r} is no host:port", param="redis.url") from exc
    return found
