"""The rules of resets and unlocks: which applies, what is said, and that none is forgotten."""

from dataclasses import replace

import pytest

from lamplighter.errors import RefusedError
from lamplighter.model.outcome import StepResult, Terminal
from lamplighter.model.plan import facts_digest
from tasks.account_plans import Trouble, diagnose, judge_reset, plan_reset, plan_unlock
from tasks.accounts import AccountFacts, Guard, Rule, refusals, require_one
from tasks.active_directory import attribute_versions, ticks_to_epoch

STAFF = "OU=Staff,DC=lab,DC=test"
GUARD = Guard(delegated=(STAFF,))
JANE = AccountFacts(
    pin="6f9619ff-8b86-d011-b42d-00c04fc964ff", dn=f"CN=Jane,{STAFF}", login="jroe", server="dc1",
    mark={"set": "5", "version": 2}, delegated=True,
)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"missing": ("tokenGroups",)}, Rule.UNREADABLE),
        ({"protected": ("Domain Admins",)}, Rule.PROTECTED),
        ({"admin_count": True}, Rule.ADMIN_COUNT),
        ({"built_in": True}, Rule.BUILT_IN),
        ({"service": ("computer",)}, Rule.SERVICE),
        ({"disabled": True}, Rule.DISABLED),
        ({"expired": True}, Rule.EXPIRED),
        ({"locked": True, "admin_locked": True}, Rule.LOCKED_BY_ADMIN),
        ({"delegated": False}, Rule.OUTSIDE),
        ({"denied": ("boss",)}, Rule.DENIED),
        ({"unjudged": ("the group Board cannot be read",)}, Rule.UNREADABLE),
        ({"mistakes": ("`jroe` names nobody",)}, Rule.SETTINGS),
        ({"ended": "inetUserStatus is inactive"}, Rule.DISABLED),
        ({"read_only": True}, Rule.NO_RIGHT),
    ],
)
def test_each_rule_refuses_by_its_name(changes: dict[str, object], rule: Rule) -> None:
    facts = replace(JANE, **changes)
    assert [one.rule for one in refusals(facts, GUARD)] == [rule]
    for plan in (plan_reset("jroe", facts, GUARD, unlock=True), plan_unlock("jroe", facts, GUARD)):
        assert plan.end is Terminal.REFUSED
        assert str(rule) in plan.reason
        assert not plan.steps


def test_all_rules_that_apply_are_told() -> None:
    facts = replace(JANE, disabled=True, admin_count=True, delegated=False)
    assert {one.rule for one in refusals(facts, GUARD)} == {Rule.DISABLED, Rule.ADMIN_COUNT, Rule.OUTSIDE}


def test_a_vip_is_signed_for_or_internal_its_own() -> None:
    facts = replace(JANE, vip=("CN=Board",))
    assert plan_reset("jroe", facts, GUARD, unlock=True).steps[0].args["signed_each_time"] is True
    assert "internal-only" in plan_reset("jroe", facts, Guard(vip_refused=True), unlock=True).reason


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"barred": "its logon hours let it in at no hour"}, Rule.BARRED),
        ({"elsewhere": ("Kerberos",)}, Rule.ELSEWHERE),
        ({"lacking": ("pwdLastSet",)}, Rule.NO_RIGHT),
        ({"unchangeable": "nobody grants it"}, Rule.NO_CHANGE),
    ],
)
def test_what_keeps_a_reset_from_helping_keeps_no_unlock(changes: dict[str, object], rule: Rule) -> None:
    facts = replace(JANE, locked=True, **changes)
    assert str(rule) in plan_reset("jroe", facts, GUARD, unlock=True).reason
    assert plan_unlock("jroe", facts, GUARD).steps
    assert plan_unlock("jroe", replace(facts, lacking=("lockoutTime",)), GUARD).end is Terminal.REFUSED


def test_an_ordinary_account_may_be_reset() -> None:
    plan = plan_reset("jroe", JANE, GUARD, unlock=True)
    assert plan.steps[0].args["pin"] == JANE.pin
    assert plan.steps[0].args["unlock"] is False, "it is not locked"
    assert plan_reset("jroe", replace(JANE, locked=True), GUARD, unlock=True).steps[0].args["unlock"] is True


