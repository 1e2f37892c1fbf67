"""What the identity suites share: a deployment of real parts, and an issuer of tokens."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from redis.asyncio import Redis

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.directory_sqlite import SqliteDirectory
from gateway.adapters.jwks import HttpJwks
from gateway.adapters.redis_state import RedisState
from gateway.config import AppSettings, Settings, load
from gateway.core.attempts import Attempts
from gateway.core.keys import GatewayKey, make_key
from gateway.core.memory import Instant
from gateway.ports import Services
from gateway.web.identity import Identified, identify

NOON = 1_790_000_000.0
SECRET = "a shared secret"


@dataclass
class House:
    """A deployment as identity sees it: settings, gateway keys, limits, published keys."""

    settings: Settings
    services: Services
    now: Instant = NOON
    attempts: Attempts = field(default_factory=lambda: Attempts(60))

    def settings_for(self, app: str) -> AppSettings:
        return self.settings.app(app)

    def services_for(self, app: str) -> Services:
        return self.services

    async def key(self, app: str = "default", **limits: Any) -> tuple[str, GatewayKey]:
        shown, key = make_key(app, now=self.now, **limits)
        await self.services.keys.add(key)
        return shown, key

    async def ask(
        self, *headers: tuple[str, str | bytes], peer: str | None = "127.0.0.1", **body: Any
    ) -> Identified:
        """Identify a request with these headers, as an ASGI server hands them over."""
        raw = [
            (name.lower().encode("latin-1"), v if isinstance(v, bytes) else v.encode("utf-8"))
            for name, v in headers
        ]
        return await identify(
            raw,
            peer_host=peer,
            deployment=self,  # type: ignore[arg-type]
            now=self.now,
            **body,
        )


@asynccontextmanager
async def house(folder: Path, redis: Redis, **environ: str) -> AsyncIterator[House]:
    """A house under these settings, named as in the environment without their prefix."""
    settings = load(environ={f"GATEWAY_{name}": value for name, value in environ.items()})
    file = folder / f"{secrets.token_hex(4)}.sqlite"
    directory = SqliteDirectory(file, clock=lambda: NOON, settings=settings)
    jwks = HttpJwks()
    parts: dict[str, Any] = dict.fromkeys(
        ["upstream", "cipher", "store", "queue", "spool", "receipts", "embedder", "extractor"]
    )
    services = Services(
        **parts,
        directory=directory,
        keys=directory,
        state=RedisState(redis, AesGcmCipher()),
        jwks=jwks,
        clock=lambda: NOON,
    )
    try:
        yield House(settings, services)
    finally:
        await directory.close()
        await jwks.close()


# --- an issuer of tokens -----------------------------------------------------------------------

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk_of(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half of a key, as it is published."""
    algorithm = (
        jwt.algorithms.RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
    )
    made: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, **({"kid": kid} if kid else {}), "use": "sig", **more}


def token(
    key: Any = RSA,
    *,
    kid: str | None = "one",
    algorithm: str = "RS256",
    head: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """A token for `ann` of the default app, good for five minutes, unless told otherwise; a
    claim that is None is left out."""
    whole = {"sub": "ann", "exp": NOON + 300, "iss": "issuer", "aud": "gateway"} | claims
    return jwt.encode(
        {name: value for name, value in whole.items() if value is not None},
        key,
        algorithm=algorithm,
        headers={**({"kid": kid} if kid else {}), **(head or {})},
    )


@dataclass
class Issuer:
    """Publishes a key set on a loopback port, and counts how often it was asked."""

    keys: list[dict[str, Any]] = field(default_factory=lambda: [jwk_of(RSA, "one")])
    body: bytes | None = None
    status: int = 200
    asked: int = 0
    url: str = ""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def issuer() -> AsyncIterator[Issuer]:
    running = Issuer()
    server = await asyncio.start_server(running._answer, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"
    async with server:
        yield running
