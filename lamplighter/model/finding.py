"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lamplighter.model.outcome import Evidence


class Severity(StrEnum):
    """How soon somebody must look."""

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found on one subject.

    Attributes:
        subject: the host, account, backup or certificate it is about.
        severity: see `Severity`.
        message: one sentence: what is wrong and what to do.
        evidence: what was read.
    """

    subject: str
    severity: Severity
    message: str
    evidence: Evidence = field(default_factory=lambda: Evidence(""))
