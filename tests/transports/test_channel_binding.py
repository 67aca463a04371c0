"""What binds a login to its TLS connection, for certificates of every kind of signature."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from lamplighter.transports.channel_binding import server_end_point

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
PSS = padding.PSS(padding.MGF1(hashes.SHA512()), 32)


def certificate(key: object, algorithm: hashes.HashAlgorithm | None, **more: object) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dc1.corp.example")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=9))
    )
    return built.sign(key, algorithm, **more).public_bytes(Encoding.DER)


SHA256_OID, MD5_OID = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010104")
SHA1_OID, UNKNOWN_OID = bytes.fromhex("2a864886f70d010105"), bytes.fromhex("2a864886f70d01017f")
PLAIN = certificate(RSA, hashes.SHA256())


@pytest.mark.parametrize(("der", "used"), [
    (PLAIN, "sha256"),
    (certificate(RSA, hashes.SHA384()), "sha384"),
    (certificate(EC, hashes.SHA512()), "sha512"),
    (certificate(RSA, hashes.SHA512(), rsa_padding=PSS), "sha512"),
    (certificate(ed25519.Ed25519PrivateKey.generate(), None), "sha256"),
    (certificate(ed448.Ed448PrivateKey.generate(), None), "sha256"),
    (PLAIN.replace(SHA256_OID, MD5_OID), "sha256"),
    (PLAIN.replace(SHA256_OID, SHA1_OID), "sha256"),
    (PLAIN.replace(SHA256_OID, UNKNOWN_OID), "sha256"),
    (PLAIN[:40], "sha256"),
])
def test_the_binding_is_the_hash_of_the_certificate(der: bytes, used: str) -> None:
    assert server_end_point(der) == b"tls-server-end-point:" + hashlib.new(used, der).digest()
