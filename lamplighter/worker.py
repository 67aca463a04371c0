"""A worker that runs this checkout's flows, whatever Prefect's database says they are.

Prefect lets everybody who can write to its API say what a worker does: a deployment's entry point and pull
steps, a run's command, environment and working directory. With its own worker, access to the API is
therefore a shell on the worker, and no approval would matter. This one takes three things from the API: a
run's id, the name of its flow, and its parameters. The flow of that name is loaded from the checkout; the
gate and the ledger do the rest. Nor is a state's stored result ever loaded here: it may name a pickle.

`lamplighter worker --pool msp` starts it. Each run is a process of its own (`lamplighter.forkserver`), which
carries out `execute`.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

import anyio
from anyio.abc import TaskStatus
from prefect import get_client
from prefect._internal.control_listener import configure_from_env
from prefect.client.schemas.objects import FlowRun
from prefect.engine import handle_engine_signals
from prefect.flow_engine import load_flow_run, run_flow
from prefect.flows import Flow
from prefect.runner._control_channel import ControlChannel
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS, get_current_settings, temporary_settings
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult

from lamplighter.derive.catalogue import home, named
from lamplighter.forkserver import ForkServer
from lamplighter.model.envelope import spelled

LIBRARIES = (
    "apprise.plugins.email", "boto3", "icalendar", "jinja2", "jsonschema", "ldap3", "paramiko",
    "prefect.artifacts", "prefect.flow_engine", "prefect.input", "prefect.workers.base", "pydantic.v1",
    "pyrage", "rfc8785", "spnego", "winrm", "yaml",
)  # fmt: skip
"""Others' code that a run loads; a test finds what is missing here."""
RUN_ID = "PREFECT__FLOW_RUN_ID"
POLL_SECONDS = 2.0
"""Prefect's own is 10, which a caller on the phone waits for at most twice: at the start and after a gate."""


class CheckoutWorker(BaseWorker[BaseJobConfiguration, BaseVariables, BaseWorkerResult]):
    """See the module's docstring. Each run is a process that outlives a worker that dies.

    Args:
        forks: starts them.
        settings: as Prefect's own workers take them.
    """

    type = "lamplighter"
    job_configuration = BaseJobConfiguration
    job_configuration_variables = BaseVariables
    _display_name = "Lamplighter"
    _description = "Runs the flows of its own checkout as processes; takes no command from the API."

    def __init__(self, forks: ForkServer, **settings: Any) -> None:
        super().__init__(**settings)
        self._forks = forks

    async def run(
        self, flow_run: FlowRun, configuration: BaseJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> BaseWorkerResult:
        """Run one flow run in a process, and wait for its end.

        Args:
            flow_run: which; only its id matters.
            configuration: what the API wants; not looked at.
            task_status: is told the process id.
        """
        del configuration
        found: list[Any] = []
        async with FlowRunExecutorContext() as context:
            starter = _ForkStarter(self._forks, context.control_channel)
            executor = context.create_executor(
                flow_run, starter, resolve_flow=_resolve, propose_submitting=False
            )

            async def execute(*, task_status: TaskStatus[Any] = anyio.TASK_STATUS_IGNORED) -> None:
                found.append(await executor.submit(task_status=task_status))

            async with anyio.create_task_group() as group:
                handle = await group.start(execute)
                if task_status is not None:
                    task_status.started(handle.pid)
        if not found or found[0].status_code is None:
            raise RuntimeError("the flow run's process could not be started")
        # The executor has reported how it ended. Told of it, the worker would report a crash once more, and
        # perhaps only after the run was resumed.
        return BaseWorkerResult(status_code=0, identifier=str(handle.pid))


class _ForkStarter:
    """Prefect's protocol for starting a run's process."""

    def __init__(self, forks: ForkServer, control: ControlChannel) -> None:
        self._forks = forks
        self._control = control

    async def start(
        self, flow_run: FlowRun, task_status: TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Start it, tell its id, and wait for its end.

        A worker that is stopped does not wait: Prefect sends its runs SIGTERM, and they drain by themselves.
        """
        port, token = self._control.register(flow_run.id)
        variables = {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        run = await self._forks.fork({RUN_ID: str(flow_run.id), **variables})
        try:
            task_status.started(ProcessHandle(cast("anyio.abc.Process", run)))
            await run.wait()
        finally:
            run.close()


def flow_named(name: str) -> Flow[..., Any]:
    """The checkout's flow of that name.

    Raises:
        SelectionError: it has none; whatever else the API says of it, it is not run.
    """
    found: Flow[..., Any] = named(name).flow
    return found


def serve(pool: str, name: str) -> None:
    """Poll a work pool until told to stop: every `POLL_SECONDS`, unless Prefect's settings say otherwise.

    Args:
        pool: made if need be.
        name: of this worker, as the UI shows it.
    """
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    # Hooks of a run that was killed are the worker's to call.
    hooks = {"PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}
    with (
        ForkServer(home(), {**os.environ, **settings, **hooks}, f"{__name__}:execute", LIBRARIES) as forks,
        temporary_settings(set_defaults={PREFECT_WORKER_QUERY_SECONDS: POLL_SECONDS}),
    ):
        anyio.run(_work, CheckoutWorker(forks, work_pool_name=pool, name=name))


async def _work(worker: CheckoutWorker) -> None:
    """Until a signal; Prefect's own handlers raise wherever the worker happens to be, which may be lost."""
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    group.cancel_scope.cancel()

        group.start_soon(listen)
        await worker.start()
        group.cancel_scope.cancel()


async def _resolve(flow_run: FlowRun) -> Flow[..., Any]:
    """Prefect asks for a flow's hooks when its process was killed or cancelled."""
    async with get_client() as client:
        return flow_named((await client.read_flow(flow_run.flow_id)).name)


def spell_out_logs() -> None:
    """From now on, no log line of this process shows less, or something else, than it holds."""
    make = logging.getLogRecordFactory()

    def spell(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        record.msg, record.args = spelled(record.getMessage()), None
        return record

    logging.setLogRecordFactory(spell)


def execute(environment: Mapping[str, str] = os.environ) -> None:
    """Run the flow run that the environment names, in this process."""
    configure_from_env()
    spell_out_logs()
    flow_run_id = UUID(environment[RUN_ID])
    with handle_engine_signals(flow_run_id):
        flow_run = load_flow_run(flow_run_id)
        with get_client(sync_client=True) as client:
            name = client.read_flow(flow_run.flow_id).name
        run_flow(flow_named(name), flow_run=flow_run, return_type="state")
