"""Canaries: secrets made to be recognised, one of every kind the product handles, and the search for them.

The one list is `KINDS`. A test brings a canary through the real code under a `Watch`, which then looks for it
in logs (every library's, at their most talkative), exceptions, what was shown, and the process lists of the
whole time. When the session ends, `search_session` greps every file that any test left behind: ledgers,
stores, Prefect's databases with their write-ahead logs, results, logs of servers and workers.
"""

from __future__ import annotations

import base64
import secrets
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import ldap3.utils.log as ldap3_log
import pytest

KINDS = {
    "ssh-passphrase": "opens an encrypted SSH key",
    "sudo-password": "of an account on Linux hosts",
    "winrm-password": "of an account on Windows hosts",
    "ldap-password": "of the service account in a directory",
    "user-password": "generated for a person, and delivered sealed",
    "s3-secret-key": "of a bucket",
    "smtp-password": "of a mail server",
    "webhook": "a notification URL, which whoever has it may post to",
}
LOGGERS = (
    "apprise", "boto3", "botocore", "lamplighter", "ldap3", "paramiko", "requests", "s3transfer", "spnego",
    "tasks", "urllib3", "winrm",
)
SAMPLE_SECONDS = 0.02
SEARCH_SECONDS = 120

_known: dict[str, str] = {}
_sources: set[Path] = set()


def canary(kind: str) -> str:
    """A new secret of a kind, searched for from now on to the end of the session."""
    return know(kind, f"Canary-{kind}-{secrets.token_hex(6)}-Zq7")


def know(kind: str, value: str) -> str:
    """Search for a secret that something else made, such as a generated password."""
    if kind not in KINDS or len(value) < 8:
        raise ValueError(f"no canary: {kind}")
    _known[value] = kind
    return value


def source(path: Path) -> Path:
    """A file or folder where secrets have to be: what a reference names, or a server's own accounts."""
    _sources.add(path.resolve())
    return path


def kept(path: Path, value: str) -> str:
    """Write a secret where a reference finds it. Returns: the reference."""
    path.write_text(value, encoding="utf-8")
    path.chmod(0o600)
    return f"file:{source(path)}"


def forms(value: str) -> set[bytes]:
    """A secret as it may stand somewhere: plain, as UTF-16, in a URL, in base64."""
    plain, wide = value.encode(), value.encode("utf-16-le")
    coded = {base64.b64encode(data).rstrip(b"=")[:-1] for data in (plain, wide)}
    return {plain, wide, quote(value, safe="").encode(), *coded}


def found(data: bytes) -> list[str]:
    """The kinds of canaries that bytes hold."""
    return sorted({kind for value, kind in _known.items() if any(form in data for form in forms(value))})


def search(*folders: Path) -> list[str]:
    """Grep every file below some folders. Returns: those that hold a canary and are no source."""
    patterns = b"\n".join(form for value in _known for form in forms(value) if b"\0" not in form)
    if not patterns:
        return []
    with tempfile.NamedTemporaryFile() as file:
        file.write(patterns + b"\n")
        file.flush()
        done = subprocess.run(
            ["grep", "-rlaFZ", "--devices=skip", "-f", file.name, *folders], capture_output=True, check=False,
            timeout=SEARCH_SECONDS,
        )
    hits = [Path(name.decode()).resolve() for name in done.stdout.split(b"\0") if name]
    return [
        f"{hit}: {', '.join(found(hit.read_bytes()))}"
        for hit in hits if not any(hit == one or one in hit.parents for one in _sources)
    ]


def search_session(basetemp: Path) -> None:
    """Make the last check of a session.

    Raises:
        AssertionError: a canary was found; the files are named.
    """
    hits = search(basetemp)
    assert not hits, "secrets were left behind:\n" + "\n".join(hits)


class Watch:
    """Looks over the shoulder of a test; a context manager that fails the test when it saw a canary.

    Args:
        caplog: pytest's, which every logger is led to.
    """

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        self._seen: dict[str, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._lines: set[bytes] = set()

    @property
    def commands(self) -> int:
        """How many different command lines were seen."""
        return len(self._lines)

    def __enter__(self) -> Self:
        self._caplog.set_level(1)
        for name in LOGGERS:
            self._caplog.set_level(1, name)
        ldap3_log.set_library_log_activation_level(1)
        ldap3_log.set_library_log_detail_level(ldap3_log.EXTENDED)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        ldap3_log.set_library_log_detail_level(ldap3_log.OFF)
        for line in self._lines:
            self._see("a process list", line)
        for record in self._caplog.records:
            self._see("a log line", f"{record.name}: {record.getMessage()} {record.exc_text}".encode())
        hits = [f"{place}: {', '.join(found(data))}" for place, data in self._seen.items()]
        assert not hits, "canaries were seen:\n" + "\n".join(hits)

    def shows(self, *things: object) -> None:
        """Look at everything somebody may be shown of some objects."""
        for thing in things:
            self._see(f"what is shown of a {type(thing).__name__}", f"{thing!s} {thing!r}".encode())

    def fails(self, kind: type[Exception], act: Callable[[], object]) -> None:
        """Do what must fail, and look at the error, at those behind it, and at its traceback."""
        with pytest.raises(kind) as caught:
            act()
        error: BaseException | None = caught.value
        while error is not None:
            self._see(f"a {type(error).__name__}", f"{error!s} {error!r} {vars(error)}".encode())
            error = error.__context__
        trace = traceback.format_exception(caught.value)
        self._see("a traceback", "".join(trace).encode())

    def files(self, *folders: Path) -> None:
        """Look into files now, while what writes them still runs."""
        hits = search(*folders)
        assert not hits, "secrets are on disk:\n" + "\n".join(hits)

    def _see(self, place: str, data: bytes) -> None:
        if found(data):
            self._seen[f"{place} ({data[:60]!r} ...)"] = data

    def _sample(self) -> None:
        """Read the command lines of all processes, hosts' included: their namespaces lie below ours.

        They are judged at the end, when passwords that were made meanwhile are known.
        """
        while not self._stop.wait(SAMPLE_SECONDS):
            self._lines.update(_command_lines())


def _command_lines() -> Iterable[bytes]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield (entry / "cmdline").read_bytes()
            except OSError:
                continue
