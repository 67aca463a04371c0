"""Ansible's variables as they are taken here: honoured, harmless, or another way in, which is a mistake.

The names are those of Ansible's documentation (special variables, connection and become plugins). What is in
none of the lists is named, too: it may change a host's address, account, way or privilege.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lamplighter.model.canonical import Json
from lamplighter.model.inventory import PRIORITY, Host, Shell
from lamplighter.site.ssh_args import ARGS, read_jump
from lamplighter.transports.winrm_settings import VARIABLES as WINRM_VARIABLES

HONOURED = frozenset(
    {
        "ansible_host",
        "ansible_port",
        "ansible_user",
        "ansible_connection",
        "ansible_ssh_private_key_file",
        "ansible_shell_type",
        PRIORITY,
        *ARGS,
        *WINRM_VARIABLES,
    }
)
HARMLESS = frozenset(
    {
        "ansible_async_dir",
        "ansible_check_mode",
        "ansible_connection_timeout",
        "ansible_command_timeout",
        "ansible_control_path",
        "ansible_control_path_dir",
        "ansible_diff_mode",
        "ansible_facts",
        "ansible_facts_modules",
        "ansible_forks",
        "ansible_host_key_checking",
        "ansible_hostv6",
        "ansible_interpreter_python_fallback",
        "ansible_limit",
        "ansible_local",
        "ansible_managed",
        "ansible_module_compression",
        "ansible_network_os",
        "ansible_no_target_syslog",
        "ansible_pipelining",
        "ansible_playbook_python",
        "ansible_remote_tmp",
        "ansible_remote_tmpdir",
        "ansible_run_tags",
        "ansible_scp_executable",
        "ansible_scp_extra_args",
        "ansible_scp_if_ssh",
        "ansible_sftp_batch_mode",
        "ansible_sftp_executable",
        "ansible_sftp_extra_args",
        "ansible_shell_executable",
        "ansible_skip_tags",
        "ansible_ssh_common_pipelining",
        "ansible_ssh_control_path",
        "ansible_ssh_host_key_checking",
        "ansible_ssh_pipelining",
        "ansible_ssh_retries",
        "ansible_ssh_timeout",
        "ansible_ssh_transfer_method",
        "ansible_ssh_use_tty",
        "ansible_ssh_verbosity",
        "ansible_sshpass_prompt",
        "ansible_system_tmpdirs",
        "ansible_target_log_info",
        "ansible_timeout",
        "ansible_user_id",
        "ansible_verbosity",
        "ansible_version",
        "ansible_win_async_startup_timeout",
        "ansible_winrm_connection_timeout",
        "ansible_winrm_read_timeout_sec",
        "ansible_winrm_kinit_cmd",
        "ansible_winrm_kinit_mode",
    }
)
_HARMLESS_KINDS = re.compile(
    r"ansible_\w+_interpreter"
    r"|ansible_(distribution|os_family|system|machine|architecture|kernel|default_ipv|all_ipv"
    r"|processor|mem|date_time|env|lsb|pkg_mgr|service_mgr|fqdn|domain|hostname|nodename)\w*"
    r"|ansible_(httpapi|netconf|libssh|persistent|network_cli|psrp|docker|aws_ssm|kubectl|podman|lxd|paramiko)_\w+"
)
"""Interpreters of modules, facts, and settings of connections that are not spoken here, which hosts tell."""

_SUDO = frozenset({"sudo", "ansible.builtin.sudo"})
_SUDO_FILES = frozenset({"sudo", "/usr/bin/sudo", "/bin/sudo"})
_SUDO_FLAGS = frozenset({"-H", "-S", "-n", "-E"})
_ROOT = "here everything is done as root, by sudo or as the account root"
_NOBODY = "delete it, or leave the host to Ansible"

_Rule = tuple[Callable[[Any], bool], str, str]


def _is_false(value: Json) -> bool:
    return (
        value is False
        or (isinstance(value, str) and value.lower() in {"false", "no", "off", "n", "f", "0"})
        or value == 0
    )


def _flags(value: Any) -> bool:
    return isinstance(value, str) and set(value.split()) <= _SUDO_FLAGS


_BECOME: dict[str, _Rule] = {
    "user": (lambda value: value == "root", _ROOT, _NOBODY),
    "method": (lambda value: value in _SUDO, _ROOT, _NOBODY),
    "exe": (
        lambda value: value in _SUDO_FILES,
        "sudo is started by its own name",
        "put it on the account's PATH",
    ),
    "flags": (_flags, "sudo gets its own options", _NOBODY),
}
"""By the last word of `ansible_become_...`: whether a value is what is done here; why not; what to do."""
_WAYS: dict[str, tuple[str, str]] = {
    "ansible_private_key_file": ("it is not read here", "write `ansible_ssh_private_key_file`"),
    "ansible_ssh_pass": ("logins over SSH are by key", "write `ansible_ssh_private_key_file`, and delete it"),
    "ansible_ssh_password": (
        "logins over SSH are by key",
        "write `ansible_ssh_private_key_file`, and delete it",
    ),
    "ansible_ssh_executable": ("ssh(1) is not started here", "say the way in `lamplighter_ssh_jump`"),
    "ansible_ssh_private_key": (
        "a private key in the inventory is not read",
        "write `ansible_ssh_private_key_file`",
    ),
    "ansible_private_key": (
        "a private key in the inventory is not read",
        "write `ansible_ssh_private_key_file`",
    ),
    "ansible_ssh_pkcs11_provider": (
        "keys of PKCS#11 tokens are not read",
        "load the key into an agent, and set `lamplighter_ssh_agent: true`",
    ),
    "ansible_ssh_password_mechanism": ("logins over SSH are by key", "delete it"),
    "ansible_paramiko_proxy_command": ("no command is run to reach a host", "write `lamplighter_ssh_jump`"),
    "ansible_paramiko_host": ("an address for one of Ansible's plugins only", "write `ansible_host`"),
    "ansible_paramiko_port": ("a port for one of Ansible's plugins only", "write `ansible_port`"),
    "ansible_paramiko_user": ("an account for one of Ansible's plugins only", "write `ansible_user`"),
    "ansible_paramiko_private_key_file": (
        "a key for one of Ansible's plugins only",
        "write `ansible_ssh_private_key_file`",
    ),
    "ansible_winrm_kinit_args": ("tickets are taken as they are", "delete it"),
    "ansible_sudo": ("an old name", "write `ansible_become`"),
    "ansible_su": ("an old name", "write `ansible_become` and its method"),
}
"""Variables that name another way, account or key, whatever their value."""
INSTEAD = {
    f"ansible_{plugin}_{word}": "lamplighter_sudo_password"
    for plugin in ("become", "sudo", "su", "runas")
    for word in ("pass", "password")
}
"""Passwords for becoming root, and what has to say the same."""
KNOWN = (
    HONOURED
    | HARMLESS
    | _WAYS.keys()
    | INSTEAD.keys()
    | {
        "ansible_become",
        *(f"ansible_{plugin}_{word}" for plugin in ("become", "sudo", "su", "runas") for word in _BECOME),
    }
)


def another_way(host: Host) -> Iterator[tuple[str, str, str]]:
    """What of a host's variables means another address, account, way or privilege than is used here.

    Args:
        host: with its variables merged.

    Yields:
        The variable, what is wrong with it, what to do.
    """
    values = {
        name: value
        for name, value in host.vars.items()
        if name.startswith("ansible_") and value not in (None, "")
    }
    if host.shell is Shell.OTHER:
        return
    for name in values.keys() & _WAYS.keys():
        if host.shell is Shell.POSIX or "winrm" in name:
            yield name, f"is Ansible's: {_WAYS[name][0]}", _WAYS[name][1]
    if host.shell is Shell.POWERSHELL:
        if "ansible_become" in values and not _is_false(values["ansible_become"]):
            yield (
                "ansible_become",
                "is set: on Windows everything is done as the account that logs in",
                "delete it",
            )
        return
    yield from _becoming(values)
    yield from read_jump(host.vars).wrong


def _becoming(values: Mapping[str, Json]) -> Iterator[tuple[str, str, str]]:
    for plugin in ("become", "sudo", "su"):
        for word, (usual, why, advice) in _BECOME.items():
            name = f"ansible_{plugin}_{word}"
            if name in values and not usual(values[name]):
                yield name, f"is `{str(values[name])[:60]}`: {why}", advice
    if (
        "ansible_become" in values
        and _is_false(values["ansible_become"])
        and values.get("ansible_user") != "root"
    ):
        yield "ansible_become", f"is false: {_ROOT}", "set it to true, or leave the host to Ansible"
    for name, ours in INSTEAD.items():
        if name in values and ours not in values and not _is_false(values.get("ansible_become", True)):
            yield name, "is Ansible's and not read here", f"write `{ours}` as well; it may stand beside it"


def is_known(name: str) -> bool:
    """Whether one of Ansible's variables is honoured, harmless, or told by `another_way`."""
    return name in KNOWN or bool(_HARMLESS_KINDS.fullmatch(name))


def unknown(host: Host) -> Iterator[str]:
    """Names of a host's variables of Ansible that `is_known` does not know."""
    return (name for name in host.vars if name.startswith("ansible_") and not is_known(name))
