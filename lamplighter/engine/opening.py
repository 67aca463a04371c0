"""Opens a run: from what it was started with to a request that may be planned for.

What a flow is started with was typed by somebody, or written into Prefect's database by anybody. So a run
that was opened before is taken from its own ledger, whatever the parameters say by now; and a requester is
a fact only when the request is signed for exactly this: every parameter that the flow was started with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from lamplighter.engine.drafting import Request
from lamplighter.engine.replanning import check_replans
from lamplighter.engine.reviews import check_emergencies
from lamplighter.errors import ExistsError, NotApprovedError, SelectionError
from lamplighter.ledger import read_ledger
from lamplighter.model.attest import Code
from lamplighter.model.chain import Record
from lamplighter.model.envelope import is_clean, pasted, read_line, visible
from lamplighter.model.operation import Operation
from lamplighter.model.options import REQUESTER, options_of
from lamplighter.model.plan import Requester
from lamplighter.model.request import Asked, SignedRequest, authenticate, read_request
from lamplighter.model.runbook import Runbook
from lamplighter.site import Site
from lamplighter.store import Store

CLAIMED, SIGNED, SCHEDULE = "claimed", "signed", "schedule"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run was started with; nothing of it is proven.

    Attributes:
        run: its id.
        runbook: the declaration.
        operation: what is done, with the operator's options.
        hosts: an Ansible host pattern, or an account's name.
        change_ref: ticket or change number; may be empty.
        requester: a person's id, or a signed request line.
        emergency: whether it is to be expedited.
        schedule: finds the site's own schedule that started it, or refuses; None when a person did.
        override: why freezes are set aside; empty when they are not.
        due: when it should have begun, seconds since the epoch; 0: now.
        replans: id of the earlier run whose leftovers are taken up; empty for none.
        flow_run: Prefect's id of the run, in full.
        parameters: everything the flow was started with but the requester, defaults written out; what a
            signed request must say.
    """

    run: str
    runbook: Runbook
    operation: Operation[Any]
    hosts: str = "all"
    change_ref: str = ""
    requester: str = ""
    emergency: bool = False
    schedule: Callable[[Site], str] | None = None
    override: str = ""
    due: int = 0
    replans: str = ""
    flow_run: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def differs(self, request: Request) -> tuple[str, ...]:
        """Names in which this is not what a run was opened with."""
        mine = {"hosts": self.hosts, "change_ref": self.change_ref, "emergency": self.emergency,
                **self.operation.options()}
        theirs = {"hosts": request.selection, "change_ref": request.change_ref,
                  "emergency": request.emergency, **request.operation.options()}
        return tuple(sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)))


def open_request(wanted: Wanted, site: Site, store: Store, now: int) -> Request:
    """Find out what is asked for, and by whom, before any host is.

    Args:
        wanted: see `Wanted`.
        site, store: whose estate, and where its runs are written.
        now: seconds since the epoch.

    Raises:
        SelectionError: the requester is nobody of the site; an option is none of the runbook's; or the run
            to take up cannot be.
        NotApprovedError: a schedule is none of the site's; a signed request does not count; an emergency is
            not asked for with a signature, or may not be asked for now.
        StoreError, LedgerError: the store cannot be read.
    """
    first = next(read_ledger(store, wanted.run, site.name), None)
    if first is not None:
        return _reopened(wanted, site, first)
    request = Request(
        wanted.runbook, site, wanted.operation, Requester(""), wanted.hosts, wanted.change_ref,
        emergency=wanted.emergency, override=wanted.override, due=wanted.due, replans=wanted.replans.strip(),
        flow_run=wanted.flow_run,
    )
    _check_clean(wanted)
    options_of(wanted.runbook).require(wanted.operation.options())
    check_replans(request, store)
    request = _with_requester(request, wanted, store, now)
    if wanted.emergency:
        if request.requester.known != SIGNED:
            raise NotApprovedError(
                "an emergency needs a signed request: only then a second person is known to be another one",
                changed="Nothing was changed",
                advice=f"Run: lamplighter request {wanted.runbook.id} --site {site.name} --emergency",
            )
        check_emergencies(store, site.trust, site.overdue_reviews, now)
    return request


