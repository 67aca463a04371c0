"""The site of `make demo`: inventories/demo on real hosts, with a real directory, mail that can be read, and
schedules that fire while somebody looks.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from tests.lab import demo_directory
from tests.lab.demo_mail import Sink
from tests.lab.demo_site import APPROVERS, DemoSite
from tests.lab.estate import Estate

SOON = 4 * 60
"""Seconds from the start of the demo until the first of its schedules fires; each fires every hour then."""


class Sandbox(DemoSite):
    """See the module's docstring. Params: folder, where all of it lies; estate, up."""

    def __init__(self, folder: Path, estate: Estate) -> None:
        super().__init__(folder, estate)
        self.sink = Sink(self.folder / "mail")
        self.directory = self.folder / "directory"

    @property
    def env(self) -> dict[str, str]:
        """What the worker and the command line need."""
        names = ("ASHA", "KIRAN", "PRIYA")
        people = {f"LAMPLIGHTER_MAIL_{name}": who for name, who in zip(names, APPROVERS, strict=True)}
        return {**super().env, **self.sink.env(people), **demo_directory.env(self.directory)}

    def write(self) -> None:
        """Write the site; the directory must be starting."""
        super().write()
        self.edit("responsibilities.yaml", _hand_resets_over)
        self.hand_over("password-resets", "reset-password", "unlock-account")
        self.edit("site.yaml", schedule_soon)
        said = demo_directory.directory_yaml(self.directory)
        (self.path / "directory.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")


def _hand_resets_over(matrix: dict[str, Any]) -> None:
    matrix["functions"]["password-resets"]["stage"] = "supervised"


def schedule_soon(site: dict[str, Any]) -> None:
    """A patch cycle of its own for staging, every hour, and reminders every hour and not at eight o'clock."""
    first = datetime.fromtimestamp(time.time() + SOON, ZoneInfo(site["time_zone"])).minute
    hourly = [{"cron": f"{minute % 60} * * * *"} for minute in (first, first + 2)]
    for one in site["deployments"]:
        if one["runbook"] == "expiring-passwords":
            one |= {"name": "hourly", "schedules": hourly[1:]}
    site["deployments"].append({
        "runbook": "patch-linux", "name": "staging-hourly", "hosts": "staging",
        "options": {"packages": "all"}, "schedules": hourly[:1],
    })
