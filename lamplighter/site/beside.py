"""Other inventories and Ansible's settings in a site's folder: Ansible reads them, here one file counts."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lamplighter.site.files import HOSTS, Files
from lamplighter.site.yaml import Source, parse_yaml

_LARGEST = 1024 * 1024
SETTINGS = "ansible.cfg"
_LOGIN = {
    "remote_user": "ansible_user", "remote_port": "ansible_port", "transport": "ansible_connection",
    "private_key_file": "ansible_ssh_private_key_file", "ssh_args": "lamplighter_ssh_jump",
    "ssh_common_args": "lamplighter_ssh_jump", "ssh_extra_args": "lamplighter_ssh_jump",
}
"""Settings of Ansible's that say how hosts are reached, and the variables that say it here."""
_YAML = {".yml", ".yaml", ".json"}
_TEXT = {"", ".ini", ".cfg"}
_SECTIONS = {"hosts", "children", "vars"}


def check_beside(files: Files, known: Collection[str]) -> None:
    """Note files of a site's folder that look like inventories and are not read.

    Args:
        files: with the report.
        known: names of the files that a site has.
    """
    read = files.folder / HOSTS
    for file in sorted(files.folder.iterdir()) if files.folder.is_dir() else ():
        named = file.name.startswith((".", "README")) or file.name.endswith("~") or file.name in known
        if file.name == SETTINGS and file.is_file():
            _check_settings(files, file)
        elif not named and file.is_file() and _looks_like_one(file) and file.resolve() != read.resolve():
            files.source(file.name).mistake(
                0,
                f"looks like another inventory, and only {HOSTS} is read: its hosts are in no run",
                f"move its hosts into {HOSTS}, or the file out of the folder",
            )


def _check_settings(files: Files, file: Path) -> None:
    """Ansible's own settings are not read; some of them say how hosts are reached."""
    try:
        lines = file.read_bytes()[:_LARGEST].decode("utf-8-sig", "replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        name = line.partition("=")[0].strip()
        if name in _LOGIN:
            files.remark(file.name, number,
                         f"`{name}` is not read; see that `{_LOGIN[name]}` in the inventory says the same")


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
    return _is_yaml_inventory(text) if ending in _YAML else _is_ini_inventory(text)


def _is_ini_inventory(text: str) -> bool:
    """Sections with hosts in them: lines that begin with a name and not with a setting (`name = value`)."""
    section, hosts = "", 0
    for words in filter(None, (line.split() for line in text.splitlines())):
        if words[0].startswith(("#", ";")):
            continue
        if words[0].startswith("["):
            section = words[0]
        elif "=" in words[0] or any(word.startswith("=") for word in words[1:2]):
            if not section.endswith(":vars]"):
                return False
        else:
            hosts += 1
    return bool(section and hosts)


def _is_yaml_inventory(text: str) -> bool:
    root = parse_yaml(text, Source("", []), needed=False)
    if root is None or root.mapping is None:
        return False
    groups = (node.mapping for node in root.mapping.values() if node.mapping)
    return "plugin" in root.mapping or any(group.keys() <= _SECTIONS for group in groups)
