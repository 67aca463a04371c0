"""Our own small Debian packages, each a folder under packages/ with @VERSION@ where it belongs.

A package is a folder: DEBIAN/control, maintainer scripts, files. Add a folder and it exists.
"""

import tempfile
from pathlib import Path

from tests.lab.system import run

PACKAGES = Path(__file__).with_name("packages")
SECURITY = frozenset({"lab-kernel", "lab-web"})
"""Packages whose updates come from the security archive; the others' come from the main one."""

OPTIONAL = frozenset({"lab-broken", "lab-slow"})
"""Packages a host has only if its spec asks for them, so that an ordinary host upgrades cleanly."""

BASELINE = "1.0"
"""The version every host starts with."""

UPDATED = "1.1"
"""The version that waits for the hosts unless somebody says otherwise."""

_EXECUTABLE = ("DEBIAN/p", "etc/init.d/", "usr/sbin/")
_EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


def names() -> tuple[str, ...]:
    """List the lab's packages.

    Returns:
        Their names, sorted.
    """
    return tuple(sorted(folder.name for folder in PACKAGES.iterdir() if (folder / "DEBIAN").is_dir()))


def build(name: str, version: str, into: Path) -> Path:
    """Build one package; the same bytes each time.

    Args:
        into: the folder for the .deb.

    Returns:
        The .deb.

    Raises:
        LabError: if there is no such package or dpkg-deb refuses it.
    """
    target = into / f"{name}_{version}_all.deb"
    with tempfile.TemporaryDirectory(prefix="lab-deb-", dir=into) as scratch:
        tree = Path(scratch) / name
        tree.mkdir(mode=0o755)
        _fill(PACKAGES / name, tree, version)
        finished = Path(scratch) / target.name
        run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, finished], env=_EPOCH)
        finished.replace(target)
    return target


def build_all(version: str, into: Path) -> list[Path]:
    """Build every package at one version.

    Args:
        into: the folder.

    Returns:
        The .debs.
    """
    into.mkdir(parents=True, exist_ok=True)
    return [build(name, version, into) for name in names()]


def _fill(source: Path, tree: Path, version: str) -> None:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        copy = tree / relative
        if path.is_dir():
            copy.mkdir()
            copy.chmod(0o755)
        elif path.is_file():
            copy.write_text(path.read_text(encoding="utf-8").replace("@VERSION@", version), encoding="utf-8")
            copy.chmod(0o755 if str(relative).startswith(_EXECUTABLE) and _is_script(copy) else 0o644)


def _is_script(path: Path) -> bool:
    return path.read_bytes()[:2] == b"#!"
