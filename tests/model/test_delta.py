"""What a new plan does differently from an approved one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.delta import difference, left_over
from lamplighter.model.outcome import HostOutcome, Terminal
from tests.plankit import a_plan, a_step, changed, still

ENDS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(list(Terminal)))


@given(ENDS)
def test_what_is_left_is_what_did_not_come_to_its_end(terminals: dict[str, Terminal]) -> None:
    plan = a_plan((changed("a"), changed("b"), still("c"), changed("d")))
    ends = {host: HostOutcome(host, terminal, "") for host, terminal in terminals.items()}
    left = left_over(plan, ends)
    for host in "abcd":
        done = terminals.get(host) in {Terminal.CHANGED, Terminal.UNCHANGED}
        assert (host in left) is not done
    assert list(left) == sorted(left)


def test_only_what_differs_is_told() -> None:
    old = a_plan((
        changed("a", a_step("upgrade", "two", install={"ssl": "1.1", "web": "2"})),
        changed("b", a_step("upgrade", "one", install={"web": "2"})),
        changed("c", a_step("upgrade"), a_step("reboot")),
        changed("d", a_step("upgrade", undo="downgrade")),
    ))
    new = a_plan((
        changed("a", a_step("upgrade", "other words", install={"ssl": "1.2", "web": "2", "new": "1"})),
        changed("b", a_step("upgrade", "one", install={"web": "2"}), facts="sha256:other"),
        still("c"),
        changed("d", a_step("upgrade")),
        changed("e"),
    ))
    ends = {host: HostOutcome(host, Terminal.DRIFTED, "rebooted") for host in "abcd"}
    told = {one.host: one for one in difference(old, ends, new)}
    assert told["a"].lines == (
        "upgrade.install.new: absent → 1", "upgrade.install.ssl: 1.1 → 1.2",
    )
    assert told["a"].ended == "drifted: rebooted"
    assert told["b"].lines == (), "exactly what was approved before"
    assert any(line.startswith("left alone: absent → up to date") for line in told["c"].lines)
    assert any(line.startswith("reboot: ") for line in told["c"].lines)
    assert told["d"].lines == ("upgrade.undo: downgrade → cannot be undone",)
    assert told["e"].ended == ""
    assert told["e"].lines
