"""Words of notices: jinja2 templates in `templates/`, the first line the subject.

Text from hosts, forms and files is data. It cannot start a new line, address a group, make a link or become
markup in whatever the channel makes of it; the only links are this program's own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lamplighter.model.notice import MAX_SUBJECT, MAX_TEXT, Notice
from lamplighter.model.text import recordable

MAX_VALUE = 600
MOST_IN_DIGEST = 40
_SWAPS = str.maketrans("<>`*[]|\\", "()'.()//")
TEMPLATES = Path(__file__).parent / "templates"


class Trusted(str):
    """Text this program made itself: it is left as it is."""

    __slots__ = ()


def plain(value: object) -> str:
    """Any text made harmless in mail and in chats, and short."""
    if isinstance(value, Trusted):
        return str(value)
    text = unicodedata.normalize("NFC", str(value).encode("utf-8", "replace").decode("utf-8"))
    flat = " ".join("".join(" " if _unseen(sign) else sign for sign in text).split())
    safe = flat.translate(_SWAPS).replace("://", ":// ")
    safe = re.sub(r"(?i)\bwww\.", "www. ", safe)
    safe = re.sub(r"(?<![\w.+-])@(?=\w)", "@ ", safe)
    return safe if len(safe) <= MAX_VALUE else safe[: MAX_VALUE - 1] + "…"


def _unseen(sign: str) -> bool:
    """Controls, and marks that change the direction of text: they make one thing look like another."""
    return unicodedata.category(sign) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}


def word(template: str, /, **values: object) -> tuple[str, str]:
    """Subject and text.

    Args:
        template: its name without the ending.
        values: what it needs; one that is missing is a mistake of this program.
    """
    whole = _environment().get_template(f"{template}.txt.j2").render(trusted=Trusted, **values)
    subject, _, text = whole.partition("\n")
    tidy = re.sub(r"\n{3,}", "\n\n", text.strip())
    return recordable(subject.strip(), MAX_SUBJECT), recordable(tidy, MAX_TEXT) + "\n"


def digest_of(notices: Sequence[Notice], site: str) -> tuple[str, str]:
    """Many notices to one address as one message."""
    shown = notices[:MOST_IN_DIGEST]
    return word("digest", notices=shown, count=len(notices), left=len(notices) - len(shown), site=site)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, finalize=plain, trim_blocks=True,
        lstrip_blocks=True, autoescape=False,  # noqa: S701 - plain text, not HTML; `plain` makes values harmless
    )
