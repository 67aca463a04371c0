"""Every file under tests/cases/apt/ is a case: recorded words in, values, plans and verdicts out."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.model.canonical import canonical
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Outcome
from lamplighter.model.plan import HostPlan, Step
from lamplighter.model.session import Completed
from tasks import apt_archives, apt_causes, apt_outcome, apt_plan, apt_view, kernels, linux
from tasks import debian_host as debian
from tasks.apt import Patching, read_facts, with_rehearsal

CASES = Path(__file__).parents[1] / "cases" / "apt"
Given = dict[str, Any]

READERS: dict[str, Callable[[Given], object]] = {
    "refresh": lambda given: refreshed(given),  # noqa: PLW0108 - it is defined below
    "simulation": lambda given: debian.simulation(given.get("code", 0), given["text"]),
    "lock": lambda given: debian.lock_problem(given["text"]),
    "lock-holder": lambda given: debian.lock_holder(given["text"]),
    "sizes": lambda given: list(debian.sizes(given["text"])),
    "end-of-life": lambda given: debian.end_of_life(given["text"], date.fromisoformat(given["today"])),
    "release": lambda given: debian.release(given["text"]),
    "packages": lambda given: debian.packages(given["text"]),
    "conffiles": lambda given: debian.conffiles(given["text"]),
    "cause": lambda given: apt_causes.cause(given["text"].splitlines(), given.get("code", 100)),
    "services": lambda given: linux.services(given["text"]),
    "spaces": lambda given: linux.spaces(given["text"]),
    "newer-kernel": lambda given: kernels.kernels(given["text"]).newer,
}


def refreshed(given: Given) -> object:
    """What is wrong with each archive of a recorded `apt-get update`, by address; hooks, trouble."""
    recorded = load(CASES / "hosts" / "bookworm-all.yaml")["survey"]
    main = "copy:/srv/lab-repo/main"
    listed = recorded["archives"].replace(main, given.get("main", main))
    found = apt_archives.archives(listed, recorded["entries"])
    view = apt_view.view(
        found, given.get("code", 0), given["text"], release=debian.release(recorded["os"]),
        now=float(recorded["clock"]))
    ill = {f"{one.uri} {one.suite}": one.ill for one in view.archives if one.ill}
    return {**ill, **({"trouble": view.trouble} if view.trouble else {}),
            **({"hooks": view.hooks} if view.hooks else {})}


def cases(kind: str) -> list[Any]:
    files = sorted((CASES / kind).glob("*.yaml"))
    assert files, f"no cases in {kind}"
    return [pytest.param(load(file), id=file.stem) for file in files]


def load(file: Path) -> Given:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def reading(recorded: Given, changed: Given) -> linux.Reading:
    """A recorded reading with some parts replaced, or left out where the case says null."""
    merged = {**recorded, **changed}
    return linux.Reading({
        name: linux.Part(part["code"], part["text"]) if isinstance(part, dict) else linux.Part(0, part)
        for name, part in merged.items() if part is not None
    })


def plain(value: object) -> object:
    """Values as a YAML file spells them, without what is empty."""
    if is_dataclass(value) and not isinstance(value, type):
        named = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: plain(item) for name, item in named if item}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("case", cases("readings"))
def test_reading(case: Given) -> None:
    assert plain(READERS[case["read"]](case["given"])) == case["expect"]


def planned(case: Given) -> HostPlan:
    recorded = load(CASES / "hosts" / f"{case['host']}.yaml")
    survey = reading(recorded["survey"], case.get("survey", {}))
    now = float(survey["clock_end"].text) - case.get("clock", 0)
    operation = Patching(**case.get("options", {}))
    host = Host("h1", (), case.get("vars", {}))
    facts = read_facts(host, operation.packages, survey, now - 1, now)
    facts = replace(facts, stuck=tuple(case.get("stuck", ())))
    if apt_plan.asked(facts):
        facts = with_rehearsal(facts, reading(recorded["rehearse"], case.get("rehearse", {})))
    canonical(facts.relevant())
    return operation.plan(host, facts)


@pytest.mark.parametrize("case", cases("plans"))
def test_plan(case: Given) -> None:
    plan, expect = planned(case), case["expect"]
    assert [f"{step.id}: {step.summary}" for step in plan.steps] == expect.get("steps", [])
    assert plan.reason == expect.get("reason", "")
    assert str(plan.end) == expect.get("end", "unchanged")
    assert list(plan.notes) == expect.get("notes", [])
    for step_id, args in expect.get("args", {}).items():
        assert {name: plan.step(step_id).args[name] for name in args} == args
    canonical([dict(step.args) for step in plan.steps])


def judged(case: Given) -> Outcome:
    recorded = load(CASES / "hosts" / f"{case['state']}.yaml")
    now = apt_outcome.state(reading(recorded["state"], case.get("change", {})))
    step = Step("step", case["action"], "as planned", case["args"])
    unit = case["unit"]
    done = Completed(unit["exit"], unit.get("stdout", ""), unit.get("stderr", "")) if unit else None
    judge = {"apt.install": apt_outcome.judge_upgrade, "dpkg.configure": apt_outcome.judge_repair}
    return judge[case["action"]](step, done, now)


@pytest.mark.parametrize("case", cases("outcomes"))
def test_outcome(case: Given) -> None:
    outcome = judged(case)
    assert {"result": str(outcome.result), "says": outcome.evidence.summary} == case["expect"]
    data = canonical(outcome.evidence.data)
    assert len(data) < 8192


def test_every_step_names_exact_versions() -> None:
    plan = planned(load(CASES / "plans" / "all.yaml"))
    arguments = apt_plan.install_arguments(plan.step("upgrade").args)
    assert [word for word in arguments if not word.startswith("--")] == [
        f"{name}={version}" for name, version in sorted(plan.step("upgrade").args["install"].items())
    ]
    assert "--no-remove" in arguments
