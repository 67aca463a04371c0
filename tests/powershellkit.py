"""An operation over PowerShell that counts, for runs on Windows hosts: our own endpoint's, or simulated ones.

Its scripts are stood in for; `LevelUp.probe` asks the host which steps it has seen, so that a lost connection
is no riddle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, Outcome, StepResult
from lamplighter.model.plan import HostPlan, Step
from lamplighter.model.powershell import PowerShellScript, PowerShellSession
from tests.lab.winrm_commands import Act
from tests.lab.winrm_endpoint import WinRmEndpoint

_LEVEL = {
    "type": "object", "additionalProperties": False, "required": ["level", "seen"],
    "properties": {"level": {"type": "integer"}, "seen": {"type": "array", "items": {"type": "string"}}},
}
_TAKES = {
    "type": "object", "additionalProperties": False, "required": ["Level", "Unit"],
    "properties": {"Level": {"type": "integer"}, "Unit": {"type": "string"}},
}
GET = PowerShellScript("Get-Level", "[CmdletBinding()]\nparam()\n# ...", {"maxProperties": 0}, _LEVEL)
SET = PowerShellScript(
    "Set-Level", "[CmdletBinding()]\nparam([int]$Level, [string]$Unit)\n# ...", _TAKES, _LEVEL
)


@dataclass(frozen=True)
class Level:
    """What a host tells."""

    level: int

    def relevant(self) -> dict[str, Any]:
        return {"level": self.level}


@dataclass
class LevelUp:
    """One step a host; doing it twice shows in `seen`."""

    target: int = 2

    def options(self) -> dict[str, Any]:
        return {"target": self.target}

    def survey(self, host: Host, session: PowerShellSession) -> Level:
        assert session.host == host.name
        return Level(session.invoke(GET).output["level"])

    def plan(self, host: Host, facts: Level) -> HostPlan:
        if facts.level >= self.target:
            return HostPlan.of(host.name, facts, reason="up to date")
        step = Step("level", "win.level", f"level {facts.level} to {self.target}", {"to": self.target})
        return HostPlan.of(host.name, facts, [step])

    def apply(self, host: Host, step: Step, session: PowerShellSession, unit: str) -> Evidence:
        del host
        result = session.invoke(SET, {"Level": step.args["to"], "Unit": unit}, timeout=20)
        return Evidence("level set", result.provenance)

    def probe(self, host: Host, step: Step, session: PowerShellSession, unit: str) -> Outcome | None:
        del host, step
        seen = session.invoke(GET).output["seen"]
        return Outcome(StepResult.OK, Evidence("level set")) if unit in seen else None

    def verify(self, host: Host, plan: HostPlan, session: PowerShellSession) -> Health:
        del host, plan
        level = session.invoke(GET).output["level"]
        return Health(() if level == self.target else (f"level {level}",))


def obey(state: dict[str, Any], script: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What a host does, whoever plays it."""
    seen = state.setdefault("seen", [])
    if script == SET.name:
        state["level"] = parameters["Level"]
        seen.append(parameters["Unit"])
    return {"level": state.get("level", 1), "seen": list(seen)}


@dataclass
class Counter:
    """A host behind an endpoint."""

    state: dict[str, Any] = field(default_factory=dict)

    def play(self, endpoint: WinRmEndpoint) -> None:
        """Stand in for both scripts."""
        for script in (GET, SET):
            digest = script.digest.removeprefix("sha256:")
            endpoint.acts[digest] = lambda parameters, name=script.name: Act(
                output=json.dumps(obey(self.state, name, parameters))
            )
