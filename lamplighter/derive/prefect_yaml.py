"""`prefect.yaml`, derived from the runbooks' declarations and the sites' deployments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from lamplighter.derive.catalogue import Entry
from lamplighter.errors import SelectionError
from lamplighter.site import Deployment, Site

HEAD = """\
# Derived by `lamplighter sync` from flows/*.py and inventories/*/site.yaml. Do not edit: change those, and
# run `lamplighter sync`. CI fails when this file differs.
"""
ONE_AT_A_TIME = {"concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"}}
"""After an outage of its worker, a schedule's late runs would all start at once; one look is enough."""


def prefect_yaml(entries: Mapping[str, Entry], sites: Iterable[Site]) -> str:
    """The file's text: one deployment for each that a site lists, in the order of sites and lists.

    Raises:
        SelectionError: two sites gave one name; Prefect would keep the later one alone.
    """
    deployments = []
    takers: dict[tuple[str, str], Site] = {}
    for site in sites:
        for deployment in site.deployments:
            taker = takers.setdefault((deployment.runbook, deployment.name), site)
            if taker is not site:
                raise SelectionError(
                    f"{taker.name} has a deployment {deployment.runbook}/{deployment.name} as well",
                    where=str(site.path / "site.yaml"), advice="put the site's name into one of the two",
                )
            deployments.append(_deployment(entries[deployment.runbook], site, deployment))
    value = {"name": "lamplighter", "deployments": deployments}
    return HEAD + yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)


def offered(site: Site, runbook: str) -> str:
    """The deployment that starts a runbook at a site when nobody names another: the first that it lists.

    Raises:
        SelectionError: it lists none.
    """
    found = next((one for one in site.deployments if one.runbook == runbook), None)
    if found is None:
        raise SelectionError(
            f"{site.name} has no deployment of {runbook}", where=str(site.path / "site.yaml"),
            changed="Nothing was started", advice="Add one there, then run lamplighter sync and deploy it",
        )
    return f"{runbook}/{found.name}"


def _deployment(entry: Entry, site: Site, deployment: Deployment) -> dict[str, Any]:
    runbook = entry.runbook
    return {
        "name": deployment.name,
        "entrypoint": entry.entrypoint,
        "description": f"{runbook.title} at {site.title}. {_first_paragraph(entry)}",
        "tags": list(runbook.tags(site.name)),
        "parameters": parameters(entry, site, deployment),
        "enforce_parameter_schema": True,
        # Each party's worker runs its own runbooks, so that neither needs the other's credentials. With its
        # output streamed, a flow would die together with its worker.
        "work_pool": {"name": str(runbook.owner), "job_variables": {"stream_output": False}},
        "schedules": [
            _schedule(entry, site, deployment, number) for number in range(len(deployment.schedules))
        ],
        **({} if runbook.changes else ONE_AT_A_TIME),
    }


def parameters(entry: Entry, site: Site, deployment: Deployment) -> dict[str, Any]:
    """What a deployment's runs are started with when nobody says otherwise, and a schedule's always."""
    hosts = {"hosts": deployment.hosts} if "hosts" in inspect.signature(entry.flow.fn).parameters else {}
    return {"site": site.name, **hosts, **deployment.options}


def by_schedule(entry: Entry, deployment: Deployment) -> dict[str, str]:
    """What a schedule adds for a runbook that wants to know who asks: a form has no answer to that."""
    wanted = "requester" in inspect.signature(entry.flow.fn).parameters
    return {"requester": f"schedule:{deployment.name}"} if wanted else {}


def _schedule(entry: Entry, site: Site, deployment: Deployment, number: int) -> dict[str, Any]:
    schedule, more = deployment.schedules[number], by_schedule(entry, deployment)
    rule = {"cron": schedule.cron} if schedule.cron else {"rrule": schedule.rrule}
    return {
        **rule, "timezone": schedule.time_zone or site.time_zone, "active": schedule.active,
        "slug": f"{deployment.name}-{number + 1}", **({"parameters": more} if more else {}),
    }


def _first_paragraph(entry: Entry) -> str:
    return " ".join((entry.flow.description or "").split("\n\n")[0].split())
