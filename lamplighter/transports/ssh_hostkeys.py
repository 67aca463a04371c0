"""Pinned host keys: which key a host must present, read from an OpenSSH `known_hosts` file.

The format is sshd(8), section "SSH_KNOWN_HOSTS FILE FORMAT". Host certificates (`@cert-authority`) are not
supported: Lamplighter pins each host's own key, so that one stolen authority cannot stand for every host.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from lamplighter.errors import HostKeyError, Mistake, SiteError

ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),  # RFC 8332: the key type, signed with SHA-2
}
"""Key type to the host key algorithms that prove it, best first."""

_MAX_BYTES = 32 * 1024 * 1024
_SCAN = (
    "Have internal IT confirm the fingerprint on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A host's public key: its type, and its blob as RFC 4253 6.6 writes it."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"

    def __str__(self) -> str:
        return f"{self.fingerprint} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Pins:
    """What is known of one host.

    Attributes:
        host: the name asked for, for messages.
        keys: any one of them is accepted.
        revoked: none of them is, whatever `keys` says.
        authority: a `@cert-authority` line matches the host.
        file: where all this was read.
    """

    host: str
    keys: tuple[PublicKey, ...] = ()
    revoked: tuple[PublicKey, ...] = ()
    authority: bool = False
    file: str = "known_hosts"

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Host key algorithms to ask the server for: those of the pinned keys, or all when none is pinned."""
        kinds = [key.kind for key in self.keys] or list(ALGORITHMS)
        return tuple(dict.fromkeys(name for kind in ALGORITHMS if kind in kinds for name in ALGORITHMS[kind]))

    def check(self, presented: PublicKey) -> None:
        """Accept the key a host presented, or say why not.

        Raises:
            HostKeyError: it is revoked, not the pinned one, or nothing is pinned.
        """
        if presented in self.revoked:
            raise self._error(f"the host presents a revoked key, {presented}", "Treat it as compromised")
        if presented in self.keys:
            return
        if self.keys:
            pinned = ", ".join(map(str, self.keys))
            raise self._error(
                f"the host's key changed: pinned is {pinned}, presented was {presented}",
                f"If the host was reinstalled, replace its line in {self.file}; if not, somebody may be in "
                f"the middle: stop and ask. {_SCAN}",
            )
        if self.authority:
            raise self._error(
                f"only a @cert-authority line of {self.file} matches the host, which presents {presented}",
                f"Host certificates are not supported; pin the host's own key. {_SCAN}",
            )
        raise self._error(
            f"no key is pinned for the host, which presents {presented}",
            f"{_SCAN}, then add it to {self.file}",
        )

    def mismatch(self) -> HostKeyError:
        """The host has no key of a pinned type, so it presented none that could be compared."""
        pinned = ", ".join(map(str, self.keys)) or "any of today's types"
        return self._error(
            f"the host offers no key of the pinned type; pinned is {pinned}",
            f"If the host was reinstalled, replace its line in {self.file}. {_SCAN}",
        )

    def unproven(self) -> HostKeyError:
        """The host presented a key and could not sign with it."""
        return self._error(
            "the host does not own the key it presents", "Somebody may be in the middle: stop and ask"
        )

    def _error(self, message: str, advice: str) -> HostKeyError:
        return HostKeyError(
            message, where=self.host, changed="Nothing but the key exchange was sent", advice=advice
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    marker: str
    key: PublicKey | None


@dataclass(slots=True)
class KnownHosts:
    """A parsed `known_hosts` file; read once, then only looked up, by any thread."""

    file: str
    _plain: dict[str, list[_Entry]] = field(default_factory=lambda: defaultdict(list))
    _patterns: list[tuple[tuple[str, ...], _Entry]] = field(default_factory=list)
    _hashed: list[tuple[bytes, bytes, _Entry]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> KnownHosts:
        """Read the file.

        Raises:
            SiteError: it cannot be read, or holds lines that are no host keys; all of them are listed.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            mistake = Mistake(str(path), 0, f"cannot be read ({error.strerror})", "pin host keys there")
            raise SiteError((mistake,)) from None
        if len(data) > _MAX_BYTES:
            raise SiteError((Mistake(str(path), 0, f"is larger than {_MAX_BYTES} bytes"),))
        known = cls(str(path))
        mistakes = []
        for number, line in enumerate(data.decode("utf-8-sig", "replace").split("\n"), 1):
            try:
                known._add(line.strip())
            except ValueError as error:
                mistakes.append(Mistake(str(path), number, str(error)))
        if mistakes:
            raise SiteError(tuple(mistakes))
        return known

    def pins(self, host: str, names: Iterable[str], port: int) -> Pins:
        """What is known of a host under any of its names.

        Args:
            host: its inventory name, for messages.
            names: its address and inventory name; with a port other than 22 looked up as `[name]:port`.
            port: where its SSH server listens.
        """
        keys: dict[PublicKey, None] = {}
        revoked: dict[PublicKey, None] = {}
        authority = False
        for name in dict.fromkeys(names):
            lowered = name.lower()
            for entry in self._lookup(lowered if port == 22 else f"[{lowered}]:{port}"):  # noqa: PLR2004 - RFC 4253 4.1
                if entry.marker == "@cert-authority":
                    authority = True
                elif entry.key is not None:
                    (revoked if entry.marker == "@revoked" else keys)[entry.key] = None
        return Pins(host, tuple(keys), tuple(revoked), authority, self.file)

    def _lookup(self, name: str) -> Iterable[_Entry]:
        yield from self._plain.get(name, ())
        for patterns, entry in self._patterns:
            if _matches(name, patterns):
                yield entry
        for salt, digest, entry in self._hashed:
            if hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest):
                yield entry

    def _add(self, line: str) -> None:
        if not line or line.startswith("#"):
            return
        fields = line.split()
        marker = fields.pop(0) if line.startswith("@") else ""
        if marker not in {"", "@revoked", "@cert-authority"}:
            raise ValueError(f"{marker[:30]!r} is not a marker OpenSSH knows")
        if len(fields) < 3:  # noqa: PLR2004 - names, type, key
            raise ValueError("is not `names type key`")
        entry = _Entry(marker, _key(fields[1], fields[2]))
        names = tuple(fields[0].lower().split(",")) if not fields[0].startswith("|") else (fields[0],)
        if names[0].startswith("|1|"):
            self._hashed.append((*_hash(names[0]), entry))
        elif any(character in name for name in names for character in "*?!"):
            self._patterns.append((names, entry))
        else:
            for name in names:
                self._plain[name].append(entry)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    """`ssh_config(5)`, PATTERNS: `*`, `?`, and `!` which excludes. `[` is no wildcard there."""
    escaped = [pattern.replace("[", "[[]") for pattern in patterns]
    if any(fnmatch.fnmatchcase(name, pattern[1:]) for pattern in escaped if pattern.startswith("!")):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in escaped if not pattern.startswith("!"))


def _key(kind: str, text: str) -> PublicKey | None:
    """The key, or None for a type that is not negotiated (DSA, security keys): such a line pins nothing."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the key is not base64") from None
    name = kind.encode()
    if blob[: 4 + len(name)] != len(name).to_bytes(4, "big") + name:
        raise ValueError(f"the key is not of the type {kind[:40]!r} that the line names")
    return PublicKey(kind, blob) if kind in ALGORITHMS else None


def _hash(name: str) -> tuple[bytes, bytes]:
    """Salt and digest of a hashed name, `|1|salt|HMAC-SHA1(salt, name)`."""
    try:
        _, _, salt, digest = name.split("|")
        return base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the hashed name is not |1|salt|hash") from None
