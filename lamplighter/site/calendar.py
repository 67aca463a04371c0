"""Reads `calendar.yaml` and the `.ics` files it names: when a site's hosts may be changed.

A site without the file has no windows and no freezes: then hosts may be changed at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from itertools import combinations
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import (
    DAY,
    HORIZON,
    Calendar,
    Dates,
    Freeze,
    MaintenanceWindow,
    Rule,
    Span,
    intersect,
    merge,
    rrule_problem,
    subtract,
    told,
)
from lamplighter.model.escalation import read_recipient
from lamplighter.model.ical import PublicHolidays, holiday_names
from lamplighter.model.ical_lines import MAX_BYTES, SMALLER, decode
from lamplighter.model.imported import Imported, problems, warnings
from lamplighter.model.selection import closest
from lamplighter.site.files import CALENDAR, HOSTS, PEOPLE, Files
from lamplighter.site.schedule import zone_problem
from lamplighter.site.schema import Clock, Day, Length, Line, Slug, Strict, checked
from lamplighter.site.yaml import Node, Remark, Source, read_bytes, read_yaml
from lamplighter.timespan import seconds

LONGEST = 14 * DAY
"""Longest maintenance window. More is no window but `outside_windows: open`."""

Path_ = tuple[int | str, ...]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Groups = Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1)]


class WindowEntry(Strict):
    """One maintenance window: exactly one of `days`, `dates` and `rrule` says on which days it opens."""

    name: Slug
    """For messages."""
    groups: Groups = Field(default=["all"])
    """The inventory groups whose hosts may be changed then."""
    days: Annotated[list[Weekday], Field(min_length=1)] | None = None
    """Every week on these days: `mon` to `sun`."""
    dates: Annotated[list[Day], Field(min_length=1)] | None = None
    """On these dates only."""
    rrule: Line | None = None
    """On the days of this RFC 5545 rule: `FREQ=MONTHLY;BYDAY=2TU`; without COUNT and UNTIL."""
    at: Clock
    """When it opens, local time, in quotation marks."""
    duration: Length
    """How long it stays open, exactly, also across a clock change: `90m`, `4h`; at most 14 days."""
    time_zone: Line | None = None
    """IANA name; the site's when left out."""
    first: Day | None = Field(default=None, alias="from")
    """It does not open before this date. A rule with an INTERVAL counts from it."""
    until: Day | None = None
    """It does not open after this date."""


class FreezeEntry(Strict):
    """One freeze: `from` and `to`, each year again with `annual`; or `rrule` and how many `days` it lasts."""

    name: Slug
    """For messages."""
    reason: Line
    """Why nothing is changed then."""
    owner: Line
    """Who can say more: a person of the site, or a role such as `internal/change-manager`."""
    groups: Groups = Field(default=["all"])
    """The inventory groups whose hosts must not be changed."""
    first: Day | None = Field(default=None, alias="from")
    """Its first day."""
    to: Day | None = None
    """Its last day, included."""
    annual: bool = False
    """Every year on the same days, beginning with the year of `from`. 29 February comes in leap years."""
    rrule: Line | None = None
    """It begins on the days of this RFC 5545 rule; without COUNT and UNTIL."""
    days: Annotated[int, Field(ge=1, le=366)] | None = None
    """How many local days it lasts, with `rrule`."""
    time_zone: Line | None = None
    """IANA name; the site's when left out."""


class ImportEntry(Strict):
    """Freezes from an iCalendar file in the site's folder."""

    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*\.ics$")]
    """Its name."""
    reason: Line
    """Why nothing is changed during its events; each event's own name is shown beside it."""
    owner: Line
    """As for `freezes`."""
    groups: Groups = Field(default=["all"])
    """As for `freezes`."""


