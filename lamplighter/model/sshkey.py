"""Public keys in SSH wire format, and what a signature by one of them looks like.

Sources: RFC 4251 section 5 (string, mpint), RFC 4253 section 6.6 (ssh-rsa), RFC 5656 section 3.1 (ECDSA),
RFC 8332 section 3 (rsa-sha2), RFC 8709 section 4 (Ed25519), OpenSSH's PROTOCOL.u2f (security keys).

Reading is strict: every byte is accounted for, numbers have their shortest spelling, points lie on their
curve. Certificates, DSA and RSA below 2048 bits are refused: an approver is a person with a plain key.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from lamplighter.errors import MalformedError

MAX_BLOB = 4096
"""Largest key or signature blob read, in bytes; RSA-16384 fits."""
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16384
USER_PRESENT, USER_VERIFIED = 0x01, 0x04
"""Flag bits of a security key's answer: it was touched; its PIN or fingerprint was checked (WebAuthn 6.1)."""

_CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512(),
}
_ED25519, _SK_ED25519 = "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
_RSA, _SK_ECDSA = "ssh-rsa", "sk-ecdsa-sha2-nistp256@openssh.com"
_ECDSA = {f"ecdsa-sha2-{curve}": curve for curve in _CURVES}
KEY_TYPES = (_ED25519, *_ECDSA, _RSA, _SK_ED25519, _SK_ECDSA)

