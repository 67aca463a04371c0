"""Bare paramiko on threads: the best that forty honest lines do: `python -m tests.bench.engines.bare TARGETS`

It checks pinned host keys, as everybody compared here does, and reads the private key once.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import paramiko

from tests.bench.engines.fleet_file import COMMAND, PARALLEL, Target, read_targets


def main() -> None:
    targets = read_targets(sys.argv[1])
    key = paramiko.Ed25519Key(filename=targets[0].key)
    pins = paramiko.HostKeys(targets[0].known_hosts)

    def ask(target: Target) -> str:
        name = f"[{target.address}]:{target.port}"
        pinned = next(iter(pins.lookup(name).values()))  # type: ignore[union-attr]  # every host is pinned
        link = socket.create_connection((target.address, target.port), timeout=10)
        transport = paramiko.Transport(link)
        try:
            transport.connect(hostkey=pinned, username=target.user, pkey=key)
            channel = transport.open_session(timeout=10)
            channel.exec_command(COMMAND)
            output = channel.makefile("r").read()
            return output if channel.recv_exit_status() == 0 else b""
        finally:
            transport.close()

    with ThreadPoolExecutor(PARALLEL) as pool:
        for answer in pool.map(ask, targets):
            sys.stdout.write(answer.decode())


if __name__ == "__main__":
    main()
