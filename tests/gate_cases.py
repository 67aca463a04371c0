"""Runs the cases of tests/cases/gate/: each says who signs what, and what the gate must answer.

`python -m tests.gate_cases` prints the cases that fail and exits 1 when there are any: the mutation checks
run it against copies of the code in which one rule is missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lamplighter.model.approval import NAMESPACE, Decision, Statement
from lamplighter.model.canonical import canonical, sha256
from lamplighter.model.envelope import Envelope, read_line
from lamplighter.model.gate import Emergency, Gate, GatePolicy, GateResult, Requirement, evaluate
from lamplighter.model.party import Party, Person
from lamplighter.model.plan import HostPlan, Limits, Plan, Requester, Step
from lamplighter.model.signers import Revoked, Signers, parse_revoked, parse_signers
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.standing import Standing, Use, Uses, Widening
from tests.sshkit import Pair

CASES = Path(__file__).parent / "cases" / "gate"
NOW = 1_800_000_000
DOMAIN = {"internal": "internal.example", "msp": "msp.example"}

PEOPLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "asha": ("internal", ("change-manager", "emergency")),
    "kiran": ("internal", ("change-manager", "service-desk")),
    "lata": ("internal", ("service-desk",)),
    "meera": ("internal", ("change-manager",)),  # has left
    "priya": ("msp", ("duty-lead", "emergency")),
    "arjun": ("msp", ("operator",)),
}
KEYS: dict[str, tuple[str, str]] = {  # key: its person, its options
    **{name: (name, "") for name in PEOPLE},
    "asha-second": ("asha", ""),
    "asha-expired": ("asha", 'valid-before="20260101Z"'),
    "asha-future": ("asha", 'valid-after="20280101Z"'),
    "asha-ending": ("asha", 'valid-before="20270115100000Z"'),
    "asha-files": ("asha", 'namespaces="file"'),
    "asha-lost": ("asha", ""),
    "kiran-standing": ("kiran", 'namespaces="lamplighter-standing@v1"'),
    "ghost": ("ghost", ""),
}
REVOKED = ("asha-lost", "stranger-lost")


@dataclass(frozen=True)
class GateCase:
    """One case, as its file says it."""

    name: str
    data: dict[str, Any]

    def check(self) -> list[str]:
        """What differs from what the case wants; empty when nothing does."""
        result = run(self.data)
        want = self.data["want"]
        needed = " | ".join(result.needed)
        seen = {
            "passed": result.passed,
            "signed": [name.split("@")[0] for name in result.signed],
            "refused": [f"{name}: {code}" for name, code in result.refused],
            "until": result.valid_until - NOW,
            "approvals": list(result.approvals),
            "closed": bool(result.closed),
        }
        wrong = [
            f"{key}: {value!r}, wanted {want[key]!r}"
            for key, value in seen.items() if value != want.get(key, value)
        ]
        wrong += [f"needed {part!r}: {needed!r}" for part in want.get("needed", []) if part not in needed]
        if result.passed == bool(result.needed):
            wrong.append("passed and needed contradict each other")
        return [f"{self.name}: {one}" for one in wrong]


def cases() -> Iterator[GateCase]:
    """All cases of all files."""
    for file in sorted(CASES.glob("*.yaml")):
        for data in yaml.load(file.read_text(), Loader=yaml.CSafeLoader):
            yield GateCase(f"{file.stem}: {data['name']}", data)


def run(data: dict[str, Any]) -> GateResult:
    """Evaluate a case."""
    plan = make_plan(data.get("plan", {}))
    made = [(spec, make_line(spec, plan)) for spec in data.get("lines", [])]
    lines = [line for spec, line in made if not in_folder(spec)]
    policy = replace(
        make_policy(data, plan),
        standing=tuple(line for spec, line in made if in_folder(spec)),
        uses={sha256(read_line(line).statement): used(spec) for spec, line in made if "used" in spec},
        against=frozenset(sha256(read_line(line).statement) for spec, line in made if spec.get("counted")),
    )
    return evaluate(plan.to_bytes() + data.get("append", "").encode(), lines, policy, NOW + data.get("at", 0))


def used(spec: dict[str, Any]) -> tuple[Use, ...]:
    """What a standing approval was used for: seconds ago, run, targets."""
    return tuple(Use(NOW - ago, run, targets) for ago, run, targets in spec["used"])


def in_folder(spec: dict[str, Any]) -> bool:
    """Whether the line lies in the site's folder; standing approvals do, unless the case says otherwise."""
    return bool(spec.get("in_folder", "standing" in spec))


def address(name: str) -> str:
    """`asha` to `asha@internal.example`."""
    return f"{name}@{DOMAIN[PEOPLE[name][0]]}" if name in PEOPLE else name


