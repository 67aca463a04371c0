"""The gate: its rules as cases, its invariants as properties, hostile input, and its speed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamplighter.model.envelope import Envelope, encode
from lamplighter.model.gate import (
    Code,
    Gate,
    GatePolicy,
    Requirement,
    evaluate,
    implies,
    satisfiable,
    stricter,
)
from lamplighter.model.party import Party, Person
from lamplighter.model.plan import Plan
from lamplighter.model.quorum import MAX_PLACES, missing
from tests.gate_cases import (
    NOW,
    PEOPLE,
    GateCase,
    address,
    cases,
    make_line,
    make_plan,
    make_policy,
    pair,
    run,
)

CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: GateCase) -> None:
    assert case.check() == []


def test_every_code_has_a_case() -> None:
    seen = {code for case in CASES for _, code in run(case.data).refused}
    assert seen == set(Code)


def test_case_names_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


# --- random people, gates and lines against a plain reading of the rules ---------------------------

ROLES = ("change-manager", "service-desk", "duty-lead", "emergency")
REQUIREMENTS = st.fixed_dictionaries({
    "party": st.sampled_from(["internal", "msp"]),
    "roles": st.lists(st.sampled_from(ROLES), max_size=2, unique=True),
    "quorum": st.integers(1, 2),
})
GATES = st.fixed_dictionaries({"requirements": st.lists(REQUIREMENTS, max_size=3)})
PLANS = st.fixed_dictionaries({
    "gate": GATES, "known": st.just("signed"), "requester": st.sampled_from(["arjun", "asha", "lata"]),
})
GOOD_OR_BAD: list[dict[str, Any]] = [
    {}, {}, {}, {"plan": "other"}, {"from": 10}, {"for": 30}, {"tamper": True}, {"key": "stranger"},
    {"namespace": "file"}, {"key": "asha-lost"},
]
LINES = st.lists(
    st.builds(
        lambda person, odd, number: {"by": person, "id": f"approval-{person}-{number}", **odd},
        st.sampled_from(sorted(PEOPLE)), st.sampled_from(GOOD_OR_BAD), st.integers(0, 2),
    ),
    max_size=6,
)


def may_fill(gate: Gate, people: Sequence[Person]) -> bool:
    """Try every seating: what the rule says, not how the code finds it."""
    places = [one for one in gate.requirements for _ in range(one.quorum)]
    return bool(places) and any(
        all(place.admits(person) for place, person in zip(places, seating, strict=True))
        for seating in itertools.permutations(people, len(places))
    )


def people_of(plan: Plan, specs: Sequence[dict[str, Any]]) -> list[Person]:
    """Whose approval counts, by a plain reading."""
    everybody = make_policy({}, plan).people
    good = {spec["by"] for spec in specs if spec.keys() <= {"by", "id"} and spec["by"] != "meera"}
    return [everybody[address(name)] for name in sorted(good) if address(name) != plan.requester.id]


@settings(max_examples=150, deadline=None)
@given(PLANS, LINES)
def test_passes_exactly_when_distinct_entitled_people_fill_the_gate(
    plan_spec: dict[str, Any], specs: list[dict[str, Any]]
) -> None:
    plan = make_plan(plan_spec)
    result = evaluate(plan.to_bytes(), [make_line(spec, plan) for spec in specs], make_policy({}, plan), NOW)
    seated = [person for person in people_of(plan, specs) if any(
        requirement.admits(person) for requirement in plan.gate.requirements
    )]
    assert result.passed == may_fill(plan.gate, seated)
    assert set(result.signed) == {person.id for person in seated}
    assert plan.requester.id not in result.signed
    assert len(result.signed) + len(result.refused) == len(specs)
    assert bool(result.needed) != result.passed


@settings(max_examples=60, deadline=None)
@given(PLANS, LINES, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(
    plan_spec: dict[str, Any], specs: list[dict[str, Any]], rng: Any
) -> None:
    plan, policy = make_plan(plan_spec), make_policy({}, make_plan(plan_spec))
    specs = [*specs, {"by": "kiran", "decision": "revoke", "id": "revoke-one", "revokes": "approval-asha-0"}]
    lines = [make_line(spec, plan) for spec in specs]
    first = evaluate(plan.to_bytes(), lines, policy, NOW)
    rng.shuffle(lines)
    assert evaluate(plan.to_bytes(), lines, policy, NOW) == first


@settings(max_examples=60, deadline=None)
@given(PLANS, LINES, st.sampled_from(sorted(PEOPLE)), st.sampled_from(["reject", "revoke"]))
def test_a_reject_or_revoke_never_opens_a_gate(
    plan_spec: dict[str, Any], specs: list[dict[str, Any]], who: str, decision: str
) -> None:
    plan = make_plan(plan_spec)
    policy = make_policy({}, plan)
    lines = [make_line(spec, plan) for spec in specs]
    closing = make_line({"by": who, "decision": decision, "id": "closing-1"}, plan)
    before = evaluate(plan.to_bytes(), lines, policy, NOW)
    after = evaluate(plan.to_bytes(), [*lines, closing], policy, NOW)
    assert before.passed or not after.passed
    if who != "meera" and policy.people[address(who)].party in plan.gate.parties:
        assert not after.passed
        assert after.closed


@settings(max_examples=100, deadline=None)
@given(GATES, LINES, st.integers(0, 4000), st.integers(1, 90000))
def test_a_passed_gate_holds_until_it_says_and_no_longer(
    gate: dict[str, Any], specs: list[dict[str, Any]], reject_from: int, expires: int
) -> None:
    plan = make_plan({"gate": gate, "known": "signed", "expires": expires})
    policy = make_policy({}, plan)
    closing = {"by": "kiran", "decision": "reject", "id": "reject-1", "from": reject_from}
    one = {**closing, "decision": "revoke", "id": "revoke-1", "revokes": "approval-asha-0", "from": 1000}
    lines = [make_line(spec, plan) for spec in (*specs, closing, one)]
    result = evaluate(plan.to_bytes(), lines, policy, NOW)
    if result.passed:
        assert evaluate(plan.to_bytes(), lines, policy, result.valid_until - 1).passed
        assert not evaluate(plan.to_bytes(), lines, policy, result.valid_until).passed


# --- gates as values -------------------------------------------------------------------------------

GATE_VALUES = st.builds(
    lambda requirements, age: Gate(tuple(requirements), age),
    st.lists(
        st.builds(
            Requirement, st.sampled_from(Party), st.lists(st.sampled_from("xyz"), max_size=2).map(tuple),
            st.integers(1, 2),
        ),
        min_size=1, max_size=3,
    ),
    st.integers(1, 100),
)
CROWDS = st.lists(
    st.tuples(st.sampled_from(Party), st.frozensets(st.sampled_from("xyz"))), max_size=6
).map(lambda found: [Person(f"p{at}", "", party, roles) for at, (party, roles) in enumerate(found)])


@settings(max_examples=150, deadline=None)
@given(GATE_VALUES, CROWDS)
def test_a_seating_is_found_whenever_there_is_one(gate: Gate, people: list[Person]) -> None:
    assert (not missing(gate, people)) == may_fill(gate, people)


@settings(max_examples=150, deadline=None)
@given(GATE_VALUES, GATE_VALUES, CROWDS)
@example(
    Gate((Requirement(Party.INTERNAL, ("x",)),)), Gate((Requirement(Party.INTERNAL),)),
    [Person("p", "", Party.INTERNAL, frozenset("x"))],
)
def test_the_stricter_gate_passes_only_when_both_do(first: Gate, second: Gate, people: list[Person]) -> None:
    both = stricter(first, second)
    assert implies(both, first)
    assert implies(both, second)
    assert both.max_age == min(first.max_age, second.max_age)
    assert both.size <= first.size + second.size
    assert stricter(both, second) == stricter(both, first) == both
    if may_fill(both, people):
        assert may_fill(first, people)
        assert may_fill(second, people)


@given(GATE_VALUES, GATE_VALUES, CROWDS)
def test_what_implies_is_at_least_as_strict(first: Gate, second: Gate, people: list[Person]) -> None:
    if implies(first, second) and may_fill(first, people):
        assert may_fill(second, people)


@settings(max_examples=100, deadline=None)
@given(GATE_VALUES, CROWDS)
def test_unsatisfiable_means_that_everybody_together_cannot_pass(gate: Gate, people: list[Person]) -> None:
    by_id = {person.id: person for person in people}
    assert bool(satisfiable(gate, by_id)) != may_fill(gate, people)
    if people:
        assert bool(satisfiable(gate, by_id, "p0")) != may_fill(gate, people[1:])


@pytest.mark.parametrize(
    ("first", "second", "places"),
    [
        ("x", "", ["x"]), ("xx", "x", ["x", "x"]), ("x-", "-", ["-", "x"]), ("--", "x", ["-", "x"]),
        ("x", "y", ["x", "y"]), ("x-", "x", ["-", "x"]), ("xy", "--", ["x", "y"]),
    ],
)
def test_the_stricter_gate_asks_for_nobody_too_many(first: str, second: str, places: list[str]) -> None:
    def gate(text: str) -> Gate:
        return Gate(tuple(Requirement(Party.INTERNAL, () if one == "-" else (one,)) for one in text or "-"))

    found = [
        "".join(one.roles) or "-"
        for one in stricter(gate(first), gate(second)).requirements for _ in range(one.quorum)
    ]
    assert sorted(found) == places
    assert stricter(gate(second), gate(first)).size == len(places)


def test_empty_and_oversized_gates_never_pass() -> None:
    crowd = [Person(f"p{at}", "", Party.INTERNAL) for at in range(40)]
    one = Gate((Requirement(Party.INTERNAL),))
    for gate in (Gate(), Gate((Requirement(Party.INTERNAL, (), MAX_PLACES + 1),))):
        assert satisfiable(gate, {person.id: person for person in crowd})
        assert stricter(gate, one).requirements == ()
        assert stricter(one, gate).requirements == ()


def test_a_quorum_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Requirement(Party.INTERNAL, (), 0)


# --- hostile input -----------------------------------------------------------------------------------

PLAN = make_plan({})
GOOD = make_line({"by": "asha"}, PLAN)
POLICY = make_policy({}, PLAN)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(encode)))
@example("\ud800")
@example(GOOD + "A")
@example("A" * 20000)
@example(encode(b'{"signature":"","signature":"","statement":""}'))
@example(encode(b"[" * 5000))
@example(encode(b'{"signature":"x","statement":NaN}'))
@example(encode(b'{"signature":"x","statement":1' + b"0" * 5000 + b"}"))
@example(Envelope(b"", "x").to_line())
def test_any_line_is_judged(line: str) -> None:
    result = evaluate(PLAN.to_bytes(), [line, GOOD], POLICY, NOW)
    assert result.passed
    assert [code for _, code in result.refused] == [Code.MALFORMED]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.sampled_from("AZaz09-_=+/. \n\x00é"))
def test_a_changed_character_never_passes(at: int, char: str) -> None:
    line = GOOD[:at] + char + GOOD[at + 1 :]
    same = line.strip() == GOOD
    assert evaluate(PLAN.to_bytes(), [line], POLICY, NOW).passed == same


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_a_signed_statement_of_any_bytes_is_judged(data: bytes) -> None:
    for namespace in ("lamplighter-approval@v1", "lamplighter-standing@v1"):
        line = Envelope(data, pair("asha").sign(data, namespace)).to_line()
        plan = make_plan({"change_type": "standard"})
        assert not evaluate(plan.to_bytes(), [line], POLICY, NOW).passed


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.integers(0, 2000).map(lambda at: PLAN.to_bytes()[:at])))
def test_any_plan_bytes_are_judged(data: bytes) -> None:
    if data != PLAN.to_bytes():
        result = evaluate(data, [GOOD], POLICY, NOW)
        assert not result.passed
        assert result.needed


def test_a_flood_of_lines_is_refused_as_a_whole() -> None:
    result = evaluate(PLAN.to_bytes(), [GOOD] * 1001, POLICY, NOW)
    assert not result.passed
    assert "1001" in result.needed[0]


def test_nobody_trusted_means_nobody_passes() -> None:
    assert not evaluate(PLAN.to_bytes(), [GOOD], GatePolicy(), NOW).passed


def test_one_evaluation_takes_about_a_millisecond() -> None:
    """The limit is generous, for shared machines; `make bench` prints the figure."""
    data = PLAN.to_bytes()
    evaluate(data, [GOOD], POLICY, NOW)
    started = time.perf_counter()
    for _ in range(50):
        assert evaluate(data, [GOOD], POLICY, NOW).passed
    assert (time.perf_counter() - started) / 50 < 0.02
