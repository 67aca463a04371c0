"""A survey by Lamplighter, without Prefect. `python -m tests.bench.engines.ours TARGETS`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamplighter.engine.survey import survey
from lamplighter.model.inventory import Host
from lamplighter.model.session import Session, require
from lamplighter.transports.ssh import SshTransport
from tests.bench.engines.fleet_file import COMMAND, PARALLEL, Target, read_targets


@dataclass(frozen=True)
class Answer:
    """What a host printed."""

    text: str

    def relevant(self) -> dict[str, Any]:
        return {"text": self.text}


class OneCommand:
    """The part of an operation that reads: one line on each host."""

    def survey(self, host: Host, session: Session) -> Answer:
        # Scripts start from an empty environment, so the name the others print goes along as an argument.
        return Answer(require(session.run(f"LAB_HOST=$1; {COMMAND}", host.name), COMMAND).stdout)


def host_of(target: Target) -> Host:
    return Host(target.name, (), {
        "ansible_host": target.address, "ansible_port": target.port, "ansible_user": target.user,
        "ansible_ssh_private_key_file": target.key,
    })


def main() -> None:
    targets = read_targets(sys.argv[1])
    with SshTransport(Path(targets[0].known_hosts)) as transport:
        hosts = [host_of(target) for target in targets]
        for seen in survey(hosts, OneCommand(), transport.connect, PARALLEL):  # type: ignore[arg-type]
            sys.stdout.write(seen.facts.relevant()["text"] if seen.facts else f"{seen.message}\n")


if __name__ == "__main__":
    main()
