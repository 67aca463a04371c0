"""Runs one engine and says what it cost. `python launch.py OUTPUT SECONDS -- PROGRAM ...`, JSON on stdout.

Standalone and small, so that its own cost does not show. It adopts what an engine leaves behind, such as the
ssh masters of ControlPersist, ends it and counts it in.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def left_behind() -> list[int]:
    return [int(pid) for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()]


def end_all() -> None:
    """End what is left, and wait for it, so that its usage is counted."""
    while left_behind():
        for pid in left_behind():
            os.kill(pid, signal.SIGTERM)
        os.wait()


def main() -> int:
    output, seconds, argv = sys.argv[1], float(sys.argv[2]), sys.argv[4:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    with Path(output).open("wb") as out:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        wall = time.monotonic() - began
    end_all()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    json.dump(
        {"code": code, "wall": wall, "cpu": used.ru_utime + used.ru_stime, "rss_kib": used.ru_maxrss},
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
