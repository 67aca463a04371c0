"""The command line. Each command is a module of its own, imported when it is called: answers come at once.

Exit codes, the same everywhere: 0 yes or done, 1 no (mistakes found, gate closed, run failed), 2 it could
not be told (bad usage, unreadable files, no answer). `--json` prints one JSON value and nothing else; an
error is one as well, `{"error": ...}`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import typer

from lamplighter.cli.page import console, lines, print_json
from lamplighter.errors import DeclinedError, LamplighterError, NotApprovedError
from lamplighter.secrets import keep_memory_private

COMMANDS: dict[str, tuple[str, str]] = {
    "check": ("check", "check"),
    "sync": ("sync", "sync"),
    "matrix": ("matrix", "matrix"),
    "calendar": ("calendar", "calendar"),
    "promote": ("promote", "promote"),
    "demote": ("promote", "demote"),
    "plan": ("plan", "plan"),
    "replan": ("replan", "replan"),
    "show": ("show", "show"),
    "runs": ("runs", "runs"),
    "approve": ("approve", "approve"),
    "reject": ("approve", "reject"),
    "revoke": ("approve", "revoke"),
    "sign": ("sign", "sign"),
    "gate": ("gate", "gate"),
    "resume": ("runs", "resume"),
    "request": ("request", "request"),
    "standing": ("standing", "standing"),
    "review": ("review", "review"),
    "worker": ("worker", "worker"),
    "sla": ("sla", "sla"),
    "notifications": ("notifications", "notifications"),
    "acknowledge": ("notifications", "acknowledge"),
    "store": ("store", "store"),
    "verify": ("verify", "verify"),
    "witness": ("witness", "witness"),
}
"""Command to the module below `lamplighter.cli` and the function in it."""


def _app(names: list[str]) -> typer.Typer:
    app = typer.Typer(
        help="Lamplighter: routine IT operations with governance kept inside.", no_args_is_help=True,
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    )
    app.callback()(_root)
    for name in names:
        module, function = COMMANDS[name]
        command: Callable[..., None] = getattr(importlib.import_module(f"lamplighter.cli.{module}"), function)
        app.command(name)(command)
    return app


def commands() -> dict[str, Any]:
    """Every command by name, as the reference page describes them."""
    group: Any = typer.main.get_command(_app(list(COMMANDS)))
    return {name: group.commands[name] for name in COMMANDS}


def _root() -> None:
    """Lamplighter: routine IT operations with governance kept inside."""


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `lamplighter` command."""
    keep_memory_private()
    words = sys.argv[1:] if argv is None else argv
    wanted = next((word for word in words if not word.startswith("-")), "")
    app = _app([wanted] if wanted in COMMANDS else list(COMMANDS))
    try:
        app(words)
    except LamplighterError as error:
        complain(error)
        if "--json" in words:
            said = {name: getattr(error, name) for name in ("message", "where", "changed", "advice")}
            print_json({"error": str(error), **said})
        raise SystemExit(1 if isinstance(error, DeclinedError | NotApprovedError) else 2) from None


def complain(error: LamplighterError) -> None:
    """Print an error where errors go, red only on a terminal."""
    console(stderr=True).print(f"[red]error:[/] {lines(str(error).splitlines())}", soft_wrap=True)
