"""`lamplighter standing`: sign what may run without asking again, take it back, and see what stands."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.common import SiteName, table, the_site
from lamplighter.cli.page import console, escape, print_json
from lamplighter.cli.plan import operation_of
from lamplighter.derive.catalogue import named
from lamplighter.errors import MalformedError, NotApprovedError, SelectionError, StoreError
from lamplighter.model.approval import NAMESPACE as APPROVAL
from lamplighter.model.approval import Decision, Statement
from lamplighter.model.attest import Code, attest, person_of
from lamplighter.model.calendar import told
from lamplighter.model.envelope import read_line, visible
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import On, Runbook
from lamplighter.model.sshsig import parse_signature, verify
from lamplighter.model.standing import ACCOUNTS, DAY, NAMESPACE, Standing, Use, Uses, Widening
from lamplighter.signing import sign_line, signer_of
from lamplighter.site import Site
from lamplighter.site.standing import FOLDER, StandingLine
from lamplighter.site.uses import RecentUses
from lamplighter.store import open_store
from lamplighter.timespan import seconds


def standing(
    runbook: Annotated[str, typer.Argument(help="its id; left out with --list and --revoke")] = "",
    site: SiteName = "",
    key: Annotated[Path | None, typer.Option(
        envvar="LAMPLIGHTER_KEY", help="your private key, or its .pub when the key is in the agent",
    )] = None,
    hosts: Annotated[str, typer.Option(help="an Ansible host pattern: which hosts it covers")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="an option of the runbook")
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=NUMBER", help="the loosest a plan may be; else as the site has it"),
    ] = None,
    *,
    per_hour: Annotated[int, typer.Option(help="most targets changed on it in an hour", min=0)] = 0,
    per_day: Annotated[int, typer.Option(help="most targets changed on it in a day", min=0)] = 0,
    members: Annotated[int, typer.Option(help="most hosts that --hosts may match; else as many as now")] = 0,
    valid_for: Annotated[str, typer.Option(help="until when it counts: 90d, at most 366d")] = "90d",
    reason: Annotated[str, typer.Option(help="one line, kept with it")] = "",
    revoke: Annotated[str, typer.Option(metavar="ID", help="take this one back")] = "",
    list_: Annotated[bool, typer.Option("--list", help="show what stands")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Approve a kind of change beforehand: a signed line in the site's folder, to be committed."""
    place = the_site(site)
    if list_:
        _list(place, as_json=as_json)
        return
    if key is None or not (revoke or (runbook and hosts and per_hour and per_day)):
        raise SelectionError(
            "name --key, and a runbook with --hosts, --per-hour and --per-day; or --revoke ID; or --list",
            changed="Nothing was signed",
        )
    signer, now = signer_of(key.expanduser(), place.signers), int(time.time())
    if revoke:
        taken = _granted(place, revoke)
        said: Standing | Statement = Statement(
            taken.digest, Decision.REVOKE, signer, now, now + 1, secrets.token_hex(16), reason
        )
    else:
        book = named(runbook).runbook
        most = _members(book, place, hosts)
        bounds, waves = place.rollout(book)
        said = Standing(
            place.name, runbook, hosts, signer, now, now + seconds(valid_for), secrets.token_hex(16), reason,
            operation_of(book, option or []).options(), _limits(bounds, limits or []),
            Widening(waves.canary, waves.shares), members or most, Uses(per_hour, per_day),
        )
        _show(said, most, place.time_zone, as_json=as_json)
    line = sign_line(said.to_bytes(), key.expanduser(), APPROVAL if revoke else NAMESPACE)
    file = place.path / FOLDER / f"{'revoke' if revoke else runbook}-{said.id[:8]}.line"
    _write(file, line, place, as_json=as_json)


def _members(book: Runbook, place: Site, hosts: str) -> int:
    """How many hosts the pattern matches now; 0 for accounts, which no pattern lists."""
    if book.on is On.HOSTS:
        return len(place.select(hosts))
    if hosts != ACCOUNTS:
        raise SelectionError(f"{book.id} is about accounts", advice=f"write --hosts {ACCOUNTS}")
    return 0


def _show(said: Standing, now: int, zone: str, *, as_json: bool) -> None:
    """What is about to be signed, in full."""
    out = console(stderr=True) if as_json else console()
    out.print(f"[bold]May run without asking until {told(said.expires, zone)}[/]")
    for name, text in (
        ("Runbook", f"{said.runbook} at {said.site}"),
        ("On", f"{said.selection}: {now} hosts now, {said.members} at most" if now else said.selection),
        ("Options", ", ".join(f"{name}={value}" for name, value in said.options.items()) or "none"),
        ("In one run", ", ".join(f"{name} {value}" for name, value in asdict(said.limits).items())),
        ("Waves", f"{said.waves.canary} first, then {', '.join(f'{one} %' for one in said.waves.shares)}"),
        ("By all runs", f"{said.uses.hour} targets an hour, {said.uses.day} a day"),
    ):
        out.print(f"  [dim]{name:<12}[/] {escape(visible(text))}", soft_wrap=True)


