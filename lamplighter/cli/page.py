"""Where everything goes that a command prints: one door, through which no text draws anything of its own.

What is printed comes from hosts, from Prefect's form, from files of both parties. A terminal obeys control
characters, and reorders or hides text for others; here they are spelled out, whoever wrote them. Colour is
the code's own markup. `escape` is for data that stands in it: there a line break is spelled out as well, so
that no name becomes a line of its own.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape as _escape
from rich.text import Text

from lamplighter.model.envelope import spelled, visible

WIDE = 140
"""Characters a line of a page that is no terminal."""
_HIDDEN = re.compile(r"[^\n -~]")


class Page(Console):
    """See the module's docstring."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Every plain text that is printed comes by here, cells of tables too."""
        return super().render_str(spelled(text), **how)


def console(*, stderr: bool = False) -> Page:
    """Where answers go; colour only on a terminal, and a wide page where there is none.

    Args:
        stderr: it is no answer, but what is said on the way to one.
    """
    wide = None if (sys.stderr if stderr else sys.stdout).isatty() else WIDE
    return Page(highlight=False, stderr=stderr, width=wide)


def escape(text: str) -> str:
    """Data for a place where markup is read: no markup, no line break, nothing hidden."""
    return _escape(visible(text))


def lines(texts: Iterable[str]) -> str:
    """Several, each on a line of its own."""
    return "\n".join(map(escape, texts))


def print_json(value: Any) -> None:
    """One JSON value on standard output, and nothing else."""
    said = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(_HIDDEN.sub(_as_json, said) + "\n")


def _as_json(char: re.Match[str]) -> str:
    """Hidden characters as JSON escapes them (RFC 8259 7): it means the same."""
    return char[0] if char[0].isprintable() else json.dumps(char[0])[1:-1]
