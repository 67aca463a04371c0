"""Resets killed at every crash point, on a real Active Directory: set at most once, unknown where unknown.

The oracle is the directory's: the version of the password counts how often it was set.
LAMPLIGHTER_TORTURE=1 kills fifty times at every point, at whichever pass of it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamplighter import crashpoints
from lamplighter.engine.run import Run
from lamplighter.model.inventory import Host
from lamplighter.model.session import Connect
from tests.accountkit import OLD, Office, finish
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.lab import samba_ad
from tests.lab.samba_ad import SambaAd

pytestmark = [pytest.mark.lab, pytest.mark.faults]
TIMES = much(1, 50)
PASSES = {
    "rollout.after-intent": 1, "delivery.kept": 1, "rollout.before-outcome": 1, "rollout.after-outcome": 1,
    "delivery.claimed": 1, "delivery.handed-over": 1, "ledger.opened": 1, "ledger.seal.recorded": 1,
    "ledger.seal.chained": 1, "ledger.seal.marked": 1,
    "log.append.before": 12, "log.append.half": 12, "log.append.written": 12, "log.append.durable": 12,
    "put.before": 4, "put.half": 4, "put.written": 4, "put.named": 4, "put.durable": 4,
    "swap.before": 7, "swap.half": 7, "swap.written": 7, "swap.named": 7, "swap.durable": 7,
}
"""Every crash point that a reset comes past, and how often at least."""
RECOVERING = ("log.truncate.before", "log.truncate.done", "ledger.recovered")
"""Those it comes past once, and only after it died with half a line written."""


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-kill-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(minPwdLength=12)
        yield up


@pytest.fixture
def office(samba: SambaAd, tmp_path: Path) -> Office:
    return Office(tmp_path, samba, rates={"per_user_a_day": 100, "per_hour": 500})


def version(office: Office, account: str) -> int:
    """How often the directory says the password was set."""
    desk = office.desk
    with desk.reach(desk.site) as connect:
        session: Any = connect(Host(account))
        try:
            mark = desk.system.mark(desk.system.find(account, session), session)
        finally:
            session.close()
    return int(str(mark["version"]))


def killed(office: Office, account: str, run: str, point: str, nth: int = 1) -> bool:
    """Run a reset in a process of its own that dies at the nth pass of a point; whether it did."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            crashpoints._NAME, crashpoints._COUNT = point, nth
            crashpoints._PASSED.clear()
            office.go(account, run)
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_the_list_has_every_point_that_a_reset_comes_past(
    samba: SambaAd, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    samba.user("counted", OLD)
    monkeypatch.setattr(crashpoints, "_NAME", "*")
    monkeypatch.setattr(crashpoints, "_COUNT", sys.maxsize)
    passed: Counter[str] = Counter()
    monkeypatch.setattr(crashpoints, "_PASSED", passed)
    office.go("counted")
    assert passed.keys() - {"*"} == set(PASSES)
    assert all(passed[point] >= least for point, least in PASSES.items())


@pytest.mark.timeout(3600 if TIMES > 1 else 120)
@pytest.mark.parametrize("point", [*PASSES, *RECOVERING])
def test_a_password_is_set_at_most_once(samba: SambaAd, office: Office, point: str) -> None:
    account, dice, figures = f"k-{point}"[:20], random.Random(point), Counter[str]()  # noqa: S311 - no secret
    samba.user(account, OLD)
    for number in range(TIMES):
        run = f"reset-{number}"
        before = version(office, account)
        if point in RECOVERING:
            figures["kills"] += killed(office, account, run, "log.append.half", dice.randint(1, 12))
        assert killed(office, account, run, point, dice.randint(1, PASSES.get(point, 1)))
        figures["kills"] += 1
        figures.update(judged(office, account, run, point, before))
    name = f"at_{point.replace('.', '_').replace('-', '_')}"
    report("accounts", [
        Row(f"{name}_kills", figures["kills"], "kills", TIMES, higher=True),
        Row(f"{name}_set_twice", 0, "passwords", 0),
        Row(f"{name}_said_changed_and_was_not", 0, "runs", 0),
        Row(f"{name}_kept_after_its_run", 0, "passwords", 0),
        Row(f"{name}_unknown", figures["unknown"], "runs"),
        Row(f"{name}_delivered", figures["delivered"], "runs"),
    ])


def judged(office: Office, account: str, run: str, point: str, before: int) -> list[str]:
    """Go on with a killed run to its end; what the run and the delivery ended as, when both are right."""
    ending = office.go(account, run)
    set_times = version(office, account) - before
    assert set_times <= 1
    (outcome,) = ending.outcomes
    terminal, parcel = str(outcome.terminal), office.parcel(run)
    assert terminal in {"changed", "unknown"}
    assert not (terminal == "changed" and not set_times), "what is said to be done was done"
    assert parcel is None or parcel.state in {"delivered", "failed", "dropped"}
    assert parcel is None or not parcel.sealed
    if parcel and parcel.state == "delivered":
        assert set_times == 1
    if point in {"rollout.after-intent", "delivery.kept"}:
        assert (terminal, set_times) == ("unknown", 0), "never begun again blindly"
    return [terminal, parcel.state if parcel else "never made"]


# --- the directory is not there -----------------------------------------------------------------------


def test_a_server_that_is_down_before_leaves_everything(samba: SambaAd, office: Office) -> None:
    samba.user("down1", OLD)
    samba.pause()
    office.directory(connect_seconds=1, seconds=1)
    try:
        (outcome,) = office.go("down1").outcomes
    finally:
        samba.resume()
    assert str(outcome.terminal) == "unreachable"
    assert samba.kinit("down1", OLD).ok
    assert office.parcel() is None


def test_a_server_that_hangs_before_the_change_leaves_everything(samba: SambaAd, office: Office) -> None:
    samba.user("down2", OLD)
    office.directory(connect_seconds=1, seconds=1)

    def pause(_: Run) -> None:
        samba.pause()
        threading.Timer(6, samba.resume).start()

    (outcome,) = office.go("down2", planned=pause).outcomes
    assert str(outcome.terminal) in {"unreachable", "unknown"}
    samba.resume()
    assert samba.kinit("down2", OLD).ok


class Slow:
    """A session whose server stops answering right after a change was sent."""

    def __init__(self, inner: Any, samba: SambaAd) -> None:
        self._inner, self._samba = inner, samba

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def modify(self, dn: str, *changes: Any) -> None:
        self._inner.modify(dn, *changes)
        self._samba.pause()


def test_a_server_that_goes_down_after_the_change_is_asked_again(samba: SambaAd, office: Office) -> None:
    samba.user("down3", OLD)
    office.directory(connect_seconds=2, seconds=2)

    def slow(connect: Connect) -> Connect:
        return lambda host: Slow(connect(host), samba)

    resume = threading.Timer(5, samba.resume)
    resume.start()
    try:
        (outcome,) = office.go("down3", connect=slow).outcomes
    finally:
        resume.join()
        samba.resume()
    assert str(outcome.terminal) in {"changed", "unknown", "failed"}
    assert version(office, "down3") == 2
    if str(outcome.terminal) == "unknown":
        assert office.parcel().state == "dropped"


# --- somebody else ------------------------------------------------------------------------------------


def test_of_two_resets_at_once_one_is_done(samba: SambaAd, office: Office) -> None:
    samba.user("twice", OLD, mail="twice@example.com")
    with office.run("twice", "reset-1") as (_, first):
        first.make_plan(first.survey())
        assert office.go("twice@example.com", "reset-2").message == "1 changed"
        desk = office.desk
        (outcome,) = finish(desk, first).outcomes
    assert str(outcome.terminal) in {"drifted", "refused"}
    assert version(office, "twice") == 2


def test_the_lease_is_on_the_account_and_not_on_its_name(samba: SambaAd, office: Office) -> None:
    samba.user("leased", OLD, mail="leased@example.com")
    with office.run("leased", "reset-1") as (_, first):
        plan = first.make_plan(first.survey())
        pin = str(plan.hosts[0].steps[0].args["pin"])
        with first.leases.hold(pin, "another-run"):
            (outcome,) = office.go("leased@example.com", "reset-2").outcomes
    assert "another-run" in outcome.message


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_an_account_that_changes_after_the_plan_is_left_alone(
    samba: SambaAd, office: Office, how: str
) -> None:
    dn = samba.user(how, OLD)
    record = f"dn: {dn}\nchangetype: delete\n"
    if how == "moved":
        record = f"dn: {dn}\nchangetype: modrdn\nnewrdn: CN={how}\ndeleteoldrdn: 1\n"
        record += f"newsuperior: {samba_ad.MANAGERS}\n"
    act: Callable[[Run], None] = lambda _: samba.admin.apply(record)  # noqa: E731 - one line
    (outcome,) = office.go(how, planned=act).outcomes
    assert str(outcome.terminal) in {"drifted", "refused"}
    assert office.parcel() is None
