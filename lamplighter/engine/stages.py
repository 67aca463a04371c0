"""Stages in a site's store: decisions and demotions below `stages/<function>/`, and what is in force.

Nothing in the store can raise a stage but a line internal IT signed. Whoever can delete there could take a
demotion or a lowering decision back; the ledger of the run it came from, and the site's chain, still show it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from lamplighter.engine.provenance import code_digest
from lamplighter.errors import MalformedError, NotApprovedError
from lamplighter.model.canonical import canonical, parse, sha256
from lamplighter.model.envelope import MAX_LINE
from lamplighter.model.outcome import RunState
from lamplighter.model.party import Party
from lamplighter.model.responsibility import Function
from lamplighter.model.runbook import Runbook
from lamplighter.model.stage import Demotion, InForce, Ruling, Stage, Trigger, demotes, in_force, judge
from lamplighter.site import Site
from lamplighter.store import Store

DECISION, DEMOTION = "decision-", "demotion-"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds on a function.

    Attributes:
        rulings: what was decided, whether it counts or not.
        demotions: all.
    """

    rulings: tuple[Ruling, ...]
    demotions: tuple[Demotion, ...]


def keep_decision(store: Store, function: str, line: str) -> str:
    """Keep a signed decision; returns its key."""
    key = f"{_folder(function)}{DECISION}{sha256(line.encode()).removeprefix('sha256:')[:32]}"
    store.put_new(key, line.encode())
    return key


def evidence_key(function: str, digest: str) -> str:
    """Where the evidence that a decision names is kept."""
    return f"{_folder(function)}evidence-{digest.removeprefix('sha256:')}"


def keep_demotion(store: Store, function: str, demotion: Demotion) -> bool:
    """Record a demotion, once for each run it comes from.

    Returns:
        False when the run's was recorded before.
    """
    name = demotion.run or f"by-hand-{demotion.time}"
    key = f"{_folder(function)}{DEMOTION}{name}"
    if demotion.run and store.get(key, limit=MAX_LINE) is not None:
        return False
    store.put_new(key, canonical({"v": VERSION, **asdict(demotion), "stage": str(demotion.stage)}))
    return True


def kept(store: Store, site: Site, function: str, now: int) -> Kept:
    """Read what the store holds on a function, each decision judged as of now."""
    rulings, demotions = [], []
    for key in store.list(_folder(function)):
        name = key.rpartition("/")[2]
        data = store.get(key, limit=MAX_LINE) or b""
        if name.startswith(DECISION):
            found = judge(data.decode("ascii", "replace"), site.name, function, site.trust, now)
            rulings += [found] if found else []
        elif name.startswith(DEMOTION):
            demotions.append(_demotion(data, name, now))
    return Kept(tuple(rulings), tuple(demotions))


def stage_of(
    function: Function, site: Site, store: Store, runbooks: Mapping[str, Runbook], now: int
) -> InForce:
    """The stage in force for a function.

    Args:
        function: of the site's matrix.
        site, store: whose.
        runbooks: the function's, as far as they are known here; their code is compared.
        now: seconds since the epoch.
    """
    found = kept(store, site, function.id, now)
    watched = Trigger.CODE_CHANGE in function.demote_on
    code = {name: code_digest(one) for name, one in runbooks.items() if one.changes} if watched else None
    return in_force(function.stage, found.rulings, found.demotions, code)


def stage_for(runbook: Runbook, site: Site, store: Store, now: int) -> InForce:
    """The stage that a run of a runbook is in; internal IT's own runbooks answer to internal IT alone."""
    if runbook.owner is Party.INTERNAL:
        return InForce(Stage.DELEGATED, "internal IT runs it itself")
    function = site.matrix.of(runbook.id)
    if function is None:
        return InForce(Stage.INTERNAL, f"no function in responsibilities.yaml claims {runbook.id}")
    return stage_of(function, site, store, {runbook.id: runbook}, now)


def may_look(runbook: Runbook, site: Site, store: Store, now: int) -> Stage:
    """The stage a run is in, which looks at something.

    Raises:
        NotApprovedError: the function is not handed over so far; nothing was looked at.
    """
    found = stage_for(runbook, site, store, now)
    if not found.stage.may_look:
        raise NotApprovedError(
            f"{runbook.function} is in stage {found.stage} ({found.why}): the MSP's runs refuse",
            where=site.name, changed="Nothing was looked at",
            advice=f"lamplighter matrix {site.name} says who does it",
        )
    return found.stage


def demote_after(
    site: Site, store: Store, runbook: Runbook, run: str, state: RunState, ill: Collection[str], now: int
) -> Demotion | None:
    """Record that a run took its function back to `supervised`, when the site lists how it ended.

    Args:
        site, store: whose.
        runbook, run: which.
        state: how the run ended.
        ill: names of hosts that were not well after their change.
        now: seconds since the epoch.

    Returns:
        The demotion; None when there is none, or it was recorded before.
    """
    function = site.matrix.of(runbook.id)
    if function is None or runbook.owner is Party.INTERNAL:
        return None
    why = demotes(state, ill, function.demote_on)
    demotion = Demotion(Stage.SUPERVISED, now, f"{why} in {run}", run)
    return demotion if why and keep_demotion(store, function.id, demotion) else None


def _demotion(data: bytes, name: str, now: int) -> Demotion:
    """A record that cannot be read takes away what any could have."""
    try:
        value = parse(data)
        return Demotion(Stage(value["stage"]), int(value["time"]), str(value["why"]), str(value["run"]))
    except (MalformedError, KeyError, TypeError, ValueError):
        return Demotion(Stage.SHADOW, now, f"the record {name} cannot be read")


def _folder(function: str) -> str:
    return f"stages/{function}/"