def _write(file: Path, line: str, place: Site, *, as_json: bool) -> None:
    code = _code(line, place)
    if code:
        raise NotApprovedError(
            f"the signature would not count: {code}", where=str(file), changed="Nothing was written",
            advice=f"Have internal IT list your key in approvers for {NAMESPACE}",
        )
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("x", encoding="ascii") as out:
            out.write(line + "\n")
    except OSError as error:
        raise SelectionError(f"it cannot be written: {error.strerror}", where=str(file)) from error
    if as_json:
        print_json({"site": place.name, "file": str(file), "line": line})
        return
    sentence = f"signed for {place.name}: {file}. It counts once the worker's copy of the site has it"
    console().print(sentence, markup=False)


def _limits(limits: Limits, pairs: list[str]) -> Limits:
    names = [one.name for one in fields(Limits)]
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in names or not number.isdecimal():
            raise SelectionError(f"{pair!r} is no limit", advice=f"write NAME=NUMBER of: {', '.join(names)}")
        limits = replace(limits, **{name: int(number)})
    return limits


def _granted(place: Site, name: str) -> StandingLine:
    found = [one for one in place.standing if isinstance(one.said, Standing) and one.said.id.startswith(name)]
    if len(found) != 1:
        what = "names several standing approvals" if found else "is no standing approval"
        raise SelectionError(f"{name!r} {what} of {place.name}", advice="lamplighter standing --list")
    return found[0]


def _list(place: Site, *, as_json: bool) -> None:
    now = time.time()
    uses = _uses(place)
    rows = [
        {
            "id": one.said.id, "runbook": one.said.runbook, "hosts": one.said.selection,
            "options": dict(one.said.options), "approver": one.said.approver,
            "until": told(one.said.expires, place.time_zone),
            "used today": f"{_today(uses, one, now)} of {one.said.uses.day}",
            "growth": _growth(place, one.said), "state": _state(one, one.said, place, now),
            "file": f"{FOLDER}/{one.file}",
        }
        for one in place.standing if isinstance(one.said, Standing)
    ]
    if as_json:
        print_json(rows)
        return
    shown = ("id", "runbook", "hosts", "growth", "used today", "approver", "until", "state")
    cells = [[visible(str(row[name])).replace("[", r"\[") for name in shown] for row in rows]
    console().print(table("", shown, cells) if cells else f"{place.name} has no standing approvals")


def _state(one: StandingLine, said: Standing, place: Site, now: float) -> str:
    """In one word, as the gate would say it; party and role are the gate's own to ask for."""
    taken_back = any(
        isinstance(other.said, Statement) and other.said.plan == one.digest
        and other.said.revokes in {"", said.id} and _signed(other.line)
        for other in place.standing
    )
    if taken_back:
        return str(Code.REVOKED)
    if now >= said.expires:
        return str(Code.EXPIRED)
    return str(_code(one.line, place) or "counts")


def _signed(line: str) -> bool:
    """A revoke in the site's folder counts whoever signed it: see `lamplighter.model.vote`."""
    try:
        envelope = read_line(line)
        return verify(parse_signature(envelope.signature), envelope.statement)
    except MalformedError:
        return False


def _uses(place: Site) -> Mapping[str, tuple[Use, ...]]:
    try:
        return RecentUses(open_store(place.store))
    except StoreError:
        return {}


def _today(uses: Mapping[str, tuple[Use, ...]], one: StandingLine, now: float) -> str:
    try:
        return str(sum(use.targets for use in uses[one.digest] if use.time > now - DAY))
    except (KeyError, StoreError):
        return "?"


def _growth(place: Site, said: Standing) -> str:
    """How far the group has grown towards what was signed for."""
    if said.selection == ACCOUNTS:
        return "-"
    try:
        return f"{len(place.select(said.selection))} of {said.members}"
    except SelectionError:
        return f"0 of {said.members}"


def _code(line: str, place: Site) -> Code | None:
    """Why the signature of a standing approval or of a revoke does not count."""
    attested = attest(line, NAMESPACE, place.trust)
    if attested is Code.WRONG_NAMESPACE:
        attested = attest(line, APPROVAL, place.trust)
    if isinstance(attested, Code):
        return attested
    who = attested.signers[0].principal
    person = person_of(attested, who, place.trust)
    return person if isinstance(person, Code) else None
