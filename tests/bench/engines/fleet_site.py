"""A site whose hosts are a fleet's."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

from tests.bench.engines.fleet_file import PARALLEL
from tests.lab import Fleet
from tests.lab.demo_site import DemoSite


class FleetSite(DemoSite):
    """The demo's people and rules, over a fleet of sshds.

    Args:
        folder: where it goes.
        fleet: up.
    """

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        rollout = {"default": {"limits": {"parallel": PARALLEL}}}
        super().__init__(folder, fleet, {"rollout": rollout})  # type: ignore[arg-type]  # names, addresses, keys: all it asks for

    def _hosts(self, inventory: dict[str, Any]) -> None:
        super()._hosts(inventory)
        inventory["all"]["vars"] |= {"ansible_port": self.estate.port, "ansible_user": getpass.getuser()}  # type: ignore[attr-defined]  # a fleet has one
