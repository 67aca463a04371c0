"""Checks the variables of hosts and groups: the ones a connection is made of, and secrets in the clear."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lamplighter.model.canonical import Json
from lamplighter.model.inventory import PRIORITY
from lamplighter.model.selection import closest
from lamplighter.secrets import is_reference
from lamplighter.site.ansible_vars import KNOWN, is_known
from lamplighter.site.names import MAX_PORT, is_address, name_advice
from lamplighter.site.yaml import Node, Source

_SECRET = re.compile(r"(^|[_-])(password|passwd|pass|secret|secret[_-]key|token|passphrase)$", re.IGNORECASE)
LONGEST_DEADLINE = 86_400
"""Seconds: nothing a host does is waited for longer than a day."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$-]{0,103}", re.ASCII)
_HA_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_OLD = {
    "ansible_ssh_host": "ansible_host",
    "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
}


def check_vars(section: Node, source: Source, owner: str, *, of_group: bool = False) -> dict[str, Json]:
    """Check a mapping of variables.

    Args:
        section: the mapping.
        source: takes the mistakes.
        owner: whose they are, for the messages: "the host `web1`".
        of_group: whether `ansible_group_priority` has a meaning here.

    Returns:
        The variables as plain values; a wrong one is left out.
    """
    values: dict[str, Json] = {}
    for name, node in (section.mapping or {}).items():
        wrong = _check(name, node, of_group=of_group)
        if wrong:
            source.mistake(section.key_lines[name], f"{owner}: {wrong[0]}", wrong[1])
        else:
            values[name] = node.plain()
    return values


def _check(name: str, node: Node, *, of_group: bool) -> tuple[str, str] | None:
    if not _VARIABLE.fullmatch(name):
        return f"`{name[:80]}` is not a name for a variable", "use ASCII letters, digits and `_`"
    if name in _OLD:
        return f"`{name}` is an old name for a variable", f"write `{_OLD[name]}`"
    if name == PRIORITY and not of_group:
        return f"`{PRIORITY}` is a variable of groups", "delete it"
    if holds_secret(name, node.value):
        return (
            f"`{name}` holds a secret in the clear",
            "name where it is kept: env:NAME, file:PATH or cmd:NAME",
        )
    rule = _RULES.get(name)
    if rule and re.search(r"\{\{|\{%", str(node.value)):
        return f"`{name}` is a template, and templates are not evaluated here", "write the value itself"
    if rule and node.written and str(node.value) != node.written:
        return (
            f"`{name}`: `{node.written[:60]}` is read as the number {node.value}",
            "put it in quotation marks",
        )
    if rule and not rule[0](node.value):
        return f"`{name}` is {_shown(node)}", rule[1](node.value)
    return _unknown(name)


def _unknown(name: str) -> tuple[str, str] | None:
    """A name that is a slip of the pen; one of ours that does not exist is always one."""
    ours = name.startswith("lamplighter_")
    if not (ours or name.startswith("ansible_")) or name in _RULES or is_known(name):
        return None
    names = (*_RULES, *KNOWN)
    close = closest(name, names, cutoff=0.6 if ours else 0.9)
    if close:
        return f"`{name}` is not a known variable", f"did you mean `{close}`?"
    return (
        (f"`{name}` is not a known variable", "delete it, or call it something of your own") if ours else None
    )


def holds_secret(name: str, value: object) -> bool:
    """Whether a value whose name says it is a secret is written in the clear instead of by reference."""
    named = bool(_SECRET.search(name)) and value is not None
    return named and not (isinstance(value, str) and is_reference(value))


def _shown(node: Node) -> str:
    if isinstance(node.value, dict | list) or node.value is None:
        return node.kind
    text = str(node.value).lower() if isinstance(node.value, bool) else str(node.value)
    return f"`{text[:60]}`"


def _is_port(value: object) -> bool:
    text = "" if isinstance(value, bool) else str(value)
    return bool(re.fullmatch(r"[0-9]{1,5}", text)) and 0 < int(text) <= MAX_PORT


def _text(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(pattern.fullmatch(value))


def _advise(sentence: str) -> Callable[[Any], str]:
    return lambda _: sentence


def _address_advice(value: object) -> str:
    if not isinstance(value, str):
        return "write a host name or an IP address, in quotation marks"
    plain = "write a host name or an IP address, without port, user or brackets"
    return plain if value.isascii() else name_advice(value)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value[:1] in {"/", "~"}


_PATH_ADVICE = _advise("write an absolute path, or one that begins with `~/`, as it is on the worker")


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_DEADLINE


def _is_amount(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_secret(value: object) -> bool:
    return isinstance(value, str) and is_reference(value)


def _is_line(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_jump(value: object) -> bool:
    return isinstance(value, str)


def _are_probes(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(one.value, str | list | dict) for one in value)
    )


_SECONDS = (
    _is_seconds,
    _advise(f"write a number of seconds, at most {LONGEST_DEADLINE}, without quotation marks"),
)
_REFERENCE = (_is_secret, _advise("name where it is kept: env:NAME, file:PATH or cmd:NAME"))
_MEGABYTES = (_is_amount, _advise("write a whole number of megabytes, without quotation marks"))
_BOOL = (_is_bool, _advise("write true or false, without quotation marks"))

_RULES: dict[str, tuple[Callable[[object], bool], Callable[[Any], str]]] = {
    "ansible_host": (lambda value: isinstance(value, str) and is_address(value), _address_advice),
    "ansible_port": (_is_port, _advise(f"write a number from 1 to {MAX_PORT}")),
    "ansible_user": (_text(_USER), _advise("write the name of the account")),
    "ansible_ssh_private_key_file": (_is_path, _PATH_ADVICE),
    "ansible_winrm_ca_trust_path": (_is_path, _PATH_ADVICE),
    "ansible_connection": (
        lambda value: isinstance(value, str) and bool(value),
        _advise("write `ssh` or `winrm`"),
    ),
    "ha_group": (_text(_HA_GROUP), _advise("write a short name, the same for all peers of one cluster")),
    PRIORITY: (
        lambda value: isinstance(value, int) and not isinstance(value, bool),
        _advise("write a whole number"),
    ),
    "lamplighter_canary": _BOOL,
    "lamplighter_ssh_agent": _BOOL,
    "lamplighter_ssh_certificate": (_is_path, _PATH_ADVICE),
    "lamplighter_ssh_jump": (_is_jump, _advise("write user@host:port, several with commas between")),
    "lamplighter_ssh_passphrase": _REFERENCE,
    "lamplighter_sudo_password": _REFERENCE,
    "lamplighter_winrm_password": _REFERENCE,
    "lamplighter_identity": (
        _is_line,
        _advise("write what stays the same under every name, in quotation marks"),
    ),
    "lamplighter_connect_timeout": _SECONDS,
    "lamplighter_lock_seconds": _SECONDS,
    "lamplighter_patch_seconds": _SECONDS,
    "lamplighter_reboot_seconds": _SECONDS,
    "lamplighter_settle_seconds": _SECONDS,
    "lamplighter_min_free_mb_root": _MEGABYTES,
    "lamplighter_min_free_mb_boot": _MEGABYTES,
    "lamplighter_min_free_mb_var": _MEGABYTES,
    "lamplighter_min_free_mb_tmp": _MEGABYTES,
    "lamplighter_probes": (
        _are_probes,
        _advise("write a list of shell lines, of argument lists, or of {run: ..., timeout: 15}"),
    ),
}
