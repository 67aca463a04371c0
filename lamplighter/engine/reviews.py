"""Reviews of emergencies in a site's store: opened when an emergency passes its gate, closed by a signature.

`reviews/<run>/opened` says until when internal IT is to look at it (`lamplighter.model.review`); signed
reviews lie beside it. Nothing here is rewritten; whether a review is done is judged from the signed lines
each time, so a line that somebody else put there closes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lamplighter.errors import NotApprovedError, SelectionError
from lamplighter.model.attest import Code, Trust
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import MAX_LINE
from lamplighter.model.review import Due, Review, judge_review, read_due
from lamplighter.seals import seal_of_run
from lamplighter.store import Store

_OPENED = "opened"


def open_review(store: Store, due: Due) -> bool:
    """Open a run's review, once.

    Returns:
        False when it was opened before.

    Raises:
        StoreError: it cannot be written; then the emergency must not go on.
    """
    if store.get(_key(due.run, _OPENED), limit=MAX_LINE) is not None:
        return False
    store.put_new(_key(due.run, _OPENED), due.to_bytes())
    return True


def due_of(store: Store, run: str) -> Due:
    """The review that a run opened.

    Raises:
        SelectionError: it opened none.
        StoreError, MalformedError: it cannot be read.
    """
    data = store.get(_key(run, _OPENED), limit=MAX_LINE)
    if data is None:
        raise SelectionError(f"{run} opened no review; only emergencies that passed their gate do")
    return read_due(data)


def head_of(store: Store, run: str) -> str:
    """Hash of a run's closing record, which is what a review is about; empty while the run is open."""
    seal = seal_of_run(store, run)
    return str(seal.get("head")) if seal else ""


def keep_review(store: Store, due: Due, line: str, trust: Trust) -> Review:
    """Keep a signed review, if it counts.

    Raises:
        NotApprovedError: it does not, and why.
    """
    judged = judge_review(line, due, head_of(store, due.run), trust)
    if isinstance(judged, Code):
        raise NotApprovedError(
            f"the review does not count: {judged}", where=due.run, changed="Nothing was kept",
            advice="Internal IT reviews, and not the person who asked for the emergency; the key must be "
            "listed in approvers for lamplighter-review@v1",
        )
    name = sha256(line.encode("ascii")).removeprefix("sha256:")
    store.put_new(_key(due.run, name), line.encode("ascii"))
    return judged


def review_of(store: Store, due: Due, trust: Trust) -> Review | None:
    """The signed review that closes an opened one; None while there is none."""
    head = head_of(store, due.run)
    judged = (judge_review(line, due, head, trust) for line in _lines(store, due.run)) if head else ()
    return next((one for one in judged if isinstance(one, Review)), None)


def open_reviews(store: Store, trust: Trust) -> tuple[Due, ...]:
    """Every review that is not done, the one that is due first at the front."""
    runs = (key.rpartition("/")[2] for key in store.list("reviews"))
    found = (due_of(store, run) for run in runs)
    undone = (due for due in found if not review_of(store, due, trust))
    return tuple(sorted(undone, key=lambda due: (due.due, due.run)))


def overdue(reviews: tuple[Due, ...], now: float) -> tuple[Due, ...]:
    """Those of them that should have been done by now."""
    return tuple(due for due in reviews if now >= due.due)


def check_emergencies(store: Store, trust: Trust, most: int, now: float) -> None:
    """Refuse a further emergency while too many earlier ones were never looked at.

    Args:
        store: the site's.
        trust: its people and keys.
        most: overdue reviews that are let pass.
        now: seconds since the epoch.

    Raises:
        NotApprovedError: names the reviews.
    """
    late = overdue(open_reviews(store, trust), now)
    if len(late) > most:
        raise NotApprovedError(
            f"{len(late)} reviews of earlier emergencies are overdue, and the site lets at most {most} pass: "
            + ", ".join(due.run for due in late),
            changed="Nothing was changed", advice="Internal IT signs each: lamplighter review RUN --key KEY",
        )


def _lines(store: Store, run: str) -> Iterator[str]:
    for key in store.list(f"reviews/{run}"):
        if not key.endswith(f"/{_OPENED}"):
            yield (store.get(key, limit=MAX_LINE) or b"").decode("ascii", "replace")


def _key(run: str, name: str) -> str:
    return f"reviews/{run}/{name}"
