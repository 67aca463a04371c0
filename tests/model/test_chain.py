"""The chain: canonical lines, every kind of tampering found, and named for what it is."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamplighter.errors import LedgerBrokenError, MalformedError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.chain import (
    Break,
    _decode,
    check_fields,
    follow,
    genesis,
    make_record,
    read_record,
    verify_chain,
)

RUN, SITE = "patch-linux-0001", "demo"

TEXT = st.text(st.characters(codec="utf-8"), max_size=8).map(lambda text: unicodedata.normalize("NFC", text))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def chain(count: int, *, sealed: bool = False) -> list[bytes]:
    lines, head = [], genesis(RUN, SITE)
    for seq in range(1, count + 1):
        last = sealed and seq == count
        kind, fields = "intent", {"host": f"web{seq}", "n": seq}
        if last:
            kind, fields = "sealed", {"state": "Completed"}
        record, line = make_record(seq, head, 1_700_000_000_000 + seq, kind, fields)
        head = record.hash
        lines.append(line)
    return lines


def reason(lines: list[bytes]) -> tuple[str, int]:
    failure = verify_chain(lines, RUN, SITE).failure
    assert failure is not None
    return failure.reason, failure.record


def test_a_whole_chain_verifies_and_says_where_it_ends() -> None:
    lines = chain(20, sealed=True)
    verdict = verify_chain(lines, RUN, SITE)
    assert (verdict.count, verdict.failure) == (20, None)
    assert verdict.sealed is not None
    assert verdict.head == json.loads(lines[-1])["hash"]
    assert [record.seq for record in follow(lines, RUN, SITE)] == list(range(1, 21))


def test_an_empty_ledger_ends_at_its_genesis() -> None:
    assert verify_chain([], RUN, SITE).head == genesis(RUN, SITE)


def test_a_ledger_cannot_pass_for_that_of_another_run_or_site() -> None:
    lines = chain(3)
    for run, site in ((RUN, "other"), ("other", SITE)):
        failure = verify_chain(lines, run, site).failure
        assert failure is not None
        assert (failure.reason, failure.record) == (Break.FOREIGN, 1)


def test_each_kind_of_tampering_is_named() -> None:
    lines = chain(10)
    assert reason([*lines[:4], *lines[5:]]) == (Break.GAP, 5)
    assert reason([*lines[:4], lines[5], lines[4], *lines[6:]]) == (Break.REORDERED, 5)
    assert reason([*lines[:5], lines[4], *lines[5:]]) == (Break.DUPLICATE, 6)
    assert reason([*lines[:4], lines[4].replace(b"web5", b"web6"), *lines[5:]]) == (Break.EDITED, 5)
    assert reason([*lines[:9], lines[9][:-3]]) == (Break.TORN, 10)
    sealed = chain(10, sealed=True)
    after = make_record(11, read_record(sealed[-1]).hash, 1, "intent", {})[1]
    assert reason([*sealed, after]) == (Break.AFTER_SEAL, 11)


def test_a_record_rewritten_with_a_hash_of_its_own_breaks_the_link_after_it() -> None:
    lines = chain(10)
    fifth = read_record(lines[4])
    lines[4] = make_record(5, fifth.prev, fifth.time, "intent", {"host": "web9", "n": 5})[1]
    assert reason(lines) == (Break.FOREIGN, 6)


def test_every_single_byte_edit_of_a_sealed_ledger_is_found() -> None:
    """Each byte of 200 records is replaced, removed and doubled; the records before it still verify."""
    lines = chain(200, sealed=True)
    edits = 0
    for at, line in enumerate(lines):
        record = read_record(line)
        for place in range(len(line)):
            other = bytes([line[place] ^ (1 + (place + at) % 255)])
            for edited in (
                line[:place] + other + line[place + 1 :], line[:place] + line[place + 1 :],
                line[:place] + line[place : place + 1] + line[place:],
            ):
                edits += 1
                assert not _passes(edited, record.hash), (at, place, edited)
    assert edits > 100_000


def _passes(edited: bytes, digest: str) -> bool:
    """A changed line is found when it does not read as one record of the same hash."""
    parts = edited.splitlines(keepends=True)
    try:
        return len(parts) == 1 and read_record(edited).hash == digest
    except LedgerBrokenError:
        return False


def test_every_deletion_duplication_and_swap_of_a_sealed_ledger_is_found() -> None:
    lines = chain(200, sealed=True)
    full = verify_chain(lines, RUN, SITE)
    for at in range(200):
        cut = verify_chain(lines[:at] + lines[at + 1 :], RUN, SITE)
        assert cut.failure if at < 199 else (cut.count, cut.sealed) == (199, None)
        assert verify_chain(lines[: at + 1] + lines[at:], RUN, SITE).failure
        other = (at * 7 + 3) % 200
        if other != at:
            swapped = lines.copy()
            swapped[at], swapped[other] = lines[other], lines[at]
            assert verify_chain(swapped, RUN, SITE).failure
        assert verify_chain(lines[:at], RUN, SITE).head != full.head


@given(st.dictionaries(TEXT, JSON, max_size=4))
@settings(max_examples=300)
def test_what_is_written_is_canonical_and_reads_back(fields: dict[str, object]) -> None:
    fields = {f"f-{name}": value for name, value in fields.items()}
    check_fields("note", fields)
    record, line = make_record(1, genesis(RUN, SITE), 5, "note", fields)
    assert canonical(parse(line[:-1])) == line[:-1]
    assert read_record(line) == record


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()) | JSON.map(canonical))
@settings(max_examples=500)
def test_the_fast_reader_accepts_exactly_what_the_strict_one_does(data: bytes) -> None:
    answers = []
    for reader in (parse, _decode):
        try:
            answers.append(repr(reader(data)))
        except (MalformedError, ValueError):
            answers.append("refused")
    assert answers[0] == answers[1]


@pytest.mark.parametrize("text", [
    '{"a":1,"a":1}', '{"a":1.0}', '{"a":NaN}', '{"a":-0}', '{"a":1e3}', '{"a": 1}', ' {"a":1}', '{"a":1} ',
    '{"b":1,"a":2}', '{"a":"\\u0041"}', '{"a":"\\/"}', '{"a":9007199254740993}', '{"a":"e\u0301"}',
    "[" * 40 + "]" * 40, "[" * 100_000, '{"a":"\\ud800"}', "{", "", "null x",
])
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises((MalformedError, ValueError, RecursionError)):
        _decode(text.encode("utf-8"))


@pytest.mark.parametrize("line", [
    b"", b"\n", b"null\n", b"{}\n", b"[]\n", b'{"hash":1,"kind":"a","prev":"b","seq":1,"time":1}\n',
    b'{"hash":"x","kind":"a","prev":"b","seq":true,"time":1}\n', b"\xff\xfe\n", b"9" * 3_000_000 + b"\n",
    b"[" * 500_000 + b"\n",
])
def test_hostile_lines_are_refused_without_a_crash(line: bytes) -> None:
    with pytest.raises(LedgerBrokenError):
        read_record(line)


def test_fields_that_cannot_be_recorded_are_refused_before_they_are_queued() -> None:
    for kind, fields in (
        ("", {}), ("a", {"seq": 1}), ("a", {"x": 1.5}), ("a", {"x": object()}), ("a", {"x": "e\u0301"}),
        ("a", {"x": "y" * 1024 * 1024}),
    ):
        with pytest.raises(MalformedError):
            check_fields(kind, fields)
