"""Fifty processes resume one suspended run at the same moment: there is one rollout."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from lamplighter.errors import LedgerError
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.enginekit import Lab, finish, problems, states

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

RACERS = 50
DONE, REFUSED, LATE = 0, 3, 4


def resume(lab: Lab) -> int:
    """What a worker does when Prefect hands it the resumed flow run: open the ledger and go on."""
    lab.open()
    try:
        with lab.run() as run:
            if run.history.sealed:
                return LATE
            run.check_gate()
            finish(run)
    except LedgerError:
        return REFUSED
    return DONE


def race(work: object, racers: int) -> Counter[int]:
    """Fork processes that wait for one signal, and count how they ended."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pids = []
    for _ in range(racers):
        pid = os.fork()
        if pid == 0:
            status = 9
            try:
                os.close(writer)
                os.read(reader, 1)
                status = work()  # type: ignore[operator]
            finally:
                os._exit(status)
        pids.append(pid)
    os.close(reader)
    os.close(writer)
    return Counter(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def test_fifty_racing_resumes_of_one_run_are_one_rollout(tmp_path: Path) -> None:
    rounds, rollouts, started = much(2, 20), 0, 0
    for turn in range(rounds):
        lab = Lab(tmp_path / str(turn), [f"h{number}" for number in range(5)], persistent=True)
        with lab.run() as run:
            run.make_plan(run.survey())
            lab.approve(run)
        lab.close()
        ends = race(lambda lab=lab: resume(lab), RACERS)
        assert set(ends) <= {DONE, REFUSED, LATE}, ends
        assert ends[DONE] == 1
        rollouts += ends[DONE]
        lab.open()
        assert set(lab.fleet.starts().values()) == {1}
        started += len(lab.fleet.starts())
        with lab.run() as run:
            assert set(states(run.close()).values()) == {"changed"}
        assert not problems(lab.inspect())
        lab.close()
    report("races", [
        Row("racing_resumes", rounds * RACERS, "resumes"),
        Row("racing_resumes_rollouts_each", rollouts / rounds, "rollouts", 1),
        Row("racing_resumes_steps", started, "steps"),
        Row("racing_resumes_steps_twice", 0, "steps", 0),
    ])
