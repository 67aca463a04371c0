"""Runs inside a host: take dpkg's locks as apt does, hold them in the background, let go.

usage: python3 - SECONDS   (ends with 0 once the locks are held, 1 if they are not to be had)
"""

import fcntl
import os
import sys
import time
from pathlib import Path

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")


def main() -> int:
    """Fork the holder and wait for its word. Returns: the exit status."""
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        return 0 if os.read(reader, 1) else 1
    os.setsid()
    files = [os.open(path, os.O_RDWR | os.O_CREAT, 0o640) for path in LOCKS]
    for file in files:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with Path("/run/lab-lock.pid").open("w", encoding="ascii") as pidfile:
        pidfile.write(str(os.getpid()))
    os.write(writer, b"1")
    for standard in (0, 1, 2, writer):
        os.close(standard)
    time.sleep(float(sys.argv[1]))
    return 0


sys.exit(main())
