"""Whole runs about accounts, over a real directory, as the flows do them but without Prefect."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage
import yaml

from flows.reset_password import RUNBOOK as RESET
from flows.unlock_account import RUNBOOK as UNLOCK
from lamplighter.delivery import Parcel
from lamplighter.derive.catalogue import discover
from lamplighter.derive.prefect_yaml import prefect_yaml
from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Ending, Run
from lamplighter.engine.stages import keep_decision
from lamplighter.errors import AuthFailedError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model import stage
from lamplighter.model.approval import NAMESPACE, Decision, Statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from lamplighter.model.plan import Requester
from lamplighter.model.runbook import Runbook
from lamplighter.model.session import Connect
from lamplighter.model.standing import ACCOUNTS, Standing, Uses
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.secrets import Secret
from lamplighter.site import load_site
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, SimpleBind
from tasks.account_runs import AccountDesk, open_desk, remember_claims
from tasks.accounts import Claims
from tests.lab import openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.samba_ad import SambaAd
from tests.sshkit import Pair
from tests.storekit import a_store, store_entry

ASHA, KIRAN, PRIYA = "asha.patel@internal.example", "kiran.shah@internal.example", "priya.nair@msp.example"
ROOT = Path(__file__).parents[1]
OLD = "First-Passw0rd!1"
Hook = Callable[[Run], None]


def nothing(_: Run) -> None:
    """A hook that does nothing."""


class Office:
    """A site whose directory is a real one; opened again, it goes on from what is there.

    Args:
        folder: everything is below it.
        server: the directory.
        changes: laid over `directory.yaml`.
    """

    def __init__(self, folder: Path, server: SambaAd | OpenLdap, **changes: Any) -> None:
        self.folder, self.path, self.server = folder, folder / "demo", server
        self.keys = {person: Pair() for person in (ASHA, KIRAN, PRIYA)}
        self.recipient, self.own = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
        self.store = a_store(folder / "store")
        self.drop_off = folder / "passwords"
        shutil.copytree(ROOT / "inventories" / "demo", self.path)
        self._write(changes)

    def _write(self, changes: Mapping[str, Any]) -> None:
        for name in ("calendar.yaml", "directory.yaml"):
            (self.path / name).unlink()
        self.edit("site.yaml", store=store_entry(self.folder / "store"), deployments=[], gates={})
        lines = [f"{person} {pair.public_line}\n" for person, pair in self.keys.items()]
        (self.path / "approvers").write_text("".join(lines))
        matrix = yaml.safe_load((self.path / "responsibilities.yaml").read_text())
        matrix["functions"][RESET.function] |= {
            "stage": "delegated", "demote_on": [], "runbooks": [RESET.id, UNLOCK.id],
        }
        (self.path / "responsibilities.yaml").write_text(yaml.safe_dump(matrix))
        self._hand_over()
        self.secret("bind", self._lab.SERVICE_PASSWORD)
        self.secret("own", str(self.own))
        self.directory(**{**self._directory(), **changes})
        self.stand(RESET, {"unlock": True, "style": "words"})
        self.stand(UNLOCK, {})

    @property
    def _lab(self) -> Any:
        return samba_ad if isinstance(self.server, SambaAd) else openldap

    def _directory(self) -> dict[str, Any]:
        ad, lab = isinstance(self.server, SambaAd), self._lab
        return {
            "kind": "active-directory" if ad else "openldap",
            "servers": [{"address": self.server.address, "name": lab.NAME}],
            "ca": str(self.server.ca), "base": lab.BASE,
            "bind": {"user": lab.SERVICE, "password": f"file:{self.folder / 'bind'}"},
            "delegated": [samba_ad.STAFF if ad else openldap.PEOPLE], "denied": ["denied"],
            **({} if ad else {"default_policy": openldap.DEFAULT_POLICY}),
            "rates": {"per_user_a_day": 3, "per_hour": 400},
            "delivery": {
                "ways": ["sealed", "file", "manager", "alternate"],
                "recipients": {"desk": str(self.recipient.to_public())},
                "identity": f"file:{self.folder / 'own'}", "folder": str(self.drop_off),
                "mail_through": "mail", "alternate": "otherMailbox" if ad else "description",
            },
        }

    def directory(self, **values: Any) -> None:
        """Lay values over `directory.yaml`."""
        self.edit("directory.yaml", **values)

    def edit(self, name: str, **values: Any) -> None:
        path = self.path / name
        known = yaml.safe_load(path.read_text()) if path.exists() else {}
        path.write_text(yaml.safe_dump({**known, **values}, sort_keys=False))

    def secret(self, name: str, value: str) -> None:
        path = self.folder / name
        path.write_text(value)
        path.chmod(0o600)

    def key(self, person: str) -> Path:
        """A person's private key, as a file."""
        return self.keys[person].write(self.folder / person)

    def _hand_over(self) -> None:
        decision = stage.Decision(
            "demo", RESET.function, stage.Stage.DELEGATED, ASHA, 1, 2**31, secrets.token_hex(16),
            sha256(b"none"),
        )
        now = int(time.time())
        data = replace(decision, not_before=now - 1, expires=now + 86400 * 300).to_bytes()
        keep_decision(
            self.store, RESET.function, Envelope(data, self.keys[ASHA].sign(data, stage.NAMESPACE)).to_line()
        )
        self.now = now

    def stand(self, runbook: Runbook, options: dict[str, Any], who: str = KIRAN) -> None:
        """A standing approval for ordinary accounts."""
        limits = load_site(self.path).rollout(runbook)[0]
        data = Standing(
            "demo", runbook.id, ACCOUNTS, who, self.now - 1, self.now + 86400, secrets.token_hex(16), "",
            options, limits, uses=Uses(1000, 1000),
        ).to_bytes()
        (self.path / "standing").mkdir(exist_ok=True)
        line = Envelope(data, self.keys[who].sign(data, STANDING)).to_line()
        (self.path / "standing" / f"{runbook.id}.line").write_text(line + "\n")

    # --- runs -------------------------------------------------------------------------------------

    @property
    def desk(self) -> AccountDesk:
        return open_desk(load_site(self.path), self.store)

    @contextmanager
    def run(
        self, account: str, run: str = "reset-1", *, deliver_to: str = "", unlock: bool = True,
        unlock_only: bool = False, desk: AccountDesk | None = None,
        connect: Callable[[Connect], Connect] = lambda one: one,
    ) -> Iterator[tuple[AccountDesk, Run]]:
        """Open a run, new or to go on with."""
        desk = desk or self.desk
        asked = Claims("call-back", deliver_to)
        operation = desk.unlock("call-back") if unlock_only else desk.reset(run, asked, unlock=unlock)
        request = Request(
            UNLOCK if unlock_only else RESET, desk.site, operation, Requester(PRIYA), account, "T-1"
        )
        with (
            Ledger.open(self.store, run, "demo") as ledger,
            Leases(self.store, ttl=5, margin=0) as leases,
            desk.reach(desk.site) as reach,
        ):
            made = Run(run, request, self.store, ledger, connect(reach), leases, pause=0.05)
            remember_claims(made)
            yield desk, made

    def go(self, account: str, run: str = "reset-1", *, planned: Hook = nothing, **how: Any) -> Ending:
        """Everything a flow does."""
        with self.run(account, run, **how) as (desk, made):
            return finish(desk, made, planned)

    def sign(self, run: Run, who: str = KIRAN) -> str:
        """A signature over a run's plan."""
        data = Statement(
            run.plan().digest, Decision.APPROVE, who, self.now - 1, self.now + 3600, secrets.token_hex(16)
        ).to_bytes()
        return Envelope(data, self.keys[who].sign(data, NAMESPACE)).to_line()

    def parcel(self, run: str = "reset-1") -> Parcel | None:
        return self.desk.deliveries.parcel(run)

    def password(self, run: str = "reset-1") -> str:
        """What the recipient reads."""
        sealed = (self.drop_off / f"{run}.age").read_bytes()
        return word_of(pyrage.decrypt(sealed, [self.recipient]).decode())