def make_gate(spec: dict[str, Any]) -> Gate:
    requirements = tuple(
        Requirement(Party(one["party"]), tuple(one.get("roles", ())), one.get("quorum", 1))
        for one in spec.get("requirements", [{"party": "internal", "roles": ["change-manager"]}])
    )
    return Gate(requirements, spec.get("max_age", 7 * 86400), Emergency(spec.get("emergency", "either")))


def make_plan(spec: dict[str, Any]) -> Plan:
    known = spec.get("known", "claimed")
    waves = tuple(tuple(wave) for wave in spec.get("waves", [spec.get("hosts", ["web1"])]) if wave)
    hosts = tuple(name for wave in waves for name in wave)
    step = Step("upgrade", "apt.upgrade", "upgrade")
    return Plan(
        run="run-1", site="demo", runbook=spec.get("runbook", "patch-linux"), owner="msp",
        change_type=spec.get("change_type", "normal"),
        requester=Requester(address(spec.get("requester", "arjun")), known), selection="all",
        fleet=10, created=NOW - 3600, expires=NOW + spec.get("expires", 86400), code="0", nonce="n",
        gate=make_gate(spec.get("gate", {})), waves=waves,
        hosts=tuple(HostPlan(name, "sha256:0", (step,)) for name in hosts),
        options=spec.get("options", {}), limits=Limits(**spec.get("limits", {})),
    )


def make_policy(data: dict[str, Any], plan: Plan) -> GatePolicy:
    people = {
        address(name): Person(address(name), name, Party(party), frozenset(roles), left=name == "meera")
        for name, (party, roles) in PEOPLE.items()
        if name not in data.get("without", [])
    }
    digests = {"this": plan.digest, "other": other_digest()}
    return GatePolicy(
        people, signers(), revoked(), minimum=make_gate(data["minimum"]) if "minimum" in data else None,
        emergency=Emergency(data.get("emergency", "either")),
        used={name: digests[which] for name, which in data.get("used", {}).items()},
        selections={"web": frozenset({"web1", "web2"})},
    )


def make_line(spec: dict[str, Any], plan: Plan) -> str:
    """Sign what the case says, and then spoil it as it says."""
    if "raw" in spec:
        return str(spec["raw"])
    person = spec["by"]
    start = NOW + spec.get("from", -60)
    common: dict[str, Any] = {
        "approver": address(spec.get("as", person)), "not_before": start,
        "expires": start + spec.get("for", 3600), "id": spec.get("id", f"approval-{person}"),
    }
    if "standing" in spec:
        wanted = {"site": "demo", "runbook": "patch-linux", "selection": "web", **spec["standing"]}
        wanted["limits"] = Limits(**wanted.get("limits", {}))
        wanted["waves"] = Widening(**wanted.get("waves", {"canary": 9}))
        wanted["uses"] = Uses(**wanted.get("uses", {"hour": 9, "day": 9}))
        wanted.setdefault("members", 9)
        statement, namespace = Standing(**common, **wanted).to_bytes(), STANDING
    else:
        about = _about(spec.get("plan", "this"), plan)
        made = Statement(
            about, Decision(spec.get("decision", "approve")), reason=spec.get("reason", ""),
            revokes=spec.get("revokes", ""), **common,
        )
        statement, namespace = made.to_bytes(), NAMESPACE
    if "field" in spec:
        statement = canonical({**_object(statement), **spec["field"]})
    key = pair(spec.get("key", person))
    signature = key.sign(statement, spec.get("namespace", namespace), flags=spec.get("flags", 1))
    if spec.get("tamper"):
        statement = statement.replace(b'"reason":""', b'"reason":"x"')
    return Envelope(statement, signature).to_line()


def _about(which: str | dict[str, Any], plan: Plan) -> str:
    """Digest of this plan, of another, or of the standing approval that the case describes."""
    if isinstance(which, dict):
        return sha256(read_line(make_line(which, plan)).statement)
    return {"this": plan.digest, "other": other_digest()}[which]


def _object(statement: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(statement)
    return value


def other_digest() -> str:
    return "sha256:" + hashlib.sha256(b"another plan").hexdigest()


@cache
def pair(name: str) -> Pair:
    """The key of that name, made when it is first asked for."""
    return Pair("sk-ed25519" if name == "lata" else "ed25519")


@cache
def signers() -> Signers:
    text = "".join(
        f"{address(person)} {options} {pair(name).public_line}\n" for name, (person, options) in KEYS.items()
    )
    parsed, mistakes = parse_signers(text, "approvers")
    if mistakes:
        raise AssertionError(mistakes)
    return parsed


@cache
def revoked() -> Revoked:
    parsed, mistakes = parse_revoked("".join(f"{pair(name).public_line}\n" for name in REVOKED), "revoked")
    if mistakes:
        raise AssertionError(mistakes)
    return parsed


if __name__ == "__main__":
    failures = [line for case in cases() for line in case.check()]
    sys.stdout.write("".join(f"{line}\n" for line in failures))
    sys.exit(1 if failures else 0)
