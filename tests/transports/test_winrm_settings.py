from __future__ import annotations

import pytest

from lamplighter.errors import UnreachableError
from lamplighter.transports.winrm_settings import Auth, WinRmSettings
from tests.winrmkit import windows

GOOD = {"ansible_host": "win1.example", "ansible_winrm_ca_trust_path": "/etc/ca.pem"}


def of(**variables: object) -> WinRmSettings:
    return WinRmSettings.of(windows(None, **(GOOD | variables)))


def test_https_and_ntlm_are_the_default() -> None:
    settings = of()
    assert (settings.port, settings.tls, settings.auth, settings.path) == (5986, True, Auth.NTLM, "wsman")
    assert str(settings) == "https://win1.example:5986/wsman"
    assert not settings.sealed


def test_http_is_always_sealed() -> None:
    assert of(ansible_port=5985).sealed
    assert of(ansible_port=80, ansible_winrm_scheme="http").sealed


@pytest.mark.parametrize(
    ("address", "authority"),
    [("10.0.0.1", "10.0.0.1:5986"), ("fe80::1", "[fe80::1]:5986"), ("::1", "[::1]:5986")],
)
def test_an_address_stands_in_a_url_as_it_should(address: str, authority: str) -> None:
    assert of(ansible_host=address).authority == authority


def test_ansibles_transport_may_be_a_list_of_one() -> None:
    assert of(ansible_winrm_transport=["kerberos"]).auth is Auth.KERBEROS
    assert of(ansible_winrm_transport="kerberos", lamplighter_winrm_password=None).password == ""


@pytest.mark.parametrize(
    ("variables", "mistake"),
    [
        ({"ansible_connection": "ssh"}, "this is no WinRM host"),
        ({"ansible_winrm_server_cert_validation": "ignore"}, "certificates are always validated"),
        ({"ansible_winrm_message_encryption": "never"}, "messages are always encrypted"),
        ({"ansible_winrm_proxy": "http://proxy"}, "no proxy is ever used"),
        ({"ansible_password": "in-clear"}, "ansible_password holds a password in clear"),
        ({"ansible_winrm_ca_trust_path": None}, "https needs the file of the CA"),
        ({"ansible_winrm_transport": "credssp"}, "not one of ntlm, kerberos, basic"),
        ({"ansible_winrm_transport": ["ntlm", "basic"]}, "not one of ntlm, kerberos, basic"),
        ({"ansible_winrm_transport": "basic", "ansible_winrm_scheme": "http"}, "over https only"),
        (
            {"ansible_winrm_transport": "kerberos", "ansible_host": "10.0.0.1"},
            "Kerberos needs the host's name",
        ),
        ({"ansible_winrm_scheme": "ftp"}, "neither http nor https"),
        ({"ansible_winrm_path": "../x y"}, "not a plain path"),
        ({"ansible_port": 70000}, "'70000' is not a port"),
        ({"ansible_port": True}, "'True' is not a port"),
        ({"ansible_user": None}, "ansible_user is not set"),
        ({"ansible_user": "a\r\nb"}, "is not a user name"),
        ({"ansible_user": 5}, "ansible_user is not text"),
        ({"lamplighter_winrm_password": None}, "nor lamplighter_winrm_password is set"),
        ({"ansible_winrm_pass": "file:/x"}, "ansible_winrm_pass is not read here: write ansible_password"),
        ({"ansible_winrm_kerberos_delegation": True}, "credentials are never passed on"),
        ({"lamplighter_connect_timeout": 0}, "not a number of seconds"),
        ({"ansible_winrm_operation_timeout_sec": "x"}, "not a number of seconds"),
    ],
)
def test_unsafe_and_impossible_settings_are_refused(variables: dict[str, object], mistake: str) -> None:
    with pytest.raises(UnreachableError, match=mistake) as caught:
        of(**variables)
    assert "in-clear" not in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


def test_the_password_is_a_reference_under_ansibles_name_or_ours() -> None:
    assert of(ansible_password="file:/b", lamplighter_winrm_password=None).password == "file:/b"
    assert of(ansible_password="file:/b", lamplighter_winrm_password="env:A").password == "env:A"


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UnreachableError) as caught:
        of(ansible_port=0, ansible_user=None, ansible_winrm_proxy="x")
    assert caught.value.message.count(";") == 2
