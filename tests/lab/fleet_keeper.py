"""Keeps a fleet's sshds: first process of a pid namespace, so that every session ends with it.

A program of its own: `unshare --mount --pid --fork ... fleet_keeper.py CONFIG OWNER_PIDFD`. In its own
mount namespace it hides the files a login shell reads, which here can cost more than all the rest.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

MS_BIND = 4096
RC_FILES = (
    "/etc/bash.bashrc",
    "/etc/ssh/sshrc",
    *(f"~/{name}" for name in (".bashrc", ".bash_login", ".bash_profile", ".profile", ".ssh/rc", ".zshenv")),
)
POLL_MS = 500


def hide_rc_files() -> None:
    """Put nothing in the place of every file a shell would read at each command."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name in RC_FILES:
        path = Path(name).expanduser()
        if path.is_file() and libc.mount(b"/dev/null", os.fsencode(path.resolve()), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"cannot hide {path}")


def start(config: dict[str, Any], host: dict[str, Any]) -> None:
    """Start one host's sshd."""
    options = {
        "AuthorizedKeysFile": config["authorized_keys"],
        "ListenAddress": f"{host['address']}:{config['port']}",
        "LogLevel": "ERROR",
        "MaxSessions": "100",
        "MaxStartups": "200:30:400",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
        "SetEnv": f"LAB_HOST={host['name']}",
        "StrictModes": "no",
        "Subsystem": "sftp internal-sftp",
        "UseDNS": "no",
        "UsePAM": "no",
    }
    arguments = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    subprocess.Popen(
        [config["sshd"], "-D", "-e", "-f", "/dev/null", "-h", host["key"], *arguments],
        stdin=subprocess.DEVNULL,
    )


def reap() -> None:
    """Wait for whatever ended: sessions come here when their sshd is gone."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main() -> int:
    """Run the fleet until its owner is gone."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hide_rc_files()
    for host in config["hosts"]:
        start(config, host)
    owner = select.poll()
    owner.register(int(sys.argv[2]), select.POLLIN)
    while not owner.poll(POLL_MS):
        reap()
    shutil.rmtree(config["folder"], ignore_errors=True)
    Path(config["entry"]).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
