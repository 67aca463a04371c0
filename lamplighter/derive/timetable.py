"""When a schedule starts its runs, exactly as Prefect will; and whether a run is one that a site declared.

The times come from the classes of Prefect's own server, with its rules for days, steps, anchors and clock
changes; a second reading of cron or RFC 5545 would differ from it sooner or later. Prefect is imported where
it is needed, because it takes 2 s and most commands do without.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from lamplighter.derive.catalogue import Entry
from lamplighter.derive.prefect_yaml import by_schedule, parameters
from lamplighter.errors import NotApprovedError
from lamplighter.site import Deployment, Schedule, Site


def starts(schedule: Schedule, begin: int, end: int) -> Iterator[int]:
    """The starts of a schedule from `begin` and before `end`, in order; switched on or not.

    Args:
        schedule: a rule without mistakes.
        begin, end: seconds since the epoch.
    """
    from prefect._vendor.croniter.croniter import CroniterBadDateError  # noqa: PLC0415

    rule = _rule(schedule, begin)
    last = datetime.fromtimestamp(end - 1, UTC)
    while begin < end:
        some = rule._get_dates_generator(  # noqa: SLF001 - what the server's scheduler itself asks
            start=datetime.fromtimestamp(begin, UTC), end=last
        )
        try:
            found = [int(when.timestamp()) for when in some]
        except CroniterBadDateError:  # the 31st of February
            return
        yield from found
        if not found:
            return
        begin = found[-1] + 1


def is_start(schedule: Schedule, when: int) -> bool:
    """Whether a schedule starts a run at that second.

    Args:
        schedule: a rule without mistakes.
        when: seconds since the epoch.
    """
    return next(starts(schedule, when, when + 1), None) == when


def declared(entry: Entry, site: Site, name: str, given: Mapping[str, Any], due: int) -> str:
    """The deployment whose schedule started a run, when the site declares all of it.

    Anybody who reaches Prefect's API makes deployments and schedules of any name, with any parameters.

    Args:
        entry: the runbook.
        site: whose `site.yaml` counts.
        name: of the deployment, as Prefect says.
        given: the run's parameters, as Prefect says.
        due: when it was to start, seconds since the epoch.

    Returns:
        Its name.

    Raises:
        NotApprovedError: there is no such deployment, or it has other parameters or other times.
    """
    mine = (one for one in site.deployments if one.runbook == entry.runbook.id and one.name == name)
    found = next(mine, None)
    why = _stranger(entry, site, found, given, due) if found else "there is no deployment of that name"
    if found is None or why:
        raise NotApprovedError(
            f"a schedule of the deployment {name[:80]!r} started this run, and the site does not declare it "
            f"so: {why}", where=str(site.path / "site.yaml"), changed="Nothing was changed",
            advice="When site.yaml was changed, run `lamplighter sync` and `prefect deploy --all`; otherwise "
                   "find out who made that schedule in Prefect",
        )
    return found.name


def _stranger(entry: Entry, site: Site, found: Deployment, given: Mapping[str, Any], due: int) -> str:
    """Why a scheduled run is none that the site declares; empty when it is."""
    wanted = {**parameters(entry, site, found), **by_schedule(entry, found)}
    other = sorted(key for key in {*wanted, *given} if _text(wanted, key) != _text(given, key))
    if other:
        return f"other parameters: {', '.join(other)[:200]!r}"
    schedules = [one for one in found.schedules if one.active]
    if not schedules:
        return "it has no schedule that is switched on"
    if not any(is_start(one, due) for one in schedules):
        return f"its schedules start nothing at {datetime.fromtimestamp(due, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return ""


def _text(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], sort_keys=True) if key in values else ""


def _rule(schedule: Schedule, begin: int) -> Any:
    """Prefect's own rule; one without a beginning gets the one that the server gives it."""
    from prefect._internal.schemas.validators import normalize_rrule_string  # noqa: PLC0415
    from prefect.server.schemas.schedules import CronSchedule, RRuleSchedule  # noqa: PLC0415

    if schedule.cron:
        return CronSchedule(cron=schedule.cron, timezone=schedule.time_zone)
    now = datetime.fromtimestamp(begin, UTC)
    text = normalize_rrule_string(schedule.rrule, now=now, timezone=schedule.time_zone)
    return RRuleSchedule(rrule=text, timezone=schedule.time_zone)
