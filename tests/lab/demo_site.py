"""Makes a site of a sandbox estate: the demo's inventory with real addresses, keys and pins."""

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lamplighter.derive.catalogue import discover, named
from lamplighter.derive.prefect_yaml import prefect_yaml
from lamplighter.engine.provenance import code_digest
from lamplighter.engine.stages import keep_decision
from lamplighter.model.canonical import sha256
from lamplighter.model.stage import NAMESPACE, Decision, Stage
from lamplighter.signing import sign_line
from lamplighter.site import load_site
from tests.lab.estate import Estate
from tests.lab.keys import make_key, public_line
from tests.storekit import a_store, store_entry

ROOT = Path(__file__).resolve().parents[2]
APPROVERS = ("asha.patel@internal.example", "kiran.shah@internal.example", "priya.nair@msp.example")
HOSTS = ("web1", "web2", "app1", "app2", "db1", "mon1")
REQUESTER = "priya.nair@msp.example"
PURPOSES = ("approval", "request", "standing", "review", "witness", "stage")
NAMESPACES = ",".join(f"lamplighter-{name}@v1" for name in PURPOSES)


class DemoSite:
    """A copy of inventories/demo whose hosts are an estate's.

    Params: folder, where it goes; estate, up, with hosts named as in the inventory, or with any
    other names: then the inventory is made of those; changes, laid over `site.yaml`.
    """

    def __init__(self, folder: Path, estate: Estate, changes: Mapping[str, Any] | None = None) -> None:
        self.folder = folder.absolute()
        self.inventories = self.folder / "inventories"
        self.path = self.inventories / "demo"
        self.store = self.folder / "store"
        self.estate = estate
        self._changes = dict(changes or {})

    @property
    def env(self) -> dict[str, str]:
        """What processes need to find it."""
        return {"LAMPLIGHTER_INVENTORIES": str(self.inventories), "LAMPLIGHTER_HOME": str(ROOT)}

    def key(self, person: str) -> Path:
        """A person's private key. Params: person, one of APPROVERS."""
        return self.folder / "keys" / person

    def write(self) -> None:
        """Write the site, with new keys for its people."""
        shutil.copytree(ROOT / "inventories" / "demo", self.path)
        (self.folder / "keys").mkdir(mode=0o700)
        lines = []
        for person in APPROVERS:
            make_key(self.key(person), person)
            lines.append(f'{person} namespaces="{NAMESPACES}" {public_line(self.key(person))}\n')
        (self.path / "approvers").write_text("".join(lines), encoding="utf-8")
        pins = [host.host_key_line for host in self.estate]
        (self.path / "host_keys").write_text("\n".join(pins) + "\n", encoding="utf-8")
        (self.path / "calendar.yaml").unlink()  # the sandbox may be changed at any hour
        self.hand_over("patch-management", "patch-linux")
        self.edit("site.yaml", self._site)
        self.edit("hosts.yaml", self._hosts)

    def prefect_yaml(self) -> str:
        """The text of a `prefect.yaml` with its deployments."""
        return prefect_yaml(discover(ROOT), [load_site(self.path)])

    def hand_over(self, function: str, *runbooks: str) -> None:
        """Internal IT signs the handover that responsibilities.yaml declares; nothing is changed without."""
        now = int(time.time())
        decision = Decision(
            "demo", function, Stage.DELEGATED, APPROVERS[0], now - 60, now + 300 * 86400,
            secrets.token_hex(16), sha256(b"no evidence yet: the sandbox is new"),
            {name: code_digest(named(name).runbook) for name in runbooks},
        )
        line = sign_line(decision.to_bytes(), self.key(APPROVERS[0]), NAMESPACE)
        keep_decision(a_store(self.store), decision.function, line)

    @property
    def _is_the_demos(self) -> bool:
        return set(self.estate.hosts) == set(HOSTS)

    def _site(self, site: dict[str, Any]) -> None:
        site["store"] = store_entry(self.store)
        if not self._is_the_demos:
            hosts = {"hosts": "all", "schedules": []}  # theirs are the demo's own groups
            site["deployments"] = [one | hosts for one in site["deployments"]]
        site.update(self._changes)

    def _hosts(self, inventory: dict[str, Any]) -> None:
        everything = inventory["all"]
        everything["vars"]["ansible_ssh_private_key_file"] = str(self.estate.client_key)
        if not self._is_the_demos:
            everything["children"] = {}
            everything["hosts"] = {host.name: {"ansible_host": host.address} for host in self.estate}
            return
        for group in everything["children"].values():
            for name, variables in group.get("hosts", {}).items():
                if variables:
                    variables["ansible_host"] = self.estate[name].address

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change one of its YAML files. Params: change, is given what the file says and changes that."""
        path = self.path / name
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(yaml.safe_dump(value, sort_keys=False), encoding="utf-8")
