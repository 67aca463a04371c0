"""Directories that mean harm: each attack on an LDAP client that is known here, and what it must come to."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ldap3.utils.log
import pytest

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    OutputTooLargeError,
    ReferralError,
    SessionLostError,
    TimedOutError,
)
from lamplighter.model.directory import equals, replace
from lamplighter.secrets import Secret
from lamplighter.transports import ldap, ldap_wire
from lamplighter.transports.ldap_session import LdapSession
from tests.lab import rogue_ldap as rogue
from tests.lab.pki import Ca
from tests.lab.rogue_ldap import RogueLdap
from tests.ldapkit import (
    BASE,
    DN,
    NAME,
    NEW_CANARY,
    SERVICE_CANARY,
    no_secret,
    search,
    set_by_extension,
    set_by_modify,
    transport,
)

Pem = tuple[Path, Path]


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pem(ca: Ca) -> Pem:
    return ca.issue(NAME)


@pytest.mark.parametrize(
    ("kind", "done", "act"),
    [
        (rogue.MODIFY, rogue.MODIFY_DONE, set_by_modify),
        (rogue.EXTENDED, rogue.EXTENDED_DONE, set_by_extension),
        (rogue.SEARCH, rogue.SEARCH_DONE, search),
    ],
)
def test_a_referral_is_an_error_and_its_target_never_hears_of_it(
    ca: Ca, pem: Pem, kind: int, done: int, act: Callable[[LdapSession], None]
) -> None:
    with RogueLdap() as second:
        url = f"ldap://127.0.0.1:{second.port}/{DN}"
        answers = {kind: lambda n: (rogue.result(n, done, 10, "go there", rogue.referral(url)),)}
        with RogueLdap(pem, answers) as first, transport(ca, first) as directory:
            with pytest.raises(ReferralError, match="never followed") as caught:
                act(directory.connect())
            no_secret(caught.value)
        assert second.connections == 0


def test_a_referral_in_answer_to_the_login_is_not_followed(ca: Ca, pem: Pem) -> None:
    with RogueLdap() as second:
        url = f"ldap://127.0.0.1:{second.port}"
        answers = {rogue.BIND: lambda n: (rogue.result(n, rogue.BIND_DONE, 10, "", rogue.referral(url)),)}
        with RogueLdap(pem, answers) as server, transport(ca, server) as directory:  # noqa: SIM117 - too long
            with pytest.raises(ReferralError):
                directory.connect()
        assert second.connections == 0


def test_a_search_that_points_elsewhere_gives_what_is_here(ca: Ca, pem: Pem) -> None:
    with RogueLdap() as second:
        url = rogue.tlv(4, f"ldap://127.0.0.1:{second.port}/".encode())

        def answer(n: int) -> Iterator[bytes]:
            yield rogue.message(n, rogue.SEARCH_REF, url)
            yield rogue.entry(n, DN, cn=b"Roe")
            yield rogue.result(n, rogue.SEARCH_DONE)

        with RogueLdap(pem, {rogue.SEARCH: answer}) as first, transport(ca, first) as directory:
            assert [one.dn for one in directory.connect().search(equals("cn", "Roe"), ["cn"])] == [DN]
        assert second.connections == 0


def test_an_endless_answer_is_cut_off(ca: Ca, pem: Pem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap_wire, "MAX_ANSWER", 500_000)
    sent = itertools.count()

    def answer(n: int) -> Iterator[bytes]:
        for _ in sent:
            yield rogue.entry(n, DN, cn=b"x" * 10_000)

    with RogueLdap(pem, {rogue.SEARCH: answer}) as server, transport(ca, server) as directory:
        session = directory.connect()
        with pytest.raises(OutputTooLargeError):
            search(session)
        with pytest.raises(SessionLostError, match="lost before"):
            search(session)
    assert next(sent) < 1_000


def test_a_claim_of_four_gigabytes_is_not_waited_for(ca: Ca, pem: Pem) -> None:
    answers = {rogue.SEARCH: lambda _: (b"\x30\x84\xff\xff\xff\xff",)}
    with RogueLdap(pem, answers) as server, transport(ca, server) as directory:
        began = time.monotonic()
        with pytest.raises(OutputTooLargeError):
            search(directory.connect())
        assert time.monotonic() - began < 7.9


def test_more_entries_than_asked_for_are_an_error(ca: Ca, pem: Pem) -> None:
    def answer(n: int) -> Iterator[bytes]:
        yield from (rogue.entry(n, f"cn={i},{BASE}") for i in range(50))
        yield rogue.result(n, rogue.SEARCH_DONE)

    with RogueLdap(pem, {rogue.SEARCH: answer}) as server, transport(ca, server) as directory:
        session = directory.connect()
        with pytest.raises(OutputTooLargeError, match="more than 20"):
            session.search(equals("cn", "x"), [], most=20)


@pytest.mark.parametrize(("span", "whole"), [("0-1499", False), ("0-*", True)])
def test_a_part_of_a_list_is_never_taken_for_the_whole(ca: Ca, pem: Pem, span: str, *, whole: bool) -> None:
    def answer(n: int) -> Iterator[bytes]:
        yield rogue.entry(n, DN, **{f"member;range={span}": b"cn=x"})
        yield rogue.result(n, rogue.SEARCH_DONE)

    with RogueLdap(pem, {rogue.SEARCH: answer}) as server, transport(ca, server) as directory:
        session = directory.connect()
        if whole:
            assert session.search(equals("cn", "x"), ["member"])[0].texts("member") == ("cn=x",)
        else:
            with pytest.raises(OutputTooLargeError, match="more values"):
                session.search(equals("cn", "x"), ["member"])


def test_a_cookie_that_never_ends_hits_the_deadline(ca: Ca, pem: Pem) -> None:
    value = rogue.tlv(0x30, rogue.number(0), rogue.tlv(4, b"again"))
    paged = rogue.tlv(0xA0, rogue.tlv(0x30, rogue.tlv(4, b"1.2.840.113556.1.4.319"), rogue.tlv(4, value)))

    def answer(n: int) -> Iterator[bytes]:
        time.sleep(0.05)
        done = rogue.tlv(rogue.SEARCH_DONE, rogue.number(0, 0x0A), rogue.tlv(4), rogue.tlv(4))
        yield rogue.tlv(0x30, rogue.number(n), done, paged)

    with RogueLdap(pem, {rogue.SEARCH: answer}) as server, transport(ca, server, timeout=0.5) as directory:
        session = directory.connect()
        with pytest.raises((TimedOutError, SessionLostError)):
            search(session)


@pytest.mark.parametrize("act", [set_by_modify, set_by_extension, search])
def test_a_slow_server_hits_the_deadline(ca: Ca, pem: Pem, act: Callable[[LdapSession], None]) -> None:
    def drip(n: int) -> Iterator[bytes]:
        for octet in rogue.result(n, rogue.MODIFY_DONE, 0, "x" * 100):
            yield bytes((octet,))
            time.sleep(0.05)

    answers = dict.fromkeys((rogue.MODIFY, rogue.EXTENDED, rogue.SEARCH), drip)
    with RogueLdap(pem, answers) as server, transport(ca, server, timeout=0.4) as directory:
        session = directory.connect()
        began = time.monotonic()
        with pytest.raises(TimedOutError, match="not known") as caught:
            act(session)
        assert time.monotonic() - began < 14
        no_secret(caught.value)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\x30\x80\x00\x00",
        b"\x30\x05\x02\x01\x02\x67\x7f",
        b"\x30\x00",
        rogue.result(9999, rogue.MODIFY_DONE),
        rogue.message(0, rogue.EXTENDED_DONE, b"\x0a\x01\x34", rogue.tlv(4), rogue.tlv(4)),
        rogue.message(2, rogue.MODIFY_DONE),
        rogue.message(2, rogue.MODIFY_DONE, b"\xff" * 40),
        b"",
    ],
)
def test_garbage_leaves_the_outcome_open_and_the_connection_dead(ca: Ca, pem: Pem, garbage: bytes) -> None:
    with RogueLdap(pem, {rogue.MODIFY: lambda _: (garbage,)}) as server:
        with transport(ca, server, timeout=0.5) as directory:
            session = directory.connect()
            with pytest.raises(SessionLostError) as caught:
                set_by_modify(session)
            no_secret(caught.value)
            with pytest.raises(SessionLostError):
                set_by_modify(session)
        assert server.seen.count(rogue.MODIFY) == 1


def test_a_server_that_quotes_the_password_does_not_get_it_into_the_error(ca: Ca, pem: Pem) -> None:
    def quote(n: int) -> Iterator[bytes]:
        torn = f"{NEW_CANARY[:3]}\0{NEW_CANARY[3:]}"
        yield rogue.result(n, rogue.MODIFY_DONE, 19, f"bad: {NEW_CANARY}\x1b[2J\u202e {torn}")

    def quote_login(n: int) -> Iterator[bytes]:
        yield rogue.result(n, rogue.BIND_DONE, 49, f"no: {SERVICE_CANARY}")

    with RogueLdap(pem, {rogue.MODIFY: quote}) as server, transport(ca, server) as directory:
        with pytest.raises(LamplighterError) as caught:
            set_by_modify(directory.connect())
        no_secret(caught.value)
        assert "\x1b" not in str(caught.value)
        assert "\u202e" not in str(caught.value)
    with RogueLdap(pem, {rogue.BIND: quote_login}) as server, transport(ca, server) as directory:
        with pytest.raises(AuthFailedError) as caught:
            directory.connect()
        no_secret(caught.value)


def test_no_library_log_holds_a_password(ca: Ca, pem: Pem, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ldap3").setLevel(logging.DEBUG)
    ldap3.utils.log.set_library_log_detail_level(ldap3.utils.log.EXTENDED)
    ldap3.utils.log.set_library_log_hide_sensitive_data(False)
    try:
        with caplog.at_level(logging.DEBUG), RogueLdap(pem) as server, transport(ca, server) as directory:
            session = directory.connect()
            set_by_modify(session)
            set_by_extension(session)
            search(session)
            shown = f"{session!r} {directory!r} {vars(session)} {directory._settings!r} {caplog.text}"
            assert SERVICE_CANARY.encode() in server.bytes_seen
            assert NEW_CANARY.encode("utf-16-le") in server.bytes_seen
    finally:
        ldap3.utils.log.set_library_log_detail_level(ldap3.utils.log.OFF)
        ldap3.utils.log.set_library_log_hide_sensitive_data(True)
    assert SERVICE_CANARY not in shown
    assert NEW_CANARY not in shown


def test_a_password_that_is_no_text_does_not_show_in_the_error(ca: Ca, pem: Pem) -> None:
    with RogueLdap(pem) as server, transport(ca, server) as directory:
        session = directory.connect()
        for act in (session.modify, session.set_password):
            broken = Secret(f"{NEW_CANARY}\ud800")
            change = replace("unicodePwd", broken) if act == session.modify else broken
            with pytest.raises(LamplighterError) as caught:
                act(DN, change)
            no_secret(caught.value)
        assert server.seen == [rogue.BIND]
