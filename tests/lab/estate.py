"""The estate: several real hosts on a network of their own, brought up and taken down as one."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab import cleanup, debs, keys, registry
from tests.lab.base import Base, ensure_base
from tests.lab.control import ask
from tests.lab.errors import LabError
from tests.lab.host import Host
from tests.lab.registry import MARK, Entry
from tests.lab.repo import Repo, SigningKey
from tests.lab.spec import HostSpec, check_name
from tests.lab.system import Process, environment, require, wait_until

_HERE = Path(__file__).parent
_PROGRAMS = ("apt-ftparchive", "gpg", "gpgconf", "ip", "mount", "nsenter", "setpriv", "ssh-keygen", "unshare")
_BUILTIN_REPO = "default"


class Estate:
    """Hosts, the network they share, the keys that open them and the packages they update from.

    Use it as a context manager, or call up() and down().

    Args:
        name: unique on this machine.
        specs: its hosts.
        state_dir: a folder it makes and in the end removes.
        detached: whether it outlives this process.
        updates: whether version 1.1 of the lab packages waits for the hosts from the start.
    """

    def __init__(
        self,
        name: str,
        specs: Sequence[HostSpec],
        state_dir: Path,
        *,
        detached: bool = False,
        updates: bool = True,
    ) -> None:
        self.name = check_name(name)
        self.specs = tuple(specs)
        self.state_dir = Path(state_dir).absolute()
        self.hosts: dict[str, Host] = {}
        self._detached = detached
        self._updates = updates
        self._entry: Entry | None = None
        self._key: SigningKey | None = None
        self._repos: dict[str, Repo] = {}
        self._base: Base | None = None
        if len({spec.name for spec in specs}) != len(specs):
            raise LabError("two hosts of an estate cannot have the same name")

    # Its parts

    def __getitem__(self, name: str) -> Host:
        """Look a host up.

        Raises:
            LabError: if there is none.
        """
        if name not in self.hosts:
            raise LabError(
                f"estate {self.name} has no host {name!r}: it has {', '.join(self.hosts) or 'none'}"
            )
        return self.hosts[name]

    def __iter__(self) -> Iterator[Host]:
        """Go through the hosts in the order of the specs."""
        return iter(self.hosts.values())

    def __len__(self) -> int:
        """Count the hosts."""
        return len(self.hosts)

    @property
    def client_key(self) -> Path:
        """A private key that opens ops, opspw, nosudo and root on every host."""
        return self.state_dir / "keys" / keys.CLIENT

    @property
    def client_key_encrypted(self) -> Path:
        """Another one, which PASSPHRASE opens."""
        return self.state_dir / "keys" / keys.ENCRYPTED

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with the key every host was made with."""
        return self.state_dir / "known_hosts"

    @property
    def repo(self) -> Repo:
        """The repository hosts use unless their spec names another."""
        return self._repos[_BUILTIN_REPO]

    def new_repo(self, name: str) -> Repo:
        """Make another repository, empty but for the versions hosts start with.

        Args:
            name: for HostSpec.repo or Host.use_repo.

        Returns:
            The repository.

        Raises:
            LabError: if the estate is not up, or was brought up by another process.
        """
        if self._key is None or self._base is None:
            raise LabError("only the process that brought an estate up can make repositories for it")
        folder, status = self.state_dir / "repos" / check_name(name), self._base.root / "var/lib/dpkg/status"
        repo = Repo(folder, self._key, self._base.suite, self._base.debs, status)
        repo.publish(debs.BASELINE)
        self._repos[name] = repo
        return repo

    # Its life

    def __enter__(self) -> Self:
        """Bring it up."""
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it down, whatever happened."""
        self.down()

    def up(self) -> None:
        """Bring every host up, ready to be logged in to.

        Raises:
            LabError: if it is up already, rights or programs are missing, the state folder has something in
                it, or a host does not come up; then nothing of it is left.
        """
        require(_PROGRAMS)
        self._base = ensure_base()
        keys.require_empty(self.state_dir)
        if any(mark in f"{self.state_dir}{self._base.root}" for mark in ",:\\"):
            raise LabError(f"overlays need paths without ',', ':' and backslashes, unlike {self.state_dir}")
        cleanup.clear_dead(self.name)
        self._entry = registry.claim(self.name, self.state_dir, detached=self._detached, wants_slot=True)
        try:
            self._raise(self._entry, self._base)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Take everything down and remove every trace; harmless if it is down already."""
        if self._entry is not None:
            cleanup.take_down(registry.load(self.name) or self._entry)
        self._entry, self._key, self._repos, self.hosts = None, None, {}, {}

    @classmethod
    def attach(cls, name: str) -> "Estate":
        """Get hold of an estate another process brought up, to use its hosts or take it down.

        Returns:
            The estate.

        Raises:
            LabError: if there is none.
        """
        entry = registry.load(name)
        if entry is None or entry.slot is None:
            raise LabError(f"there is no estate {name!r}: see `python -m tests.lab status`")
        folder = Path(entry.folder)
        specs = json.loads((folder / "specs.json").read_text(encoding="utf-8"))
        for spec in specs:
            spec["packages"] = tuple(spec["packages"])
        estate = cls(name, [HostSpec(**spec) for spec in specs], folder, detached=entry.detached)
        estate._entry = entry
        estate._make_hosts(entry)
        return estate

    @staticmethod
    def sweep() -> list[str]:
        """Remove what dead owners left behind.

        Returns:
            The names of what was removed.
        """
        return cleanup.sweep()

    # How it is done

    def _raise(self, entry: Entry, base: Base) -> None:
        (self.state_dir / "repos").mkdir(parents=True, exist_ok=True)
        (self.state_dir / "repos").chmod(0o755)
        specs = json.dumps([asdict(spec) for spec in self.specs])
        (self.state_dir / "specs.json").write_text(specs, encoding="utf-8")
        self._make_hosts(entry)
        self._make_identities()
        self._start_supervisor(entry, base)
        with ThreadPoolExecutor(max_workers=8) as pool:
            stocked = pool.submit(self._stock_repos, entry)
            booted = [pool.submit(host.wait_up) for host in self]
            stocked.result()
            for waiting in booted:
                waiting.result()
            list(pool.map(Host.install_extras, self))

    def _make_hosts(self, entry: Entry) -> None:
        if entry.slot is None:
            raise LabError(f"{self.name} has no network")
        addresses = list(registry.network(entry.slot).hosts())[1:]
        if len(self.specs) > len(addresses):
            raise LabError(f"an estate has room for {len(addresses)} hosts, not {len(self.specs)}")
        for spec, address in zip(self.specs, addresses, strict=False):
            folder = self.state_dir / "hosts" / spec.name
            self.hosts[spec.name] = Host(spec, str(address), folder, entry.socket)

    def _make_identities(self) -> None:
        """Make each host's own files: name, host key, who may log in, which repository."""
        authorized = keys.make_client_keys(self.state_dir / "keys")
        wanted = []
        for host in self:
            folder = self.state_dir / "hosts" / host.name
            for part in ("identity/etc/ssh", "identity/srv", "root", "disk"):
                (folder / part).mkdir(parents=True)
            identity = folder / "identity"
            (identity / "etc/hostname").write_text(f"{host.name}\n", encoding="ascii")
            (identity / "etc/hosts").write_text(
                f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n", encoding="ascii"
            )
            (identity / "etc/ssh/lab_authorized_keys").write_text(authorized, encoding="ascii")
            (identity / "srv/lab-repo").symlink_to(f"lab-repos/{check_name(host.spec.repo)}")
            for path in identity.rglob("*"):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() else 0o644)
            wanted.append((identity / "etc/ssh/ssh_host_ed25519_key", host.name))
        keys.make_keys(wanted)
        for private, name in wanted:
            shutil.copyfile(f"{private}.pub", self.state_dir / "hosts" / name / "host_key.pub")
        lines = "".join(f"{host.name},{host.host_key_line}\n" for host in self)
        self.known_hosts.write_text(lines, encoding="ascii")

    def _start_supervisor(self, entry: Entry, base: Base) -> None:
        config = self.state_dir / "config.json"
        config.write_text(json.dumps(self._configuration(entry, base)), encoding="utf-8")
        program = ["unshare", "--mount", "--propagation", "slave", sys.executable, "-I", "-S"]
        with (self.state_dir / "supervisor.log").open("wb") as log:
            process = subprocess.Popen(
                [*program, str(_HERE / "supervisor.py"), str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment({MARK: self.name}),
            )
        self._entry = replace(entry, supervisor=Process.of(process.pid))
        registry.save(self._entry)
        cleanup.CHILDREN[process.pid] = process
        if not wait_until(lambda: process.poll() is not None or self._supervised(entry), 20):
            raise LabError(f"the supervisor of {self.name} does not answer")
        if process.poll() is not None:
            said = (self.state_dir / "supervisor.log").read_text(encoding="utf-8").strip()
            raise LabError(f"estate {self.name} cannot start: {(said or 'no message').splitlines()[-1]}")

    def _supervised(self, entry: Entry) -> bool:
        """Say whether the supervisor answers, which it does once every host is booting."""
        if not entry.socket.exists():
            return False
        with contextlib.suppress(LabError):
            return not self.specs or "pid" in ask(entry.socket, "status", host=self.specs[-1].name)
        return False

    def _configuration(self, entry: Entry, base: Base) -> dict[str, Any]:
        slot = entry.slot or 0
        net = registry.network(slot)
        bridge = registry.bridge(slot)
        hosts = [
            {**asdict(host.spec), "address": f"{host.address}/{net.prefixlen}", "link": f"{bridge}h{number}"}
            for number, host in enumerate(self, 1)
        ]
        return {
            "name": self.name,
            "folder": str(self.state_dir),
            "owner": None if self._detached else os.getpid(),
            "entry": str(registry.RUN / f"{self.name}.json"),
            "socket": str(entry.socket),
            "gpg_home": str(entry.gpg_home),
            "base": str(base.root),
            "base_lock": str(base.lock),
            "repos": str(self.state_dir / "repos"),
            "init": str(_HERE / "files" / "host_init.sh"),
            "bridge": bridge,
            "group": registry.group(slot),
            "mac": f"02:6c:6c:00:{slot:02x}:01",
            "gateway": f"{next(net.hosts())}/{net.prefixlen}",
            "hosts": hosts,
        }

    def _stock_repos(self, entry: Entry) -> None:
        self._key = SigningKey(entry.gpg_home, {MARK: self.name})
        self._key.export(self.state_dir / "repos" / "keyring.gpg")
        for name in {_BUILTIN_REPO} | {spec.repo for spec in self.specs}:
            repo = self.new_repo(name)
            if self._updates:
                repo.publish()
