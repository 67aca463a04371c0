"""The ledger: durable records a second with 200 hosts at once, and verifying a million records offline."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from lamplighter.engine.run import plan_key
from lamplighter.ledger import Ledger
from lamplighter.model.chain import genesis, make_record
from lamplighter.model.gate import internal
from lamplighter.model.plan import HostPlan, Limits, Plan, Requester, Step
from lamplighter.seals import add_seal, ledger_key
from lamplighter.store.directory import DirectoryStore
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.storekit import a_store

THREADS, EACH, REPEATS = 200, 25, 5
RUNS, HOSTS = 100, 2499
SITE, NOW = "bench", 1_700_000_000
VERIFY = """
import resource, runpy, sys, time
sys.argv[1:] = ["verify", sys.argv[1], "--json"]
from lamplighter.cli import main
began = time.monotonic()
cpu = time.process_time()
try:
    main()
except SystemExit as ended:
    code = ended.code
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(code, time.monotonic() - began, time.process_time() - cpu, peak, file=sys.stderr)
"""


def rows() -> list[Row]:
    """Measure both. Returns: the rows of the issue, and what one lone writer gets."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("LAMPLIGHTER_BENCH_DIR")) as folder:
        many = [_appends(Path(folder) / f"many-{turn}", THREADS, EACH) for turn in range(REPEATS)]
        alone = [_appends(Path(folder) / f"alone-{turn}", 1, 500) for turn in range(REPEATS)]
        found = [
            Row("ledger_durable_appends_per_s", statistics.median(many), "records/s", 2000, higher=True),
            Row("ledger_lone_appends_per_s", statistics.median(alone), "records/s"),
            Row("ledger_group_commit_gain", statistics.median(many) / statistics.median(alone), "times"),
        ]
        return found + _verify(Path(folder) / "million")


def _appends(root: Path, threads: int, each: int) -> float:
    """Durable records a second when so many hosts write an intent and an outcome in turn."""
    with Ledger.open(a_store(root, SITE), "run-1", SITE) as ledger:
        def host(number: int) -> None:
            for step in range(each):
                ledger.append("intent", host=f"host{number}", step=f"s{step}", action="apt.install", unit="u")

        workers = [threading.Thread(target=host, args=(number,)) for number in range(threads)]
        began = time.monotonic()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return threads * each / (time.monotonic() - began)


def _verify(root: Path) -> list[Row]:
    count = _write(a_store(root, SITE))
    done = subprocess.run(
        [sys.executable, "-c", VERIFY, str(root)], capture_output=True, text=True, check=True,
    )
    code, seconds, cpu, peak = done.stderr.split()[-4:]
    answer = json.loads(done.stdout)
    checked = sum(run["records"] for run in answer["runs"])
    if code != "0" or checked != count:
        raise RuntimeError(f"{checked} of {count} records verified, exit code {code}")
    return [
        Row("verify_records", checked, "records", 1_000_000, higher=True),
        Row("verify_1000000_s", float(seconds) * 1_000_000 / checked, "s"),
        Row("verify_1000000_cpu_s", float(cpu) * 1_000_000 / checked, "s", 60),
        Row("verify_1000000_rss_mb", float(peak), "MB", 150),
    ]


def _write(store: DirectoryStore) -> int:
    """Sealed runs of four records a host. Returns: how many records there are."""
    return sum(_write_run(store, f"run-{number:03d}") for number in range(RUNS))


def _write_run(store: DirectoryStore, run: str) -> int:
    names = tuple(f"host{number:04d}" for number in range(HOSTS))
    step = Step("upgrade", "apt.install", "upgrade")
    plan = Plan(
        run=run, site=SITE, runbook="patch-linux", owner="msp", change_type="normal",
        requester=Requester("schedule:weekly", "schedule"), selection="all", fleet=HOSTS, created=NOW,
        expires=NOW + 86400, code="0", nonce=run, gate=internal(), waves=(names,), limits=Limits(hosts=HOSTS),
        hosts=tuple(HostPlan(name, "f", (step,)) for name in names),
    )
    store.put_new(plan_key(plan.digest), plan.to_bytes())
    evidence = {"summary": "upgraded 3 packages", "data": {"from": "1.2.3-1", "to": "1.2.3-2", "exit": 0}}
    told: list[tuple[str, dict[str, object]]] = [
        ("opened", {"site": SITE}), ("planned", {"plan": plan.digest}),
        ("gate", {"passed": True, "plan": plan.digest}), ("wave-started", {"wave": 1, "hosts": list(names)}),
    ]
    for name in names:
        where = {"host": name, "step": "upgrade"}
        told += [
            ("intent", {**where, "action": "apt.install", "unit": "0123456789abcdef-upgrade"}),
            ("outcome", {**where, "result": "ok", "interrupted": False, "evidence": evidence}),
            ("verified", {"host": name, "problems": [], "evidence": evidence}),
            ("host", {"host": name, "terminal": "changed", "message": "upgraded", "wave": 1}),
        ]
    told += [
        ("wave-ended", {"wave": 1, "counts": {"changed": HOSTS}}),
        ("sealed", {"state": "Completed", "counts": {"changed": HOSTS}}),
    ]
    head, lines = genesis(run, SITE), []
    for seq, (kind, fields) in enumerate(told, start=1):
        record, line = make_record(seq, head, NOW * 1000 + seq, kind, fields)
        head = record.hash
        lines.append(line)
    log = store.open_log(ledger_key(run))
    log.append(b"".join(lines))
    log.close(final=True)
    add_seal(store, SITE, record, run, lambda: NOW)
    return len(told)


def charts(values: dict[str, float]) -> list[Chart]:
    """What group commit gains."""
    many, alone = values["ledger_durable_appends_per_s"], values["ledger_lone_appends_per_s"]
    return [Chart(
        "ledger", f"200 hosts at once: {many:,.0f} durable records a second, {many / alone:.0f} x one alone",
        "records a second, each on disk before its action; more is better",
        [Panel("one ledger in a directory, fdatasync", {
            "200 threads": many, "1 thread": alone,
        })],
    )]


if __name__ == "__main__":
    for row in rows():
        print(row, f"(own peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB)")