def test_whom_cannot_be_made_to_change_is_not_reset_but_may_be_unlocked() -> None:
    facts = replace(JANE, locked=True, unchangeable="its password never expires")
    assert str(Rule.NO_CHANGE) in plan_reset("jroe", facts, GUARD, unlock=True).reason
    assert plan_unlock("jroe", facts, GUARD).steps


@pytest.mark.parametrize(
    ("changes", "trouble", "word"),
    [
        ({"disabled": True, "locked": True}, Trouble.DISABLED, "locked as well"),
        ({"expired": True}, Trouble.EXPIRED, "unlocking does not help"),
        ({"locked": True}, Trouble.LOCKED, "wrong passwords"),
        ({"must_change": True, "password_expired": True}, Trouble.MUST_CHANGE, "next login"),
        ({"password_expired": True}, Trouble.PASSWORD_EXPIRED, "expired"),
        ({"failures": 2}, Trouble.WRONG_PASSWORD, "2 times"),
        ({"ended": "nsAccountLock is true"}, Trouble.DISABLED, "ended by its owner"),
        ({"barred": "its logon hours", "locked": True}, Trouble.BARRED, "locked as well"),
        ({"idle": "it was not used"}, Trouble.IDLE, "a reset does"),
        ({"unasked": ("what ldap2 says",)}, Trouble.UNKNOWN, "ldap2"),
        ({}, Trouble.NONE, "no reason"),
    ],
)
def test_why_a_login_fails(changes: dict[str, object], trouble: Trouble, word: str) -> None:
    found = diagnose(replace(JANE, **changes))
    assert found.trouble is trouble
    assert word in found.sentence


def test_what_is_not_locked_is_not_unlocked() -> None:
    plan = plan_unlock("jroe", replace(JANE, failures=1), GUARD)
    assert plan.end is Terminal.UNCHANGED
    assert "not-locked: a wrong password was given once" in plan.reason


def test_a_device_gives_itself_away() -> None:
    assert "every 60 s" in " ".join(diagnose(replace(JANE, failed_at=(0, 60, 121, 181))).hints)
    assert not diagnose(replace(JANE, failed_at=(0, 4, 61, 70))).hints
    assert not diagnose(replace(JANE, failed_at=(5, 5, 5))).hints


def test_wrong_passwords_between_plan_and_apply_are_no_drift_but_a_new_password_is() -> None:
    assert facts_digest(replace(JANE, failures=3)) == facts_digest(JANE)
    assert facts_digest(replace(JANE, mark={"set": "6", "version": 3})) != facts_digest(JANE)
    assert facts_digest(replace(JANE, dn="CN=Jane,OU=VIP,OU=Staff,DC=lab,DC=test")) != facts_digest(JANE)


def test_an_outcome_is_known_by_the_mark_alone() -> None:
    assert judge_reset({"set": "5"}, {"set": "0"}, must_change=True).result is StepResult.OK
    assert judge_reset({"set": "5"}, {"set": "0"}, must_change=False).result is StepResult.FAILED
    assert judge_reset({"set": "5"}, {"set": "5"}, must_change=False).result is StepResult.UNKNOWN


def test_none_or_several_accounts_are_a_refusal_that_lists_them() -> None:
    require_one("x", ["a"])
    with pytest.raises(RefusedError, match="0 accounts"):
        require_one("x", [])
    with pytest.raises(RefusedError, match=r"7 accounts .*: a; a; a; a; a; and more"):
        require_one("x", ["a"] * 7)


def test_microsoft_times_and_versions() -> None:
    assert ticks_to_epoch(116444736000000000) == 0
    head = (1).to_bytes(4, "little") + bytes(4) + (1).to_bytes(4, "little") + bytes(4)
    row = (0x9005A).to_bytes(4, "little") + (7).to_bytes(4, "little") + bytes(40)
    assert attribute_versions(head + row) == {0x9005A: 7}
    assert attribute_versions(head + row[:-1]) == {}
    assert attribute_versions(b"") == {}
