"""`group_vars/` and `host_vars/` beside `hosts.yaml`, as Ansible's `host_group_vars` plugin reads them.

For a name, the first of these that exists counts: the name itself, then with `.yml`, `.yaml`, `.json`. A
folder is read to its bottom, its files in the order of their names, later ones winning: those without an
ending or with one of these; folders whose names have an ending, hidden names, and those that end in `~`, are
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lamplighter.errors import Mistake
from lamplighter.model.canonical import Json
from lamplighter.model.selection import closest
from lamplighter.site.vars import check_vars
from lamplighter.site.yaml import Source, parse_yaml, read_text

GROUPS, HOSTS = "group_vars", "host_vars"
FOLDERS = (GROUPS, HOSTS)
_ENDINGS = ("", ".yml", ".yaml", ".json")
_NEAR = 0.7
"""How much alike two names are of which one is a slip of the pen."""
_VAULT = "$ANSIBLE_VAULT"
_DEEPEST = 8
"""Levels of folders; a link into its own parent would have no end."""


def var_files(folder: Path) -> Iterator[Path]:
    """Every file that may hold variables of a site, sorted.

    Args:
        folder: the site's.
    """
    for name in FOLDERS:
        yield from _below(folder / name, 0)


def _below(path: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(path.iterdir()) if path.is_dir() and depth < _DEEPEST else []
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _below(entry, depth + 1)
        else:
            yield entry


class VarFiles:
    """The two folders of a site.

    Args:
        folder: the site's.
        report: takes the mistakes.
    """

    def __init__(self, folder: Path, report: list[Mistake]) -> None:
        self._folder, self._report = folder, report
        self._names = {name: self._listed(name) for name in FOLDERS}

    def _listed(self, name: str) -> frozenset[str]:
        path = self._folder / name
        try:
            return frozenset(each.name for each in path.iterdir()) if path.is_dir() else frozenset()
        except OSError as error:
            self._report.append(
                Mistake(
                    str(path), 0, f"cannot be read: {error.strerror}", "make it readable for this account"
                )
            )
            return frozenset()

    def strays(self, known: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str, str]]:
        """Files that belong to nothing, and what they may be meant for: folder, name, the name that is near.

        Args:
            known: groups and hosts by their names, by folder. Ansible passes over such files, and so does
                this where no name is near.
        """
        for folder, names in self._names.items():
            for name in sorted(names):
                stem = next((name[: -len(end)] for end in _ENDINGS[1:] if name.endswith(end)), name)
                if name.startswith(".") or name.endswith("~") or {stem, name} & known[folder].keys():
                    continue
                close = closest(stem, known[folder], cutoff=_NEAR)
                if close:
                    yield folder, name, close

    def of_group(self, name: str) -> dict[str, Json]:
        """What the files of a group say."""
        return self._read(GROUPS, name, f"the group `{name}`")

    def of_host(self, name: str) -> dict[str, Json]:
        """What the files of a host say."""
        return self._read(HOSTS, name, f"the host `{name}`")

    def _read(self, below: str, name: str, owner: str) -> dict[str, Json]:
        values: dict[str, Json] = {}
        for file in self._files(below, name):
            values |= self._values(file, owner, of_group=below == GROUPS)
        return values

    def _files(self, below: str, name: str) -> Iterator[Path]:
        first = next((name + ending for ending in _ENDINGS if name + ending in self._names[below]), "")
        path = self._folder / below / first
        if first and path.is_dir():
            yield from self._in_folder(path, 0)
        elif first:
            yield path

    def _in_folder(self, path: Path, depth: int) -> Iterator[Path]:
        if depth >= _DEEPEST:
            self._report.append(
                Mistake(str(path), 0, f"lies deeper than {_DEEPEST} folders", "make it flatter")
            )
            return
        for entry in sorted(path.iterdir(), key=lambda each: each.name):
            if entry.name.startswith(".") or entry.name.endswith("~"):
                continue
            if entry.is_dir():
                if not entry.suffix:
                    yield from self._in_folder(entry, depth + 1)
            elif entry.suffix in _ENDINGS:
                yield entry

    def _values(self, file: Path, owner: str, *, of_group: bool) -> dict[str, Json]:
        source = Source(str(file), self._report)
        text = read_text(file, source)
        if text is None or not text.strip():
            return {}
        if text.startswith(_VAULT):
            source.mistake(
                1,
                f"is encrypted by Ansible Vault and cannot be read here: it may hold an account or an "
                f"address of {owner}",
                "keep secrets elsewhere and name them (env:, file:, cmd:), and "
                "what else is in it in a plain file",
            )
            return {}
        root = parse_yaml(text, source, needed=False)
        if root is None or root.value is None:
            return {}
        if root.mapping is None:
            source.mistake(
                root.line, f"must be a mapping of variables, not {root.kind}", "write `name: value` a line"
            )
            return {}
        return check_vars(root, source, owner, of_group=of_group)
