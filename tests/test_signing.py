"""Signing with real keys through the real ssh-keygen: files, an agent, a terminal that types a passphrase."""

from __future__ import annotations

import os
import pty
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import MalformedError, SigningError
from lamplighter.model.approval import NAMESPACE, Decision, read_statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import read_line
from lamplighter.model.signers import parse_signers
from lamplighter.model.sshsig import parse_signature, verify
from lamplighter.signing import Wish, approve_line, sign_statement, signer_of
from tests.sshkit import PLAIN, Pair, keygen, openssh_accepts

STATEMENT = b'{"v":1}'


@pytest.mark.parametrize("kind", PLAIN)
def test_every_kind_of_key_signs(tmp_path: Path, kind: str) -> None:
    key = Pair(kind).write(tmp_path / "key")
    armoured = sign_statement(STATEMENT, key, NAMESPACE)
    assert verify(parse_signature(armoured), STATEMENT)
    assert openssh_accepts(tmp_path, armoured, STATEMENT, NAMESPACE)


def test_a_decision_becomes_a_line(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    wish = Wish("asha@internal.example", Decision.REVOKE, "wrong week", 600, "approval-1")
    envelope = read_line(approve_line(b"plan", wish, key, 1000))
    statement = read_statement(envelope.statement)
    assert (statement.plan, statement.approver, statement.decision) == (
        sha256(b"plan"), "asha@internal.example", Decision.REVOKE,
    )
    assert (statement.not_before, statement.expires, statement.revokes) == (1000, 1600, "approval-1")
    assert statement.reason == "wrong week"
    signature = parse_signature(envelope.signature)
    assert signature.namespace == NAMESPACE
    assert verify(signature, envelope.statement)


def test_ids_differ(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    lines = [approve_line(b"plan", Wish("asha@internal.example"), key, 1000) for _ in range(2)]
    first, second = (read_statement(read_line(line).statement).id for line in lines)
    assert first != second


def test_a_wish_that_is_no_statement_is_refused_before_anything_is_signed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError):
        approve_line(b"plan", Wish("asha@internal.example", reason="a\nb"), tmp_path / "none", 1000)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent of our own, stopped by its id; its socket needs a short path."""
    with tempfile.TemporaryDirectory(prefix="ll-") as folder:
        socket = Path(folder) / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
        process.terminate()
        process.wait(10)


@pytest.mark.usefixtures("agent")
def test_a_key_in_the_agent_is_named_by_its_public_half(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
    key.unlink()
    assert verify(parse_signature(sign_statement(STATEMENT, tmp_path / "key.pub", NAMESPACE)), STATEMENT)


def test_a_passphrase_is_typed_on_the_terminal(tmp_path: Path) -> None:
    """In a process with a terminal of its own, as an approver has one."""
    key = Pair().write(tmp_path / "key")
    keygen("-p", "-P", "", "-N", "quiet lamp", "-f", key)
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        try:
            armoured = sign_statement(STATEMENT, key, NAMESPACE, deadline=20)
            (tmp_path / "made.sig").write_text(armoured)
        finally:
            os._exit(0)
    said = b""
    while b"passphrase" not in said:
        said += os.read(terminal, 1024)
    os.write(terminal, b"quiet lamp\n")
    os.waitpid(pid, 0)
    os.close(terminal)
    assert verify(parse_signature((tmp_path / "made.sig").read_text()), STATEMENT)


def refusal(key: Path, **how: object) -> SigningError:
    with pytest.raises(SigningError) as caught:
        sign_statement(STATEMENT, key, NAMESPACE, **how)  # type: ignore[arg-type]
    return caught.value


def test_no_such_key(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none")
    assert error.message == "there is no such key"
    assert error.where == str(tmp_path / "none")


def test_no_ssh_keygen(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    assert "not installed" in refusal(key, program=str(tmp_path / "absent")).message


def test_a_wrong_or_missing_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Pair().write(tmp_path / "key")
    keygen("-p", "-P", "", "-N", "quiet lamp", "-f", key)
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    error = refusal(key)
    assert "ssh-keygen refused" in error.message
    assert "quiet lamp" not in str(error)
    assert "passphrase" in error.advice


def test_a_private_key_that_others_can_read(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    key.chmod(0o644)
    error = refusal(key)
    assert "ssh-keygen refused" in error.message
    assert "only you can read" in error.advice


def test_something_that_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hello\n")
    file.chmod(0o600)
    assert "ssh-keygen refused" in refusal(file).message


def test_a_key_that_does_not_count_here(tmp_path: Path) -> None:
    key = tmp_path / "key"
    keygen("-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", key)
    error = refusal(key)
    assert "1024 bits" in error.message
    assert "Ed25519" in error.advice


def test_a_signer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    key = Pair().write(tmp_path / "key")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o700)
    started = time.monotonic()
    assert "no signature within" in refusal(key, deadline=0.3, program=str(slow)).message
    assert time.monotonic() - started < 11


def test_a_signer_that_lies_is_found_out(tmp_path: Path) -> None:
    """Whatever a program in ssh-keygen's place returns is verified before it is given out."""
    key, other = Pair().write(tmp_path / "key"), tmp_path / "other.sig"
    liar = tmp_path / "liar"
    liar.write_text(f'#!/bin/sh\nfor last; do :; done\ncp {other} "$last.sig"\n')
    liar.chmod(0o700)
    other.write_text(Pair().sign(b"something else", NAMESPACE))
    assert "does not verify" in refusal(key, program=str(liar)).message
    other.write_text(Pair().sign(STATEMENT, "file"))
    assert "does not verify" in refusal(key, program=str(liar)).message
    other.write_text(Pair("sk-ed25519").sign(STATEMENT, NAMESPACE, flags=0))
    assert "not touched" in refusal(key, program=str(liar)).message


def test_the_key_tells_whose_it_is(tmp_path: Path) -> None:
    pair = Pair()
    key = pair.write(tmp_path / "key")
    signers, _ = parse_signers(f"asha@internal.example {pair.public_line}\n", "approvers")
    assert signer_of(key, signers) == "asha@internal.example"
    assert signer_of(tmp_path / "key.pub", signers) == "asha@internal.example"
    stranger = Pair().write(tmp_path / "stranger")
    with pytest.raises(SigningError, match="not in the site's approvers file"):
        signer_of(stranger, signers)
