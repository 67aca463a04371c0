"""Checks the variables of hosts and groups: the ones a connection is made of, and secrets in the clear."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lamplighter.model.canonical import Json
from lamplighter.model.inventory import PRIORITY
from lamplighter.model.selection import closest
from lamplighter.secrets import is_reference
from lamplighter.site.names import MAX_PORT, is_address, name_advice
from lamplighter.site.yaml import Node, Source
from lamplighter.transports.winrm_settings import VARIABLES as WINRM_VARIABLES

_SECRET = re.compile(
    r"(^|[_-])(password|passwd|pass|secret|secret[_-]key|token|passphrase)$", re.IGNORECASE
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$-]{0,103}", re.ASCII)
_HA_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_OLD = {
    "ansible_ssh_host": "ansible_host", "ansible_ssh_port": "ansible_port",
    "ansible_ssh_user": "ansible_user",
}
INSTEAD = {
    "ansible_ssh_common_args": "lamplighter_ssh_jump", "ansible_ssh_extra_args": "lamplighter_ssh_jump",
    "ansible_become_password": "lamplighter_sudo_password",
    "ansible_become_pass": "lamplighter_sudo_password",
}
"""What Ansible reads and an SSH session here does not, and what has to say the same."""

_KNOWN = (
    "ansible_host", "ansible_port", "ansible_user", "ansible_password", "ansible_connection",
    "ansible_ssh_private_key_file", "ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_pass",
    "ansible_become", "ansible_become_method", "ansible_become_user", "ansible_become_password",
    "ansible_shell_type", "ansible_shell_executable", "ansible_become_pass", *WINRM_VARIABLES,
    "ansible_python_interpreter", "lamplighter_ssh_agent", "lamplighter_ssh_certificate",
    "lamplighter_ssh_passphrase", "lamplighter_ssh_jump", "lamplighter_sudo_password",
    "lamplighter_connect_timeout", "lamplighter_canary", "lamplighter_probes", PRIORITY,
)


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
        return f"`{name}` holds a secret in the clear", \
            "name where it is kept: env:NAME, file:PATH or cmd:COMMAND"
    rule = _RULES.get(name)
    if rule and "{{" in str(node.value):
        return f"`{name}` is a template, and templates are not evaluated here", \
            "write the value itself"
    if rule and not rule[0](node.value):
        return f"`{name}` is {_shown(node)}", rule[1](node.value)
    ours = name.startswith(("ansible_", "lamplighter_")) and name not in _KNOWN
    close = closest(name, _KNOWN, cutoff=0.9) if ours else ""
    if close:
        return f"`{name}` is not a known variable", f"did you mean `{close}`?"
    return None


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

_RULES: dict[str, tuple[Callable[[object], bool], Callable[[Any], str]]] = {
    "ansible_host": (lambda value: isinstance(value, str) and is_address(value), _address_advice),
    "ansible_port": (_is_port, _advise(f"write a number from 1 to {MAX_PORT}")),
    "ansible_user": (_text(_USER), _advise("write the name of the account")),
    "ansible_ssh_private_key_file": (_is_path, _PATH_ADVICE),
    "ansible_winrm_ca_trust_path": (_is_path, _PATH_ADVICE),
    "ansible_connection": (lambda value: isinstance(value, str) and bool(value),
                           _advise("write `ssh` or `winrm`")),
    "ha_group": (_text(_HA_GROUP), _advise("write a short name, the same for all peers of one cluster")),
    PRIORITY: (lambda value: isinstance(value, int) and not isinstance(value, bool),
               _advise("write a whole number")),
}
