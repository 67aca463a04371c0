"""Waves and brakes: the rules as properties, the numbers as cases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.inventory import Host
from lamplighter.model.outcome import HostOutcome, Terminal
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import Waves
from lamplighter.model.waves import make_waves, overspent, too_many, unreached
from tests.plankit import fleets

WIDENINGS = st.builds(
    Waves, canary=st.integers(1, 5),
    shares=st.lists(st.integers(1, 100), max_size=5).map(lambda shares: (*sorted(shares), 100)),
)
RAGGED = st.builds(
    Waves, canary=st.integers(0, 5), shares=st.lists(st.integers(1, 100), max_size=5).map(tuple)
)
OUTCOMES = st.lists(st.sampled_from(list(Terminal))).map(
    lambda ends: [HostOutcome(f"h{number}", end, "") for number, end in enumerate(ends)]
)


@given(fleets(), WIDENINGS | RAGGED)
def test_every_target_stands_in_exactly_one_wave(hosts: list[Host], widening: Waves) -> None:
    waves = make_waves(hosts, widening)
    assert sorted(name for wave in waves for name in wave) == sorted(host.name for host in hosts)
    assert all(waves)


@given(fleets(), WIDENINGS | RAGGED)
def test_cluster_peers_never_share_a_wave(hosts: list[Host], widening: Waves) -> None:
    groups = {host.name: host.ha_group for host in hosts}
    for wave in make_waves(hosts, widening):
        clustered = [groups[name] for name in wave if groups[name]]
        assert len(clustered) == len(set(clustered))


@given(fleets(), WIDENINGS)
def test_each_wave_fills_up_to_a_share(hosts: list[Host], widening: Waves) -> None:
    alone = [Host(host.name) for host in hosts]
    total, done = len(alone), 0
    canary = min(widening.canary, total)
    marks = {max(canary, -(-total * share // 100)) for share in widening.shares} | {canary}
    for wave in make_waves(alone, widening):
        done += len(wave)
        assert done in marks


@given(fleets(), WIDENINGS)
def test_marked_hosts_go_first(hosts: list[Host], widening: Waves) -> None:
    waves = make_waves(hosts, widening)
    marked = [host.name for host in hosts if host.vars["lamplighter_canary"] is True]
    if waves and marked:
        assert waves[0][0] == marked[0]
    elif waves:
        assert waves[0][0] == hosts[0].name
    alone = [host for host in hosts if not host.ha_group]
    in_order = [name for wave in make_waves(alone, widening) for name in wave]
    assert in_order == [host.name for host in sorted(alone, key=lambda one: one.name not in marked)]


@pytest.mark.parametrize(("count", "canary", "shares", "sizes"), [
    (20, 1, (10, 50, 100), [1, 1, 8, 10]),
    (1, 1, (10, 50, 100), [1]),
    (3, 1, (50, 100), [1, 1, 1]),
    (10, 20, (100,), [10]),
    (10, 2, (50,), [2, 3, 5]),
    (1000, 1, (1, 10, 100), [1, 9, 90, 900]),
    (0, 1, (100,), []),
])
def test_sizes(count: int, canary: int, shares: tuple[int, ...], sizes: list[int]) -> None:
    hosts = [Host(f"h{number}") for number in range(count)]
    assert [len(wave) for wave in make_waves(hosts, Waves(canary, shares))] == sizes


def test_what_a_cluster_holds_back_comes_later() -> None:
    hosts = [Host(f"db{number}", (), {"ha_group": "db"}) for number in range(4)] + [Host("web")]
    waves = make_waves(hosts, Waves(1, (100,)))
    assert waves == (("db0",), ("db1", "web"), ("db2",), ("db3",))


def ends(spent: int, well: int) -> list[HostOutcome]:
    return [
        HostOutcome(f"h{number}", Terminal.FAILED if number < spent else Terminal.CHANGED, "")
        for number in range(spent + well)
    ]


@pytest.mark.parametrize(("wave", "spent", "well", "limits", "halts"), [
    (1, 0, 1, Limits(), False),
    (1, 1, 0, Limits(), True),
    (1, 1, 4, Limits(canary_failures=1), False),
    (1, 2, 3, Limits(canary_failures=1), True),
    (2, 1, 19, Limits(wave_percent=5), False),
    (2, 1, 18, Limits(wave_percent=5), True),
    (2, 2, 18, Limits(wave_percent=5), True),
    (2, 10, 0, Limits(wave_percent=100), False),
    (2, 11, 0, Limits(wave_percent=100), True),
    (0, 10, 0, Limits(), False),
    (0, 11, 0, Limits(), True),
])
def test_when_the_run_halts(wave: int, spent: int, well: int, limits: Limits, *, halts: bool) -> None:
    outcomes = ends(spent, well)
    why = overspent(limits, wave, outcomes if wave else (), outcomes)
    assert bool(why) is halts
    assert not halts or f"{spent} failed" in why


@given(st.integers(0, 5), OUTCOMES, OUTCOMES)
def test_only_failed_unreachable_and_unknown_hosts_spend(
    wave: int, in_wave: list[HostOutcome], in_run: Sequence[HostOutcome]
) -> None:
    spend = {Terminal.FAILED, Terminal.UNREACHABLE, Terminal.UNKNOWN}
    limits = Limits(canary_failures=0, wave_percent=0, run_failures=0)
    why = overspent(limits, wave, in_wave, in_run)
    spent = {one.terminal for one in in_run} | ({one.terminal for one in in_wave} if wave else set())
    assert bool(why) is bool(spent & spend)


@pytest.mark.parametrize(("targets", "fleet", "limits", "told"), [
    (10, 10, Limits(), ""),
    (201, 1000, Limits(), "201 hosts are more than the 200 this runbook may change at once"),
    (6, 10, Limits(percent=50), "6 hosts are more than 50 % of the site's 10"),
    (5, 10, Limits(percent=50), ""),
    (1, 10, Limits(percent=1), ""),
    (2, 10, Limits(percent=1), "2 hosts are more than 1 % of the site's 10"),
    (0, 0, Limits(), ""),
])
def test_a_plan_that_touches_too_much(targets: int, fleet: int, limits: Limits, told: str) -> None:
    assert too_many(limits, targets, fleet) == told


def test_hosts_a_halted_run_never_came_to() -> None:
    left = unreached({1: ("a",), 2: ("b", "c")}, {"a", "b"}, "the brake")
    assert left == (HostOutcome("c", Terminal.SKIPPED, "not touched: the brake", 2),)
