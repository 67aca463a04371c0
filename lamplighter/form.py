"""The form at a run's gate: how a run asks, waits without a worker, and takes what a resume brought."""

from __future__ import annotations

from typing import Any, Literal, cast

import pydantic
from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, Pause
from prefect.input import RunInput, keyset_from_paused_state
from prefect.states import Suspended
from prefect.utilities.engine import propose_state_sync

from lamplighter.errors import OrchestratorError
from lamplighter.orchestrator import current

SHORTEST_LINE = 200  # a signed line has a statement and a signature of OpenSSH's
WAITING = "Waiting for approval: menu, Resume. Or in a terminal: lamplighter approve {}"
ANSWER_GRACE = 24 * 3600  # the plan's own expiry decides; Prefect's time-out is only the backstop behind it


class Answer(RunInput):
    """The form shown at the gate. `decision` has no default, so that an empty resume decides nothing.

    An approval without a line would be taken with a tick and count for nothing: Prefect refuses it.
    """

    model_config = pydantic.ConfigDict(json_schema_extra={
        "if": {"properties": {"decision": {"const": "approve"}}},
        "then": {"properties": {"approval": {"minLength": SHORTEST_LINE}}, "required": ["approval"]},
    })

    decision: Literal["approve", "reject", "look again"] = pydantic.Field(
        title="Decision",
        description="approve needs the signed line below; reject does not; look again decides nothing, and "
        "has the run look for lines that were left in the site's store",
    )
    approval: str = pydantic.Field(
        default="", title="Approval line",
        description="all that lamplighter sign, or lamplighter approve --print, has printed",
        pattern=r"^[A-Za-z0-9_=\s-]*$", max_length=65536,
    )
    reason: str = pydantic.Field(default="", title="Reason", description="kept with the run", max_length=500)


def ask(key: str, text: str, seconds: int) -> Answer | None:
    """Suspend the current run until it is resumed; on replay, return what the resume brought.

    Args:
        key: the question's own key; the same question is asked once.
        text: markdown shown above the form.
        seconds: until Prefect gives the run up.

    Returns:
        The answer, or None when the run was resumed without a usable one. That is never an approval.
    """
    form = Answer.with_initial_data(description=text)
    try:
        return _suspend(form, key, seconds + ANSWER_GRACE)
    except (pydantic.ValidationError, ObjectNotFound):
        return None


def _suspend(form: type[Answer], key: str, seconds: int) -> Answer:
    """As `prefect.flow_runs.suspend_flow_run`, but the state says what to do: Prefect's has no message.

    Raises:
        Pause: Prefect's own signal, which ends this process without ending the run.
        pydantic.ValidationError, ObjectNotFound: the run was resumed without a usable answer.
    """
    run = current()
    state: State[Any] = Suspended(timeout_seconds=seconds, pause_key=key, message=WAITING.format(run.name))
    keys = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = cast("dict[str, str]", keys)
    with get_client(sync_client=True) as client:
        said = propose_state_sync(client=client, state=state, flow_run_id=run.flow_run)
        if said.is_running():  # this question was asked before, and the run resumed since
            return cast("Answer", form.load(keys))
        if not said.is_paused():
            raise OrchestratorError(f"Prefect does not let the run wait: {said.name} {said.message or ''}")
        form.save(keys)
    raise Pause(state=said)
