"""Readers of what hosts and directories answer: see `test_fuzz`."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from lamplighter.errors import (
    LamplighterError,
    MalformedError,
    RemoteFailedError,
    SessionLostError,
)
from lamplighter.model.canonical import canonical
from lamplighter.model.powershell import PowerShellScript
from lamplighter.transports import ldap_ber as ber
from lamplighter.transports import ldap_errors
from lamplighter.transports import winrm_bootstrap as bootstrap
from lamplighter.transports.ssh_detached import Units
from lamplighter.transports.ssh_exchange import Raw
from lamplighter.transports.text import clean
from lamplighter.transports.winrm import WinRmTransport
from lamplighter.transports.winrm_clixml import readable
from lamplighter.transports.winrm_soap import Shell
from tests import winrmkit as kit
from tests.faults.fuzzing import Reader, damaged, garbled, rewired
from tests.lab import rogue_ldap as rogue
from tests.lab.winrm_endpoint import WinRmEndpoint
from tests.lab.winrm_soap import ACTIONS
from tests.lab.winrm_trouble import Answer, Connection

pytestmark = pytest.mark.faults

# --- what hosts and directories answer ------------------------------------------------------------

SCRIPT = PowerShellScript("Get-Thing", "param()", {}, {"type": "object"})
FRAME = "lamplighter-0123456789abcdef:"
CLIXML = (
    '#< CLIXML\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
    '<S S="Error">No_x000D__x000A_at _xD83D__xDE00_</S><Obj S="progress"><TN RefId="0"/></Obj></Objs>'
)


def _clixml(text: str) -> None:
    shown = readable(clean(text))
    assert clean(shown) == shown
    assert len(shown) <= len(text)


def _answer(case: tuple[int, bytes, bytes]) -> None:
    try:
        answer = bootstrap.answer(SCRIPT, FRAME, *case)
    except RemoteFailedError as error:
        canonical(dict(error.data))
        raise
    canonical(answer.output)


def _framed(body: Any) -> bytes:
    return f"chatter{FRAME}{base64.b64encode(json.dumps(body).encode()).decode()}{FRAME}".encode()


ANSWERS = [
    {"ok": True, "output": '{"a": ["x", 1, null]}'},
    {"ok": False, "error": {"message": "no", "type": "T", "id": "I", "hresult": -2147024891, "line": 3}},
]


class Feed:
    """Stands where the authenticated connection is: every question is answered with the same envelope."""

    def __init__(self, status: int, envelope: bytes) -> None:
        self.given = status, envelope

    def ask(self, message: bytes, deadline: float) -> tuple[int, bytes]:
        assert message
        assert deadline
        return self.given


def _soap(case: tuple[int, bytes]) -> None:
    shell, later = Shell(Feed(*case), 5.0), time.monotonic() + 60  # type: ignore[arg-type]
    for ask in (
        shell.open,
        lambda end: shell.start("x", (), end),
        lambda end: shell.receive("1", end),
        lambda end: shell.terminate("1", end),
        lambda end: shell.feed("1", b"x", end),
    ):
        try:
            ask(later)
        except SessionLostError:
            continue


def _ber(data: bytes) -> None:
    for read in (ber.frame_size, ber.read_cookie, ber.read_policy):
        try:
            read(data)
        except MalformedError:
            continue
    message = ber.read_message(data)
    for reader in (ber.read_entry, ber.read_result):
        try:
            reader(message)
        except MalformedError:
            continue


def _told(result: ber.Result) -> None:
    for error in (
        ldap_errors.refused("it could not be set", result, ("hunter2",)),
        ldap_errors.refused_bind(result, "cn=svc", ("hunter2",)),
    ):
        assert isinstance(error, LamplighterError)
        assert clean(str(error)) == str(error)
        assert "hunter2" not in str(error)


class Link:
    """Stands where a host's connection is: every unit script is answered alike."""

    host, closed = "h", False

    def __init__(self, reply: Raw) -> None:
        self.reply = reply

    connected, connection = True, None

    def attach(self, deadline: float, patience: float = 0.0) -> None:
        assert deadline
        assert patience >= 0

    def drop(self) -> None:
        raise AssertionError("nothing broke")

    def account(self, *, sudo: bool) -> str:
        return "root" if sudo else "ops"

    def perform(self, *_: object, **__: object) -> Raw:
        return self.reply


