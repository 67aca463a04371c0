"""Who is talked to, and how: host keys, algorithms, keys, certificates, jump hosts. Against OpenSSH."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from lamplighter.errors import AuthFailedError, HostKeyError, LamplighterError, UnreachableError
from lamplighter.model.inventory import Host
from lamplighter.transports.ssh import SshTransport
from tests.lab.fleet import WHO, Fleet
from tests.lab.spec import PASSPHRASE
from tests.transports.conftest import Sshd, fleet_host, free_port, keygen

StartSshd = Callable[..., Sshd]


def refusal(known_hosts: Path, host: Host) -> UnreachableError:
    with SshTransport(known_hosts) as transport, pytest.raises(UnreachableError) as caught:
        transport.connect(host)
    assert str(caught.value).startswith(f"{host.name}: ")
    return caught.value


def says(fleet: Fleet, host: Host) -> str:
    return str(refusal(fleet.known_hosts, host))


# host keys


def test_an_unknown_host_is_refused_before_login(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")
    error = refusal(tmp_path / "none", fleet_host(fleet))
    assert isinstance(error, HostKeyError)
    public = tmp_path / "k.pub"
    public.write_text(fleet.hosts[0].host_key_line.split(" ", 1)[1])
    argv = ["ssh-keygen", "-lf", public]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=9)
    assert shown.stdout.split()[1] in str(error)


def test_a_changed_key_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    place = fleet.hosts[0].host_key_line.split(" ", 1)[0]
    (tmp_path / "known").write_text(f"{place} {fleet.hosts[1].host_key_line.split(' ', 1)[1]}\n")
    error = refusal(tmp_path / "known", fleet_host(fleet))
    assert isinstance(error, HostKeyError)
    assert "changed" in str(error)
    assert str(error).count("SHA256:") == 2


def test_a_host_may_be_pinned_by_its_inventory_name(fleet: Fleet, tmp_path: Path) -> None:
    key = fleet.hosts[0].host_key_line.split(" ", 1)[1]
    (tmp_path / "known").write_text(f"[host1]:{fleet.port} {key}\n")
    with SshTransport(tmp_path / "known") as transport:
        assert transport.connect(fleet_host(fleet)).run("echo in").stdout == "in\n"


@pytest.mark.parametrize(
    "kind", [("-t", "rsa", "-b", "2048"), ("-t", "ecdsa", "-b", "256"), ("-t", "ecdsa", "-b", "521")]
)
def test_other_kinds_of_host_keys(start_sshd: StartSshd, kind: tuple[str, ...]) -> None:
    sshd = start_sshd(host_key=kind)
    with SshTransport(sshd.known_hosts) as transport:
        assert transport.connect(sshd.host()).run("echo in").stdout == "in\n"


def test_a_host_without_the_pinned_kind_of_key(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd = start_sshd(host_key=("-t", "rsa", "-b", "2048"))
    public = keygen(tmp_path / "other").with_name("other.pub").read_text()
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {public}")
    error = refusal(sshd.known_hosts, sshd.host())
    assert isinstance(error, HostKeyError)
    assert "ssh-ed25519" in str(error)


# algorithms


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("Ciphers", "aes128-cbc,aes256-cbc,3des-cbc"),
        ("KexAlgorithms", "diffie-hellman-group14-sha1,diffie-hellman-group-exchange-sha1"),
        ("MACs", "hmac-md5,hmac-sha1,hmac-sha1-96,umac-64@openssh.com"),
    ],
)
def test_a_host_that_offers_only_weak_algorithms_is_refused(
    start_sshd: StartSshd, option: str, value: str
) -> None:
    sshd = start_sshd(**{option: value})
    assert "no safe SSH algorithms" in str(refusal(sshd.known_hosts, sshd.host()))


def test_a_host_that_signs_with_sha1_is_refused(start_sshd: StartSshd) -> None:
    sshd = start_sshd(host_key=("-t", "rsa", "-b", "2048"), HostKeyAlgorithms="ssh-rsa")
    assert isinstance(refusal(sshd.known_hosts, sshd.host()), HostKeyError)


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr"])
@pytest.mark.parametrize("mac", ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"])
def test_each_modern_combination(start_sshd: StartSshd, cipher: str, mac: str) -> None:
    sshd = start_sshd(Ciphers=cipher, MACs=mac)
    with SshTransport(sshd.known_hosts) as transport:
        assert transport.connect(sshd.host()).run("echo in").stdout == "in\n"


class OldServer:
    """paramiko's server without strict key exchange, as servers were before CVE-2023-48795 was mended."""

    def __init__(self, folder: Path, ciphers: tuple[str, ...]) -> None:
        self.port = free_port()
        key = keygen(folder / "old")
        self.known_hosts = folder / "known_old"
        public = " ".join((folder / "old.pub").read_text().split()[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}\n")
        self._key = paramiko.Ed25519Key.from_private_key_file(str(key))
        self._ciphers = ciphers
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._transport: paramiko.Transport | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        link, _ = self._listener.accept()
        self._transport = paramiko.Transport(link, strict_kex=False)
        self._transport.get_security_options().ciphers = self._ciphers
        self._transport.add_server_key(self._key)
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self._transport.start_server(event=threading.Event(), server=paramiko.ServerInterface())

    def close(self) -> None:
        self._listener.close()
        self.thread.join(5)
        if self._transport is not None:
            self._transport.close()
            self._transport.join(5)


@pytest.mark.parametrize(
    ("ciphers", "said"),
    [(("aes128-ctr",), "neither strict key exchange"), (("aes128-gcm@openssh.com",), "accepts no keys")],
)
def test_without_strict_key_exchange_only_gcm_will_do(
    tmp_path: Path, ciphers: tuple[str, ...], said: str
) -> None:
    """With GCM the handshake goes on to the login, which this server then refuses."""
    server = OldServer(tmp_path, ciphers)
    try:
        key = keygen(tmp_path / "client")
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": server.port,
            "ansible_ssh_private_key_file": str(key),
        }
        assert said in str(refusal(server.known_hosts, Host("old", (), variables)))
    finally:
        server.close()


