"""Numbers a site takes over from the rules it is under. Configuration, not legal advice. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOUR = 3600
DAY = 24 * HOUR

RETENTION_FLOOR_DAYS = 180
"""CERT-In Directions 20(3)/2022: logs are kept for a rolling 180 days."""
DEADLINES: Mapping[str, int] = {
    "exploited-exposed": 12 * HOUR,
    "exploited-internal": DAY,
    "critical-exposed": DAY,
    "critical-internal": 3 * DAY,
    "high": 5 * DAY,
}
"""Seconds from publication to patched, as reported of CISG-2026-02; known to be exploited, or by severity."""


@dataclass(frozen=True, slots=True)
class Policy:
    """See the module's docstring; `inventories/template/site.yaml` names the source of each default.

    Attributes:
        retention_days: how long ledgers, plans and reports are kept at least.
        incident_report_seconds: from noticing an incident to reporting it.
        patch_deadlines: seconds from a patch's publication until it is installed, by the severities of
            `DEADLINES`.
    """

    retention_days: int = 365
    incident_report_seconds: int = 6 * HOUR
    patch_deadlines: Mapping[str, int] = field(default_factory=lambda: dict(DEADLINES))
