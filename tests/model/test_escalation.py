"""Escalation paths: who hears of a trouble, once each, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.escalation import (
    EscalationPath,
    Recipient,
    Rung,
    answer_due,
    default_path,
    due,
    path_problems,
    read_recipient,
)
from lamplighter.model.notice import Attempt, Notice, Occasion, Result, judge, read_notice, retry_after
from lamplighter.model.party import Party, Person

ASHA = Person("asha@internal.example", "Asha", Party.INTERNAL, frozenset({"change-manager"}))
GONE = Person("gone@internal.example", "Gone", Party.INTERNAL, frozenset({"change-manager"}), left=True)
PRIYA = Person("priya@msp.example", "Priya", Party.MSP, frozenset({"duty-lead"}))
PEOPLE = {one.id: one for one in (ASHA, GONE, PRIYA)}
DUTY, MANAGERS, CHIEF = (
    read_recipient(text) for text in ("msp/duty-lead", "internal/change-manager", "asha@internal.example")
)


def path(*rungs: tuple[int, tuple[Recipient, ...]]) -> EscalationPath:
    return EscalationPath(tuple(Rung(after, to) for after, to in rungs))


GOOD = path((0, (DUTY,)), (60, (MANAGERS,)), (240, (CHIEF,)))


@pytest.mark.parametrize(("bad", "why"), [
    (path(), "has no step"),
    (path((0, (DUTY,)), (60, (MANAGERS,))), "must name a person of internal IT"),
    (path((0, (CHIEF,)), (60, (DUTY,)), (90, (CHIEF,))), "comes back to asha@internal.example in step 3"),
    (path((60, (DUTY,)), (60, (CHIEF,))), "later than the one before"),
    (path((0, ()), (60, (CHIEF,))), "step 1 of the escalation path names nobody"),
    (path((0, (Recipient("gone@internal.example"),)), (60, (CHIEF,))), "gone@internal.example has left"),
    (path((0, (Recipient("who@internal.example"),)), (60, (CHIEF,))), "is not in people.yaml"),
    (path((0, (Recipient(party="msp", role="chief"),)), (60, (CHIEF,))), "nobody of msp has the role chief"),
    (path((-1, (DUTY,)), (60, (CHIEF,))), "before the trouble"),
    (path((0, (DUTY,)), (60, (Recipient("priya@msp.example"),))), "must name a person of internal IT"),
    (path(*((number, (CHIEF,)) for number in range(11))), "it may have 10"),
])
def test_a_path_that_ends_nowhere_is_told(bad: EscalationPath, why: str) -> None:
    assert any(why in problem for problem in path_problems(bad, PEOPLE))


def test_a_good_path_and_the_default_one_have_no_problem() -> None:
    assert path_problems(GOOD, PEOPLE) == ()
    for owner in Party:
        assert path_problems(default_path(owner, tuple(PEOPLE.values())), PEOPLE) == ()
    assert path_problems(default_path(Party.MSP, (ASHA,)), PEOPLE) == ()


@pytest.mark.parametrize("text", ["", "asha", "internal/", "elsewhere/duty-lead", "a@b/c", "/x"])
def test_a_recipient_is_a_person_or_a_role(text: str) -> None:
    with pytest.raises(MalformedError):
        read_recipient(text)


def test_whom_a_role_means_today() -> None:
    assert MANAGERS.people(PEOPLE.values()) == (ASHA,)
    assert str(MANAGERS) == "internal/change-manager"
    assert Recipient("gone@internal.example").people(PEOPLE.values()) == ()


@st.composite
def ladders(draw: st.DrawFn) -> EscalationPath:
    afters = sorted(draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=10)))
    return path(*((after, (DUTY,)) for after in afters))


@given(ladders(), st.lists(st.integers(-100, 12_000), max_size=30), st.data())
def test_each_rung_is_climbed_once_and_in_order_whoever_restarts(
    ladder: EscalationPath, looks: list[int], data: st.DataObject
) -> None:
    """Only the marks are remembered; a watch may die after any rung, be late, and have its clock set back."""
    climbed: list[int] = []
    for now in looks:
        todo = due(ladder, 0, now, set(climbed))
        dies = data.draw(st.integers(0, len(todo)))
        climbed += todo[:dies]
    assert len(climbed) == len(set(climbed))
    assert climbed == sorted(climbed) == list(range(len(climbed)))
    final = due(ladder, 0, 10_001, set(climbed))
    assert [*climbed, *final] == list(range(len(ladder.rungs)))


@given(ladders(), st.integers(-100, 12_000))
def test_no_rung_is_early(ladder: EscalationPath, now: int) -> None:
    assert all(ladder.rungs[rung].after <= now for rung in due(ladder, 0, now, ()))
    left = set(range(len(ladder.rungs))) - set(due(ladder, 0, now, ()))
    assert all(ladder.rungs[rung].after > now for rung in left)


def test_a_rung_that_reached_nobody_does_not_hold_the_climb_up() -> None:
    assert due(GOOD, 0, 1, {0}) == ()
    assert due(GOOD, 0, 1, {0}, unheard=True) == (1,)
    assert due(GOOD, 0, 1, {0, 1, 2}, unheard=True) == ()
    assert due(GOOD, 0, 61, {0}, unheard=True) == (1,), "not two at once"


def test_a_gate_climbs_while_its_plan_can_still_be_signed() -> None:
    assert answer_due(1000, 3600, 1000 + 72 * 3600) == 4600
    assert answer_due(1000, 86400, 1000 + 3600) == 2800
    assert answer_due(1000, 86400, 500) == 1000


# --- notices --------------------------------------------------------------------------------------


def notice(**changes: str) -> Notice:
    fields = {"to": ASHA.id, "channel": "mail", "subject": "s", "text": "t", "link": "l", **changes}
    return Notice(Occasion("run-1", "gate", "d", 1_795_400_000, 0), created=1_795_400_000, **fields)


def test_a_notice_is_named_by_its_occasion_alone() -> None:
    assert notice().id == notice(subject="other", text="words", link="x").id
    assert len({notice().id, notice(to=PRIYA.id).id, notice(channel="chat").id}) == 3
    assert read_notice(notice().to_bytes()) == notice()
    assert notice().month == "2026-11"


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":2}', b'{"v":1}', b'{"occasion":{},"v":1}', b"null"])
def test_other_bytes_are_no_notice(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read_notice(data)


def test_backoff_grows_to_an_hour_and_ends() -> None:
    assert [retry_after(count) for count in (1, 2, 3, 7, 20, 10**6)] == [60, 120, 240, 3600, 3600, 3600]
    one = notice()
    soon, late = one.created + 60, one.created + 71 * 3600 + 1
    assert judge(Result.LATER, one, Attempt(1), soon, 72 * 3600) is Result.LATER
    assert judge(Result.LATER, one, Attempt(90), late, 72 * 3600) is Result.FAILED
    assert judge(Result.SENT, one, Attempt(90), late * 2, 72 * 3600) is Result.SENT
