"""Archives and packages of a root's host, in whatever state a case needs: any field, any date, any key."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from tests.lab.roots import Root
from tests.lab.system import run

ARCHITECTURES = ("amd64", "i386")
KEYS = ("archive", "other", "old")
"""The host trusts the first, knows nothing of the second; the third has expired."""


class Keys:
    """Signing keys, made where they are used, gone with their folder.

    Args:
        home: a folder with a short path for gpg.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in KEYS:
            past = ["--faked-system-time", "20240101T000000"] if name == "old" else []
            self._gpg(*past, "--quick-gen-key", f"{name} <{name}@example.test>", "ed25519", "sign",
                      "90d" if past else "never")
            self._gpg("--yes", "--output", str(self.public(name)), "--export", f"{name}@example.test")

    def public(self, name: str) -> Path:
        """The public half, as apt's Signed-By takes it."""
        return self._home / f"{name}.public"

    def clearsign(self, name: str, source: Path, target: Path) -> None:
        """Sign a Release file with a key."""
        past = ["--faked-system-time", "20240115T000000"] if name == "old" else []
        who = ["-u", f"{name}@example.test"]
        self._gpg(*past, "--yes", *who, "--output", str(target), "--clearsign", str(source))

    def close(self) -> None:
        """Stop gpg's agent and delete the keys."""
        run(["gpgconf", "--homedir", self._home, "--kill", "gpg-agent"])
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str) -> None:
        run(["gpg", "--batch", "--quiet", "--homedir", self._home, "--passphrase", "", *arguments])


@dataclass
class Deb:
    """A package to build: name, version, further control fields, files (path to text), scripts, conffiles."""

    name: str
    version: str
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    conffiles: Mapping[str, str] = field(default_factory=dict)

    def build(self, into: Path) -> Path:
        """Build it.

        Returns:
            The .deb, in the folder.
        """
        architecture = self.fields.get("Architecture", "all")
        bare = self.version.rpartition(":")[2]
        target = into / f"{self.name}_{bare}_{architecture}.deb"
        tree = into / f".{target.name}.d"
        (tree / "DEBIAN").mkdir(parents=True)
        control = {"Package": self.name, "Version": self.version, "Architecture": "all",
                   "Maintainer": "Site <site@example.test>", **self.fields, "Description": self.name}
        text = "".join(f"{key}: {value}\n" for key, value in control.items())
        (tree / "DEBIAN/control").write_text(text, encoding="utf-8")
        files = {f"/usr/share/{self.name}/version": self.version, **self.files, **self.conffiles}
        for path, content in files.items():
            place = tree / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"{content}\n", encoding="utf-8")
        if self.conffiles:
            listed = "".join(f"{one}\n" for one in self.conffiles)
            (tree / "DEBIAN/conffiles").write_text(listed, encoding="utf-8")
        for name, script in self.scripts.items():
            (tree / "DEBIAN" / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (tree / "DEBIAN" / name).chmod(0o755)
        run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, target])
        shutil.rmtree(tree)
        return target


@dataclass
class Archive:
    """One archive of a host: where it lies, its suite, what its Release file says, who signs it.

    Attributes:
        root: the host.
        name: its folder under /srv/apt.
        fields: of the Release file; an empty value leaves one out.
        days: how long ago its index was made; negative: it is from the future.
        key: who signs it; empty: nobody.
    """

    root: Root
    name: str
    suite: str
    fields: Mapping[str, str]
    days: float = 0.0
    key: str = "archive"

    @property
    def top(self) -> Path:
        """Its folder, seen from outside the host."""
        return self.root.files / "srv/apt" / self.name

    def _ftparchive(self, *arguments: str) -> str:
        top = self.root.path / "srv/apt" / self.name
        script = 'cd "$1" && shift && exec apt-ftparchive "$@"'
        return self.root.tool("sh", "-c", script, "sh", str(top), *arguments)

    def add(self, deb: Deb, component: str = "main") -> None:
        """Offer a package, beside what is there."""
        pool = self.top / "pool" / self.suite / component
        pool.mkdir(parents=True, exist_ok=True)
        deb.build(pool)

    def withdraw(self, name: str, version: str) -> None:
        """Offer a version no longer."""
        for deb in self.top.glob(f"pool/{self.suite}/*/{name}_{version}_*.deb"):
            deb.unlink()

    def publish(self, keys: Keys) -> None:
        """Write the index anew, and sign it."""
        pool, release = self.top / "pool" / self.suite, self.top / "dists" / self.suite
        shutil.rmtree(release, ignore_errors=True)
        components = sorted(one.name for one in pool.iterdir()) if pool.is_dir() else ["main"]
        for component in components:
            (pool / component).mkdir(parents=True, exist_ok=True)
            for architecture in ARCHITECTURES:
                folder = release / component / f"binary-{architecture}"
                folder.mkdir(parents=True)
                listed = self._ftparchive(
                    "--arch", architecture, "packages", f"pool/{self.suite}/{component}")
                (folder / "Packages").write_text(listed, encoding="utf-8")
        made = datetime.now(UTC) - timedelta(days=self.days)
        said = {"Codename": self.suite, "Components": " ".join(components),
                "Architectures": " ".join(ARCHITECTURES),
                "Date": format_datetime(made, usegmt=True).replace("GMT", "UTC"), **self.fields}
        sums = self._ftparchive("release", f"dists/{self.suite}").split("\nMD5Sum:", 1)[1]
        text = "".join(f"{key}: {value}\n" for key, value in said.items() if value)
        (release / "Release").write_text(f"{text}MD5Sum:{sums}", encoding="utf-8")
        if self.key:
            keys.clearsign(self.key, release / "Release", release / "InRelease")
