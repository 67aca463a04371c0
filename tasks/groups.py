"""Whether an account is in a group, judged from the group downwards: not seen is not "not there".

A group is read by the server's own answer, member by member, through any number of groups, in batches. What
cannot be read, is of a kind that is not known, or lies out of reach, is a doubt; and a doubt refuses until it
can be judged. What a directory's kind adds (which attributes hold members, and what is known of the account
from its own side) is a `Kind`: `tasks.openldap_groups`, `tasks.active_directory_groups`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lamplighter.errors import LamplighterError, MalformedError, SessionLostError, UnreachableError
from lamplighter.model.directory import Directory, Entry, any_of, equals
from lamplighter.model.dn import Dn, parse_dn, within_any

MOST_GROUPS = 2000
"""Groups looked into for one line of the settings."""
BATCH = 100
"""Members asked for at once."""
MOST_SINGLE = 500
"""Members asked for one by one."""


class DoubtError(LamplighterError):
    """It cannot be judged whether the account is in a group."""


@dataclass(frozen=True, slots=True)
class Who:
    """The account that is looked for.

    Attributes:
        dn, pin: its own.
        logins: every one, folded.
        gid: its primary group in POSIX; None for none.
        posix: it must have a `gid`.
        sids: of the groups in its token.
    """

    dn: str
    pin: str
    logins: frozenset[str] = frozenset()
    gid: int | None = None
    posix: bool = False
    sids: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Opened:
    """What one group says.

    Attributes:
        key: what the group is known by, whatever it is called.
        inside: it holds the account by itself.
        members: DNs, of people or of groups.
        nested: DNs of groups.
        doubts: what cannot be judged about it.
    """

    key: str
    inside: bool = False
    members: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


class Kind(Protocol):
    """What a kind of directory knows of groups."""

    @property
    def name(self) -> str:
        """The attribute that holds an entry's own DN, to ask for many at once."""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Attributes to read of a member."""

    def open(self, dn: str, who: Who, session: Directory) -> Opened:
        """Read one group.

        Raises:
            DoubtError: it cannot be judged.
        """

    def sort(self, entry: Entry, who: Who, session: Directory) -> str:
        """What a member is: `account` (the one that is looked for), `group`, or empty for anything else.

        Raises:
            DoubtError: it cannot be said.
        """


@dataclass(frozen=True, slots=True)
class Judgement:
    """For the lines that were asked about: which hold the account, and which cannot be judged, and why."""

    inside: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def judge(lines: Sequence[str], who: Who, session: Directory, kind: Kind, people: Sequence[str]) -> Judgement:
    """In which of these groups the account is.

    Args:
        lines: DNs as the settings have them.
        who: the account.
        session: the directory's.
        kind: the directory's.
        people: DNs of the delegated OUs, below which a member that is not there is somebody who left.

    Raises:
        UnreachableError, SessionLostError: the directory does not answer.
    """
    inside, doubts = [], []
    for line in lines:
        try:
            if _Search(who, session, kind, tuple(people)).holds(line):
                inside.append(line)
        except (UnreachableError, SessionLostError):
            raise
        except LamplighterError as error:
            doubts.append(f"whether it is in the group {line} cannot be judged: {error.message}")
    return Judgement(tuple(inside), tuple(doubts))


@dataclass
class _Search:
    who: Who
    session: Directory
    kind: Kind
    people: tuple[str, ...]
    seen: set[str] = field(default_factory=set)
    doubts: list[str] = field(default_factory=list)

    def holds(self, line: str) -> bool:
        """Whether the account is in the group.

        Raises:
            DoubtError: it was not found, and not everything could be judged.
        """
        todo = [line]
        while todo:
            try:
                group = self.kind.open(todo.pop(), self.who, self.session)
            except (UnreachableError, SessionLostError):
                raise
            except LamplighterError as error:
                self.doubts.append(error.message)
                continue
            if group.inside:
                return True
            if group.key in self.seen:
                continue
            self.seen.add(group.key)
            if len(self.seen) > MOST_GROUPS:
                raise DoubtError(f"it holds more than {MOST_GROUPS} groups")
            self.doubts += group.doubts
            todo += group.nested
            for entry in self._members(group.members):
                what = self._sorted(entry)
                if what == "account":
                    return True
                todo += [entry.dn] if what == "group" else []
        if self.doubts:
            more = f" (and {len(self.doubts) - 1} more)" if len(self.doubts) > 1 else ""
            raise DoubtError(self.doubts[0] + more)
        return False

    def _sorted(self, entry: Entry) -> str:
        try:
            return self.kind.sort(entry, self.who, self.session)
        except DoubtError as error:
            self.doubts.append(error.message)
            return ""

    def _members(self, members: Sequence[str]) -> Iterator[Entry]:
        """The members that can be seen; one that cannot, and is not below the people's OUs, is a doubt."""
        single = 0
        for base, names in self._by_context(members):
            for start in range(0, len(names), BATCH):
                batch = names[start : start + BATCH]
                found = self._batch(base, batch)
                yield from found or ()
                if found is not None and (len(found) >= len(batch) or self._are_people(batch)):
                    continue
                for name in batch:
                    single += 1
                    if single > MOST_SINGLE:
                        raise DoubtError(f"more than {MOST_SINGLE} of its members cannot be seen")
                    entry = self.session.get(name, self.kind.wanted)
                    if entry is not None:
                        yield entry
                    elif not within_any(name, self.people):
                        why = f"its member {name} is not there, or the service account may not see it"
                        self.doubts.append(why)

    def _are_people(self, batch: Sequence[str]) -> bool:
        return all(within_any(name, self.people) for name in batch)

    def _batch(self, base: str, names: Sequence[str]) -> tuple[Entry, ...] | None:
        """Those of these names that can be seen; None when they must be asked for one by one."""
        if not base:
            return None
        wanted = any_of(*(equals(self.kind.name, name) for name in names))
        try:
            return self.session.search(wanted, self.kind.wanted, base=base, most=len(names))
        except (UnreachableError, SessionLostError):
            raise
        except LamplighterError:
            return None

    def _by_context(self, members: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
        """Members by the part of the server they lie in; empty for none."""
        if not members:
            return
        parsed = [(text, parse_dn(text)) for text in contexts(self.session)]
        sorted_out: dict[str, list[str]] = {}
        for member in dict.fromkeys(members):
            sorted_out.setdefault(_home(member, parsed), []).append(member)
        yield from sorted_out.items()


def _home(member: str, known: Sequence[tuple[str, Dn]]) -> str:
    try:
        dn = parse_dn(member)
    except MalformedError:
        return ""
    inside = [(len(base.rdns), text) for text, base in known if dn.within(base)]
    return max(inside, default=(0, ""))[1]


def contexts(session: Directory) -> tuple[str, ...]:
    """Where a server's entries begin (RFC 4512 5.1): a domain's own part, or every naming context."""
    root = session.root(("defaultNamingContext", "namingContexts"))
    found = root.texts("defaultNamingContext") or root.texts("namingContexts")
    return found or (session.base,)
