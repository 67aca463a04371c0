"""`lamplighter gate` and `lamplighter sign`, on a copy of the demo site with keys made here."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lamplighter.cli import main
from lamplighter.cli.gate import moment
from lamplighter.errors import SelectionError
from lamplighter.model.approval import read_statement
from lamplighter.model.envelope import read_line
from lamplighter.model.gate import Code, internal
from lamplighter.model.plan import HostPlan, Plan, Requester, Step
from tests.sshkit import Pair, keygen
from tests.storekit import store_line

DEMO = Path(__file__).parents[2] / "inventories" / "demo"
ASHA, PRIYA = "asha.patel@internal.example", "priya.nair@msp.example"
NOW = int(time.time())


class Desk:
    """A site, a plan and keys in a folder, and a command line."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.site, self.plan_file, self.store = folder / "demo", folder / "plan.json", folder / "store"
        shutil.copytree(DEMO, self.site)
        pairs = {ASHA: Pair(), PRIYA: Pair()}
        self.keys = {name: pair.write(folder / name.split(".")[0]) for name, pair in pairs.items()}
        self.site.joinpath("approvers").write_text("".join(
            f'{name} namespaces="lamplighter-approval@v1" {pair.public_line}\n'
            for name, pair in pairs.items()
        ))
        text = self.site.joinpath("site.yaml").read_text().splitlines(keepends=True)
        self.site.joinpath("site.yaml").write_text("".join(
            f"{store_line(self.store)}\n" if line.startswith("store:") else line for line in text
        ))
        self.plan = Plan(
            run="run-1", site="demo", runbook="patch-linux", owner="msp", change_type="normal",
            requester=Requester(PRIYA), selection="web", fleet=6, created=NOW, expires=NOW + 86400, code="0",
            nonce="n", gate=internal("change-manager"), waves=(("web1",),),
            hosts=(HostPlan("web1", "sha256:0", (Step("upgrade", "apt.upgrade", "upgrade"),)),),
        )
        self.plan_file.write_bytes(self.plan.to_bytes())

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        return int(caught.value.code or 0), out, err

    def sign(self, who: str = ASHA, *words: str | Path) -> Path:
        file = self.folder / f"line-{len(list(self.folder.glob('line-*')))}"
        code, _, err = self.run(
            "sign", self.plan_file, "--key", self.keys[who], "--site", self.site, "--out", file, *words
        )
        assert code == 0, err
        return file

    def gate(self, *lines: Path, more: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
        options = [word for line in lines for word in ("--approval", line)]
        code, out, err = self.run(
            "gate", "--site", self.site, "--plan", self.plan_file, *options, "--json", *more
        )
        return code, json.loads(out) if out else {"error": err}


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_signed_by_the_right_person_passes(desk: Desk) -> None:
    code, answer = desk.gate(desk.sign())
    assert (code, answer) == (0, {"passed": True, "needed": [], "signed": [ASHA], "refused": []})


def test_without_a_signature_it_does_not_pass(desk: Desk) -> None:
    code, answer = desk.gate()
    assert code == 1
    assert answer["needed"] == ["the signature of 1 internal person with the role change-manager"]


def test_the_other_party_does_not_pass_and_is_told_why(desk: Desk) -> None:
    line = desk.sign(PRIYA)
    name = read_statement(read_line(line.read_text()).statement).id
    code, answer = desk.gate(line)
    assert code == 1
    assert answer["refused"] == [{
        "approval": name, "reason": "requester",
        "why": f"{PRIYA} asked for this run, and nobody approves what they asked for",
    }]


def test_it_is_judged_as_of_a_time(desk: Desk) -> None:
    line, now = desk.sign(ASHA, "--valid-for", "10m"), int(time.time())
    assert desk.gate(line, more=["--at", str(now + 300)])[0] == 0
    code, answer = desk.gate(line, more=["--at", str(now + 900)])
    assert (code, answer["refused"][0]["reason"]) == (1, Code.EXPIRED)


def test_a_reject_wins(desk: Desk) -> None:
    reject = desk.sign(ASHA, "--decision", "reject", "--reason", "not this week")
    code, answer = desk.gate(desk.sign(), reject)
    assert code == 1
    assert "not this week" in answer["needed"][0]


def test_an_approval_used_for_another_plan(desk: Desk) -> None:
    line = desk.sign()
    name = read_statement(read_line(line.read_text()).statement).id
    used = desk.store / "approvals" / "used"
    used.mkdir(parents=True, mode=0o700)
    desk.store.chmod(0o700)
    used.joinpath(name).write_text("sha256:" + "0" * 64)
    code, answer = desk.gate(line)
    assert (code, [(one["approval"], one["reason"]) for one in answer["refused"]]) == (1, [(name, "used")])


def test_hostile_approval_files_are_judged(desk: Desk) -> None:
    good = desk.sign()
    for number, data in enumerate((b"", b"\xff\xfe", b"A" * 100_000, good.read_bytes() * 2)):
        bad = desk.folder / f"bad-{number}"
        bad.write_bytes(data)
        code, answer = desk.gate(bad)
        assert (code, [one["reason"] for one in answer["refused"]]) == (1, ["malformed"])
        assert desk.gate(good, bad)[0] == 0


def test_what_cannot_be_told_exits_2(desk: Desk) -> None:
    line = desk.sign()
    assert desk.gate(desk.folder / "none")[0] == 2
    assert desk.gate(line, more=["--at", "yesterday"])[0] == 2
    desk.plan_file.write_bytes(desk.plan.to_bytes() + b" ")
    code, answer = desk.gate(line)
    assert code == 2
    assert "canonical" in answer["error"]
    desk.plan_file.write_bytes(desk.plan.replace(site="elsewhere").to_bytes())
    assert "elsewhere" in desk.gate(line)[1]["error"]
    desk.plan_file.write_bytes(desk.plan.to_bytes())
    desk.site.joinpath("approvers").write_text("*@internal.example ssh-ed25519 AAAA\n")
    code, answer = desk.gate(line)
    assert code == 2
    assert "approvers:1" in answer["error"]


def test_people_read_it_too(desk: Desk) -> None:
    code, out, _ = desk.run(
        "gate", "--site", desk.site, "--plan", desk.plan_file, "--approval", desk.sign()
    )
    assert code == 0
    assert "the gate is open" in out
    assert ASHA in out


def test_sign_shows_what_is_signed_and_prints_the_line_alone(desk: Desk) -> None:
    code, out, err = desk.run(
        "sign", desk.plan_file, "--key", desk.keys[ASHA], "--site", desk.site, "--reason", "CHG-1"
    )
    assert code == 0
    assert desk.plan.digest in err
    assert "run-1" in err
    assert "1 of 6 hosts" in err
    statement = read_statement(read_line(out).statement)
    assert (statement.approver, statement.plan, statement.reason) == (ASHA, desk.plan.digest, "CHG-1")


def test_sign_spells_out_what_a_terminal_would_hide(desk: Desk) -> None:
    desk.plan_file.write_bytes(desk.plan.replace(change_ref="\x1b[2Jnothing to see").to_bytes())
    _, _, err = desk.run("sign", desk.plan_file, "--key", desk.keys[ASHA], "--site", desk.site)
    assert "\x1b" not in err
    assert "\\u001b[2Jnothing to see" in err


def test_sign_never_overwrites(desk: Desk) -> None:
    line = desk.sign()
    before = line.read_text()
    code, _, err = desk.run(
        "sign", desk.plan_file, "--key", desk.keys[ASHA], "--site", desk.site, "--out", line
    )
    assert code == 2
    assert "cannot be written" in err
    assert line.read_text() == before


def test_plain_openssh_makes_and_checks_the_inner_pair(desk: Desk) -> None:
    """The commands of docs/approvals.md."""
    envelope = read_line(desk.sign().read_text())
    desk.folder.joinpath("statement.sig").write_text(envelope.signature)
    done = keygen(
        "-Y", "verify", "-f", desk.site / "approvers", "-I", ASHA, "-n", "lamplighter-approval@v1",
        "-s", desk.folder / "statement.sig", stdin=envelope.statement,
    )
    assert b"Good" in done.stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("1800000000", 1800000000), ("2027-01-15T08:00:00Z", 1800000000),
     ("2027-01-15T13:30:00+05:30", 1800000000)],
)
def test_times(text: str, seconds: int) -> None:
    assert moment(text) == seconds


@pytest.mark.parametrize("text", ["", "now", "2027-01-15", "2027-01-15T08:00:00", "-1", "1e9"])
def test_times_that_could_mean_another_moment(text: str) -> None:
    with pytest.raises(SelectionError):
        moment(text)
