"""The demo's own parts: a directory and a mail sink, as `make demo` starts them; no host, no Prefect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lamplighter.derive.timetable import starts
from lamplighter.model.inventory import Host
from lamplighter.model.notice import Result
from lamplighter.notify.send import send_by_apprise
from lamplighter.site import load_site
from lamplighter.site.notify import load_notify
from tasks.account_runs import open_desk
from tasks.accounts import Claims
from tasks.expiring import tell_everybody
from tests.lab import demo_directory
from tests.lab.demo_mail import Sink
from tests.lab.demo_sandbox import schedule_soon
from tests.lab.demo_site import APPROVERS
from tests.lab.system import wait_until
from tests.storekit import store_entry

pytestmark = pytest.mark.lab
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a demo whose directory and mail are up, with its site."""
    folder = tmp_path_factory.mktemp("demo")
    sink = Sink(folder / "mail")
    people = dict(zip(("LAMPLIGHTER_MAIL_ASHA", "LAMPLIGHTER_MAIL_KIRAN"), APPROVERS, strict=False))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**sink.env(people), **demo_directory.env(folder / "directory")}.items():
            patch.setenv(name, value)
        argv = [sys.executable, "-m", "tests.lab.demo_mail", str(sink.folder)]
        keeper = demo_directory.keeper(folder / "directory", f"demo-test-{os.getpid()}")
        started = [subprocess.Popen(command, cwd=ROOT) for command in (argv, keeper)]
        try:
            site = Path(shutil.copytree(ROOT / "inventories" / "demo", folder / "demo"))
            said = demo_directory.directory_yaml(folder / "directory")
            (site / "directory.yaml").write_text(yaml.safe_dump(said))
            changes = {"store": store_entry(folder / "store"), "deployments": [], "gates": {}}
            entry = yaml.safe_load((site / "site.yaml").read_text())
            (site / "site.yaml").write_text(yaml.safe_dump(entry | changes))
            assert wait_until(lambda: "Mail of the demo" in _read(sink.url), 20, 0.1)
            yield folder
        finally:
            for process in started:
                process.terminate()
            assert [process.wait(20) for process in started] == [0, 0]


def _read(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return str(answer.read().decode())
    except OSError:
        return ""


def test_reminders_and_notices_can_be_read_on_the_page(place: Path) -> None:
    site, sink = load_site(place / "demo"), Sink(place / "mail")
    told = tell_everybody(site)
    assert (told.sent, told.ok) == (1, True), told
    assert "ravi.desai@internal.example" in _read(sink.url)
    notify = load_notify(site.path, site.people)
    for channel in (notify.reach[APPROVERS[0]][0], notify.reach["msp/duty-lead"][0]):
        assert send_by_apprise(channel, "a <run> waits", "read & decide").result is Result.SENT
    assert _read(sink.url).count("a &lt;run&gt; waits") == 2
    assert "the MSP&#x27;s chat" in _read(sink.url)
    newest, *_ = sink.messages()
    assert "read &amp; decide" in _read(f"{sink.url}/{newest}")
    assert _read(f"{sink.url}/nothing") == ""


def test_its_schedules_fire_while_somebody_looks(place: Path, tmp_path: Path) -> None:
    entry, now = yaml.safe_load((ROOT / "inventories" / "demo" / "site.yaml").read_text()), int(time.time())
    schedule_soon(entry)
    folder = Path(shutil.copytree(place / "demo", tmp_path / "demo"))
    (folder / "site.yaml").write_text(yaml.safe_dump(entry))
    site = load_site(folder)
    soon = {
        f"{one.runbook}/{one.name}" for one in site.deployments for each in one.schedules
        if next(starts(each, now, now + 7 * 60), 0)
    }
    assert soon == {"patch-linux/staging-hourly", "expiring-passwords/hourly", "escalate/every-5-minutes"}


def test_its_people_are_found_with_what_is_the_matter(place: Path) -> None:
    desk = open_desk(load_site(place / "demo"))
    unlock = desk.unlock("call-back")
    planned = {}
    with desk.reach(desk.site) as connect:
        for login in demo_directory.PEOPLE:
            with connect(Host(login)) as session:
                planned[login] = unlock.plan(Host(login), unlock.survey(Host(login), session))
    assert [login for login, plan in planned.items() if plan.steps] == [demo_directory.LOCKED]
    assert "protected: " in planned[demo_directory.PROTECTED].reason
    assert "locked-by-administrator: " in planned[demo_directory.ENDED].reason
    reset = desk.reset("run", Claims("call-back", "manager"), unlock=True)
    orphan = Host(demo_directory.ORPHAN)
    with desk.reach(desk.site) as connect, connect(orphan) as session:
        assert "no-address: " in reset.plan(orphan, reset.survey(orphan, session)).reason
