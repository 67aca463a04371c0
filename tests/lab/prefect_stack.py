"""A real Prefect server, its workers and deployments, for the demo and for tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab.cache import kept_file
from tests.lab.errors import LabError
from tests.lab.system import Process, environment, run

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240  # two busy cores take minutes for what an idle one does in ten seconds
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_CLIENT_METRICS_ENABLED": "false",
}


class PrefectStack:
    """A server on SQLite and loopback, and workers; everything below one folder.

    Args:
        folder: made if need be and kept; a server that was started in it before is found again.
        port: the one to take if it is free.
        env: added to every process.
        stays: it outlives this process; otherwise everything of it ends when this process does.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, env: Mapping[str, str] | None = None, stays: bool = False
    ) -> None:
        self.folder = folder.absolute()
        self._prefix = () if stays else ("setpriv", "--pdeathsig", "KILL", "--")
        self.port = self._remembered_port() or free_port(port)
        self._extra = dict(env or {})
        self._file = self.folder / "processes.json"
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """The settings its clients need."""
        return {
            **QUIET,
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_UI_URL": self.url,
            **self._extra,
        }

    def __enter__(self) -> Self:
        """Start the server; when it does not come up, nothing of it stays."""
        try:
            self.start_server()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start_server(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            LabError: with the end of its log.
        """
        database = self.folder / "home" / "prefect.db"
        if not database.exists():
            database.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_empty_database(), database)
        (self.folder / "port").write_text(str(self.port), encoding="ascii")
        self.start(
            "server",
            [
                BIN / "prefect",
                "server",
                "start",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
            ],
        )
        self._wait("server", self._healthy)

    def restart_server(self) -> None:
        """Start the server again, on the same port and database, after it ended."""
        self.process("server").wait(10)
        self.start_server()

    def start_worker(self, pool: str) -> None:
        """Start a party's worker.

        Without a limit of its own: a worker that has one dies when a run is resumed while its suspended
        process is still ending. The pool's concurrency limit does the same and has no such trouble.

        Args:
            pool: made if need be.
        """
        name = f"worker-{pool}"
        self.start(
            name,
            [BIN / "lamplighter", "worker", "--pool", pool, "--name", name],
        )
        self._wait(name, lambda: self._has_worker(pool))

    def deploy(self, text: str = "") -> None:
        """Create every deployment of a `prefect.yaml`. Args: text, of it; the checkout's when empty."""
        file = ROOT / "prefect.yaml"
        if text:
            file = self.folder / "prefect.yaml"
            file.write_text(text, encoding="utf-8")
        self.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(file))

    def prefect(self, *words: str) -> str:
        """Run a prefect command against this server.

        Returns:
            What it printed.
        """
        return run([BIN / "prefect", *words], env=self.env, cwd=ROOT, timeout=120)

    def lamplighter(self, *words: str, timeout: float = 120) -> str:
        """Run a lamplighter command against this server.

        Returns:
            What it printed.
        """
        return run([BIN / "lamplighter", *words], env=self.env, cwd=ROOT, timeout=timeout)

    def start(self, name: str, argv: Sequence[str | Path]) -> Process:
        """Start a process whose output goes to its own log.

        Returns:
            It.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(
                [*self._prefix, *(str(word) for word in argv)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=environment(self.env),
                start_new_session=True,
            )
        self._children.append(started)
        process = Process.of(started.pid)
        if process is None:
            raise LabError(f"{name} ended at once: {self._tail(name)}")
        known = self._processes()
        known[name] = [process.pid, process.start]
        self._file.write_text(json.dumps(known), encoding="utf-8")
        return process

    def process(self, name: str) -> Process:
        """Look one of its processes up.

        Args:
            name: such as `worker-msp`.
        """
        return Process(*self._processes()[name])

    def stop(self) -> None:
        """Stop workers, then the server; kill what does not go."""
        processes = [Process(*pair) for pair in reversed(self._processes().values())]
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        end = time.monotonic() + 10
        for process in processes:
            if not process.wait(max(0.1, end - time.monotonic())):
                _signal_group(process, signal.SIGKILL)
                process.wait(5)
        for child in self._children:
            child.wait()
        self._file.unlink(missing_ok=True)

    def runs(self, name: str) -> bool:
        """Tell whether one of its processes runs.

        Args:
            name: `server`, or `worker-` and a pool.
        """
        known = self._processes()
        return name in known and Process(*known[name]).alive

    def _remembered_port(self) -> int:
        path = self.folder / "port"
        return int(path.read_text(encoding="ascii")) if path.exists() else 0

    def _processes(self) -> dict[str, list[int]]:
        if not self._file.exists():
            return {}
        known: dict[str, list[int]] = json.loads(self._file.read_text(encoding="utf-8"))
        return known

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        process = self.process(name)
        end = time.monotonic() + START_SECONDS
        while not ready():
            if not process.alive or time.monotonic() > end:
                raise LabError(f"{name} did not come up: {self._tail(name)}")
            time.sleep(0.2)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/api/health", timeout=2) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _has_worker(self, pool: str) -> bool:
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.url}/api/work_pools/{pool}/workers/filter", b"{}", {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return bool(json.load(answer))
        except (OSError, urllib.error.URLError):
            return False

    def _tail(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:] if path.exists() else []
        return "\n".join(lines)


def _empty_database() -> Path:
    """Prefect's schema and no row: applying its migrations takes a server 15 s at its first start."""
    return kept_file("prefect-db", version("prefect"), _migrate)


def _migrate(scratch: Path) -> Path:
    settings = {**QUIET, "PREFECT_HOME": str(scratch)}
    run([BIN / "prefect", "server", "database", "upgrade", "-y"], env=settings, timeout=START_SECONDS)
    return scratch / "prefect.db"


def _signal_group(process: Process, number: int) -> None:
    """Signal a process and its children: a worker's flow runs are in its group."""
    if process.alive:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return


def free_port(wanted: int = 0) -> int:
    """A port on loopback that nothing listens on. Params: wanted, taken when it is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        port: int = probe.getsockname()[1]
        return port
