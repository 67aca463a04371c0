"""Groups in Active Directory: security and distribution, nested, primary, with members that are hidden."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from lamplighter.errors import MalformedError
from lamplighter.model.access import AUTHENTICATED, EVERYONE, MEMBER, MEMBERSHIP, READ, read_access
from lamplighter.model.directory import IN_CHAIN, Directory, Entry, Scope, matches
from tasks.groups import DoubtError, Opened, Who


@dataclass(frozen=True, slots=True)
class ActiveDirectoryGroups:
    """See `tasks.groups.Kind`.

    Attributes:
        token: SIDs of the service account and its groups, as the server sees them.
    """

    token: frozenset[bytes]
    name: str = "distinguishedName"
    wanted: tuple[str, ...] = ("objectGUID", "objectClass", "objectSid")

    def open(self, dn: str, who: Who, session: Directory) -> Opened:
        """Read a group; see `Kind.open`. What the account says of itself counts as well."""
        entry = session.get(dn, self.wanted)
        if entry is None:
            raise DoubtError(f"{dn} is not there, or the service account may not see it")
        if "group" not in {one.lower() for one in entry.texts("objectClass")}:
            raise DoubtError(f"{dn} is no group")
        inside = matches("memberOf", IN_CHAIN, entry.dn)
        key = entry.octets("objectGUID").hex()
        if entry.octets("objectSid") in who.sids or session.search(
            inside, (), base=who.dn, scope=Scope.BASE, most=1
        ):
            return Opened(key, inside=True)
        members = tuple(value.decode() for value in session.values(entry.dn, "member"))
        hidden = not members and not self._may_read_members(entry, session)
        return Opened(
            key, False, members, (), (f"the service account may not read the members of {dn}",) * hidden
        )

    def sort(self, entry: Entry, who: Who, session: Directory) -> str:
        """What a member is, by its class; see `Kind.sort`."""
        del session
        if entry.octets("objectGUID") == uuid.UUID(who.pin).bytes_le:
            return "account"
        classes = {one.lower() for one in entry.texts("objectClass")}
        if not classes:
            raise DoubtError(f"the service account may not read the class of its member {entry.dn}")
        if "group" in classes:
            return "group"
        if "foreignsecurityprincipal" in classes:
            return self._foreign(entry, who)
        return ""

    def _foreign(self, entry: Entry, who: Who) -> str:
        """A well-known identity may be everybody; one of another domain may be a group of ours."""
        sid = entry.octets("objectSid")
        if sid in who.sids | {EVERYONE, AUTHENTICATED}:
            return "account"
        if sid[2:8] == b"\0\0\0\0\0\5" and sid[8:12] == b"\x15\0\0\0":  # S-1-5-21: a domain's
            raise DoubtError(f"its member {entry.dn} is of another domain, where it may be a group")
        return ""

    def _may_read_members(self, entry: Entry, session: Directory) -> bool:
        try:
            access = session.access(entry.dn)
            return bool(access) and read_access(access).allows(self.token, READ, MEMBER, MEMBERSHIP)
        except MalformedError:
            return False
