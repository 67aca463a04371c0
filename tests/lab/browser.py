"""A real Chromium that does with Prefect's pages what a person does."""

import re
from pathlib import Path
from types import TracebackType
from typing import Self

from playwright.sync_api import Locator, Page, TimeoutError, sync_playwright  # noqa: A004 - Playwright's own

from tests.lab.errors import LabError

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)
SECONDS = 60
TRIES = 3
BUSY = 503  # what Prefect says when SQLite is, as it often is on a small machine


class Browser:
    """A browser window. Params: base, the server's address; folder, where screenshots go; width, height."""

    def __init__(self, base: str, folder: Path, width: int = 1280, height: int = 1000) -> None:
        self._base, self._folder = base.rstrip("/"), folder
        self._size = (width, height)

    def __enter__(self) -> Self:
        """Start it."""
        self._driver = sync_playwright().start()
        try:
            self._chromium = self._driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        except BaseException:
            self._driver.stop()
            raise
        width, height = self._size
        self.page: Page = self._chromium.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(SECONDS * 1000)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep what was seen last, and end it."""
        try:
            self.shot("last")
        finally:
            self._chromium.close()
            self._driver.stop()

    def shot(self, name: str, part: Locator | None = None) -> Path:
        """Keep a screenshot. Returns: its file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.png"
        (part or self.page).screenshot(path=path)
        return path

    def open_run(self, flow_run: str) -> None:
        """Open a flow run's page."""
        self._open(f"runs/flow-run/{flow_run}", self.page.get_by_role("button", name="Open menu"))

    def open_artifact(self, artifact: str) -> None:
        """Open an artifact's page."""
        self._open(f"artifacts/artifact/{artifact}", self.page.get_by_text("Flow run"))

    def open_form(self, flow_run: str) -> Locator:
        """Open a suspended run's form, from its menu. Returns: the dialog."""
        self.open_run(flow_run)
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name="Resume").click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("heading", name="Waiting for approval").wait_for()
        return dialog

    def choose(self, form: Locator | Page, option: str, field: str = "Decision") -> None:
        """Choose from a field's list."""
        form.get_by_label(f"Select {field}").click()
        choice = self.page.get_by_role("option", name=option, exact=True)
        choice.click()
        choice.wait_for(state="hidden")

    def fill(self, form: Locator | Page, label: str, text: str) -> None:
        """Type into one of the form's fields."""
        form.get_by_label(re.compile(f"^{label}")).first.fill(text)

    def send(self, form: Locator) -> None:
        """Press the dialog's Resume until it is gone: a busy server answers 503, and the dialog stays."""
        for left in reversed(range(TRIES)):
            form.get_by_role("button", name="Resume").click()
            try:
                form.wait_for(state="hidden", timeout=SECONDS * 1000 / TRIES)
            except TimeoutError:
                if not left:
                    raise
            else:
                return

    def open_start(self, deployment: str) -> None:
        """Open a deployment's on-demand form: Run, Custom run."""
        run = self.page.get_by_role("button", name="Run", exact=True)
        self._open(f"deployments/deployment/{deployment}", run)
        run.first.click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        self.page.get_by_role("heading", name="Parameters").wait_for()
        self.page.get_by_label(re.compile("^site")).wait_for()

    def submit(self) -> str:
        """Press Submit. Returns: the id of the flow run that was made.

        Errors: LabError with what the server said against it.
        """
        for _ in range(10):
            with self.page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as made:
                self.page.get_by_role("button", name="Submit").click()
            if made.value.status != BUSY:
                break
            self.page.wait_for_timeout(500)
        if not made.value.ok:
            raise LabError(f"not started: {made.value.status} {made.value.text()[:300]}")
        return str(made.value.json()["id"])

    def _open(self, page: str, shows: Locator) -> None:
        """Open a page, and again when it stays empty: a busy server answers 503, and nothing is shown."""
        for left in reversed(range(TRIES)):
            self.page.goto(f"{self._base}/v2/{page}", wait_until="load")
            try:
                shows.first.wait_for(timeout=SECONDS * 1000 / TRIES)
            except TimeoutError:
                if not left:
                    raise
            else:
                return
