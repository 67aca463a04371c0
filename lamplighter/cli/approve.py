"""`lamplighter approve`, `reject`, `revoke`: decide on a run, from bytes this command verified itself.

What is signed is read from the site's store and checked against the run's ledger; nothing that Prefect
shows is trusted. The key is looked at first, and whether its owner may decide this at all; what was signed is
judged as the run will judge it, before it is left in the store, where the worker finds it. Prefect is told to
wake the run; when it cannot be, the watch does so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lamplighter.cli.common import AnySite, AsJson, Found, RunId, find_run
from lamplighter.cli.page import console, print_json
from lamplighter.cli.show import print_to_approve
from lamplighter.engine.run import drop_line, dropped_lines
from lamplighter.errors import DeclinedError, NotApprovedError, OrchestratorError, SelectionError, StoreError
from lamplighter.model.approval import Decision
from lamplighter.model.attest import Code
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import folded
from lamplighter.model.gate import GatePolicy, GateResult, evaluate, objection, obstacles
from lamplighter.model.history import replay
from lamplighter.model.plan import Plan
from lamplighter.model.refusal import in_words
from lamplighter.model.vote import name_of
from lamplighter.signing import DEFAULT_VALID_FOR, Wish, approve_line, signer_of
from lamplighter.timespan import seconds

Key = Annotated[
    Path,
    typer.Option("--key", envvar="LAMPLIGHTER_KEY", help="your private key, or .pub with it in the agent"),
]
As = Annotated[str, typer.Option("--as", help="your id; otherwise told by the key")]
Reason = Annotated[str, typer.Option(help="one line, kept with the run")]
HELP_VALID = "how long it counts: 90m, 24h, 3d; else a day, or to its window's end"
ValidFor = Annotated[str, typer.Option(help=HELP_VALID)]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask to confirm")]
PrintOnly = Annotated[bool, typer.Option("--print", help="only print the line, to paste it into the form")]

DEFAULT_KEY = Path("~/.ssh/id_ed25519")


def approve(
    run: RunId, site: AnySite = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "", *,
    valid_for: ValidFor = "", yes: Yes = False, print_only: PrintOnly = False, as_json: AsJson = False,
) -> None:
    """Read a run's plan, sign exactly that, and let the run go on; exit 1 when your approval cannot count."""
    desk = _sit_down(run, site, key, as_, Decision.APPROVE)
    why = obstacles(desk.plan, desk.policy, int(time.time()))
    if why:
        raise DeclinedError(
            f"no signature can open this gate; it needs {'; '.join(why)}", where=desk.found.run,
            changed=NOTHING,
        )
    out = console(stderr=True) if print_only or as_json else console()
    print_to_approve(out, desk.found, desk.plan)
    if not yes:
        _confirm(desk.plan)
    wish = Wish(desk.who, reason=reason, valid_for=_lasts(desk.plan, valid_for))
    _decide(desk, wish, print_only=print_only, as_json=as_json)


def reject(
    run: RunId, site: AnySite = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "", *,
    print_only: PrintOnly = False, as_json: AsJson = False,
) -> None:
    """Sign that a run's plan must not be carried out. Final."""
    desk = _sit_down(run, site, key, as_, Decision.REJECT)
    _decide(desk, Wish(desk.who, Decision.REJECT, reason), print_only=print_only, as_json=as_json)


def revoke(
    run: RunId, site: AnySite = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "", *,
    approval: Annotated[str, typer.Option(help="take back only this approval, by its id")] = "",
    as_json: AsJson = False,
) -> None:
    """Take an approval back, also while the run is under way: it stops before the next host."""
    desk = _sit_down(run, site, key, as_, Decision.REVOKE)
    known = [name_of(line) for line in desk.lines()]
    if approval and approval not in known:
        raise DeclinedError(
            f"{desk.found.run} has no approval {approval}", changed="Nothing was revoked",
            advice=f"It has: {', '.join(known)}" if known else "Nobody has signed it yet",
        )
    _decide(desk, Wish(desk.who, Decision.REVOKE, reason, revokes=approval), as_json=as_json)


NOTHING = "Nothing was signed"


@dataclass(frozen=True, slots=True)
class Desk:
    """Somebody with a key that is listed for them, and a run that they may decide on."""

    found: Found
    plan: Plan
    data: bytes
    policy: GatePolicy
    who: str
    key: Path

    def lines(self) -> list[str]:
        """What was signed of the plan so far."""
        recorded = replay(self.found.records).approvals
        return list(dict.fromkeys([*recorded, *dropped_lines(self.found.store, sha256(self.data))]))

    def judge(self, line: str) -> GateResult:
        """The gate with one more line."""
        return evaluate(self.data, [*self.lines(), line], self.policy, int(time.time()))


