"""Jump hosts in Ansible's words: options of ssh(1) in `ansible_ssh_common_args` and its siblings.

Ansible puts them on ssh's command line, in the order of `ARGS`, and ssh takes the first it is given
(ssh_config(5)). What names a jump host is taken over as `lamplighter_ssh_jump`; what changes nothing here is
passed over; all else is named, because a host reached another way is another host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from lamplighter.model.canonical import Json
from lamplighter.model.inventory import SSH_PORT

ARGS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
JUMP = "lamplighter_ssh_jump"
_WITH_VALUE = "BbcDEeFIiJLlmOopQRSWw"
_HARMLESS_FLAGS = "46aCKknqTtvxY"
_HARMLESS_VALUES = "cEemS"
_HARMLESS = frozenset(
    {
        "addkeystoagent",
        "addressfamily",
        "batchmode",
        "challengeresponseauthentication",
        "checkhostip",
        "ciphers",
        "compression",
        "connectionattempts",
        "connecttimeout",
        "controlmaster",
        "controlpath",
        "controlpersist",
        "globalknownhostsfile",
        "gssapiauthentication",
        "hashknownhosts",
        "hostkeyalgorithms",
        "identitiesonly",
        "ipqos",
        "kbdinteractiveauthentication",
        "kexalgorithms",
        "loglevel",
        "macs",
        "numberofpasswordprompts",
        "passwordauthentication",
        "preferredauthentications",
        "pubkeyacceptedalgorithms",
        "pubkeyacceptedkeytypes",
        "pubkeyauthentication",
        "rekeylimit",
        "requesttty",
        "sendenv",
        "serveralivecountmax",
        "serveraliveinterval",
        "stricthostkeychecking",
        "tcpkeepalive",
        "updatehostkeys",
        "userknownhostsfile",
        "visualhostkey",
    }
)
"""Options that change neither where a connection goes nor as whom; host keys are pinned here anyway."""
_HOP = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:@\s]+))(?::(?P<port>\d+))?/?"
)


@dataclass(frozen=True, slots=True)
class Way:
    """What one variable says.

    Attributes:
        jump: hops as `lamplighter_ssh_jump` writes them; empty for none; None when it says nothing about it.
        unread: a way that is said and cannot be taken over, in its own words; empty for none.
        strange: other options that are not read here.
    """

    jump: str | None = None
    unread: str = ""
    strange: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What all of them say of a host: the jump (None: nothing), and what is wrong, by variable."""

    jump: str | None
    wrong: tuple[tuple[str, str, str], ...]


def read_jump(variables: Mapping[str, Json]) -> Found:
    """The way to a host in Ansible's words, and whether ours agrees.

    Args:
        variables: the host's, merged.

    Returns:
        Wrong are triples of variable, message and advice.
    """
    jump: str | None = None
    wrong: list[tuple[str, str, str]] = []
    ours = variables.get(JUMP)
    said = False
    for name in ARGS:
        value = variables.get(name)
        if not value:
            continue
        way = _read(value) if isinstance(value, str) else Way(strange=("a value that is no text",))
        wrong += [
            (name, f"says `{one[:80]}`, which is not read here", "leave it out, or say it in other variables")
            for one in way.strange
        ]
        if said or (way.jump is None and not way.unread):
            continue
        said = True
        jump = way.jump
        if way.unread and ours is None:
            wrong.append(
                (
                    name,
                    f"goes by `{way.unread[:80]}`, which cannot be taken over",
                    f"write `{JUMP}: user@host:port` as well; it may stand beside it",
                )
            )
        elif (
            not way.unread and ours is not None and _hops(ours, variables) != _hops(way.jump or "", variables)
        ):
            wrong.append(
                (
                    name,
                    f"goes by `{way.jump or 'no jump host'}` and `{JUMP}` by `{str(ours)[:80]}`",
                    "make them agree, or delete one",
                )
            )
    return Found(jump, tuple(wrong))


