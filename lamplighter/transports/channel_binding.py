"""What binds a login to the TLS connection it is made over."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

_WEAK = frozenset({"md5", "sha1"})


def server_end_point(certificate: bytes) -> bytes:
    """The `tls-server-end-point` binding (RFC 5929 4.1) of a server's certificate.

    The hash is that of the certificate's signature; SHA-256 in place of MD5 and SHA-1, and where it has none
    that is known here. A server that sees it otherwise refuses the login.

    Args:
        certificate: DER.
    """
    try:
        used = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError):
        used = None
    digest = hashes.Hash(hashes.SHA256() if used is None or used.name in _WEAK else used)
    digest.update(certificate)
    return b"tls-server-end-point:" + digest.finalize()
