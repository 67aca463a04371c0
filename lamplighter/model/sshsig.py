"""OpenSSH signatures (`ssh-keygen -Y sign`), parsed and verified in process.

The format is OpenSSH's PROTOCOL.sshsig: an armoured blob that carries the public key, a namespace, the
hash algorithm and the signature over a preamble with the hash of the message. The namespace keeps a
signature made for one purpose from being used for another. `tests/model/test_sshsig.py` compares this
module with `ssh-keygen -Y check-novalidate` case by case.

Stricter than OpenSSH where that costs an honest signer nothing: nothing before or after the armour, one
spelling of the base64, an empty reserved field, and a security key must have been touched (OpenSSH
checks the touch when logging in, not here).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from lamplighter.errors import MalformedError
from lamplighter.model.sshkey import PublicKey, RawSignature, Reader, read_key, read_signature, verifies, wire

MAX_ARMOUR = 12 * 1024
"""Largest armoured signature read, in characters; RSA-16384 takes about 5,700."""

_MAGIC = b"SSHSIG"
_VERSION = 1
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Signature:
    """A parsed signature. Parsed is not verified: ask `verify`.

    Attributes:
        key: the key that claims to have signed.
        namespace: what the signature is for.
        hash: `sha256` or `sha512`.
        raw: the signature proper; of a security key also whether it was touched and its PIN checked.
    """

    key: PublicKey
    namespace: str
    hash: str
    raw: RawSignature


def parse_signature(armoured: str) -> Signature:
    """Parse the text `ssh-keygen -Y sign` writes.

    Args:
        armoured: both marker lines and the base64 between them, lines ending in LF.

    Raises:
        MalformedError: not exactly one well-formed SSHSIG of version 1 by a supported key.
    """
    blob = dearmour(armoured)
    reader = Reader(blob, "the SSH signature")
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise MalformedError("not an SSH signature: the magic bytes are missing")
    version = reader.uint32()
    if version != _VERSION:
        raise MalformedError(f"SSH signature of version {version}; only {_VERSION} is known")
    key = read_key(reader.string())
    namespace = reader.text()
    if not namespace:
        raise MalformedError("the SSH signature names no namespace")
    if reader.string():
        raise MalformedError("the SSH signature uses its reserved field")
    hash_name = reader.text()
    if hash_name not in _HASHES:
        raise MalformedError(f"hash {hash_name[:32]!r} is not sha256 or sha512")
    raw = read_signature(key, reader.string())
    reader.end()
    return Signature(key, namespace, hash_name, raw)


def verify(signature: Signature, message: bytes) -> bool:
    """Tell whether the signature's key signed `message` under the signature's namespace.

    Says nothing about whose key it is, nor whether the namespace is the wanted one: the caller compares
    both.
    """
    return verifies(signature.key, signature.raw, preamble(signature.namespace, signature.hash, message))


def preamble(namespace: str, hash_name: str, message: bytes) -> bytes:
    """The bytes that are really signed (PROTOCOL.sshsig, "Signed data")."""
    hashed = _HASHES[hash_name](message).digest()
    return _MAGIC + wire(namespace.encode(), b"", hash_name.encode(), hashed)


def dearmour(text: str) -> bytes:
    """The bytes between the marker lines.

    Raises:
        MalformedError: missing markers, anything around them, other than strict base64, or too large.
    """
    if len(text) > MAX_ARMOUR:
        raise MalformedError(f"an SSH signature of {len(text)} characters is more than {MAX_ARMOUR}")
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:  # noqa: PLR2004 - two markers, and data
        raise MalformedError("not an armoured SSH signature")
    joined = "".join(lines[1:-1])
    try:
        blob = base64.b64decode(joined, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("the SSH signature is not valid base64") from error
    if base64.b64encode(blob).decode() != joined:
        raise MalformedError("the SSH signature's base64 has stray bits")
    return blob


def armour(blob: bytes) -> str:
    """The text form of a signature blob, wrapped at 70 columns like OpenSSH's, with a final newline."""
    data = base64.b64encode(blob).decode()
    lines = [data[start : start + 70] for start in range(0, len(data), 70)]
    return "\n".join((_BEGIN, *lines, _END, ""))
