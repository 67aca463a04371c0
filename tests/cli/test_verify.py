"""`lamplighter verify` and `lamplighter witness` on a real store, with real keys and signatures."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamplighter.cli import main
from lamplighter.engine.run import drop_line, plan_key
from lamplighter.ledger import Ledger
from lamplighter.model.approval import Decision
from lamplighter.model.gate import internal
from lamplighter.model.plan import HostPlan, Plan, Requester, Step
from lamplighter.signing import Wish, approve_line
from tests.storekit import a_store, store_line

ROOT = Path(__file__).parents[2]
ASHA, PRIYA = "asha.patel@internal.example", "priya.nair@msp.example"


class Place:
    """The demo site with keys of its own, and a store with sealed runs."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "sites" / "demo"))
        self.root = tmp_path / "store"
        self.keys = {}
        lines = []
        for person in (ASHA, PRIYA):
            key = tmp_path / person.split(".", maxsplit=1)[0]
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True
            )
            lines.append(f'{person} namespaces="lamplighter-*" {key.with_suffix(".pub").read_text().strip()}')
            self.keys[person] = key
        (self.folder / "approvers").write_text("\n".join(lines) + "\n")
        text = (self.folder / "site.yaml").read_text()
        (self.folder / "site.yaml").write_text(
            text.replace("store: file:~/.local/state/lamplighter/demo", store_line(self.root))
        )
        self.store = a_store(self.root)

    def run(self, run: str, approver: str = ASHA, then: Callable[[Ledger, Plan], None] | None = None) -> Plan:
        """One sealed run that changed one host."""
        now = int(time.time())
        plan = Plan(
            run=run, site="demo", runbook="patch-linux", owner="msp", change_type="normal",
            requester=Requester("schedule:weekly", "schedule"), selection="web1", fleet=6, created=now,
            expires=now + 3600, code="0", nonce=run, gate=internal("change-manager"), waves=(("web1",),),
            hosts=(HostPlan("web1", "f", (Step("upgrade", "apt.install", "upgrade"),)),),
        )
        self.store.put_new(plan_key(plan.digest), plan.to_bytes())
        line = approve_line(plan.to_bytes(), Wish(approver), self.keys[approver], now)
        with Ledger.open(self.store, run, "demo") as ledger:
            ledger.append("opened", site="demo")
            ledger.append("planned", plan=plan.digest)
            ledger.append("answered", number=1, approvals=[line], claimed={})
            ledger.append("gate", passed=True, plan=plan.digest, signed=[approver], refused=[])
            ledger.append("wave-started", wave=1, hosts=["web1"])
            ledger.append("intent", host="web1", step="upgrade")
            if then:
                then(ledger, plan)
            ledger.append("outcome", host="web1", step="upgrade", result="ok", interrupted=False)
            ledger.append("host", host="web1", terminal="changed", message="m", wave=1)
            ledger.append("wave-ended", wave=1, counts={"changed": 1})
            ledger.seal("Completed", counts={"changed": 1})
        return plan

    def ledger(self, run: str) -> Path:
        return self.root / "runs" / run / "ledger.jsonl"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(tmp_path / "sites"))
    monkeypatch.chdir(ROOT)
    made = Place(tmp_path)
    for number in range(3):
        made.run(f"patch-linux-{number}")
    return made


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    def run(*words: str | Path) -> tuple[int, Any]:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, words), "--json"])
        out = capsys.readouterr().out
        code = ended.value.code
        return code if isinstance(code, int) else 0, json.loads(out) if out.strip() else None
    return run


def codes(answer: Any) -> list[tuple[str, int]]:
    found = [(one["code"], one["record"]) for run in answer["runs"] for one in run["problems"]]
    return found + [(one["code"], one["seal"]) for one in answer["chain"]["problems"]]


Call = Callable[..., tuple[int, Any]]


