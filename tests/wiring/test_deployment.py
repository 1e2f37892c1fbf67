"""What runs beside a gateway ends with it, and what an app cannot have is said at the start."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.config import load
from gateway.core.errors import SettingsError, StoreUnavailable
from gateway.telemetry import logs
from gateway.wiring import GatewayDeployment, stores
from gateway.wiring.deployment import now
from gateway.wiring.services import services_of_app
from gateway.wiring.stores import open_store
from gateway.worker import Worker


def deployment_with(tmp_path: Path, **environ: str) -> GatewayDeployment:
    told = {"GATEWAY_DATA_DIR": str(tmp_path), **environ}
    return GatewayDeployment(load(environ=told), now)


@pytest.mark.usefixtures("own_log")
async def test_work_beside_that_fails_is_said_and_does_not_disturb_the_end(tmp_path: Path) -> None:
    sink = io.StringIO()
    logs.configure("info", "json", stream=sink)
    deployment = deployment_with(tmp_path)

    async def stumble() -> None:
        raise KeyError("I live in Lyon")

    work = deployment.beside(stumble(), "look after something")
    await asyncio.wait([work])
    waiting = deployment.beside(asyncio.Event().wait(), "wait")
    await deployment.parts.aclose()
    assert waiting.cancelled()
    assert "look after something" in sink.getvalue()
    assert "KeyError" in sink.getvalue()
    assert "Lyon" not in sink.getvalue()


@pytest.mark.usefixtures("own_log")
async def test_a_worker_that_failed_is_said_and_every_part_is_closed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = io.StringIO()
    logs.configure("info", "json", stream=sink)
    deployment = deployment_with(tmp_path)

    async def stumble(_worker: Worker, _stop: asyncio.Event) -> None:
        raise KeyError

    monkeypatch.setattr(Worker, "run", stumble)
    closed: list[str] = []
    deployment.parts.callback(closed.append, "the store")
    deployment.start_worker(1)
    await deployment.close()
    assert closed == ["the store"]
    assert '"work":"worker"' in sink.getvalue()


@pytest.mark.usefixtures("own_log")
async def test_a_server_that_comes_back_with_another_store_is_refused_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "RETRY_S", 0.0)
    sink = io.StringIO()
    logs.configure("info", "json", stream=sink)
    servers = {"GATEWAY_QDRANT__URL": "http://q:6333", "GATEWAY_REDIS__URL": "redis://r:6379"}
    deployment = deployment_with(tmp_path, **servers)
    answers: list[Exception] = [StoreUnavailable("away"), SettingsError("it has 64 dimensions")]

    class Store:
        async def open(self) -> None:
            raise answers.pop(0) if len(answers) > 1 else answers[0]

    await open_store(deployment, deployment.settings, cast(Any, Store()))
    async with asyncio.timeout(10):
        while "it has 64 dimensions" not in sink.getvalue():
            await asyncio.sleep(0)
    await deployment.parts.aclose()
    assert sink.getvalue().count("store_refused") == 1


async def test_what_is_wrong_with_an_apps_part_is_said_of_the_app(tmp_path: Path) -> None:
    servers = {"QDRANT__URL": "http://q:6333", "REDIS__URL": "http://r:6379"}
    for own, message in (
        ({"EXTRACTION__PROVIDER": "openai"}, r"^apps\.eu\.extraction\.model: absent"),
        (servers, r"^apps\.eu\.redis\.url: http:// given"),
    ):
        environ = {f"GATEWAY_APPS__EU__{name}": value for name, value in own.items()}
        deployment = deployment_with(tmp_path, **environ)
        with pytest.raises(SettingsError, match=message) as refused:
            await services_of_app(deployment, "eu", cast(Any, None))
        assert refused.value.param is None or refused.value.param.startswith("apps.eu.")
        await deployment.parts.aclose()


async def test_an_app_cannot_change_the_embedded_stores_for_itself(tmp_path: Path) -> None:
    deployment = deployment_with(tmp_path, GATEWAY_APPS__EU__REDIS__TIMEOUT_S="3")
    with pytest.raises(SettingsError, match=r"apps\.eu\.redis: embedded stores are the whole"):
        await services_of_app(deployment, "eu", cast(Any, None))
