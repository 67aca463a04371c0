"""`notify.yaml`: how the people of a site are reached, and how much they are told.

The file is a site's own and may be missing: then nobody can be reached, and every notice is recorded as
failed. Addresses and servers' passwords are secret references, resolved by the process that sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from lamplighter.errors import MalformedError, Mistake, SiteError
from lamplighter.model.escalation import Recipient, read_recipient
from lamplighter.model.notice import NO_CHANNEL, THROUGH, Notice
from lamplighter.model.party import Party, Person
from lamplighter.site.schema import REFERENCE, Slug, Strict, checked
from lamplighter.site.yaml import Node, Source, read_yaml

NOTIFY = "notify.yaml"

Reference = Annotated[str, StringConstraints(pattern=REFERENCE)]


class ChannelEntry(Strict):
    """One way to reach somebody: a whole apprise URL, or an address behind a shared mail server."""

    name: Slug
    """Tells the ways of one holder apart."""
    url: Reference | None = None
    """A reference to a whole apprise URL; or"""
    through: Slug | None = None
    """a server of `servers`, and"""
    to: Reference | None = None
    """a reference to the address behind it."""

    @model_validator(mode="after")
    def _one_way(self) -> ChannelEntry:
        if (self.url is None) == (self.through is None) or (self.through is None) != (self.to is None):
            raise ValueError("a channel has either `url`, or `through` and `to`")
        return self


class LimitsEntry(Strict):
    """How much is sent, and for how long it is tried."""

    per_hour: Annotated[int, Field(ge=1, le=1000)] = 12
    """Notices one way takes in an hour; what is more waits."""
    per_round: Annotated[int, Field(ge=1, le=1000)] = 50
    """Notices sent in one round."""
    give_up_hours: Annotated[int, Field(ge=1, le=30 * 24)] = 72
    """How long a notice that cannot be sent is tried again."""
    silence_minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 20
    """The watch counts as silent when no round ended for so long."""


class NotifyEntry(Strict):
    """`notify.yaml`."""

    servers: dict[Slug, Reference] = Field(default_factory=dict)
    """References to mail servers' URLs, by name."""
    reach: dict[str, Annotated[list[ChannelEntry], Field(min_length=1)]] = Field(default_factory=dict)
    """How persons and roles are reached, several ways each, in order."""
    emergency: list[str] = Field(default_factory=list)
    """Who hears at once of an emergency: persons, or roles."""
    limits: LimitsEntry = LimitsEntry()
    """How much is sent, and for how long it is tried."""
    ping: Reference | None = None
    """A reference to the URL that is called after each round: whoever watches it notices silence."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to reach one holder. `url` and `to` are secret references.

    Attributes:
        name: unique for its holder.
        url: an apprise URL; of a mail server when there is a `to` or an `address`.
        to: a mail address; empty when the URL says it.
        address: a mail address itself, of a user of the directory.
    """

    name: str
    url: str
    to: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Notify:
    """What a site's `notify.yaml` says.

    Attributes:
        reach: channels by person's id or role.
        emergency: who of internal IT hears at once of an emergency change; empty: see `emergency_people`.
        per_hour: messages to one address in an hour.
        per_round: messages in all that one round sends.
        give_up: seconds a notice is tried.
        silence: seconds without a heartbeat after which everybody is warned.
        ping: reference to a URL that is asked after each round; empty for none.
        servers: references to mail servers' URLs, by name.
    """

    reach: Mapping[str, tuple[Channel, ...]] = field(default_factory=dict)
    emergency: tuple[Recipient, ...] = ()
    per_hour: int = 12
    per_round: int = 50
    give_up: int = 72 * 3600
    silence: int = 20 * 60
    ping: str = ""
    servers: Mapping[str, str] = field(default_factory=dict)

    def addresses(self, to: Iterable[Recipient], people: Iterable[Person]) -> tuple[tuple[str, str], ...]:
        """(holder, channel) for everybody meant, each once; channel `NO_CHANNEL` for whom nothing reaches.

        A role's own channel, such as a team's chat, is told in addition to the people who have the role.
        """
        everybody = tuple(people)
        found: dict[tuple[str, str], None] = {}
        for one in to:
            own = [(str(one), channel.name) for channel in self.reach.get(str(one), ()) if one.role]
            each = [
                (person.id, channel.name)
                for person in one.people(everybody) for channel in self.reach.get(person.id, ())
            ]
            mute = [person.id for person in one.people(everybody) if person.id not in self.reach]
            unreached = [] if own else mute or ([] if each else [str(one)])
            found.update(dict.fromkeys([*own, *each, *((name, NO_CHANNEL) for name in unreached)]))
        return tuple(found)

    def channel(self, holder: str, name: str) -> Channel | None:
        """One channel as the file has it now; None when it is gone."""
        return next((one for one in self.reach.get(holder, ()) if one.name == name), None)

    def way(self, notice: Notice) -> Channel | None:
        """How a notice goes out, as the file has it now; None when that is gone."""
        if not notice.mail:
            return self.channel(notice.to, notice.channel)
        url = self.servers.get(notice.channel.removeprefix(THROUGH))
        return Channel(notice.channel, url, address=notice.mail) if url else None

    def emergency_people(self, people: Iterable[Person]) -> tuple[Recipient, ...]:
        """Who hears at once of an emergency: as listed, else internal IT with that role, else all of it."""
        there = [one for one in people if one.party is Party.INTERNAL and not one.left]
        named = [one for one in there if "emergency" in one.roles]
        return self.emergency or tuple(Recipient(one.id) for one in named or there)


