"""`lamplighter matrix`, `calendar`, `promote`, `demote`: as a new user tries them on the demo site."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import icalendar
import pytest

from lamplighter.cli import main
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import sha256
from tests.storekit import a_store, store_line

ROOT = Path(__file__).parents[2]
ASHA, KIRAN = "asha.patel@internal.example", "kiran.shah@internal.example"
PRIYA = "priya.nair@msp.example"


class Place:
    """The demo site with keys of its own and an empty store."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "sites" / "demo"))
        self.store = a_store(tmp_path / "store")
        self.keys = {}
        lines = []
        for person in (ASHA, KIRAN, PRIYA):
            key = tmp_path / person.split(".", maxsplit=1)[0]
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)]
            subprocess.run(command, check=True)
            lines.append(f'{person} namespaces="lamplighter-*" {key.with_suffix(".pub").read_text().strip()}')
            self.keys[person] = str(key)
        (self.folder / "approvers").write_text("\n".join(lines) + "\n")
        self.edit("site.yaml", r"store: file:.*", store_line(tmp_path / "store"))

    def edit(self, name: str, pattern: str, new: str) -> None:
        path = self.folder / name
        text, count = re.subn(pattern, new, path.read_text(), count=1)
        assert count
        path.write_text(text)

    def run(self, run: str, state: str, *, ill: bool = False, drifted: bool = False) -> None:
        """One sealed run over two hosts."""
        with Ledger.open(self.store, run, "demo") as ledger:
            ledger.append("opened", site="demo", runbook="patch-linux")
            ledger.append("planned", plan=sha256(b"x"))
            if ill:
                ledger.append("verified", host="web1", problems=["nginx is down"])
            ledger.append("host", host="web1", terminal="failed" if ill else "changed", message="m", wave=1)
            other = "drifted" if drifted else "changed"
            ledger.append("host", host="web2", terminal=other, message="m", wave=2)
            ledger.seal(state, counts={})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(made.folder.parent))
    monkeypatch.setenv("LAMPLIGHTER_HOME", str(ROOT))
    return made


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    printed = capsys.readouterr()
    assert (ended.value.code or 0) == code, printed.err
    return printed.out + printed.err


@pytest.mark.usefixtures("place")
def test_the_matrix_at_a_glance(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "matrix", "demo")
    line = r"patch-management +msp +internal +shadow +patch-linux +1 of internal \(change-manager\)"
    assert re.search(line, text)
    assert "patch-management is shadow, and not supervised as declared: internal IT has signed no" in text
    rows = {row["function"]: row for row in json.loads(told(capsys, "matrix", "demo", "--json"))}
    assert rows["architecture"]["stage"] == "internal"
    assert rows["patch-management"]["escalation"][-1] == {"after": "4 h", "to": [ASHA]}
    assert rows["patch-management"]["minutes_per_target"] == 25


def test_the_calendar_as_text_json_and_file(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "calendar", "demo", "--days", "400")
    assert "saturday-night" in text
    assert "frozen by" in text
    kinds = {row["kind"] for row in json.loads(told(capsys, "calendar", "demo", "--json", "--days", "400"))}
    assert kinds == {"run", "window", "freeze", "holiday"}
    file = icalendar.Calendar.from_ical(told(capsys, "calendar", "demo", "--ics"))
    names = {str(event["SUMMARY"]) for event in file.walk("VEVENT")}
    assert "window: saturday-night" in names
    assert "run: patch-linux/all-weekly" in names
    place.edit("site.yaml", 'cron: "30 10', 'active: false, cron: "30 10')
    assert "run: patch-linux/all-weekly" not in told(capsys, "calendar", "demo", "--ics"), "switched off"
    assert "exclude each other" in told(capsys, "calendar", "demo", "--ics", "--json", code=2)
    (place.folder / "calendar.yaml").unlink()
    place.edit("site.yaml", r"(?s)deployments:.*?\n\n#", "deployments: []\n\n#")
    assert "hosts may be changed at any time" in told(capsys, "calendar", "demo")


def test_a_promotion_shows_the_evidence_and_takes_a_signature(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.run("patch-linux-1", "Completed", drifted=True)
    place.run("patch-linux-2", "Halted", ill=True)
    shown = told(capsys, "promote", "patch-management")
    assert "1 Completed, 1 Halted" in shown
    assert "2 of 4 hosts that were to be changed (50 %)" in shown
    assert re.search(r"Halted runs +patch-linux-2\n", shown)
    evidence = json.loads(told(capsys, "promote", "patch-management", "--json"))
    assert (evidence["drifted"], evidence["ill"], evidence["since"]) == (1, 1, 0)

    signed = told(
        capsys, "promote", "patch-management", "--to", "delegated", "--key", place.keys[ASHA], "--yes",
        "--reason", "two months without surprises",
    )
    assert "patch-management at demo is supervised now: declared in responsibilities.yaml" in signed
    assert "declare that stage in responsibilities.yaml as well" in signed
    place.edit("responsibilities.yaml", "stage: supervised", "stage: delegated")
    rows = {row["function"]: row for row in json.loads(told(capsys, "matrix", "demo", "--json"))}
    row = rows["patch-management"]
    assert (row["stage"], row["why"]) == ("delegated", f"decided by {ASHA}")
    assert "so far" not in told(capsys, "promote", "patch-management"), "counted since the decision"
    keys = [key.rpartition("/")[2].partition("-")[0] for key in place.store.list("stages/patch-management/")]
    assert keys == ["decision", "evidence"]

    taken = told(capsys, "demote", "patch-management", "--reason", "an audit is under way")
    assert "patch-management at demo is shadow now: an audit is under way" in taken


def test_only_internal_it_promotes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("promote", "patch-management", "--to", "delegated", "--yes", "--key")
    text = told(capsys, *words, place.keys[PRIYA], code=2)
    assert "the decision does not count: wrong-party" in text
    assert "Nothing was kept" in text
    assert list(place.store.list("stages/patch-management/")) == []


def test_a_record_that_was_edited_is_no_evidence(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("patch-linux-1", "Completed")
    ledger = place.store.root / "runs" / "patch-linux-1" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"changed"', b'"failed"', 1))
    assert "patch-linux-1" in told(capsys, "promote", "patch-management", code=2)


@pytest.mark.usefixtures("place")
def test_names_that_are_wrong_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean `patch-management`?" in told(capsys, "promote", "patch-mangement", code=2)
    assert "needs a reason" in told(capsys, "demote", "patch-management", "--reason", " ", code=2)


def test_check_tells_what_is_stale(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.edit("responsibilities.yaml", "review_by: 2028-03-31", "review_by: 2020-01-01")
    text = told(capsys, "check", "demo", code=1)
    assert "`patch-management` was to be reviewed by 2020-01-01" in text


def test_in_stage_internal_nothing_is_previewed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.edit("responsibilities.yaml", "stage: supervised", "stage: internal")
    text = told(capsys, "plan", "patch-linux", code=1)
    assert "the MSP's runs refuse" in text
    assert "Nothing was looked at" in text
