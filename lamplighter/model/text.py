"""Text from anywhere, made fit for a record."""

from __future__ import annotations

import unicodedata

MOST = 4000
"""Characters: a page. The whole output of a command is evidence on the host, not in the ledger."""


def recordable(text: str, most: int = MOST) -> str:
    """The text as canonical JSON takes it: valid Unicode, form NFC, not longer than a page.

    Without this, one host that prints a letter and its accent apart could not have its outcome recorded.
    """
    known = text if text.isascii() else _normal(text)
    return known if len(known) <= most else f"{known[: most - 1]}…"


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))
