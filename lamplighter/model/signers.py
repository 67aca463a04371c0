"""Who may sign: an OpenSSH `allowed_signers` file, and the file of revoked keys.

The format is that of ssh-keygen(1), section ALLOWED SIGNERS, so that `ssh-keygen -Y verify` reads the
same file. What that format allows and an approvers file must not have is refused, with advice:

- patterns in the principal (`*@example.com`): an approver is a person;
- several principals for one key: whoever holds it could count as several people;
- certificate authorities and certificates: approvals rest on keys that internal IT has listed one by one;
- times without `Z`: they would mean another moment on a machine in another time zone.

Revoked keys are listed as public keys or as `SHA256:` fingerprints, one a line, which `ssh-keygen -Y
verify -r` reads as well as long as they are public keys. Binary KRLs are refused: nobody can review them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from lamplighter.errors import MalformedError, Mistake
from lamplighter.model.sshkey import KEY_TYPES, PublicKey, read_key

MAX_FILE = 1024 * 1024
"""Largest approvers or revoked file read, in characters."""

_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_TIME = re.compile(r"[0-9]{8}(?:[0-9]{4}(?:[0-9]{2})?)?")
_TIME_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+'&@-]{0,253}")
_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"\\]*)")?(?:,|$)')


@dataclass(frozen=True, slots=True)
class Signer:
    """One line of the approvers file.

    Attributes:
        principal: the person's id.
        key: the public key.
        namespaces: patterns of namespaces it may sign in; empty means any.
        valid_after, valid_before: first and last second of validity, seconds since the epoch; 0 is no bound.
        line: where it stands, 1-based.
    """

    principal: str
    key: PublicKey
    namespaces: tuple[str, ...] = ()
    valid_after: int = 0
    valid_before: int = 0
    line: int = 0

    def signs_in(self, namespace: str) -> bool:
        """Tell whether the key is listed for `namespace`."""
        return not self.namespaces or _in_patterns(namespace, self.namespaces)

    def valid_at(self, when: float) -> bool:
        """Tell whether the key is valid at `when`, both bounds included, as OpenSSH has it."""
        return when >= self.valid_after and (not self.valid_before or when <= self.valid_before)


@dataclass(frozen=True, slots=True)
class Revoked:
    """Keys that no longer count, by `SHA256:` fingerprint."""

    fingerprints: frozenset[str] = frozenset()

    def __contains__(self, key: PublicKey) -> bool:
        return bool(self.fingerprints) and key.fingerprint in self.fingerprints


@dataclass(frozen=True, slots=True)
class Signers:
    """Everybody who may sign, by key."""

    by_key: Mapping[bytes, tuple[Signer, ...]] = field(default_factory=dict)

    def of(self, key: PublicKey) -> tuple[Signer, ...]:
        """The lines that list `key`; all name the same person."""
        return self.by_key.get(key.blob, ())

    @property
    def principals(self) -> frozenset[str]:
        """Everybody with a key."""
        return frozenset(signer.principal for signers in self.by_key.values() for signer in signers)

    def able(self, namespaces: Collection[str], revoked: Revoked) -> frozenset[str]:
        """Everybody with a key, not revoked, that is listed for one of `namespaces`."""
        return frozenset(
            signer.principal
            for signers in self.by_key.values()
            for signer in signers
            if any(map(signer.signs_in, namespaces)) and signer.key not in revoked
        )


def parse_signers(text: str, file: str) -> tuple[Signers, tuple[Mistake, ...]]:
    """Read an approvers file, and list every mistake in it.

    Args:
        text: the file's contents.
        file: its name, for the mistakes.

    Returns:
        The lines without a mistake, and all mistakes. A caller refuses the site when there are any.
    """
    found: list[Signer] = []
    mistakes: list[Mistake] = []
    for number, line in _lines(text, file, mistakes):
        try:
            found.append(_signer(line, number))
        except MalformedError as error:
            mistakes.append(Mistake(file, number, error.message, error.advice))
    by_key: dict[bytes, list[Signer]] = {}
    for signer in found:
        by_key.setdefault(signer.key.blob, []).append(signer)
    for shared in [lines for lines in by_key.values() if len({one.principal for one in lines}) > 1]:
        del by_key[shared[0].key.blob]
        mistakes.extend(
            Mistake(file, one.line, f"the key is listed for {shared[0].principal} as well",
                    "a key belongs to one person; give everybody a key of their own")
            for one in shared if one.principal != shared[0].principal
        )
    return Signers({blob: tuple(lines) for blob, lines in by_key.items()}), tuple(sorted(mistakes))


def parse_revoked(text: str, file: str) -> tuple[Revoked, tuple[Mistake, ...]]:
    """Read a file of revoked keys: a public key or a `SHA256:` fingerprint a line.

    Returns:
        The revoked keys, and all mistakes. A caller refuses the site when there are any: a line that
        cannot be read may be the one that matters.
    """
    if text.startswith("SSHKRL"):
        return Revoked(), (Mistake(file, 0, "a binary key revocation list cannot be reviewed",
                                   "list public keys or SHA256: fingerprints, one a line"),)
    fingerprints: set[str] = set()
    mistakes: list[Mistake] = []
    for number, line in _lines(text, file, mistakes):
        words = _words(line)
        try:
            known = _FINGERPRINT.fullmatch(words[0])
            fingerprints.add(words[0] if known else _key(words).fingerprint)
        except MalformedError as error:
            mistakes.append(Mistake(file, number, error.message, "write a public key or SHA256:fingerprint"))
    return Revoked(frozenset(fingerprints)), tuple(sorted(mistakes))


def read_public(line: str) -> PublicKey:
    """Read the text of a `.pub` file: type, base64, comment.

    Raises:
        MalformedError: not one plain public key.
    """
    return _key(_words(line))


def _lines(text: str, file: str, mistakes: list[Mistake]) -> list[tuple[int, str]]:
    if len(text) > MAX_FILE:
        mistakes.append(Mistake(file, 0, f"{len(text)} characters are more than the {MAX_FILE} allowed"))
        return []
    numbered = ((number, line.strip(" \t\r")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _words(line: str) -> list[str]:
    return re.split(r"[ \t]+", line.strip(" \t\r\n"))


def _signer(line: str, number: int) -> Signer:
    principal, _, rest = line.replace("\t", " ").partition(" ")
    principal = principal.removeprefix('"').removesuffix('"')
    _check_principal(principal)
    options: dict[str, str] = {}
    rest = rest.lstrip(" ")
    if rest.partition(" ")[0] not in KEY_TYPES and not _looks_like_key(rest):
        head, rest = _split_options(rest)
        options = _options(head)
    names = tuple(options["namespaces"].split(",")) if "namespaces" in options else ()
    after, before = (_time(name, options[name]) if name in options else 0
                     for name in ("valid-after", "valid-before"))
    if after and before and before <= after:
        raise MalformedError("valid-before is not after valid-after: the key is never valid")
    return Signer(principal, _key(_words(rest)), names, after, before, number)


def _check_principal(principal: str) -> None:
    if any(mark in principal for mark in "*?!"):
        raise MalformedError(f"the principal {principal[:80]!r} is a pattern",
                             advice="an approver is a person: write one address, and a line for each person")
    if "," in principal:
        raise MalformedError(f"the key is listed for several people: {principal[:80]}",
                             advice="a key belongs to one person; give everybody a key of their own")
    if not _PRINCIPAL.fullmatch(principal):
        raise MalformedError(f"{principal[:80]!r} is not a person's id",
                             advice="write person@domain, a space, and the public key")


def _looks_like_key(rest: str) -> bool:
    """An unknown type followed by a blob, so that the message is about the type and not about options."""
    kind, _, blob = rest.partition(" ")
    return "=" not in kind and "," not in kind and blob.startswith("AAAA") and kind != "cert-authority"


def _split_options(text: str) -> tuple[str, str]:
    quoted = False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            return text[:at], text[at:].lstrip(" ")
    if quoted:
        raise MalformedError("a quotation mark is not closed")
    raise MalformedError("the line holds no public key", advice="write: principal [options] type base64")


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _OPTION.match(text, at)
        if not match:
            raise MalformedError(f"the options {text[:80]!r} cannot be read",
                                 advice='write name="value",name="value": quotes, and no spaces')
        name = match[1].lower()
        if name == "cert-authority":
            raise MalformedError("certificate authorities are refused", advice="list each approver's own key")
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise MalformedError(f"option {name[:40]!r} is not one of namespaces, valid-after, valid-before")
        if name in options:
            raise MalformedError(f"option {name} stands twice")
        options[name] = match[2] or ""
        if not options[name]:
            raise MalformedError(f"option {name} has no value")
        at = match.end()
    if text.endswith(","):
        raise MalformedError("the options end in a comma")
    return options


def _time(name: str, text: str) -> int:
    digits = text.removesuffix("Z")
    if not _TIME.fullmatch(digits):
        raise MalformedError(f"{name}={text[:40]!r} is not a time", advice="write YYYYMMDD[HHMM[SS]]Z")
    if digits == text:
        raise MalformedError(f"{name}={text} has no time zone", advice=f"write {text}Z, which is UTC")
    try:
        when = datetime.strptime(digits, _TIME_FORMATS[len(digits)]).replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedError(f"{name}={text} is no day of the calendar") from error
    seconds = int(when.timestamp())
    if seconds <= 0:
        raise MalformedError(f"{name}={text} lies before 1970")
    return seconds


def _key(words: list[str]) -> PublicKey:
    if len(words) < 2:  # noqa: PLR2004 - type and base64
        raise MalformedError("the line holds no public key", advice="write: principal [options] type base64")
    kind, text = words[0], words[1]
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("the public key is not valid base64") from error
    key = read_key(blob)
    if key.type != kind:
        raise MalformedError(f"the line says {kind[:40]!r}, and the key is of type {key.type}")
    return key


def _in_patterns(name: str, patterns: tuple[str, ...]) -> bool:
    """OpenSSH's pattern-list (ssh_config(5), PATTERNS): a negated match wins, at least one must match."""
    matching = [one for one in patterns if fnmatchcase(name, one.removeprefix("!").replace("[", "[[]"))]
    return bool(matching) and not any(one.startswith("!") for one in matching)
