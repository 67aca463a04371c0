"""Runs about one account: what a site's `directory.yaml` makes of the operations, their rates and delivery.

Knows no Prefect; `tasks.steps` carries the run itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lamplighter.delivery import Deliveries, Parcel, sweep
from lamplighter.engine.run import Run
from lamplighter.errors import RefusedError
from lamplighter.model.calendar import told
from lamplighter.model.directory import Directory
from lamplighter.model.escalation import default_path
from lamplighter.model.inventory import Host
from lamplighter.model.notice import Notice, Occasion
from lamplighter.model.outcome import RunState, StepResult
from lamplighter.model.party import Party
from lamplighter.model.plan import Step
from lamplighter.model.session import Connect
from lamplighter.notify.outbox import Outbox
from lamplighter.notify.send import Send, deliver, send_by_apprise
from lamplighter.rates import HOUR, Rates
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.site import Site
from lamplighter.site.directory import DirectoryEntry, SiteDirectory, load_directory
from lamplighter.site.notify import Notify, load_notify
from lamplighter.store import Store, open_store
from lamplighter.transports.ldap import LdapTransport
from tasks.account_changes import ResetPassword, UnlockAccount
from tasks.account_system import AccountSystem
from tasks.accounts import RESET, AccountFacts, Claims, Guard, way_words
from tasks.active_directory import ActiveDirectory
from tasks.openldap import OpenLdap
from tasks.owners_marks import Marks
from tasks.passwords import Style

TELL_SECONDS = 20.0


@dataclass(frozen=True)
class AccountDesk:
    """What the runs about accounts of one site work with.

    Attributes:
        site, store, directory, notify: the site's.
        clock: seconds since the epoch.
        resolver: reads secrets.
        send: sends a notice.
    """

    site: Site
    store: Store
    directory: SiteDirectory
    notify: Notify
    clock: Callable[[], float] = field(default=time.time)
    resolver: Resolve = resolve
    send: Send = send_by_apprise

    # --- operations -------------------------------------------------------------------------------

    def reset(self, run: str, asked: Claims, *, unlock: bool) -> ResetPassword:
        """The operation of a run that resets a password; see `Claims`.

        Raises:
            SelectionError: the site does not deliver that way.
        """
        way, to = self.directory.destination(asked.way)
        rules = self.directory.entry
        claims = Claims(asked.verified, way, to, rules.delivery.alternate or "")
        return ResetPassword(
            self.system, self.guard, self._keep(run), unlock, Style(rules.passwords), claims, self.clock
        )

    def unlock(self, verified: str) -> UnlockAccount:
        """The operation of a run that unlocks an account."""
        return UnlockAccount(self.system, self.guard, Claims(verified), self.clock)

    @property
    def system(self) -> AccountSystem:
        """The directory's kind."""
        return system_of(self.directory.entry)

    @property
    def guard(self) -> Guard:
        """Whom the site lets be touched."""
        return guard_of(self.directory.entry)

    @contextmanager
    def reach(self, site: Site) -> Iterator[Connect]:
        """Connect to the directory: any server for a survey, the plan's own afterwards."""
        del site
        with LdapTransport(self.directory.settings, self.resolver) as transport:

            def connect(host: Host) -> Directory:
                return transport.connect(str(host.vars.get("ldap_server", "")))

            yield connect

    # --- rates ------------------------------------------------------------------------------------

    @property
    def rates(self) -> Rates:
        """The site's."""
        rules = self.directory.entry.rates
        return Rates(self.store, rules.per_user_a_day, rules.per_hour, self.clock)

    def within_rates(self, run: Run) -> bool:
        """Whether the run may go on; if not it is halted, and both parties are told at once."""
        plan = run.plan()
        if not plan.waves or run.history.ended():
            return not run.history.ended()
        pins = {step.args["pin"] for one in plan.hosts for step in one.steps}
        why = next((found for pin in sorted(pins) if (found := self.rates.take(run.id, pin))), "")
        if why:
            run.journal.record("anomaly", why=why)
            run.end(RunState.HALTED, f"anomaly: {why}. Nothing was changed; find out who asks so often")
            self._tell(run.id, why)
        return not why

    def _tell(self, run: str, why: str) -> None:
        now = int(self.clock())
        occasion = Occasion(run, "anomaly", why, now - now % HOUR)
        text = (
            f"Run {run} at {self.site.title} was stopped: {why}.\n\nNothing was changed. Find out who asks "
            "so often before anything else is done: resets are what attackers ask the helpdesk for.\n"
        )
        outbox = Outbox(self.store, self.clock, self.notify.give_up)
        everybody = default_path(Party.MSP, self.site.people)
        to = self.directory.tell or [one for rung in everybody.rungs for one in rung.to]
        made = [
            Notice(occasion, holder, channel, f"Stopped: {why}"[:200], text, "", now)
            for holder, channel in self.notify.addresses(to, self.site.people)
        ]
        for notice in made:
            outbox.record(notice)
        deliver(outbox, self.notify, self.site.title, self.send, seconds=TELL_SECONDS, notices=made)

    # --- delivery ---------------------------------------------------------------------------------

    @property
    def deliveries(self) -> Deliveries:
        """The site's; what is past its time is removed on the way."""
        rules = self.directory.entry.delivery
        sweep(self.store, rules, self.clock())
        server = self.notify.servers.get(rules.mail_through or "", "")
        return Deliveries(self.store, rules, server, self.clock, self.resolver)

    def hand_over(self, run: Run) -> Parcel | None:
        """Give the new password to its user, or make it unreadable; recorded, and told when it failed.

        Nothing is recorded of one that is `waiting`: call it again at the parcel's `until`.
        """
        if run.history.sealed or run.ledger.records("delivery"):
            return self.deliveries.parcel(run.id)
        parcel = self._handed_over(run)
        if parcel is not None and parcel.state != "waiting":
            run.journal.record(
                "delivery", state=parcel.state, way=parcel.way, to=parcel.to, until=parcel.until,
                why=parcel.why,
            )
            if parcel.state == "failed":
                run.end(RunState.FAILED, f"the password was set, must be changed, and was not delivered: "
                        f"{parcel.why}. Reset it again once that is mended")
        return parcel

    def _handed_over(self, run: Run) -> Parcel | None:
        if run.history.ended() and run.history.plan:
            run.rollout().settle()  # a run that was killed may yet learn that the password was set
        known = [one.result for (_, step), one in run.history.outcomes.items() if step == RESET]
        released = {StepResult.OK}
        if self.directory.entry.delivery.when_unknown == "deliver":
            released.add(StepResult.UNKNOWN)
        if known and known[0] in released:
            return self.deliveries.release(run.id)
        return self.deliveries.drop(run.id, f"the reset ended as {known[0]}" if known else "it was not begun")

    def _keep(self, run: str) -> Callable[[Step, AccountFacts, Secret], None]:
        def keep(step: Step, facts: AccountFacts, secret: Secret) -> None:
            if why := self.rates.take(run, facts.pin):
                raise RefusedError(f"anomaly: {why}", changed="Nothing was changed")
            way, to = str(step.args["way"]), str(step.args["to"])
            self.deliveries.keep(run, way, to, str(step.args["login"]), secret)

        return keep


