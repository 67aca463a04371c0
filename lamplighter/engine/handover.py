"""Gathers a function's track record from a site's ledgers, and keeps what internal IT decides on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lamplighter.engine.stages import evidence_key, keep_decision, kept
from lamplighter.errors import LedgerBrokenError, SigningError
from lamplighter.ledger import read_ledger
from lamplighter.model.attest import Code
from lamplighter.model.history import replay
from lamplighter.model.responsibility import Function
from lamplighter.model.stage import Decision, judge, ruling_of
from lamplighter.model.track import RunSeen, Track, track
from lamplighter.seals import runs_of
from lamplighter.site import Site
from lamplighter.store import Store


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a decision is made on.

    Attributes:
        track: since the last decision.
        last: that decision, whether it still counts or not; None when there is none.
    """

    track: Track
    last: Decision | None


def gather(function: Function, site: Site, store: Store, now: int) -> Gathered:
    """Read every ledger of the function's runbooks.

    Raises:
        LedgerBrokenError: one does not verify; nothing is decided on a record that was edited.
        StoreError: the store cannot be read.
    """
    ruling = ruling_of(kept(store, site, function.id, now).rulings)
    last = ruling.decision if ruling else None
    since = last.not_before if last else 0
    return Gathered(track(function.id, site.name, _runs(function, site, store), since, now), last)


def _runs(function: Function, site: Site, store: Store) -> Iterator[RunSeen]:
    for run in runs_of(store):
        try:
            records = tuple(read_ledger(store, run, site.name))
        except LedgerBrokenError as error:
            raise LedgerBrokenError(
                f"its ledger does not verify, so it is no evidence: {error}", where=f"run {run}",
                advice=f"run: lamplighter verify --site {site.name}", reason=error.reason,
                record=error.record,
            ) from error
        if not records or records[0].get("runbook") not in function.runbooks:
            continue
        gates = [one for one in records if one.kind == "gate"]
        refused = {str(line) for one in gates for line, *_ in one.get("refused") or ()}
        ill = {one.get("host") for one in records if one.kind == "verified" and one.get("problems")}
        ill |= {host for one in records if one.kind == "soaked" for host in one.get("ill") or ()}
        yield RunSeen(run, records[0].time // 1000, replay(records), len(refused), len(ill))


def decide(store: Store, site: Site, line: str, found: Track, now: int) -> None:
    """Keep a signed decision and the evidence it names, once the decision is seen to count.

    Raises:
        SigningError: it does not count; nothing was kept.
    """
    judged = judge(line, site.name, found.function, site.trust, now)
    if judged is None or not judged.counts:
        why = judged.why if judged else Code.WRONG_DIGEST
        raise SigningError(
            f"the decision does not count: {why}", changed="Nothing was kept",
            advice="It takes a person of internal IT with a key listed for lamplighter-stage@v1 in approvers",
        )
    store.put_new(evidence_key(found.function, found.digest), found.to_bytes())
    keep_decision(store, found.function, line)