class HolidaysEntry(Strict):
    """Public holidays, as the `holidays` package knows them: shown, and frozen where `freeze` says so."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
    """ISO 3166-1 code: `IN`."""
    subdivision: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{0,3}$")] = ""
    """ISO 3166-2 code without the country: `GJ`."""
    freeze: list[Line] | Literal["all"] = Field(default=[])
    """Names of the holidays on which nothing is changed, or `all`."""
    reason: Line = "public holiday"
    """As for `freezes`."""
    owner: Line = "internal/change-manager"
    """As for `freezes`."""
    groups: Groups = Field(default=["all"])
    """As for `freezes`."""


class CalendarEntry(Strict):
    """`calendar.yaml`."""

    outside_windows: Literal["open", "closed"] = "open"
    """Whether hosts for which no window is written may be changed at any time, or never."""
    windows: list[WindowEntry] = Field(default=[])
    """When hosts may be changed. Several windows add up."""
    freezes: list[FreezeEntry] = Field(default=[])
    """When hosts must not be changed. A freeze wins over every window."""
    imports: list[ImportEntry] = Field(default=[])
    """Freezes that other programs keep as iCalendar files."""
    holidays: HolidaysEntry | None = None
    """Public holidays."""


def read_calendar(files: Files) -> Calendar:
    """Read and check the file; mistakes go into the report, and what is wrong is left out."""
    source = files.source(CALENDAR)
    if not (files.folder / CALENDAR).exists():
        return Calendar()
    root = read_yaml(files.folder / CALENDAR, source)
    entry = checked(CalendarEntry, root, source) if root is not None else None
    if root is None or entry is None:
        return Calendar(closed_outside=True)
    reader = _Reader(files, root, source)
    reader.check(entry)
    files.calendar_lines = {
        one.name: root.line_of(("windows", number)) for number, one in enumerate(entry.windows)
    }
    if not files.clean(CALENDAR) or zone_problem(reader.zone)[0]:
        return Calendar(closed_outside=True)
    return Calendar(
        tuple(reader.windows(entry)), tuple(reader.freezes(entry)), entry.outside_windows == "closed",
        reader.holidays(entry.holidays) if entry.holidays else None,
    )


class _Reader:
    """Turns entries into the model, in the site's time zone."""

    def __init__(self, files: Files, root: Node, source: Source) -> None:
        self.files, self.root, self.source = files, root, source
        self.zone = files.entry.time_zone if files.entry else "UTC"
        self.texts: dict[str, str] = {}

    # --- model ------------------------------------------------------------------------------------

    def windows(self, entry: CalendarEntry) -> Iterator[MaintenanceWindow]:
        for one in entry.windows:
            hours, minutes = one.at.split(":")
            at, lasts = int(hours) * 60 + int(minutes), seconds(one.duration)
            zone = one.time_zone or self.zone
            for day in one.dates or ():
                rule = Rule(zone, first=day, at=at, seconds=lasts)
                yield MaintenanceWindow(one.name, tuple(one.groups), rule)
            often = one.rrule or (f"FREQ=WEEKLY;BYDAY={_by_day(one.days)}" if one.days else "")
            if often:
                rule = Rule(zone, often, one.first, one.until, at, lasts)
                yield MaintenanceWindow(one.name, tuple(one.groups), rule)

    def freezes(self, entry: CalendarEntry) -> Iterator[Freeze]:
        for one in entry.freezes:
            yield Freeze(one.name, one.reason, one.owner, tuple(one.groups), self._rule(one))
        for each in entry.imports:
            dates: Dates = Imported(self.texts[each.file], self.zone)
            yield Freeze(each.file.removesuffix(".ics"), each.reason, each.owner, tuple(each.groups), dates)
        days = entry.holidays
        if days is not None and days.freeze:
            names = () if days.freeze == "all" else tuple(days.freeze)
            yield Freeze("public-holiday", days.reason, days.owner, tuple(days.groups),
                         self.holidays(days, names))

    def holidays(self, entry: HolidaysEntry, names: tuple[str, ...] = ()) -> PublicHolidays:
        return PublicHolidays(entry.country, entry.subdivision, self.zone, names)

    def _rule(self, one: FreezeEntry) -> Rule:
        zone = one.time_zone or self.zone
        if one.rrule:
            return Rule(zone, one.rrule, one.first, one.to, days=one.days or 1)
        first, last = one.first or date.min, one.to or date.min
        yearly = f"FREQ=YEARLY;BYMONTH={first.month};BYMONTHDAY={first.day}" if one.annual else ""
        return Rule(zone, yearly, first, days=(last - first).days + 1)

    # --- checks -----------------------------------------------------------------------------------

    def check(self, entry: CalendarEntry) -> None:
        for number, window in enumerate(entry.windows):
            self._window(("windows", number), window)
        for number, freeze in enumerate(entry.freezes):
            self._freeze(("freezes", number), freeze)
        for number, one in enumerate(entry.imports):
            self._import(("imports", number), one)
        if entry.holidays is not None:
            self._holidays(("holidays",), entry.holidays)
        named: dict[str, Path_] = {}
        for key, names in (("windows", [one.name for one in entry.windows]),
                           ("freezes", [one.name for one in entry.freezes])):
            for number, name in enumerate(names):
                if named.setdefault(name, (key, number)) != (key, number):
                    self.note((key, number, "name"), f"`{name}` stands twice", "give each its own name")

    def note(self, path: Path_, message: str, advice: str = "") -> None:
        self.source.mistake(self.root.line_of(path), message, advice)

    def _window(self, path: Path_, one: WindowEntry) -> None:
        if sum(bool(given) for given in (one.days, one.dates, one.rrule)) != 1:
            self.note(path, f"the window `{one.name}` needs exactly one of `days`, `dates` and `rrule`")
        if seconds(one.duration) > LONGEST:
            self.note((*path, "duration"), f"the window `{one.name}` stays open for {one.duration}",
                      "write at most 14d; hosts without any window may be changed at any time")
        if one.first and one.until and one.until < one.first:
            self.note((*path, "until"), f"the window `{one.name}` ends before it begins, and never opens")
        self._rrule(path, one.rrule, one.first)
        self._shared(path, one.groups, one.time_zone)

    def _freeze(self, path: Path_, one: FreezeEntry) -> None:
        if bool(one.rrule) == bool(one.first and one.to) or bool(one.rrule) != bool(one.days):
            self.note(path, f"the freeze `{one.name}` needs `from` and `to`, or `rrule` and `days`")
        elif one.first and one.to and not one.rrule and not 0 <= (one.to - one.first).days < 366:  # noqa: PLR2004 - days of a year
            self.note((*path, "to"), f"the freeze `{one.name}` lasts from {one.first} to {one.to}",
                      "`to` is the last day; a freeze lasts a year at most")
        self._rrule(path, one.rrule, one.first)
        self._shared(path, one.groups, one.time_zone)
        self._owner(path, one.owner)

    def _rrule(self, path: Path_, rule: str | None, first: date | None) -> None:
        if rule and (wrong := rrule_problem(rule, first)):
            self.note((*path, "rrule"), f"the recurrence rule `{rule[:60]}` {wrong}",
                      "for example `FREQ=MONTHLY;BYDAY=2TU`")

    def _import(self, path: Path_, one: ImportEntry) -> None:
        file = self.files.folder / one.file
        place = Source(str(file), self.source.report)
        data = read_bytes(file, place, MAX_BYTES, SMALLER)
        if data is not None:
            try:
                self.texts[one.file] = text = decode(data)
                found = problems(text, self.zone if not zone_problem(self.zone)[0] else "UTC")
            except MalformedError as error:
                found = (error.message,)
            for problem in found:
                place.mistake(0, problem)
        if not self.files.clean(one.file):
            self.note((*path, "file"), f"`{one.file}` cannot be imported: see there")
        self._shared(path, one.groups, None)
        self._owner(path, one.owner)

    def _holidays(self, path: Path_, one: HolidaysEntry) -> None:
        try:
            known = holiday_names(one.country, one.subdivision)
        except MalformedError as error:
            self.note(path, error.message, error.advice)
            return
        for number, name in enumerate(() if one.freeze == "all" else one.freeze):
            if name not in known:
                close = closest(name, known)
                self.note((*path, "freeze", number), f"`{name}` is no holiday there",
                          f"did you mean `{close}`?" if close else f"there are: {', '.join(known)}")
        self._shared(path, one.groups, None)
        self._owner(path, one.owner)

    def _shared(self, path: Path_, groups: list[str], zone: str | None) -> None:
        if zone is not None:
            message, advice = zone_problem(zone)
            if message:
                self.note((*path, "time_zone"), message, advice)
        known = self.files.inventory.groups
        for number, group in enumerate(groups if self.files.clean(HOSTS) else ()):
            if group not in known:
                close = closest(group, known)
                self.note((*path, "groups", number), f"`{group}` is no group of the inventory",
                          f"did you mean `{close}`?" if close else f"groups: {', '.join(known)}")

    def _owner(self, path: Path_, owner: str) -> None:
        try:
            found = read_recipient(owner).people(self.files.people)
        except MalformedError as error:
            self.note((*path, "owner"), error.message)
            return
        if not found and self.files.clean(PEOPLE):
            meant = read_recipient(owner).meant(self.files.people)
            self.note((*path, "owner"), f"the owner `{owner}` is nobody of the site",
                      f"did you mean `{meant}`?" if meant else "")


