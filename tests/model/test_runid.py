"""Ids of runs: one for each flow run, whatever their UUIDs have in common."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.runid import run_id

DUE = 1_795_762_800  # 2026-11-27 03:00 UTC
SCHEDULED = UUID("019ac3a1-5f00-7000-8000-000000000000")  # version 7: begins with a clock of milliseconds


def test_it_says_what_and_when() -> None:
    assert run_id("patch-linux", SCHEDULED, DUE).startswith("patch-linux-20261127-")
    assert run_id("patch-linux", SCHEDULED, DUE) == run_id("patch-linux", UUID(str(SCHEDULED)), DUE + 60)


@pytest.mark.parametrize("bit", range(128))
def test_every_bit_counts(bit: int) -> None:
    other = UUID(int=SCHEDULED.int ^ (1 << bit))
    assert run_id("patch-linux", other, DUE) != run_id("patch-linux", SCHEDULED, DUE)


@given(st.sets(st.integers(0, 2**74 - 1), min_size=2, max_size=50))
def test_runs_made_in_one_pass_have_ids_of_their_own(tails: set[int]) -> None:
    made = {run_id("patch-linux", UUID(int=SCHEDULED.int | tail), DUE) for tail in tails}
    assert len(made) == len({UUID(int=SCHEDULED.int | tail) for tail in tails})
