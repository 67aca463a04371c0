"""The signature format, compared with ssh-keygen in both directions."""

from __future__ import annotations

import base64
import itertools
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model import sshkey, sshsig
from lamplighter.model.sshsig import parse_signature, verify
from tests.sshkit import (
    PLAIN,
    SECURITY,
    TOUCHED_AND_PIN,
    Pair,
    armour,
    keygen,
    mpint,
    openssh_accepts,
    string,
)

NAMESPACE = "lamplighter-approval@v1"
MESSAGE = b'{"plan":"sha256:00"}'
PAIRS = {kind: Pair(kind) for kind in (*PLAIN, *SECURITY)}


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", PLAIN)
def test_what_ssh_keygen_signs_verifies(tmp_path: Path, kind: str, hash_name: str) -> None:
    key = PAIRS[kind].write(tmp_path / "key")
    made = keygen(
        "-Y", "sign", "-f", key, "-n", NAMESPACE, "-O", f"hashalg={hash_name}", stdin=MESSAGE
    )
    signature = parse_signature(made.stdout.decode())
    assert signature.namespace == NAMESPACE
    assert signature.hash == hash_name
    assert signature.key.blob == PAIRS[kind].blob
    assert verify(signature, MESSAGE)
    assert not verify(signature, MESSAGE + b" ")


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", [*PLAIN, *SECURITY])
def test_what_is_made_from_the_specification_verifies_in_both(
    tmp_path: Path, kind: str, hash_name: str
) -> None:
    armoured = PAIRS[kind].sign(MESSAGE, NAMESPACE, hash_name=hash_name)
    assert verify(parse_signature(armoured), MESSAGE)
    assert openssh_accepts(tmp_path, armoured, MESSAGE, NAMESPACE)
    assert not verify(parse_signature(armoured), b"another")
    assert not openssh_accepts(tmp_path, armoured, b"another", NAMESPACE)
    assert not openssh_accepts(tmp_path, armoured, MESSAGE, "file")


def test_rsa_sha2_256_verifies_in_both(tmp_path: Path) -> None:
    armoured = PAIRS["rsa-2048"].sign(MESSAGE, NAMESPACE, algorithm=b"rsa-sha2-256")
    assert verify(parse_signature(armoured), MESSAGE)
    assert openssh_accepts(tmp_path, armoured, MESSAGE, NAMESPACE)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-521", "rsa-2048", *SECURITY])
def test_a_changed_byte_never_passes_here_and_not_there(tmp_path: Path, kind: str) -> None:
    rng = random.Random(kind)  # noqa: S311 - repeatable edits, no secrets
    blob = PAIRS[kind].signature(MESSAGE, NAMESPACE)
    for _ in range(40):
        at = rng.randrange(len(blob))
        edited = bytearray(blob)
        edited[at] ^= 1 << rng.randrange(8)
        text = armour(bytes(edited))
        assert not passes(text), f"byte {at}"
        assert not openssh_accepts(tmp_path, text, MESSAGE, NAMESPACE), f"byte {at}"


def passes(text: str) -> bool:
    try:
        signature = parse_signature(text)
    except MalformedError:
        return False
    return signature.namespace == NAMESPACE and verify(signature, MESSAGE)


@pytest.mark.parametrize("kind", [*PLAIN, *SECURITY])
def test_every_truncation_is_malformed(kind: str) -> None:
    blob = PAIRS[kind].signature(MESSAGE, NAMESPACE)
    for length in range(len(blob)):
        with pytest.raises(MalformedError):
            parse_signature(armour(blob[:length]))


def cert_blob() -> bytes:
    pair = PAIRS["ed25519"]
    return string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"nonce") + pair.blob[4 + 11 :]


