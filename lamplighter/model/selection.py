r"""Ansible's host patterns, as Ansible documents them ("Patterns: targeting hosts and groups").

A pattern is a list of terms separated by `,` or `:`. Terms without a sign are united first, then `&` terms
intersect, then `!` terms exclude, wherever they stand; a pattern of signed terms alone starts from `all`.
A term is a host, a group, a wildcard (`web*`), a regular expression (`~web\d`), or one of the first three
with a subscript over its hosts (`web[0]`, `web[-1]`, `web[1:]`, both ends included).

Stricter than Ansible, because a typing error must not change which hosts are touched: a term that names
nothing is an error (in an exclusion above all), so is an empty pattern, and no `localhost` is implied.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import re
import warnings
from collections.abc import Iterable, Sequence

from lamplighter.errors import SelectionError
from lamplighter.model.inventory import ALL, Host, Inventory

MAX_LENGTH = 65_536
MAX_REGEX = 100
MAX_REPEATS = 3
MOST_WORK = 50_000_000
"""Characters looked at for one selection at most: about a second. In the worst case a regular expression of
`r` repeats and `b` bars looks at a name of `n` characters `n ** r * 2 ** b` times."""
_SHOWN = 80
_SHOWN_GROUPS = 20
_WILD = frozenset("*?[")
_SUBSCRIPT = re.compile(r"(?P<base>.+)\[(?:(?P<one>-?\d{1,9})|(?P<first>\d{1,9})[:-](?P<last>\d{0,9}))\]")
_TERM = re.compile(r"(?:[^\s:\[\]]|\[[^\]]*\])+")
_HOST_PORT = re.compile(r"\[[^\]]+\]:\d+|[\w.-]+:\d+", re.ASCII)


def select(inventory: Inventory, pattern: str) -> tuple[Host, ...]:
    """The hosts a pattern names.

    Args:
        inventory: the site's hosts and groups.
        pattern: see the module's docstring.

    Returns:
        At least one host, in inventory order, each once.

    Raises:
        SelectionError: a term names nothing or cannot be read, or no host is left; says what is close.
    """
    chosen = _chosen(inventory, pattern)
    if not chosen:
        raise SelectionError(f"the selection `{visible(pattern, _SHOWN)}` leaves no host", where="selection",
                             changed="Nothing was changed", advice=_known(inventory))
    return tuple(host for name, host in inventory.hosts.items() if name in chosen)


def split(pattern: str) -> list[str]:
    """The terms of a pattern; a `:` inside brackets or in an IPv6 address separates nothing."""
    if "," in pattern:
        terms = pattern.split(",")
    elif _is_address(pattern):
        terms = [pattern]
    else:
        terms = _TERM.findall(pattern)
    return [term.strip() for term in terms if term.strip()]


def _chosen(inventory: Inventory, pattern: str) -> set[str]:
    if len(pattern) > MAX_LENGTH:
        raise SelectionError(f"the selection is longer than {MAX_LENGTH} characters",
                             advice="Put the hosts into a group and select the group")
    terms = split(pattern)
    if not terms:
        raise SelectionError("the selection is empty", advice="Write `all` if every host is meant")
    _check_work(inventory, terms)
    plain = [term for term in terms if term[0] not in "&!"] or [ALL]
    chosen = {name for term in plain for name in _match(inventory, term)}
    for term in terms:
        if term[0] == "&":
            chosen &= set(_match(inventory, term[1:]))
    for term in terms:
        if term[0] == "!":
            chosen -= set(_match(inventory, term[1:]))
    return chosen


def _check_work(inventory: Inventory, terms: Sequence[str]) -> None:
    """Refuse what would hold a worker up: whoever may start a run may type thousands of terms."""
    known = (inventory.hosts, inventory.groups)
    left = MOST_WORK
    for term in terms:
        bare = term.lstrip("&!")
        if any(bare in names for names in known):
            continue
        regex = bare.startswith("~")
        repeats, bars = (max(_repeats(bare), 1), bare.count("|")) if regex else (1, 0)
        left -= sum(len(name) ** repeats << bars for names in known for name in names)
        if left < 0:
            raise SelectionError(
                f"the selection of {len(terms)} terms is too costly for {len(inventory.hosts)} hosts",
                where="selection", changed="Nothing was changed",
                advice="Put the hosts into a group and select the group",
            )


def _repeats(expression: str) -> int:
    """How often something may stand a variable number of times; `*?` is one, and the `?` of `(?:` is none."""
    return len(re.findall(r"[*+{]|(?<![*+}(?])\?", expression))


def _match(inventory: Inventory, term: str) -> tuple[str, ...]:
    """The hosts one term names, without its sign, in the order a subscript counts them."""
    if term in inventory.hosts:
        return (term,)
    if term in inventory.groups:
        return inventory.groups[term]
    if term.startswith("~"):
        return _search(inventory, _regex(term), term)
    subscript = _SUBSCRIPT.fullmatch(term)
    base = subscript["base"] if subscript else term
    if base in inventory.groups:
        found = inventory.groups[base]
    elif base in inventory.hosts:
        found = (base,)
    elif _WILD.isdisjoint(base):
        raise _unknown(inventory, base)
    else:
        found = _search(inventory, re.compile(fnmatch.translate(base)), term)
    return _part(found, subscript, term) if subscript else found


def _search(inventory: Inventory, expression: re.Pattern[str], term: str) -> tuple[str, ...]:
    """The hosts of all groups whose name matches, then the hosts whose own name does."""
    groups = [name for name in inventory.groups if expression.match(name)]
    hosts = [name for name in inventory.hosts if expression.match(name)]
    if not groups and not hosts:
        raise _unknown(inventory, term)
    found = dict.fromkeys(host for group in groups for host in inventory.groups[group])
    return tuple(found | dict.fromkeys(hosts))


def _part(found: tuple[str, ...], subscript: re.Match[str], term: str) -> tuple[str, ...]:
    if subscript["one"]:
        index = int(subscript["one"])
        part = found[index:index + 1] if index >= 0 else found[index:][:1] if -index <= len(found) else ()
    else:
        last = int(subscript["last"]) if subscript["last"] else len(found) - 1
        part = found[int(subscript["first"]):last + 1]
    if not part:
        base = visible(subscript["base"], _SHOWN)
        raise SelectionError(
            f"`{visible(term, _SHOWN)}` names no host: `{base}` has {len(found)}, counted from 0",
            where="selection", changed="Nothing was changed", advice="Correct the number in brackets",
        )
    return part


def _regex(term: str) -> re.Pattern[str]:
    """Compile a `~` term, unless it could keep the worker busy for ever.

    Python's matcher backtracks. Three repeats over names of at most 253 characters stay cheap; a repeated
    group, or more repeats, need not.
    """
    text = term[1:]
    repeats = _repeats(text)
    if not text or len(text) > MAX_REGEX or repeats > MAX_REPEATS or re.search(r"\)[*+?{]", text):
        raise SelectionError(
            f"the regular expression `{visible(term, _SHOWN)}` is empty or too costly", where="selection",
            changed="Nothing was changed",
            advice=f"Use at most {MAX_REGEX} characters, {MAX_REPEATS} of `*`, `+`, `?`, `{{`, and none of "
            "them after `)`; or a group",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)  # `[[`: its meaning is about to change
            return re.compile(text)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise SelectionError(
            f"the regular expression `{visible(term, _SHOWN)}` cannot be read: {error}", where="selection",
            changed="Nothing was changed", advice="`:` and `,` always separate terms; avoid them inside",
        ) from error


def _is_address(pattern: str) -> bool:
    try:
        ipaddress.ip_address(pattern)
    except ValueError:
        return bool(_HOST_PORT.fullmatch(pattern))
    return True


def _unknown(inventory: Inventory, name: str) -> SelectionError:
    close = closest(name.strip("*?~[]"), (*inventory.groups, *inventory.hosts))
    hint = f"Did you mean `{close}`? " if close else ""
    return SelectionError(f"`{visible(name, _SHOWN)}` names no host and no group", where="selection",
                          changed="Nothing was changed", advice=hint + _known(inventory))


def _known(inventory: Inventory) -> str:
    names = sorted(inventory.groups)
    more = f" and {len(names) - _SHOWN_GROUPS} more" if len(names) > _SHOWN_GROUPS else ""
    return f"Groups: {', '.join(names[:_SHOWN_GROUPS])}{more}"


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The known word most like `word`; empty when none is near."""
    names = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
    return names[found[0]] if found else ""


def visible(text: str, limit: int = 1000) -> str:
    """Text from outside for a message: cut, and what a terminal would obey or hide is spelt out."""
    cut = text if len(text) <= limit else f"{text[:limit]}..."
    return cut if cut.isprintable() else "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in cut
    )
