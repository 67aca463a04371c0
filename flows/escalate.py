"""Escalate: tell people of runs that need somebody, and end gates that nobody answered.

What it touches:
    - No host. It reads ledgers and Prefect's states, sends notices, wakes runs whose plan has expired, so
      that they end, and removes delivered passwords whose time is over.

Evidence:
    - Every notice, whom it reached or why not, in the site's store: `lamplighter notifications`.

Taking it back:
    A notice that was sent cannot be taken back.

Edge cases:
    - The function is in stage `internal`: it looks at nothing, and ends as rejected.
    - Its own silence is noticed: commands warn when no round has ended in time, and the `ping` of notify.yaml
      lets a service outside notice, too.
    - Two rounds at once, or one that is killed in the middle: each notice is sent once.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from lamplighter import orchestrator
from lamplighter.model.party import Party
from lamplighter.model.runbook import Risk, Runbook
from tasks.steps import Opened, open_check
from tasks.watching import open_round

RUNBOOK = Runbook(
    id="escalate",
    title="Watch over runs",
    function="monitoring-and-alerts",
    owner=Party.MSP,
    risk=Risk.LOW,
)


@flow(**RUNBOOK.flow_options())
def escalate(site: str) -> State[Any]:
    """Tell people of runs that need somebody, climb escalation paths, and end gates whose plan has expired.

    It changes no host, remembers nothing, and may be started at any time and twice at once. What it finds is
    told once; what could not be sent is sent by a later round.

    Args:
        site: whose estate: a folder in inventories/
    """
    opened = open_check(RUNBOOK, site)
    if not isinstance(opened, Opened):
        return opened
    with orchestrator.in_words():
        watch = open_round(opened.site, opened.store)
        watch.look()
        watch.wake()
        watch.tell()
        sent = watch.send()
        watch.sweep()
        summary = watch.finish(sent)
        get_run_logger().info("%s", summary)
        return orchestrator.told(summary, ok=not watch.problems)
