"""Tells users that their password is about to expire: each step of each password once, whatever dies.

Each mail is a notice in the site's outbox, named by the account, the password's end and the step: it is
recorded once, sent once, and tried again while the mail server is down or asks to come back later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from lamplighter.errors import LamplighterError
from lamplighter.model.address import pick_address
from lamplighter.model.calendar import told
from lamplighter.model.directory import Directory, all_of, equals, present
from lamplighter.model.escalation import default_path
from lamplighter.model.notice import THROUGH, Notice, Occasion
from lamplighter.model.party import Party
from lamplighter.notify.outbox import Outbox
from lamplighter.notify.send import Send, deliver, send_by_apprise
from lamplighter.secrets import Resolve, resolve
from lamplighter.site import Site
from lamplighter.site.directory import DirectoryEntry, SiteDirectory, load_directory
from lamplighter.site.notify import Notify, load_notify
from lamplighter.store import open_store
from lamplighter.transports.ldap import LdapTransport
from tasks import active_directory, openldap
from tasks.accounts import plain
from tasks.active_directory import has_expired, ticks_to_epoch
from tasks.judging import nobody
from tasks.lines import Names, read_lines
from tasks.openldap_state import ADMIN_LOCK, generalized_time, has_ended, has_shadow_ended
from tasks.owners_marks import Marks

DAY = 86400
MOST = 100_000
"""Accounts looked at; a directory with more is told so."""
_NEVER = 0x7FFFFFFFFFFFFFFF
_DISABLED, _NEVER_EXPIRES = 0x2, 0x10000  # MS-ADTS 2.2.16
SHOWN = 20
SEND_SECONDS = 900.0
"""For the mails of one run; `escalate` sends what is left."""


@dataclass(frozen=True, slots=True)
class Expiring:
    """A password with an end.

    Attributes:
        pin, dn, login: of the account.
        mail: its one address; empty without any.
        end: seconds since the epoch.
    """

    pin: str
    dn: str
    login: str
    mail: str
    end: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a round did.

    Attributes:
        sent, waiting, failed: mails.
        unreached: logins.
        left: users.
        would: mails that a round in earnest would send.
        unknown: what was not known, in sentences.
    """

    sent: int = 0
    waiting: int = 0
    failed: int = 0
    unreached: tuple[str, ...] = ()
    left: int = 0
    would: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everybody who can be reached heard of it, or will in the next run."""
        return not self.waiting and not self.failed

    def __str__(self) -> str:
        if self.would:
            return f"stage shadow: {self.would} users would be told; nobody was"
        names = ", ".join(sorted(self.unreached)[:SHOWN])
        more = f" and {len(self.unreached) - SHOWN} more" if len(self.unreached) > SHOWN else ""
        return (
            f"{self.sent} users told, {self.waiting} mails wait to be tried again, "
            f"{self.failed} mails failed, {len(self.unreached)} users without one mail address"
            f"{f' ({names}{more})' if names else ''}, {self.left} left for the next run"
            + "".join(f"; {plain(one)}" for one in self.unknown[:SHOWN])
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


def expiring(
    rules: DirectoryEntry, session: Directory, now: float, unknown: list[str] | None = None
) -> Iterator[Expiring]:
    """Everybody in the delegated OUs whose password expires within the longest step.

    Args:
        rules: the site's.
        session: the directory's.
        now: seconds since the epoch.
        unknown: takes what keeps somebody's end from being known, and lines of the settings that name nobody.

    Raises:
        TransportError: the directory does not answer.
    """
    ad, notes = rules.kind == "active-directory", [] if unknown is None else unknown
    names: Names = active_directory.ActiveDirectory() if ad else openldap.OpenLdap()
    find = _in_active_directory if ad else _in_openldap
    last = now + max(rules.expiring.days) * DAY
    for ou in rules.delegated:
        for one in find(rules, session, ou, now, notes):
            if now < one.end <= last:
                lines = read_lines(rules.expiring.exclude, one.pin, names, session)
                notes += [told for line in lines.empty if (told := nobody("exclude", line)) not in notes]
                if not lines.hits:
                    yield one


def _in_active_directory(
    rules: DirectoryEntry, session: Directory, ou: str, now: float, unknown: list[str]
) -> Iterator[Expiring]:
    """By msDS-UserPasswordExpiryTimeComputed (MS-ADTS 3.1.1.4.5.34), which knows fine-grained policies.

    Whom a reset would refuse as ended is not told.
    """
    del unknown  # the domain computes every end itself
    wanted = all_of(equals("objectCategory", "person"), equals("objectClass", "user"))
    marks, computed = Marks.of(rules.disabled), "msDS-UserPasswordExpiryTimeComputed"
    names = (
        "objectGUID", "sAMAccountName", "mail", "userAccountControl", "accountExpires", computed,
        *marks.attributes,
    )
    for entry in session.search(wanted, names, base=ou, most=MOST):
        control, ticks = entry.number("userAccountControl"), entry.number(computed)
        if control is None or control & (_DISABLED | _NEVER_EXPIRES) or ticks in {None, 0, _NEVER}:
            continue
        if has_expired(entry.number("accountExpires"), now) or marks.found(entry):
            continue
        pin, login = active_directory.pin_of(entry), entry.text("sAMAccountName")
        mail = pick_address(entry.texts("mail"))
        yield Expiring(pin, entry.dn, login, mail, ticks_to_epoch(ticks or 0))


def _in_openldap(
    rules: DirectoryEntry, session: Directory, ou: str, now: float, unknown: list[str]
) -> Iterator[Expiring]:
    """By pwdChangedTime and the policy's pwdMaxAge (draft-behera-ldap-password-policy-11 5.2.3, 5.3.2).

    Whoever an administrator locked for good, whom a reset would refuse as ended, or who must change it at the
    next login anyway, is not told.
    """
    marks = Marks.of(rules.disabled)
    ages: dict[str, int] = {}
    wanted = all_of(equals("objectClass", "inetOrgPerson"), present("pwdChangedTime"))
    names = (
        "entryUUID", "uid", "mail", "pwdChangedTime", "pwdPolicySubentry", "pwdAccountLockedTime", "pwdReset",
        "pwdEndTime", "pwdStartTime", "shadowExpire", *marks.attributes,
    )
    for entry in session.search(wanted, names, base=ou, most=MOST):
        if entry.text("pwdAccountLockedTime") == ADMIN_LOCK or entry.text("pwdReset") == "TRUE":
            continue
        if has_ended(entry, now) or has_shadow_ended(entry, now) or marks.found(entry):
            continue
        policy = entry.text("pwdPolicySubentry") or rules.default_policy or ""
        if policy not in ages:
            found = session.get(policy, ("pwdMaxAge",)) if policy else None
            if policy and found is None:
                unknown.append(f"the password policy {policy} (of {entry.dn}) is gone, or cannot be read")
            ages[policy] = (found.number("pwdMaxAge") or 0) if found else 0
        if ages[policy]:
            end = generalized_time(entry.text("pwdChangedTime")) + ages[policy]
            login = (entry.texts("uid") or ("",))[0]
            yield Expiring(openldap.pin_of(entry), entry.dn, login, pick_address(entry.texts("mail")), end)


def notice(one: Expiring, step: int, site: Site, server: str, now: int) -> Notice:
    """The mail to one user.

    Args:
        one: the password; its `mail` is one address.
        step: days, of the site's.
        site: whose user.
        server: name of the mail server in notify.yaml.
        now: seconds since the epoch.
    """
    text = (
        f"The password of your account {one.login} at {site.title} expires on "
        f"{told(one.end, site.time_zone)}. Change it on your own computer, as you always do, unless you have "
        f"done so since {told(now, site.time_zone)}.\n\n"
        "This message asks for nothing: there is no link to follow, and nobody will ask you for it.\n"
    )
    occasion = Occasion("", "expiring", f"{one.pin} {one.end} {step}", one.end - step * DAY)
    subject, channel = "Your password expires soon", f"{THROUGH}{server}"
    return Notice(occasion, one.login, channel, subject, text, "", now, one.mail, one.end)


@dataclass(frozen=True, slots=True)
class Teller:
    """Sends the mails. Args: mail, False only counts."""

    site: Site
    rules: DirectoryEntry
    outbox: Outbox
    notify: Notify
    clock: Callable[[], float] = time.time
    send: Send = send_by_apprise
    mail: bool = True

    def tell(self, users: Iterable[Expiring]) -> Told:
        """Record a notice for those whose step has come, and send what can be sent now."""
        expiring = self.rules.expiring
        made: list[Notice] = []
        unreached: list[str] = []
        left = 0
        for one in users:
            step = due_step(one.end, self.clock(), expiring.days)
            if not step:
                continue
            server = self.rules.delivery.mail_through or ""
            mail = notice(one, step, self.site, server, int(self.clock()))
            if not one.mail:
                unreached.append(one.login)
            elif len(made) >= expiring.per_run or not self.mail:
                left += not self.outbox.known(mail)
            elif self.outbox.record(mail):
                made.append(mail)
        if not self.mail:
            return Told(unreached=tuple(unreached), would=left)
        most = replace(self.notify, per_round=expiring.per_run)
        sent = deliver(self.outbox, most, self.site.title, self.send, seconds=SEND_SECONDS, notices=made)
        waiting = len(made) - sent.sent - sent.failed
        return Told(sent.sent, waiting, sent.failed, tuple(unreached), left)


def tell_everybody(
    site: Site, resolver: Resolve = resolve, clock: Callable[[], float] = time.time,
    send: Send = send_by_apprise, *, mail: bool = True,
) -> Told:
    """One round at a site.

    Args:
        site: whose users.
        resolver: reads secrets.
        clock: seconds since the epoch.
        send: sends one message.
        mail: False in a stage in which users are counted and nobody is told.

    Raises:
        SiteError: there is no directory.yaml, or it has mistakes, or names no mail server.
        TransportError: the directory does not answer, or not to the end; no user was told, and those who look
            after the directory are.
    """
    directory = load_directory(site.path)
    notify = load_notify(site.path, site.people)
    if not notify.servers.get(directory.entry.delivery.mail_through or ""):
        raise LamplighterError(
            "users can only be told by mail, and no mail server is named", where=site.name,
            changed="Nobody was told", advice="name delivery.mail_through in directory.yaml",
        )
    outbox = Outbox(open_store(site.store), clock, notify.give_up)
    try:
        unknown: list[str] = []
        users = _read(directory, resolver, clock(), unknown)
    except LamplighterError as error:
        _alarm(site, directory, notify, outbox, error, int(clock()), send)
        raise
    teller = Teller(site, directory.entry, outbox, notify, clock, send, mail)
    return replace(teller.tell(users), unknown=tuple(unknown))


def _read(
    directory: SiteDirectory, resolver: Resolve, now: float, unknown: list[str]
) -> tuple[Expiring, ...]:
    with LdapTransport(directory.settings, resolver) as transport:
        session = transport.connect()
        try:
            return tuple(expiring(directory.entry, session, now, unknown))
        finally:
            session.close()


def _alarm(
    site: Site, directory: SiteDirectory, notify: Notify, outbox: Outbox, error: LamplighterError, now: int,
    send: Send,
) -> None:
    """Tell those who look after the directory, once a day, that no user was reminded."""
    today = now - now % DAY
    occasion = Occasion("", "reminders", type(error).__name__, today)
    text = (
        f"No user of {site.title} was told that their password is about to expire: {error}\n\n"
        "The next round tries again. Nothing was changed in the directory.\n"
    )
    everybody = default_path(Party.MSP, site.people).rungs
    to = directory.tell or [one for rung in everybody[:1] for one in rung.to]
    made = [
        Notice(occasion, holder, channel, "No user was reminded of expiring passwords", text, "", now)
        for holder, channel in notify.addresses(to, site.people)
    ]
    for one in made:
        outbox.record(one)
    deliver(outbox, notify, site.title, send, seconds=SEND_SECONDS, notices=made)
