"""The base image: one bootstrapped Debian root that every lab host is an overlay of.

Built once per recipe (the packages it includes, files/image/, packages/, the machine's suite)
and kept in the user's cache. It is built beside its final place and moved there when it is complete, so an
interrupted build leaves nothing that could be taken for an image.
"""

import contextlib
import fcntl
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import debs
from tests.lab.aptsource import AptSource, find_source, proxy_environment
from tests.lab.cache import cache_folder, locked
from tests.lab.spec import OPSPW_PASSWORD
from tests.lab.system import require, run

INCLUDE = (
    "apt-utils",
    "ca-certificates",
    "cron",
    "dbus",
    "iproute2",
    "libpam-systemd",
    "less",
    "needrestart",
    "openssh-server",
    "procps",
    "python3-minimal",
    "sudo",
    "systemd-sysv",
    "tini",
)
_IMAGE = Path(__file__).with_name("files") / "image"
_REVISION = 1
"""To be raised when this file builds something else out of the same parts."""

_BUILD_SECONDS = 900
_REBOOT_NAMES = ("poweroff", "halt", "shutdown")


@dataclass(frozen=True)
class Base:
    """A finished image: root, the file system; debs, the lab packages built along with it."""

    folder: Path
    suite: str

    @property
    def root(self) -> Path:
        """The root file system, never to be written to."""
        return self.folder / "root"

    @property
    def debs(self) -> Path:
        """The lab packages at their first two versions."""
        return self.folder / "debs"

    @property
    def lock(self) -> Path:
        """A file that whoever uses the image holds a shared lock on, so that it is not pruned."""
        return self.folder / "in-use"


def ensure_base() -> Base:
    """Get the image, building it first if this recipe has none yet (about a minute, once).

    Returns:
        The finished image.

    Raises:
        LabError: if rights or programs are missing, or the bootstrap fails.
    """
    source = find_source()
    base = Base(cache_folder() / f"{source.suite}-{_recipe_hash(source)}", source.suite)
    if base.root.is_dir():
        return base
    require(["debootstrap", "dpkg-deb", "gcc", "setpriv", "unshare"])
    with locked(base.folder.parent / "build.lock"):
        if not base.root.is_dir():
            _clear_abandoned(base.folder.parent)
            _build(base, source)
            _prune(base)
    return base


def _recipe_hash(source: AptSource) -> str:
    digest = hashlib.sha256(repr((_REVISION, source.suite, INCLUDE, OPSPW_PASSWORD)).encode())
    for path in [*sorted(_IMAGE.rglob("*")), *sorted(debs.PACKAGES.rglob("*"))]:
        if path.is_file():
            digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _build(base: Base, source: AptSource) -> None:
    """Make the image in a scratch folder and move it to its place in one step."""
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=base.folder.parent))
    try:
        scratch.chmod(0o755)
        root = scratch / "root"
        _bootstrap(root, source, scratch.parent / "downloads")
        for version in (debs.BASELINE, debs.UPDATED):
            debs.build_all(version, scratch / "debs")
        _install_own_files(root, scratch / "debs")
        _isolated(["chroot", root, "/bin/sh", "/customise.sh", source.suite, OPSPW_PASSWORD])
        (root / "customise.sh").unlink()
        (scratch / base.lock.name).touch()
        scratch.rename(base.folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _bootstrap(root: Path, source: AptSource, downloads: Path) -> None:
    downloads.mkdir(exist_ok=True)
    options = [
        "--variant=minbase",
        f"--include={','.join(INCLUDE)}",
        f"--components={','.join(source.components)}",
        f"--cache-dir={downloads}",
    ]
    if source.keyring is not None:
        options.append(f"--keyring={source.keyring}")
    _isolated(["debootstrap", *options, source.suite, root, source.uri])


def _install_own_files(root: Path, built: Path) -> None:
    """Put in what customise.sh expects to find, and the programs of ours that stay."""
    (root / "usr/sbin/reboot").unlink(missing_ok=True)  # systemd's, a link that gcc would write through
    run(["gcc", "-O1", "-static", "-o", root / "usr/sbin/reboot", _IMAGE / "reboot.c"])
    for name in _REBOOT_NAMES:
        link = root / "usr/sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("reboot")
    for name, place in (("lab-rc", "usr/local/sbin/lab-rc"), ("customise.sh", "customise.sh")):
        shutil.copyfile(_IMAGE / name, root / place)
        (root / place).chmod(0o755)
    wanted = set(debs.names()) - debs.OPTIONAL
    (root / "lab-debs").mkdir()
    for name in wanted:
        deb = f"{name}_{debs.BASELINE}_all.deb"
        shutil.copyfile(built / deb, root / "lab-debs" / deb)


def _isolated(argv: list[str | Path]) -> None:
    """Run a build step in namespaces of its own: whatever it mounts or starts ends with it."""
    namespaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    run(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, *argv],
        timeout=_BUILD_SECONDS,
        env=proxy_environment(),
    )


def _clear_abandoned(folder: Path) -> None:
    """Remove what interrupted builds left. Only ever called with the build lock held."""
    for scratch in folder.glob("building-*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _prune(keep: Base) -> None:
    """Remove images of older recipes that no running estate uses."""
    for lock in keep.folder.parent.glob(f"*/{keep.lock.name}"):
        if lock.parent == keep.folder:
            continue
        with lock.open("r", encoding="utf-8") as file, contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
