"""The shell commands of docs/approvals.md, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from lamplighter.model.gate import Code, GatePolicy, evaluate
from lamplighter.model.party import Party, Person
from lamplighter.model.signers import parse_signers
from tests.gate_cases import make_plan
from tests.sshkit import Pair

PAGE = Path(__file__).parents[1] / "docs" / "approvals.md"
ASHA = "asha@internal.example"


def test_openssh_and_a_shell_make_and_check_a_line(tmp_path: Path) -> None:
    make, check = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    pair = Pair()
    (tmp_path / "approvers").write_text(f"{ASHA} {pair.public_line}\n")
    plan = make_plan({"expires": 2 * int(time.time())})
    (tmp_path / "plan.json").write_bytes(plan.to_bytes())
    variables = {**os.environ, "WHO": ASHA, "KEY": str(pair.write(tmp_path / "key"))}

    def shell(script: str) -> str:
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], cwd=tmp_path, env=variables, check=False,
            capture_output=True, text=True, timeout=30,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    shell(make)
    signers, _ = parse_signers((tmp_path / "approvers").read_text(), "approvers")
    asha = Person(ASHA, "Asha", Party.INTERNAL, frozenset({"change-manager"}))
    arjun = Person(plan.requester.id, "Arjun", Party.MSP)
    policy = GatePolicy({ASHA: asha, arjun.id: arjun}, signers)
    line = (tmp_path / "approval.line").read_text()
    assert evaluate(plan.to_bytes(), [line], policy, int(time.time())).signed == (ASHA,)
    assert f'Good "lamplighter-approval@v1" signature for {ASHA}' in shell(check)


def test_every_word_is_explained() -> None:
    page = PAGE.read_text()
    assert [code for code in Code if f"`{code}`" not in page] == []
