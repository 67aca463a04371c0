"""`directory.yaml`: the site's directory, whose accounts may be touched, and how new passwords travel.

The file may be missing: then the site's accounts are nobody's business here. Secrets are references.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import pyrage
from pydantic import Field, StringConstraints, model_validator

from lamplighter.errors import MalformedError, Mistake, SelectionError, SiteError
from lamplighter.model.dn import parse_dn
from lamplighter.model.escalation import Recipient, read_recipient
from lamplighter.model.party import Person
from lamplighter.site.notify import Reference, check_recipient
from lamplighter.site.schema import ATTRIBUTE, Line, Slug, Strict, checked
from lamplighter.site.yaml import Source, read_yaml
from lamplighter.transports.ldap_settings import (
    KerberosBind,
    LdapServer,
    LdapSettings,
    Security,
    SimpleBind,
)

DIRECTORY = "directory.yaml"
HOUR = 3600

Dn = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Way = Literal["sealed", "manager", "alternate", "file"]
Attribute = Annotated[str, StringConstraints(pattern=ATTRIBUTE, max_length=80)]
Port = Annotated[int, Field(ge=0, le=65535)]
Wrong: TypeAlias = tuple[tuple[int | str, ...], str, str]
"""Where in the file, what is wrong, and what to write instead."""


def _sealed_only() -> list[Way]:
    return ["sealed"]


class ServerEntry(Strict):
    """One server."""

    address: Line
    """Host name or IP address."""
    port: Port = 0
    """0 for the usual one."""
    name: Line | None = None
    """DNS name its certificate must carry, when that is not the address."""


class BindEntry(Strict):
    """Who logs in: `user` and `password`, or a Kerberos `principal` with a `keytab` or `ccache`."""

    user: Line | None = None
    """DN, or login, of the account that is used; with"""
    password: Reference | None = None
    """a reference to its password. Or"""
    principal: Line | None = None
    """a Kerberos principal, with"""
    keytab: Line | None = None
    """the file of its key, or"""
    ccache: Line = ""
    """the file of its tickets."""

    @model_validator(mode="after")
    def _one_way(self) -> BindEntry:
        simple = self.user is not None and self.password is not None
        if simple == (self.principal is not None) or (self.user is None) != (self.password is None):
            raise ValueError("write `user` and `password`, or `principal` with `keytab` or `ccache`")
        return self


class VipEntry(Strict):
    """Accounts that are not ordinary: by group, through any number of groups."""

    groups: list[Dn] = Field(default_factory=list)
    """DNs of the groups."""
    rule: Literal["gated", "internal-only"] = "gated"
    """Signed for each time by internal IT; or refused here, because internal IT does it itself."""


class DisabledEntry(Strict):
    """What the site itself writes on an account that is not to be used any more."""

    attribute: Attribute
    """The attribute that says so,"""
    values: Annotated[list[Line], Field(min_length=1)]
    """when it has one of these values, in any letter case."""


class RatesEntry(Strict):
    """How many changes of accounts are ordinary; one more is an anomaly, and not done."""

    per_user_a_day: Annotated[int, Field(ge=1, le=100)] = 3
    """Changes of one account in a day."""
    per_hour: Annotated[int, Field(ge=1, le=500)] = 20
    """Changes of all accounts in an hour."""
    tell: list[str] = Field(default_factory=list)
    """Who hears of a crossing at once, of both parties: addresses, or roles as msp/duty-lead."""


class DeliveryEntry(Strict):
    """How a new password reaches its user."""

    ways: list[Way] = Field(default_factory=_sealed_only, min_length=1)
    """Allowed ones; the first is taken when nobody says otherwise."""
    recipients: dict[Slug, Line] = Field(default_factory=dict)
    """age public keys for `sealed`, by name; the first is taken when nobody says otherwise."""
    identity: Reference | None = None
    """The worker's own age identity, which seals what it mails or writes until that may be done."""
    mail_through: Slug | None = None
    """A mail server of notify.yaml."""
    alternate: Attribute | None = None
    """Attribute with the user's other address. Its owner must not be able to write it."""
    folder: Line | None = None
    """Where files are left, for as long as `hours`."""
    hours: Annotated[int, Field(ge=1, le=168)] = 24
    """How long a delivered password is kept."""
    when_unknown: Literal["drop", "deliver"] = "drop"
    """What becomes of a password of which it is not known whether it was set."""

    @model_validator(mode="after")
    def _complete(self) -> DeliveryEntry:
        needs: dict[str, dict[str, object]] = {
            "sealed": {"recipients": self.recipients, "folder": self.folder},
            "manager": {"identity": self.identity, "mail_through": self.mail_through},
            "alternate": {
                "identity": self.identity, "mail_through": self.mail_through, "alternate": self.alternate,
            },
            "file": {"identity": self.identity, "folder": self.folder},
        }
        lacking = {name for way in self.ways for name, value in needs[way].items() if not value}
        if lacking:
            names = ", ".join(f"`{one}`" for one in sorted(lacking))
            raise ValueError(f"the ways {', '.join(self.ways)} need {names} as well")
        return self


