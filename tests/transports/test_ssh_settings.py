from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from lamplighter.errors import UnreachableError
from lamplighter.model.inventory import Host
from lamplighter.transports.ssh_settings import Login, SshSettings

KEY = {"ansible_ssh_private_key_file": "/k"}


def of(**variables: object) -> SshSettings:
    return SshSettings.of(Host("web1", (), {**KEY, **variables}))


def test_ansible_names_and_ours() -> None:
    settings = of(
        ansible_host="192.0.2.7",
        ansible_port=2222,
        ansible_user="ops",
        lamplighter_ssh_passphrase="env:P",
        lamplighter_ssh_certificate="~/c-cert.pub",
        lamplighter_sudo_password="cmd:sudo-web",
        lamplighter_ssh_jump="jump@bastion.example:2200, [2001:db8::1]:22,inner",
        lamplighter_connect_timeout=3,
    )
    assert settings == SshSettings(
        target=Login("192.0.2.7", 2222, "ops"),
        jumps=(
            Login("bastion.example", 2200, "jump"),
            Login("2001:db8::1", 22, "ops"),
            Login("inner", 22, "ops"),
        ),
        key=Path("/k"),
        certificate=Path("~/c-cert.pub").expanduser(),
        passphrase="env:P",
        sudo_password="cmd:sudo-web",
        connect_timeout=3.0,
    )
    assert hash(settings)


def test_defaults() -> None:
    settings = of()
    assert settings.target == Login("web1", 22, getpass.getuser())
    assert not settings.agent
    assert settings.connect_timeout == 10


def test_a_port_may_be_text_as_in_ini_inventories() -> None:
    assert of(ansible_port="2222").target.port == 2222


def test_every_mistake_is_told() -> None:
    with pytest.raises(UnreachableError) as caught:
        SshSettings.of(
            Host(
                "web1",
                (),
                {
                    "ansible_host": "-oProxyCommand=id",
                    "ansible_port": 99999,
                    "ansible_user": "a b",
                    "ansible_connection": "winrm",
                    "lamplighter_ssh_agent": "yes",
                    "lamplighter_ssh_jump": "a@b@c",
                    "lamplighter_connect_timeout": 0,
                    "lamplighter_sudo_password": 5,
                },
            )
        )
    said = str(caught.value)
    assert said.startswith("web1: ")
    for word in ("-oProxy", "99999", "'a b'", "winrm", "agent", "a@b@c", "timeout", "sudo_password"):
        assert word in said


@pytest.mark.parametrize("port", ["", "0", "x", "-1", "٣", True, None, "65536"])
def test_ports_that_are_none(port: object) -> None:
    with pytest.raises(UnreachableError, match="port"):
        of(ansible_port=port)


def test_no_key_at_all() -> None:
    with pytest.raises(UnreachableError, match="private_key_file"):
        SshSettings.of(Host("web1"))
    assert SshSettings.of(Host("web1", (), {"lamplighter_ssh_agent": True})).agent