def check_calendar(files: Files, now: int) -> None:
    """Note what only shows at a certain time: windows that never open, windows that overlap.

    Args:
        files: with a calendar that was read.
        now: seconds since the epoch.
    """
    calendar, source = files.calendar, files.source(CALENDAR)
    end = now + HORIZON
    opens: dict[str, tuple[MaintenanceWindow, list[Span]]] = {}
    for window in calendar.windows:
        opens.setdefault(window.name, (window, []))[1].extend(
            each.span for each in window.rule.occurrences(now, end)
        )
    for window, spans in opens.values():
        frozen = _frozen(calendar, window, now, end)
        if not subtract(merge(spans), frozen):
            why = "it is frozen each time" if spans else "no day fits"
            line = files.calendar_lines[window.name]
            never = f"never opens within {HORIZON // DAY} days: {why}"
            source.mistake(line, f"the window `{window.name}` {never}",
                           "correct its days, or delete it")
    for (one, first), (two, second) in combinations(opens.values(), 2):
        shared = sorted(set(one.groups) & set(two.groups))
        both = intersect(merge(first), merge(second))
        if shared and both:
            zone = files.entry.time_zone if files.entry else "UTC"
            line = files.calendar_lines[two.name]
            source.mistake(line, f"the windows `{one.name}` and `{two.name}` of {shared[0]} overlap, first "
                           f"from {told(both[0].begins, zone)}", "make them one, or move one of them")


