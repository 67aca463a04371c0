"""The watch: finds runs that need somebody, tells them, and climbs escalation paths. Knows no Prefect.

Nothing here is remembered in a process. What was told stands in the store, below `watch/`: a mark for each
rung that was climbed, one for each run that is settled, one for each trouble that somebody took up. A notice
is recorded before its rung is marked, and its name depends on the occasion alone; so a watch that is killed,
runs twice at once, or was away for a week tells everything once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lamplighter.engine.reviews import open_reviews
from lamplighter.errors import ExistsError, SelectionError
from lamplighter.model.canonical import MAX_BYTES, canonical, digest, parse
from lamplighter.model.escalation import Kind, Trouble, due
from lamplighter.model.notice import Notice
from lamplighter.model.runbook import Runbook
from lamplighter.notify.cases import Case, read_case, trouble_of
from lamplighter.notify.outbox import Outbox
from lamplighter.notify.send import Delivered, Send, deliver, send_by_apprise
from lamplighter.notify.teller import AT_ONCE, Teller, sla_of
from lamplighter.seals import runs_of
from lamplighter.site import Site
from lamplighter.site.notify import Notify
from lamplighter.store import Store

ROOT = "watch"


@dataclass
class Watch:
    """See the module's docstring.

    Attributes:
        site: whose estate.
        store: the site's.
        notify: how its people are reached.
        runbooks: the known ones by id, for titles and promises.
        page: a run's page in Prefect's UI, by run id.
        clock: seconds since the epoch.
        send: delivers one message.
    """

    site: Site
    store: Store
    notify: Notify
    runbooks: Mapping[str, Runbook]
    page: Callable[[str], str]
    clock: Callable[[], float]
    send: Send = send_by_apprise
    outbox: Outbox = field(init=False)
    teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.store, self.clock, self.notify.give_up)
        self.teller = Teller(self.site, self.notify, self.runbooks, self.outbox, self.page, self.clock)

    # --- looking ----------------------------------------------------------------------------------

    def unsettled(self) -> tuple[str, ...]:
        """Every run that somebody may still have to hear of.

        Raises:
            StoreError: the store does not answer.
        """
        names = {key.rpartition("/")[2] for key in self.store.list(ROOT)}
        return tuple(run for run in runs_of(self.store) if f"{run}.settled" not in names)

    def case(self, run: str) -> Case:
        """One run as it stands now."""
        return read_case(self.store, run, self.site.name, self.clock())

    def trouble(self, case: Case, state: str = "") -> Trouble | None:
        """What is wrong with a run; see `lamplighter.notify.cases.trouble_of`."""
        return trouble_of(case, state, sla_of(self.site, case.runbook, self.runbooks.get(case.runbook)))

    def reviews(self) -> Iterator[Trouble]:
        """Emergencies that nobody of internal IT looked at in time."""
        for review in open_reviews(self.store, self.site.trust):
            if self.clock() >= review.due:
                who = f"It was asked for by {review.requester}, who may not be the one to review it."
                yield Trouble(review.run, Kind.REVIEW, "review", review.due, review.due, who)

    # --- telling ----------------------------------------------------------------------------------

    def tell(self, case: Case, state: str = "") -> tuple[Notice, ...]:
        """Record everything that is to be told of a run now.

        Args:
            case: the run.
            state: as for `lamplighter.notify.cases.trouble_of`.

        Returns:
            The notices that may still have to be sent.

        Raises:
            StoreError: the store does not answer; the next round tells what this one could not.
        """
        trouble = self.trouble(case, state)
        at_once = () if case.history.sealed else self.teller.emergency(case)
        return (*at_once, *(self.climb(trouble, case) if trouble else ()))

    def climb(self, trouble: Trouble, case: Case) -> tuple[Notice, ...]:
        """Record the notices of every rung that is due, each rung once.

        Raises:
            StoreError: the store does not answer; the next round tells what this one could not.
        """
        notices: list[Notice] = []
        for rung in self._left(trouble, case):
            made = self.teller.tell(trouble, case, rung)
            self._mark(_rung_key(trouble, rung), made)
            notices += made
        return tuple(notices)

    def _left(self, trouble: Trouble, case: Case) -> Iterator[int]:
        """The rungs to climb now; none but the first word once somebody has the trouble in hand."""
        path = self.teller.path(case.runbook)
        climbed = self._climbed(trouble, case)
        if AT_ONCE not in climbed:
            yield AT_ONCE
        if trouble.zero is not None and not self._taken(trouble):
            rungs = climbed - {AT_ONCE}
            unheard = bool(rungs) and all(self._failed(trouble, rung) for rung in rungs)
            yield from due(path, trouble.zero, self.clock(), rungs, unheard=unheard)

    def settle(self, case: Case) -> bool:
        """Mark a sealed run that nobody needs to hear of any more; it is not read again.

        Returns:
            Whether it is settled.
        """
        if not case.history.sealed or case.broken:
            return False
        trouble = self.trouble(case)
        if trouble is not None:
            climbs = trouble.zero is not None and not self._taken(trouble)
            rungs = range(len(self.teller.path(case.runbook).rungs) if climbs else 0)
            if {AT_ONCE, *rungs} - self._climbed(trouble, case):
                return False
        self._mark(_key(case.run, "settled"), ())
        return True

    def acknowledge(self, run: str, by: str, reason: str) -> None:
        """Note that somebody has a run's trouble in hand: its path is climbed no further.

        Raises:
            SelectionError: somebody said so before.
        """
        said = canonical({"by": by, "reason": reason, "time": int(self.clock())})
        try:
            self.store.put_new(_key(run, "taken"), said)
        except ExistsError:
            known = parse(self.store.get(_key(run, "taken"), limit=MAX_BYTES) or b"{}")
            raise SelectionError(f"{known.get('by')} has {run} in hand already") from None

    def deliver(self, seconds: float, notices: Iterable[Notice] | None = None) -> Delivered:
        """Send what is due, or just these; see `lamplighter.notify.send.deliver`."""
        return deliver(
            self.outbox, self.notify, self.site.title, self.send, seconds=seconds, notices=notices
        )

    # --- marks ------------------------------------------------------------------------------------

    def _climbed(self, trouble: Trouble, case: Case) -> set[int]:
        rungs = range(AT_ONCE, len(self.teller.path(case.runbook).rungs))
        return {rung for rung in rungs if self.store.get(_rung_key(trouble, rung)) is not None}

    def _taken(self, trouble: Trouble) -> bool:
        """Whether somebody has it in hand; a gate is in nobody's hand until it is answered."""
        return trouble.kind is not Kind.GATE and self.store.get(_key(trouble.run, "taken")) is not None

    def _mark(self, key: str, notices: Iterable[Notice]) -> None:
        names = [f"{one.month}/{one.id}" for one in notices]
        try:
            self.store.put_new(key, canonical({"notices": names, "time": int(self.clock())}))
        except ExistsError:
            return  # another process was as fast, and told the same people

    def _failed(self, trouble: Trouble, rung: int) -> bool:
        """Whether every notice of a rung failed for good: nobody has heard of it."""
        names = parse(self.store.get(_rung_key(trouble, rung)) or b"{}").get("notices", [])
        return all(self.outbox.failed(name) for name in names)


def _key(run: str, what: str) -> str:
    return f"{ROOT}/{run}.{what}"


def _rung_key(trouble: Trouble, rung: int) -> str:
    name = digest([str(trouble.kind), trouble.about, trouble.since]).removeprefix("sha256:")[:16]
    return _key(trouble.run, f"{name}.{'at-once' if rung == AT_ONCE else rung}")
