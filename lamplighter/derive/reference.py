"""The reference pages: every command with its options, every setting with its default. Markdown, in `docs/`.

What a page says is what the program says of itself: the commands' own help, the docstrings below the fields
of the files' models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from lamplighter.derive.book import HEAD, cells

ENVIRONMENT: Mapping[str, str] = {
    "LAMPLIGHTER_INVENTORIES": "The folder of the sites; `inventories/` below the current one when not set.",
    "LAMPLIGHTER_HOME": "The checkout; else the nearest folder from here upwards that holds `flows/`.",
    "LAMPLIGHTER_KEY": "Your private key for commands that sign; `~/.ssh/id_ed25519` when not set.",
    "LAMPLIGHTER_NOTES": "Where a machine notes what it saw of stores; below `~/.local/state` when not set.",
    "LAMPLIGHTER_COMMANDS": "The file of commands that `cmd:NAME` names; `~/.config/lamplighter/commands`.",
    "LAMPLIGHTER_CRASH": "Only in fault tests: where a process kills itself.",
}
"""Every environment variable the program reads; a test compares this with the code."""


def reference(commands: Mapping[str, Any], files: Mapping[str, type[BaseModel]]) -> dict[str, str]:
    """Path below `docs/` to text.

    Args:
        commands: of the command line, by name, as typer builds them: with `help` and `params`.
        files: of a site's folder, by name, with the model each is checked against.
    """
    pages = {"commands.md": commands_page(commands), "settings.md": settings_page(files)}
    return {name: HEAD + text.rstrip() + "\n" for name, text in pages.items()}


def commands_page(commands: Mapping[str, Any]) -> str:
    """Every command."""
    lines = ["# Commands", "", "Exit codes: 0 yes or done, 1 no, 2 it could not be told.", ""]
    for name, command in commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(_argument(one) if one.required else f"[{_argument(one)}]" for one in arguments)
        lines += [f"## lamplighter {name}", "", *(command.help or "").strip().splitlines(), ""]
        lines += ["```sh", f"lamplighter {name} {usage}".rstrip() + " [OPTIONS]", "```", ""]
        lines += cells(("", "default", "meaning"), map(_param, command.params)) if command.params else []
    return "\n".join(lines)


def _argument(one: Any) -> str:
    return str(one.metavar or one.name).upper()


def _param(one: Any) -> tuple[str, str, str]:
    said = str(getattr(one, "help", None) or "")
    if one.param_type_name == "argument":
        return f"`{_argument(one)}`", "required" if one.required else "", said
    names = ", ".join(f"`{each}`" for each in (*one.opts, *one.secondary_opts))
    plain = one.is_flag or one.default in (None, "", [], ())
    return names, "required" if one.required else "" if plain else f"`{one.default}`", said


# --- settings -------------------------------------------------------------------------------------


def settings_page(files: Mapping[str, type[BaseModel]]) -> str:
    """Every key of every file, and every environment variable."""
    lead = "A site is a folder in `inventories/`. `lamplighter check` tells every mistake in it."
    lines = ["# Settings", "", lead, ""]
    for name, model in files.items():
        lines += [f"## {name}", ""]
        rows = [(f"`{key}`", default, meaning) for key, default, meaning in keys(model)]
        lines += cells(("key", "default", "meaning"), rows)
    lines += ["## Environment", ""]
    lines += cells(("variable", "meaning"), [(f"`{name}`", text) for name, text in ENVIRONMENT.items()])
    return "\n".join(lines)


def keys(model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Every key of a model, as (path, default, meaning); `[]` stands for each of a list, `NAME` for a key."""
    schema = model.model_json_schema(by_alias=True)
    yield from _below(schema, schema, "")


def _below(here: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    required = here.get("required", ())
    for name, said in here.get("properties", {}).items():
        place = f"{path}.{name}" if path else name
        meaning = str(said.get("description") or _target(said, schema).get("description") or "")
        yield place, _default(said, required=name in required), " ".join(meaning.split())
        yield from _inside(said, schema, place)


def _inside(said: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[tuple[str, str, str]]:
    """The keys below a value: of a mapping, of each element, of what either may be."""
    for one in (said, *said.get("anyOf", ()), *said.get("allOf", ())):
        yield from _below(_target(one, schema), schema, place)
        if "items" in one:
            yield from _inside(one["items"], schema, f"{place}[]")
        for each in [*one.get("patternProperties", {}).values(), one.get("additionalProperties")]:
            if isinstance(each, dict):
                yield from _inside(each, schema, f"{place}.NAME")


def _target(said: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model that a value refers to; what a key says of itself is left out where that says the same."""
    found: Mapping[str, Any] = schema["$defs"][said["$ref"].rpartition("/")[2]] if "$ref" in said else {}
    return found


def _default(said: Mapping[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    value = said.get("default")
    return "" if value in (None, {}, []) or isinstance(value, dict) else f"`{value}`"
