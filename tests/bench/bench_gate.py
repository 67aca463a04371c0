"""One approval judged: from the plan's bytes and the signed line to the answer, first time and again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from lamplighter.model import gate
from lamplighter.model.gate import evaluate
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.gate_cases import NOW, make_line, make_plan, make_policy

HOSTS, REPEATS = 200, 200


def rows() -> list[Row]:
    """Returns: medians, for plans of one host and of 200."""
    return [
        Row("gate_one_approval_ms", _judged(1, anew=True), "ms"),
        Row(f"gate_one_approval_{HOSTS}_hosts_ms", _judged(HOSTS, anew=True), "ms", 50),
        Row(f"gate_asked_again_{HOSTS}_hosts_ms", _judged(HOSTS, anew=False), "ms"),
    ]


def _judged(hosts: int, *, anew: bool) -> float:
    """Milliseconds for one judgement. Params: hosts in the plan; anew, whether the plan is read as well."""
    plan = make_plan({"hosts": [f"host{number}" for number in range(hosts)], "limits": {"hosts": hosts}})
    data, line, policy = plan.to_bytes(), make_line({"by": "asha"}, plan), make_policy({}, plan)

    def judge() -> None:
        if not evaluate(data, [line], policy, NOW).passed:
            raise RuntimeError("the gate stays shut")

    judge()
    return statistics.median(_timed(judge, anew=anew) for _ in range(REPEATS)) * 1000


def _timed(judge: Callable[[], None], *, anew: bool) -> float:
    if anew:
        gate._plan.cache_clear()  # what it remembers of the plan's bytes
    began = time.perf_counter()
    judge()
    return time.perf_counter() - began


def charts(values: dict[str, float]) -> list[Chart]:
    """Where the time goes: reading the plan."""
    again = values[f"gate_asked_again_{HOSTS}_hosts_ms"]
    return [Chart(
        "gate", f"Judging an approval again, before each host, costs {again:.1f} ms",
        "milliseconds; less is better",
        [Panel("one approval, Ed25519", {
            f"plan of {HOSTS} hosts, first time": values[f"gate_one_approval_{HOSTS}_hosts_ms"],
            "plan of one host, first time": values["gate_one_approval_ms"],
            f"plan of {HOSTS} hosts, again": again,
        })],
    )]
