"""A person's own page behind a signed link, as they use it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import loopback
from tests.browser.conftest import TOKEN, Person
from tests.browser.test_console import PHONE, faults_of
from tests.gateway_process import GatewayProcess

pytestmark = pytest.mark.browser

Open = Callable[..., Page]


def link_of(gateway: GatewayProcess, user: str) -> str:
    """A link as the admin API makes one."""
    answer = loopback.post(
        f"{gateway.url}/admin/v1/apps/default/users/{user}/link",
        headers={"Authorization": f"Bearer {TOKEN}"},
        json={},
    )
    return str(answer.json()["url"])


def test_a_person_sees_corrects_and_forgets(
    opened: Open,
    gateway: GatewayProcess,
    person: Callable[..., Person],
    shot: Callable[[Page, str], None],
) -> None:
    lea = person("lea")
    lea.knows("Lives in Ghent")
    lea.knows("Prefers short answers", "preference", key="length", value="short")
    page = opened(link_of(gateway, "lea"), viewport=PHONE)
    expect(page.get_by_text("Lives in Ghent")).to_be_visible()
    assert "mgl_" not in page.url
    assert faults_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shot(page, "own-page")
    page.get_by_role("button", name="Correct: Lives in Ghent").click()
    page.get_by_label("What is remembered").fill("Lives in Antwerp")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Lives in Antwerp")).to_be_visible()
    expect(page.get_by_text("by the person")).to_be_visible()
    page.get_by_role("button", name="Forget: Prefers short answers").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.get_by_text("Prefers short answers")).to_have_count(0)
    assert lea.facts() == ["Lives in Antwerp"]
    page.reload()  # the session holds without the link
    expect(page.get_by_text("Lives in Antwerp")).to_be_visible()


def test_a_person_takes_their_memory_along_and_resets_it(
    opened: Open, gateway: GatewayProcess, person: Callable[..., Person], tmp_path: Path
) -> None:
    noa = person("noa")
    noa.knows("Keeps bees")
    page = opened(link_of(gateway, "noa"))
    with page.expect_download() as saved:
        page.get_by_role("button", name="Take along").click()
    saved.value.save_as(tmp_path / "mine.ndjson")
    assert json.loads((tmp_path / "mine.ndjson").read_text())["text"] == "Keeps bees"
    reset = "Reset: forget everything about me"
    page.get_by_role("button", name=reset).click()
    page.get_by_role("dialog").get_by_role("button", name=reset).click()
    expect(page.get_by_role("heading", name="Erased")).to_be_visible()
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_text("nothing is left anywhere")).to_be_visible()
    assert noa.facts() == []


def test_the_page_of_one_person_shows_nothing_of_another_and_can_be_closed(
    opened: Open, gateway: GatewayProcess, person: Callable[..., Person]
) -> None:
    person("zoe").knows("Collects stamps")
    person("yan").knows("Collects coins")
    page = opened(link_of(gateway, "zoe"))
    expect(page.get_by_text("Collects stamps")).to_be_visible()
    assert "coins" not in page.content()
    page.get_by_role("button", name="Close this page").click()
    expect(page.get_by_text("This page is closed")).to_be_visible()
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("open the link")


def test_a_link_that_is_forged_opens_nothing(opened: Open, gateway: GatewayProcess) -> None:
    page = opened(link_of(gateway, "zoe")[:-4] + "aaaa")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("ask for a new one|not valid"))
