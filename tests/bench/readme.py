"""Writes docs/benchmarks/README.md from the figures beside it, so that no number there is typed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.plots import figure

_HEAD = """# Benchmarks

Written by `make bench` (`python -m tests.bench NAME ...` for some of them); every number below stands in
a JSON file beside this page. A row has a goal where the project set itself one; **missed** goals are
shown as missed.

Machines are noisy, and this one was shared while it measured: the load average before and after is given
with each. So engines are compared within one run, round by round and one after the other, and what counts
is the median of the rounds' ratios. Absolute times are this machine's, of that hour.
"""

HOW = {
    "fanout": """\
`echo` on each of a fleet of OpenSSH servers on this machine (one process and one address each), 50 at
once, every host's key pinned. Each engine is a process of its own, measured from outside: wall time from
its start to its end, interpreter and imports included, and CPU and largest process as the kernel counts
them. What an engine leaves running, such as Ansible's ssh masters, is ended and counted in; each start
finds no connection to reuse.

- **Lamplighter**: a survey through `lamplighter.engine.survey` over its SSH transport, without Prefect.
- **bare paramiko threads**: `tests/bench/engines/bare.py`, the best that some forty lines do.
- **pyinfra** `exec` and **Ansible** `raw`, in environments of their own with pinned versions
  (`tests/bench/engines/peers.py`), `--parallel 50` and `-f 50`, their defaults otherwise.

The servers run on the same two cores and cost several times what a client costs, so wall time on loopback
is mostly theirs. For the distance, a proxy in two processes of its own holds every byte back for 30 ms
each way, and the first bytes as long as a TCP handshake would take; `proxy_cpu_ms_per_host` is what it
costs itself. Memory is that of the largest single process, which is all of Lamplighter, and one fork of
Ansible's 50.""",
    "prefect": """\
The same reading run over the same 200 hosts, with its ledger and its report, once through Prefect (from
the request over the API to the state it ends in: a worker polls each second and forks a process, which loads
the flow) and once as a process without Prefect (`tests/bench/engines/read_run.py`), in turn.""",
    "simulated": """\
A whole gated run (survey, plan, signature, four waves of two steps a host, verify, seal) over hosts
simulated with 5 to 20 ms latency, 50 at once; ledger, leases and signatures are real and on disk. Each
run is a process of its own; the small and the large one take turns.""",
    "ledger": """\
Intents written by 200 threads at once into one ledger, each durable (`fdatasync`) before its call
returns; one `fdatasync` serves everybody who is waiting. Then `lamplighter verify` over a store of a
million records in 100 sealed runs, every chain, intent and wave checked.""",
    "gate": """\
Judging one approval signed with Ed25519: the plan's bytes are parsed, checked and hashed, the signature
and every rule of the gate evaluated. Before each further host the parsed plan is known, and the rest is
done again.""",
    "patch_cycle": """\
Twenty hosts of the sandbox (Debian 12 in namespaces of their own, real apt, real reboots), patched in
three waves through a Prefect server and worker: the time the run was pending or running, without the wait
for its approval; and again without the hosts' reboots.""",
    "directory": """\
Resets against a Samba AD domain controller on this machine. One after the other over one connection pool:
find, plan, set, read back. Then a whole run with its ledger and a signed standing approval, without Prefect.
Then the same as the UI starts it, through a Prefect server on SQLite and a worker with its own interval: from
the request to the state the run ends in, as Prefect's states and the ledger's records tell the time. Medians
of five, after one that warms the server up; and the slowest of the five.""",
}


def write(folder: Path) -> Path:
    """Write the page from all figures in a folder. Returns: the page."""
    parts = [_HEAD]
    for name, how in HOW.items():
        path = folder / f"{name}.json"
        if path.exists():
            parts.append(_section(name, how, json.loads(path.read_text(encoding="utf-8"))))
    page = folder / "README.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def _section(name: str, how: str, found: dict[str, Any]) -> str:
    title = name.replace("_", " ").capitalize()
    charts = [f"![{chart}]({chart}.svg)\n" for chart in found.get("charts", ())]
    before, after = found["load"]
    lines = [
        f"## {title}\n", how, f"\nOn {found['machine']}; load average {before} before and {after} after.\n",
        *charts,
        "| figure | value | goal | |", "|---|---:|---:|---|", *(_row(row) for row in found["rows"]),
    ]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    goal = "" if row["goal"] is None else f"{row['goal']:g}"
    verdict = "" if row["goal"] is None else "met" if row["met"] else "**missed**"
    return f"| `{row['name']}` | {figure(row['value'])} {row['unit']} | {goal} | {verdict} |"
