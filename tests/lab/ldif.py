"""Changes to a lab directory as LDIF (RFC 2849), made with OpenLDAP's own client."""

import base64
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.system import run

Values = str | bytes | int | Iterable[str | bytes | int]


@dataclass(frozen=True)
class Admin:
    """Whoever may do everything in a lab directory.

    Attributes:
        url: of the server, by the name its certificate carries or by address.
        ca: its CA.
        user: DN or principal.
        password_file: holds the password and nothing else.
    """

    url: str
    ca: Path
    user: str
    password_file: Path

    def apply(self, text: str) -> None:
        """Carry LDIF records out.

        Raises:
            LabError: the server refused one.
        """
        argv = ["ldapmodify", "-x", "-H", self.url, "-D", self.user, "-y", self.password_file]
        tls = {"LDAPTLS_CACERT": str(self.ca), "LDAPTLS_REQCERT": "allow"}  # its address is not in there
        run(argv, stdin=text, env=tls)


def add(dn: str, attributes: Mapping[str, Values]) -> str:
    """An LDIF record that adds an entry."""
    lines = [_line("dn", dn), "changetype: add"]
    for name, values in attributes.items():
        lines += [_line(name, value) for value in _list(values)]
    return "\n".join(lines) + "\n\n"


def replace(dn: str, attributes: Mapping[str, Values]) -> str:
    """An LDIF record that sets attributes; no values removes one."""
    return _modify(dn, "replace", attributes)


def append(dn: str, attributes: Mapping[str, Values]) -> str:
    """An LDIF record that adds values."""
    return _modify(dn, "add", attributes)


def delete(dn: str) -> str:
    """An LDIF record that deletes an entry."""
    return f"{_line('dn', dn)}\nchangetype: delete\n\n"


def _modify(dn: str, kind: str, attributes: Mapping[str, Values]) -> str:
    lines = [_line("dn", dn), "changetype: modify"]
    for name, values in attributes.items():
        lines += [f"{kind}: {name}", *(_line(name, value) for value in _list(values)), "-"]
    return "\n".join(lines) + "\n\n"


def _list(values: Values) -> list[str | bytes | int]:
    return [values] if isinstance(values, str | bytes | int) else list(values)


def _line(name: str, value: str | bytes | int) -> str:
    data = value if isinstance(value, bytes) else str(value).encode()
    return f"{name}:: {base64.b64encode(data).decode()}"


def write_secret(path: Path, value: str) -> Path:
    """Write a file that only its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - a file descriptor
        file.write(value)
    return path
