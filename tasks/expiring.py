"""Tells users that their password is about to expire: each step of each password once, whatever dies.

What was told stands in the store, below `expiring/`, and is written before the mail is sent: a worker that
dies in between leaves one mail unsent, and never sends one twice. The next step tells the user anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lamplighter.errors import LamplighterError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.directory import Directory, Entry, all_of, equals, present
from lamplighter.model.dn import within_any
from lamplighter.model.notice import Result
from lamplighter.notify.send import send_by_apprise
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.site import Site
from lamplighter.site.directory import DirectoryEntry, SiteDirectory, load_directory
from lamplighter.site.notify import Channel, load_notify
from lamplighter.store import Store, open_store
from lamplighter.transports.ldap import LdapTransport
from tasks.active_directory import ticks_to_epoch
from tasks.openldap import ADMIN_LOCK, generalized_time

DAY = 86400
MOST = 100_000
"""Accounts looked at; a directory with more is told so."""
_NEVER = 0x7FFFFFFFFFFFFFFF
_DISABLED, _NEVER_EXPIRES = 0x2, 0x10000  # MS-ADTS 2.2.16
_TO = "literal:to"


@dataclass(frozen=True, slots=True)
class Expiring:
    """A password with an end.

    Attributes:
        pin, dn, login, mail: of the account.
        end: seconds since the epoch.
    """

    pin: str
    dn: str
    login: str
    mail: str
    end: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a round did."""

    sent: int = 0
    failed: int = 0
    unreached: int = 0
    left: int = 0

    def __str__(self) -> str:
        return (
            f"{self.sent} users told, {self.failed} mails failed, {self.unreached} users without an address, "
            f"{self.left} left for the next run"
        )


def due_step(end: int, now: float, days: Iterable[int]) -> int:
    """The step a password is in: the smallest number of days that is not less than what is left; 0 for none.

    Args:
        end: when it expires, seconds since the epoch.
        now: seconds since the epoch.
        days: the site's steps.
    """
    left = (end - now) / DAY
    return min((step for step in days if left <= step), default=0) if left > 0 else 0


def expiring(rules: DirectoryEntry, session: Directory, now: float) -> Iterator[Expiring]:
    """Everybody in the delegated OUs whose password expires within the longest step.

    Raises:
        TransportError: the directory does not answer.
    """
    find = _in_active_directory if rules.kind == "active-directory" else _in_openldap
    last = now + max(rules.expiring.days) * DAY
    for ou in rules.delegated:
        for one in find(rules, session, ou):
            if now < one.end <= last and not _is_excluded(one, rules.expiring.exclude):
                yield one


def _is_excluded(one: Expiring, excluded: Iterable[str]) -> bool:
    names = list(excluded)
    return one.login.lower() in map(str.lower, names) or within_any(one.dn, (dn for dn in names if "=" in dn))


def _in_active_directory(rules: DirectoryEntry, session: Directory, ou: str) -> Iterator[Expiring]:
    """By msDS-UserPasswordExpiryTimeComputed (MS-ADTS 3.1.1.4.5.34), which knows fine-grained policies."""
    del rules
    wanted = all_of(equals("objectCategory", "person"), equals("objectClass", "user"))
    names = (
        "objectGUID", "sAMAccountName", "mail", "userAccountControl", "msDS-UserPasswordExpiryTimeComputed",
    )
    for entry in session.search(wanted, names, base=ou, most=MOST):
        control, ticks = entry.number("userAccountControl"), entry.number(names[-1])
        if control is None or control & (_DISABLED | _NEVER_EXPIRES) or ticks in {None, 0, _NEVER}:
            continue
        pin = entry.octets("objectGUID").hex()
        yield Expiring(pin, entry.dn, entry.text("sAMAccountName"), _mail(entry), ticks_to_epoch(ticks or 0))


