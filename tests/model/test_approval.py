"""Statements and the line that carries them: one spelling each, everything else is malformed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model import envelope
from lamplighter.model.approval import Decision, Statement, read_statement
from lamplighter.model.attest import Code, Trust
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, Envelope, folded, is_clean, pasted, read_line, visible
from lamplighter.model.request import NAMESPACE as REQUEST
from lamplighter.model.request import Asked, SignedRequest, authenticate, read_request
from lamplighter.model.standing import Standing, read_standing
from tests.gate_cases import NOW, address, make_plan, make_policy, pair

DIGEST = "sha256:" + "0" * 64
GOOD: dict[str, Any] = {
    "v": 1, "plan": DIGEST, "decision": "approve", "approver": "asha@internal.example", "not_before": 1,
    "expires": 2, "id": "approval-1", "reason": "",
}
STATEMENT = Statement(DIGEST, Decision.APPROVE, "asha@internal.example", 1, 2, "approval-1")


def test_a_statement_is_exactly_these_bytes() -> None:
    assert STATEMENT.to_bytes() == canonical(GOOD)
    assert STATEMENT.to_bytes() == (
        b'{"approver":"asha@internal.example","decision":"approve","expires":2,"id":"approval-1",'
        b'"not_before":1,"plan":"' + DIGEST.encode() + b'","reason":"","v":1}'
    )
    assert read_statement(STATEMENT.to_bytes()) == STATEMENT


ODD: dict[str, dict[str, Any]] = {
    "version as text": {"v": "1"},
    "version true": {"v": True},
    "another version": {"v": 2},
    "digest in capitals": {"plan": "sha256:" + "A" * 64},
    "digest too short": {"plan": "sha256:00"},
    "digest of another kind": {"plan": "sha512:" + "0" * 64},
    "digest with a line break": {"plan": DIGEST + "\n"},
    "unknown decision": {"decision": "maybe"},
    "no decision": {"decision": None},
    "approver empty": {"approver": ""},
    "approver a list": {"approver": ["asha@internal.example"]},
    "approver too long": {"approver": "a" * 255},
    "time as text": {"not_before": "1"},
    "time true": {"not_before": True},
    "time negative": {"not_before": -1},
    "time past the year 9999": {"expires": 253402300800},
    "ends as it begins": {"expires": 1},
    "id too short": {"id": "short"},
    "id too long": {"id": "a" * 65},
    "id with a slash": {"id": "approval/../1"},
    "id that begins with a dot": {"id": ".approval-1"},
    "reason too long": {"reason": "x" * 2001},
    "reason with a line break": {"reason": "a\nb"},
    "reason with an escape": {"reason": "a\x1b[31mb"},
    "reason that turns direction": {"reason": "a\u202eb"},
    "reason with an invisible mark": {"reason": "a\u200bb"},
    "revokes in an approval": {"revokes": "approval-2"},
    "revokes not an id": {"decision": "revoke", "revokes": ""},
    "unknown field": {"quorum": 1},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_statements_are_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        read_statement(canonical({**GOOD, **ODD[name]}))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_every_field_is_required(name: str) -> None:
    with pytest.raises(MalformedError):
        read_statement(canonical({key: value for key, value in GOOD.items() if key != name}))


SPELLINGS = {
    "spaces": json.dumps(GOOD).encode(),
    "another order": json.dumps(GOOD, separators=(",", ":")).encode(),
    "a final line break": canonical(GOOD) + b"\n",
    "a byte order mark": b"\xef\xbb\xbf" + canonical(GOOD),
    "a repeated key": canonical(GOOD)[:-1] + b',"v":1}',
    "a float": canonical(GOOD).replace(b'"v":1', b'"v":1.0'),
    "an exponent": canonical(GOOD).replace(b'"expires":2', b'"expires":2e0'),
    "a huge number": canonical(GOOD).replace(b'"expires":2', b'"expires":' + b"9" * 5000),
    "not a number": canonical(GOOD).replace(b'"expires":2', b'"expires":NaN'),
    "an escaped letter": canonical(GOOD).replace(b"asha", b"\\u0061sha"),
    "a decomposed letter": canonical({**GOOD, "reason": "é"}).replace("é".encode(), "e\u0301".encode()),
    "not UTF-8": canonical(GOOD).replace(b"asha", b"\xff\xff"),
    "a list": b"[]", "nothing": b"", "null": b"null",
    "very deep": b"[" * 10000 + b"]" * 10000,
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_other_spellings_are_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        read_statement(SPELLINGS[name])


def test_nothing_is_signed_that_could_not_be_read() -> None:
    with pytest.raises(MalformedError):
        Statement(DIGEST, Decision.APPROVE, "asha@internal.example", 2, 1, "approval-1").to_bytes()


# --- the line ----------------------------------------------------------------------------------------


def test_a_line_is_the_pair_and_nothing_else() -> None:
    line = Envelope(b"statement", "signature\n").to_line()
    assert line == envelope.encode(b'{"signature":"signature\\n","statement":"c3RhdGVtZW50"}')
    assert read_line(f"  {line}\r\n") == Envelope(b"statement", "signature\n")


def wrapped(pair_bytes: bytes) -> str:
    return envelope.encode(pair_bytes)


LINES = {
    "empty": "",
    "padding": wrapped(b'{"signature":"a","statement":"YQ"}') + "=",
    "the other alphabet": "ab+/",
    "a blank inside": wrapped(b'{"signature":"a","statement":"YQ"}').replace("x", " ", 1)[:9] + " A",
    "stray bits": wrapped(b'{"signature":"a","statement":"YQ"}')[:-1] + "R",
    "statement with padding": wrapped(b'{"signature":"a","statement":"YQ=="}'),
    "statement with stray bits": wrapped(b'{"signature":"a","statement":"YR"}'),
    "a third field": wrapped(b'{"signature":"a","statement":"YQ","x":""}'),
    "one field": wrapped(b'{"signature":"a"}'),
    "a repeated field": wrapped(b'{"signature":"a","signature":"a","statement":"YQ"}'),
    "numbers": wrapped(b'{"signature":1,"statement":2}'),
    "too long": wrapped(b'{"signature":"' + b"a" * MAX_LINE + b'","statement":"YQ"}'),
    "a full-width letter": "\uff21AAA",
}


@pytest.mark.parametrize("name", LINES)
def test_odd_lines_are_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        read_line(LINES[name])


def test_a_line_that_could_not_be_read_is_not_made() -> None:
    with pytest.raises(MalformedError, match="allowed"):
        Envelope(b"x" * MAX_LINE, "").to_line()


@given(st.binary(max_size=500), st.text(alphabet=st.characters(codec="ascii"), max_size=500))
def test_what_is_wrapped_comes_back(statement: bytes, signature: str) -> None:
    if statement:
        made = Envelope(statement, signature)
        assert read_line(made.to_line()) == made


def test_hidden_characters_are_spelled_out() -> None:
    assert is_clean("Größe, ५ होस्ट, 主机 ✅")
    assert visible("a\x1b[2Jb\u202ec") == "a\\u001b[2Jb\\u202ec"


# --- signed requests and standing approvals ------------------------------------------------------------

ASKED = Asked("demo", "patch-linux", {"hosts": "web", "packages": "all", "emergency": False})
TRUST: Trust = make_policy({}, make_plan({}))


def request(key: str = "arjun", who: str = "arjun", namespace: str = REQUEST, **changes: Any) -> str:
    made = SignedRequest(**{
        "asked": ASKED, "requester": address(who), "not_before": NOW, "expires": NOW + 600, "id": "request-1",
        **changes,
    })
    data = made.to_bytes()
    return Envelope(data, pair(key).sign(data, namespace)).to_line()


def ask(line: str, now: int = NOW, used: dict[str, str] | None = None, asked: Asked = ASKED) -> Any:
    return authenticate(line, asked, TRUST, now, used or {}, "run-1")


def test_a_signed_request_tells_who_asked() -> None:
    assert ask(request()).requester == address("arjun")
    assert ask(request(), used={"request-1": "run-1"}).requester == address("arjun")


def test_a_request_that_does_not_count_says_why() -> None:
    assert ask("hello") is Code.MALFORMED
    assert ask(request(namespace="lamplighter-approval@v1")) is Code.WRONG_NAMESPACE
    assert ask(request(key="stranger")) is Code.UNKNOWN_KEY
    assert ask(request(key="asha-lost", who="asha")) is Code.KEY_REVOKED
    assert ask(request(key="asha-expired", who="asha")) is Code.KEY_EXPIRED
    assert ask(request(key="kiran")) is Code.UNKNOWN_KEY
    assert ask(request(key="meera", who="meera")) is Code.UNKNOWN_PERSON
    assert ask(request(), NOW - 1) is Code.NOT_YET_VALID
    assert ask(request(), NOW + 600) is Code.EXPIRED
    assert ask(request(), used={"request-1": "run-2"}) is Code.USED
    for other in (
        replace(ASKED, site="other"), replace(ASKED, runbook="reboot"), replace(ASKED, parameters={}),
        replace(ASKED, parameters={**ASKED.parameters, "hosts": "all"}),
        replace(ASKED, parameters={**ASKED.parameters, "override": "because"}),
        replace(ASKED, parameters={**ASKED.parameters, "emergency": 0}),
    ):
        assert ask(request(), asked=other) is Code.WRONG_DIGEST


def test_requests_and_standing_approvals_come_back_as_they_were() -> None:
    made = SignedRequest(ASKED, address("arjun"), NOW, NOW + 600, "request-1", "CHG-1")
    assert read_request(made.to_bytes()) == made
    standing = Standing("demo", "patch-linux", "web", address("asha"), NOW, NOW + 600, "standing-1")
    assert read_standing(standing.to_bytes()) == standing


@pytest.mark.parametrize("seconds", [7 * 86400 + 1, 10**10])
def test_a_request_is_for_now(seconds: int) -> None:
    with pytest.raises(MalformedError, match="7 days"):
        request(expires=NOW + seconds)


@pytest.mark.parametrize("hosts", ["1", True, -1, None])
def test_standing_limits_are_whole_numbers(hosts: Any) -> None:
    standing = Standing("demo", "patch-linux", "web", address("asha"), NOW, NOW + 600, "standing-1")
    value = json.loads(standing.to_bytes())
    with pytest.raises(MalformedError, match="whole numbers"):
        read_standing(canonical({**value, "limits": {**value["limits"], "hosts": hosts}}))
    with pytest.raises(MalformedError, match="whole numbers"):
        read_standing(canonical({**value, "limits": {"hosts": 1}}))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    for read in (read_statement, read_request, read_standing):
        with pytest.raises(MalformedError):
            read(data)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), st.text(max_size=20),
    st.lists(st.integers(0, 5)),
)


@given(st.dictionaries(st.sampled_from([*GOOD, "x"]), VALUES))
def test_any_fields_are_read_or_malformed(changes: dict[str, Any]) -> None:
    try:
        data = canonical({**GOOD, **changes})
        assert read_statement(data).to_bytes() == data
    except MalformedError:
        pass


@given(st.integers(1, 4), st.sampled_from(["", "\n", " \r\n\t"]), st.booleans())
def test_a_pasted_text_is_the_lines_it_was_made_of(count: int, between: str, fold: bool) -> None:
    lines = tuple(request(id=f"request-{number}") for number in range(count))
    assert pasted(between.join(folded(line) if fold else line for line in lines)) == lines
    assert pasted("no line  at all") == ("no", "line", "at", "all")
