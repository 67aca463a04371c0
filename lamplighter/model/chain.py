"""The hash chain of a run's ledger: records, their bytes, and the check of every link.

A record is one line of canonical JSON (RFC 8785) ended by a newline: `{"hash": ..., "kind": ..., "prev":
..., "seq": ..., "time": ..., ...}`. `hash` is SHA-256 over a domain and the canonical record without
`hash`; `prev` is the hash before it, and that of the first record binds the site and the run, so that no
ledger can pass for another's. `seq` counts from 1. `time` is milliseconds since the epoch, UTC.

An edit changes a hash; a removal, insertion, repetition or exchange breaks a link. What a chain alone
cannot show is its own end being cut off: the site's chain of seals does that (`model/seals.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from lamplighter.errors import LedgerBrokenError, MalformedError
from lamplighter.model.canonical import MAX_DEPTH, MAX_INT, Json, canonical, digest, encode, parse, sha256

RECORD_DOMAIN = b"lamplighter-ledger@v1\n"
GENESIS_DOMAIN = b"lamplighter-ledger-genesis@v1\n"
MAX_LINE = 1024 * 1024
SEALED = "sealed"
RESERVED = frozenset({"seq", "prev", "time", "kind", "hash"})

class Break(StrEnum):
    """Why a record fails."""

    EDITED = "edited"  # its bytes are not canonical, or its hash is not that of its content
    GAP = "gap"  # one or more records before it are gone
    DUPLICATE = "duplicate"  # a record of that number stood earlier
    REORDERED = "reordered"  # the record that belongs here stands later
    FOREIGN = "foreign"  # a whole record, but of another chain than what stands before it
    AFTER_SEAL = "after-seal"  # it follows the closing record
    TORN = "torn"  # the last line has no end: a crash, or a cut


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes:
        seq: its number, from 1.
        prev: hash of the record before it, or the genesis of the run.
        time: milliseconds since the epoch, by the worker's clock.
        kind: what it records: `intent`, `outcome` ...
        fields: the rest; canonical JSON.
        hash: `sha256:...` over everything else.
    """

    seq: int
    prev: str
    time: int
    kind: str
    fields: Mapping[str, Json]
    hash: str

    @property
    def when(self) -> float:
        """`time` in seconds since the epoch, the unit of plans and approvals."""
        return self.time / 1000

    def __getitem__(self, name: str) -> Json:
        return self.fields[name]

    def get(self, name: str, default: Json = None) -> Json:
        """The field, or `default`."""
        return self.fields.get(name, default)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify_chain` found.

    Attributes:
        count: records that verify, from the first one on.
        head: hash of the last of them; the genesis when there is none.
        sealed: the closing record, when there is one.
        failure: the first record that fails; None when all verify.
    """

    count: int
    head: str
    sealed: Record | None
    failure: LedgerBrokenError | None


def genesis(run: str, site: str) -> str:
    """The `prev` of a run's first record."""
    return digest({"run": run, "site": site}, domain=GENESIS_DOMAIN)


def check_fields(kind: str, fields: Mapping[str, Json]) -> None:
    """Refuse what cannot become a record, before it is queued with others.

    Raises:
        MalformedError: a reserved name, no kind, no canonical form, or more than `MAX_LINE` bytes.
    """
    if not kind or RESERVED & fields.keys():
        raise MalformedError(f"a record of kind {kind!r} cannot have {sorted(RESERVED & fields.keys())}")
    if len(canonical({"fields": dict(fields), "kind": kind})) > MAX_LINE - 512:
        raise MalformedError(f"a {kind} record of more than {MAX_LINE} bytes")


def make_record(
    seq: int, prev: str, time: int, kind: str, fields: Mapping[str, Json]
) -> tuple[Record, bytes]:
    """Link one record to the chain.

    Args:
        seq: its number.
        prev: the head so far.
        time: milliseconds since the epoch.
        kind: what is recorded.
        fields: as `check_fields` accepts.

    Returns:
        The record, and its line with the newline.
    """
    value = {**fields, "seq": seq, "prev": prev, "time": time, "kind": kind}
    digest_ = sha256(encode(value), domain=RECORD_DOMAIN)
    line = encode({**value, "hash": digest_}) + b"\n"
    return Record(seq, prev, time, kind, dict(fields), digest_), line


def read_record(line: bytes) -> Record:
    """Read one line and check its own hash; its links are the chain's business.

    Args:
        line: one record, newline included.

    Raises:
        LedgerBrokenError: `torn` or `edited`.
    """
    if not line.endswith(b"\n"):
        raise LedgerBrokenError("the record has no end", reason=Break.TORN)
    if len(line) > MAX_LINE:
        raise LedgerBrokenError(f"the record is longer than {MAX_LINE} bytes", reason=Break.EDITED)
    body = line[:-1]
    try:
        value = _decode(body)
        record = _shape(value)
    except (MalformedError, ValueError, RecursionError) as error:
        raise LedgerBrokenError(f"the record is not one: {error}", reason=Break.EDITED) from error
    if sha256(_without_hash(body, value, record.hash), domain=RECORD_DOMAIN) != record.hash:
        raise LedgerBrokenError("the record's content is not what its hash says", reason=Break.EDITED)
    return record


class Chain:
    """Follows a chain record by record, in constant memory.

    Args:
        run, site: what the first record must bind.

    Attributes:
        count: records accepted.
        head: hash of the last.
        sealed: the closing record, once it came.
    """

    def __init__(self, run: str, site: str) -> None:
        self.count = 0
        self.head = genesis(run, site)
        self.sealed: Record | None = None

    def accept(self, line: bytes) -> Record:
        """Check one line against everything before it.

        Raises:
            LedgerBrokenError: naming the record's place and the reason, see `Break`.
        """
        place = self.count + 1
        try:
            record = read_record(line)
        except LedgerBrokenError as error:
            error.record = place
            error.at(f"record {place}")
            raise
        if record.seq != place or record.prev != self.head or self.sealed:
            raise self._misplaced(record, place)
        self.extend(record)
        return record

    def extend(self, record: Record) -> None:
        """Take over a record that is known to fit."""
        self.count, self.head = record.seq, record.hash
        if record.kind == SEALED:
            self.sealed = record

    def _misplaced(self, record: Record, place: int) -> LedgerBrokenError:
        if record.seq < place:
            what, why = f"record {record.seq} stands here a second time", Break.DUPLICATE
        elif self.sealed:
            what, why = "it follows the closing record", Break.AFTER_SEAL
        elif record.seq > place:
            what, why = f"record {record.seq} stands where {place} should", Break.GAP
        else:
            what, why = "it does not continue what stands before it", Break.FOREIGN
        return LedgerBrokenError(what, where=f"record {place}", reason=why, record=place)


def follow(lines: Iterable[bytes], run: str, site: str) -> Iterator[Record]:
    """Yield the records of a chain, each one checked before it is handed out.

    Args:
        lines: with their newlines.
        run, site: what the chain belongs to.

    Raises:
        LedgerBrokenError: at the first record that fails.
    """
    chain = Chain(run, site)
    rest = iter(lines)
    for line in rest:
        try:
            yield chain.accept(line)
        except LedgerBrokenError as error:
            _tell_gap_from_swap(error, rest)
            raise


def verify_chain(lines: Iterable[bytes], run: str, site: str) -> Verdict:
    """Check a whole chain in constant memory.

    Args:
        lines: the ledger's lines, with their newlines; only one is held at a time.
        run, site: what the chain must belong to.

    Returns:
        How far it verifies, and the first failure if there is one.
    """
    chain = Chain(run, site)
    rest = iter(lines)
    for line in rest:
        try:
            chain.accept(line)
        except LedgerBrokenError as error:
            _tell_gap_from_swap(error, rest)
            return Verdict(chain.count, chain.head, chain.sealed, error)
    return Verdict(chain.count, chain.head, chain.sealed, None)


def _tell_gap_from_swap(error: LedgerBrokenError, rest: Iterator[bytes]) -> None:
    """A record that is missing here but stands later was moved, not removed."""
    if error.reason != Break.GAP:
        return
    wanted = b'"seq":%d,' % error.record
    for line in rest:
        if wanted in line[:MAX_LINE]:
            error.reason = Break.REORDERED
            error.message += f"; record {error.record} stands later"
            return
    error.message += "; what belongs here is gone"


def _shape(value: Json) -> Record:
    if not isinstance(value, dict) or not value.keys() >= RESERVED:
        raise MalformedError("it lacks one of " + ", ".join(sorted(RESERVED)))
    seq, time = value["seq"], value["time"]
    texts = (value["prev"], value["kind"], value["hash"])
    if type(seq) is not int or type(time) is not int or not all(type(text) is str for text in texts):
        raise MalformedError("a number or text is of another type")
    fields = {name: item for name, item in value.items() if name not in RESERVED}
    return Record(seq, value["prev"], time, value["kind"], fields, value["hash"])


def _decode(body: bytes) -> Any:
    """`parse`, by the C scanner where it provably accepts the same: text in ASCII, and not deeply nested.

    Repeated keys, white space and other escapes do not survive re-encoding, so they are refused here too.
    """
    if not body.isascii() or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        return parse(body, limit=MAX_LINE)
    text = body.decode("ascii")
    value, end = _DECODER.raw_decode(text)
    if end != len(text) or encode(value) != body:
        raise MalformedError("not its canonical form (RFC 8785)")
    return value


def _without_hash(body: bytes, value: dict[str, Json], digest_: str) -> bytes:
    """The bytes the hash is over. `kind` always follows `hash`, so its comma goes with it."""
    if body.count(b'"hash":') == 1:
        return body.replace(b'"hash":"%s",' % digest_.encode(), b"", 1)
    return encode({name: item for name, item in value.items() if name != "hash"})


def _refuse(text: str) -> NoReturn:
    raise MalformedError(f"number {text[:20]} is not an integer below 2**53")


def _bounded(text: str) -> int:
    value = int(text) if len(text) <= len(str(-MAX_INT)) else _refuse(text)
    return value if -MAX_INT <= value <= MAX_INT else _refuse(text)


_DECODER = json.JSONDecoder(parse_float=_refuse, parse_int=_bounded, parse_constant=_refuse)
