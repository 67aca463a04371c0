"""A run's id, from the flow run that is the run's first and only one. Pure.

Flow runs that Prefect's scheduler makes have UUIDs of version 7, several in one pass: their first digits are
a clock and are equal. So every bit of the UUID counts here, none by itself.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from uuid import UUID

DIGITS = 12
"""Of the digest: two of a million runs of one day share an id once in 500 such days, and are then refused."""


def run_id(runbook: str, flow_run: UUID, due: int) -> str:
    """`patch-linux-20261127-3f9c01b7a2de`: what is run, the day it is due (UTC), and which one it is.

    Args:
        runbook: its id.
        flow_run: Prefect's id of the run; all of its 128 bits count.
        due: when the run is to start, seconds since the epoch.
    """
    digest = hashlib.sha256(flow_run.bytes).hexdigest()[:DIGITS]
    return f"{runbook}-{datetime.fromtimestamp(due, UTC):%Y%m%d}-{digest}"
