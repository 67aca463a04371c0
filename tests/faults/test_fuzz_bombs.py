"""Inputs built to hurt: deep, wide, long, or repeated, up to a megabyte."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from lamplighter.errors import (
    MalformedError,
    RefusedError,
    RemoteFailedError,
    SelectionError,
)
from lamplighter.transports.ssh_exchange import Raw
from lamplighter.transports.text import clean
from lamplighter.transports.winrm_clixml import readable
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.faults.test_fuzz import ARMOURED, _calendar, _canonical, _dn, _line, _selection, _signature
from tests.faults.test_fuzz_answers import CLIXML, FRAME, _answer, _ber, _framed, _soap, _units
from tests.lab import rogue_ldap as rogue

pytestmark = pytest.mark.faults
SIZE = much(256, 1024) * 1024
BILLS: dict[str, tuple[float, float]] = {}
BOMBS: dict[str, tuple[Callable[[Any], object], Any]] = {
    "clixml, many documents": (readable, "<Objs></Objs>" * (SIZE // 13)),
    "clixml, many beginnings": (readable, "<Objs " * (SIZE // 6)),
    "clixml, one deep document": (readable, "<Objs>" + "<a>" * (SIZE // 4) + "</Objs>"),
    "clixml, many strings": (readable, CLIXML.replace("No", '</S><S S="Error">x' * (SIZE // 20))),
    "clixml, escapes": (readable, CLIXML.replace("No", "_x000A_" * (SIZE // 7))),
    "escape sequences": (clean, "\x1b[" * (SIZE // 2)),
    "escape strings": (clean, "\x1b]" * (SIZE // 2)),
    "json, deep": (_canonical, b"[" * SIZE),
    "json, wide": (_canonical, b"[" + b"0," * (SIZE // 2) + b"0]"),
    "json, one number": (_canonical, b"9" * SIZE),
    "json, keys": (_canonical, b'{"a":0,' * (SIZE // 7)),
    "envelope": (_line, "eyJzaWduYXR1cmUiOi" * (SIZE // 18)),
    "armour": (_signature, ARMOURED[0] * 2000),
    "bootstrap, frames": (lambda out: _answer((0, out, b"")), FRAME.encode() * (SIZE // 30)),
    "bootstrap, deep": (_answer, (0, _framed({"ok": True, "output": "[" * (SIZE // 2)}), b"")),
    "bootstrap, one number": (_answer, (0, _framed({"ok": True, "output": "9" * (SIZE // 2)}), b"")),
    "bootstrap, errors": (_answer, (1, b"", b"<Objs></Objs>" * (SIZE // 13))),
    "ber, deep": (_ber, b"\x30\x84\x7f\xff\xff\xff" * (SIZE // 6)),
    "ber, many": (
        _ber,
        rogue.tlv(0x30, rogue.number(1), rogue.tlv(0x64, rogue.tlv(4), rogue.tlv(0x30) * (SIZE // 2))),
    ),
    "ber, controls": (
        _ber,
        rogue.tlv(
            0x30,
            rogue.number(1),
            rogue.tlv(0x61),
            rogue.tlv(0xA0, rogue.tlv(0x30, rogue.tlv(4, b"1")) * (SIZE // 6)),
        ),
    ),
    "dn, many parts": (_dn, ("cn=a," * (SIZE // 5)).rstrip(",")),
    "dn, backslashes": (_dn, "cn=" + "\\2c" * (SIZE // 3)),
    "selection": (_selection, "~" + "(a*)" * (SIZE // 4)),
    "calendar": (_calendar, "RRULE:FREQ=SECONDLY\r\n" * (SIZE // 21)),
    "calendar, components": (_calendar, "BEGIN:VCALENDAR\r\n" + "BEGIN:X\r\nEND:X\r\n" * (SIZE // 18)),
    "soap, deep": (
        _soap,
        (200, b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">' + b"<a>" * (SIZE // 4)),
    ),
    "unit, number": (_units, Raw(0, b"finished " + b"9" * SIZE + b" 1 1", b"")),
}
SECONDS, MEMORY_MB = 3.0, 96.0


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_built_to_hurt_costs_little_time_and_memory(name: str) -> None:
    seconds, megabytes = _seconds(*BOMBS[name]), _megabytes(*BOMBS[name])
    assert seconds < SECONDS
    assert megabytes < MEMORY_MB
    BILLS[name] = (seconds, megabytes)
    report(
        "fuzz",
        [
            Row("bombs", len(BILLS), "inputs"),
            Row("bombs_slowest_s", max(bill[0] for bill in BILLS.values()), "s CPU", SECONDS),
            Row("bombs_largest_mb", max(bill[1] for bill in BILLS.values()), "MB", MEMORY_MB),
        ],
    )


def _seconds(read: Callable[[Any], object], data: Any) -> float:
    before = time.thread_time()
    with contextlib.suppress(MalformedError, RemoteFailedError, SelectionError, RefusedError):
        read(data)
    return time.thread_time() - before


def _megabytes(read: Callable[[Any], object], data: Any) -> float:
    tracemalloc.start()
    try:
        _seconds(read, data)
        return tracemalloc.get_traced_memory()[1] / 1024 / 1024
    finally:
        tracemalloc.stop()
