"""What runs inside a shell of the WinRM endpoint: local processes, and a stand-in for PowerShell.

The stand-in runs no PowerShell. It reads what the product's bootstrap would read, and a Python function that
a test registered for the script's digest answers in its place. It shows that script, parameters and answer
travel whole; it says nothing on whether the script does what it should on Windows.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

STREAMS = ("stdout", "stderr")
_HELD = 1024 * 1024
_CMD_LIMIT = 8191
_ENCODED = re.compile(r"powershell(?:\.exe)? .*-EncodedCommand ([A-Za-z0-9+/=]+)")


class Command:
    """A command whose output is held until it is asked for; a producer waits while much is held."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._held = {name: bytearray() for name in STREAMS}
        self._open = set(STREAMS)
        self._code: int | None = None

    def read(self, seconds: float, most: int) -> tuple[dict[str, bytes], int | None] | None:
        """Wait for output or the end.

        Returns:
            Up to `most` bytes in all, and the exit code once everything was read; None if nothing came.
        """
        with self._change:
            if not self._change.wait_for(self._ready, seconds):
                return None
            out: dict[str, bytes] = {}
            for name in STREAMS:
                out[name] = bytes(self._held[name][:most])
                del self._held[name][:most]
                most -= len(out[name])
            self._change.notify_all()
            drained = not self._open and not any(self._held.values())
            return out, self._code if drained else None

    def write(self, data: bytes, *, end: bool) -> None:
        """Standard input."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it, at once."""
        raise NotImplementedError

    def produce(self, name: str, data: bytes) -> None:
        """More output, or with nothing, its end."""
        with self._change:
            self._change.wait_for(lambda: len(self._held[name]) < _HELD or self._code is not None)
            self._held[name] += data
            if not data:
                self._open.discard(name)
            self._change.notify_all()

    def finish(self, code: int) -> None:
        """The exit code; nobody waits for room any more."""
        with self._change:
            self._code = code
            self._change.notify_all()

    def _ready(self) -> bool:
        return any(self._held.values()) or (not self._open and self._code is not None)


class Process(Command):
    """A line for `/bin/sh`, in a process group of its own."""

    def __init__(self, line: str) -> None:
        super().__init__()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        pumps = [threading.Thread(target=self._pump, args=(name,), daemon=True) for name in STREAMS]
        self._watcher = threading.Thread(target=self._watch, args=(pumps,), daemon=True)
        self._watcher.start()

    def write(self, data: bytes, *, end: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            stdin.flush()
            if end:
                stdin.close()
        except (BrokenPipeError, ValueError):
            raise EndedError from None

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self.finish(-9 & 0xFFFFFFFF)
        self._watcher.join()

    def _pump(self, name: str) -> None:
        pipe = getattr(self._process, name)
        while data := pipe.read1(32768):
            self.produce(name, data)
        self.produce(name, b"")
        pipe.close()

    def _watch(self, pumps: list[threading.Thread]) -> None:
        """Wait for the end of both streams, then of the process."""
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        code = self._process.wait()
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self.finish(code & 0xFFFFFFFF)


class EndedError(Exception):
    """The command takes no more input."""


@dataclass(frozen=True)
class Act:
    """What the stand-in does for one script.

    Attributes:
        output: what the script writes, a JSON text; None when it fails.
        error: the failure, as the bootstrap reports it.
        before: printed on standard output ahead of the answer, as chatter.
        stderr: printed on standard error.
        code: exit code; by default what the bootstrap would give.
        seconds: how long it takes.
        framed: print an answer at all.
    """

    output: str | None = "{}"
    error: Mapping[str, Any] | None = None
    before: bytes = b""
    stderr: bytes = b""
    code: int | None = None
    seconds: float = 0.0
    framed: bool = True


Acts = dict[str, Callable[[Mapping[str, Any]], Act]]
"""By the SHA-256 of a script's UTF-8 bytes, in hex: what stands in for it, given its parameters."""


class StandIn(Command):
    """`powershell.exe -EncodedCommand ...` with a request on its standard input."""

    def __init__(self, line: str, acts: Acts) -> None:
        super().__init__()
        match = _ENCODED.fullmatch(line)
        if match is None or len(line) > _CMD_LIMIT:
            raise ValueError("cmd would not have run this line")
        self.bootstrap = base64.b64decode(match[1]).decode("utf-16-le")
        self._acts = acts
        self._input = bytearray()
        self._killed = threading.Event()

    def write(self, data: bytes, *, end: bool) -> None:
        self._input += data
        if end:
            threading.Thread(target=self._act, daemon=True).start()

    def kill(self) -> None:
        self._killed.set()

    def _act(self) -> None:
        request = json.loads(base64.b64decode(b"".join(bytes(self._input).split())))
        digest = hashlib.sha256(request["script"].encode()).hexdigest()
        act = self._acts[digest](request["parameters"])
        self._killed.wait(act.seconds)
        ok = act.error is None
        answer = {"ok": True, "output": act.output} if ok else {"ok": False, "error": act.error}
        framed = base64.b64encode(json.dumps(answer).encode()).decode().join((request["frame"],) * 2)
        self._print("stdout", act.before + (framed.encode() if act.framed else b""))
        self._print("stderr", act.stderr)
        code = 1 - ok if act.code is None else act.code
        self.finish(1 if self._killed.is_set() else code)

    def _print(self, name: str, data: bytes) -> None:
        while data and not self._killed.is_set():
            self.produce(name, data[:65536])
            data = data[65536:]
        self.produce(name, b"")


def start(line: str, acts: Acts) -> Command:
    """Run a command line: PowerShell's by the stand-in, any other by the local shell."""
    return StandIn(line, acts) if line.startswith("powershell") else Process(line)


def alive(pid: int) -> bool:
    """Whether a process is there, given a moment to go."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True
