"""Other inventories in a site's folder: `ansible-inventory -i FOLDER` reads all, here one counts."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from lamplighter.site.files import HOSTS, Files
from lamplighter.site.yaml import Source, parse_yaml

_LARGEST = 1024 * 1024
_YAML = {".yml", ".yaml", ".json"}
_TEXT = {"", ".ini", ".cfg"}
_INI = re.compile(
    r"(?:[ \t]*(?:[#;].*)?\n|[\w.\[\]:-]+(?:[ \t]+[\w.-]+=.*)?\n)*[ \t]*\[[\w.-]+(?::children|:vars)?\]"
)
_SECTIONS = {"hosts", "children", "vars"}


def check_beside(files: Files, known: Collection[str]) -> None:
    """Note files of a site's folder that look like inventories and are not read.

    Args:
        files: with the report.
        known: names of the files that a site has.
    """
    for file in sorted(files.folder.iterdir()) if files.folder.is_dir() else ():
        named = file.name.startswith((".", "README")) or file.name.endswith("~") or file.name in known
        if not named and file.is_file() and _looks_like_one(file):
            files.source(file.name).mistake(
                0,
                f"looks like another inventory, and only {HOSTS} is read: its hosts are in no run",
                f"move its hosts into {HOSTS}, or the file out of the folder",
            )


def _looks_like_one(file: Path) -> bool:
    ending = file.suffix
    if ending not in _YAML | _TEXT and not file.name.startswith(("hosts.", "inventory.")):
        return False
    try:
        data = file.read_bytes()[:_LARGEST]
    except OSError:
        return False
    text = data.decode("utf-8-sig", "replace")
    if file.stem in {"hosts", "inventory"} and (ending not in _YAML or text.startswith("#!")):
        return True
    return _is_yaml_inventory(text) if ending in _YAML else bool(_INI.match(text))


def _is_yaml_inventory(text: str) -> bool:
    root = parse_yaml(text, Source("", []), needed=False)
    if root is None or root.mapping is None:
        return False
    groups = (node.mapping for node in root.mapping.values() if node.mapping)
    return "plugin" in root.mapping or any(group.keys() <= _SECTIONS for group in groups)