@contextmanager
def served(office: Office, folder: Path, **env: str) -> Iterator[PrefectStack]:
    """A Prefect server with the MSP's worker and the office's deployments; `env` is for its processes."""
    office.edit("site.yaml", deployments=[
        {"runbook": RESET.id, "name": "service-desk"}, {"runbook": UNLOCK.id, "name": "service-desk"},
    ])
    settings = {"LAMPLIGHTER_INVENTORIES": str(office.folder), "LAMPLIGHTER_HOME": str(ROOT), **env}
    with PrefectStack(folder, env=settings) as stack:
        stack.start_worker("msp")
        stack.deploy(prefect_yaml(discover(ROOT), [load_site(office.path)]))
        yield stack


def submit(api: PrefectApi, account: str, runbook: str = RESET.id, **more: str) -> str:
    """Start a run as the form does; returns the flow run's id."""
    found = api.post(f"deployments/name/{runbook}/service-desk")
    made = api.post(f"deployments/{found['id']}/create_flow_run", {"parameters": {
        "site": "demo", "account": account, "verified": "call-back", "ticket": "T-7", "requester": PRIYA,
        **more,
    }})
    return str(made["id"])


def logs_in(server: SambaAd | OpenLdap, dn: str, password: str) -> bool:
    """Whether somebody may log in by LDAP; in Active Directory not with a password that must be changed."""
    lab = samba_ad if isinstance(server, SambaAd) else openldap
    one = LdapServer(server.address, name=lab.NAME)
    settings = LdapSettings((one,), server.ca, lab.BASE, SimpleBind(dn, "env:X"))
    try:
        with LdapTransport(settings, lambda _: Secret(password)) as transport:
            transport.connect()
    except AuthFailedError:
        return False
    return True


def word_of(text: str) -> str:
    """The password in a delivered text."""
    return text.splitlines()[0].rpartition(": ")[2]


def finish(desk: AccountDesk, run: Run, planned: Hook = nothing) -> Ending:
    """From wherever a run stands to its end."""
    plan = run.make_plan(run.survey())
    planned(run)
    if plan.waves and not run.history.ended():
        run.check_gate()
    if run.history.passed and desk.within_rates(run):
        for number in range(1, len(plan.waves) + 1):
            run.rollout().roll_out(number)
    desk.hand_over(run)
    return run.close()
