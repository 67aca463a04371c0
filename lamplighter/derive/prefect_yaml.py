"""`prefect.yaml`, derived from the runbooks' declarations and the sites' deployments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from lamplighter.derive.catalogue import Entry
from lamplighter.site import Deployment, Site

HEAD = """\
# Derived by `lamplighter sync` from flows/*.py and inventories/*/site.yaml. Do not edit: change those, and
# run `lamplighter sync`. CI fails when this file differs.
"""
ONE_AT_A_TIME = {"concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"}}
"""After an outage of its worker, a schedule's late runs would all start at once; one look is enough."""


def prefect_yaml(entries: Mapping[str, Entry], sites: Iterable[Site]) -> str:
    """The file's text: one deployment for each that a site lists, in the order of sites and lists."""
    deployments = [
        _deployment(entries[deployment.runbook], site, deployment)
        for site in sites
        for deployment in site.deployments
    ]
    value = {"name": "lamplighter", "deployments": deployments}
    return HEAD + yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)


def deployment_name(site: Site, deployment: Deployment) -> str:
    """`demo`, or `demo-web` for a named one; Prefect shows it behind the runbook: `patch-linux/demo-web`."""
    return f"{site.name}-{deployment.name}" if deployment.name else site.name


def _deployment(entry: Entry, site: Site, deployment: Deployment) -> dict[str, Any]:
    runbook = entry.runbook
    return {
        "name": deployment_name(site, deployment),
        "entrypoint": entry.entrypoint,
        "description": f"{runbook.title} at {site.title}. {_first_paragraph(entry)}",
        "tags": list(runbook.tags(site.name)),
        "parameters": _parameters(entry, site, deployment),
        "enforce_parameter_schema": True,
        # Each party's worker runs its own runbooks, so that neither needs the other's credentials. With its
        # output streamed, a flow would die together with its worker.
        "work_pool": {"name": str(runbook.owner), "job_variables": {"stream_output": False}},
        "schedules": [_schedule(site, deployment, number) for number in range(len(deployment.schedules))],
        **({} if runbook.changes else ONE_AT_A_TIME),
    }


def _parameters(entry: Entry, site: Site, deployment: Deployment) -> dict[str, Any]:
    hosts = {"hosts": deployment.hosts} if "hosts" in inspect.signature(entry.flow.fn).parameters else {}
    return {"site": site.name, **hosts, **deployment.options}


def _schedule(site: Site, deployment: Deployment, number: int) -> dict[str, Any]:
    schedule = deployment.schedules[number]
    rule = {"cron": schedule.cron} if schedule.cron else {"rrule": schedule.rrule}
    return {
        **rule, "timezone": schedule.time_zone or site.time_zone, "active": schedule.active,
        "slug": f"{deployment_name(site, deployment)}-{number + 1}",
    }


def _first_paragraph(entry: Entry) -> str:
    return " ".join((entry.flow.description or "").split("\n\n")[0].split())