def load_notify(folder: Path, people: Iterable[Person]) -> Notify:
    """Read a site's `notify.yaml`; without one, nobody can be reached.

    Raises:
        SiteError: with every mistake in it.
    """
    report: list[Mistake] = []
    found = read_notify(folder, people, report)
    if report:
        raise SiteError(tuple(report))
    return found


def read_notify(folder: Path, people: Iterable[Person], report: list[Mistake]) -> Notify:
    """Read it, and note its mistakes in `report`; without people, nobody who is named is looked up."""
    path = folder / NOTIFY
    if not path.exists():
        return Notify()
    source = Source(str(path), report)
    root = read_yaml(path, source)
    entry = checked(NotifyEntry, root, source) if root is not None else None
    if root is None or entry is None:
        return Notify()
    _check(entry, root, source, tuple(people))
    return _notify(entry)


def _notify(entry: NotifyEntry) -> Notify:
    limits = entry.limits
    reach = {
        holder: tuple(
            Channel(one.name, one.url or entry.servers.get(one.through or "", ""), one.to or "")
            for one in channels
        )
        for holder, channels in entry.reach.items()
    }
    return Notify(
        reach, tuple(_recipients(entry.emergency)), limits.per_hour, limits.per_round,
        limits.give_up_hours * 3600, limits.silence_minutes * 60, entry.ping or "",
        entry.servers,
    )


def _recipients(texts: Iterable[str]) -> Iterable[Recipient]:
    for text in texts:
        try:
            yield read_recipient(text)
        except MalformedError:
            continue  # noted by `_check`


def _check(entry: NotifyEntry, root: Node, source: Source, people: tuple[Person, ...]) -> None:
    """Whoever is named exists and is there, and every server that is used is written down."""
    for holder in entry.reach:
        check_recipient(holder, root.line_of(("reach", holder)), source, people)
    for place, text in enumerate(entry.emergency):
        check_recipient(text, root.line_of(("emergency", place)), source, people)
    for holder, channels in entry.reach.items():
        seen: set[str] = set()
        for place, channel in enumerate(channels):
            line = root.line_of(("reach", holder, place))
            if channel.name in seen:
                source.mistake(line, f"`{holder}` has two channels called `{channel.name}`", "rename one")
            seen.add(channel.name)
            if channel.through is not None and channel.through not in entry.servers:
                known = ", ".join(entry.servers) or "none"
                source.mistake(line, f"there is no server `{channel.through}`", f"`servers` has: {known}")


def check_recipient(text: str, line: int, source: Source, people: tuple[Person, ...]) -> None:
    """Note it when nobody of the site is meant; without people, nobody is looked up."""
    try:
        recipient = read_recipient(text)
    except MalformedError as error:
        source.mistake(line, error.message, "write an address of people.yaml, or internal/change-manager")
        return
    if people and not recipient.people(people):
        source.mistake(line, f"`{text}` is nobody of this site", "add the person or role to people.yaml")
