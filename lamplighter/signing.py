"""Signs statements with the approver's own key, through `ssh-keygen -Y sign`.

OpenSSH does the signing, so every key it can use can be used: files with or without a passphrase, keys in
an agent (name the `.pub` file), and hardware keys, which ask for a touch or a PIN. The private key is never
read here. What came back is verified before it is given out.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamplighter.errors import MalformedError, SigningError
from lamplighter.model.approval import NAMESPACE, Decision, Statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from lamplighter.model.signers import Signers
from lamplighter.model.sshsig import parse_signature, verify

DEADLINE = 120.0
"""Seconds for a passphrase to be typed or a key to be touched."""
DEFAULT_VALID_FOR = 24 * 3600


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to say of a plan.

    Attributes:
        approver: their id.
        decision: see `Decision`.
        reason: one line for the record.
        valid_for: seconds until an approval expires.
        revokes: in a revoke, the one approval it takes back; empty for all.
    """

    approver: str
    decision: Decision = Decision.APPROVE
    reason: str = ""
    valid_for: int = DEFAULT_VALID_FOR
    revokes: str = ""


def approve_line(plan_bytes: bytes, wish: Wish, key: Path, now: int) -> str:
    """Sign a decision on a plan.

    Args:
        plan_bytes: the canonical bytes of the plan, read by the caller before.
        wish: who decides what.
        key: a private key, or the public half of one in the agent.
        now: seconds since the epoch.

    Returns:
        The line to store or paste.

    Raises:
        SigningError: no signature was made.
        MalformedError: the wish makes no valid statement: a reason too long, an id with strange characters.
    """
    statement = Statement(
        sha256(plan_bytes), wish.decision, wish.approver, now, now + wish.valid_for, secrets.token_hex(16),
        wish.reason, wish.revokes,
    )
    return sign_line(statement.to_bytes(), key, NAMESPACE)


def sign_line(statement: bytes, key: Path, namespace: str) -> str:
    """Sign canonical bytes and put both into one line.

    Raises:
        SigningError: no signature was made.
    """
    return Envelope(statement, sign_statement(statement, key, namespace)).to_line()


def sign_statement(
    statement: bytes, key: Path, namespace: str, *, deadline: float = DEADLINE, program: str = "ssh-keygen",
) -> str:
    """Sign bytes and return the armoured signature.

    Args:
        statement: what to sign.
        key: a private key, or the public half of one in the agent.
        namespace: what the signature is for.
        deadline: seconds until the attempt is given up.
        program: the ssh-keygen to use.

    Raises:
        SigningError: no signature was made, or not one that counts here.
    """
    if not key.is_file():
        raise SigningError("there is no such key", where=str(key), advice="Name the private key's file")
    with tempfile.TemporaryDirectory(prefix="lamplighter-sign-") as folder:
        message = Path(folder) / "statement"
        message.write_bytes(statement)
        # A file and not standard input: that stays the terminal, where a passphrase can be typed.
        _keygen(key, ["-Y", "sign", "-f", str(key), "-n", namespace, str(message)], deadline, program)
        try:
            armoured = (Path(folder) / "statement.sig").read_text("ascii").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SigningError("ssh-keygen left no signature", where=str(key)) from error
    _check(armoured, statement, key, namespace)
    return armoured


def signer_of(key: Path, signers: Signers, named: str = "", *, program: str = "ssh-keygen") -> str:
    """The person a key is listed for in the approvers file.

    Args:
        key: a private key, or the public half of one in the agent.
        signers: the approvers file.
        named: who is meant, when it is listed for several.
        program: the ssh-keygen to use.

    Raises:
        SigningError: it is listed for nobody, or not for who is meant, or cannot be read.
    """
    if not key.is_file():
        raise SigningError(
            "there is no such key", where=str(key), changed="Nothing was signed",
            advice="Name the private key's file with --key",
        )
    printed = _keygen(key, ["-l", "-E", "sha256", "-f", str(key)], DEADLINE, program)
    fingerprint = next((word for word in printed.split() if word.startswith("SHA256:")), "")
    lines = (line for each in signers.by_key.values() for line in each)
    listed = list(dict.fromkeys(line.principal for line in lines if line.key.fingerprint == fingerprint))
    if listed and (not named or named in listed):
        return named or listed[0]
    what = f"is listed for {', '.join(listed)}, not for {named}" if listed else "is not in"
    raise SigningError(
        f"the key {fingerprint} {what}" + ("" if listed else " the site's approvers file"), where=str(key),
        changed="Nothing was signed", advice="Sign with a listed key, or have internal IT add this one",
    )


def _keygen(key: Path, arguments: Sequence[str], deadline: float, program: str) -> str:
    """Run ssh-keygen; its prompts reach the terminal when there is one."""
    heard = None if sys.stderr.isatty() else subprocess.PIPE
    try:
        done = subprocess.run(
            [program, *arguments], stdout=subprocess.PIPE, stderr=heard, timeout=deadline, check=False,
        )
    except FileNotFoundError as error:
        raise SigningError("ssh-keygen is not installed", advice="Install the OpenSSH client") from error
    except subprocess.TimeoutExpired as error:
        raise SigningError(
            f"no signature within {deadline:.0f} s", where=str(key),
            advice="Type the passphrase or touch the hardware key when asked; then try again",
        ) from error
    except OSError as error:
        raise SigningError(f"ssh-keygen cannot be run: {error.strerror}", where=program) from error
    if done.returncode:
        raise SigningError(_why(done.stderr), where=str(key), advice=(
            "Check that the file is the private key (or its .pub, with the key in the agent), that only you "
            "can read it, and that its passphrase or touch was given"
        ))
    return done.stdout.decode("utf-8", "replace")


def _why(stderr: bytes | None) -> str:
    said = [line for line in (stderr or b"").decode("utf-8", "replace").splitlines() if line.strip(" @")]
    last = "".join(char for char in (said[-1] if said else "") if char.isprintable())
    return f"ssh-keygen refused: {last[:300]}" if last else "ssh-keygen refused; its message stands above"


def _check(armoured: str, statement: bytes, key: Path, namespace: str) -> None:
    try:
        signature = parse_signature(armoured)
    except MalformedError as error:
        raise SigningError(
            f"the key cannot sign here: {error.message}", where=str(key),
            advice="Use an Ed25519, ECDSA, RSA (2048 bits or more) or security key",
        ) from error
    if signature.key.is_security_key and not signature.raw.user_present:
        raise SigningError("the hardware key was not touched", where=str(key), advice="Touch it")
    if signature.namespace != namespace or not verify(signature, statement):
        raise SigningError("ssh-keygen returned a signature that does not verify", where=str(key))