def remarks(calendar: Calendar, zone: str, now: int) -> Iterator[Remark]:
    """What calendars that others keep freeze: imported files, public holidays.

    Args:
        calendar: as read.
        zone: IANA name of the site's.
        now: seconds since the epoch.
    """
    end = now + HORIZON
    for freeze in calendar.freezes:
        if isinstance(freeze.dates, Rule):
            continue
        imported = isinstance(freeze.dates, Imported)
        name = f"{freeze.name}.ics" if imported else freeze.name
        found = sorted(freeze.dates.occurrences(now, end))
        if found:
            first = datetime.fromtimestamp(found[0].span.begins, ZoneInfo(zone))
            count = f"{len(found)} freeze{'s' if len(found) != 1 else ''}"
            first_day = f"{first:%a} {first.day} {first:%b %Y}"
            yield Remark(f"{name}: {count} in the next {HORIZON // DAY} days, first {first_day}")
        elif not imported:
            yield Remark(f"{name}: freezes nothing in the next {HORIZON // DAY} days", warning=True)
        if isinstance(freeze.dates, Imported):
            for each in warnings(freeze.dates.text, freeze.dates.zone, now, end):
                yield Remark(f"{name}: {each}", warning=True)


def _frozen(calendar: Calendar, window: MaintenanceWindow, begin: int, end: int) -> tuple[Span, ...]:
    """When no host of the window's groups can be changed for freezes."""
    return merge(
        each.span for freeze in calendar.freezes
        if "all" in freeze.groups or set(window.groups) <= set(freeze.groups)
        for each in freeze.dates.occurrences(begin, end)
    )


def _by_day(days: list[Weekday] | None) -> str:
    return ",".join(day[:2].upper() for day in days or ())
