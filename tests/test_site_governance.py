"""Calendar, responsibilities and policy of a site: every mistake, in one report."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from lamplighter.derive.catalogue import discover
from lamplighter.model.calendar import told
from lamplighter.model.party import Party
from lamplighter.model.stage import Stage
from lamplighter.site import check_site, load_site
from lamplighter.site.schedule import zone_problem
from tests.test_site import edit, prepare

ROOT = Path(__file__).parents[1]
CASES = sorted((ROOT / "tests" / "cases" / "governance").glob("*.yaml"))
NOW = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
DISCOVERED = {name: entry.runbook for name, entry in discover(ROOT).items()}
MATRIX = yaml.safe_load((ROOT / "inventories" / "demo" / "responsibilities.yaml").read_text())["functions"]
RUNBOOKS = {name: DISCOVERED[name] for line in MATRIX.values() for name in line.get("runbooks", ())}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "demo"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_every_mistake_is_told_at_once(file: Path, demo: Path) -> None:
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    prepare(demo, case)
    known = {name: RUNBOOKS[name] for name in case.get("runbooks", RUNBOOKS)}
    mistakes = check_site(demo, known, now=NOW)
    assert [str(one).replace(f"{demo}/", "") for one in mistakes] == case["expect"]


@pytest.mark.parametrize("site", ["demo", "template"])
def test_the_shipped_matrices_name_every_routine_function(site: str) -> None:
    folder = ROOT / "inventories" / site
    mistakes = check_site(folder, DISCOVERED, now=NOW)
    assert not [one for one in mistakes if one.file.endswith(("calendar.yaml", "responsibilities.yaml"))]
    functions = yaml.safe_load((folder / "responsibilities.yaml").read_text())["functions"]
    routine = {
        "patch-management", "backup-verification", "licences-and-certificates", "password-resets",
        "monitoring-and-alerts", "helpdesk-triage", "endpoint-protection", "print-services", "disk-cleanup",
        "joiners-and-leavers", "access-review",
    }
    kept = {"architecture", "vendor-relationships", "risk-decisions"}
    assert functions.keys() >= routine | kept
    assert all(functions[name]["stage"] == "internal" for name in kept)


def test_the_demo_site_is_read_as_written(demo: Path) -> None:
    site = load_site(demo, RUNBOOKS)
    line = site.matrix.of("patch-linux")
    assert line is not None
    assert (line.id, line.responsible, line.accountable, line.stage) == (
        "patch-management", Party.MSP, Party.INTERNAL, Stage.SUPERVISED,
    )
    assert [(rung.after, str(rung.to[0])) for rung in line.escalation.rungs] == [
        (0, "msp/duty-lead"), (3600, "internal/change-manager"), (14400, "asha.patel@internal.example"),
    ]
    web1, db1 = site.inventory.hosts["web1"], site.inventory.hosts["db1"]
    opening = site.calendar.next_opening(web1, NOW)
    assert opening is not None
    assert told(opening.begins, site.time_zone) == "Sat 2026-11-28 02:00 IST"
    diwali = int(datetime(2026, 11, 7, 3, tzinfo=site.zone).timestamp())
    assert site.calendar.frozen(web1, diwali)[0].startswith("diwali-2026 (Diwali to Gujarati New Year")
    counted = int(datetime(2026, 11, 30, 3, tzinfo=site.zone).timestamp())
    assert site.calendar.frozen(db1, counted) == (
        "stocktake: Monthly stocktake (the warehouse counts; kiran.shah@internal.example)",
    )
    assert site.calendar.frozen(web1, counted) == ()


def test_a_site_without_a_calendar_is_open_at_any_time(demo: Path) -> None:
    (demo / "calendar.yaml").unlink()
    site = load_site(demo, RUNBOOKS)
    assert site.calendar.common(site.inventory.hosts.values(), NOW) == (0, 0)


def test_a_site_without_a_matrix_is_no_site(demo: Path) -> None:
    (demo / "responsibilities.yaml").unlink()
    [one] = check_site(demo)
    assert str(one).endswith("responsibilities.yaml: the file is missing (copy it from inventories/template/ "
                             "and fill it in)")


def test_what_is_stale_is_told_by_check_and_does_not_stop_a_night_shift(demo: Path) -> None:
    edit(demo / "responsibilities.yaml", "review_by: 2028-03-31", "review_by: 2026-11-22")
    assert len(check_site(demo, RUNBOOKS, now=NOW)) == 15
    assert check_site(demo, RUNBOOKS, now=NOW - 2 * 86400) == ()
    assert load_site(demo, RUNBOOKS).matrix.functions


def test_an_ics_of_ten_megabytes_is_one_mistake(demo: Path) -> None:
    (demo / "stocktake.ics").write_bytes(b"X" * 10 * 1024 * 1024)
    told_ = [str(one).replace(f"{demo}/", "") for one in check_site(demo, RUNBOOKS, now=NOW)]
    assert told_ == [
        "calendar.yaml:51: `stocktake.ics` cannot be imported: see there",
        "stocktake.ics: larger than 4194304 bytes (export the freezes only, or fewer years)",
    ]


def test_a_role_that_is_misspelt_where_it_is_given_is_one_mistake(demo: Path) -> None:
    edit(demo / "people.yaml", "change-manager", "change-mangaer")
    told_ = [str(one).replace(f"{demo}/", "") for one in check_site(demo, RUNBOOKS, now=NOW)]
    assert len(told_) == 1, told_
    assert told_[0].startswith("people.yaml:")
    assert "has the role `change-mangaer`, which nothing names" in told_[0]
    assert told_[0].endswith("(did you mean `change-manager`?)")


def test_a_role_that_is_misspelt_where_it_is_named_is_told_with_what_was_meant(demo: Path) -> None:
    edit(demo / "responsibilities.yaml", "internal/change-manager", "internal/change-mangaer")
    told_ = [str(one) for one in check_site(demo, RUNBOOKS, now=NOW)]
    assert told_
    assert all("did you mean `internal/change-manager`?" in one for one in told_), told_


def test_an_approver_whose_key_expired_is_told_by_check(demo: Path) -> None:
    file = demo / "approvers"
    text = file.read_text(encoding="utf-8").replace(' namespaces="', ' valid-before="20261101Z",namespaces="')
    file.write_text(text, encoding="utf-8")
    told_ = [str(one).replace(f"{demo}/", "") for one in check_site(demo, RUNBOOKS, now=NOW)]
    assert any(one.startswith("approvers:") and "expired on 2026-11-01" in one for one in told_), told_
    assert any("the site has 0 who could sign" in one for one in told_), told_
    assert check_site(demo, RUNBOOKS) == (), "a run judges each signature by its own time"


@pytest.mark.parametrize(("name", "wanted"), [
    ("IST", "Asia/Kolkata, Asia/Tel_Aviv, Europe/Dublin"), ("PST", "America/Los_Angeles"),
    ("Asia/Kolkatta", "Asia/Kolkata"),
])
def test_what_is_no_zone_gets_the_zones_it_could_be(name: str, wanted: str) -> None:
    assert wanted in zone_problem(name)[1]
