"""`python -m tests.lab.pictures_accounts`: writes the pictures of a password reset, through its real pages.

Starts a domain controller, a Prefect server and a worker, fills the on-demand form in as an operator does,
and photographs the form, and the report of the run that comes of it.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.accountkit import OLD, PRIYA, Office, served
from tests.lab.browser import Browser
from tests.lab.errors import LabError
from tests.lab.pictures import PICTURES, SETTLE, WIDTH
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.samba_ad import SambaAd

TYPED = {"account": "jane.roe@example.com", "ticket": "INC-20417", "requester": PRIYA}
FORM_HEIGHT, REPORT_HEIGHT = 1000, 700


def main(argv: Sequence[str] | None = None) -> int:
    """Take the pictures. Returns: the exit code."""
    words = sys.argv[1:] if argv is None else argv
    out = Path(words[0]) if words else PICTURES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SambaAd(f"ad-pictures-{os.getpid()}", folder / "ad") as samba:
            samba.user("jane.roe", OLD, cn="Jane Roe", mail="jane.roe@example.com")
            with served(Office(folder, samba), folder / "prefect") as stack:
                for path in take(stack, out):
                    print(path)
    return 0


def take(stack: PrefectStack, out: Path) -> list[Path]:
    """Take one reset through its pages. Returns: the pictures' files.

    Errors: LabError when the run does not end well.
    """
    api = PrefectApi(stack)
    with Browser(stack.url, out, WIDTH, FORM_HEIGHT) as browser:
        browser.open_start(str(api.post("deployments/name/reset-password/service-desk")["id"]))
        for label, text in TYPED.items():
            browser.fill(browser.page, label, text)
        browser.choose(browser.page, "call-back", "verified")
        browser.page.wait_for_timeout(SETTLE)
        pictures = [browser.shot("reset-start")]
        flow_run = browser.submit()
        run = api.until(flow_run, seconds=300)
        if run["state"]["message"] != "1 changed":
            raise LabError(f"the run is {run['state_name']}: {run['state']['message']}")
        browser.page.set_viewport_size({"width": WIDTH, "height": REPORT_HEIGHT})
        browser.open_artifact(api.artifacts(flow_run)["report-page"]["id"])
        browser.page.get_by_text("Check it offline").first.wait_for()
        browser.page.wait_for_timeout(SETTLE)
        pictures.append(browser.shot("reset-report"))
    (out / "last.png").unlink(missing_ok=True)
    return pictures


if __name__ == "__main__":
    raise SystemExit(main())
