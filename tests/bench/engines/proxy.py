"""TCP proxies that add a distance: `python -m tests.bench.engines.proxy CONFIG`, one process for many hosts.

Each byte arrives `delay` seconds later, in either direction. A connection is accepted at once, as user space
cannot hold a SYN back; so it reaches its host after three times the delay, which is when the last packet of
the TCP handshake would: the server's first word comes as late as over a line of that length.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.engines.fleet_file import Target

ROOT = Path(__file__).resolve().parents[3]
_HANDSHAKE = 3


class _End(asyncio.Protocol):
    """One end of a proxied connection; what it hears, the other end says later."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None
        self.link: socket.socket | None = None
        self.waiting: list[tuple[float, bytes | None]] = []
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.link = transport.get_extra_info("socket")
        now = self.loop.time()
        for due, data in self.waiting:
            self.loop.call_at(max(due, now), self._say, data)
        self.waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self.link is not None:  # or a server's next small packet would wait 40 ms for our acknowledgement
            self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._pass_on(data)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._pass_on(None)

    def _pass_on(self, data: bytes | None) -> None:
        other = self.other
        due = self.loop.time() + self.delay
        if other is None:
            return
        if other.transport is None:
            other.waiting.append((due, data))
        else:
            self.loop.call_at(due, other._say, data)

    def _say(self, data: bytes | None) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if data is None:
            self.transport.close()
        else:
            self.transport.write(data)


class _Front(_End):
    """The end towards the client."""

    def __init__(self, delay: float, place: tuple[str, int]) -> None:
        super().__init__(delay)
        self.place = place
        self.other = _End(delay)
        self.other.other = self

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(_HANDSHAKE * self.delay, self._reach)

    def _reach(self) -> None:
        task = self.loop.create_task(self._connect())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _connect(self) -> None:
        back = self.other
        assert back is not None
        try:
            await self.loop.create_connection(lambda: back, *self.place)
        except OSError:
            if self.transport:
                self.transport.close()


async def _serve(config: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    for listen, place in config["routes"]:
        await loop.create_server(
            lambda place=tuple(place): _Front(config["delay"], place), *listen, backlog=256,  # type: ignore[misc]
        )
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def far_away(
    targets: Sequence[Target], delay: float, folder: Path, processes: int = 2
) -> Iterator[tuple[list[Target], list[int]]]:
    """The same hosts, `delay` seconds further away each way: 127.0.x.y is found at 127.1.x.y.

    Yields: the targets as seen from there, with pins that hold there; the proxies' process ids.
    """
    folder.mkdir(parents=True)
    pins = Path(targets[0].known_hosts).read_text("ascii")
    known = folder / "known_hosts"
    known.write_text(pins.replace("[127.0.", "[127.1."), "ascii")
    moved = [
        replace(target, address=target.address.replace("127.0.", "127.1."), known_hosts=str(known))
        for target in targets
    ]
    routes = [((there.address, there.port), (here.address, here.port))
              for there, here in zip(moved, targets, strict=True)]
    with contextlib.ExitStack() as stack:
        pids = []
        for number in range(processes):
            config = folder / f"proxy{number}.json"
            config.write_text(json.dumps({"delay": delay, "routes": routes[number::processes]}))
            pids.append(stack.enter_context(_started(config)))
        yield moved, pids


@contextlib.contextmanager
def _started(config: Path) -> Iterator[int]:
    argv = [sys.executable, "-m", "tests.bench.engines.proxy", str(config)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the proxy did not start")
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of some processes, from /proc/PID/stat (proc(5))."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
