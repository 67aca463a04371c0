from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.inventory import Group, Host, Inventory, Shell, assemble, find_cycle
from lamplighter.site.hosts import read_inventory
from lamplighter.site.names import expand
from lamplighter.site.yaml import MAX_NODES, Source, parse_yaml

CASES = sorted((Path(__file__).parents[1] / "cases" / "selection").glob("*.yaml"))


def read(text: str) -> tuple[Inventory, list[str]]:
    report: list = []
    source = Source("hosts.yaml", report)
    root = parse_yaml(text, source)
    inventory = read_inventory(root, source)[0] if root else Inventory({}, {})
    return inventory, [str(mistake) for mistake in report]


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_hosts_groups_and_variables_are_what_ansible_makes_of_them(file: Path) -> None:
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    inventory, mistakes = read(case["inventory"])
    assert mistakes == []
    assert list(inventory.hosts) == list(case["hosts"])
    for name, expected in case["hosts"].items():
        host = inventory.hosts[name]
        assert {"groups": list(host.groups), "vars": dict(host.vars)} == expected, name


def test_a_host_knows_where_it_is() -> None:
    host = Host("web1", ("web",), {"ansible_host": "192.0.2.1", "ansible_port": "2222", "ha_group": "web"})
    assert (host.address, host.port, host.ha_group, host.shell) == ("192.0.2.1", 2222, "web", Shell.POSIX)
    bare = Host("web2", (), {"ansible_connection": "winrm"})
    assert (bare.address, bare.port, bare.ha_group, bare.shell) == ("web2", 22, "", Shell.POWERSHELL)


@pytest.mark.parametrize(("connection", "shell", "kind"), [
    ("ssh", "sh", Shell.POSIX), ("smart", "fish", Shell.POSIX), ("ssh", "powershell", Shell.OTHER),
    ("ssh", "cmd", Shell.OTHER), ("winrm", "powershell", Shell.POWERSHELL), ("psrp", "sh", Shell.OTHER),
    ("ansible.builtin.winrm", "sh", Shell.POWERSHELL), ("network_cli", "sh", Shell.OTHER),
])
def test_a_hosts_kind_follows_its_connection(connection: str, shell: str, kind: Shell) -> None:
    host = Host("a", (), {"ansible_connection": connection, "ansible_shell_type": shell})
    assert host.shell is kind


def test_a_cycle_is_found_wherever_it_is() -> None:
    groups = {"a": Group(children=("b", "c")), "b": Group(), "c": Group(children=("d",)),
              "d": Group(children=("c",))}
    assert find_cycle(groups) == ("c", "d", "c")
    assert find_cycle({"a": Group(children=("a",))}) == ("a", "a")
    assert find_cycle({"a": Group(children=("b", "c")), "b": Group(children=("c",)), "c": Group()}) == ()


LETTERS = st.sampled_from("abcdef")


@given(st.dictionaries(LETTERS, st.lists(LETTERS, unique=True, max_size=3).map(tuple)))
def test_a_cycle_is_found_exactly_when_there_is_one(edges: dict[str, tuple[str, ...]]) -> None:
    groups = {name: Group(children=edges.get(name, ())) for name in "abcdef"}
    below = {name: set(group.children) for name, group in groups.items()}
    for _ in groups:
        below = {name: seen.union(*(below[child] for child in seen)) for name, seen in below.items()}
    cycle = find_cycle(groups)
    assert bool(cycle) == any(name in seen for name, seen in below.items())
    assert all(after in groups[name].children for name, after in pairwise(cycle))


def test_the_closest_group_wins_whatever_the_order_in_the_file() -> None:
    groups = {
        "inner": Group(("h",), (), {"who": "inner"}),
        "outer": Group((), ("inner",), {"who": "outer", "far": 1}),
        "all": Group((), (), {"who": "all", "far": 0, "base": True}),
    }
    for order in (("inner", "outer", "all"), ("all", "outer", "inner"), ("outer", "all", "inner")):
        host = assemble({name: groups[name] for name in order}, {"h": {}}).hosts["h"]
        assert host.vars == {"who": "inner", "far": 1, "base": True}


@pytest.mark.parametrize(("pattern", "names", "port"), [
    ("web1", ["web1"], None),
    ("web[08:11]", ["web08", "web09", "web10", "web11"], None),
    ("web[:2]", ["web0", "web1", "web2"], None),
    ("[a:c]-x", ["a-x", "b-x", "c-x"], None),
    ("r[1:2]n[1:2]", ["r1n1", "r1n2", "r2n1", "r2n2"], None),
    ("a[1:9:4]:22", ["a1", "a5", "a9"], 22),
    ("[2001:db8::1]:2022", ["2001:db8::1"], 2022),
    ("2001:db8::1", ["2001:db8::1"], None),
])
def test_a_range_stands_for_its_hosts(pattern: str, names: list[str], port: int | None) -> None:
    assert expand(pattern, 100) == (names, port)


@given(st.text(alphabet="ab01[]:.-_%é", max_size=20))
def test_any_pattern_stands_for_hosts_or_says_why_not(pattern: str) -> None:
    try:
        names, _ = expand(pattern, 1000)
    except MalformedError:
        return
    assert 0 < len(names) <= 1000


def test_an_alias_bomb_is_refused_before_it_is_written_out() -> None:
    lines = ["all:", "  vars:", "    a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"    a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 20)]
    _, mistakes = read("\n".join(lines))
    assert len(mistakes) == 1
    assert f"more than {MAX_NODES} values" in mistakes[0]


def test_deep_nesting_is_refused_before_anything_recurses() -> None:
    for text in ("[" * 100_000, "{a: " * 100_000, "- " * 100_000):
        _, mistakes = read(text)
        assert len(mistakes) == 1
        assert "nest" in mistakes[0]  # ours, or the parser's own limit, whichever comes first


def test_merged_mappings_never_override_what_is_written() -> None:
    inventory, mistakes = read("""
all:
  vars:
    common: &common {ansible_user: ops, ha_group: web}
  hosts:
    web1: {<<: *common, ansible_user: root}
    web2: {<<: [*common, {ha_group: db, zone: b}]}
""")
    assert mistakes == []
    hosts = inventory.hosts
    assert (hosts["web1"].vars["ansible_user"], hosts["web1"].ha_group) == ("root", "web")
    assert (hosts["web2"].ha_group, hosts["web2"].vars["zone"]) == ("web", "b")


@given(st.text(alphabet=st.sampled_from("all:hosts \n\t-[]{}&*!|>'\"#<@%1.0x\x00é,?"), max_size=60))
def test_any_text_is_an_inventory_or_says_why_not(text: str) -> None:
    inventory, mistakes = read(text)
    assert inventory.hosts or mistakes
