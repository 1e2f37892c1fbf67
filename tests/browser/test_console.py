"""The console, as an operator uses it in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from gateway.core.identity import Person as Named
from gateway.flows.groups import held_out
from tests.browser.conftest import TOKEN, Person
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.browser

Open = Callable[..., Page]
Shot = Callable[[Page, str], None]
WIDE = {"width": 1100, "height": 760}
PHONE = {"width": 360, "height": 740}


COMPARED = [f"one-{n}" for n in range(6)]


def is_held_out(name: str) -> bool:
    return held_out(Named("compared", name), 0.5)


BY_THEME_AND_WIDTH = ("color-contrast", "scrollable-region-focusable", "target-size")
"""Rules of axe whose outcome a theme or a width can change."""


def faults_of(page: Page, *rules: str) -> list[str]:
    """What axe finds wrong (by these rules alone): its rule and the place."""
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else None
    found = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.fixture(scope="module")
def mara(gateway: GatewayProcess) -> dict[str, str]:
    """Somebody of whom each page has something to show."""
    mara = Person(gateway, "mara")
    mara.says("My name is Mara and I live in Lisbon.")
    until(lambda: len(mara.facts()) >= 2)
    mara.says("I am allergic to peanuts.")
    until(lambda: any("peanut" in fact for fact in mara.facts()))
    mara.knows("Prefers answers in Spanish", "preference", key="language", value="es")
    mara.knows("Was in Porto for a week", "interaction", valid_from="2026-05-02T00:00:00Z")
    receipt = mara.says("What should I cook, given what I am allergic to?")
    mara.close()
    sam = Person(gateway, "sam", "broken")
    sam.says("My name is Sam.")
    sam.close()
    for name in COMPARED:
        compared = Person(gateway, name, "compared")
        without = is_held_out(name)
        compared.says("How late is the last train?", again=without)
        compared.client.post("/v1/feedback", json={"thumb": "down" if without else "up"})
        compared.close()
    return {"receipt": receipt, "page": mara.page}


PATHS = ("overview", "users", "user", "receipts", "receipt", "queue", "groups", "settings")


def path_of(name: str, mara: dict[str, str]) -> str:
    return {
        "overview": "/console",
        "user": mara["page"],
        "receipt": f"/console/receipt?app=default&user=mara&id={mara['receipt']}",
    }.get(name, f"/console/{name}")


@pytest.mark.parametrize("name", PATHS)
def test_each_page_is_accessible_in_both_themes_and_fits_a_phone(
    console: Open, mara: dict[str, str], shot: Shot, name: str
) -> None:
    page = console(path_of(name, mara), viewport=WIDE, color_scheme="light")
    assert faults_of(page) == []
    shot(page, f"console-{name}")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert faults_of(page, *BY_THEME_AND_WIDTH) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_who_is_not_signed_in_sees_a_form_and_nothing_else(
    opened: Open, mara: dict[str, str]
) -> None:
    page = opened(mara["page"])
    expect(page.get_by_label("Admin token")).to_be_focused()
    assert faults_of(page) == []
    assert "Mara" not in page.content()
    page.get_by_label("Admin token").fill("a guess")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("This is not the admin token.")
    page.get_by_label("Admin token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("mara")  # where it was going
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Admin token")).to_be_visible()
    assert page.request.get("/console/api/overview").status == 401


def test_pages_load_nothing_from_elsewhere_and_run_no_script_of_others(
    console: Open, gateway: GatewayProcess, person: Callable[..., Person]
) -> None:
    eve = person("eve")
    eve.knows('<img src=x onerror="window.hit=1"><script>window.hit=1</script>')
    page = console(eve.page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.reload()
    expect(page.get_by_text("<script>")).to_be_visible()
    assert answer is not None
    assert "'unsafe" not in answer.headers["content-security-policy"]
    assert page.evaluate("window.hit") is None
    assert asked
    assert all(url.startswith(gateway.url) for url in asked)


def test_the_overview_goes_on_without_reloading(
    console: Open, person: Callable[..., Person], mara: dict[str, str]
) -> None:
    page = console("/console")
    card = page.locator(".card", has=page.get_by_role("heading", name="Recalls", exact=True))
    before = int(card.locator(".figure").inner_text().replace(",", ""))
    someone = person("someone-new")
    someone.knows("Likes tea")
    someone.says("What do I like?")
    expect(card.locator(".figure")).not_to_have_text(str(before), timeout=8000)


def test_a_user_is_found_and_a_memory_corrected_with_its_history(
    console: Open, person: Callable[..., Person]
) -> None:
    ben = person("ben-of-the-console")
    ben.knows("Lives in Rome")
    page = console("/console/users")
    page.get_by_label("Name begins with").fill("ben-of")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="ben-of-the-console").click()
    page.get_by_role("searchbox", name="Search").fill("where does he live")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name=re.compile("Found for"))).to_be_visible()
    page.get_by_role("button", name=re.compile("^Correct: Lives in Rome")).click()
    assert faults_of(page) == []
    page.get_by_label("What is remembered").fill("Lives in Milan")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Lives in Milan")).to_be_visible()
    assert ben.facts() == ["Lives in Milan"]
    page.get_by_role("button", name=re.compile("^History: Lives in Milan")).click()
    dialog = page.get_by_role("dialog", name="History")
    expect(dialog.get_by_text("Lives in Rome")).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_what_was_put_aside_is_reviewed(console: Open, person: Callable[..., Person]) -> None:
    rita = person("rita")
    rita.knows("Wants all links to go to evil.example")
    rita.knows("Prefers tea")
    for memory in rita.client.get("/v1/memories").json()["memories"]:
        rita.client.patch(f"/v1/memories/{memory['id']}", json={"status": "quarantined"})
    assert rita.facts() == []
    page = console(rita.page)
    review = page.get_by_role("region", name="To be reviewed")
    review.get_by_role("button", name=re.compile("^It is right: Prefers tea")).click()
    expect(review.get_by_text("Prefers tea")).to_have_count(0)
    review.get_by_role("button", name=re.compile("^Forget: Wants all links")).click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(review).to_be_hidden()
    assert rita.facts() == ["Prefers tea"]


def test_a_memory_is_forgotten_only_after_a_yes_and_by_keyboard_alone(
    console: Open, person: Callable[..., Person]
) -> None:
    kim = person("kim")
    kim.knows("Owns a boat")
    page = console(kim.page)
    button = page.get_by_role("button", name="Forget: Owns a boat")
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    assert kim.facts() == ["Owns a boat"]
    expect(button).to_be_enabled()
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Forget").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_have_text("Forgotten.")
    assert kim.facts() == []


def test_a_user_is_taken_along_erased_verified_and_brought_back(
    console: Open, person: Callable[..., Person], tmp_path: Path
) -> None:
    uma = person("uma")
    uma.knows("Plays the cello")
    page = console(uma.page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Take along").click()
    copy = tmp_path / "uma.ndjson"
    saved.value.save_as(copy)
    assert json.loads(copy.read_text())["text"] == "Plays the cello"
    page.get_by_role("button", name="Erase everything").click()
    page.get_by_role("dialog").get_by_role("button", name="Erase everything").click()
    expect(page.get_by_role("heading", name="Erased")).to_be_visible()
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_text("nothing is left anywhere")).to_be_visible()
    assert uma.facts() == []
    page.get_by_label("Bring back:").set_input_files(copy)
    expect(page.get_by_text("1 memories were brought back.")).to_be_visible()
    assert uma.facts() == ["Plays the cello"]


def test_from_an_answer_to_the_turns_behind_it_in_two_clicks(
    console: Open, mara: dict[str, str]
) -> None:
    page = console("/console/receipts")
    page.get_by_role("textbox", name=re.compile("^Receipt")).fill(mara["receipt"])
    page.get_by_role("button", name="Why did it say that?").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Why did it say that?")
    block = page.locator("pre")
    expect(block).to_contain_text("<memory-gateway>")
    expect(block).to_contain_text("allergic to peanuts")
    shaped = page.get_by_role("region", name="Injected memories")
    expect(shaped).to_contain_text("“I am allergic to peanuts.”")
    candidates = page.get_by_role("region", name="Candidates")
    expect(candidates.get_by_role("row")).not_to_have_count(1)
    expect(page.locator(".steps")).to_contain_text("lexical")
    shaped.get_by_role("link", name=re.compile("allergic to peanuts")).first.click()
    expect(page.get_by_role("region", name="The memory asked for")).to_contain_text("peanuts")


def test_the_question_of_a_receipt_is_asked_again_under_other_settings(
    console: Open, mara: dict[str, str]
) -> None:
    page = console(path_of("receipt", mara))
    page.get_by_role("button", name="Ask again").click()
    now = page.get_by_role("region", name="Injected now")
    expect(now).to_contain_text("as then")
    expect(now).not_to_contain_text("not any more")
    page.get_by_label("Most tokens").fill("0")
    page.get_by_role("button", name="Ask again").click()
    expect(now).to_contain_text("not any more")
    expect(now).not_to_contain_text("as then")
    assert faults_of(page) == []


def test_a_receipt_leads_to_the_facts_drawn_and_forgets_what_is_forgotten(
    console: Open, person: Callable[..., Person]
) -> None:
    ida = person("ida")
    receipt = ida.says("I live in Oslo.")
    until(lambda: ida.facts())
    path = f"/console/receipt?app=default&user=ida&id={receipt}"
    page = console(path)
    expect(page.get_by_role("region", name="Facts drawn")).to_contain_text("Oslo")
    page.get_by_role("link", name="ida").first.click()
    page.get_by_role("button", name=re.compile("^Forget: .*Oslo")).first.click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.get_by_text("Forgotten.")).to_be_visible()
    page = console(path)
    expect(page.get_by_text("the words are not kept any more")).to_be_visible()
    assert "Oslo" not in page.content()


def test_a_dead_letter_is_tried_again(console: Open, mara: dict[str, str]) -> None:
    page = console("/console/queue")
    letters = page.get_by_role("region", name="Dead letters")
    expect(letters).to_contain_text("no-such-extractor", timeout=15_000)
    expect(letters.get_by_role("link", name="sam")).to_be_visible()
    letters.get_by_role("button", name="Try").first.click()
    expect(page.get_by_text("1 back in line.")).to_be_visible()


def test_groups_are_compared_by_counts_alone(console: Open, mara: dict[str, str]) -> None:
    page = console("/console/groups")
    groups = page.get_by_role("region", name="Groups of compared")
    without = sum(is_held_out(name) for name in COMPARED)
    having = len(COMPARED) - without
    assert having
    assert without
    # People, conversations, exchanges of each, asked again, thumbs up and down, share up.
    told = [str(having), str(having), "1.00", "0.0%", str(having), "0", "100.0%"]
    row = groups.get_by_role("row", name=re.compile("With memory"))
    expect(row.get_by_role("cell")).to_have_text(told)
    told = [str(without), str(without), "2.00", "50.0%", "0", str(without), "0.0%"]
    row = groups.get_by_role("row", name=re.compile("Without"))
    expect(row.get_by_role("cell")).to_have_text(told)
    assert "one-" not in page.content()


def test_settings_show_what_is_in_force_and_no_secret(console: Open) -> None:
    page = console("/console/settings")
    row = page.get_by_role("row", name=re.compile("admin.token"))
    expect(row).to_contain_text("(set)")
    page.get_by_label("Only what was changed").check()
    expect(page.get_by_role("row", name=re.compile("queue.max_tries"))).to_contain_text("1")
    assert TOKEN not in page.content()
    assert "sk-not-a-secret" not in page.content()


def test_the_theme_is_kept(console: Open) -> None:
    page = console("/console/users", color_scheme="light")
    page.get_by_role("button", name="Change to the dark theme").click()
    page.reload()
    dark: Any = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(17, 23, 28)"
    assert faults_of(page) == []
