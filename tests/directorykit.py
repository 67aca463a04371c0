"""Directories as people have them: what becomes of a reset or an unlock there, on a real server.

A run's own steps, from the settings to the proof, without a ledger: that those are kept is tested elsewhere.
Whatever it ends as, nothing that is refused may have changed the account.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyrage

from lamplighter.errors import LamplighterError, RefusedError, RemoteFailedError
from lamplighter.model.directory import Entry
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan
from lamplighter.secrets import Secret
from lamplighter.site.directory import DirectoryEntry, SiteDirectory
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_session import LdapSession
from lamplighter.transports.ldap_settings import SimpleBind
from tasks.account_changes import ResetPassword, UnlockAccount
from tasks.account_runs import guard_of, system_of
from tasks.accounts import Claims
from tests.lab import openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd

OLD = "First-Passw0rd!1"
Server = OpenLdap | SambaAd
_MARKS = ("pwdLastSet", "lockoutTime", "replPropertyMetaData")


@dataclass(frozen=True)
class Went:
    """How it ended: `refused`, `waits`, `unchanged`, `changed`, `failed`, `error`; what was said; to whom."""

    end: str
    said: str
    to: str = ""


def lab_of(server: Server) -> Any:
    return samba_ad if isinstance(server, SambaAd) else openldap


def rules_of(server: Server, **site: Any) -> DirectoryEntry:
    """A `directory.yaml` for a server of the lab, with a site's own lines laid over it."""
    lab, ad = lab_of(server), isinstance(server, SambaAd)
    key = str(pyrage.x25519.Identity.generate().to_public())
    usual = {
        "kind": "active-directory" if ad else "openldap", "ca": str(server.ca), "base": lab.BASE,
        "servers": [{"address": server.address, "name": samba_ad.NAME if ad else server.certified}],
        "bind": {"user": lab.SERVICE, "password": "env:X"}, "delegated": [lab.STAFF if ad else lab.PEOPLE],
        "delivery": {"ways": ["sealed"], "recipients": {"desk": key}, "folder": "/nowhere"},
        **({} if ad else {"default_policy": openldap.DEFAULT_POLICY}),
    }
    return DirectoryEntry.model_validate({**usual, **site})


@contextmanager
def logged_in(server: Server, rules: DirectoryEntry | None = None) -> Iterator[LdapSession]:
    """A session as the service account."""
    lab = lab_of(server)
    settings = SiteDirectory(Path("/"), rules or rules_of(server)).settings
    with (
        LdapTransport(settings, lambda _: Secret(lab.SERVICE_PASSWORD)) as transport,
        transport.connect() as session,
    ):
        yield session


def seen_by_admin(server: Server, dn: str) -> Entry | None:
    """What the directory's own administrator sees of an account."""
    names = _MARKS if isinstance(server, SambaAd) else ("*", "+")
    lab = lab_of(server)
    usual = SiteDirectory(Path("/"), rules_of(server)).settings
    settings = replace(usual, bind=SimpleBind(lab.ADMIN, "env:X"))
    with (
        LdapTransport(settings, lambda _: Secret(lab.ADMIN_PASSWORD)) as transport,
        transport.connect() as session,
    ):
        return session.get(dn, names)


def went(
    server: Server, login: str, *, do: str = "reset", way: str = "sealed", clock: int = 0, dn: str = "",
    **site: Any,
) -> Went:
    """Reset or unlock an account, and look whether what was refused was left alone.

    Args:
        server: the directory.
        login: as it is typed.
        do: `reset` or `unlock`.
        way: how the password is delivered.
        clock: seconds the worker's clock is wrong by.
        dn: the account's, to see that it was left alone.
        site: lines of `directory.yaml`.
    """
    rules = rules_of(server, **site)
    before = seen_by_admin(server, dn) if dn else None
    with logged_in(server, rules) as session:
        found = _went(session, rules, Host(login), do, way, clock)
    if dn and found.end in {"refused", "unchanged", "waits", "error"}:
        assert seen_by_admin(server, dn) == before
    return found


def _went(session: LdapSession, rules: DirectoryEntry, host: Host, do: str, way: str, clock: int) -> Went:
    system, guard, kept = system_of(rules), guard_of(rules), list[Secret]()
    alternate = "otherMailbox" if rules.kind == "active-directory" else "description"
    now = lambda: time.time() + clock  # noqa: E731 - a clock
    operation: ResetPassword | UnlockAccount = UnlockAccount(system, guard, clock=now)
    if do == "reset":
        claims = Claims("call-back", way, "desk" if way == "sealed" else "", alternate)
        keep = lambda _, __, secret: kept.append(secret)  # noqa: E731 - as above
        operation = replace(ResetPassword(system, guard, keep, clock=now), claims=claims)
    try:
        plan = operation.plan(host, operation.survey(host, session))
    except RefusedError as error:
        return Went("refused", str(error))
    except LamplighterError as error:
        return Went("error", str(error))
    said = " / ".join((plan.reason, *plan.notes, *(step.summary for step in plan.steps)))
    if not plan.steps:
        return Went("refused" if plan.end is Terminal.REFUSED else "unchanged", said)
    if plan.steps[0].args["signed_each_time"]:
        return Went("waits", said)
    return _applied(session, operation, host, plan, said)


def _applied(
    session: LdapSession, operation: ResetPassword | UnlockAccount, host: Host, plan: HostPlan, said: str
) -> Went:
    step = plan.steps[0]
    to = str(step.args.get("to", ""))
    where = session if step.args["server"] == session.server else session.peer(str(step.args["server"]))
    try:
        evidence = operation.apply(host, step, where, "u")
    except RefusedError as error:
        return Went("refused", f"{said} / {error}", to)
    except RemoteFailedError as error:
        return Went("failed", f"{said} / {error}", to)
    health = operation.verify(host, plan, where)
    return Went("changed" if health.healthy else "failed", f"{said} / {evidence.summary}", to)
