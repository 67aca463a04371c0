"""The one key a login offers: read, decrypted and checked before anything is sent to a host."""

from __future__ import annotations

import base64
import io
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from paramiko.message import Message

from lamplighter.errors import AuthFailedError
from lamplighter.secrets import Resolve
from lamplighter.transports.ssh_settings import SshSettings

MIN_RSA_BITS = 2048
_MAX_BYTES = 64 * 1024
_UNSENT = "Nothing was sent to the host"


def load_key(settings: SshSettings, resolve: Resolve) -> paramiko.PKey:
    """Get the private key a host's settings name, with its certificate.

    Args:
        settings: `key`, `certificate`, `passphrase` and `agent` are used.
        resolve: reads the passphrase.

    Raises:
        AuthFailedError: no such key, others can read it, wrong passphrase, too weak, expired certificate.
    """
    if settings.agent:
        key = _from_agent(settings.key)
    elif settings.key is not None:
        key = _from_file(settings.key, settings.passphrase, resolve)
    else:
        raise _error("no private key is configured", "Set ansible_ssh_private_key_file")
    if settings.certificate is not None:
        _certify(key, settings.certificate)
    return key


def _from_file(path: Path, passphrase: str, resolve: Resolve) -> paramiko.PKey:
    data = _read_private(path)
    password = resolve(passphrase).reveal().encode() if passphrase else None
    try:
        return _convert(_parse(data, password))
    except UnsupportedAlgorithm:
        raise _error(f"{path} holds a key of an unsupported type", "Use ed25519, ecdsa or rsa") from None
    except (ValueError, TypeError):
        raise _error(_why_unreadable(path, data, passphrase), "Try it with: ssh-keygen -yf FILE") from None


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            data = file.read(_MAX_BYTES)
    except OSError as error:
        raise _error(f"the private key {path} cannot be read ({error.strerror})", "Check the path") from None
    if info.st_uid not in {0, os.geteuid()} or info.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise _error(f"others may read the private key {path}", f"Protect it: chmod 600 {path}")
    return data


def _parse(data: bytes, password: bytes | None) -> object:
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        return serialization.load_ssh_private_key(data, password)
    return serialization.load_pem_private_key(data, password)


def _convert(key: object) -> paramiko.PKey:
    """As paramiko holds it. It is handed over in memory, so that the slow decryption runs once."""
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise UnsupportedAlgorithm(type(key).__name__)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise _error(f"an RSA key of {key.key_size} bits is too short", f"Use {MIN_RSA_BITS}, or ed25519")
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    kinds: dict[type, type[paramiko.PKey]] = {
        rsa.RSAPrivateKey: paramiko.RSAKey,
        ed25519.Ed25519PrivateKey: paramiko.Ed25519Key,
        ec.EllipticCurvePrivateKey: paramiko.ECDSAKey,
    }
    kind = next(kinds[base] for base in kinds if isinstance(key, base))
    return kind.from_private_key(io.StringIO(text))


def _why_unreadable(path: Path, data: bytes, passphrase: str) -> str:
    encrypted = b"ENCRYPTED" in data or b"aes256-ctr" in _decoded(data)
    if encrypted and passphrase:
        return f"the passphrase does not open the private key {path}"
    if encrypted:
        return f"the private key {path} is encrypted, and lamplighter_ssh_passphrase is not set"
    if passphrase:
        return f"{path} is not an encrypted private key, but lamplighter_ssh_passphrase is set"
    return f"{path} is not a private key"


def _decoded(data: bytes) -> bytes:
    """The start of an OpenSSH private key, where the cipher's name stands (OpenSSH's PROTOCOL.key)."""
    body = b"".join(line for line in data.splitlines() if b"-----" not in line)
    try:
        return base64.b64decode(body[:80])
    except ValueError:
        return b""


class _AgentKey(paramiko.AgentKey):
    """A key in the agent, for many threads: the agent answers one question after the other."""

    def __init__(self, agent: paramiko.Agent, blob: bytes) -> None:
        super().__init__(agent, blob)
        self._lock = threading.Lock()
        self.close = agent.close

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Message:
        """Have the agent sign."""
        with self._lock:
            return super().sign_ssh_data(data, algorithm)


def put_away(key: paramiko.PKey) -> None:
    """Let go of the agent, if the key is the agent's."""
    if isinstance(key, _AgentKey):
        key.close()


def _from_agent(path: Path | None) -> paramiko.PKey:
    """The agent's key that belongs to `path`.pub, or its only key. Exactly one key is ever offered."""
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):
        raise _error("the SSH agent cannot be asked", "Check SSH_AUTH_SOCK of the worker's process") from None
    try:
        return _AgentKey(agent, _choose(agent.get_keys(), path))
    except BaseException:
        agent.close()
        raise


def _choose(keys: tuple[paramiko.AgentKey, ...], path: Path | None) -> bytes:
    """The public blob of the agent's key to use."""
    if path is None:
        if len(keys) == 1:
            return keys[0].blob
        raise _error(
            f"the SSH agent holds {len(keys)} keys, and it is not said which one to use",
            "Name it by ansible_ssh_private_key_file; only its .pub file has to exist",
        )
    public = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        blob = paramiko.pkey.PublicBlob.from_file(str(public)).key_blob
    except (OSError, ValueError):
        raise _error(f"{public} cannot be read", "It tells which of the agent's keys to use") from None
    if any(key.asbytes() == blob for key in keys):
        return blob
    raise _error(f"the SSH agent does not hold the key of {public}", "Add it: ssh-add FILE")


def _certify(key: paramiko.PKey, path: Path) -> None:
    """Attach an OpenSSH certificate (PROTOCOL.certkeys), if it is this key's, a user's, and valid now."""
    try:
        data = path.read_bytes()[:_MAX_BYTES]
        certificate = serialization.load_ssh_public_identity(data)
        if not isinstance(certificate, serialization.SSHCertificate):
            raise _error(f"{path} is not a certificate", "It usually ends in -cert.pub")
        public = certificate.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        if public.decode().split()[1] != key.get_base64():
            raise _error(f"the certificate {path} belongs to another key", "Have it issued for this key")
        if certificate.type is not serialization.SSHCertificateType.USER:
            raise _error(f"{path} is a host's certificate, not a user's", "Have a user certificate issued")
        if not certificate.valid_after <= time.time() < certificate.valid_before:
            raise _error(f"the certificate {path} is not valid now", "Have a new one issued")
        key.load_certificate(data.decode())
    except OSError as error:
        raise _error(f"the certificate {path} cannot be read ({error.strerror})", "Check the path") from None
    except (ValueError, UnsupportedAlgorithm):
        raise _error(f"{path} is not an OpenSSH certificate", "Look at it: ssh-keygen -Lf FILE") from None


def _error(message: str, advice: str) -> AuthFailedError:
    return AuthFailedError(message, changed=_UNSENT, advice=advice)
