"""Windows hosts of a simulated fleet: the same rows, latencies and failures behind a PowerShell session.

No PowerShell runs: the fleet's handler is given the script's name and its parameters as one JSON text, and
answers with the JSON text that the script would write. What is declared of a script is checked as for a real
host. Secrets stay references: a simulated host is not told any.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lamplighter.errors import OutputTooLargeError, RemoteFailedError, SessionLostError, UnreachableError
from lamplighter.model.canonical import Json
from lamplighter.model.inventory import Host, Shell
from lamplighter.model.powershell import PowerShellResult, PowerShellScript
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT
from lamplighter.transports.simulator import SimulatedConnection, SimulatedFleet, SimulatedSession


def connect(fleet: SimulatedFleet, host: Host) -> SimulatedSession | SimulatedPowerShell:
    """Open a session of the host's kind, as `lamplighter.transports.connect.HostTransport` does.

    Raises:
        UnreachableError: the host is down, booting, or not in this fleet.
    """
    session = fleet.connect(host)
    return SimulatedPowerShell(fleet, host.name) if host.shell is Shell.POWERSHELL else session


class SimulatedPowerShell(SimulatedConnection):
    """One simulated Windows host, connected. See `lamplighter.model.powershell.PowerShellSession`."""

    def invoke(
        self,
        script: PowerShellScript,
        params: Mapping[str, Json] | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> PowerShellResult:
        """Have the host played; see `PowerShellSession.invoke`."""
        params = params or {}
        script.check_parameters(params, secrets or {})
        try:
            self.attach()
        except UnreachableError as error:
            raise SessionLostError(error.message, where=self._host, changed="Nothing was sent") from None
        began = self._fleet.clock.time()
        with self.troubled(timeout):
            done = self._fleet.play(self._host, script.name, (json.dumps(dict(params)),))
        if max(len(done.stdout), len(done.stderr)) > cap:
            raise OutputTooLargeError(f"more than {cap} bytes of simulated output", where=self._host)
        if done.exit_code:
            raise RemoteFailedError(f"{script.name} failed: {done.stderr}", where=self._host)
        seconds = self._fleet.clock.time() - began
        output = script.check_output(json.loads(done.stdout))
        return PowerShellResult(script.name, script.digest, output, errors=done.stderr, seconds=seconds)
