"""Where this machine gets its packages from: suite, mirror, components, keyring, proxy.

The lab names no mirror of its own. It reads the machine's apt configuration, in both of the
formats apt knows, so that it works behind a company mirror as well as at home.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<comps>.*)$"
)


@dataclass(frozen=True)
class AptSource:
    """One place packages come from: a mirror, a suite in it, and who signs it."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: Path | None


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Read the machine's os-release.

    Args:
        path: the file to read.

    Returns:
        Its keys and unquoted values.

    Raises:
        LabError: if it is missing (then this is no machine the lab can copy).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LabError(f"cannot read {path}: the lab needs a Debian or Ubuntu machine") from error
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {key: value.strip("\"'") for key, value in pairs}


def find_source(etc: Path = Path("/etc/apt"), release: dict[str, str] | None = None) -> AptSource:
    """Find the source of this machine's own suite.

    Args:
        etc: apt's configuration folder.
        release: what os_release() says.

    Returns:
        The first enabled source of binary packages for that suite, with a keyring.

    Raises:
        LabError: if there is none.
    """
    release = os_release() if release is None else release
    suite = release.get("VERSION_CODENAME", "")
    names = {suite, "stable"} if release.get("ID") == "debian" else {suite}
    for source in _all_sources(etc):
        if source.suite in names and source.components and "main" in source.components:
            keyring = source.keyring or _distribution_keyring(release.get("ID", ""))
            return AptSource(_resolve_mirror(source.uri), suite, source.components, keyring)
    raise LabError(f"no apt source for {suite or 'this system'} in {etc}: add one (any mirror) and try again")


def proxy_environment() -> dict[str, str]:
    """Tell other downloaders of apt's proxy.

    Returns:
        A variable http_proxy, if apt has one, else nothing.
    """
    shell = subprocess.run(
        ["apt-config", "shell", "proxy", "Acquire::http::Proxy"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    match = re.match(r"proxy='([^']+)'", shell)
    if match is None or match.group(1) == "DIRECT" or "http_proxy" in os.environ:
        return {}
    return {"http_proxy": match.group(1)}


def _all_sources(etc: Path) -> Iterator[AptSource]:
    parts = etc / "sources.list.d"
    for path in [etc / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from _from_lines(path.read_text(encoding="utf-8"))
    for path in sorted(parts.glob("*.sources")):
        yield from _from_stanzas(path.read_text(encoding="utf-8"))


def _from_lines(text: str) -> Iterator[AptSource]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match is not None:
            options = dict(item.split("=", 1) for item in (match["options"] or "").split() if "=" in item)
            yield AptSource(
                match["uri"],
                match["suite"],
                tuple(match["comps"].split()),
                _keyring(options.get("signed-by")),
            )


def _from_stanzas(text: str) -> Iterator[AptSource]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", lines):
        folded = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {
            key.strip().lower(): value.strip()
            for key, _, value in (line.partition(":") for line in folded.splitlines())
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield AptSource(uri, suite, components, _keyring(fields.get("signed-by")))


def _keyring(value: str | None) -> Path | None:
    """Take a Signed-By that names a file; a key written inline or a fingerprint is not one."""
    path = Path(value.split()[0].split(",")[0]) if value and value.startswith("/") else None
    return path if path is not None and path.is_file() else None


def _distribution_keyring(distribution: str) -> Path | None:
    path = Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    return path if path.is_file() else None


def _resolve_mirror(uri: str) -> str:
    """Follow apt's mirror+file: method, as cloud images use it, to its first mirror."""
    if not uri.startswith("mirror+file:"):
        return uri
    listing = Path(uri.removeprefix("mirror+file:").replace("//", "/"))
    first = next(
        (line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()), ""
    )
    if not first:
        raise LabError(f"apt's mirror list {listing} is empty")
    return first
