"""A certificate authority for the lab: made where it runs, never kept."""

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


class Ca:
    """A CA with its certificate in a folder.

    Args:
        folder: exists; `ca.pem` is written there.
        name: of the CA.
    """

    def __init__(self, folder: Path, name: str = "Lab CA") -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        extensions = [
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False),
            (_usage(key_cert_sign=True, crl_sign=True), True),
        ]
        self.pem = self._sign(self._name, self._key.public_key(), extensions, 3650)
        self.path = folder / "ca.pem"
        self.path.write_bytes(self.pem)

    def issue(self, *names: str, days: int = 90, file: str = "server") -> tuple[Path, Path]:
        """Certify a server.

        Args:
            names: DNS names and IP addresses it carries.
            days: until it expires; negative for one that has expired.
            file: its files are `file.pem` and `file.key`.

        Returns:
            The paths of the certificate and of its key.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [
            (x509.SubjectAlternativeName([_general(name) for name in names]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ]
        certificate, secret = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        certificate.write_bytes(self._sign(_name(names[0]), key.public_key(), extensions, days))
        secret.touch(mode=0o600)
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        extensions: list[tuple[x509.ExtensionType, bool]],
        days: int,
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * _DAY)
            .not_valid_after(now + days * _DAY)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=crl_sign, encipher_only=False,
        decipher_only=False,
    )