class ExpiringEntry(Strict):
    """Who hears that a password is about to expire."""

    days: list[Annotated[int, Field(ge=1, le=90)]] = Field(
        default_factory=lambda: [14, 7, 3, 1], min_length=1
    )
    """Steps: days before the end. Each is told once."""
    exclude: list[Dn] = Field(default_factory=list)
    """Logins, or DNs of accounts or OUs."""
    per_run: Annotated[int, Field(ge=1, le=5000)] = 500
    """Mails one run sends at most; the rest hears in the next."""


class DirectoryEntry(Strict):
    """`directory.yaml`."""

    kind: Literal["active-directory", "openldap"]
    """`active-directory` or `openldap`."""
    servers: Annotated[list[ServerEntry], Field(min_length=1)]
    """In the order in which they are tried."""
    security: Annotated[Security, Field(strict=False)] = Security.LDAPS
    """`ldaps`, or `starttls`; nothing is ever sent in the clear."""
    ca: Line
    """PEM file with the CAs that may certify the servers; relative to the site's folder."""
    base: Dn
    """DN below which accounts are looked for."""
    bind: BindEntry
    """Who logs in."""
    connect_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """Until a server that does not answer is given up."""
    seconds: Annotated[int, Field(ge=1, le=120)] = 20
    """Until an answer must be there."""
    default_policy: Dn | None = None
    """OpenLDAP: DN of the ppolicy that holds where an account names none."""
    delegated: list[Dn] = Field(default_factory=list)
    """OUs whose accounts may be touched; none means none."""
    denied: list[Dn] = Field(default_factory=list)
    """Logins and pins of accounts, and DNs of accounts or OUs, that may not."""
    protected_groups: list[Dn] = Field(default_factory=list)
    """Groups, besides the directory's own administrators', whose members may not."""
    groups: Dn | None = None
    """DN below which groups that hold others are looked for; left out: everywhere on the server."""
    disabled: list[DisabledEntry] = Field(default_factory=list)
    """What marks an account that is not to be used, besides what the directory and its usual schemas have."""
    kept_in_step: list[Literal["samba", "kerberos"]] = Field(default_factory=list)
    """OpenLDAP: passwords in other attributes that the server itself changes along (slapo-smbk5pwd(5))."""
    vip: VipEntry = VipEntry()
    """Accounts that are not ordinary."""
    passwords: Literal["words", "characters"] = "words"
    """How new passwords are made."""
    rates: RatesEntry = RatesEntry()
    """How many changes are ordinary."""
    delivery: DeliveryEntry
    """How a new password reaches its user."""
    expiring: ExpiringEntry = ExpiringEntry()
    """Who hears that a password is about to expire."""


class SiteDirectory:
    """A site's directory, checked. Args: folder, the site's; entry, its `directory.yaml`."""

    def __init__(self, folder: Path, entry: DirectoryEntry) -> None:
        self.folder, self.entry = folder, entry

    @property
    def settings(self) -> LdapSettings:
        """How it is reached."""
        entry, bind = self.entry, self.entry.bind
        login: SimpleBind | KerberosBind = (
            KerberosBind(bind.principal, Path(bind.keytab) if bind.keytab else None, bind.ccache)
            if bind.principal else SimpleBind(bind.user or "", bind.password or "")
        )
        servers = tuple(LdapServer(one.address, one.port, one.name or "") for one in entry.servers)
        return LdapSettings(
            servers, self.folder / Path(entry.ca).expanduser(), entry.base, login, entry.security,
            float(entry.connect_seconds), float(entry.seconds),
        )

    @property
    def tell(self) -> tuple[Recipient, ...]:
        """Who hears of an anomaly."""
        return tuple(read_recipient(text) for text in self.entry.rates.tell)

    def destination(self, asked: str) -> tuple[Way, str]:
        """The way, and the recipient's name when it is `sealed`, of what an operator asked for.

        Raises:
            SelectionError: the site does not allow it.
        """
        rules = self.entry.delivery
        wanted = asked.strip() or rules.ways[0]
        if wanted in rules.recipients and "sealed" in rules.ways:
            return "sealed", wanted
        for way in rules.ways:
            if way == wanted:
                return way, next(iter(rules.recipients), "") if way == "sealed" else ""
        known = [*rules.ways, *(rules.recipients if "sealed" in rules.ways else ())]
        raise SelectionError(
            f"a password is not delivered to {wanted[:80]!r} here", changed="Nothing was changed",
            advice=f"directory.yaml allows: {', '.join(known)}",
        )


