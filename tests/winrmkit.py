"""What the WinRM tests share: an endpoint to talk to, and hosts that point at it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import trustme

from lamplighter.model.inventory import Host
from lamplighter.model.powershell import PowerShellScript
from lamplighter.secrets import Secret
from tests.lab.winrm_commands import Act
from tests.lab.winrm_endpoint import DOMAIN, PASSWORD, USER, WinRmEndpoint

CANARY = PASSWORD
OTHER_CANARY = "param-Canary-4711"
ECHO = PowerShellScript(
    "Get-Echo",
    "[CmdletBinding()]\nparam([string]$Text, [string]$Password)\n# ...",
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {"Text": {"type": "string"}, "Password": {"type": "string", "writeOnly": True}},
    },
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["text"],
        "properties": {"text": {"type": "string"}, "count": {"type": "integer"}},
    },
)


def secret(reference: str) -> Secret:
    """A resolver for the references the tests use."""
    return Secret(
        {"test:password": PASSWORD, "test:wrong": "wrong-" + PASSWORD, "test:other": OTHER_CANARY}[reference]
    )


def windows(endpoint: WinRmEndpoint | None, name: str = "win1", **variables: object) -> Host:
    """A host of an inventory that points at an endpoint."""
    common: dict[str, object] = {
        "ansible_connection": "winrm",
        "ansible_user": f"{DOMAIN}\\{USER}",
        "lamplighter_winrm_password": "test:password",
    }
    if endpoint is not None:
        scheme = "https" if endpoint.settings.certificate else "http"
        common |= {
            "ansible_host": endpoint.address,
            "ansible_port": endpoint.port,
            "ansible_winrm_scheme": scheme,
        }
    merged = common | variables
    return Host(name, (), {name: value for name, value in merged.items() if value is not None})


def pem(authority: trustme.CA, *names: str) -> bytes:
    """A server's certificate and key in one."""
    leaf = authority.issue_cert(*names)
    return bytes(leaf.private_key_pem.bytes() + b"".join(part.bytes() for part in leaf.cert_chain_pems))


def stand_in(endpoint: WinRmEndpoint, script: PowerShellScript, act: Act | Callable[..., Act]) -> None:
    """Let something stand in for a script."""
    digest = script.digest.removeprefix("sha256:")
    endpoint.acts[digest] = act if callable(act) else lambda _: act


def answering(**output: Any) -> Act:
    """A script that answers."""
    return Act(output=json.dumps(output))


@contextmanager
def within(seconds: float, at_least: float = 0.0) -> Iterator[None]:
    """Fail when it takes longer, or ends sooner."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert at_least <= took <= seconds, f"took {took:.2f} s"
