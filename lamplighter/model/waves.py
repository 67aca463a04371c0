"""How a rollout widens, and when it stops.

The first wave is the canary: as many hosts as the runbook says, those marked `lamplighter_canary: true`
before others, otherwise in inventory order. Each further wave fills up to its cumulative share of all
targets. Two hosts of one `ha_group` never stand in the same wave; when that leaves hosts over, further
waves take them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lamplighter.model.inventory import Host
from lamplighter.model.outcome import HostOutcome, Terminal, sentence, tally
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import Waves


def make_waves(targets: Sequence[Host], widening: Waves) -> tuple[tuple[str, ...], ...]:
    """Order targets into waves.

    Args:
        targets: hosts with steps, in inventory order.
        widening: canary size and cumulative shares in per cent.

    Returns:
        Host names by wave; every target once; no empty wave.
    """
    rest = sorted(targets, key=lambda host: host.vars.get("lamplighter_canary") is not True)
    total = len(rest)
    sizes = [min(widening.canary, total)]
    for share in widening.shares:
        sizes.append(max(-(-total * share // 100) - sum(sizes), 0))
    waves: list[tuple[str, ...]] = []
    while rest:
        size = sizes.pop(0) if sizes else len(rest)
        wave, rest = _take(rest, size)
        if sizes:  # what an ha_group kept back moves into the next wave's share
            sizes[0] += size - len(wave)
        if wave:
            waves.append(tuple(host.name for host in wave))
    return tuple(waves)


def _take(hosts: Sequence[Host], size: int) -> tuple[list[Host], list[Host]]:
    wave: list[Host] = []
    rest: list[Host] = []
    peers: set[str] = set()
    for host in hosts:
        if len(wave) < size and host.ha_group not in peers:
            wave.append(host)
            peers |= {host.ha_group} - {""}
        else:
            rest.append(host)
    return wave, rest


def overspent(
    limits: Limits, wave: int, in_wave: Iterable[HostOutcome], in_run: Iterable[HostOutcome]
) -> str:
    """Why the run must halt before its next wave; empty when it may go on.

    Args:
        limits: the plan's.
        wave: 1-based number of the wave that ended; 0 before the first.
        in_wave: outcomes of that wave's hosts.
        in_run: outcomes of every host so far, those found unreachable by the survey included.
    """
    in_wave = tuple(in_wave)
    spent = [outcome for outcome in in_wave if outcome.terminal.spends_budget]
    allowed = limits.canary_failures if wave == 1 else len(in_wave) * limits.wave_percent // 100
    if wave and len(spent) > allowed:
        name = "the canary wave" if wave == 1 else f"wave {wave}"
        return f"{_counted(spent)} of {len(in_wave)} in {name}, and its budget is {allowed}"
    total = [outcome for outcome in in_run if outcome.terminal.spends_budget]
    if len(total) > limits.run_failures:
        return f"{_counted(total)} in this run, and its budget is {limits.run_failures}"
    return ""


def _counted(outcomes: Iterable[HostOutcome]) -> str:
    return sentence(tally(outcomes))


def too_many(limits: Limits, targets: int, fleet: int) -> str:
    """Why a plan touches too much; empty when it may be offered.

    Args:
        limits: hosts and per cent allowed.
        targets: hosts the plan changes.
        fleet: hosts in the site's inventory.
    """
    most = max(-(-fleet * limits.percent // 100), 1)
    if targets > limits.hosts:
        return f"{targets} hosts are more than the {limits.hosts} this runbook may change at once"
    if targets > most:
        return f"{targets} hosts are more than {limits.percent} % of the site's {fleet}"
    return ""


def unreached(
    waves: Mapping[int, Sequence[str]], done: Collection[str], why: str
) -> tuple[HostOutcome, ...]:
    """Outcomes for the hosts a halted run never came to.

    Args:
        waves: host names by wave number.
        done: hosts that have an end.
        why: the run stopped.
    """
    return tuple(
        HostOutcome(host, Terminal.SKIPPED, f"not touched: {why}", number)
        for number, wave in waves.items()
        for host in wave
        if host not in done
    )