BLOBS = {
    "magic": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, magic=b"SSHSIX"),
    "version 0": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, version=0),
    "version 2": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, version=2),
    "empty namespace": PAIRS["ed25519"].signature(MESSAGE, ""),
    "namespace not ascii": PAIRS["ed25519"].signature(MESSAGE, "fïle"),
    "namespace with a control character": PAIRS["ed25519"].signature(MESSAGE, "file\n"),
    "reserved": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, reserved=b"x"),
    "sha1": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, hash_name="sha1"),
    "sha384": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, hash_name="sha384"),
    "trailing bytes": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, tail=b"\x00"),
    "ssh-rsa with SHA-1": PAIRS["rsa-2048"].signature(MESSAGE, NAMESPACE, algorithm=b"ssh-rsa"),
    "rsa algorithm on an ed25519 key": PAIRS["ed25519"].signature(
        MESSAGE, NAMESPACE, algorithm=b"rsa-sha2-512"
    ),
    "certificate": PAIRS["ed25519"].signature(MESSAGE, NAMESPACE, key=cert_blob()),
    "dsa": PAIRS["ed25519"].signature(
        MESSAGE, NAMESPACE, key=string(b"ssh-dss") + mpint(3) + mpint(5) + mpint(7) + mpint(11)
    ),
    "rsa of 1024 bits": Pair("rsa-1024").signature(MESSAGE, NAMESPACE),
    "ed25519 key of 31 bytes": PAIRS["ed25519"].signature(
        MESSAGE, NAMESPACE, key=string(b"ssh-ed25519") + string(bytes(31))
    ),
    "point off the curve": PAIRS["ecdsa-256"].signature(
        MESSAGE, NAMESPACE,
        key=string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\x04" + bytes(63) + b"\x01"),
    ),
    "point at infinity": PAIRS["ecdsa-256"].signature(
        MESSAGE, NAMESPACE, key=string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(b"\x00")
    ),
    "curve of another name": PAIRS["ecdsa-256"].signature(
        MESSAGE, NAMESPACE, key=PAIRS["ecdsa-256"].blob.replace(b"\x08nistp256\x00", b"\x08nistp384\x00")
    ),
    "rsa with a huge exponent": PAIRS["rsa-2048"].signature(
        MESSAGE, NAMESPACE, key=string(b"ssh-rsa") + mpint((1 << 2000) + 1) + mpint((1 << 2047) + 1)
    ),
    "rsa exponent with a leading zero": PAIRS["rsa-2048"].signature(
        MESSAGE, NAMESPACE, key=PAIRS["rsa-2048"].blob.replace(
            b"\x00\x00\x00\x03\x01\x00\x01", b"\x00\x00\x00\x04\x00\x01\x00\x01"
        ),
    ),
    "security key of a web site": Pair("sk-ed25519", b"https://example.com").signature(MESSAGE, NAMESPACE),
    "a length of 4 GiB": b"SSHSIG" + struct.pack(">II", 1, 0xFFFFFFFF) + bytes(64),
    "a key larger than the cap": PAIRS["ed25519"].signature(
        MESSAGE, NAMESPACE, key=string(b"ssh-ed25519") + string(bytes(5000))
    ),
}


@pytest.mark.parametrize("name", BLOBS)
def test_odd_signatures_are_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        parse_signature(armour(BLOBS[name]))


GOOD = PAIRS["ed25519"].sign(MESSAGE, NAMESPACE)
FIRST = "-----BEGIN SSH SIGNATURE-----\n"
ARMOURS = {
    "nothing": "",
    "no data": FIRST + "-----END SSH SIGNATURE-----\n",
    "text before": "hello\n" + GOOD,
    "text after": GOOD + "hello\n",
    "two signatures": GOOD + GOOD,
    "blank line after": GOOD + "\n",
    "carriage returns": GOOD.replace("\n", "\r\n"),
    "no end marker": GOOD.removesuffix("-----END SSH SIGNATURE-----\n"),
    "another marker": GOOD.replace("SSH SIGNATURE", "PGP SIGNATURE"),
    "spaces in the data": GOOD.replace("U1NIU0lH", "U1NI U0lH"),
    "not base64": GOOD.replace("U1NIU0lH", "U1N*U0lH"),
    "padding inside": GOOD.replace("U1NIU0lH", "U1M=U0lH"),
    "larger than the cap": FIRST + "A" * 20000 + "\n-----END SSH SIGNATURE-----\n",
}


@pytest.mark.parametrize("name", ARMOURS)
def test_odd_armour_is_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        parse_signature(ARMOURS[name])