# servers that are none


@pytest.fixture
def listen() -> Iterator[Callable[[bytes | None], int]]:
    """A listener that says some bytes to whoever connects and then nothing; None hangs up."""
    listeners: list[socket.socket] = []
    links: list[socket.socket] = []

    def start(words: bytes | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            try:
                while True:
                    link, _ = listener.accept()
                    links.append(link)
                    link.sendall(words or b"")
                    if words is None:
                        link.close()
            except OSError:
                pass

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
    for link in (*listeners, *links):
        link.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"", "in time"),
        (None, "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "in time"),
        (b"SSH-1.5-old\r\n", "version"),
        (b"SSH-2.0-x\r\n" + b"\xff" * 4000, "closed the connection"),
        (b"x" * 1_000_000, "in time|closed"),
        (b"\x1b[31m\r\n" * 300, "in time|closed"),
    ],
)
def test_what_is_no_ssh_server(
    fleet: Fleet, listen: Callable[[bytes | None], int], words: bytes | None, said: str
) -> None:
    port = listen(words)
    host = fleet_host(fleet, ansible_host="127.0.0.1", ansible_port=port, lamplighter_connect_timeout=1)
    began = time.monotonic()
    message = says(fleet, host)
    assert any(part in message for part in said.split("|")), message
    assert time.monotonic() - began < 8.1
    assert "\x1b" not in message


def test_nothing_listens(fleet: Fleet) -> None:
    message = says(fleet, fleet_host(fleet, ansible_port=free_port()))
    assert "connection refused" in message
    assert "Nothing was sent" in message


def test_a_name_that_does_not_exist(fleet: Fleet) -> None:
    began = time.monotonic()
    host = fleet_host(fleet, ansible_host="no.such.invalid", lamplighter_connect_timeout=2)
    assert "lookup" in says(fleet, host)
    assert time.monotonic() - began < 9


# keys


