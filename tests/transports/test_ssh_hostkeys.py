"""Pins, checked against ssh-keygen's own reading of the same files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lamplighter.errors import HostKeyError, SiteError
from lamplighter.transports.ssh_hostkeys import KnownHosts, PublicKey


def make_key(path: Path, kind: str = "ed25519", *more: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-f", path], check=True, timeout=60)
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("keys")
    sizes = {"one": "ed25519", "two": "ed25519", "ec": "ecdsa -b 384", "rsa": "rsa -b 2048"}
    return {name: make_key(folder / name, *size.split()) for name, size in sizes.items()}


def known(tmp_path: Path, *lines: str) -> KnownHosts:
    path = tmp_path / "known_hosts"
    path.write_text("\n".join(lines) + "\n")
    return KnownHosts.read(path)


def public(text: str) -> PublicKey:
    import base64  # noqa: PLC0415 - for this helper alone

    kind, blob = text.split()
    return PublicKey(kind, base64.b64decode(blob))


NAMES = [
    ("web1", 22, "web1"),
    ("web1,192.0.2.1", 22, "192.0.2.1"),
    ("WEB1", 22, "web1"),
    ("web1", 22, "Web1"),
    ("[web1]:2222", 2222, "web1"),
    ("web1", 2222, "web1"),
    ("[web1]:2222", 22, "web1"),
    ("web*", 22, "web17"),
    ("web?", 22, "web17"),
    ("*.example,!bad.example", 22, "good.example"),
    ("*.example,!bad.example", 22, "bad.example"),
    ("!bad.example", 22, "good.example"),
    ("[web*]:2222", 2222, "web5"),
    ("2001:db8::1", 22, "2001:db8::1"),
    ("web", 22, "web1"),
]


@pytest.mark.parametrize(("pattern", "port", "name"), NAMES)
def test_names_match_as_openssh_matches_them(
    tmp_path: Path, keys: dict[str, str], pattern: str, port: int, name: str
) -> None:
    file = known(tmp_path, f"{pattern} {keys['one']} comment")
    looked_up = name if port == 22 else f"[{name}]:{port}"
    argv = ["ssh-keygen", "-F", looked_up, "-f", tmp_path / "known_hosts"]
    found = subprocess.run(argv, capture_output=True, check=False, timeout=20).stdout != b""
    assert bool(file.pins(name, [name], port).keys) == found


def test_hashed_names(tmp_path: Path, keys: dict[str, str]) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"web1 {keys['one']}\n[web2]:2222 {keys['two']}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", path], check=True, capture_output=True, timeout=20)
    assert "web1" not in path.read_text()
    file = KnownHosts.read(path)
    assert file.pins("web1", ["web1"], 22).keys == (public(keys["one"]),)
    assert file.pins("web2", ["web2"], 2222).keys == (public(keys["two"]),)
    assert file.pins("web2", ["web2"], 22).keys == ()


def test_the_fingerprint_is_the_one_ssh_keygen_shows(tmp_path: Path, keys: dict[str, str]) -> None:
    for text in keys.values():
        (tmp_path / "k.pub").write_text(text)
        argv = ["ssh-keygen", "-lf", tmp_path / "k.pub"]
        shown = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout
        assert public(text).fingerprint == shown.split()[1]


def test_only_the_pinned_types_are_asked_for(tmp_path: Path, keys: dict[str, str]) -> None:
    file = known(tmp_path, f"a {keys['rsa']}", f"b {keys['ec']}", f"b {keys['one']}")
    assert file.pins("a", ["a"], 22).algorithms == ("rsa-sha2-512", "rsa-sha2-256")
    assert file.pins("b", ["b"], 22).algorithms == ("ssh-ed25519", "ecdsa-sha2-nistp384")
    assert "ssh-rsa" not in file.pins("c", ["c"], 22).algorithms


def test_a_changed_key_shows_both_fingerprints(tmp_path: Path, keys: dict[str, str]) -> None:
    pins = known(tmp_path, f"a {keys['one']}").pins("a", ["a"], 22)
    pins.check(public(keys["one"]))
    with pytest.raises(HostKeyError) as caught:
        pins.check(public(keys["two"]))
    said = str(caught.value)
    assert public(keys["one"]).fingerprint in said
    assert public(keys["two"]).fingerprint in said
    assert "known_hosts" in said


def test_a_revoked_key_is_refused_even_when_pinned(tmp_path: Path, keys: dict[str, str]) -> None:
    pins = known(tmp_path, f"a {keys['one']}", f"@revoked * {keys['one']}").pins("a", ["a"], 22)
    with pytest.raises(HostKeyError, match="revoked"):
        pins.check(public(keys["one"]))


def test_a_certificate_authority_pins_nothing(tmp_path: Path, keys: dict[str, str]) -> None:
    pins = known(tmp_path, f"@cert-authority * {keys['one']}").pins("a", ["a"], 22)
    with pytest.raises(HostKeyError, match="cert-authority"):
        pins.check(public(keys["one"]))


def test_an_unknown_host_is_refused_with_its_fingerprint(tmp_path: Path, keys: dict[str, str]) -> None:
    with pytest.raises(HostKeyError, match="no key is pinned") as caught:
        known(tmp_path, "# nothing").pins("a", ["a"], 22).check(public(keys["ec"]))
    assert public(keys["ec"]).fingerprint in str(caught.value)


def test_every_bad_line_is_told(tmp_path: Path, keys: dict[str, str]) -> None:
    kind, blob = keys["one"].split()
    lines = [
        "",
        "web1",
        f"web1 {kind} !!!",
        f"web1 ssh-rsa {blob}",
        f"@unknown web1 {kind} {blob}",
        f"|1|x|y {kind} {blob}",
        f"ok {kind} {blob}",
    ]
    with pytest.raises(SiteError) as caught:
        known(tmp_path, *lines)
    assert [mistake.line for mistake in caught.value.mistakes] == [2, 3, 4, 5, 6]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="cannot be read"):
        KnownHosts.read(tmp_path / "missing")
