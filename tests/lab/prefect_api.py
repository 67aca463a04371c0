"""What a tester asks of a Prefect server, over plain HTTP: what any holder of API access can do."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from lamplighter.model.runid import run_id
from tests.lab.errors import LabError
from tests.lab.prefect_stack import PrefectStack

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class PrefectApi:
    """A server's API. Params: stack, which runs it."""

    def __init__(self, stack: PrefectStack) -> None:
        self._base = f"{stack.url}/api"
        self._called: dict[str, str] = {}

    def post(self, path: str, body: Mapping[str, Any] | None = None, method: str = "POST") -> Any:
        """Send JSON, or GET when there is no body. Returns: what came back."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self._base}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method="GET" if body is None else method,
        )
        text = _patiently(request)
        return json.loads(text) if text else None

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a deployment as the UI does. Returns: the flow run's id."""
        found = self.post(f"deployments/name/patch-linux/{deployment}")
        made = self.post(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(made["id"])

    def run(self, flow_run: str) -> dict[str, Any]:
        """Read a flow run."""
        value: dict[str, Any] = self.post(f"flow_runs/{flow_run}")
        return value

    def run_id(self, flow_run: str) -> str:
        """A patch run's own id, also once Prefect has forgotten it. Params: flow_run, its id there."""
        if flow_run not in self._called:
            due = datetime.fromisoformat(self.run(flow_run)["expected_start_time"])
            self._called[flow_run] = run_id("patch-linux", UUID(flow_run), int(due.timestamp()))
        return self._called[flow_run]

    def until(self, flow_run: str, *names: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a run's state has one of these names, or is final. Returns: the run.

        Errors: LabError when neither comes in time.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            run = self.run(flow_run)
            if run["state_name"] in names or run["state_type"] in FINAL:
                return run
            time.sleep(0.3)
        raise LabError(f"the run is still {run['state_name']} after {seconds:.0f} s")

    def answer(self, flow_run: str, **answer: str) -> dict[str, Any]:
        """Resume a suspended run with an answer. Returns: what Prefect said of it."""
        value: dict[str, Any] = {}
        for _ in range(100):
            value = self.post(f"flow_runs/{flow_run}/resume", {"run_input": answer})
            if "schema not found" not in str(value["details"].get("reason")):  # it suspends first, then asks
                break
            time.sleep(0.1)
        return value

    def form(self, flow_run: str) -> str:
        """Read what stands above the form of the question that is open."""
        keyset = self.run(flow_run)["state"]["state_details"]["run_input_keyset"]
        request = urllib.request.Request(f"{self._base}/flow_runs/{flow_run}/input/{keyset['description']}")  # noqa: S310
        return str(json.loads(_patiently(request, 404)))  # Prefect suspends first, and then stores the form

    def task_runs(self, flow_run: str) -> list[str]:
        """List the names of a run's task runs."""
        found = self.post("task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200})
        return sorted(task["name"].rsplit("-", 1)[0] for task in found)

    def artifacts(self, flow_run: str) -> dict[str, dict[str, Any]]:
        """Read a run's artifacts by key."""
        found = self.post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
        return {artifact["key"]: artifact for artifact in found}


def _patiently(request: urllib.request.Request, *also: int) -> bytes:
    """Ask again while the server says 503 (SQLite is busy, as it often is on a small machine) or `also`."""
    for _ in range(20):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
                text: bytes = answer.read()
                return text
        except urllib.error.HTTPError as error:
            if error.code not in {503, *also}:
                raise
            error.close()
            time.sleep(0.5)
    raise LabError("the Prefect server stays unavailable")
