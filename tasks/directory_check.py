"""Whether the lines of a `directory.yaml` name somebody: `lamplighter check --here` asks the directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from lamplighter.errors import LamplighterError, Mistake, SiteError
from lamplighter.model.directory import Directory
from lamplighter.secrets import Resolve, resolve
from lamplighter.site.directory import DIRECTORY, DirectoryEntry, load_directory
from lamplighter.site.yaml import Source, read_yaml
from lamplighter.transports.ldap import LdapTransport
from tasks.active_directory import ActiveDirectory
from tasks.judging import nobody
from tasks.lines import Names, read_lines
from tasks.openldap import OpenLdap

_NOBODY = "00000000-0000-0000-0000-000000000000"
Place: TypeAlias = tuple[str | int, ...]


def directory_mistakes(folder: Path, resolver: Resolve = resolve) -> tuple[Mistake, ...]:
    """Every line that names nobody the service account can see.

    Args:
        folder: the site's; its files have no mistakes of their own.
        resolver: reads secrets.

    Raises:
        TransportError: the directory cannot be asked.
    """
    directory, path = load_directory(folder), folder / DIRECTORY
    root = read_yaml(path, Source(str(path), []))
    with LdapTransport(directory.settings, resolver) as transport, transport.connect() as session:
        found = tuple(_empty(directory.entry, session))
    return tuple(
        Mistake(str(path), root.line_of(place) if root else 0, nobody(str(place[0]), line).partition(":")[0],
                "correct it, or delete it; the service account must be able to see what it names")
        for place, line in found
    )


def _empty(rules: DirectoryEntry, session: Directory) -> Iterator[tuple[Place, str]]:
    names: Names = ActiveDirectory() if rules.kind == "active-directory" else OpenLdap()
    lists: tuple[tuple[Place, list[str]], ...] = (
        (("denied",), rules.denied), (("delegated",), rules.delegated),
        (("protected_groups",), rules.protected_groups), (("vip", "groups"), rules.vip.groups),
        (("expiring", "exclude"), rules.expiring.exclude),
        (("groups",), [rules.groups] if rules.groups else []),
        (("default_policy",), [rules.default_policy] if rules.default_policy else []),
    )
    for place, lines in lists:
        for number, line in enumerate(lines):
            if read_lines((line,), _NOBODY, names, session).empty:
                yield (*place, number), line


def asked(folder: Path) -> tuple[tuple[Mistake, ...], str]:
    """The mistakes, and why the directory could not be asked; neither without a usable directory.yaml."""
    if not (folder / DIRECTORY).exists():
        return (), ""
    try:
        return directory_mistakes(folder), ""
    except SiteError:
        return (), ""
    except LamplighterError as error:
        return (), f"the directory was not asked whom {DIRECTORY} names: {error}"
