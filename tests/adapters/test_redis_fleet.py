"""Redis by sentinels and in a cluster, each by its URL, on real servers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.adapters.embedded_redis import find_server
from gateway.adapters.redis_fleet import redis_fleet
from gateway.adapters.redis_wire import fits
from gateway.core.errors import SettingsError
from tests.gateway_process import free_port


@asynccontextmanager
async def _server(
    folder: Path, *lines: str, kind: str = "", password: str | None = None
) -> AsyncIterator[int]:
    port = free_port()
    config = folder / f"{port}.conf"
    lines = (f"port {port}", "bind 127.0.0.1", f"dir {folder}", *lines)
    lines += () if password is None else (f"requirepass {password}",)
    config.write_text("\n".join(lines) + "\n")
    command = [find_server(), str(config), *([kind] if kind else [])]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        await _answers(lambda: _ping(port, password))
        yield port
    finally:
        server.kill()
        server.wait()


async def _ping(port: int, password: str | None) -> Any:
    async with Redis(host="127.0.0.1", port=port, password=password) as client:
        return await client.ping()


async def _answers(ask: Any) -> Any:
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except (RedisError, OSError):
                await asyncio.sleep(0.02)


async def test_the_master_that_sentinels_name_is_asked(tmp_path: Path) -> None:
    async with (
        _server(tmp_path, 'save ""') as master,
        _server(
            tmp_path, f"sentinel monitor house 127.0.0.1 {master} 1", kind="--sentinel"
        ) as sentinel,
    ):
        # The first sentinel named is not there: the next one is asked, as soon as that is known.
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel}/house/3"
        client = redis_fleet(url, timeout_s=2)
        async with asyncio.timeout(2):
            await client.execute_command("SET", "key", "value")
        async with Redis(host="127.0.0.1", port=master, db=3) as direct:
            assert await direct.get("key") == b"value"
        await client.aclose()


async def test_sentinels_and_the_master_have_passwords_of_their_own(tmp_path: Path) -> None:
    async with (
        _server(tmp_path, 'save ""', password="of-the-master") as master,
        _server(
            tmp_path,
            f"sentinel monitor house 127.0.0.1 {master} 1",
            "sentinel auth-pass house of-the-master",
            kind="--sentinel",
            password="a+b%",
        ) as sentinel,
    ):
        where = f"redis+sentinel://:of-the-master@127.0.0.1:{sentinel}/house"
        client = redis_fleet(f"{where}?sentinel_password=a+b%25", timeout_s=2)
        await client.execute_command("SET", "key", "value")
        assert await client.execute_command("GET", "key") == b"value"
        await client.aclose()
        refused = redis_fleet(where, timeout_s=2)
        with pytest.raises(RedisError):
            await refused.execute_command("GET", "key")
        await refused.aclose()


def test_sentinels_and_the_master_are_asked_over_tls_with_the_same_files() -> None:
    url = "rediss+sentinel://one/house?sentinel_username=us&sentinel_password=p&ssl_ca_certs=/ca"
    client = redis_fleet(url, timeout_s=1)
    (sentinel,) = client._sentinels
    told = sentinel.connection_pool.connection_kwargs
    assert (told["username"], told["password"], told["ssl_ca_certs"]) == ("us", "p", "/ca")
    told = client.connection_pool.connection_kwargs
    assert told["ssl_ca_certs"] == "/ca"
    assert "password" not in told


def test_one_server_is_asked_over_tls_with_what_its_url_says() -> None:
    url = "rediss://one/3?ssl_ca_certs=/ca&ssl_cert_reqs=none&ssl_check_hostname=false"
    told = redis_fleet(url, timeout_s=1).connection_pool.connection_kwargs
    assert (told["db"], told["ssl_ca_certs"], told["ssl_cert_reqs"]) == (3, "/ca", "none")
    assert told["ssl_check_hostname"] is False


async def test_a_cluster_is_asked_over_tls_with_the_files_named() -> None:
    url = "rediss+cluster://one?ssl_ca_certs=/ca&ssl_certfile=/cert&ssl_keyfile=/key"
    told = redis_fleet(url, timeout_s=1).get_connection_kwargs()
    assert (told["ssl_ca_certs"], told["ssl_certfile"]) == ("/ca", "/cert")
    assert told["ssl_keyfile"] == "/key"


async def test_a_cluster_is_found_by_any_of_its_nodes(cluster_port: int) -> None:
    client = redis_fleet(f"redis+cluster://127.0.0.1:{cluster_port}", timeout_s=2)
    await client.execute_command("SET", "key", "value")
    assert await client.execute_command("GET", "key") == b"value"
    await client.aclose()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+sentinel://one:26379,two:26379", "by its name"),
        ("redis+sentinel://one:26379/house/x", "by its name"),
        ("redis+sentinel://one:port/house", "no host:port"),
        ("memcached://one", "memcached:// given"),
        ("redis://one/0?nonsense=1", "redis:// has no parameter 'nonsense'"),
        ("redis://one?socket_timeout=soon", "no parameter 'socket_timeout'; allowed is db, "),
        ("redis://one?db=soon", "no parameter 'db', or it cannot be"),
        (
            "redis+sentinel://one/house?sentinel_pasword=x",
            "no parameter 'sentinel_pasword'; allowed is sentinel_username, sentinel_password$",
        ),
        ("rediss+sentinel://one/house?db=1", "allowed is sentinel_username, .*, ssl_ca_certs, "),
        ("rediss+cluster://one?sentinel_password=x", "allowed is ssl_ca_certs, ssl_certfile, "),
        ("redis+cluster://one?ssl_ca_certs=/ca", "allowed is none"),
        (
            "redis://one?sentinel_password=x",
            "redis:// has no parameter 'sentinel_password'; allowed is db, username, password$",
        ),
        ("redis://one/2?ssl_ca_certs=", "no parameter 'ssl_ca_certs'"),
        ("redis://one?socket_timeout=1", "no parameter 'socket_timeout'"),
        ("unix:///run/redis.sock?pasword=x", "unix:// has no parameter 'pasword'; allowed is db,"),
        ("rediss://one?ssl_ca_cert=/ca", "'ssl_ca_cert'; allowed is db, .*, ssl_ca_certs, "),
        ("redis://one?pasword", "no parameter 'pasword'"),
        ("redis://:secret/word@one", "^redis.url: redis:// has no parameter, or it cannot be"),
    ],
)
def test_a_url_that_names_no_fleet_says_what_would(url: str, told: str) -> None:
    assert not fits(url)
    with pytest.raises(SettingsError, match=told):
        redis_fleet(url, timeout_s=1)
