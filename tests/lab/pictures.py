"""`python -m tests.lab.pictures`: writes the README's pictures from the running demo, through its real pages.

Starts a run of the demo (`make demo` first), photographs the on-demand form, the gate's form, the run's page
and its report in Chromium, and approves the run in between.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.lab.browser import Browser
from tests.lab.demo import APPROVER, attach
from tests.lab.demo_site import REQUESTER, DemoSite
from tests.lab.errors import LabError
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import ROOT, PrefectStack

PICTURES = ROOT / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 1000
TALL = 2000
SETTLE = 4000
"""Milliseconds for what moves on a page to come to rest."""


def main(argv: Sequence[str] | None = None) -> int:
    """Take the pictures of the running demo. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURES, help="where they go")
    arguments = parser.parse_args(argv)
    try:
        site, stack = attach()
        for host in site.estate:
            host.reset()
        for path in take(stack, site, arguments.out):
            print(path)
    except LabError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return 1
    return 0


def take(stack: PrefectStack, site: DemoSite, out: Path) -> list[Path]:
    """Take one run through its pages. Returns: the pictures' files.

    Errors: LabError when the run does not reach its gate or its end.
    """
    api = PrefectApi(stack)
    with Browser(stack.url, out, WIDTH, HEIGHT) as browser:
        browser.open_start(str(api.post("deployments/name/patch-linux/all-weekly")["id"]))
        browser.fill(browser.page, "change_ref", "CHG-1042")
        browser.fill(browser.page, "requester", REQUESTER)
        pictures = [browser.shot("start")]
        flow_run = browser.submit()
        _until(api, flow_run, "Suspended")
        browser.page.set_viewport_size({"width": WIDTH, "height": TALL})
        form = browser.open_form(flow_run)
        browser.page.wait_for_timeout(SETTLE)
        pictures.append(browser.shot("gate", form))
        form.get_by_label("Select Decision").scroll_into_view_if_needed()
        browser.choose(form, "approve")
        line = stack.lamplighter(
            "approve", api.run_id(flow_run), "--yes", "--print",
            "--key", str(site.key(APPROVER)),
        )
        browser.fill(form, "Approval line", line)
        browser.send(form)
        _until(api, flow_run, "Completed")
        browser.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        pictures += _afterwards(browser, flow_run, api.artifacts(flow_run)["report-page"]["id"])
    (out / "last.png").unlink(missing_ok=True)
    return pictures


def _afterwards(browser: Browser, flow_run: str, report: str) -> list[Path]:
    """The page of a run that ended, and its report."""
    page = browser.page
    browser.open_run(flow_run)
    page.wait_for_timeout(SETTLE)
    pictures = [browser.shot("run")]
    browser.open_artifact(report)
    page.get_by_text("Check it offline").first.wait_for()
    page.wait_for_timeout(SETTLE)
    return [*pictures, browser.shot("report")]


def _until(api: PrefectApi, flow_run: str, state: str) -> None:
    run = api.until(flow_run, state, seconds=300)
    if run["state_name"] != state:
        raise LabError(f"the run is {run['state_name']}: {run['state']['message']}")


if __name__ == "__main__":
    raise SystemExit(main())
