"""Every file under tests/cases/apt/roots/ is a host as people configure it; the product's code patches it.

Real apt and dpkg of three generations, on roots in namespaces; what a plan says, and what is so after it.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.errors import LamplighterError
from lamplighter.model.inventory import Host
from lamplighter.model.plan import HostPlan
from tasks.apt import Patching
from tests.lab.rootarchive import Keys
from tests.lab.rootbase import suites
from tests.lab.roothost import case_host, usual_layer
from tests.lab.roots import Root, RootSession

CASES = Path(__file__).parents[1] / "cases" / "apt" / "roots"
AT_ONCE = 2
QUICK = {"lamplighter_settle_seconds": 0, "lamplighter_lock_seconds": 2, "lamplighter_min_free_mb_root": 1}
Given = dict[str, Any]


def cases() -> dict[str, Given]:
    """Case files, and the members of their tables: `table: {name: {what differs}}`."""
    found = {}
    for file in sorted(CASES.glob("*.yaml")):
        case = yaml.safe_load(file.read_text(encoding="utf-8"))
        table = case.pop("table", None)
        for name, member in (table or {"": {}}).items():
            full = {**case, **(member if isinstance(member, dict) else {"files": {case["file"]: member}})}
            found[f"{file.stem}{'-' if name else ''}{name}"] = full
    return found


def tried(case: Given, layers: list[Path], folder: Path, keys: Keys) -> None:
    """Survey and plan the case's host for each scope it expects something of; carry out the one it names."""
    with case_host(case, layers, folder, keys) as root:
        session = RootSession("h1", root)
        for scope in ("security", "all"):
            if scope in case:
                attempt(case, scope, root, session)


def attempt(case: Given, scope: str, root: Root, session: RootSession) -> None:
    """One scope of a case."""
    operation, host = Patching(scope), Host("h1", (), {**QUICK, **case.get("vars", {})})
    if case[scope]["end"] == "unusable":
        with pytest.raises(LamplighterError, match=case[scope]["says"][0]):
            operation.survey(host, session)
        return
    plan = operation.plan(host, operation.survey(host, session))
    judge(case[scope], plan)
    if case.get("apply") == scope:
        same = {path: root.run(f"cat {path}").stdout for path in case.get("same", [])}
        evidence = operation.apply(host, plan.step("upgrade"), session, f"unit-{scope}")
        for pattern in case.get("told", ()):
            assert re.search(pattern, evidence.summary), evidence
        assert operation.verify(host, plan, session).problems == ()
        for name, version in case["versions"].items():
            assert root.run(f"dpkg-query -W -f '${{Version}}' {name}").stdout == version
        assert root.run("apt-mark showhold").stdout.split() == case.get("holds", [])
        assert same == {path: root.run(f"cat {path}").stdout for path in same}


def judge(expect: Given, plan: HostPlan) -> None:
    """Compare a plan with what a case expects of it."""
    said = "\n".join((plan.reason, *plan.notes, *(step.summary for step in plan.steps)))
    assert ("planned" if plan.steps else str(plan.end)) == expect["end"], said
    planned = {name: version for step in plan.steps for name, version in step.args.get("install", {}).items()}
    assert planned == expect.get("plans", {}), said
    for pattern in expect.get("says", ()):
        assert re.search(pattern, said, re.MULTILINE), (pattern, said)
    for pattern in expect.get("never", ()):
        assert not re.search(pattern, said, re.MULTILINE), (pattern, said)
    for action in expect.get("steps_not", ()):
        assert action not in [step.action for step in plan.steps]


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, "Future[None]"]]:
    """All cases that were selected, running side by side."""
    everything, here = cases(), suites()
    chosen = [item.callspec.params["name"] for item in request.session.items
              if item.name.startswith("test_on_a_root[")]
    folder = tmp_path_factory.mktemp("roots")
    keys = Keys(Path(f"/tmp/keys-{os.getpid()}"))
    used = {everything[name].get("suite", "bookworm") for name in chosen} & set(here)
    try:
        layers = {suite: usual_layer(suite, folder / f"usual-{suite}", keys) for suite in sorted(used)}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running: dict[str, Future[None]] = {}
            for name in chosen:
                case = everything[name]
                suite = case.get("suite", "bookworm")
                if suite in layers:
                    running[name] = pool.submit(tried, case, layers[suite], folder / name, keys)
            yield running
    finally:
        keys.close()


@pytest.mark.lab
@pytest.mark.parametrize("name", cases())
def test_on_a_root(name: str, results: dict[str, "Future[None]"]) -> None:
    if name not in results:
        pytest.skip("this machine's mirror has no such suite")
    results[name].result(240)