def open_desk(site: Site, store: Store | None = None) -> AccountDesk:
    """The desk of a site.

    Raises:
        SiteError: there is no directory.yaml, or it has mistakes.
        StoreError: the store cannot be opened.
    """
    store = store or open_store(site.store)
    return AccountDesk(site, store, load_directory(site.path), load_notify(site.path, site.people))


def system_of(rules: DirectoryEntry) -> AccountSystem:
    """The kind of directory a `directory.yaml` describes."""
    marks = Marks.of(rules.disabled)
    if rules.kind == "openldap":
        step = frozenset(map(str, rules.kept_in_step))
        return OpenLdap(rules.default_policy or "", rules.groups or "", marks, step)
    return ActiveDirectory(marks)


def guard_of(rules: DirectoryEntry) -> Guard:
    """Whom a `directory.yaml` lets be touched. A group that is both protected and VIP is protected."""
    return Guard(
        tuple(rules.delegated), tuple(rules.denied), tuple(rules.protected_groups), tuple(rules.vip.groups),
        rules.vip.rule == "internal-only",
    )


def remember_claims(run: Run) -> None:
    """Keep what was said of the caller in the ledger; a run that goes on takes it from there alone."""
    operation = run.request.operation
    if not isinstance(operation, ResetPassword | UnlockAccount):
        return
    said = operation.claims
    known = run.ledger.records("claimed")
    if not known:
        run.journal.record("claimed", verified=said.verified, way=said.way, to=said.to)
        return
    claims = replace(said, **{name: known[0].fields[name] for name in ("verified", "way", "to")})
    run.request = replace(run.request, operation=replace(operation, claims=claims))


def delivery_lines(run: Run) -> tuple[tuple[str, str], ...]:
    """What became of the password, for the log and the report; nothing when none was made."""
    said = [record.fields for record in run.ledger.records("delivery")]
    return tuple(
        ("password", f"{one['state']} {way_words(one['way'], one['to'])}"
         + (f", until {told(one['until'], run.site.time_zone)}" if one["until"] else "")
         + (f": {one['why']}" if one["why"] else ""))
        for one in said
    )
