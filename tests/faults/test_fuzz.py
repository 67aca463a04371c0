"""Readers of hostile input: each returns, or raises what it declares, in bounded time and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from lamplighter.errors import (
    LedgerBrokenError,
    MalformedError,
    SelectionError,
    SiteError,
    UnreachableError,
)
from lamplighter.model import approval, chain, plan, request, review, sshsig, stage, witness
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.dn import join_dn, parse_dn
from lamplighter.model.envelope import Envelope, encode, folded, line_id, pasted, read_line
from lamplighter.model.ical_lines import decode
from lamplighter.model.imported import Imported, problems
from lamplighter.model.inventory import Group, Host, assemble
from lamplighter.model.selection import select
from lamplighter.model.signers import parse_revoked, parse_signers
from lamplighter.model.sshkey import read_key, read_signature
from lamplighter.site.hosts import read_inventory
from lamplighter.site.yaml import Source, parse_yaml
from lamplighter.transports.ssh_hostkeys import KnownHosts
from lamplighter.transports.ssh_settings import SshSettings
from lamplighter.transports.winrm_settings import VARIABLES, WinRmSettings
from tests.faults.fuzzing import LEAVES, Reader, damaged, garbled, rewired
from tests.plankit import a_plan, changed, still
from tests.sshkit import Pair
from tests.sshkit import armour as by_hand

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
SHA = "sha256:" + "0" * 64
PAIRS = [Pair(kind) for kind in ("ed25519", "ecdsa-256", "rsa-2048", "sk-ed25519")]
MESSAGE = b"what was signed"
ARMOURED = [by_hand(pair.signature(MESSAGE, "ns@v1")) for pair in PAIRS]

# --- what travels signed --------------------------------------------------------------------------

APPROVAL = approval.Statement(SHA, approval.Decision.APPROVE, "a@x.example", 1, 9, "id-000001", "because")
PLAN = a_plan((changed("h1"), still("h2")))
RECORD = chain.make_record(0, SHA, 1, "opened", {"host": "h1", "facts": {"n": [1, "x"]}})[1]
STATEMENTS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "approval": (approval.read_statement, APPROVAL.to_bytes()),
    "plan": (plan.read_plan, PLAN.to_bytes()),
    "request": (
        request.read_request,
        request.SignedRequest(
            request.Asked("demo", "patch-linux", {"hosts": "all", "packages": "all"}),
            "a@x.example",
            1,
            9,
            "id-000001",
            "why",
        ).to_bytes(),
    ),
    "stage": (
        stage.read_decision,
        stage.Decision(
            "demo",
            "patching",
            stage.Stage.SHADOW,
            "a@x.example",
            1,
            9,
            "id-000001",
            SHA,
            {"patch-linux": SHA},
            "why",
        ).to_bytes(),
    ),
    "witness": (
        witness.read_statement,
        witness.Statement("demo", 3, SHA, "a@x.example", 1, "id-000001").to_bytes(),
    ),
    "review": (
        review.read_review,
        review.Review(
            "demo",
            "run-1",
            SHA,
            "a@x.example",
            review.Verdict.OBJECTED,
            1,
            "id-000001",
            "why",
        ).to_bytes(),
    ),
    "due": (review.read_due, review.Due("run-1", "demo", "a@x.example", 1, 9).to_bytes()),
}


def _spelled(value: Any) -> bytes:
    """Canonical where it can be, so that what lies behind the first check is reached."""
    try:
        return canonical(value)
    except MalformedError:
        return json.dumps(value).encode()


def _statement(case: tuple[str, bytes]) -> None:
    name, data = case
    read = STATEMENTS[name][0](data)
    assert read.to_bytes() == data


def _record(line: bytes) -> None:
    record = chain.read_record(line)
    fields = dict(record.fields)
    assert chain.make_record(record.seq, record.prev, record.time, record.kind, fields) == (record, line)


def _canonical(data: bytes) -> None:
    assert canonical(parse(data)) == data


def _line(text: str) -> None:
    line_id(text)
    for one in pasted(text):
        line_id(one)
    read = read_line(text)
    assert read.to_line() == text.strip(" \t\r\n")
    assert pasted(folded(read.to_line())) == (read.to_line(),)


def _signature(text: str) -> None:
    signature = sshsig.parse_signature(text)
    sshsig.verify(signature, b"another message")
    assert sshsig.dearmour(sshsig.armour(sshsig.dearmour(text))) == sshsig.dearmour(text)


def _key(blob: bytes) -> None:
    key = read_key(blob)
    assert key.blob == blob
    read_signature(key, blob)


def _raw_signature(blob: bytes) -> None:
    for pair in PAIRS:
        try:
            read_signature(read_key(pair.blob), blob)
        except MalformedError:
            continue


def _signers(text: str) -> None:
    parse_signers(text, "approvers")
    parse_revoked(text, "revoked")


def _whole_lines() -> st.SearchStrategy[bytes]:
    value = json.loads(RECORD)
    return damaged([RECORD]) | rewired([value]).map(lambda one: _spelled(one) + b"\n")


LINES = [Envelope(APPROVAL.to_bytes(), armoured).to_line() for armoured in ARMOURED]
SIGNED = [
    Reader("canonical", _canonical, damaged([one[1] for one in STATEMENTS.values()]), (MalformedError,)),
    Reader(
        "statements",
        _statement,
        st.sampled_from(sorted(STATEMENTS)).flatmap(
            lambda name: st.tuples(
                st.just(name),
                damaged([STATEMENTS[name][1]]) | rewired([json.loads(STATEMENTS[name][1])]).map(_spelled),
            )
        ),
        (MalformedError,),
    ),
    Reader("records", _record, _whole_lines(), (LedgerBrokenError,)),
    Reader(
        "envelopes",
        _line,
        garbled([*LINES, "\n".join(LINES)], ("eyJzaWduYXR1cmUiOi", "=", "_"))
        | st.tuples(rewired([{"signature": ARMOURED[0], "statement": encode(APPROVAL.to_bytes())}])).map(
            lambda one: encode(_spelled(one[0]))
        ),
        (MalformedError,),
    ),
    Reader(
        "sshsig",
        _signature,
        garbled(ARMOURED, ("-----BEGIN SSH SIGNATURE-----", "=", "A" * 70))
        | damaged([sshsig.dearmour(one) for one in ARMOURED]).map(by_hand),
        (MalformedError,),
    ),
    Reader("sshkeys", _key, damaged([pair.blob for pair in PAIRS]), (MalformedError,)),
    Reader("raw_signatures", _raw_signature, damaged([pair.raw_signature(MESSAGE) for pair in PAIRS])),
    Reader(
        "signers",
        _signers,
        garbled(
            [
                (ROOT / "inventories/demo/approvers").read_text(),
                f'a@x.example namespaces="lamplighter-approval@v1" {PAIRS[0].public_line}\n',
            ],
            ('"', "\\", "namespaces=", "cert-authority", "valid-after=", ",", "\n"),
        ),
    ),
]

# --- what a site's files and operators say --------------------------------------------------------

INVENTORY = assemble(
    {"web": Group(("web1", "web2")), "db": Group(("db1",)), "prod": Group(children=("web", "db"))},
    {"web1": {}, "web2": {}, "db1": {}, "a" * 60: {}},
)
NAMES = (
    *VARIABLES,
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_connection",
    "lamplighter_ssh_jump",
    "ansible_ssh_private_key_file",
    "lamplighter_connect_timeout",
    "lamplighter_ssh_agent",
)
GOOD: tuple[Any, ...] = (
    "ssh",
    "winrm",
    "kerberos",
    "192.0.2.1",
    "::1",
    5985,
    "file:/x",
    "/k",
    "ops@gw:22",
    3,
    "https",
)


def _settings(variables: dict[str, Any]) -> None:
    host = Host("h", (), variables)
    str(host.shell)
    for kind in (SshSettings, WinRmSettings):
        try:
            kind.of(host)
        except UnreachableError as error:
            assert "Nothing was sent" in str(error)  # noqa: PT017 - it may raise or not


def _hosts(text: str) -> None:
    source = Source("hosts.yaml", [])
    root = parse_yaml(text, source)
    if root:
        read_inventory(root, source)


def _from_file(text: str) -> str:
    """As a file holds it: no surrogates."""
    return text.encode("utf-8", "replace").decode()


def _selection(pattern: str) -> None:
    assert select(INVENTORY, pattern)


def _calendar(text: str) -> None:
    read = decode(text.encode("utf-8", "surrogatepass"))
    if not problems(read):
        Imported(read, "Asia/Kolkata").occurrences(1_780_000_000, 1_790_000_000)


def _dn(text: str) -> None:
    dn = parse_dn(text)
    assert parse_dn(str(dn)) == dn


DNS = [
    join_dn(("cn", 'Roe, \\ #+"<>;=\u00e9 '), ("ou", "x"), base="dc=corp,dc=example"),
    "CN=a+OU=b,DC=c",
    "cn=\\2c\\c3\\a9",
]
SAID = [
    Reader(
        "variables",
        _settings,
        st.dictionaries(
            st.sampled_from(NAMES),
            LEAVES | st.sampled_from(GOOD),
            max_size=10,
        ),
    ),
    Reader(
        "inventories",
        _hosts,
        garbled(
            [(ROOT / "inventories/demo/hosts.yaml").read_text()],
            (
                "&a",
                "*a",
                "<<: ",
                "!!python/object:os.system",
                "? ",
                "- ",
                "{",
                "]",
                "web[01:99999999]",
                ": ",
                "---\n",
            ),
        ).map(_from_file),
    ),
    Reader(
        "selections",
        _selection,
        garbled(
            ["web:&prod:!web1", "~web[12]", "web[0:1]", "all,!db", "2001:db8::1", "w*"],
            ("~", "&", "!", "*", "[", "]", ":", ",", "(a|aa)", "+", "{9}", "\\", "(?=", "[[:"),
        ),
        (SelectionError,),
    ),
    Reader("dns", _dn, garbled(DNS, (",", "+", "=", "\\", "\\2", '"', "#", "\\ff", " ")), (MalformedError,)),
    Reader(
        "calendars",
        _calendar,
        garbled(
            [(ROOT / "inventories/demo/stocktake.ics").read_text()],
            (
                "RRULE:FREQ=DAILY\r\n",
                "BEGIN:VEVENT\r\n",
                "END:VEVENT\r\n",
                "DTSTART:99999999T000000Z\r\n",
                "X" * 80,
                "RDATE:20260101\r\n",
                "INTERVAL=0",
                ";TZID=Nowhere/Else",
            ),
        ).map(_from_file),
        (MalformedError,),
        full=1500,
    ),
]


@pytest.mark.parametrize("reader", [*SIGNED, *SAID], ids=lambda one: one.name)
def test_a_reader_returns_or_says_what_is_wrong(reader: Reader) -> None:
    reader.attack()


def test_known_hosts(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    key = PAIRS[0].public_line

    def read(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        known = KnownHosts.read(path)
        for name in ("web1", "x" * 60, "[::1]", "\u0130"):
            known.pins("h", (name, "h"), 2222).check  # noqa: B018 - that there is one

    Reader(
        "known_hosts",
        read,
        garbled(
            [
                f"web1,192.0.2.1 {key}\n",
                f"*.example,!bad.example {key}\n@revoked web1 {key}\n",
                f"|1|MDEyMzQ1Njc4OTAxMjM0NTY3ODk=|MDEyMzQ1Njc4OTAxMjM0NTY3ODk= {key}\n",
            ],
            ("@cert-authority ", "*" * 30, "|1|", "[", "]:22", ",", "!", "?", "ssh-dss", "="),
        ),
        (SiteError,),
    ).attack()
