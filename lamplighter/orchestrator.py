"""The one adapter to Prefect's API: find, tag, suspend, resume, states.

Prefect schedules and shows; it decides nothing. Whatever comes back from here is a claim: a resumed run
may have been resumed by anybody, and its parameters and inputs written by anybody with API access.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, NotPausedError, ObjectNotFound, Pause
from prefect.flow_runs import resume_flow_run
from prefect.logging import get_run_logger
from prefect.runtime import deployment
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_UI_URL,
    temporary_settings,
)
from prefect.states import AwaitingRetry, Cancelled, Completed, Failed, Scheduled

from lamplighter.errors import DeclinedError, LamplighterError, OrchestratorError
from lamplighter.model.outcome import RunState
from lamplighter.model.runid import run_id

PAGE = 200  # what Prefect's API returns at once
PATIENCE = {PREFECT_API_REQUEST_TIMEOUT: 15.0, PREFECT_CLIENT_MAX_RETRIES: 2}
"""For who waits at a terminal, and for the watch, which looks again: Prefect's own are minutes."""
FORM_SECONDS = 10  # Prefect suspends a run first and stores its form then
_NO_FORM = "Run input schema not found"
AWAITING_WINDOW = "AwaitingWindow"
AWAITING_MAIL = "AwaitingMail"


@dataclass(frozen=True, slots=True)
class Started:
    """What Prefect says of the flow run that is executing this code.

    Attributes:
        flow_run: its id.
        name: Prefect's name for it.
        schedule: True when a schedule, not a person, created it.
        deployment: its name; empty for a flow called from a script.
        due: when it was to start, seconds since the epoch.
        parameters: what it was started with.
    """

    flow_run: UUID
    name: str
    schedule: bool
    deployment: str
    due: int
    parameters: Mapping[str, Any]

    def run(self, runbook: str) -> str:
        """The run's id."""
        return run_id(runbook, self.flow_run, self.due)


def current() -> Started:
    """The flow run this code runs in.

    Raises:
        OrchestratorError: outside a flow run.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise OrchestratorError("no Prefect flow run is executing this code")
    run = context.flow_run
    return Started(
        run.id, run.name, bool(run.auto_scheduled), deployment.name or "", _due(run), run.parameters
    )


def _due(run: FlowRun) -> int:
    """When a run was to start. Prefect sets it once, with the run's first state."""
    if run.expected_start_time is None:
        raise OrchestratorError(f"Prefect does not say when the flow run {run.id} was to start")
    return int(run.expected_start_time.timestamp())


def run_of(runbook: str, flow_run: FlowRun) -> str:
    """The id of the run that a flow run is."""
    return run_id(runbook, flow_run.id, _due(flow_run))


def label(flow_run: UUID, name: str, tags: Sequence[str]) -> None:
    """Give a flow run the run's name and tags, however it was started; `change:x` replaces `change:y`."""
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(flow_run)
        named = {tag.partition(":")[0] for tag in tags}
        wanted = sorted({*tags, *(tag for tag in known.tags if tag.partition(":")[0] not in named)})
        if known.name != name or sorted(known.tags) != wanted:
            client.update_flow_run(flow_run, name=name, tags=wanted)
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        context.flow_run.name = name  # what this process says of itself from here on


def sleep_until(when: int, why: str, name: str = AWAITING_WINDOW) -> NoReturn:
    """Give the worker back; Prefect starts the current run from its top again at that time.

    Args:
        when: seconds since the epoch.
        why: shown with the state.
        name: of the state.

    Raises:
        Pause: Prefect's own signal, which ends this process without ending the run.
    """
    then = datetime.fromtimestamp(when, UTC)
    later: State[Any] = Scheduled(scheduled_time=then, name=name, message=why)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(current().flow_run, later, force=True)
    raise Pause(state=later)


@contextmanager
def in_words() -> Iterator[None]:
    """End the current run as failed with the sentence of an error; Prefect would log a traceback first.

    Raises:
        Abort: Prefect's own signal, which ends this process; the run's state is set before.
    """
    try:
        yield
    except LamplighterError as error:
        get_run_logger().error("%s", error)
        state: State[Any] = Failed(message=str(error))
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(current().flow_run, state, force=True)
        signal = Abort(str(error))
        setattr(signal, "state", state)  # noqa: B010 - the engine looks for it there, as it does with Pause
        raise signal from error


def failed(error: LamplighterError) -> State[Any]:
    """What a task returns that failed with a sentence: who called it gets the error, nobody a traceback."""
    return Failed(message=str(error), data=error)


# --- from outside a run ---------------------------------------------------------------------------


@contextmanager
def answering() -> Iterator[SyncPrefectClient]:
    """A client of Prefect's API; every way in which there is none becomes one sentence.

    Without an address Prefect would start a server of its own in the reader's home: so there must be one.

    Raises:
        OrchestratorError: there is no address, nobody answers there, or who answers is not Prefect's API.
    """
    url = str(PREFECT_API_URL.value() or "")
    if not url:
        raise OrchestratorError(
            "it is not known where Prefect is", advice="Set PREFECT_API_URL, such as https://prefect.example/api"
        )
    try:
        with temporary_settings(updates=PATIENCE), get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        raise OrchestratorError(_refusal(error.response), where=url, advice=_advice(url)) from error
    except httpx.HTTPError as error:
        raise OrchestratorError(
            f"Prefect does not answer: {type(error).__name__}", where=url,
            advice="See whether the server runs and PREFECT_API_URL is right",
        ) from error
    except (httpx.InvalidURL, ValueError) as error:  # a page instead of JSON, or no address at all
        what = "it is not Prefect's API that answers"
        raise OrchestratorError(what, where=url, advice=_advice(url)) from error