def _hops(text: Json, variables: Mapping[str, Json]) -> list[tuple[str, str, str]]:
    """Hops in a spelling that can be compared."""
    found = []
    for hop in filter(None, (part.strip() for part in str(text).split(","))):
        match = _HOP.fullmatch(hop)
        if match is None:
            return [("", hop, "")]
        user = match["user"] or str(variables.get("ansible_user", ""))
        found.append((user, (match["v6"] or match["name"]).lower(), match["port"] or str(SSH_PORT)))
    return found


@lru_cache(maxsize=1024)
def _read(text: str) -> Way:
    jump: str | None = None
    unread, strange = "", []
    try:
        options = list(_options(shlex.split(text)))
    except ValueError:
        return Way(strange=(text,))
    for key, value in options:
        if key in {"proxyjump", "proxycommand"}:
            if jump is None and not unread:
                taken = _proxy_jump(value) if key == "proxyjump" else _proxy_command(value)
                jump, unread = taken, "" if taken is not None else f"{key} {value}"
        elif key not in _HARMLESS:
            strange.append(f"{key} {value}".strip())
    return Way(jump, unread, tuple(strange))


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Options by the names of ssh_config(5), in lower case, where they have one, and other words."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or len(word) < 2:  # noqa: PLR2004 - a lone dash
            yield word, ""
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in _WITH_VALUE:
                if letter not in _HARMLESS_FLAGS:
                    yield f"-{letter}", ""
                continue
            value = letters or next(rest, "")
            letters = ""
            if letter == "o":
                key, _, setting = value.replace("=", " ", 1).strip().partition(" ")
                yield key.lower(), setting.strip().strip('"')
            elif letter == "J":
                yield "proxyjump", value
            elif letter not in _HARMLESS_VALUES:
                yield f"-{letter}", value


def _proxy_jump(text: str) -> str | None:
    """Hops with their accounts; None where one names none: ssh would take that of whoever runs it."""
    if text.lower() == "none":
        return ""
    hops = []
    for hop in text.split(","):
        match = _HOP.fullmatch(hop.strip())
        if match is None or not match["user"] or "%" in hop:
            return None
        hops.append(_hop(match["user"], match["v6"] or match["name"], match["port"]))
    return ",".join(hops)


def _proxy_command(text: str) -> str | None:
    """The one hop of `ssh -W %h:%p user@host`, or of `ssh user@host nc %h %p`; None for any other command."""
    if text.lower() == "none":
        return ""
    words = shlex.split(text)
    words = words[1:] if words[:1] == ["exec"] else words
    if not words or words[0].rpartition("/")[2] != "ssh":
        return None
    given: dict[str, str] = {}
    rest: list[str] = []
    for key, value in _options(words[1:]):
        if key in {"-W", "-p", "-l", "user", "port"}:
            given.setdefault({"-p": "port", "-l": "user"}.get(key, key), value)
        elif not value and not key.startswith("-") and key not in _HARMLESS:
            rest.append(key)
        elif key not in _HARMLESS:
            return None
    forward = given.get("-W", "").strip("'\"") in {"%h:%p", "[%h]:%p"} and len(rest) == 1
    netcat = "-W" not in given and [word.rpartition("/")[2] for word in rest[1:]] in (
        ["nc", "%h", "%p"],
        ["netcat", "%h", "%p"],
    )
    match = _HOP.fullmatch(rest[0]) if rest else None
    if not (forward or netcat) or match is None:
        return None
    user = match["user"] or given.get("user", "")
    address = match["v6"] or match["name"]
    port = match["port"] or given.get("port", "")
    if not user or "%" in address or (port and not port.isdigit()):
        return None
    return _hop("" if user == "%r" else user, address, port) if "%" not in user or user == "%r" else None


def _hop(user: str, address: str, port: str | None) -> str:
    host = f"[{address}]" if ":" in address else address
    account = f"{user}@" if user else ""
    return f"{account}{host}" + (f":{port}" if port and int(port) != SSH_PORT else "")