def _units(reply: Raw) -> None:
    units = Units(Link(reply))  # type: ignore[arg-type]
    for ask in (
        lambda: units.state("u", sudo=False),
        lambda: units.wait("u", sudo=False, timeout=0.002, cap=100),
        lambda: units.launch("u", "x", (), sudo=False),
    ):
        try:
            ask()
        except (RemoteFailedError, SessionLostError):
            continue
        except LamplighterError as error:
            assert "was launched before" in str(error)  # noqa: PT017 - one of several good ends


RESULT = ber.Result(49, "dc=x", "80090308: LdapErr: DSID-0C, comment: data 52e, v3839 hunter2")
POLICY = {
    ber.PASSWORD_POLICY: rogue.tlv(0x30, rogue.tlv(0xA0, rogue.tlv(0x80, b"\x05")), rogue.tlv(0x81, b"\x01"))
}
ANSWERED = [
    Reader(
        "clixml",
        _clixml,
        garbled(
            [CLIXML, CLIXML * 3],
            (
                "_x000A_",
                "_xD83D_",
                "<Objs",
                "</Objs>",
                "<S S='Error'>",
                "</S>",
                "<!DOCTYPE a>",
                "&amp;",
                "&x;",
                "<a>" * 70,
            ),
        ),
    ),
    Reader(
        "bootstrap",
        _answer,
        st.tuples(
            st.sampled_from((0, 1, -1)),
            damaged([_framed(one) for one in ANSWERS])
            | rewired(ANSWERS).map(_framed)
            | rewired([{"a": ["x", 1]}]).map(lambda one: _framed({"ok": True, "output": json.dumps(one)})),
            damaged([CLIXML.encode()]),
        ),
        (RemoteFailedError,),
    ),
    Reader(
        "ber",
        _ber,
        damaged(
            [
                rogue.entry(7, "cn=x,dc=test", cn=b"x" * 200, sn=b"y"),
                rogue.result(7, 0x61, 49, "no"),
                rogue.result(7, 0x67, 10, "", rogue.referral("ldap://rogue/")),
                POLICY[ber.PASSWORD_POLICY],
            ]
        ),
        (MalformedError,),
    ),
    Reader(
        "ldap_errors",
        _told,
        st.builds(
            replace,
            st.just(RESULT),
            code=st.integers(-5, 200),
            text=garbled(
                [RESULT.text, "0000052D: x", "00000056: y"], ("data ffffffff,", "hunter2", "%s", "{0}")
            ),
            controls=st.sampled_from([{}, POLICY])
            | damaged(list(POLICY.values())).map(lambda value: {ber.PASSWORD_POLICY: value}),
        ),
    ),
    Reader(
        "units",
        _units,
        st.builds(
            Raw,
            st.sampled_from((0, 0, 0, 1)),
            garbled(
                ["finished 0 whole 3 3\nout", "finished 1 cut 3 3\nout", "running 3", "absent 2", "lost",
                 "begun", "exists", "refused why", "damaged", "ready"],
                (
                    "finished",
                    "\u00b2",
                    "9" * 5000,
                    "-1",
                    "0",
                ),
            ).map(lambda text: text.encode("utf-8", "surrogatepass")),
            damaged([b"err"]),
        ),
    ),
]


@pytest.mark.parametrize("reader", ANSWERED, ids=lambda one: one.name)
def test_an_answer_is_read_or_refused(reader: Reader) -> None:
    reader.attack()


@pytest.fixture
def envelopes(tmp_path: Path) -> list[bytes]:
    """One of each kind, as our own endpoint sends them."""
    kept: list[bytes] = [b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"/>']

    def keep(to: Connection, answer: Answer) -> None:
        kept.append(answer.plain)
        to.put(to.seal(answer))

    with WinRmEndpoint(tmp_path) as endpoint, WinRmTransport(kit.secret) as transport:
        endpoint.trouble = dict.fromkeys(ACTIONS.values(), keep)
        session = transport.connect(kit.windows(endpoint))
        session.execute("echo out; echo err >&2", stdin=b"x")
        endpoint.service.close()
        with pytest.raises(SessionLostError):
            session.execute("true")
    assert len(kept) > 6
    return kept


def test_soap(envelopes: list[bytes]) -> None:
    words = ("<", ">", "</s:Envelope>", "<!DOCTYPE a>", "&lt;", "9" * 5000, "<a>" * 70, "AAAA")
    texts = garbled([one.decode() for one in envelopes], words)
    Reader(
        "soap",
        _soap,
        st.tuples(
            st.sampled_from((200, 500)),
            damaged(envelopes) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
        ),
        full=5000,
    ).attack()
