"""A signed apt repository pair a host updates from: a main archive and a security archive.

Both are laid out and labelled like Debian's own, so `apt-get -s upgrade` shows where an update
comes from: `Inst lab-web [1.0] (1.1 Debian-Security:12/stable-security [all])`.
"""

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from tests.lab import debs
from tests.lab.errors import LabError
from tests.lab.system import run


@dataclass(frozen=True)
class _Archive:
    """One of the two archives, as its Release file describes it."""

    name: str
    label: str
    suffix: str

    def release_options(self, codename: str, architecture: str) -> list[str]:
        fields = {
            "Origin": "Debian",
            "Label": self.label,
            "Suite": f"stable{self.suffix}",
            "Codename": f"{codename}{self.suffix}",
            "Version": "12",
            "Architectures": architecture,
            "Components": "main",
        }
        return [
            part
            for key, value in fields.items()
            for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")
        ]


_ARCHIVES = (_Archive("main", "Debian", ""), _Archive("security", "Debian-Security", "-security"))


class SigningKey:
    """The key repositories are signed with: made where it is used, gone with its folder.

    Args:
        home: a folder for gpg of its own, with a short path (gpg's agent listens in it).
        env: what to add to the environment of gpg and its agent.

    Raises:
        LabError: if gpg cannot make a key.
    """

    def __init__(self, home: Path, env: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._env = env
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._gpg("--quick-gen-key", "Lamplighter lab archive <lab@example.test>", "ed25519", "sign", "never")
        self.rest()

    def export(self, target: Path) -> None:
        """Write the public half, for apt's Signed-By."""
        self._gpg("--yes", "--output", str(target), "--export")

    def clearsign(self, source: Path, target: Path) -> None:
        """Sign a Release file.

        Args:
            source: the file.
            target: the InRelease to write.
        """
        self._gpg("--yes", "--output", str(target), "--clearsign", str(source))

    def rest(self) -> None:
        """Stop gpg's agent; the next signature starts it again."""
        with contextlib.suppress(LabError):
            run(["gpgconf", "--homedir", self._home, "--kill", "gpg-agent"])

    def close(self) -> None:
        """Stop gpg's agent and delete the key."""
        self.rest()
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str) -> None:
        run(
            ["gpg", "--batch", "--quiet", "--homedir", self._home, "--passphrase", "", *arguments],
            env=self._env,
        )


class Repo:
    """What one or more hosts see as their package mirror.

    Args:
        root: its folder (hosts see it read-only).
        key: what signs it.
        suite: the codename.
        prebuilt: a folder with packages that need not be built again.
        status: dpkg's status file of the hosts: the main archive then lists what they have, as a real one
            does, though the files are not to be had.
    """

    def __init__(
        self, root: Path, key: SigningKey, suite: str, prebuilt: Path | None = None,
        status: Path | None = None,
    ) -> None:
        self.root = root
        self._key = key
        self._suite = suite
        self._prebuilt = prebuilt
        self._listed = _as_offered(status.read_text(encoding="utf-8")) if status else ""
        self.days_old = 0
        """How old its indexes say they are, from the next time it is published."""
        self._serial = itertools.count(1)
        self._architecture = run(["dpkg", "--print-architecture"]).strip()
        for archive in _ARCHIVES:
            (root / archive.name / "pool").mkdir(parents=True, exist_ok=True)

    def publish(self, version: str = debs.UPDATED, packages: Iterable[str] | None = None) -> None:
        """Offer packages at a version, next to what is already there, and sign the index anew.

        Args:
            packages: their names; None is all of the lab's, an empty list only signs anew.

        Raises:
            LabError: if there is no such package.
        """
        for name in debs.names() if packages is None else packages:
            if name not in debs.names():
                raise LabError(f"there is no lab package {name!r}: there are {', '.join(debs.names())}")
            self._add(name, version)
        self._index()

    def withdraw(self, package: str, version: str) -> None:
        """Take a version away, file and index entry, as mirrors do without asking.

        Raises:
            LabError: if it was not published.
        """
        deb = self._pool(package) / f"{package}_{version}_all.deb"
        if not deb.exists():
            raise LabError(
                f"{package} {version} is not published: there is {', '.join(self.versions(package))}"
            )
        deb.unlink()
        self._index()

    def versions(self, package: str) -> tuple[str, ...]:
        """List what is offered.

        Returns:
            Its versions, sorted as text.
        """
        return tuple(sorted(deb.name.split("_")[1] for deb in self._pool(package).glob(f"{package}_*.deb")))

    def _pool(self, package: str) -> Path:
        return self.root / ("security" if package in debs.SECURITY else "main") / "pool"

    def _add(self, name: str, version: str) -> None:
        pool = self._pool(name)
        ready = self._prebuilt / f"{name}_{version}_all.deb" if self._prebuilt else None
        if ready is not None and ready.exists():
            shutil.copyfile(ready, pool / ready.name)
        else:
            debs.build(name, version, pool)

    def _index(self) -> None:
        """Write both archives' indexes, each put in place in one step."""
        serial = next(self._serial)
        for archive in _ARCHIVES:
            top = self.root / archive.name
            dists = top / f".dists-{serial}"
            suite = dists / f"{self._suite}{archive.suffix}"
            binary = suite / "main" / f"binary-{self._architecture}"
            binary.mkdir(parents=True)
            listed = run(["apt-ftparchive", "packages", "pool"], cwd=top)
            (binary / "Packages").write_text(
                listed + (self._listed if archive.name == "main" else ""), encoding="utf-8")
            options = archive.release_options(self._suite, self._architecture)
            if self.days_old:
                made = datetime.now(UTC) - timedelta(days=self.days_old)
                said = format_datetime(made, usegmt=True).replace("GMT", "UTC")
                options += ["-o", f"APT::FTPArchive::Release::Date={said}"]
            release = suite / "Release"
            release.write_text(run(["apt-ftparchive", *options, "release", suite]), encoding="utf-8")
            self._key.clearsign(release, suite / "InRelease")
            _switch(top / "dists", dists)
        self._key.rest()


def _as_offered(status: str) -> str:
    """Stanzas of a package index for what a host has, its own packages of the lab left out."""
    ours, stanzas = set(debs.names()), list[str]()
    for stanza in status.split("\n\n"):
        name = re.match(r"Package: (\S+)", stanza)
        if name and name[1] not in ours and "\nStatus: install ok installed\n" in stanza:
            kept = re.sub(r"(?m)^(Status|Conffiles|Config-Version):.*\n(?: .*\n)*", "", f"{stanza}\n")
            stanzas.append(f"{kept}Filename: pool/{name[1]}.deb\nSize: 1\nSHA256: {'0' * 64}\n\n")
    return "".join(stanzas)


def _switch(link: Path, target: Path) -> None:
    """Point link at target, and drop what it pointed at before."""
    before = link.resolve() if link.is_symlink() else None
    fresh = link.with_name(".dists-next")
    fresh.symlink_to(target.name)
    fresh.replace(link)
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)
