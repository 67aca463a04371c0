"""One digest over the code that carries a run out: in the plan, asked for before anything is changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.derive.catalogue import discover, named
from lamplighter.engine import provenance
from lamplighter.engine.provenance import code_digest, code_files, code_of
from lamplighter.errors import NotApprovedError
from lamplighter.model.outcome import RunState
from tests.enginekit import HOSTS, RUNBOOK, Bump, Lab, Make, labs, states

ROOT = Path(__file__).resolve().parents[1]
CHANGING = sorted(name for name, entry in discover(ROOT).items() if entry.runbook.changes)
LOADED = """
import importlib, json, sys
from pathlib import Path
from lamplighter.worker import flow_named
flow_named(sys.argv[1])
root = Path.cwd()
files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
here = [Path(name).resolve() for name in files if name]
print(json.dumps(sorted(str(one.relative_to(root)) for one in here
                        if one.is_relative_to(root) and ".venv" not in one.parts)))
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


@pytest.mark.parametrize("name", CHANGING)
def test_whatever_a_runs_process_loads_of_the_checkout_is_in_the_digest(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, name], cwd=ROOT, env={**os.environ, "LAMPLIGHTER_HOME": str(ROOT)},
        capture_output=True, text=True, check=True, timeout=120,
    )
    loaded = set(json.loads(done.stdout))
    known = {str(file.relative_to(ROOT)) for file in code_files(named(name, ROOT).runbook)}
    assert {"lamplighter/worker.py", f"flows/{name.replace('-', '_')}.py"} <= loaded
    assert loaded - known == set()


def test_the_code_that_sets_passwords_is_in_the_digest() -> None:
    known = {str(file.relative_to(ROOT)) for file in code_files(named("reset-password", ROOT).runbook)}
    assert {
        "tasks/account_changes.py", "tasks/account_runs.py", "tasks/active_directory.py", "tasks/openldap.py",
        "tasks/passwords.py", "tasks/steps.py", "lamplighter/transports/ldap_session.py",
        "lamplighter/delivery.py", "lamplighter/engine/turn.py",
    } <= known
    assert "tasks/apt.py" not in known
    scripts = {str(file.relative_to(ROOT)) for file in code_files(named("patch-linux", ROOT).runbook)}
    assert {"tasks/shell/apt_install.sh", "tasks/shell/common.sh", "tasks/apt.py"} <= scripts


def test_one_byte_of_any_of_its_files_makes_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("lamplighter", "tasks", "flows"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ENGINE", tmp_path / "lamplighter")
    place = (tmp_path, tmp_path / "tasks" / "account_changes.py", "reset_password")
    fresh = provenance._digest.__wrapped__
    before = fresh(*place)
    assert fresh(*place) == before
    for name in (
        "tasks/passwords.py", "tasks/openldap.py", "flows/reset_password.py", "tasks/__init__.py",
        "lamplighter/transports/ldap_session.py", "lamplighter/notify/templates/ended.txt.j2",
    ):
        file = tmp_path / name
        content = file.read_bytes()
        file.write_bytes(content + b"\n# another\n")
        assert fresh(*place) != before, name
        file.write_bytes(content)
    (tmp_path / "tasks" / "apt.py").write_text("# another runbook's\n")
    assert fresh(*place) == before
    (tmp_path / "lamplighter" / "sitecustom.py").write_text("")
    assert fresh(*place) != before


# --- and what it is for ---------------------------------------------------------------------------


def gated(lab: Lab) -> None:
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        assert plan.code == code_of(RUNBOOK) == f"0.1.0 {code_digest(RUNBOOK)}"
        run.check_gate()
        run.ask()


def test_a_plan_is_not_carried_out_by_other_code_than_was_signed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make(HOSTS)
    gated(lab)
    monkeypatch.setattr("lamplighter.engine.terms.code_of", lambda _: "0.1.0 sha256:other")
    touched: list[str] = []
    with lab.run(operation=Bump(hooks={"apply": touched.append})) as run:
        run.receive(1, (lab.sign(run.plan().to_bytes()),), {"decision": "approve", "reason": ""})
        assert not run.check_gate().passed
        ending = run.close()
    assert ending.state is RunState.EXPIRED
    assert "not the code that the plan was made and signed with" in ending.message
    assert not touched
    assert not set(states(ending).values()) & {"changed", "unknown"}


def test_code_that_changes_behind_the_gate_is_found_before_the_next_host(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make(HOSTS)
    gated(lab)
    with lab.run() as run:
        run.receive(1, (lab.sign(run.plan().to_bytes()),), {"decision": "approve", "reason": ""})
        assert run.check_gate().passed
        run.guard(HOSTS[:1])
        monkeypatch.setattr("lamplighter.engine.terms.code_of", lambda _: "0.1.0 sha256:other")
        with pytest.raises(NotApprovedError, match="not the code"):
            run.guard(HOSTS[:1])
