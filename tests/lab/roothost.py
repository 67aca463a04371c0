"""Hosts as people configure them, made of a case file: the usual host, and what somebody did to it.

The usual host has `webd` 1.0 with a fix 1.1 in its security archive, and `toolbox` 1.0 with an ordinary
update 1.1 in its main one. A case adds packages, changes archives, writes files and runs commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.rootarchive import Archive, Deb, Keys
from tests.lab.rootbase import ensure_root_base
from tests.lab.roots import Root

KEYRING = "/usr/share/keyrings/site.gpg"
VERSIONS = {"bullseye": "11", "bookworm": "12", "trixie": "13"}
_SERVER = Path(__file__).with_name("odd_server.py")
Given = Mapping[str, Any]


def usual_layer(suite: str, folder: Path, keys: Keys) -> list[Path]:
    """Make the usual host of a suite.

    Returns:
        The layers it consists of, the uppermost first.
    """
    base = ensure_root_base(suite)
    with Root([base], folder) as root:
        (root.files / KEYRING.lstrip("/")).write_bytes(keys.public("archive").read_bytes())
        (root.files / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
        _install(root, {"webd": "1.0", "toolbox": "1.0"})
        main, security = _usual(root, suite)
        for name, version in (("webd", "1.0"), ("toolbox", "1.0"), ("toolbox", "1.1")):
            main.add(Deb(name, version))
        security.add(Deb("webd", "1.1"))
        main.publish(keys)
        security.publish(keys)
        stanzas = [f"Types: deb\nURIs: file:/srv/apt/{name}\nSuites: {of}\nComponents: main\n"
                   f"Signed-By: {KEYRING}\n" for name, of in (("main", suite), ("security", security.suite))]
        place = root.files / "etc/apt/sources.list.d/debian.sources"
        place.write_text("\n".join(stanzas), encoding="utf-8")
    return [root.layer, base]


def _usual(root: Root, suite: str) -> tuple[Archive, Archive]:
    version = VERSIONS.get(suite, "1")
    return (
        Archive(root, "main", suite, {
            "Origin": "Debian", "Label": "Debian", "Suite": "stable", "Version": version}),
        Archive(root, "security", f"{suite}-security", {
            "Origin": "Debian", "Label": "Debian-Security", "Suite": "stable-security", "Version": version}))


@contextmanager
def case_host(case: Given, layers: list[Path], folder: Path, keys: Keys) -> Iterator[Root]:
    """The host of a case, entered.

    Args:
        case: `have`, `offer`, `withdraw`, `archives`, `files`, `run`, `outside`, `serve`, `refreshed`: see
            tests/cases/apt/roots/README.md.
        layers: of the usual host.
        folder: an empty folder.
        keys: as the usual host was made with.
    """
    serve = "".join(
        f'{sys.executable} "{_SERVER}" {port} {answer} "$root/srv/apt" </dev/null >/dev/null 2>&1 &\n'
        for port, answer in case.get("serve", {}).items())
    wait = "sleep 0.5\n" if serve else ""
    with Root(layers, folder, f"{case.get('outside', '')}\n{serve}{wait}") as root:
        _do(case, root, keys)
        yield root


def _do(case: Given, root: Root, keys: Keys) -> None:
    suite = case.get("suite", "bookworm")
    if case.get("refreshed"):
        root.run("apt-get update")
    _install(root, case.get("have", {}))
    for one in _archives(case, root, suite):
        one.publish(keys)
    for path, text in case.get("files", {}).items():
        place = root.files / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text.replace("{keyring}", KEYRING).replace("{suite}", suite), encoding="utf-8")
        place.chmod(0o755 if text.startswith("#!") else 0o644)
    if "run" in case:
        done = root.run(case["run"].replace("{suite}", suite).replace("{keyring}", KEYRING))
        assert done.exit_code == 0, done


def _archives(case: Given, root: Root, suite: str) -> list[Archive]:
    """The archives a case changes, with what it offers and withdraws."""
    archives = dict(zip(("main", "security"), _usual(root, suite), strict=True))
    touched: dict[str, Archive] = {}
    for name, said in case.get("archives", {}).items():
        one = archives.get(name)
        if one is None or "suite" in said:
            one = Archive(root, said.get("in", name), said.get("suite", suite).format(suite=suite), {})
        fields = {key: str(value).format(suite=suite) for key, value in said.get("fields", {}).items()}
        one.fields = {**one.fields, **fields}
        one.days, one.key = said.get("days", 0), said.get("key", "archive")
        archives[name] = touched[name] = one
    for where, debs in case.get("offer", {}).items():
        name, _, component = where.partition("/")
        touched[name] = archives[name]
        for deb in _debs(debs):
            archives[name].add(deb, component or "main")
    for where, gone in case.get("withdraw", {}).items():
        touched[where] = archives[where]
        for name, version in gone.items():
            archives[where].withdraw(name, version)
    return list(touched.values())


def _debs(said: Mapping[str, Any]) -> Iterator[Deb]:
    """`{webd: "1.1"}`, or `{webd: {version: "1.1", Depends: libx, conffiles: {...}, scripts: {...}}}`."""
    for name, what in said.items():
        more = dict(what) if isinstance(what, Mapping) else {"version": what}
        version = more.pop("version")
        parts = {part: more.pop(part, {}) for part in ("files", "scripts", "conffiles")}
        yield Deb(name, version, more, **parts)


def _install(root: Root, packages: Mapping[str, Any]) -> None:
    if not packages:
        return
    folder = root.files / "tmp/debs"
    folder.mkdir()
    for deb in _debs(packages):
        deb.build(folder)
    done = root.run("dpkg --force-depends -i /tmp/debs/*.deb && rm -r /tmp/debs")
    assert done.exit_code == 0, done
