"""Free text that redraws the approver's terminal: control characters clear it and paint a harmless plan.

A run that was opened by a version that did not refuse such text, or by a worker in hostile hands, must
still be read safely; what a host says is hostile at any time.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamplighter.engine.opening import Wanted, open_request
from lamplighter.errors import SelectionError
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import sha256
from lamplighter.model.plan import Requester
from lamplighter.site import load_site
from lamplighter.worker import spell_out_logs
from tests.answerkit import Place, places
from tests.enginekit import PRIYA, RUNBOOK, SITE, Bump

CLEAR = "\x1b[2J\x1b[H"
HOSTILE = f"{CLEAR}\x9b2J\u202egnihton\u2066\u200b\x07\x08\x0d\x7f\U000e0041[red]nothing to do[/]"
COMMANDS: dict[str, tuple[str, ...]] = {
    "runs": (), "show": ("RUN",), "show json": ("RUN", "--json"), "runs json": ("--json",),
    "approve": ("RUN", "--key", "KEY", "--yes"), "reject": ("RUN", "--key", "KEY", "--reason", "no"),
    "review": ("RUN", "--key", "KEY"), "verify": ("RUN",), "verify site": ("--site", SITE), "sla": (),
    "notifications": (), "sign": ("PLAN", "--key", "KEY", "--site", "SITE"), "resume": ("RUN",),
    "gate": ("--site", "SITE", "--plan", "PLAN"), "matrix": (SITE,), "check": (SITE,), "replan": ("RUN",),
    "revoke": ("RUN", "--key", "KEY"),
}


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    yield from places(tmp_path, monkeypatch, capsys)


def hidden(text: str) -> list[str]:
    """Characters that a terminal obeys, hides or reorders by."""
    return [
        hex(ord(char)) for char in text
        if char != "\n" and unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    ]


def hostile_run(place: Place, run: str = "bump-1", *, ended: bool = False) -> None:
    """A run in which every text that anybody could choose is hostile, written past all that refuses it."""
    lab = place.lab
    with lab.run("model", requester=PRIYA) as one:
        plan = one.make_plan(one.survey())
    step = replace(plan.hosts[0].steps[0], summary=HOSTILE, undo=HOSTILE)
    hosts = (replace(plan.hosts[0], steps=(step,), notes=(HOSTILE,), reach=HOSTILE), *plan.hosts[1:])
    bad = plan.replace(
        run=run, change_ref=HOSTILE, selection=HOSTILE, hosts=hosts, requester=Requester(PRIYA),
        window=replace(plan.window, override=HOSTILE), options={"target": HOSTILE},
    )
    data = bad.to_bytes()
    digest = sha256(data)
    lab.store.put_new(f"plans/{digest.removeprefix('sha256:')}.json", data)
    with Ledger.open(lab.store, run, SITE) as ledger:
        ledger.append(
            "opened", site=SITE, runbook=RUNBOOK.id, owner="msp", requester=PRIYA, known="claimed",
            selection=HOSTILE, change_ref=HOSTILE, options={"target": HOSTILE}, code="0", emergency=False,
            request="", override=HOSTILE, due=0, replans="", flow_run="",
        )
        ledger.append("facts", host="a", relevant={"version": HOSTILE}, bound={})
        ledger.append("planned", plan=digest, hosts=2, waves=1)
        ledger.append("asked", number=1, plan=digest)
        claimed = {"decision": "approve", "reason": HOSTILE}
        ledger.append("answered", number=1, approvals=[HOSTILE], claimed=claimed)
        ledger.append("gate", passed=False, plan=digest, signed=[], refused=[[HOSTILE, "malformed"]],
                      approvals=[], against=[])
        ledger.append("host", host="a", terminal="failed", message=HOSTILE, wave=1)
        if ended:
            ledger.append("halted", state="Halted", why=HOSTILE)
            ledger.seal("Halted", counts={})


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(place: Place, command: str, *, ended: bool) -> None:
    place.lab.forged = True
    hostile_run(place, ended=ended)
    plan = next((place.lab.folder / "store" / "plans").glob("*.json"))
    names = {"RUN": "bump-1", "KEY": place.keys["asha.patel@internal.example"], "PLAN": plan,
             "SITE": place.lab.path}
    said = place.say(command.split(maxsplit=1)[0], *(names.get(word, word) for word in COMMANDS[command]))
    assert not hidden(said.out + said.err)
    if command in {"show", "approve"} and not ended:
        assert "\\u001b[2J" in said.out + said.err, "it is shown, spelled out"


@pytest.mark.parametrize("field", ["hosts", "change_ref", "override", "replans", "deliver_to"])
@pytest.mark.parametrize("text", ["x\x1b[2J", "x\u202ex", "x\x9b", "x\u200bx", "x\nx"])
def test_a_run_with_such_a_text_does_not_start(place: Place, field: str, text: str) -> None:
    known: dict[str, Any] = {} if field == "deliver_to" else {field: text}
    wanted = Wanted("bump-1", RUNBOOK, Bump(), requester=PRIYA, parameters={field: text}, **known)
    with pytest.raises(SelectionError, match=f"cannot be seen: {field}: x") as caught:
        open_request(wanted, load_site(place.lab.path), place.lab.store, int(place.lab.clock.time()))
    assert not hidden(str(caught.value))


def test_a_demotion_needs_a_reason_that_can_be_read(place: Place) -> None:
    place.real_matrix()
    said = place.say("demote", "patch-management", "--reason", f"x{CLEAR}")
    assert said.code != 0
    assert not hidden(said.out + said.err)


def test_a_log_line_shows_what_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        spell_out_logs()
        logging.getLogger("x").warning("from a host: %s", HOSTILE)
    finally:
        logging.setLogRecordFactory(before)
    assert not hidden(caplog.text)
    assert "\\u001b[2J" in caplog.text