def _in_openldap(rules: DirectoryEntry, session: Directory, ou: str) -> Iterator[Expiring]:
    """By pwdChangedTime and the policy's pwdMaxAge (draft-behera-ldap-password-policy-11 5.2.3, 5.3.2).

    Whoever an administrator locked for good, or must change it at the next login anyway, is not told.
    """
    ages: dict[str, int] = {}
    wanted = all_of(equals("objectClass", "inetOrgPerson"), present("pwdChangedTime"))
    names = (
        "entryUUID", "uid", "mail", "pwdChangedTime", "pwdPolicySubentry", "pwdAccountLockedTime", "pwdReset",
    )
    for entry in session.search(wanted, names, base=ou, most=MOST):
        if entry.text("pwdAccountLockedTime") == ADMIN_LOCK or entry.text("pwdReset") == "TRUE":
            continue
        policy = entry.text("pwdPolicySubentry") or rules.default_policy or ""
        if policy not in ages:
            found = session.get(policy, ("pwdMaxAge",)) if policy else None
            ages[policy] = (found.number("pwdMaxAge") or 0) if found else 0
        if ages[policy]:
            end = generalized_time(entry.text("pwdChangedTime")) + ages[policy]
            login = (entry.texts("uid") or ("",))[0]
            yield Expiring(entry.text("entryUUID"), entry.dn, login, _mail(entry), end)


def _mail(entry: Entry) -> str:
    return (entry.texts("mail") or ("",))[0]


def claim(store: Store, one: Expiring, step: int) -> bool:
    """Note that a step of a password is told; False when it, or a later one, was before."""
    key = f"expiring/{one.pin}"
    old = store.get(key, limit=1024)
    known = parse(old, limit=1024) if old else {"end": 0, "step": 0}
    if known["end"] == one.end and known["step"] <= step:
        return False
    return store.swap(key, old, canonical({"end": one.end, "step": step}))


@dataclass(frozen=True, slots=True)
class Teller:
    """Sends the mails. Args: site, directory, store, server (of the mail), clock, resolver."""

    site: Site
    directory: SiteDirectory
    store: Store
    server: str
    clock: Callable[[], float] = time.time
    resolver: Resolve = resolve

    def tell(self, users: Iterable[Expiring]) -> Told:
        """Tell those whose step has come."""
        rules = self.directory.entry.expiring
        sent = failed = unreached = left = 0
        for one in users:
            step = due_step(one.end, self.clock(), rules.days)
            if not step:
                continue
            if not one.mail:
                unreached += 1
            elif sent + failed >= rules.per_run:
                left += 1
            elif claim(self.store, one, step):
                if self._send(one):
                    sent += 1
                else:
                    failed += 1
        return Told(sent, failed, unreached, left)

    def _send(self, one: Expiring) -> bool:
        days = max(1, round((one.end - self.clock()) / DAY))
        text = (
            f"The password of your account {one.login} at {self.site.title} expires in {days} "
            f"{'day' if days == 1 else 'days'}. Change it on your own computer, as you always do.\n\n"
            "This message asks for nothing: there is no link to follow, and nobody will ask you for it.\n"
        )

        def resolver(reference: str) -> Secret:
            return Secret(one.mail, "address") if reference == _TO else self.resolver(reference)

        channel = Channel("user", self.server, _TO)
        return send_by_apprise(channel, "Your password expires soon", text, resolver).result is Result.SENT


def tell_everybody(site: Site, resolver: Resolve = resolve, clock: Callable[[], float] = time.time) -> Told:
    """One round at a site.

    Raises:
        SiteError: there is no directory.yaml, or it has mistakes, or names no mail server.
        TransportError: the directory does not answer; nobody was told.
    """
    directory = load_directory(site.path)
    notify = load_notify(site.path, site.people)
    server = notify.servers.get(directory.entry.delivery.mail_through or "", "")
    if not server:
        raise LamplighterError(
            "users can only be told by mail, and no mail server is named", where=site.name,
            changed="Nobody was told", advice="name delivery.mail_through in directory.yaml",
        )
    store = open_store(site.store, site.store_options)
    with LdapTransport(directory.settings, resolver) as transport:
        session = transport.connect()
        try:
            users = tuple(expiring(directory.entry, session, clock()))
        finally:
            session.close()
    return Teller(site, directory, store, server, clock, resolver).tell(users)
