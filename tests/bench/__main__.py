"""`make bench`: measure, and write rows `{name, value, unit, goal, met}` to docs/benchmarks/*.json.

    python -m tests.bench [NAME ...]      only the modules bench_NAME.py

A module has `rows() -> list[Row]`, and `charts(values)`, the pictures of it. Machines are noisy: compare
ratios within one run, not days. The load average before and after is kept with the figures.
"""

import importlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.readme import write
from tests.bench.rows import Row

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "docs" / "benchmarks"


def main(names: Sequence[str]) -> int:
    """Run the named benches, or all. Returns: 1 when a goal was missed, else 0."""
    found = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = set(names) - set(found)
    if unknown:
        print(f"no bench {', '.join(sorted(unknown))}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    missed = 0
    for name in names or found:
        print(f"== {name}", flush=True)
        before = os.getloadavg()[0]
        bench = importlib.import_module(f"tests.bench.bench_{name}")
        rows: list[Row] = bench.rows()
        for row in rows:
            print(f"   {row}", flush=True)
        missed += sum(not row.met for row in rows)
        OUT.mkdir(parents=True, exist_ok=True)
        load = [round(before, 1), round(os.getloadavg()[0], 1)]
        charts = bench.charts({row.name: row.value for row in rows})
        value = {
            "machine": _machine(), "load": load, "charts": [chart.name for chart in charts],
            "rows": [row.to_json() for row in rows],
        }
        (OUT / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        for chart in charts:
            print(f"   {chart.draw(OUT).relative_to(OUT.parents[1])}", flush=True)
        write(OUT)
    return 1 if missed else 0


def _machine() -> str:
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