def test_a_sound_store_verifies_with_and_without_the_site(place: Place, call: Call) -> None:
    code, answer = call("verify", "--site", "demo")
    assert (code, codes(answer), answer["signatures"]) == (0, [], True)
    assert [(run["run"], run["records"], run["state"]) for run in answer["runs"]] == [
        (f"patch-linux-{number}", 10, "Completed") for number in range(3)
    ]
    assert answer["chain"]["seals"] == 3
    code, answer = call("verify", place.root)
    assert (code, answer["signatures"], answer["site"]) == (0, False, "demo")


def test_a_person_reads_the_verdict(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = place.ledger("patch-linux-1")
    path.write_bytes(path.read_bytes().replace(b"web1", b"web2", 1))
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(place.root)])
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert "record 5: edited: the record's content is not what its hash says" in out
    assert "site chain: 3 seals, witnessed by nobody" in out
    assert "NOT SOUND" in out


def test_an_approval_by_the_wrong_party_is_found(place: Place, call: Call) -> None:
    place.run("patch-linux-9", approver=PRIYA)
    code, answer = call("verify", "--site", "demo")
    assert code == 1
    assert codes(answer) == [("gate-closed", 4), ("gate-closed", 5), ("gate-closed", 6)]
    assert "change-manager" in answer["runs"][3]["problems"][2]["message"]


def test_a_revoke_counts_from_its_day_and_not_before(place: Place, call: Call) -> None:
    """Signed a second after the host was touched: then it was approved. A day before: then it was not."""
    def revoke(when: int) -> Callable[[Ledger, Plan], None]:
        def drop(_: Ledger, plan: Plan) -> None:
            wish = Wish(ASHA, Decision.REVOKE)
            line = approve_line(plan.to_bytes(), wish, place.keys[ASHA], int(time.time()) + when)
            drop_line(place.store, plan.digest, line)
        return drop

    place.run("patch-linux-7", then=revoke(+1))
    assert call("verify", "--site", "demo")[0] == 0
    place.run("patch-linux-8", then=revoke(-86400))
    code, answer = call("verify", "--site", "demo")
    assert code == 1
    assert ("gate-closed", 6) in codes(answer)


def test_what_was_removed_is_missed(place: Place, call: Call) -> None:
    shutil.rmtree(place.root / "runs" / "patch-linux-1")
    assert codes(call("verify", place.root)[1]) == [("run-gone", 2)]


def test_a_run_that_lost_its_end_is_missed(place: Place, call: Call) -> None:
    path = place.ledger("patch-linux-1")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    answer = call("verify", place.root)[1]
    assert codes(answer) == [("run-differs", 2)]
    assert "sealed with 10 records; 9 verify now" in answer["chain"]["problems"][0]["message"]


def test_a_plan_that_was_exchanged_is_found(place: Place, call: Call) -> None:
    path = next((place.root / "plans").iterdir())
    path.write_bytes(path.read_bytes().replace(b"upgrade", b"destroy"))
    assert "plan-differs" in [code for code, _ in codes(call("verify", place.root)[1])]


def test_a_crashed_run_is_open_and_no_problem(place: Place, call: Call) -> None:
    with Ledger.open(place.store, "patch-linux-5", "demo") as ledger:
        ledger.append("opened")
        ledger.append("facts", host="a", relevant={}, bound={})
    with place.ledger("patch-linux-5").open("ab") as file:
        file.write(b'{"half":"a record')
    code, answer = call("verify", place.root)
    assert code == 0
    assert answer["runs"][3]["state"] is None
    assert "unfinished record" in answer["runs"][3]["notes"][0]


