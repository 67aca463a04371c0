"""An approver who lives in the browser: the real pages of a real Prefect server, in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.lab.browser import CHROMIUM, Browser
from tests.lab.demo_site import REQUESTER, DemoSite
from tests.lab.prefect_stack import PrefectStack
from tests.prefectkit import ASHA, KIRAN, Desk

pytestmark = [
    pytest.mark.browser, pytest.mark.lab, pytest.mark.prefect,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Debian's chromium is not installed"),
]
TOO_WIDE = """box => [...box.querySelectorAll("*")]
    .filter(one => one.getBoundingClientRect().right > box.getBoundingClientRect().right)
    .map(one => one.tagName + ": " + one.innerText)"""


@pytest.fixture
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Desk:
    made = Desk(prefect, patch_site)
    made.old_packages("alpha")
    return made


@pytest.fixture
def browser(prefect: PrefectStack, tmp_path: Path) -> Iterator[Browser]:
    with Browser(prefect.url, tmp_path / "shots") as made:
        yield made


def test_approving_in_the_browser(desk: Desk, browser: Browser) -> None:
    flow_run = desk.wait(change_ref="CHG-7 see https://evil.example")
    form = browser.open_form(flow_run)
    browser.shot("plan")
    for text in ("1 of 4 hosts (25 %), selection alpha", "nobody yet", "1 of internal (change-manager)"):
        expect(form.get_by_text(text)).to_be_visible()
    said = form.inner_text()
    assert f"{REQUESTER} (claimed)" in said
    assert "CHG-7 see https://evil.example" in said
    assert "lab-web 1.1" in said
    assert form.get_by_role("link").count() == 0, "nothing that people or hosts say becomes a link"
    assert form.evaluate(TOO_WIDE) == [], "nothing is wider than the dialog"
    browser.choose(form, "approve")
    browser.fill(form, "Approval line", desk.line(flow_run))
    browser.fill(form, "Reason", "read and found good")
    browser.shot("filled")
    browser.send(form)
    assert desk.ended(flow_run) == ("Completed", "1 changed")
    browser.open_run(flow_run)
    browser.page.get_by_role("tab", name="Artifacts").click()
    expect(browser.page.get_by_text(f"Report of {desk.api.run(flow_run)['name']}")).to_be_visible()
    assert desk.records(flow_run)[-1].fields["state"] == "Completed"


def test_approving_without_the_line_is_not_taken_and_looking_again_says_what_is_missing(
    desk: Desk, browser: Browser
) -> None:
    flow_run = desk.wait()
    before = desk.api.run(flow_run)["state"]["id"]
    form = browser.open_form(flow_run)
    browser.choose(form, "approve")
    form.get_by_role("button", name="Resume").click()
    browser.page.wait_for_timeout(2000)
    expect(form).to_be_visible()
    browser.shot("approve-without-a-line")
    assert desk.api.run(flow_run)["state"]["id"] == before, "it had no tick, and the run was not woken"
    browser.choose(form, "look again")
    browser.send(form)
    desk.at_gate(flow_run, before)
    form = browser.open_form(flow_run)
    expect(form.get_by_text("The last answer did not open the gate")).to_be_visible()
    browser.choose(form, "approve")
    browser.fill(form, "Approval line", desk.line(flow_run, KIRAN))
    browser.send(form)
    assert desk.ended(flow_run) == ("Completed", "1 changed")


def test_a_form_without_a_decision_is_not_sent(desk: Desk, browser: Browser) -> None:
    flow_run = desk.wait()
    form = browser.open_form(flow_run)
    form.get_by_role("button", name="Resume").click()
    browser.page.wait_for_timeout(1000)
    expect(form).to_be_visible()
    browser.shot("refused")
    assert desk.api.run(flow_run)["state_name"] == "Suspended"
    browser.choose(form, "reject")
    browser.fill(form, "Reason", "not this week")
    browser.send(form)
    assert desk.ended(flow_run)[0] == "Rejected"
    assert "not this week" in desk.ended(flow_run)[1]
    assert desk.versions("alpha") == {"1.0"}
    answered = next(one for one in desk.records(flow_run) if one.kind == "answered")
    assert answered.fields["claimed"] == {"decision": "reject", "reason": "not this week"}


def test_starting_a_run_from_the_form(desk: Desk, browser: Browser) -> None:
    deployment = desk.api.post("deployments/name/patch-linux/all-weekly")["id"]
    browser.open_start(deployment)
    page = browser.page
    for text in ("an Ansible pattern", "your address, or the line", "the line of a signed request"):
        expect(page.get_by_text(text)).to_be_visible()
    browser.fill(page, "hosts", "alpha")
    browser.fill(page, "change_ref", "CHG-8")
    browser.fill(page, "requester", REQUESTER)
    browser.shot("start")
    flow_run = desk.at_gate(browser.submit())
    assert "CHG-8" in desk.form(flow_run)
    desk.approve(flow_run, ASHA)
    assert desk.ended(flow_run) == ("Completed", "1 changed")