_Native = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Reader:
    """Takes RFC 4251 values off the front of a byte string; refuses to read past its end."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            raise MalformedError(f"{self._what} ends too early")
        self._at += count
        return piece

    def uint32(self) -> int:
        """The next number."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """The next length-prefixed byte string."""
        return self.take(self.uint32())

    def text(self) -> str:
        """The next string, as printable ASCII."""
        raw = self.string()
        if not raw.isascii() or not raw.decode("ascii").isprintable():
            raise MalformedError(f"{self._what} holds a name that is not printable ASCII")
        return raw.decode("ascii")

    def mpint(self) -> int:
        """The next multiple-precision integer: positive, in its shortest spelling (RFC 4251 section 5)."""
        raw = self.string()
        if not raw or raw[0] & 0x80 or (raw[0] == 0 and (len(raw) == 1 or not raw[1] & 0x80)):
            raise MalformedError(f"{self._what} holds a number that is not positive and minimal")
        return int.from_bytes(raw, "big")

    def end(self) -> None:
        """Nothing may follow."""
        if self._at != len(self._data):
            raise MalformedError(f"{self._what} has {len(self._data) - self._at} bytes after its end")


def wire(*parts: bytes) -> bytes:
    """Each part as an RFC 4251 string, joined."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A plain or security-key (`sk-`) public key; equal when the blobs are.

    Attributes:
        type: `ssh-ed25519` and so on, one of `KEY_TYPES`.
        blob: the wire format, as base64-decoded from a `.pub` file.
        application: of a security key, for example `ssh:`; empty otherwise.
    """

    type: str = field(compare=False)
    blob: bytes
    application: str = field(compare=False)
    native: _Native = field(compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """`SHA256:...`, as `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def is_security_key(self) -> bool:
        """True when the private half lives in a FIDO authenticator."""
        return self.type in (_SK_ED25519, _SK_ECDSA)


@dataclass(frozen=True, slots=True)
class RawSignature:
    """A signature blob, taken apart.

    Attributes:
        algorithm: `ssh-ed25519`, `rsa-sha2-512` ...
        value: what the `cryptography` library verifies: 64 bytes, DER, or a PKCS#1 integer.
        flags, counter: a security key's; 0 otherwise.
    """

    algorithm: str
    value: bytes
    flags: int = 0
    counter: int = 0

    @property
    def user_present(self) -> bool:
        """The security key was touched."""
        return bool(self.flags & USER_PRESENT)

    @property
    def user_verified(self) -> bool:
        """The security key checked a PIN or a fingerprint."""
        return bool(self.flags & USER_VERIFIED)


def read_key(blob: bytes) -> PublicKey:
    """Parse a public key blob.

    Raises:
        MalformedError: a certificate, an unsupported or weak key, or bytes that are no key.
    """
    if len(blob) > MAX_BLOB:
        raise MalformedError(f"a public key of {len(blob)} bytes is more than the {MAX_BLOB} allowed")
    reader = Reader(blob, "the public key")
    kind = reader.text()
    if kind.endswith(("-cert-v00@openssh.com", "-cert-v01@openssh.com")):
        raise MalformedError("certificates are refused: only plain and sk- keys sign approvals")
    if kind not in KEY_TYPES:
        raise MalformedError(f"key type {kind[:64]!r} is not supported")
    native = _native(kind, reader)
    application = reader.text() if kind in (_SK_ED25519, _SK_ECDSA) else ""
    reader.end()
    if kind in (_SK_ED25519, _SK_ECDSA) and not application.startswith("ssh:"):
        raise MalformedError("the security key was made for something other than ssh")
    return PublicKey(kind, blob, application, native)


def read_signature(key: PublicKey, blob: bytes) -> RawSignature:
    """Take the signature blob of `key` apart.

    Raises:
        MalformedError: another key type's signature, SHA-1, a wrong length, trailing bytes.
    """
    if len(blob) > MAX_BLOB:
        raise MalformedError(f"a signature of {len(blob)} bytes is more than the {MAX_BLOB} allowed")
    reader = Reader(blob, "the signature")
    algorithm = reader.text()
    if algorithm not in (_RSA_HASHES if key.type == _RSA else (key.type,)):
        raise MalformedError(f"signature algorithm {algorithm[:64]!r} does not go with a {key.type} key")
    value, flags, counter = reader.string(), 0, 0
    if key.is_security_key:
        flags, counter = reader.take(1)[0], reader.uint32()
    reader.end()
    if isinstance(key.native, ec.EllipticCurvePublicKey):
        value = _der(value)
    elif isinstance(key.native, rsa.RSAPublicKey):
        value = _padded(value, (key.native.key_size + 7) // 8)
    elif len(value) != 64:  # noqa: PLR2004 - RFC 8709 section 6
        raise MalformedError(f"an Ed25519 signature has 64 bytes, not {len(value)}")
    return RawSignature(algorithm, value, flags, counter)


def verifies(key: PublicKey, signature: RawSignature, message: bytes) -> bool:
    """Tell whether `signature` is by `key` over `message`; a security key must also have been touched."""
    if key.is_security_key:
        if not signature.user_present:
            return False
        message = (
            hashlib.sha256(key.application.encode()).digest()
            + bytes((signature.flags,)) + signature.counter.to_bytes(4, "big")
            + hashlib.sha256(message).digest()
        )
    native = key.native
    try:
        if isinstance(native, ed25519.Ed25519PublicKey):
            native.verify(signature.value, message)
        elif isinstance(native, ec.EllipticCurvePublicKey):
            native.verify(signature.value, message, ec.ECDSA(_CURVES[_curve_name(key.type)][1]))
        else:
            native.verify(signature.value, message, padding.PKCS1v15(), _RSA_HASHES[signature.algorithm])
    except InvalidSignature:
        return False
    return True


def _native(kind: str, reader: Reader) -> _Native:
    try:
        if kind in (_ED25519, _SK_ED25519):
            return ed25519.Ed25519PublicKey.from_public_bytes(reader.string())
        if kind == _RSA:
            return _rsa(reader.mpint(), reader.mpint())
        curve = reader.text()
        if curve != _curve_name(kind):
            raise MalformedError(f"a {kind} key on curve {curve[:32]!r}")
        point = reader.string()
        if point[:1] != b"\x04":
            raise MalformedError("the curve point is not in uncompressed form")
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve][0], point)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError(f"not a valid {kind} key") from error


def _rsa(exponent: int, modulus: int) -> rsa.RSAPublicKey:
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise MalformedError(
            f"an RSA key of {modulus.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted",
        )
    if exponent.bit_length() > 32:  # noqa: PLR2004 - every real exponent fits; larger ones only burn time
        raise MalformedError("the RSA exponent is larger than 32 bits")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _curve_name(kind: str) -> str:
    return _ECDSA.get(kind, "nistp256")


def _der(blob: bytes) -> bytes:
    reader = Reader(blob, "the ECDSA signature")
    pair = reader.mpint(), reader.mpint()
    reader.end()
    return encode_dss_signature(*pair)


def _padded(value: bytes, size: int) -> bytes:
    """Restore leading zeros that some agents strip, as OpenSSH does; a longer value is refused."""
    if not value or len(value) > size:
        raise MalformedError(f"an RSA signature of {len(value)} bytes for a key of {size}")
    return value.rjust(size, b"\x00")
