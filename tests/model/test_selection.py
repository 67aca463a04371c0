from __future__ import annotations

import string
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import SelectionError
from lamplighter.model.inventory import Group, Inventory, assemble
from lamplighter.model.selection import select, split
from lamplighter.site.hosts import read_inventory
from lamplighter.site.yaml import Source, parse_yaml

CASES = sorted((Path(__file__).parents[1] / "cases" / "selection").glob("*.yaml"))
HOSTS = ("web1", "web2", "web10", "db1", "db-a", "x.example.org", "app_1")
GROUPS = ("web", "db", "prod", "eu")


def read(text: str) -> Inventory:
    report: list = []
    source = Source("hosts.yaml", report)
    root = parse_yaml(text, source)
    assert root is not None, report
    inventory, _ = read_inventory(root, source)
    assert report == []
    return inventory


def names(inventory: Inventory, pattern: str) -> list[str]:
    return [host.name for host in select(inventory, pattern)]


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_patterns_select_what_ansible_selects(file: Path) -> None:
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    inventory = read(case["inventory"])
    found = {pattern: sorted(names(inventory, pattern)) for pattern in case["patterns"]}
    assert found == case["patterns"]


SMALL = read("""
all:
  hosts: {lonely: , "2001:db8::1": }
  children:
    web: {hosts: {"web[1:3]": }}
    db: {hosts: {db1: }}
    prod: {hosts: {web3: , web1: , db1: }}
    retired:
""")


@pytest.mark.parametrize(("pattern", "message"), [
    ("wbe", r"`wbe` names no host and no group.*Did you mean `web`\? Groups: all, db, prod"),
    ("web:!wbe3", "`wbe3` names no host.*Did you mean `web3`"),
    ("all:&prd", "`prd` names no host.*Did you mean `prod`"),
    ("web:!old*", r"`old\*` names no host"),
    ("web:&db", "leaves no host"),
    ("retired", "leaves no host"),
    ("all:!all", "leaves no host"),
    ("", "is empty.*Write `all`"),
    (" , ", "is empty"),
    ("web,!", "`` names no host"),
    ("web[3]", r"`web\[3\]` names no host: `web` has 3, counted from 0"),
    ("web[-4]", "names no host"),
    ("web[5:9]", "names no host"),
    ("web[2:1]", "names no host"),
    ("web[a]", "names no host and no group"),
    ("localhost", "names no host"),
    ("WEB", "`WEB` names no host.*Did you mean `web`"),
    ("@hosts.txt", "names no host"),
    ("~", "empty or too costly"),
    ("~(web", "cannot be read"),
    ("~(a+)+$", "too costly"),
    ("~(a|a)*b", "too costly"),
    ("~.*.*.*.*x", "too costly"),
    ("~" + "a" * 101, "too costly"),
    ("x" * 65537, "longer than"),
])
def test_what_names_nothing_is_an_error_that_helps(pattern: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message) as caught:
        select(SMALL, pattern)
    assert caught.value.advice


def test_hosts_come_in_inventory_order_and_once() -> None:
    assert names(SMALL, "prod,db1,web*") == ["web1", "web2", "web3", "db1"]
    assert names(SMALL, "prod[0]") == ["web3"], "a subscript counts in the group's own order"


@pytest.mark.parametrize(("pattern", "terms"), [
    ("web:&prod:!web3", ["web", "&prod", "!web3"]),
    ("web[0:2]:db", ["web[0:2]", "db"]),
    ("2001:db8::1", ["2001:db8::1"]),
    ("2001:db8::1,web", ["2001:db8::1", "web"]),
    ("[2001:db8::1]:22", ["[2001:db8::1]:22"]),
    ("web1:22", ["web1:22"]),
    (" web , db ", ["web", "db"]),
])
def test_terms_are_separated_as_ansible_does(pattern: str, terms: list[str]) -> None:
    assert split(pattern) == terms


def test_a_regular_expression_cannot_hold_the_worker() -> None:
    long = "a" * 253
    inventory = assemble({"all": Group((long,))}, {long: {}})
    started = time.process_time()
    with pytest.raises(SelectionError):
        select(inventory, "~a*a*a*b")
    assert time.process_time() - started < 5, "cubic in 253 characters, and not exponential"


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    """Groups hold later groups only, so that there is no cycle."""
    groups = {}
    for place, name in enumerate(GROUPS):
        hosts = draw(st.lists(st.sampled_from(HOSTS), unique=True))
        later = GROUPS[place + 1:]
        children = draw(st.lists(st.sampled_from(later), unique=True, max_size=2)) if later else []
        groups[name] = Group(tuple(hosts), tuple(children))
    return assemble(groups, {host: {} for host in draw(st.permutations(HOSTS))})


def members(inventory: Inventory, term: str) -> set[str]:
    """The slow and obvious reading of one term."""
    if term == "all":
        return set(inventory.hosts)
    if term in HOSTS:
        return {term}
    if term in GROUPS:
        return {name for name, host in inventory.hosts.items() if term in host.groups}
    prefix = term.rstrip("*")
    found = {name for name in inventory.hosts if name.startswith(prefix)}
    return found.union(*(members(inventory, group) for group in GROUPS if group.startswith(prefix)))


TERMS = st.sampled_from(("all", *HOSTS, *GROUPS, "web*", "d*", "p*"))


@given(inventories(), st.lists(st.tuples(st.sampled_from(("", "&", "!")), TERMS), min_size=1, max_size=6),
       st.sampled_from((",", ":", " , ")))
def test_terms_are_sets(inventory: Inventory, terms: list[tuple[str, str]], separator: str) -> None:
    plain = [term for sign, term in terms if not sign] or ["all"]
    expected = set().union(*(members(inventory, term) for term in plain))
    for sign, term in terms:
        if sign == "&":
            expected &= members(inventory, term)
    for sign, term in terms:
        if sign == "!":
            expected -= members(inventory, term)
    pattern = separator.join(sign + term for sign, term in terms)
    if expected:
        assert names(inventory, pattern) == [name for name in inventory.hosts if name in expected]
    else:
        with pytest.raises(SelectionError):
            select(inventory, pattern)


@pytest.mark.parametrize("pattern", [
    ",".join(f"host*{number}" for number in range(4000)),
    ",".join("~h.*o.*s.*t" for _ in range(600)),
    "~" + "a?" * 40 + "a" * 15,
    "~" + "(a|a)" * 18,
    "!" + ",!".join("~.*a.*b.*x" for _ in range(600)),
], ids=["terms", "repeats", "optional", "alternatives", "exclusions"])
def test_no_pattern_holds_a_worker_up(pattern: str) -> None:
    """Each would take minutes to hours; whether it was tried at all is told by the refusal."""
    many = assemble({}, {f"{'a' * 40}{number}": {} for number in range(2000)})
    with pytest.raises(SelectionError, match="too costly"):
        select(many, pattern)


def test_an_ordinary_pattern_over_a_large_estate_is_not_too_costly() -> None:
    many = assemble({}, {f"web-{number:05}.dc1.customer.example": {} for number in range(10_000)})
    assert len(select(many, r"~(web|db|mail)-0\d+\.dc1,web-0*,!web-0001?.*")) == 9_990


PATTERNS = st.text(alphabet=string.ascii_lowercase + "0123456789*?[]:,!&~-.() {}+|\\^$", max_size=30)


@given(inventories(), PATTERNS)
def test_any_text_selects_hosts_or_says_why_not(inventory: Inventory, pattern: str) -> None:
    try:
        chosen = select(inventory, pattern)
    except SelectionError:
        return
    assert chosen