def _sit_down(run: str, site: str | None, key: Path, named: str, decision: Decision) -> Desk:
    """Look at the key, at the run, and at whether the one may decide on the other, before anything is asked.

    Raises:
        SigningError: the key is not there, or not listed, or not for who is named.
        DeclinedError: the run has ended.
        NotApprovedError: nothing that this person signs would count.
    """
    found, key = find_run(run, site), key.expanduser()
    who = signer_of(key, found.site.signers, named)
    history = replay(found.records)
    if history.sealed or history.ended():
        ended = history.sealed or history.ending
        raise DeclinedError(
            f"{found.run} at {found.site.name} has ended as {ended}: there is nothing left to {decision}",
            changed=NOTHING,
        )
    plan, data = found.plan()
    policy = found.site.gate_policy(plan.runbook, found.store)
    code = objection(plan, who, policy, decision)
    if code:
        raise _not_counted(code, who, plan, decision)
    return Desk(found, plan, data, policy, who, key)


def _not_counted(code: Code, who: str, plan: Plan, decision: Decision) -> NotApprovedError:
    return NotApprovedError(
        f"the {decision} of {who} does not count: {in_words(code, who, plan)}", where=plan.run,
        changed="Nothing was sent, and the gate is as it was",
    )


def _lasts(plan: Plan, given: str) -> int:
    """Seconds the approval counts: as given, else a day, or to the end of a window that is still to open."""
    if given:
        return seconds(given)
    now = int(time.time())
    return max(DEFAULT_VALID_FOR, plan.window.closes - now if plan.window.opens > now else 0)


def _confirm(plan: Plan) -> None:
    count = str(len(plan.targets))
    typed = typer.prompt(f"To approve, type the number of hosts that will be changed ({count})", err=True)
    if typed.strip() != count:
        raise SelectionError("not approved: the number was not typed", changed=NOTHING)


def _decide(desk: Desk, wish: Wish, *, print_only: bool = False, as_json: bool = False) -> None:
    """Sign, judge as the run will, leave the line where the run finds it, and have the run woken."""
    line = approve_line(desk.data, wish, desk.key, int(time.time()))
    result = desk.judge(line)
    code = dict(result.refused).get(name_of(line))
    if code and code not in _MEANT.get(wish.decision, ()):
        raise _not_counted(code, wish.approver, desk.plan, wish.decision)
    if print_only and not as_json:
        typer.echo(folded(line))
        return
    said = {
        "run": desk.found.run, "site": desk.found.site.name, "decision": str(wish.decision),
        "approver": wish.approver, "plan": sha256(desk.data), "id": name_of(line), "line": line,
        "gate": {"passed": result.passed, "signed": list(result.signed), "needed": list(result.needed)},
        "sent": False, "page": "", "why": "",
    }
    told = True
    if not print_only:
        told = _send(desk, wish, line, said)
    if as_json:
        print_json(said)
    else:
        _say(desk.found, result, said)
    if not told:
        raise typer.Exit(2)


_MEANT = {Decision.REJECT: {Code.REJECTED}, Decision.REVOKE: {Code.REVOKED, Code.REJECTED}}
"""Under what a reject or revoke that counts is listed among the lines that open nothing."""


def _send(desk: Desk, wish: Wish, line: str, said: dict[str, Any]) -> bool:
    """Leave the line in the store and wake the run; False when Prefect could not be told."""
    lost = ""
    try:
        drop_line(desk.found.store, sha256(desk.data), line)
    except StoreError as error:
        lost = f"the line could not be left in the store: {error.message}"
    said["sent"] = not lost
    if not replay(desk.found.records).waits:
        if lost:
            raise StoreError(lost, where=desk.found.run, changed="The decision was not kept anywhere")
        return True
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    decision = "reject" if wish.decision is Decision.REJECT else "approve"
    answer = {"decision": decision, "approval": line, "reason": wish.reason}
    try:
        said["page"] = orchestrator.page(orchestrator.resume(desk.found.run, answer).id)
    except OrchestratorError as error:
        if lost:
            raise StoreError(f"{lost}; {error}", changed="The decision was not kept anywhere") from error
        said["why"] = str(error)
        return False
    said["sent"] = True
    return True


def _say(found: Found, result: GateResult, said: dict[str, Any]) -> None:
    out = console()
    out.print(f"signed by {said['approver']}: {said['decision']} {said['plan']}", markup=False)
    name = f"{found.run} at {found.site.name}"
    if said["why"]:
        out.print(f"The line is kept, and Prefect was not told: {said['why']}", markup=False, soft_wrap=True)
        out.print(f"The watch wakes {name} in its next round", markup=False)
    elif said["decision"] != Decision.APPROVE:
        under_way = replay(found.records).passed
        what = "it stops before the next host" if under_way else "nothing of it is carried out"
        out.print(f"{name} is told: {what}. {said['page']}", markup=False, soft_wrap=True)
    elif result.passed:
        how = said["page"] or "it finds the line by itself"
        out.print(f"{name} goes on: {how}", markup=False, soft_wrap=True)
    if not result.passed and said["decision"] == Decision.APPROVE:
        out.print(f"{name} still waits; needed: {'; '.join(result.needed)}", markup=False, soft_wrap=True)