def test_base64_has_one_spelling() -> None:
    """Stray bits in the last group would let one signature have several texts."""
    blob = PAIRS["rsa-2048"].signature(MESSAGE, NAMESPACE, tail=b"")
    text = base64.b64encode(blob).decode()
    assert text.endswith("=")
    last = text.rstrip("=")[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = text.rstrip("=")[:-1] + alphabet[alphabet.index(last) ^ 1] + "=" * text.count("=")
    with pytest.raises(MalformedError, match="stray"):
        parse_signature(FIRST + stray + "\n-----END SSH SIGNATURE-----\n")


def test_a_security_key_must_be_touched(tmp_path: Path) -> None:
    """OpenSSH checks the touch when logging in, not here; without one, no person acted."""
    for kind in SECURITY:
        untouched = parse_signature(PAIRS[kind].sign(MESSAGE, NAMESPACE, flags=0))
        pin_only = parse_signature(PAIRS[kind].sign(MESSAGE, NAMESPACE, flags=4))
        assert not verify(untouched, MESSAGE)
        assert openssh_accepts(tmp_path, PAIRS[kind].sign(MESSAGE, NAMESPACE, flags=0), MESSAGE, NAMESPACE)
        assert not verify(pin_only, MESSAGE)


def test_a_security_key_tells_whether_the_pin_was_checked() -> None:
    for kind in SECURITY:
        touched = parse_signature(PAIRS[kind].sign(MESSAGE, NAMESPACE))
        with_pin = parse_signature(PAIRS[kind].sign(MESSAGE, NAMESPACE, flags=TOUCHED_AND_PIN))
        assert (touched.raw.user_present, touched.raw.user_verified) == (True, False)
        assert (with_pin.raw.user_present, with_pin.raw.user_verified) == (True, True)
        assert with_pin.raw.counter == 7
        assert verify(with_pin, MESSAGE)


def test_flags_and_counter_are_signed() -> None:
    blob = PAIRS["sk-ed25519"].signature(MESSAGE, NAMESPACE)
    for change in (b"\x05" + blob[-4:], blob[-5:-1] + b"\x08"):
        assert not verify(parse_signature(armour(blob[:-5] + change)), MESSAGE)


def test_stripped_zeros_of_an_rsa_signature_are_restored_as_openssh_does(tmp_path: Path) -> None:
    pair = PAIRS["rsa-2048"]
    for number in itertools.count():
        message = b"message %d" % number
        blob = pair.signature(message, NAMESPACE)
        if blob[-256] == 0:
            break
    head, value = blob[: -256 - 4], blob[-255:]
    outer = len(string(b"rsa-sha2-512")) + 4 + 255
    fixed = head[: -len(string(b"rsa-sha2-512")) - 4] + struct.pack(">I", outer)
    text = armour(fixed + string(b"rsa-sha2-512") + string(value))
    assert verify(parse_signature(text), message)
    assert openssh_accepts(tmp_path, text, message, NAMESPACE)


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    for pair in PAIRS.values():
        file = tmp_path / "key.pub"
        file.write_text(pair.public_line + "\n")
        printed = keygen("-l", "-f", file).stdout.decode()
        assert sshkey.read_key(pair.blob).fingerprint in printed


def test_armour_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    key = PAIRS["ed25519"].write(tmp_path / "key")
    text = keygen("-Y", "sign", "-f", key, "-n", NAMESPACE, stdin=MESSAGE).stdout.decode()
    assert sshsig.armour(sshsig.dearmour(text)) == text


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_malformed(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_signature(text)


@given(st.binary(max_size=400))
def test_any_bytes_are_parsed_or_malformed(data: bytes) -> None:
    for blob in (data, b"SSHSIG\x00\x00\x00\x01" + data):
        with pytest.raises(MalformedError):
            parse_signature(armour(blob))


@given(
    st.sampled_from(sorted(PAIRS)), st.integers(0, 2**16), st.binary(max_size=8), st.integers(0, 8)
)
def test_spliced_signatures_never_verify_another_message(kind: str, at: int, put: bytes, cut: int) -> None:
    blob = PAIRS[kind].signature(MESSAGE, NAMESPACE)
    at %= len(blob)
    edited = blob[:at] + put + blob[at + cut :]
    try:
        signature = parse_signature(armour(edited))
    except MalformedError:
        return
    assert verify(signature, MESSAGE) == (edited == blob)
