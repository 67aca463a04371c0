"""The step that reboots a Linux host, shared by all patch runbooks: at most once, proven by the boot id."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

from lamplighter.errors import (
    AuthFailedError,
    HostKeyError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    UnitExistsError,
    UnreachableError,
)
from lamplighter.model.outcome import Evidence, Outcome, StepResult
from lamplighter.model.plan import Step
from lamplighter.model.session import Session, UnitState
from tasks.kernels import asks_for_reboot, kernels
from tasks.linux import boot_id as linux_boot_id
from tasks.linux import read, script

BOOT_SECONDS = 600
BOOT_READ_SECONDS = 30.0
ALWAYS, REQUIRED = "always", "required"


def reboot_step(boot_id: str, why: Sequence[str], *, certain: bool) -> Step:
    """The step that reboots a host: for sure, or only if it asks for it by then.

    Args:
        boot_id: of the boot the plan was made in; another one means that somebody else rebooted.
        why: reasons for the approver.
        certain: False plans a reboot that is left out when the host does not ask for it.
    """
    reasons = f" ({', '.join(why)})" if why else ""
    summary = f"reboot{reasons}" if certain else "reboot, only if the updated packages ask for it"
    args = {"boot_id": boot_id, "when": ALWAYS if certain else REQUIRED}
    return Step("reboot", "host.reboot", summary, args)


def reboot(step: Step, session: Session, unit: str, timeout: float = BOOT_SECONDS) -> Evidence:
    """Carry out a `host.reboot` step; see `reboot_step`.

    Raises:
        RefusedError: somebody else rebooted the host, and it asks for a reboot again.
        RemoteFailedError: the command failed, or the host did not come back in time.
    """
    session.unit_state(unit, sudo=True)  # over a new connection, should the upgrade have cost us the old one
    boot_id, wanted = _boot(session)
    if boot_id != step.args["boot_id"]:
        if wanted is None:
            said = "rebooted by somebody else since the plan, and asks for no other reboot"
            return Evidence(said, {"boot_id_before": step.args["boot_id"], "boot_id": boot_id})
        raise RefusedError(
            "the host was rebooted by somebody else since the plan was made, and asks for another reboot",
            where=session.host, changed="it was not rebooted again", advice="plan it again",
        )
    if step.args["when"] == REQUIRED and wanted is None:
        return Evidence("no reboot: the host does not ask for one", {"boot_id": boot_id})
    with contextlib.suppress(UnitExistsError):  # it was told to before a crash: wait for what comes of that
        session.launch(unit, script("reboot"), sudo=True)
    return _await(step, session, unit, wanted or (), timeout)


def _await(step: Step, session: Session, unit: str, why: Iterable[str], timeout: float) -> Evidence:
    before = str(step.args["boot_id"])
    began = time.monotonic()
    try:
        now = session.await_boot(before, timeout=timeout, unit=unit)
    except TimedOutError as error:
        raise RemoteFailedError(error.message, where=session.host, advice=error.advice) from error
    seconds = round(time.monotonic() - began)
    data = {"boot_id_before": before, "boot_id": now, "seconds": seconds, "asked_by": list(why)}
    proof = "" if now != before else "; its boot id stays (a container), its first process is a new one"
    return Evidence(f"rebooted, back after {seconds} s{proof}", data)


def probe_reboot(step: Step, session: Session, unit: str, timeout: float = BOOT_SECONDS) -> Outcome | None:
    """After a crash: was it rebooted? A changed boot id says yes; a unit that never began says no."""
    before = str(step.args["boot_id"])
    try:
        began = session.unit_state(unit, sudo=True)
        boot_id, _ = _boot(session)
    except (AuthFailedError, HostKeyError):
        raise
    except (SessionLostError, UnreachableError):  # perhaps it is on its way down, or up
        return _late(step, session, unit, timeout)
    if boot_id != before:
        data = {"boot_id_before": before, "boot_id": boot_id}
        return Outcome(StepResult.OK, Evidence("rebooted: the boot id has changed", data))
    return None if began is UnitState.ABSENT else _late(step, session, unit, timeout)


def _late(step: Step, session: Session, unit: str, timeout: float) -> Outcome:
    """Wait for the other boot of a host that may have been told to reboot."""
    before = str(step.args["boot_id"])
    try:
        return Outcome(StepResult.OK, _await(step, session, unit, (), timeout))
    except RemoteFailedError as error:
        return Outcome(StepResult.FAILED, Evidence(str(error), {"boot_id": before}))


def _boot(session: Session) -> tuple[str, tuple[str, ...] | None]:
    """The boot id, and which packages ask for a reboot; None when nothing does."""
    reading = read(session, "boot", timeout=BOOT_READ_SECONDS, sudo=False)
    asks = asks_for_reboot(reading["reboot"], kernels(reading["kernels"].text))
    return linux_boot_id(reading, session.host), asks
