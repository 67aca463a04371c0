from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Literal

import pytest
import yaml

from lamplighter.derive.catalogue import named
from lamplighter.errors import SelectionError, SiteError
from lamplighter.model.envelope import Envelope
from lamplighter.model.gate import Gate, Requirement, implies, internal
from lamplighter.model.party import Party
from lamplighter.model.runbook import ChangeType, Risk, Runbook
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.standing import Standing
from lamplighter.site import check_site, load_site, load_site_named
from tests.sshkit import Pair
from tests.storekit import a_store

ROOT = Path(__file__).parents[1]
CASES = sorted((ROOT / "tests" / "cases" / "sites").glob("*.yaml"))


def start(
    site: str = "demo", hosts: str = "all", packages: Literal["security", "all"] = "security",
    reboot: Literal["when-needed", "never"] = "when-needed", repair: bool = False, change_ref: str = "",
) -> None:
    """What a deployment may set."""


def unlock(account: str, verified: str = "call-back", site: str = "demo") -> None:
    """What a deployment may set, and a start must."""


RUNBOOK = Runbook(
    id="patch-linux", title="Linux patch cycle", function="patch-management", owner=Party.MSP,
    change=ChangeType.NORMAL, gate=internal("change-manager"), risk=Risk.MEDIUM, operation=start,
    start=start,
)
WATCH = Runbook(
    id="escalate", title="Watch over runs", function="monitoring-and-alerts", owner=Party.MSP, risk=Risk.LOW,
)
ACCOUNTS = tuple(
    Runbook(
        id=name, title=name, function="password-resets", owner=Party.MSP, risk=Risk.LOW,
        start=unlock if name == "unlock-account" else None,
    )
    for name in ("reset-password", "unlock-account", "expiring-passwords")
)
RUNBOOKS = {runbook.id: runbook for runbook in (RUNBOOK, WATCH, *ACCOUNTS)}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "demo"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def prepare(folder: Path, case: dict) -> None:
    key = next(line.split(maxsplit=2)[2] for line in (folder / "approvers").read_text().splitlines()
               if line.startswith("kiran.shah"))
    for name, text in case.get("files", {}).items():
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text.replace("KEY", key), encoding="utf-8")
    for name, old, new in case.get("replace", ()):
        edit(folder / name, old, new.replace("FOLDER", str(folder)))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_a_wrong_site_is_told_every_mistake(file: Path, demo: Path) -> None:
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    prepare(demo, case)
    with pytest.raises(SiteError) as caught:
        load_site(demo, RUNBOOKS)
    told = [str(one).replace(f"{demo}/", "").replace(str(demo), "FOLDER") for one in caught.value.mistakes]
    assert told == case["expect"]
    assert tuple(caught.value.mistakes) == check_site(demo, RUNBOOKS)


def test_the_demo_site_has_no_mistakes() -> None:
    site = load_site(ROOT / "inventories" / "demo", RUNBOOKS)
    assert list(site.inventory.hosts) == ["web1", "web2", "app1", "app2", "db1", "mon1"]
    assert {host.ha_group for host in site.select("web")} == {"web"}
    assert site.zone.key == "Asia/Kolkata"
    assert site.parties[Party.MSP] == "Lantern Managed Services"
    assert [(one.runbook, one.name, one.hosts) for one in site.deployments] == [
        ("patch-linux", "all-weekly", "all"), ("patch-linux", "web-prod-monthly", "web:&prod"),
        ("reset-password", "service-desk", "all"), ("unlock-account", "service-desk", "all"),
        ("expiring-passwords", "daily", "all"), ("escalate", "every-5-minutes", "all"),
    ]
    assert site.deployments[0].schedules[0].time_zone == "Asia/Kolkata"


def test_the_template_says_exactly_what_is_left_to_fill_in() -> None:
    mistakes = check_site(ROOT / "inventories" / "template", RUNBOOKS)
    told = [(Path(one.file).name, one.message) for one in mistakes]
    assert told == [
        ("hosts.yaml", "no host key is pinned for `web1`"),
        ("hosts.yaml", "no host key is pinned for `web2`"),
        ("site.yaml", ("`patch-linux` could never pass its gate: the gate asks for 1 internal person with "
                       "the role change-manager, and the site has 0 who could sign")),
    ]


def test_a_private_key_is_looked_for_only_on_the_worker(demo: Path) -> None:
    edit(demo / "hosts.yaml", "~/.ssh/lamplighter_demo", str(demo / "id"))
    assert check_site(demo, RUNBOOKS) == ()
    told = check_site(demo, RUNBOOKS, here=True)
    assert [one.message for one in told] == [f"the private key {demo}/id cannot be read here"]
    (demo / "id").write_text("its contents are the transport's business")
    assert check_site(demo, RUNBOOKS, here=True) == ()


def test_a_windows_hosts_authorities_are_looked_for_only_on_the_worker(demo: Path) -> None:
    windows = ("ansible_connection: winrm, lamplighter_winrm_password: env:WINRM, ansible_port: 5986, "
               f"ansible_winrm_ca_trust_path: {demo / 'ca.pem'}")
    edit(demo / "hosts.yaml", "{ansible_host: 192.0.2.11}", f"{{ansible_host: 192.0.2.11, {windows}}}")
    assert check_site(demo, RUNBOOKS) == ()
    told = [one.message for one in check_site(demo, RUNBOOKS, here=True)]
    assert f"the certificate authorities in {demo}/ca.pem cannot be read (no such file or directory)" in told


