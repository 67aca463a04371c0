"""Bases of roots: one minimal Debian per suite, bootstrapped once and kept in the user's cache."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab.aptsource import find_source, os_release, proxy_environment
from tests.lab.cache import kept_file
from tests.lab.system import require, run

INCLUDE = ("ca-certificates", "gpgv", "procps", "init-system-helpers", "perl-base")
_BUILD_SECONDS = 900
_UNWANTED = ("var/lib/apt/lists", "var/cache/apt", "usr/share/man", "usr/share/doc", "usr/share/locale")
_EMPTY = ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial")


def suites() -> tuple[str, ...]:
    """The suites of which a base can be made here: three generations of apt where the mirror is Debian's."""
    own = find_source().suite
    if os_release().get("ID") != "debian":
        return (own,)
    return tuple(dict.fromkeys((own, "bullseye", "bookworm", "trixie")))


def ensure_root_base(suite: str) -> Path:
    """Get a suite's base, bootstrapping it first if there is none yet (about a minute, once).

    Returns:
        Its root file system, never to be written to; no sources and no lists in it.

    Raises:
        LabError: if rights or programs are missing, or the bootstrap fails.
    """
    source = find_source()

    def build(scratch: Path) -> Path:
        require(["debootstrap", "setpriv", "unshare"])
        root = scratch / "root"
        options = ["--variant=minbase", f"--include={','.join(INCLUDE)}"]
        options += [f"--keyring={source.keyring}"] if source.keyring else []
        spaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
        run(["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "debootstrap", *options, suite, root,
             source.uri], timeout=_BUILD_SECONDS, env=proxy_environment())
        for name in _UNWANTED:
            shutil.rmtree(root / name, ignore_errors=True)
        for name in _EMPTY:
            (root / name).mkdir(parents=True)
        (root / "etc/apt/sources.list").unlink(missing_ok=True)
        root.chmod(0o755)
        return root

    return kept_file(f"root-{suite}", (suite, INCLUDE, _UNWANTED), build)
