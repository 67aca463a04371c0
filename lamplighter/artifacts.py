"""What a run shows in Prefect beside its state: tables, pages of markdown, a progress bar."""

from __future__ import annotations

import time
from typing import Any, cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException


def show_table(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Keep a table with the run."""
    create_table_artifact(rows, key=key, description=description)


def show_page(key: str, markdown: str, description: str) -> None:
    """Keep a page of markdown with the run."""
    create_markdown_artifact(markdown, key=key, description=description)


class Progress:
    """A progress bar on the run's page, updated at most every `seconds`.

    Args:
        what: shown beside the bar.
        total: how many make it full.
        seconds: between updates; each is a call to Prefect's API.
    """

    def __init__(self, what: str, total: int, seconds: float) -> None:
        self._total, self._seconds = total, seconds
        self._shown, self._at = 0, time.monotonic()
        key = what.replace(" ", "-")
        made = create_progress_artifact(0.0, key=key, description=f"{what}: {total} hosts")
        self._artifact = cast("UUID", made)  # in a sync flow the dispatching function answers at once

    def show(self, done: int, *, last: bool = False) -> None:
        """Move the bar to `done` of the total."""
        if done == self._shown or (not last and time.monotonic() - self._at < self._seconds):
            return
        self._shown, self._at = done, time.monotonic()
        try:
            update_progress_artifact(self._artifact, progress=100.0 * done / self._total)
        except (httpx.HTTPError, PrefectException):  # a bar that stands still must not stop a rollout
            return
