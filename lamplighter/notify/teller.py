"""Tells people of a run: who is meant, in which words, into the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lamplighter.model.calendar import told
from lamplighter.model.escalation import EscalationPath, Kind, Recipient, Trouble, default_path
from lamplighter.model.notice import Notice, Occasion
from lamplighter.model.party import Party
from lamplighter.model.quorum import needs
from lamplighter.model.runbook import Runbook, Sla
from lamplighter.model.show import share
from lamplighter.notify.cases import Case
from lamplighter.notify.outbox import Outbox
from lamplighter.notify.wording import Trusted, word
from lamplighter.site import Site
from lamplighter.site.notify import Notify

AT_ONCE = -1
"""The rung of those who are told outside the escalation path."""


def sla_of(site: Site, runbook: str, known: Runbook | None) -> Sla:
    """The times promised for a runbook's runs: those of its function, else the runbook's own."""
    function = site.matrix.of(runbook)
    return (function and function.sla) or (known.sla if known else Sla())


@dataclass(frozen=True)
class Teller:
    """See the module's docstring.

    Attributes:
        site: whose people.
        notify: how they are reached.
        runbooks: the known ones by id, for titles and promises.
        outbox: where notices are recorded.
        page: a run's page in Prefect's UI, by run id.
        clock: seconds since the epoch.
    """

    site: Site
    notify: Notify
    runbooks: Mapping[str, Runbook]
    outbox: Outbox
    page: Callable[[str], str]
    clock: Callable[[], float]

    def path(self, runbook: str) -> EscalationPath:
        """The escalation path of a runbook's function; where none is agreed, the owner, then internal IT."""
        function, known = self.site.matrix.of(runbook), self.runbooks.get(runbook)
        if function is not None:
            return function.escalation
        return default_path(known.owner if known else Party.MSP, self.site.people)

    def tell(self, trouble: Trouble, case: Case, rung: int) -> tuple[Notice, ...]:
        """Record the notices of one rung; those that were recorded before stay as they are.

        Raises:
            StoreError: they could not be recorded.
        """
        occasion = Occasion(trouble.run, str(trouble.kind), trouble.about, trouble.since, rung)
        to = self._meant(trouble, case, rung)
        return self._record(occasion, case, to, trouble.message, climbs=trouble.zero is not None)

    def emergency(self, case: Case) -> tuple[Notice, ...]:
        """Tell internal IT of an emergency change; nobody, when it is none."""
        if case.plan is None or case.plan.change_type != "emergency":
            return ()
        occasion = Occasion(case.run, "emergency", case.history.plan, case.plan.created)
        return self._record(occasion, case, self.notify.emergency_people(self.site.people), "")

    # --- whom -------------------------------------------------------------------------------------

    def _meant(self, trouble: Trouble, case: Case, rung: int) -> Sequence[Recipient]:
        path = self.path(case.runbook)
        signers = self._signers(case) if trouble.kind is Kind.GATE else ()
        if rung != AT_ONCE:
            return (*path.rungs[rung].to, *signers)
        return self._at_the_end(trouble, case, path) if trouble.kind is Kind.ENDED else signers

    def _at_the_end(self, trouble: Trouble, case: Case, path: EscalationPath) -> Sequence[Recipient]:
        """Who asked, unless the path's first rung tells them anyway; at a quiet end that rung as well.

        What ended before a target was looked at concerns who asked, and nobody else.
        """
        first = path.rungs[0].to if path.rungs and not path.rungs[0].after else ()
        own = tuple(Recipient(one.id) for one in self.site.people if one.id == case.requester)
        if case.askers_own and own:
            return own
        there = {person.id for one in first for person in one.people(self.site.people)}
        asked = tuple(one for one in own if one.person not in there)
        return asked if trouble.zero is not None else (*first, *asked)

    def _signers(self, case: Case) -> tuple[Recipient, ...]:
        """Everybody whose signature the gate would take, but the one who asked."""
        wanted = case.plan.gate.requirements if case.plan else ()
        return tuple(
            Recipient(person.id) for person in self.site.people
            if person.id != case.requester and any(one.admits(person) for one in wanted)
        )

    # --- what -------------------------------------------------------------------------------------

    def _record(
        self, occasion: Occasion, case: Case, to: Iterable[Recipient], message: str, *, climbs: bool = False
    ) -> tuple[Notice, ...]:
        link = self.page(case.run)
        subject, text = word(occasion.kind, climbs=climbs, **self._values(occasion, case, message, link))
        made = tuple(
            Notice(occasion, holder, channel, subject, text, link, int(self.clock()))
            for holder, channel in self.notify.addresses(to, self.site.people)
        )
        for notice in made:
            self.outbox.record(notice)
        return made

    def _values(self, occasion: Occasion, case: Case, message: str, link: str) -> dict[str, object]:
        plan, known, zone = case.plan, self.runbooks.get(case.runbook), self.site.time_zone
        opened = case.records[0].fields if case.records else {}
        return {
            "run": case.run, "rung": occasion.rung, "site": self.site.title, "message": message,
            "runbook": known.title if known else case.runbook, "link": Trusted(link),
            "state": occasion.about, "since": told(occasion.since, zone),
            "until": told(plan.expires, zone) if plan else "unknown",
            "needs": needs(plan.gate) if plan else "unknown",
            "digest": plan.digest if plan else "none was made",
            "touches": f"{share(len(plan.targets), plan.fleet)}, selection {plan.selection}" if plan else "-",
            "requester": f"{case.requester} ({opened.get('known', 'claimed')})",
            "change": f"{plan.change_type if plan else 'not planned'}, "
                      f"{opened.get('change_ref') or 'no reference given'}",
        }