def load_directory(folder: Path) -> SiteDirectory:
    """Read a site's `directory.yaml`.

    Raises:
        SiteError: with every mistake in it; there is none.
    """
    report: list[Mistake] = []
    found = read_directory(folder, report)
    if found is None and not report:
        report.append(Mistake(str(folder / DIRECTORY), 0, "there is no such file", "copy the template's"))
    if found is None or report:
        raise SiteError(tuple(report))
    return found


def read_directory(
    folder: Path, report: list[Mistake], people: tuple[Person, ...] = (),
    servers: Collection[str] | None = None,
) -> SiteDirectory | None:
    """Read it, and note its mistakes in `report`; None without one.

    Args:
        folder: the site's.
        report: takes the mistakes.
        people: the site's; without any, nobody who is named is looked up.
        servers: mail servers of `notify.yaml`; None when they are not to be looked up.
    """
    path = folder / DIRECTORY
    if not path.exists():
        return None
    source = Source(str(path), report)
    root = read_yaml(path, source)
    entry = checked(DirectoryEntry, root, source) if root is not None else None
    if root is None or entry is None:
        return None
    for where, message, advice in (*_reaching(entry), *_names(entry), *_delivering(entry, servers)):
        source.mistake(root.line_of(where), message, advice)
    for place, text in enumerate(entry.rates.tell):
        check_recipient(text, root.line_of(("rates", "tell", place)), source, people)
    return SiteDirectory(folder, entry)


def _reaching(entry: DirectoryEntry) -> Iterator[Wrong]:
    """What keeps the directory from being reached."""
    for place, one in enumerate(entry.servers):
        for message in LdapServer(one.address, one.port, one.name or "").mistakes():
            yield ("servers", place), message, "write one name or address, such as dc1.corp.example"
    if not (entry.bind.user or entry.bind.principal or "").strip():
        yield ("bind",), "nobody is named to log in as", "write the service account's DN or login"
    if entry.default_policy and entry.kind != "openldap":
        yield ("default_policy",), "`default_policy` is OpenLDAP's", "delete the line; a domain has its own"


def _names(entry: DirectoryEntry) -> Iterator[Wrong]:
    """What is no DN; and OUs in which no account would be found."""
    named: list[tuple[tuple[int | str, ...], str]] = [(("base",), entry.base)]
    named += [((name,), dn) for name in ("default_policy", "groups") if (dn := getattr(entry, name))]
    lists: tuple[tuple[tuple[str, ...], list[str]], ...] = (
        (("delegated",), entry.delegated), (("denied",), entry.denied),
        (("protected_groups",), entry.protected_groups), (("vip", "groups"), entry.vip.groups),
        (("expiring", "exclude"), entry.expiring.exclude),
    )
    named += [((*key, place), dn) for key, dns in lists for place, dn in enumerate(dns)]
    for where, dn in named:
        if where[0] in {"denied", "expiring"} and "=" not in dn:
            continue  # a login
        try:
            parse_dn(dn)
        except MalformedError as error:
            yield where, error.message, "write a DN, such as OU=Staff,DC=corp,DC=example"
    with contextlib.suppress(MalformedError):
        base = parse_dn(entry.base)
        for place, dn in enumerate(entry.delegated):
            if not parse_dn(dn).within(base):
                yield ("delegated", place), f"`{dn}` is not below `base`", f"`base` is {entry.base}"


def _delivering(entry: DirectoryEntry, servers: Collection[str] | None) -> Iterator[Wrong]:
    """What keeps a new password from its user."""
    rules = entry.delivery
    for name, key in rules.recipients.items():
        try:
            pyrage.x25519.Recipient.from_str(key)
        except pyrage.RecipientError:
            where = ("delivery", "recipients", name)
            yield where, f"`{name}` is no age public key", "write what age-keygen prints: age1..."
    if servers is not None and rules.mail_through and rules.mail_through not in servers:
        known = ", ".join(sorted(servers)) or "none"
        place = ("delivery", "mail_through")
        yield place, f"there is no server `{rules.mail_through}`", f"`servers` of notify.yaml has: {known}"
