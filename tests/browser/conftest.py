"""A real gateway, and a real Chromium that looks at it.

One of each for the whole run. The browser is the system's: `make test-browser` installs it where
it is missing. Every page is watched: an error in its console fails the test that opened it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until

TOKEN = "the-admin-token-of-the-browser-tests"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CONFIG = """
[memory]
deadline_ms = 5000.0
[queue]
max_tries = 1
[apps.compared.memory]
mode = "holdout"
holdout_share = 0.5
[apps.broken.extraction]
provider = "openai"
base_url = "{base_url}"
api_key = "sk-not-a-secret-of-anybody"
model = "no-such-extractor"
"""


def chromium() -> str:
    """Where the system's Chromium is; where there is none, what to do about it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium on PATH: apt-get install -y chromium (make test-browser does it)")


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway process over a scripted upstream, with the rules as extractor."""
    folder = tmp_path_factory.mktemp("console")
    with Evasive() as upstream:
        config = folder / "gateway.toml"
        config.write_text(CONFIG.format(base_url=upstream.base_url))
        with GatewayProcess(
            folder / "data", upstream.base_url, config=config, admin__token=TOKEN
        ) as running:
            yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def signed_in(browser: Browser, gateway: GatewayProcess) -> Any:
    """What a browser keeps of an operator who signed in."""
    context = browser.new_context(base_url=gateway.url)
    page = context.new_page()
    page.goto("/console")
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Overview").wait_for()
    state = context.storage_state()
    context.close()
    return state


def late_zone() -> str:
    """The time zone in which it is past ten in the evening: times are at their widest then, so a
    page that is too narrow for them fails at any hour of the day."""
    ahead = 22 - datetime.now(UTC).hour
    return f"Etc/GMT{-(ahead if ahead <= 12 else ahead - 24):+d}"  # "Etc/GMT-3" is three ahead


@pytest.fixture
def opened(browser: Browser, gateway: GatewayProcess) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser of its own; whatever its console complains of fails the test."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def open_(path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=gateway.url, timezone_id=late_zone(), **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    expected = "the server responded with a status of 401"  # a sign-in that a test gets wrong
    assert not [text for text in complaints if expected not in text]


@pytest.fixture
def console(opened: Callable[..., Page], signed_in: Any) -> Callable[..., Page]:
    """Open a page of the console as an operator, once it shows what it has."""

    def open_(path: str, **options: Any) -> Page:
        page = opened(path, storage_state=signed_in, **options)
        page.locator("#page").get_by_text("Loading …").wait_for(state="detached")
        return page

    return open_


class Evasive(ScriptedUpstream):
    """Answers chats, and asked for facts talks about something else."""

    def _extraction(self, body: Mapping[str, Any]) -> Say:
        return Say("I would rather talk about the weather.")


class Person:
    """Somebody who talks to the gateway, by its API."""

    def __init__(self, gateway: GatewayProcess, user: str, app: str = "default") -> None:
        self.user, self.app = user, app
        self.client = loopback.Client(
            base_url=gateway.url, headers={"X-Memory-User": user, "X-Memory-App": app}, timeout=10
        )

    def close(self) -> None:
        self.client.close()

    def says(self, text: str, *, again: bool = False) -> str:
        """One chat, or the same asked again after its answer; the id of its last receipt, once
        that is kept."""
        messages = [{"role": "user", "content": text}]
        answer = self._chat(messages)
        if again:
            said = answer.json()["choices"][0]["message"]["content"]
            answer = self._chat([*messages, {"role": "assistant", "content": said}, *messages])
        id = answer.headers.get("x-memory-receipt-id", "")
        if id:
            until(lambda: self.client.get(f"/v1/receipts/{id}").status_code == 200)
        return id

    def _chat(self, messages: list[dict[str, str]]) -> Any:
        answer = self.client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
        assert answer.status_code == 200
        return answer

    def knows(self, text: str, type: str = "profile", **more: Any) -> str:
        answer = self.client.post("/v1/memories", json={"text": text, "type": type, **more})
        assert answer.status_code == 201
        return str(answer.json()["id"])

    def facts(self) -> list[str]:
        page = self.client.get("/v1/memories", params={"kind": "fact"}).json()
        return [memory["text"] for memory in page["memories"]]

    @property
    def page(self) -> str:
        return f"/console/user?app={self.app}&user={self.user}"


@pytest.fixture
def person(gateway: GatewayProcess) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def make(user: str, app: str = "default") -> Person:
        people.append(Person(gateway, user, app))
        return people[-1]

    yield make
    for one in people:
        one.close()


@pytest.fixture
def shot() -> Callable[[Page, str], None]:
    """Keep a picture for the documents, where `GATEWAY_TEST_SHOTS` names a folder for them."""
    folder = os.environ.get("GATEWAY_TEST_SHOTS")

    def take(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")

    return take
