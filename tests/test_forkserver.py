"""The fork server: a run's process has the libraries loaded and today's code, and outlives the rest."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from lamplighter.forkserver import UNKNOWN, Forked, ForkServer
from lamplighter.worker import LIBRARIES
from tests.lab.system import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout whose runs do what their environment says."""
    (tmp_path / "said.py").write_text(
        "import os, pathlib, signal, sys, time\ndef execute():\n    exec(os.environ['DO'])\n"
    )
    return tmp_path


@pytest.fixture
def server(home: Path) -> Iterator[ForkServer]:
    with ForkServer(home, {**os.environ, "OF_ALL": "1"}, "said:execute") as server:
        yield server


async def end(run: Forked) -> int | None:
    with anyio.fail_after(20):
        await run.wait()
    run.close()
    return run.returncode


def code_of(server: ForkServer, do: str) -> int | None:
    async def main() -> int | None:
        return await end(await server.fork({"DO": do}))

    return anyio.run(main)


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("1/0", 1),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(20)", -2),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(20)", -15),
        ("import resource; sys.exit(resource.getrlimit(resource.RLIMIT_CORE) != (0, 0))", 0),
        ("import ctypes; sys.exit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))", 0),  # PR_GET_DUMPABLE
    ],
)
def test_the_exit_status_arrives(server: ForkServer, do: str, code: int) -> None:
    assert code_of(server, do) == code


def test_a_run_has_the_environment_of_all_and_its_own(server: ForkServer, home: Path) -> None:
    code_of(server, "pathlib.Path('said').write_text(os.environ['OF_ALL'] + os.environ['DO'][:4])")
    assert (home / "said").read_text() == "1path"


def test_a_run_is_todays_code(server: ForkServer, home: Path) -> None:
    assert code_of(server, "sys.exit(3)") == 3
    (home / "said.py").write_text("def execute(): raise SystemExit(7)\n")
    assert code_of(server, "sys.exit(3)") == 7


def test_many_at_once_are_told_apart(server: ForkServer) -> None:
    codes: dict[int, int | None] = {}

    async def one(number: int) -> None:
        run = await server.fork({"DO": f"time.sleep({(number % 5) / 20}); sys.exit({number})"})
        codes[number] = await end(run)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(one, number)

    anyio.run(main)
    assert codes == {number: number for number in range(40)}


def test_a_run_holds_no_wire_of_another(server: ForkServer, home: Path) -> None:
    async def main() -> None:
        others = [await server.fork({"DO": "time.sleep(20)"}) for _ in range(3)]
        await end(await server.fork({"DO": "os.system('ls -l /proc/$PPID/fd > fds')"}))
        for run in others:
            os.kill(run.pid, signal.SIGTERM)
            assert await end(run) == -signal.SIGTERM

    anyio.run(main)
    held = (home / "fds").read_text()
    assert " 0 -> /dev/null" in held
    assert "socket" not in held
    assert "pidfd" not in held


def test_a_run_outlives_the_worker_and_the_server(home: Path) -> None:
    async def main(server: ForkServer) -> Forked:
        run = await server.fork({"DO": "time.sleep(0.5); pathlib.Path('done').write_text('1')"})
        run.close()
        return run

    with ForkServer(home, os.environ, "said:execute") as server:
        run = anyio.run(main, server)
    assert run.returncode is None
    assert wait_until((home / "done").exists, 20)


def test_a_server_that_was_killed_is_started_anew(server: ForkServer, home: Path) -> None:
    async def main() -> None:
        run = await server.fork({"DO": "time.sleep(0.6); pathlib.Path('done').write_text('1'); sys.exit(5)"})
        server._process.kill()
        server._process.wait()
        assert await end(await server.fork({"DO": "sys.exit(4)"})) == 4
        assert run.returncode is None
        assert await end(run) == UNKNOWN
        assert (home / "done").exists()

    anyio.run(main)


def test_a_server_that_dies_in_between_is_an_error(server: ForkServer) -> None:
    async def kill_soon() -> None:
        await anyio.sleep(0.2)
        server._process.kill()

    async def main() -> None:
        await end(await server.fork({"DO": ""}))
        os.kill(server._process.pid, signal.SIGSTOP)
        async with anyio.create_task_group() as group:
            group.start_soon(kill_soon)
            with pytest.raises(ChildProcessError, match="ended"):
                await server.fork({"DO": ""})

    anyio.run(main)


def test_whatever_takes_long_to_load_is_loaded_before() -> None:
    """And by one thread: a fork of several is a gamble."""
    script = """
import importlib, os, sys
for name in sys.argv[1:]: importlib.import_module(name)
assert len(os.listdir("/proc/self/task")) == 1, "a library starts threads"
before = set(sys.modules)
from lamplighter.derive.catalogue import discover
from lamplighter.worker import execute
discover()
late = {name for name in set(sys.modules) - before
        if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "")}
print(*sorted({name.split(".")[0] for name in late}))
"""
    argv = [sys.executable, "-c", script, *LIBRARIES]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