def _check_clean(wanted: Wanted) -> None:
    """Refuse texts that a terminal or a page would show as something else; all of them in one report.

    Raises:
        SelectionError: some hold control, bidirectional or invisible characters.
    """
    said = {
        "hosts": wanted.hosts, "change_ref": wanted.change_ref, "override": wanted.override,
        "replans": wanted.replans, "requester": "".join(wanted.requester.split()),
        **{name: str(value) for name, value in wanted.parameters.items() if name != REQUESTER},
    }
    odd = [f"{name}: {visible(text)[:80]}" for name, text in said.items() if not is_clean(text)]
    if odd:
        raise SelectionError(
            f"there are characters in it that cannot be seen: {'; '.join(odd)}",
            changed="Nothing was started", advice="Type it anew, without what was pasted along",
        )


def _reopened(wanted: Wanted, site: Site, opened: Record) -> Request:
    said = opened.fields
    try:
        operation: Operation[Any] = replace(cast("Any", wanted.operation), **said["options"])
    except (TypeError, ValueError) as error:
        raise SelectionError(
            f"{wanted.run} was opened with options this version does not know", changed="Nothing was changed",
            advice="Go on with the version that opened it, or start a new run",
        ) from error
    return Request(
        wanted.runbook, site, operation, Requester(said["requester"], said["known"]), said["selection"],
        said["change_ref"], emergency=said.get("emergency", False), signed=said.get("request", ""),
        override=said.get("override", ""), due=said.get("due", 0), replans=said.get("replans", ""),
        flow_run=wanted.flow_run,
    )


def _with_requester(request: Request, wanted: Wanted, store: Store, now: int) -> Request:
    named, site = wanted.requester.strip(), request.site
    if wanted.schedule is not None:
        return replace(request, requester=Requester(f"schedule:{wanted.schedule(site)}", SCHEDULE))
    if named and "@" not in named:  # a person's id has one, a signed line cannot
        line = pasted(named)[0]
        signed = _authenticated(line, wanted, site, store, now)
        due = max(request.due, signed.not_before) if request.due else 0  # the API sets it; nobody signed it
        return replace(request, requester=Requester(signed.requester, SIGNED), signed=line, due=due)
    people = [person.id for person in site.people if not person.left]
    if named in people:
        return replace(request, requester=Requester(named, CLAIMED))
    raise SelectionError(
        f"the requester {named!r} is nobody of {site.name}" if named else "nobody is named as requester",
        changed="Nothing was changed", advice=f"Run it again, with requester one of: {', '.join(people)}",
    )


def _authenticated(line: str, wanted: Wanted, site: Site, store: Store, now: int) -> SignedRequest:
    """The signed request, used up by this run."""
    started = Asked(site.name, wanted.runbook.id, wanted.parameters)
    found = authenticate(line, started, site.trust, now, {}, wanted.run)
    if isinstance(found, SignedRequest):
        try:
            store.put_new(f"requests/used/{found.id}", wanted.run.encode())
        except ExistsError:
            found = Code.USED
        else:
            return found
    why = _WHY.get(found, str(found))
    if found is Code.WRONG_DIGEST:
        asked = read_request(read_line(line).statement).asked
        why += f"; they differ in: {', '.join(asked.differs(started))}"
    raise NotApprovedError(
        f"the signed request does not count ({found}): {why}", changed="Nothing was changed",
        advice="Sign it anew with `lamplighter request`, or name the requester's id instead",
    )


_WHY = {
    Code.MALFORMED: "it is neither a person's id nor a line that `lamplighter request` printed, as a whole",
    Code.BAD_SIGNATURE: "the signature is not over this request",
    Code.WRONG_NAMESPACE: "the key is not listed for lamplighter-request@v1, or signed something else",
    Code.UNKNOWN_KEY: "approvers does not list that key for that person",
    Code.UNKNOWN_PERSON: "who signed it is not in people.yaml, or has left",
    Code.KEY_REVOKED: "the key is revoked",
    Code.KEY_EXPIRED: "the key is outside its validity",
    Code.WRONG_DIGEST: "it asks for something else than this run does",
    Code.NOT_YET_VALID: "its time has not come; is this machine's clock right?",
    Code.EXPIRED: "it has expired",
    Code.USED: "it started another run already; each serves once",
}
