"""The stage in force: what raises it, what lowers it, and whose signature counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.attest import Trust
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from lamplighter.model.outcome import RunState
from lamplighter.model.party import Party, Person
from lamplighter.model.signers import parse_revoked, parse_signers
from lamplighter.model.stage import (
    MAX_SECONDS,
    NAMESPACE,
    Decision,
    Demotion,
    Ruling,
    Stage,
    Trigger,
    demotes,
    in_force,
    judge,
    read_decision,
)
from tests.sshkit import Pair

ASHA, PRIYA = "asha@internal.example", "priya@msp.example"
NOW = 1_800_000_000
FUNCTION = "patch-management"


def counting(decisions: list[Decision]) -> list[Ruling]:
    return [Ruling(one) for one in decisions]


def decision(stage: Stage = Stage.DELEGATED, begins: int = NOW - 100, **how: object) -> Decision:
    made = Decision("demo", FUNCTION, stage, ASHA, begins, begins + 3600, "decision-1", sha256(b"evidence"))
    return replace(made, **how)  # type: ignore[arg-type]


# --- what is in force -----------------------------------------------------------------------------

S, L = Stage, Demotion(Stage.SUPERVISED, NOW, "a run halted in patch-1", "patch-1")


@pytest.mark.parametrize(("declared", "decisions", "demotions", "stage", "why"), [
    (S.INTERNAL, [], [], S.INTERNAL, "declared"),
    (S.SHADOW, [], [], S.SHADOW, "declared"),
    (S.SUPERVISED, [], [], S.SHADOW, "signed no decision"),
    (S.DELEGATED, [decision(S.SUPERVISED)], [], S.SUPERVISED, "decided by asha"),
    (S.SUPERVISED, [decision()], [], S.SUPERVISED, "declared"),
    (S.DELEGATED, [decision()], [], S.DELEGATED, "decided by asha"),
    (S.DELEGATED, [decision()], [L], S.SUPERVISED, "a run halted in patch-1"),
    (S.DELEGATED, [decision(begins=NOW + 1)], [L], S.DELEGATED, "decided by asha"),  # after it
    (S.DELEGATED, [decision(), decision(S.SHADOW, NOW - 50)], [], S.SHADOW, "decided by asha"),
    (S.DELEGATED, [decision(S.SHADOW, NOW - 200), decision()], [], S.DELEGATED, "decided by asha"),
    (S.SUPERVISED, [decision()], [L], S.SUPERVISED, ""),
    (S.DELEGATED, [decision()], [Demotion(S.INTERNAL, NOW, "by hand")], S.INTERNAL, "by hand"),
])
def test_the_lowest_of_three(
    declared: Stage, decisions: list[Decision], demotions: list[Demotion], stage: Stage, why: str
) -> None:
    found = in_force(declared, counting(decisions), demotions)
    assert found.stage is stage
    assert why in found.why


@pytest.mark.parametrize(("code", "stage"), [
    ({"patch-linux": "sha256:a"}, Stage.DELEGATED),
    ({"patch-linux": "sha256:b"}, Stage.SUPERVISED),
    ({"patch-linux": "sha256:a", "patch-windows": "sha256:c"}, Stage.SUPERVISED),  # a new one
    (None, Stage.DELEGATED),  # the site does not list it
])
def test_other_code_than_was_decided_on(code: dict[str, str] | None, stage: Stage) -> None:
    decided = decision(code={"patch-linux": "sha256:a"})
    assert in_force(Stage.DELEGATED, counting([decided]), [], code).stage is stage


stages = st.sampled_from(list(Stage))
decided = st.lists(st.builds(decision, stages, st.integers(NOW - 50, NOW)), max_size=3)
demoted = st.lists(st.builds(Demotion, stages, st.integers(NOW - 60, NOW + 10), st.just("why")), max_size=3)


@given(stages, decided, demoted)
def test_nothing_but_a_decision_raises_a_stage(
    declared: Stage, decisions: list[Decision], demotions: list[Demotion]
) -> None:
    found = in_force(declared, counting(decisions), demotions).stage
    assert found.rank <= declared.rank
    highest = max((one.stage.rank for one in decisions), default=0)
    assert found.rank <= max(highest, Stage.SHADOW.rank)
    assert in_force(declared, counting(decisions), []).stage.rank >= found.rank
    assert in_force(declared, [], demotions).stage.rank <= Stage.SHADOW.rank


@pytest.mark.parametrize(("state", "ill", "triggers", "why"), [
    (RunState.HALTED, (), set(Trigger), "a run halted"),
    (RunState.HALTED, (), {Trigger.FAILED_VERIFY}, ""),
    (RunState.FAILED, ("b", "a"), set(Trigger), "not well after the change: a, b"),
    (RunState.FAILED, ("a",), {Trigger.HALTED}, ""),
    (RunState.COMPLETED, (), set(Trigger), ""),
    (RunState.MISSED, (), set(Trigger), ""),
])
def test_what_demotes(state: RunState, ill: tuple[str, ...], triggers: set[Trigger], why: str) -> None:
    assert demotes(state, ill, triggers) == why


# --- signatures -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys() -> dict[str, Pair]:
    return {ASHA: Pair(), PRIYA: Pair()}


def trust(keys: dict[str, Pair], *, options: str = "", left: bool = False, revoked: str = "") -> Trust:
    text = "".join(f"{who} {options}{pair.public_line}\n" for who, pair in keys.items())
    people = (Person(ASHA, "Asha", Party.INTERNAL, left=left), Person(PRIYA, "Priya", Party.MSP))
    return Trust({one.id: one for one in people}, parse_signers(text, "f")[0], parse_revoked(revoked, "r")[0])


def line(keys: dict[str, Pair], by: str = ASHA, namespace: str = NAMESPACE, **how: object) -> str:
    statement = decision(**how).to_bytes()  # type: ignore[arg-type]
    return Envelope(statement, keys[by].sign(statement, namespace)).to_line()


def test_a_decision_of_internal_it_counts(keys: dict[str, Pair]) -> None:
    found = judge(line(keys), "demo", FUNCTION, trust(keys), NOW)
    assert found == Ruling(decision())


@pytest.mark.parametrize("why", ["expired", "unknown-person", "key-revoked", "key-expired", "wrong-party"])
@pytest.mark.parametrize("later", [S.INTERNAL, S.SHADOW, S.SUPERVISED, S.DELEGATED])
def test_what_was_taken_back_does_not_come_back(later: Stage, why: str) -> None:
    """The latest decision does not count any more: no older one takes its place."""
    rulings = [Ruling(decision(S.DELEGATED, NOW - 200)), Ruling(decision(later, NOW - 100), why)]
    found = in_force(S.DELEGATED, rulings, [])
    assert found.stage is S.SHADOW
    assert why in found.why
    assert "lamplighter promote" in found.why
    anew = Ruling(decision(S.SUPERVISED, NOW - 50))
    assert in_force(S.DELEGATED, [*rulings, anew], []).stage is S.SUPERVISED


def test_a_decision_that_cannot_be_read_stands_in_the_way_of_all() -> None:
    found = in_force(S.DELEGATED, [Ruling(decision()), Ruling(None, "malformed")], [])
    assert found.stage is S.SHADOW
    assert "cannot be read" in found.why


def test_of_two_decisions_of_one_moment_the_lower_rules() -> None:
    for pair in ([S.DELEGATED, S.SHADOW], [S.SHADOW, S.DELEGATED]):
        assert in_force(S.DELEGATED, counting([decision(one) for one in pair]), []).stage is S.SHADOW


@pytest.mark.parametrize(("how", "site", "function", "now", "why"), [
    ({"by": PRIYA, "decider": PRIYA}, "demo", FUNCTION, NOW, "wrong-party"),
    ({"by": PRIYA}, "demo", FUNCTION, NOW, "unknown-key"),  # priya's key under asha's name
    ({"namespace": "lamplighter-approval@v1"}, "demo", FUNCTION, NOW, "wrong-namespace"),
    ({}, "other", FUNCTION, NOW, None),
    ({}, "demo", "backup-verification", NOW, None),
    ({}, "demo", FUNCTION, NOW + 3600, "expired"),
    ({"begins": NOW + 10}, "demo", FUNCTION, NOW, None),
])
def test_decisions_that_do_not_count(
    keys: dict[str, Pair], how: dict[str, object], site: str, function: str, now: int, why: str | None
) -> None:
    found = judge(line(keys, **how), site, function, trust(keys), now)  # type: ignore[arg-type]
    assert (found.why if found else None) == why


def test_a_decision_ends_with_its_signer(keys: dict[str, Pair]) -> None:
    signed, revoked = line(keys), f"{keys[ASHA].public_line}\n"
    for why, known in {
        "unknown-person": trust(keys, left=True),
        "key-revoked": trust(keys, revoked=revoked),
        "key-expired": trust(keys, options='valid-before="20260101Z" '),
        "wrong-namespace": trust(keys, options='namespaces="lamplighter-approval@v1" '),
        "unknown-key": Trust(),
    }.items():
        assert judge(signed, "demo", FUNCTION, known, NOW) == Ruling(decision(), why)


@given(st.text(max_size=200))
def test_hostile_lines_are_answered(text: str) -> None:
    assert judge(text, "demo", FUNCTION, Trust(), NOW) == Ruling(None, "malformed")


@pytest.mark.parametrize("change", [
    {"expires": NOW + MAX_SECONDS + 1}, {"expires": NOW - 200}, {"id": "x"}, {"evidence": "none"},
    {"reason": "two\nlines"}, {"code": {"patch-linux": 1}},
])
def test_decisions_out_of_bounds_cannot_be_signed(change: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        replace(decision(), **change).to_bytes()  # type: ignore[arg-type]


def test_a_stage_that_is_none_is_refused() -> None:
    with pytest.raises(MalformedError, match="names no stage"):
        read_decision(decision().to_bytes().replace(b'"delegated"', b'"sovereign"'))
