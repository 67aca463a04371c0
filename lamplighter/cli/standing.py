"""`lamplighter standing`: sign what may run without asking again, take it back, and see what stands."""

from __future__ import annotations

import secrets
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.common import console, print_json, table
from lamplighter.cli.plan import operation_of
from lamplighter.derive.catalogue import named
from lamplighter.errors import SelectionError
from lamplighter.model.approval import NAMESPACE as APPROVAL
from lamplighter.model.approval import Decision, Statement
from lamplighter.model.attest import Code, attest, person_of
from lamplighter.model.envelope import visible
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import On, Runbook
from lamplighter.model.show import when
from lamplighter.model.standing import ACCOUNTS, NAMESPACE, Standing
from lamplighter.signing import sign_line, signer_of
from lamplighter.site import Site, load_site_named
from lamplighter.site.standing import FOLDER, StandingLine
from lamplighter.timespan import seconds


def standing(
    runbook: Annotated[str, typer.Argument(help="its id; left out with --list and --revoke")] = "",
    site: Annotated[str, typer.Option(help="a folder in inventories/")] = "demo",
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
    valid_for: Annotated[str, typer.Option(help="until when it counts: 90d, at most 366d")] = "90d",
    reason: Annotated[str, typer.Option(help="one line, kept with it")] = "",
    *,
    revoke: Annotated[str, typer.Option(metavar="ID", help="take this one back")] = "",
    list_: Annotated[bool, typer.Option("--list", help="show what stands")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="with --list: print it as JSON")] = False,
) -> None:
    """Approve a kind of change beforehand: a signed line in the site's folder, to be committed."""
    place = load_site_named(site)
    if list_:
        _list(place, as_json=as_json)
        return
    if key is None or not (revoke or (runbook and hosts)):
        raise SelectionError("name --key, and a runbook with --hosts, or --revoke ID, or --list")
    signer, now = signer_of(key.expanduser(), place.signers), int(time.time())
    if revoke:
        taken = _granted(place, revoke)
        said: Standing | Statement = Statement(
            taken.digest, Decision.REVOKE, signer, now, now + 1, secrets.token_hex(16), reason
        )
    else:
        book = named(runbook).runbook
        _check_selection(book, place, hosts)
        said = Standing(
            place.name, runbook, hosts, signer, now, now + seconds(valid_for), secrets.token_hex(16), reason,
            operation_of(book, option or []).options(), _limits(place.rollout(book)[0], limits or []),
        )
    line = sign_line(said.to_bytes(), key.expanduser(), APPROVAL if revoke else NAMESPACE)
    file = place.path / FOLDER / f"{'revoke' if revoke else runbook}-{said.id[:8]}.line"
    _write(file, line, place)


def _check_selection(book: Runbook, place: Site, hosts: str) -> None:
    if book.on is On.HOSTS:
        place.select(hosts)
    elif hosts != ACCOUNTS:
        raise SelectionError(f"{book.id} is about accounts", advice=f"write --hosts {ACCOUNTS}")


def _write(file: Path, line: str, place: Site) -> None:
    code = _code(line, place)
    if code:
        raise SelectionError(
            f"the signature would not count: {code}", where=str(file), changed="Nothing was written",
            advice=f"Have internal IT list your key in approvers for {NAMESPACE}",
        )
    try:
        file.parent.mkdir(exist_ok=True)
        with file.open("x", encoding="ascii") as out:
            out.write(line + "\n")
    except OSError as error:
        raise SelectionError(f"it cannot be written: {error.strerror}", where=str(file)) from error
    console().print(f"signed: {file}. It counts once the worker's copy of the site has it", markup=False)


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
    rows = [
        {
            "id": one.said.id, "runbook": one.said.runbook, "hosts": one.said.selection,
            "options": dict(one.said.options), "approver": one.said.approver, "until": when(one.said.expires),
            "state": _state(one, one.said, place, now), "file": f"{FOLDER}/{one.file}",
        }
        for one in place.standing if isinstance(one.said, Standing)
    ]
    if as_json:
        print_json(rows)
        return
    shown = ("id", "runbook", "hosts", "approver", "until", "state")
    cells = [[visible(str(row[name])).replace("[", r"\[") for name in shown] for row in rows]
    console().print(table("", shown, cells) if cells else f"{place.name} has no standing approvals")


def _state(one: StandingLine, said: Standing, place: Site, now: float) -> str:
    """In one word, as the gate would say it; party and role are the gate's own to ask for."""
    taken_back = any(
        isinstance(other.said, Statement) and other.said.plan == one.digest
        and other.said.revokes in {"", said.id} and not _code(other.line, place)
        for other in place.standing
    )
    if taken_back:
        return str(Code.REVOKED)
    if now >= said.expires:
        return str(Code.EXPIRED)
    return str(_code(one.line, place) or "counts")


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
