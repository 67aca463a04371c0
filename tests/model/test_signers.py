"""The approvers file and the file of revoked keys; where OpenSSH reads the same, compared with it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.signers import parse_revoked, parse_signers, read_public
from lamplighter.model.sshkey import read_key
from lamplighter.site.schema import PRINCIPAL
from tests.sshkit import Pair, keygen

NAMESPACE = "lamplighter-approval@v1"
ONE, TWO, SECURITY = Pair(), Pair("ecdsa-256"), Pair("sk-ed25519")
KEY = ONE.public_line


def seconds(text: str) -> int:
    return int(datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())


def test_a_file_as_people_write_it() -> None:
    second, third, until = TWO.public_line, SECURITY.public_line, "20270101120000Z"
    text = f"""# approvers of the demo site
asha@internal.example namespaces="lamplighter-approval@v1" {KEY} asha's laptop

\t
kiran@internal.example\tNAMESPACES="lamplighter-*",valid-after="20260101Z",valid-before="{until}" {second}
kiran@internal.example {third} token 1\r
"""
    signers, mistakes = parse_signers(text, "approvers")
    assert mistakes == ()
    assert signers.principals == {"asha@internal.example", "kiran@internal.example"}
    (asha,) = signers.of(read_key(ONE.blob))
    (kiran,) = signers.of(read_key(TWO.blob))
    assert (asha.line, asha.namespaces) == (2, ("lamplighter-approval@v1",))
    assert (kiran.valid_after, kiran.valid_before) == (seconds("20260101000000"), seconds("20270101120000"))
    assert kiran.signs_in("lamplighter-request@v1")
    assert not asha.signs_in("lamplighter-request@v1")
    assert signers.of(read_key(Pair().blob)) == ()


MISTAKES = {
    "*@internal.example " + KEY: "is a pattern",
    "asha?@internal.example " + KEY: "is a pattern",
    "!asha@internal.example " + KEY: "is a pattern",
    "asha@internal.example,kiran@internal.example " + KEY: "several people",
    "@ " + KEY: "not a person's id",
    "äsha@internal.example " + KEY: "not a person's id",
    "asha@internal.example cert-authority " + KEY: "certificate authorities are refused",
    "asha@internal.example CERT-AUTHORITY " + KEY: "certificate authorities are refused",
    'asha@internal.example cert-authority,namespaces="a" ' + KEY: "certificate authorities are refused",
    "asha@internal.example verify-required " + KEY: "not one of",
    'asha@internal.example valid-before="20270101" ' + KEY: "no time zone",
    'asha@internal.example valid-before="2027Z" ' + KEY: "not a time",
    'asha@internal.example valid-before="20270230Z" ' + KEY: "no day of the calendar",
    'asha@internal.example valid-before="19600101Z" ' + KEY: "before 1970",
    'asha@internal.example valid-before="" ' + KEY: "has no value",
    'asha@internal.example namespaces="" ' + KEY: "has no value",
    'asha@internal.example valid-after="20270101Z",valid-before="20260101Z" ' + KEY: "never valid",
    'asha@internal.example valid-after="20270101Z",valid-after="20260101Z" ' + KEY: "stands twice",
    "asha@internal.example valid-before=20270101Z " + KEY: "cannot be read",
    'asha@internal.example namespaces="a, ' + KEY: "not closed",
    'asha@internal.example namespaces="a"b ' + KEY: "cannot be read",
    'asha@internal.example namespaces="a", ' + KEY: "end in a comma",
    "asha@internal.example": "no public key",
    "asha@internal.example ssh-ed25519": "no public key",
    "asha@internal.example ssh-ed25519 AAAA!": "not valid base64",
    "asha@internal.example ssh-ed25519 AAAAC3NzaC1lZDI1NTE5": "ends too early",
    "asha@internal.example " + KEY.replace("ssh-ed25519", "ssh-rsa"): "is of type",
    "asha@internal.example " + Pair("rsa-1024").public_line: "2048",
    "asha@internal.example ssh-dss AAAAB3NzaC1kc3MAAAABAwAAAAEF": "not supported",
    KEY: "not a person's id",
}


@pytest.mark.parametrize("line", MISTAKES, ids=MISTAKES.values())
def test_a_mistake_is_named_with_its_line(line: str) -> None:
    text = f"# heading\n{line}\nkiran@internal.example {TWO.public_line}\n"
    signers, mistakes = parse_signers(text, "approvers")
    assert [(one.file, one.line) for one in mistakes] == [("approvers", 2)]
    wanted = MISTAKES[line]
    assert wanted in mistakes[0].message or (line == KEY and "several people" not in mistakes[0].message)
    assert signers.principals == {"kiran@internal.example"}


def test_all_mistakes_come_at_once() -> None:
    _, mistakes = parse_signers("\n".join(MISTAKES), "approvers")
    assert [one.line for one in mistakes] == list(range(1, len(MISTAKES) + 1))


def test_certificates_are_refused(tmp_path: Path) -> None:
    ca = Pair().write(tmp_path / "ca")
    ONE.write(tmp_path / "user")
    keygen("-s", ca, "-I", "asha", "-n", "asha", tmp_path / "user.pub")
    line = (tmp_path / "user-cert.pub").read_text()
    signers, mistakes = parse_signers(f"asha@internal.example {line}", "approvers")
    assert "certificates are refused" in mistakes[0].message
    assert not signers.principals


def test_one_key_cannot_be_two_people() -> None:
    text = f"asha@internal.example {KEY}\nkiran@internal.example {KEY}\n"
    signers, mistakes = parse_signers(text, "approvers")
    assert [one.line for one in mistakes] == [2]
    assert "asha@internal.example as well" in mistakes[0].message
    assert not signers.principals


def test_one_person_may_have_several_keys_and_a_key_several_lines() -> None:
    text = (
        f'asha@internal.example namespaces="a" {KEY}\nasha@internal.example namespaces="b" {KEY}\n'
        f"asha@internal.example {TWO.public_line}\n"
    )
    signers, mistakes = parse_signers(text, "approvers")
    assert mistakes == ()
    assert [one.line for one in signers.of(read_key(ONE.blob))] == [1, 2]


@pytest.mark.parametrize("when", ["20260101000000", "20251231235959", "20270101000000", "20270101000001"])
def test_validity_ends_as_in_openssh(tmp_path: Path, when: str) -> None:
    """Both bounds are included, and both programs agree on the second beside them."""
    line = f'asha@internal.example valid-after="20260101Z",valid-before="20270101Z" {KEY}'
    signers, _ = parse_signers(line, "approvers")
    (signer,) = signers.of(read_key(ONE.blob))
    assert signer.valid_at(seconds(when)) == openssh_verifies(tmp_path, line, when)


@pytest.mark.parametrize(
    "patterns",
    ["lamplighter-approval@v1", "lamplighter-*", "file,lamplighter-approval@v?", "*", "file", "!file",
     "*,!lamplighter-*", "LAMPLIGHTER-approval@v1", "lamplighter-approval@v[12]"],
)
def test_namespaces_match_as_in_openssh(tmp_path: Path, patterns: str) -> None:
    line = f'asha@internal.example namespaces="{patterns}" {KEY}'
    signers, _ = parse_signers(line, "approvers")
    (signer,) = signers.of(read_key(ONE.blob))
    assert signer.signs_in(NAMESPACE) == openssh_verifies(tmp_path, line, "20260601000000")


def openssh_verifies(folder: Path, line: str, when: str) -> bool:
    (folder / "approvers").write_text(line + "\n")
    (folder / "check.sig").write_text(ONE.sign(b"message", NAMESPACE))
    done = keygen(
        "-Y", "verify", "-f", folder / "approvers", "-I", "asha@internal.example", "-n", NAMESPACE,
        "-s", folder / "check.sig", "-O", f"verify-time={when}Z", stdin=b"message",
    )
    return done.returncode == 0


@pytest.mark.parametrize("person", ["fiona.d'souza@internal.example", "r&d@internal.example"])
def test_peoples_ids_are_addresses_that_people_have(person: str, tmp_path: Path) -> None:
    assert re.fullmatch(PRINCIPAL, person)
    signers, mistakes = parse_signers(f"{person} {KEY}\n", "approvers")
    assert (mistakes, signers.principals) == ((), {person})
    (tmp_path / "approvers").write_text(f"{person} {KEY}\n")
    (tmp_path / "s.sig").write_text(ONE.sign(b"message", NAMESPACE))
    done = keygen(
        "-Y", "verify", "-f", tmp_path / "approvers", "-I", person, "-n", NAMESPACE, "-s", tmp_path / "s.sig",
        stdin=b"message",
    )
    assert done.returncode == 0, done.stderr


def test_revoked_keys_are_listed_as_keys_or_fingerprints() -> None:
    fingerprint = read_key(TWO.blob).fingerprint
    text = f"# lost laptop\n{KEY} asha\n{fingerprint} stolen\n"
    revoked, mistakes = parse_revoked(text, "revoked_keys")
    assert mistakes == ()
    assert read_key(ONE.blob) in revoked
    assert read_key(TWO.blob) in revoked
    assert read_key(SECURITY.blob) not in revoked


@pytest.mark.parametrize("line", ["SHA256:short", "MD5:00:11", "asha@internal.example", "ssh-ed25519 AAAA"])
def test_a_revoked_line_that_cannot_be_read_is_a_mistake(line: str) -> None:
    _, mistakes = parse_revoked(f"\n{line}\n", "revoked_keys")
    assert [one.line for one in mistakes] == [2]


def test_binary_revocation_lists_are_refused(tmp_path: Path) -> None:
    ONE.write(tmp_path / "key")
    keygen("-k", "-f", tmp_path / "krl", tmp_path / "key.pub")
    text = (tmp_path / "krl").read_bytes().decode("utf-8", "replace")
    revoked, mistakes = parse_revoked(text, "revoked_keys")
    assert not revoked.fingerprints
    assert "cannot be reviewed" in mistakes[0].message


def test_files_have_a_cap() -> None:
    for parse in (parse_signers, parse_revoked):
        _, mistakes = parse("#" * (1024 * 1024 + 1), "file")
        assert "allowed" in mistakes[0].message


def test_a_public_file_is_read() -> None:
    assert read_public(KEY + " comment\n").blob == ONE.blob
    with pytest.raises(MalformedError):
        read_public("")


@given(st.text(max_size=200))
@example('a@b namespaces="x\\"y" ' + KEY)
@example('a@b "')
@example("a@b  ")
def test_any_text_is_read_or_listed(text: str) -> None:
    for parse in (parse_signers, parse_revoked):
        for body in (text, f"asha@internal.example {text} {KEY}"):
            _, mistakes = parse(body, "file")
            assert all(one.file == "file" for one in mistakes)
