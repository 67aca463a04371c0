"""`lamplighter request`: ask for a run with a signature, so that who asked is a fact and not a claim."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.common import STARTED, AsJson, SiteName, started, the_site
from lamplighter.cli.page import console, print_json
from lamplighter.derive.catalogue import named
from lamplighter.derive.prefect_yaml import offered
from lamplighter.engine.targets import targets_of
from lamplighter.errors import NotApprovedError, SelectionError
from lamplighter.model.attest import Code
from lamplighter.model.envelope import folded
from lamplighter.model.options import REQUESTER, parameters_of, started_with
from lamplighter.model.request import NAMESPACE, Asked, SignedRequest, authenticate
from lamplighter.model.runbook import Runbook
from lamplighter.signing import sign_line, signer_of
from lamplighter.site import Site
from lamplighter.timespan import seconds


def request(
    runbook: Annotated[str, typer.Argument(help="its id, for example patch-linux")],
    key: Annotated[Path, typer.Option(
        envvar="LAMPLIGHTER_KEY", help="your private key, or its .pub when the key is in the agent",
    )],
    site: SiteName = "",
    hosts: Annotated[str, typer.Option(help="an Ansible host pattern: web, prod:!db1")] = "all",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="any other field of its form")
    ] = None,
    change_ref: Annotated[str, typer.Option(help="ticket or change number")] = "",
    reason: Annotated[str, typer.Option(help="one line, kept with the request")] = "",
    valid_for: Annotated[str, typer.Option(help="until when it may start a run: 30m, 4h, 2d")] = "1h",
    *,
    deployment: Annotated[str, typer.Option(help="what starts it; else the site's first deployment")] = "",
    emergency: Annotated[bool, typer.Option("--emergency", help="expedited; reviewed afterwards")] = False,
    print_only: Annotated[
        bool, typer.Option("--print", help="only print the line, for the form's field `requester`")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sign a request for one run, and start it."""
    entry, place, key = named(runbook), the_site(site), key.expanduser()
    signer = signer_of(key, place.signers)
    targets_of(entry.runbook, place).select(hosts)
    asked = _asked(
        entry.runbook, place, option or [], hosts=hosts, change_ref=change_ref, emergency=emergency
    )
    now = int(time.time())
    signed = SignedRequest(
        asked, signer, now, now + seconds(valid_for), secrets.token_hex(16),
        reason,
    )
    line = sign_line(signed.to_bytes(), key, NAMESPACE)
    _check(line, signed, place, now)
    if print_only:
        if as_json:
            print_json({"runbook": runbook, "site": place.name, "requester": signer, "line": line})
        else:
            typer.echo(folded(line))
        return
    _start(deployment or offered(place, runbook), asked, line, as_json=as_json)


def _asked(
    runbook: Runbook, place: Site, pairs: list[str], *, hosts: str, change_ref: str, emergency: bool
) -> Asked:
    """Everything the flow will be started with, as typed and by default.

    Raises:
        SelectionError: a parameter is unknown, ill-typed or missing; all of them are named.
    """
    if runbook.start is None:
        raise SelectionError(f"{runbook.id} has no flow that could be started", changed="Nothing was signed")
    choices = parameters_of(runbook.start).without(REQUESTER)
    about = {
        "hosts": hosts, "account": hosts, "change_ref": change_ref, "ticket": change_ref, "site": place.name,
    }
    given = choices.read(pairs) | {name: value for name, value in about.items() if name in choices.types}
    if emergency:
        given["emergency"] = True
    missing = sorted(choices.required - set(given))
    choices.require(given, (f"{name} is missing (write --set {name}=...)" for name in missing))
    return Asked(place.name, runbook.id, started_with(runbook, given))


def _check(line: str, signed: SignedRequest, place: Site, now: int) -> None:
    """Refuse to hand out a line that no run would take."""
    judged = authenticate(line, signed.asked, place.trust, now, {}, "")
    if isinstance(judged, Code):
        raise NotApprovedError(
            f"the signed request of {signed.requester} would not count: {judged}", where=place.name,
            changed="Nothing was started",
            advice=f"Have internal IT list your key in approvers for {NAMESPACE}",
        )


def _start(deployment: str, asked: Asked, line: str, *, as_json: bool) -> None:
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    run = orchestrator.start(deployment, {**asked.parameters, REQUESTER: line})
    name = orchestrator.run_of(asked.runbook, run)
    begun = started(name, asked.site, str(run.id), orchestrator.page(run.id))
    if as_json:
        print_json(begun)
    else:
        console().print(STARTED.format(**begun), markup=False)
