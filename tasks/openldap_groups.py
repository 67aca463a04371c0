"""Groups in OpenLDAP: every class of the usual schemas, and what cannot be seen of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from lamplighter.errors import LamplighterError, NoSuchEntryError
from lamplighter.model.directory import (
    Directory,
    Entry,
    Filter,
    Scope,
    all_of,
    any_of,
    equals,
    held,
    none_of,
    present,
)
from tasks.groups import DoubtError, Opened, Who, contexts

DEEPEST = 20
MOST_AROUND = 2000
"""Groups an account may be in."""

_MEMBERS: Mapping[str, tuple[str, ...]] = {  # RFC 4519, 2307, and the draft 2307bis
    "groupofnames": ("member",), "groupofmembers": ("member",), "groupofentries": ("member",),
    "groupofuniquenames": ("uniqueMember",), "organizationalrole": ("roleOccupant",),
    "posixgroup": ("memberUid",), "nisnetgroup": ("nisNetgroupTriple", "memberNisNetgroup"),
    "groupofurls": ("memberURL",), "labeleduriobject": ("labeledURI",), "alias": ("aliasedObjectName",),
}
_NAMES = ("member", "uniqueMember", "roleOccupant", "aliasedObjectName")
_ASKED = ("member", "uniqueMember", "roleOccupant")
_URLS = ("memberURL", "labeledURI")
_READ = tuple(dict.fromkeys(one for names in _MEMBERS.values() for one in names))
_NO_GROUP = {
    "person", "organizationalperson", "inetorgperson", "account", "posixaccount", "device", "iphost",
    "applicationprocess", "simplesecurityobject", "residentialperson", "pilotperson",
}
_IDENTIFIER = re.compile(r"#'[01]*'B$")  # of a uniqueMember: RFC 4517 3.3.21
_TRIPLE = re.compile(r"\(\s*([^,]*?)\s*,\s*([^,]*?)\s*,\s*([^)]*?)\s*\)")  # nisNetgroupTriple: RFC 2307 2.4
_URL = re.compile(r"ldap:///([^?]*)(?:\?([^?]*))?(?:\?([^?]*))?(?:\?([^?]*))?")  # RFC 4516 2
_SCOPES = {"": Scope.BASE, "base": Scope.BASE, "one": Scope.CHILDREN, "sub": Scope.SUBTREE}


@dataclass(frozen=True, slots=True)
class OpenLdapGroups:
    """See `tasks.groups.Kind`.

    Attributes:
        base: DN below which groups lie; empty for everywhere.
        around: entryUUIDs of the groups found upwards from the account.
    """

    base: str = ""
    around: frozenset[str] = field(default=frozenset())
    name: str = "entryDN"
    wanted: tuple[str, ...] = ("entryUUID", "objectClass")

    def open(self, dn: str, who: Who, session: Directory) -> Opened:
        """Read a group of any known class; see `Kind.open`."""
        entry = session.get(dn, (*self.wanted, "gidNumber", *_READ))
        if entry is None:
            raise DoubtError(f"{dn} is not there, or the service account may not see it")
        classes = {one.lower() for one in entry.texts("objectClass")}
        held_in = [name for one in sorted(classes) for name in _MEMBERS.get(one, ())]
        if not held_in:
            kinds = ", ".join(entry.texts("objectClass")) or "a class that cannot be read"
            raise DoubtError(f"{dn} is of a kind whose members are not known here ({kinds})")
        hidden = unseen(entry, held_in, session)
        doubts = [f"the service account may not read {one} of {dn}" for one in hidden]
        key = entry.text("entryUUID") or entry.dn
        inside = key in self.around or self._by_name(entry, classes, who)
        inside = inside or self._asked(entry, held_in, who, session)
        for url in (text for name in _URLS for text in entry.texts(name)):
            inside = inside or _in_list(url, who, session)
        members = tuple(_IDENTIFIER.sub("", text) for name in _NAMES for text in entry.texts(name))
        nested = tuple(self._netgroups(entry, session))
        return Opened(key, inside, members, nested, tuple(doubts))

    def sort(self, entry: Entry, who: Who, session: Directory) -> str:
        """What a member is, by its class; see `Kind.sort`."""
        if entry.text("entryUUID") == who.pin:
            return "account"
        classes = {one.lower() for one in entry.texts("objectClass")}
        if classes & _MEMBERS.keys() - {"labeleduriobject"}:
            return "group"
        if classes & _NO_GROUP:
            return ""
        if session.search(equals("objectClass", "person"), (), base=entry.dn, scope=Scope.BASE, most=1):
            return ""
        kinds = ", ".join(entry.texts("objectClass")) or "a class that cannot be read"
        raise DoubtError(f"its member {entry.dn} is of a kind that is not known here ({kinds})")

    def _by_name(self, entry: Entry, classes: set[str], who: Who) -> bool:
        """By a login, or by the number of the primary group."""
        if any(one.lower() in who.logins for one in entry.texts("memberUid")):
            return True
        for text in entry.texts("nisNetgroupTriple"):
            found = _TRIPLE.fullmatch(text.strip())
            if found is None:
                raise DoubtError(f"{entry.dn} has a triple that cannot be read")
            if not found[2] or found[2].lower() in who.logins:  # nobody named is everybody: netgroup(5)
                return True
        if "posixgroup" not in classes:
            return False
        number = entry.number("gidNumber")
        if number is None or (who.posix and who.gid is None):
            raise DoubtError(f"the service account may not read gidNumber of the account or of {entry.dn}")
        return number == who.gid

    def _asked(self, entry: Entry, held_in: Sequence[str], who: Who, session: Directory) -> bool:
        """By the server's own comparison, which sees values that may not be read.

        A filter on what may not be searched is neither true nor false (RFC 4511 4.5.1.7), so both are asked.
        """
        names = [name for name in held_in if name in _ASKED]
        if not names:
            return False
        holds = any_of(*(equals(name, who.dn) for name in names))
        if session.search(none_of(holds), (), base=entry.dn, scope=Scope.BASE, most=1):
            return False
        if session.search(holds, (), base=entry.dn, scope=Scope.BASE, most=1):
            return True
        raise DoubtError(f"the service account may not search {', '.join(names)} of {entry.dn}")

    def _netgroups(self, entry: Entry, session: Directory) -> Iterator[str]:
        for name in entry.texts("memberNisNetgroup"):
            where = all_of(equals("objectClass", "nisNetgroup"), equals("cn", name))
            bases = (self.base,) if self.base else contexts(session)
            found = [one.dn for base in bases for one in session.search(where, (), base=base)]
            if not found:
                raise DoubtError(f"{entry.dn} holds the netgroup {name}, which is not there")
            yield from found


def _in_list(url: str, who: Who, session: Directory) -> bool:
    """Whether a list that is made by a search holds the account, asked as the service account."""
    found = _URL.match(url)
    if found is None:
        raise DoubtError(f"the dynamic list {url[:120]} cannot be followed")
    base, names, scope, text = (unquote(part or "") for part in found.groups())
    if scope.lower() not in _SCOPES or names.lower() in {one.lower() for one in _ASKED}:
        raise DoubtError(f"the dynamic list {url[:120]} cannot be followed")
    where, own = held(text or "(objectClass=*)"), equals("entryUUID", who.pin)

    def finds(wanted: Filter) -> bool:
        reach = _SCOPES[scope.lower()]
        return bool(session.search(wanted, (), base=base or session.base, scope=reach, most=1))

    try:
        if not finds(own):
            return False
        if finds(all_of(own, where)):
            return True
        if finds(all_of(own, none_of(where))):
            return False
    except NoSuchEntryError:
        pass
    raise DoubtError(f"the dynamic list {url[:120]} asks for what the service account may not search")


def unseen(entry: Entry, names: Sequence[str], session: Directory) -> list[str]:
    """Which of these attributes, that an entry seems not to have, may only not be seen.

    One question when nothing is hidden: whether the server itself says that they are not there.
    """
    absent = [name for name in dict.fromkeys(names) if not entry.has(name)]
    if not absent or _says(all_of(*(none_of(present(name)) for name in absent)), entry, session):
        return []
    return [name for name in absent if not _says(none_of(present(name)), entry, session)]


def _says(where: Filter, entry: Entry, session: Directory) -> bool:
    return bool(session.search(where, (), base=entry.dn, scope=Scope.BASE, most=1))


def groups_around(dn: str, session: Directory, bases: Sequence[str]) -> frozenset[str]:
    """EntryUUIDs of all groups an object is in, through any number of groups.

    OpenLDAP has no rule for this, so it is asked level by level.

    Raises:
        DoubtError: the groups are too many or too deep to be sure.
    """
    seen: dict[str, str] = {}
    level = [dn]
    for _ in range(DEEPEST):
        holds = any_of(*(equals(kind, one) for one in level for kind in ("member", "uniqueMember")))
        try:
            answers = [session.search(holds, ("entryUUID",), base=one, most=MOST_AROUND) for one in bases]
        except LamplighterError as error:
            raise DoubtError(error.message) from None
        found = [one for answer in answers for one in answer if one.dn not in seen]
        fresh = {one.dn: one.text("entryUUID") or one.dn for one in found}
        seen |= fresh
        level = list(fresh)
        if not level:
            return frozenset(seen.values())
        if len(seen) > MOST_AROUND:
            break
    raise DoubtError(f"{dn} is in too many groups, or too deep ones, to be sure")