def test_a_witness_fixes_the_past(
    place: Place, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting every trace of the last run out of the store is found by what was kept elsewhere."""
    kept = tmp_path / "kept"
    code, answer = call("witness", "--site", "demo", "--key", place.keys[ASHA], "--out", kept)
    assert (code, answer["seal"], answer["party"]) == (0, 3, "internal")
    assert kept.read_text().strip() == answer["line"]
    code, answer = call("verify", "--site", "demo", "--witness", kept)
    assert (code, answer["chain"]["witnessed"]) == (0, {"internal": 3, "msp": 0})
    for path in ("runs/patch-linux-2", "seals/00000003", "live/seals-end", "witness"):
        target = place.root / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    code, answer = call("verify", "--site", "demo")
    assert (code, codes(answer)) == (1, [("cut-back", 3)]), "this machine saw more"
    monkeypatch.setenv("LAMPLIGHTER_NOTES", str(tmp_path / "another machine"))
    code, answer = call("verify", "--site", "demo")
    assert (code, answer["chain"]["confirmed_outside"]) == (0, 0), "elsewhere the chain just ends earlier"
    code, answer = call("verify", "--site", "demo", "--witness", kept)
    assert (code, codes(answer)) == (1, [("cut-back", 3)])
    place.run("patch-linux-2-forged")
    code, answer = call("verify", "--site", "demo", "--witness", kept)
    assert (code, codes(answer)) == (1, [("rewritten", 3)])


def test_cutting_back_the_sites_chain_alone_is_found_without_a_witness(place: Place, call: Call) -> None:
    (place.root / "seals/00000003").unlink()
    found = codes(call("verify", place.root)[1])
    assert ("cut-back", 3) in found
    assert ("not-in-chain", 2) in found


def test_a_store_that_is_not_sound_is_not_witnessed(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place.root / "runs" / "patch-linux-1")
    with pytest.raises(SystemExit) as ended:
        main(["witness", "--site", "demo", "--key", str(place.keys[ASHA])])
    assert ended.value.code == 1
    assert "nothing was signed" in capsys.readouterr().out
    assert not (place.root / "witness").exists()


def test_forged_witness_lines_do_not_count(place: Place, call: Call, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    call("witness", "--site", "demo", "--key", place.keys[PRIYA], "--out", kept)
    text = (place.folder / "approvers").read_text().splitlines()
    (place.folder / "approvers").write_text(text[0] + "\n")
    shutil.rmtree(place.root / "witness")
    assert codes(call("verify", "--site", "demo", "--witness", kept)[1]) == [("witness-unknown-key", 3)]
    kept.write_text("garbage")
    assert codes(call("verify", "--site", "demo", "--witness", kept)[1]) == [("witness-malformed", 0)]


def test_openssh_alone_can_check_a_witness(place: Place, call: Call, tmp_path: Path) -> None:
    from lamplighter.model.envelope import read_line  # noqa: PLC0415 - only here

    answer = call("witness", "--site", "demo", "--key", place.keys[ASHA])[1]
    pair = read_line(answer["line"])
    (tmp_path / "sig").write_text(pair.signature)
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", str(place.folder / "approvers"), "-I", ASHA,
         "-n", "lamplighter-witness@v1", "-s", str(tmp_path / "sig")],
        input=pair.statement, capture_output=True, check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [[], ["/nonexistent"], ["--site", "nowhere"]])
def test_what_cannot_be_verified_ends_with_exit_code_2(place: Place, call: Call, words: list[str]) -> None:
    assert place.root.is_dir()
    assert call("verify", *words)[0] == 2


def test_an_empty_directory_is_no_store(place: Place, call: Call, tmp_path: Path) -> None:
    assert place.root.is_dir()
    (tmp_path / "empty").mkdir(mode=0o700)
    assert call("verify", tmp_path / "empty")[0] == 2


def test_verifying_does_not_load_prefect(place: Place) -> None:
    code = (
        "import sys\nfrom lamplighter.cli import main\n"
        f"try: main(['verify', {str(place.root)!r}, '--json'])\nexcept SystemExit as e: assert e.code == 0\n"
        "assert 'prefect' not in sys.modules, 'prefect'\nassert 'boto3' not in sys.modules, 'boto3'\n"
    )
    import sys  # noqa: PLC0415 - only here

    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
