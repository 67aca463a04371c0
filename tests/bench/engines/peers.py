"""The engines that are compared: how each is installed, told of the hosts, and started.

pyinfra and Ansible get environments of their own below the cache folder; the project never depends on them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.bench.engines.fleet_file import COMMAND, PARALLEL, Target, write_targets

ROOT = Path(__file__).resolve().parents[3]
PINS = {
    "pyinfra": ("pyinfra==3.10.0", "paramiko==4.0.0", "gevent==26.9.0", "cryptography==50.0.2"),
    "ansible": ("ansible-core==2.19.14", "cryptography==50.0.2"),
}
INSTALL_SECONDS = 600
_HERE = {"PYTHONPATH": "{root}"}


@dataclass(frozen=True)
class Engine:
    """One way to ask many hosts.

    Attributes:
        name: in rows and plots.
        prepare: writes what the engine reads into a folder, and gives its command line.
        env: added to its environment; `{folder}` stands for a fresh folder of each start, which is also its
            working directory, `{root}` for the checkout.
    """

    name: str
    prepare: Callable[[Path, Sequence[Target]], list[str]]
    env: Mapping[str, str] = field(default_factory=dict)


def engines() -> tuple[Engine, ...]:
    """All four, installed.

    Raises:
        subprocess.CalledProcessError: a peer cannot be installed.
    """
    return (
        Engine("lamplighter", lambda folder, targets: _own("ours", folder, targets), _HERE),
        Engine("paramiko", lambda folder, targets: _own("bare", folder, targets), _HERE),
        Engine("pyinfra", lambda folder, targets: _pyinfra(install("pyinfra"), folder, targets)),
        Engine("ansible", lambda folder, targets: _ansible(install("ansible"), folder, targets), {
            "ANSIBLE_HOME": "{folder}", "ANSIBLE_SSH_CONTROL_PATH_DIR": "{folder}/cp", "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CONFIG": "{folder}/ansible.cfg", "PYTHONWARNINGS": "ignore",
        }),
    )


def install(name: str) -> Path:
    """Make a peer's environment, once. Returns: its folder of programs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "lamplighter" / "bench" / PINS[name][0].replace("==", "-")
    done = folder / "installed"
    if not done.exists():
        print(f"   installing {', '.join(PINS[name])} into {folder}", flush=True)
        for argv in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [folder / "bin" / "pip", "install", "-q", *PINS[name]],
        ):
            subprocess.run(argv, check=True, timeout=INSTALL_SECONDS)
        done.touch()
    return folder / "bin"


def _own(module: str, folder: Path, targets: Sequence[Target]) -> list[str]:
    path = write_targets(folder / "targets.json", targets)
    return [sys.executable, "-m", f"tests.bench.engines.{module}", str(path)]


def _pyinfra(programs: Path, folder: Path, targets: Sequence[Target]) -> list[str]:
    hosts = [
        (target.name, {
            "ssh_hostname": target.address, "ssh_port": target.port, "ssh_user": target.user,
            "ssh_key": target.key, "ssh_known_hosts_file": target.known_hosts,
            "ssh_strict_host_key_checking": "yes", "ssh_look_for_keys": False,
        })
        for target in targets
    ]
    path = folder / "inventory.py"
    path.write_text(f"hosts = {hosts!r}\n", encoding="utf-8")
    return [str(programs / "pyinfra"), "-y", "--parallel", str(PARALLEL), str(path), "exec", "--", COMMAND]


def _ansible(programs: Path, folder: Path, targets: Sequence[Target]) -> list[str]:
    hosts = {
        target.name: {"ansible_host": target.address, "ansible_port": target.port} for target in targets
    }
    common = targets[0]
    variables = {
        "ansible_user": common.user,
        "ansible_ssh_private_key_file": common.key,
        "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={json.dumps(common.known_hosts)}",
    }
    (folder / "ansible.cfg").touch()  # Ansible's defaults, whatever the user's own file says
    path = folder / "inventory.yaml"
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
    return [
        str(programs / "ansible"), "all", "-i", str(path), "-m", "raw", "-a", COMMAND, "-f", str(PARALLEL),
    ]