def _refusal(answer: httpx.Response) -> str:
    """What a refusal of the server says, short, and on one line."""
    if answer.status_code in {401, 403}:
        return "Prefect does not let this account in: see PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
    return f"Prefect refused ({answer.status_code}): {' '.join(answer.text.split())[:300]}"


def _advice(url: str) -> str:
    if url.rstrip("/").endswith("/api"):
        return "See whether PREFECT_API_URL is right"
    return "PREFECT_API_URL should end in /api, and does not"


def check_server() -> str:
    """Ask for Prefect's version.

    Raises:
        OrchestratorError: see `answering`.
    """
    with answering() as client:
        said = client.api_version()
        if not re.fullmatch(r"[0-9][0-9A-Za-z.+-]*", said):
            raise ValueError(said[:40])
        return said


def find(name: str) -> FlowRun:
    """The flow run of that run id.

    Raises:
        OrchestratorError: none, or Prefect does not answer.
    """
    with answering() as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), limit=2
        )
    if not runs:
        raise OrchestratorError(f"Prefect knows no run {name}", advice="lamplighter runs lists them")
    return runs[0]


@dataclass(frozen=True, slots=True)
class Seen:
    """What Prefect says of a run: its flow run's id, and the type and name of its state."""

    flow_run: UUID
    type: str
    name: str


def states(names: Sequence[str]) -> dict[str, Seen]:
    """The flow runs of these run ids, as far as Prefect knows them; of two of one name the latest.

    Raises:
        OrchestratorError: Prefect does not answer.
    """
    found: dict[str, Seen] = {}
    with answering() as client:
        for start in range(0, len(names), PAGE // 2):
            wanted = FlowRunFilter(name=FlowRunFilterName(any_=list(names[start : start + PAGE // 2])))
            runs = client.read_flow_runs(
                flow_run_filter=wanted, limit=PAGE, sort=FlowRunSort.EXPECTED_START_TIME_ASC
            )
            found.update((run.name, _seen(run)) for run in runs)
    return found


def _seen(run: FlowRun) -> Seen:
    return Seen(run.id, run.state.type.value if run.state else "", run.state.name or "" if run.state else "")


def wake(name: str) -> None:
    """Let a suspended run look at its gate again, deciding nothing: there is no signature in the answer.

    Raises:
        OrchestratorError: the run is not suspended any more.
    """
    resume(name, {"decision": "look again", "reason": "woken by the watch: nobody decided in the form"})


def resume(name: str, answer: Mapping[str, Any]) -> FlowRun:
    """Wake a suspended run with an answer.

    Raises:
        OrchestratorError: the run is not suspended, or Prefect rejects the answer.
    """
    run = find(name)
    end = time.monotonic() + FORM_SECONDS
    while True:
        try:
            with answering():
                resume_flow_run(run.id, run_input=dict(answer))
        except NotPausedError as error:
            state = run.state.name if run.state else "unknown"
            raise OrchestratorError(
                f"{name} is not waiting for approval in Prefect: its state there is {state}",
                advice=f"If it crashed: lamplighter resume {name}",
            ) from error
        except RuntimeError as error:
            if _NO_FORM not in str(error) or time.monotonic() > end:
                raise OrchestratorError(f"Prefect did not take the answer for {name}: {error}") from error
            time.sleep(0.1)
        else:
            return run


def start(deployment: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Start a deployment as the UI does.

    Args:
        deployment: `patch-linux/web-prod-monthly`.
        parameters: laid over the deployment's own.

    Raises:
        OrchestratorError: there is none of that name, it does not take these parameters, or Prefect does
            not answer.
    """
    with answering() as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except ObjectNotFound as error:
            raise OrchestratorError(
                f"Prefect has no deployment {deployment}", advice="Deploy it: prefect deploy --all"
            ) from error
        return client.create_flow_run_from_deployment(found.id, parameters=dict(parameters))


def restart(name: str) -> FlowRun:
    """Hand a run that crashed back to its worker; its ledger decides what is left to do."""
    run = find(name)
    state_type = run.state.type if run.state else None
    if state_type in {StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.PAUSED}:
        raise DeclinedError(
            f"{name} has not crashed: its state in Prefect is {run.state.name if run.state else 'none'}",
            changed="Nothing was started",
        )
    with answering() as client:
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    return run


def page(flow_run: UUID | None) -> str:
    """The address of the run's page; `/v2` because plain links open the older page in a fresh browser.

    Args:
        flow_run: its id; None for one that Prefect does not know, and the list of all runs.
    """
    base = str(PREFECT_UI_URL.value() or "http://127.0.0.1:4200").rstrip("/")
    return f"{base}/v2/runs/flow-run/{flow_run}" if flow_run else f"{base}/v2/runs"


def final(state: RunState, message: str) -> State[Any]:
    """The explicit state a flow returns, named as the run ended."""
    make = {
        RunState.COMPLETED: Completed, RunState.REJECTED: Cancelled, RunState.EXPIRED: Cancelled,
        RunState.PLANNED: Completed, RunState.MISSED: Cancelled,
        RunState.NOTHING_DONE: Cancelled, RunState.REFUSED: Cancelled,
        RunState.HALTED: Failed, RunState.FAILED: Failed,
    }[state]
    return make(name=str(state), message=message)


def told(message: str, *, ok: bool) -> State[Any]:
    """The explicit state of a flow that has no ledger of its own."""
    return Completed(message=message) if ok else Failed(message=message)
