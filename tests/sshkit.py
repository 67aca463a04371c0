"""Keys and SSH signatures made from the specifications, apart from the code under test.

Security keys are simulated: the key lives in a variable, and the answer an authenticator would give is
built as PROTOCOL.u2f says. `ssh-keygen` verifies what comes out (tests/model/test_sshsig.py).
"""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PLAIN = ("ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048")
SECURITY = ("sk-ed25519", "sk-ecdsa")
TOUCHED = 0x01
TOUCHED_AND_PIN = 0x05

_HASH = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
_CURVE = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


def armour(blob: bytes) -> str:
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join(("-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""))


@dataclass
class Pair:
    """A key pair of `PLAIN` or `SECURITY` kind, with the knobs that hostile signers turn."""

    kind: str = "ed25519"
    application: bytes = b"ssh:"
    private: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.private is not None:
            return
        if "ed25519" in self.kind:
            self.private = ed25519.Ed25519PrivateKey.generate()
        elif self.kind.startswith("rsa"):
            self.private = rsa.generate_private_key(65537, int(self.kind.split("-")[1]))
        else:
            self.private = ec.generate_private_key(_CURVE[self.bits])

    @property
    def bits(self) -> int:
        return 256 if self.kind == "sk-ecdsa" else int(self.kind.split("-")[1])

    @property
    def type(self) -> bytes:
        return {
            "ed25519": b"ssh-ed25519", "sk-ed25519": b"sk-ssh-ed25519@openssh.com",
            "sk-ecdsa": b"sk-ecdsa-sha2-nistp256@openssh.com", "ecdsa-256": b"ecdsa-sha2-nistp256",
            "ecdsa-384": b"ecdsa-sha2-nistp384", "ecdsa-521": b"ecdsa-sha2-nistp521",
        }.get(self.kind, b"ssh-rsa")

    @property
    def blob(self) -> bytes:
        public = self.private.public_key()
        if "ed25519" in self.kind:
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            body = string(raw)
        elif self.kind.startswith("rsa"):
            numbers = public.public_numbers()
            body = mpint(numbers.e) + mpint(numbers.n)
        else:
            point = public.public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
            body = string(b"nistp%d" % self.bits) + string(point)
        return string(self.type) + body + (string(self.application) if self.kind in SECURITY else b"")

    @property
    def public_line(self) -> str:
        return f"{self.type.decode()} {base64.b64encode(self.blob).decode()}"

    def raw_signature(self, message: bytes, flags: int = TOUCHED, algorithm: bytes = b"") -> bytes:
        """The innermost signature blob over the preamble."""
        if self.kind in SECURITY:
            tail = struct.pack(">BI", flags, 7)
            message = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(message).digest()
            return string(self.type) + string(self._sign(message)) + tail
        algorithm = algorithm or (b"rsa-sha2-512" if self.type == b"ssh-rsa" else self.type)
        return string(algorithm) + string(self._sign(message, algorithm))

    def _sign(self, message: bytes, algorithm: bytes = b"") -> bytes:
        if "ed25519" in self.kind:
            signature: bytes = self.private.sign(message)
            return signature
        if self.kind.startswith("rsa"):
            used = {b"ssh-rsa": hashes.SHA1(), b"rsa-sha2-256": hashes.SHA256()}  # noqa: S303 - must be refused
            return bytes(self.private.sign(message, padding.PKCS1v15(), used.get(algorithm, hashes.SHA512())))
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(_HASH[self.bits])))
        return mpint(r) + mpint(s)

    def signature(
        self, message: bytes, namespace: str, *, hash_name: str = "sha512", flags: int = TOUCHED,
        algorithm: bytes = b"", version: int = 1, reserved: bytes = b"", magic: bytes = b"SSHSIG",
        tail: bytes = b"", key: bytes = b"",
    ) -> bytes:
        """The blob of PROTOCOL.sshsig; each keyword departs from it in one way."""
        made = hashlib.new(hash_name if hash_name in ("sha256", "sha512") else "sha512", message).digest()
        name, algo = namespace.encode(), hash_name.encode()
        signed = b"SSHSIG" + string(name) + string(b"") + string(algo) + string(made)
        inner = self.raw_signature(signed, flags, algorithm)
        return (
            magic + struct.pack(">I", version) + string(key or self.blob) + string(name) + string(reserved)
            + string(algo) + string(inner) + tail
        )

    def sign(self, message: bytes, namespace: str, **odd: Any) -> str:
        return armour(self.signature(message, namespace, **odd))

    def write(self, path: Path) -> Path:
        """The private half as ssh-keygen reads it, and the public half beside it."""
        path.write_bytes(self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ))
        path.chmod(0o600)
        path.with_suffix(".pub").write_text(self.public_line + "\n")
        return path


def keygen(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=30,
    )


def openssh_accepts(folder: Path, armoured: str, message: bytes, namespace: str) -> bool:
    """What `ssh-keygen -Y check-novalidate` says."""
    file = folder / "check.sig"
    file.write_text(armoured)
    return keygen("-Y", "check-novalidate", "-n", namespace, "-s", file, stdin=message).returncode == 0
