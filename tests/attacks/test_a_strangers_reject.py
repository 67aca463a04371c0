"""A stranger answers the form with a reject of their own making: it stops nothing, and spoils no record."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.model.approval import NAMESPACE, Decision, Statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from tests.enginekit import ASHA, Make, finish, labs, problems
from tests.sshkit import Pair


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


@pytest.mark.parametrize("decision", [Decision.REJECT, Decision.REVOKE])
def test_it_neither_closes_the_gate_nor_makes_the_run_look_unsound(make: Make, decision: Decision) -> None:
    lab = make(["a"])
    with lab.run() as run:
        plan = run.make_plan(run.survey()).to_bytes()
        now = int(lab.clock.time())
        said = Statement(sha256(plan), decision, ASHA, now, now + 60, secrets.token_hex(16)).to_bytes()
        line = Envelope(said, Pair().sign(said, NAMESPACE)).to_line()
        run.receive(run.ask(), [line], {"decision": "approve", "reason": ""})
        assert not run.check_gate().closed
        lab.approve(run)
        assert run.check_gate().passed
        assert finish(run).state == "Completed"
    assert problems(lab.inspect()) == []