def test_no_secret_written_in_the_clear_is_repeated(demo: Path) -> None:
    edit(demo / "hosts.yaml", "ansible_user: ops", "ansible_password: hunter2")
    edit(demo / "site.yaml", "{packages: all}", "{api_token: hunter2}")
    edit(demo / "site.yaml", "store: file:", "store:\n  options: {password: hunter2}\n  url: file:")
    with pytest.raises(SiteError) as caught:
        load_site(demo, RUNBOOKS)
    assert "hunter2" not in str(caught.value)
    assert len(caught.value.mistakes) >= 3


def test_a_site_that_is_not_there_names_the_closest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(ROOT / "inventories"))
    assert load_site_named("demo").name == "demo"
    with pytest.raises(SelectionError, match=r"no site `dmeo`.*Did you mean `demo`"):
        load_site_named("dmeo")
    with pytest.raises(SelectionError, match=r"no site `\.\./demo`"):
        load_site_named("../demo")
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(tmp_path))
    with pytest.raises(SelectionError, match="Copy inventories/template"):
        load_site_named("demo")


def test_unreadable_and_oversized_files_are_mistakes(demo: Path) -> None:
    (demo / "hosts.yaml").write_bytes(b"all:\n  hosts:\n    w\xffb1:\n")
    (demo / "people.yaml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    (demo / "approvers").unlink()
    (demo / "approvers").mkdir()
    told = [(Path(one.file).name, one.line, one.message) for one in check_site(demo, RUNBOOKS)]
    assert ("hosts.yaml", 3, "byte 0xff is not UTF-8") in told
    assert ("people.yaml", 0, "larger than 4194304 bytes") in told
    assert ("approvers", 0, "the file is missing") in told


def test_rollouts_are_overridden_by_default_and_then_by_runbook(demo: Path) -> None:
    edit(demo / "site.yaml", "gates:", "  patch-linux:\n    limits: {hosts: 3, soak_seconds: 60}\n\ngates:")
    limits, waves = load_site(demo, RUNBOOKS).rollout(RUNBOOK)
    assert (limits.hosts, limits.soak_seconds, limits.parallel) == (3, 60, 6)
    assert (waves.canary, waves.shares) == (1, (50, 100))
    assert limits.run_failures == RUNBOOK.limits.run_failures


def test_a_site_can_only_tighten_a_gate(demo: Path) -> None:
    edit(demo / "site.yaml", "quorum: 1", "quorum: 2\n  default:\n    - {party: msp, roles: [duty-lead]}")
    site = load_site(demo, RUNBOOKS)
    gate = site.gate(RUNBOOK)
    assert implies(gate, RUNBOOK.gate)
    assert implies(gate, Gate((Requirement(Party.MSP, ("duty-lead",)),)))
    assert gate.size == 3
    loose = site.minimum("verify-backups")
    assert loose is not None
    assert loose.parties == {Party.MSP}


def test_the_gate_policy_reads_used_approvals_and_selections_when_asked(demo: Path, tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    policy = load_site(demo).gate_policy(RUNBOOK.id, store)
    assert policy.used.get("approval-1") is None
    store.put_new("approvals/used/approval-1", b"sha256:abc")
    assert policy.used.get("approval-1") == "sha256:abc"
    assert list(policy.used) == ["approval-1"]
    assert policy.selections.get("web:&prod") == {"web1", "web2"}
    assert policy.selections.get("wbe") is None
    assert policy.people["meera.trivedi@internal.example"].left


def test_an_unchanged_site_is_parsed_once_and_a_changed_one_again(demo: Path) -> None:
    assert load_site(demo) is not load_site(demo), "files this young may change without a trace"
    for file in demo.iterdir():
        os.utime(file, (time.time() - 60, time.time() - 60))
    first = load_site(demo)
    assert first.revoked.fingerprints == frozenset()
    key = first.approvers.splitlines()[-1].split(maxsplit=2)[2]
    (demo / "revoked_keys").write_text(key + "\n")
    with pytest.raises(SiteError, match="is revoked"):
        load_site(demo)


def test_a_standing_approval_of_options_that_no_run_has_is_told(demo: Path) -> None:
    known = named("patch-linux").runbook
    key = Pair()
    for name, options in (("bad", {"packages": "everything", "clock": "x"}), ("good", {"packages": "all"})):
        data = Standing(
            "demo", "patch-linux", "all", "asha.patel@internal.example", 1, 2, f"id-of-{name}", "", options
        ).to_bytes()
        (demo / "standing").mkdir(exist_ok=True)
        line = Envelope(data, key.sign(data, STANDING)).to_line()
        (demo / "standing" / f"{name}.line").write_text(line + "\n")
    told = [one for one in check_site(demo, {**RUNBOOKS, known.id: known}) if "standing" in one.file]
    assert [(Path(one.file).name, one.message) for one in told] == [
        ("bad.line", "`patch-linux`: `packages` cannot be `everything`"),
        ("bad.line", "`patch-linux`: there is no option `clock`"),
    ]
