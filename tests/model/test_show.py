"""What people read: hostile text stays text, hosts alike are one row, nothing is left out silently."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamplighter.engine.run import Ending
from lamplighter.model.gate import Code, Gate, GateResult, Requirement, internal
from lamplighter.model.outcome import HostOutcome, RunState, Terminal
from lamplighter.model.party import Party
from lamplighter.model.plan import HostPlan, Requester
from lamplighter.model.quorum import needs
from lamplighter.model.refusal import in_words
from lamplighter.model.show import (
    MAX_HOSTS,
    MAX_ROWS,
    escape,
    gate_page,
    plan_page,
    report_page,
    share,
)
from tests.plankit import a_plan, a_step, changed, still

ASHA = "asha.patel@internal.example"
HOSTILE = (
    "<img src=x onerror=alert(1)> | `x` [click](https://evil.example) **b** \x1b[2J \u202eabc\n# head\r\n---"
)


def bare(markdown: str) -> str:
    """The text with every escaped character taken out, and every place where a line may be broken."""
    return re.sub(r"\\.", "", markdown.replace("<wbr>", " "))


@given(st.text())
@example(HOSTILE)
@example("sha256:<b>")
@example("\\|")
@example("_https://evil.example")
@example("xhttps://evil.example")
@example("éwww.evil.example")
def test_escaped_text_is_inert_in_a_table_cell(text: str) -> None:
    cell = escape(text)
    assert "\n" not in cell
    assert not set(bare(cell)) & set("<|`[]*_#~")
    assert not re.search(r"(?i)(https?|ftp):|www\.", bare(cell))
    assert all(char.isprintable() for char in cell)


def hostile_plan() -> HostPlan:
    return HostPlan(
        "web1", "f", (a_step("upgrade", HOSTILE, HOSTILE),), notes=(HOSTILE, "sha256:" + HOSTILE)
    )


@pytest.mark.parametrize("where", ["change_ref", "selection", "requester", "runbook", "site"])
def test_a_page_of_hostile_text_has_no_markup_of_its_own(where: str) -> None:
    for text in (HOSTILE, f"sha256:{HOSTILE}"):
        value = Requester(text) if where == "requester" else text
        page = plan_page(a_plan((hostile_plan(), still("db1", HOSTILE)), **{where: value}), "UTC")
        assert "<img" not in page
        assert "](http" not in bare(page)
        assert "https:" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        for line in page.splitlines():
            assert not line.startswith("# head")
            if line.startswith("|"):
                assert bare(line).count("|") in {3, 4, 5}, line


@pytest.mark.parametrize("code", Code)
def test_every_refusal_has_words(code: Code) -> None:
    assert in_words(code, ASHA, a_plan((changed("a"),))).strip()
    assert "{" not in in_words(code, "", a_plan((changed("a"),)))


def test_what_came_to_the_gate_is_shown_and_inert() -> None:
    result = GateResult(
        passed=False, needed=("the signature of 1 of internal",), signed=("asha",),
        refused=((HOSTILE, Code.MALFORMED),),
    )
    page = gate_page(a_plan((changed("a"),)), "UTC", result, 2)
    assert "The last answer did not open the gate" in page
    assert "asha" in page
    assert "malformed" in page
    assert "<img" not in page
    assert "The last answer" not in gate_page(a_plan((changed("a"),)), "UTC", result, 1)


def test_hosts_that_get_the_same_are_one_row() -> None:
    same = [changed(f"web{number}", a_step("upgrade", "openssl 1 to 2", "downgrade")) for number in range(30)]
    other = changed("db1", a_step("upgrade", "openssl 1 to 3"))
    waves = (("web0",), tuple(f"web{number}" for number in range(1, 30)), ("db1",))
    page = plan_page(a_plan((*same, other), waves), "UTC")
    rows = [line for line in page.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 3
    assert rows[1].count("<br>") == 28
    assert "web29" in rows[1]
    assert "(cannot be undone)" in rows[2]
    assert "undo: downgrade" in rows[1]


def test_the_head_says_what_an_approver_has_to_know() -> None:
    plan = a_plan((changed("a", a_step("reboot", "reboot")), still("b")), fleet=20, change_ref="CHG-1")
    page = plan_page(plan, "UTC")
    for part in (
        "normal, CHG-1", "priya (claimed)", "1 of 20 hosts (5 %)", "1 wave: a", "sim.reboot",
        "1970-01-01 00:33 UTC", plan.digest[:39], plan.digest[39:], "1 of internal (change-manager)",
    ):
        assert escape(part) in page, part


def test_hosts_left_alone_are_listed_up_to_a_limit_and_the_rest_counted() -> None:
    page = plan_page(a_plan(tuple(still(f"h{number}") for number in range(MAX_HOSTS + 7))), "UTC")
    assert page.count("up to date") == MAX_HOSTS
    assert "7 more" in page


def test_a_report_shows_trouble_first_and_says_what_it_leaves_out() -> None:
    ends = [HostOutcome(f"h{number}", Terminal.CHANGED, "done", 1) for number in range(MAX_ROWS + 5)]
    ends[-1] = HostOutcome("last", Terminal.FAILED, HOSTILE, 2)
    page = report_page("run-1", a_plan((changed("h0"),)), "UTC", Ending(RunState.FAILED, "x", tuple(ends)))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert "last" in rows[1]
    assert "5 more" in page
    assert "<img" not in page
    assert "1004 changed, 1 failed" in page


def test_a_report_without_a_plan() -> None:
    ending = Ending(RunState.FAILED, "no hosts. the selection names nothing", ())
    assert "the selection names nothing" in report_page("run-1", None, "UTC", ending)


def test_gates_in_words() -> None:
    assert needs(internal("change-manager")) == "1 of internal (change-manager)"
    both = Gate((Requirement(Party.INTERNAL, ("a", "b"), 2), Requirement(Party.MSP)))
    assert needs(both) == "2 of internal (a or b) and 1 of msp"
    assert needs(Gate(())) == "nobody can open it"


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_shares(part: int, whole: int) -> None:
    assert share(part, whole).startswith(f"{part} of {whole} hosts")
