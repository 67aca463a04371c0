"""The demo's directory: a real slapd with a few people in it, and what its site says of it.

A process of its own, because a slapd of the lab ends with whoever started it:
`python -m tests.lab.demo_directory FOLDER NAME`. To add somebody, add a line to `PEOPLE`; whoever needs more
than that gets it in `_seed`.
"""

import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pyrage

from tasks.openldap_state import ADMIN_LOCK
from tests.lab import ldif, openldap
from tests.lab.errors import LabError
from tests.lab.ldif import Values
from tests.lab.openldap import OpenLdap
from tests.lab.registry import RUN
from tests.lab.system import run, wait_until

START_SECONDS = 60
DAY = 86400
PASSWORD = "First-Passw0rd!1"
MANAGER, LOCKED = "neha.joshi", "kavita.iyer"
PROTECTED, ORPHAN, ENDED = "sunita.rao", "vikram.nair", "deepa.menon"
PEOPLE = {
    "ravi.desai": "Ravi Desai", LOCKED: "Kavita Iyer", MANAGER: "Neha Joshi", "anand.mehta": "Anand Mehta",
    PROTECTED: "Sunita Rao", ORPHAN: "Vikram Nair", ENDED: "Deepa Menon",
}
"""Logins and names. Everybody's manager is the one, and Anand Mehta is a director.

Sunita Rao is protected by a group in a group, the manager of Vikram Nair left, and an administrator locked
Deepa Menon.
"""
SHORT = f"cn=short,{openldap.POLICIES}"
"""The policy of whose passwords expire in a few days."""


def keeper(folder: Path, name: str) -> list[str]:
    """The command that keeps it running. Params: folder, for what others need to know; name, its own."""
    return [sys.executable, "-m", "tests.lab.demo_directory", str(folder), name]


def env(folder: Path) -> dict[str, str]:
    """What directory.yaml refers to; the identity that opens delivered passwords is made once."""
    identity = folder / "age-identity"
    if not identity.exists():
        folder.mkdir(parents=True, exist_ok=True)
        identity.touch(mode=0o600)
        identity.write_text(str(pyrage.x25519.Identity.generate()))
    return {
        "LAMPLIGHTER_DIRECTORY": openldap.SERVICE_PASSWORD,
        "LAMPLIGHTER_AGE_IDENTITY": identity.read_text(),
    }


def directory_yaml(folder: Path) -> dict[str, Any]:
    """What the site says of it, when it is up.

    Errors: LabError when it does not come up.
    """
    told = folder / "up.json"
    if not wait_until(told.exists, START_SECONDS, 0.1):
        raise LabError(f"the demo's directory did not start; see {folder.parent}/prefect/directory.log")
    up = json.loads(told.read_text())
    return {
        "kind": "openldap", "servers": [{"address": up["address"], "name": openldap.NAME}], "ca": up["ca"],
        "base": openldap.BASE,
        "bind": {"user": openldap.SERVICE, "password": "env:LAMPLIGHTER_DIRECTORY"},
        "default_policy": openldap.DEFAULT_POLICY,
        "delegated": [openldap.PEOPLE],
        "protected_groups": [f"cn=board,{openldap.GROUPS}"],
        "vip": {"groups": [f"cn=directors,{openldap.GROUPS}"], "rule": "gated"},
        "rates": {"per_user_a_day": 2, "per_hour": 10, "tell": ["internal/service-desk", "msp/duty-lead"]},
        "delivery": {
            "ways": ["manager"], "identity": "env:LAMPLIGHTER_AGE_IDENTITY", "mail_through": "mail",
            "when_unknown": "drop",
        },
        "expiring": {"days": [14, 7, 3, 1]},
    }


def _seed(server: OpenLdap) -> None:
    server.admin.apply(_policy(SHORT, 3 * DAY - 600))
    manager = f"uid={MANAGER},{openldap.PEOPLE}"
    made = {}
    for number, (login, name) in enumerate(PEOPLE.items(), 1):
        more: dict[str, Values] = {"mail": f"{login}@internal.example", "employeeNumber": f"{1000 + number}"}
        if login != MANAGER:
            more["manager"] = manager
        if login == "ravi.desai":
            more["pwdPolicySubentry"] = SHORT
        if login == ORPHAN:
            more["manager"] = f"uid=somebody.who.left,{openldap.PEOPLE}"
        if login == ENDED:
            more["pwdAccountLockedTime"] = ADMIN_LOCK
        made[login] = server.user(login, PASSWORD, cn=name, **more)
    server.group("directors", made["anand.mehta"])
    server.group("board", server.group("assistants", made[PROTECTED]))
    for _ in range(3):
        _log_in_wrongly(server, made[LOCKED])


def _policy(dn: str, seconds: int) -> str:
    return ldif.add(dn, {
        "objectClass": ["pwdPolicy", "device"], "pwdAttribute": "userPassword", "pwdMinLength": 10,
        "pwdMaxAge": seconds, "pwdMustChange": "TRUE", "pwdAllowUserChange": "TRUE",
    })


def _log_in_wrongly(server: OpenLdap, dn: str) -> None:
    admin = server.admin
    settings = {"LDAPTLS_CACERT": str(admin.ca), "LDAPTLS_REQCERT": "allow"}
    with contextlib.suppress(LabError):
        run(["ldapwhoami", "-x", "-H", admin.url, "-D", dn, "-w", "wrong"], env=settings)


def main() -> None:
    """Keep it up until told to stop."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    told = folder / "up.json"
    told.unlink(missing_ok=True)
    with OpenLdap(name, RUN / f"{name}.d") as server:
        _seed(server)
        told.write_text(json.dumps({"address": server.address, "ca": str(server.ca)}))
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