@pytest.fixture
def passphrase(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LL_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("LL_WRONG", "wrong-passphrase")
    return "env:LL_PASSPHRASE"


def test_an_encrypted_key(fleet: Fleet, passphrase: str) -> None:
    variables = {
        "ansible_ssh_private_key_file": str(fleet.client_key_encrypted),
        "lamplighter_ssh_passphrase": passphrase,
    }
    with SshTransport(fleet.known_hosts) as transport:
        began = time.process_time()
        for number in range(8):
            assert transport.connect(fleet_host(fleet, number, **variables)).run("echo in").stdout == "in\n"
        assert time.process_time() - began < 3  # the passphrase is worked once, not for every host
        assert PASSPHRASE not in repr(vars(transport))


@pytest.mark.parametrize("kind", ["rsa -b 2048", "rsa -b 3072 -m PEM", "ecdsa -b 256", "ecdsa -b 384 -m PEM"])
def test_other_kinds_of_client_keys(start_sshd: StartSshd, tmp_path: Path, kind: str) -> None:
    sshd = start_sshd()
    key = keygen(tmp_path / "key", "-t", *kind.split())
    (sshd.folder / "authorized").write_bytes((tmp_path / "key.pub").read_bytes())
    with SshTransport(sshd.known_hosts) as transport:
        host = sshd.host(ansible_ssh_private_key_file=str(key))
        assert transport.connect(host).run("echo in").stdout == "in\n"


def copy_key(fleet: Fleet, path: Path, mode: int) -> str:
    path.write_bytes(fleet.client_key.read_bytes())
    path.chmod(mode)
    return str(path)


def test_keys_that_cannot_be_used(fleet: Fleet, tmp_path: Path, passphrase: str) -> None:
    encrypted = str(fleet.client_key_encrypted)
    mark = "OPENSSH PRIVATE KEY-----"
    (tmp_path / "junk").write_text(f"-----BEGIN {mark}\nAAAA\n-----END {mark}\n")
    (tmp_path / "junk").chmod(0o600)
    weak = keygen(tmp_path / "weak", "-t", "rsa", "-b", "1024")
    cases = [
        ({"ansible_ssh_private_key_file": "/nonexistent/key"}, "cannot be read"),
        ({"ansible_ssh_private_key_file": copy_key(fleet, tmp_path / "open", 0o644)}, "others may read"),
        ({"ansible_ssh_private_key_file": encrypted}, "lamplighter_ssh_passphrase is not set"),
        (
            {"ansible_ssh_private_key_file": encrypted, "lamplighter_ssh_passphrase": "env:LL_WRONG"},
            "passphrase does not open",
        ),
        (
            {"ansible_ssh_private_key_file": encrypted, "lamplighter_ssh_passphrase": "env:LL_MISSING"},
            "env:LL_MISSING",
        ),
        ({"ansible_ssh_private_key_file": encrypted, "lamplighter_ssh_passphrase": PASSPHRASE}, "reference"),
        ({"lamplighter_ssh_passphrase": passphrase}, "not an encrypted"),
        ({"ansible_ssh_private_key_file": str(tmp_path / "junk")}, "is not a private key"),
        ({"ansible_ssh_private_key_file": str(weak)}, "too short"),
    ]
    for variables, said in cases:
        error = refusal(fleet.known_hosts, fleet_host(fleet, ansible_port=free_port(), **variables))
        assert isinstance(error, AuthFailedError), variables
        assert said in str(error)
        assert "Nothing was sent" in str(error)
        whole = "".join(traceback.format_exception(error))
        assert PASSPHRASE not in whole
        assert "wrong-passphrase" not in whole


def test_a_key_the_host_does_not_know_is_offered_once(start_sshd: StartSshd, tmp_path: Path) -> None:
    sshd = start_sshd(LogLevel="VERBOSE")
    stranger = keygen(tmp_path / "stranger")
    error = refusal(sshd.known_hosts, sshd.host(ansible_ssh_private_key_file=str(stranger)))
    assert isinstance(error, AuthFailedError)
    assert "not tried again" in str(error)
    time.sleep(0.1)
    assert (sshd.folder / "log").read_text().count("Failed publickey") == 1


def test_a_host_that_wants_a_second_proof(start_sshd: StartSshd) -> None:
    sshd = start_sshd(
        AuthenticationMethods="publickey,password", PasswordAuthentication="yes", PermitRootLogin="yes"
    )
    error = refusal(sshd.known_hosts, sshd.host())
    assert isinstance(error, AuthFailedError)
    assert "second proof" in str(error)


def test_a_hosts_banner_is_cleaned(start_sshd: StartSshd, tmp_path: Path) -> None:
    (tmp_path / "banner").write_bytes(b"\x1b[31mGO AWAY\x07 \xff\n")
    sshd = start_sshd(Banner=str(tmp_path / "banner"))
    stranger = str(keygen(tmp_path / "x"))
    message = str(refusal(sshd.known_hosts, sshd.host(ansible_ssh_private_key_file=stranger)))
    assert "GO AWAY" in message
    assert "\x1b" not in message


# certificates


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return keygen(tmp_path / "ca")


def certify(authority: Path, public: Path, *options: str) -> str:
    argv = ["ssh-keygen", "-q", "-s", authority, "-I", "id", *(options or ("-n", "root")), public]
    subprocess.run(argv, check=True, timeout=20, stdin=subprocess.DEVNULL)
    return str(public.with_name(public.name.removesuffix(".pub") + "-cert.pub"))


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_certificate_opens_a_host_that_trusts_its_authority(
    start_sshd: StartSshd, authority: Path, tmp_path: Path, kind: str
) -> None:
    sshd = start_sshd(TrustedUserCAKeys=f"{authority}.pub", AuthorizedKeysFile="none")
    key = keygen(tmp_path / "user", "-t", kind)
    certificate = certify(authority, tmp_path / "user.pub")
    bare = sshd.host(ansible_ssh_private_key_file=str(key))
    assert isinstance(refusal(sshd.known_hosts, bare), AuthFailedError)
    host = sshd.host(ansible_ssh_private_key_file=str(key), lamplighter_ssh_certificate=certificate)
    with SshTransport(sshd.known_hosts) as transport:
        assert transport.connect(host).run("echo in").stdout == "in\n"


def test_certificates_that_cannot_be_used(fleet: Fleet, authority: Path, tmp_path: Path) -> None:
    key = keygen(tmp_path / "user")
    public = tmp_path / "user.pub"
    keygen(tmp_path / "other")
    cases = [
        (certify(authority, tmp_path / "other.pub"), "another key"),
        (str(public), "not a certificate"),
        ("/nonexistent/x-cert.pub", "cannot be read"),
    ]
    for options, said in (("-h -n h", "host's certificate"), ("-n root -V -2d:-1d", "valid now")):
        made = Path(certify(authority, public, *options.split()))
        cases.append((str(made.rename(tmp_path / said.replace(" ", "-"))), said))
    for certificate, said in cases:
        variables = {"ansible_ssh_private_key_file": str(key), "lamplighter_ssh_certificate": certificate}
        error = refusal(fleet.known_hosts, fleet_host(fleet, ansible_port=free_port(), **variables))
        assert isinstance(error, AuthFailedError)
        assert said in str(error)


# the agent


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        yield
        process.terminate()


def add(*keys: Path) -> None:
    subprocess.run(["ssh-add", "-q", *keys], check=True, timeout=10, env=os.environ)


@pytest.mark.usefixtures("agent")
def test_the_agent_is_asked_only_when_told_to(fleet: Fleet, tmp_path: Path) -> None:
    stranger = keygen(tmp_path / "stranger")
    add(fleet.client_key)
    with SshTransport(fleet.known_hosts) as transport:
        with pytest.raises(AuthFailedError):
            transport.connect(fleet_host(fleet, ansible_ssh_private_key_file=str(stranger)))
        only = fleet_host(fleet, lamplighter_ssh_agent=True, ansible_ssh_private_key_file="")
        assert transport.connect(only).run("echo in").stdout == "in\n"
    add(stranger)
    assert "2 keys" in says(fleet, only)
    public = fleet.client_key.with_name(fleet.client_key.name + ".pub")
    (tmp_path / "mine.pub").write_bytes(public.read_bytes())
    named = fleet_host(
        fleet, lamplighter_ssh_agent=True, ansible_ssh_private_key_file=str(tmp_path / "mine")
    )
    with SshTransport(fleet.known_hosts) as transport:
        assert transport.connect(named).run("echo in").stdout == "in\n"


# jump hosts


def test_a_jump_host_is_pinned_and_shared(fleet: Fleet) -> None:
    first, second = fleet.hosts[1], fleet.hosts[2]
    jump = f"root@{first.address}:{first.port},root@{second.address}:{second.port}"
    with SshTransport(fleet.known_hosts) as transport:
        hosts = [fleet_host(fleet, number, lamplighter_ssh_jump=jump) for number in (3, 4, 5)]
        for host in hosts:
            assert transport.connect(host).run(WHO).stdout == f"{host.name}\n"
        assert len(transport._wires) == 5
        big = transport.connect(hosts[0]).run("head -c 3000000 /dev/zero | tr '\\0' x", cap=4_000_000)
        assert len(big.stdout) == 3_000_000


def test_a_jump_host_whose_key_is_not_pinned(fleet: Fleet, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text("".join(f"{host.host_key_line}\n" for host in fleet.hosts if host.name != "host2"))
    jump = f"root@{fleet.hosts[1].address}:{fleet.port}"
    error = refusal_named(known, fleet_host(fleet, 3, lamplighter_ssh_jump=jump))
    assert isinstance(error, HostKeyError)
    assert str(error).startswith("jump host root@127.0.1.2")


def test_a_host_behind_a_jump_host_is_pinned_too(fleet: Fleet, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_text("".join(f"{host.host_key_line}\n" for host in fleet.hosts if host.name != "host4"))
    jump = f"root@{fleet.hosts[1].address}:{fleet.port}"
    assert isinstance(refusal(known, fleet_host(fleet, 3, lamplighter_ssh_jump=jump)), HostKeyError)


def test_a_jump_host_that_cannot_reach_it(fleet: Fleet) -> None:
    jump = f"root@{fleet.hosts[1].address}:{fleet.port}"
    host = fleet_host(fleet, 3, lamplighter_ssh_jump=jump, ansible_port=free_port())
    assert "jump host cannot reach" in says(fleet, host)


def refusal_named(known_hosts: Path, host: Host) -> LamplighterError:
    with SshTransport(known_hosts) as transport, pytest.raises(UnreachableError) as caught:
        transport.connect(host)
    return caught.value
