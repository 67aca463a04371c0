"""The lab from the command line: up, down, status, sweep, base, requirements."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab import ONLY_TESTS, SYSTEM_PACKAGES, Estate, HostSpec, LabError, cleanup, registry
from tests.lab.base import ensure_base


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: without the program's name.

    Returns:
        The exit status.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring an estate up that stays until it is taken down")
    up.add_argument("name")
    up.add_argument("--hosts", type=int, default=6, help="how many (default: 6)")
    up.add_argument("--prefix", default="web", help="host names are this and a number (default: web)")
    up.add_argument("--state-dir", type=Path, help="a folder for it to make (default: one under /run)")
    up.add_argument("--json", action="store_true", help="describe it as JSON")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="take an estate or fleet down")
    down.add_argument("name")
    down.set_defaults(run=_down)
    for name, function, text in (
        ("status", _status, "list estates and fleets"),
        ("sweep", _sweep, "remove what dead owners left behind"),
        ("base", _base, "build the base image if there is none yet"),
    ):
        commands.add_parser(name, help=text).set_defaults(run=function)
    requirements = commands.add_parser("requirements", help="print the Debian packages the lab needs")
    requirements.add_argument("--demo", action="store_true", help="only those that `make demo` uses")
    requirements.set_defaults(run=_requirements)
    return parser


def _up(arguments: argparse.Namespace) -> None:
    folder = arguments.state_dir or registry.RUN / f"{arguments.name}.d"
    specs = [HostSpec(f"{arguments.prefix}{number}") for number in range(1, arguments.hosts + 1)]
    estate = Estate(arguments.name, specs, folder, detached=True)
    estate.up()
    if arguments.json:
        print(json.dumps(describe(estate), indent=2))
        return
    for host in estate:
        print(f"{host.name}\t{host.address}\t{host.port}")
    print(f"log in: ssh -i {estate.client_key} -o UserKnownHostsFile={estate.known_hosts} ops@ADDRESS")


def describe(estate: Estate) -> dict[str, object]:
    """Say what a client has to know of an estate.

    Returns:
        A value for JSON.
    """
    return {
        "name": estate.name,
        "state_dir": str(estate.state_dir),
        "client_key": str(estate.client_key),
        "client_key_encrypted": str(estate.client_key_encrypted),
        "known_hosts": str(estate.known_hosts),
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "port": host.port,
                "host_key_line": host.host_key_line,
            }
            for host in estate
        ],
    }


def _down(arguments: argparse.Namespace) -> None:
    entry = registry.load(arguments.name)
    if entry is None:
        raise LabError(f"there is no estate or fleet {arguments.name!r}")
    cleanup.take_down(entry)


def _status(_: argparse.Namespace) -> None:
    for entry in registry.entries():
        kind = "detached" if entry.detached else f"process {entry.owner.pid}"
        net = "loopback" if entry.slot is None else str(registry.network(entry.slot))
        print(f"{entry.name}\t{net}\t{kind}\t{'up' if entry.wanted else 'dead: sweep'}\t{entry.folder}")


def _sweep(_: argparse.Namespace) -> None:
    for name in Estate.sweep():
        print(f"removed {name}")


def _base(_: argparse.Namespace) -> None:
    print(ensure_base().root)


def _requirements(arguments: argparse.Namespace) -> None:
    left_out = ONLY_TESTS if arguments.demo else ()
    print("\n".join(name for name in SYSTEM_PACKAGES if not name.startswith(left_out)))


if __name__ == "__main__":
    sys.exit(main())
