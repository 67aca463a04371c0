"""Waiting for a reboot: what proves it, and what is said when nothing does.

Proof is another boot id (random(4): the kernel's, new with every boot). A container's is the machine's and
stays; there a first process that began after we started to wait proves it. Its age is read on the host, in
the host's own time (proc(5): fields 1 of `/proc/uptime`, 22 of `/proc/1/stat`), so no clock that is set can
feign it.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from lamplighter.errors import (
    AuthFailedError,
    ChannelError,
    HostKeyError,
    LamplighterError,
    RemoteFailedError,
    SessionLostError,
    SudoRefusedError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.model.session import UnitState
from lamplighter.transports.ssh_detached import Link, Units
from lamplighter.transports.ssh_patience import Patience
from lamplighter.transports.text import decode, last_line

_CAP = 4096
_TICKS = 100
"""A second of `/proc/1/stat`: USER_HZ, which is 100 wherever Debian runs (proc(5), time(7))."""
_SURE = 2.0
"""Seconds after which a failed reboot command is believed: some fail because the host is going down."""
_QUESTION = """IFS= read -r boot </proc/sys/kernel/random/boot_id || exit 1
IFS=' ' read -r up rest </proc/uptime; IFS= read -r stat </proc/1/stat
set -- ${stat##*) }
echo "$boot ${up:-?} ${20:-?}"
"""
_ANSWER = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([0-9]+\.[0-9]+|\?) ([0-9]{1,18}|\?)\n")


@dataclass(frozen=True, slots=True)
class Boot:
    """Which boot a host runs.

    Attributes:
        id: the kernel's boot id.
        age: seconds since its first process began; None when that cannot be read.
    """

    id: str
    age: float | None

    @classmethod
    def read(cls, text: str) -> Boot | None:
        """Take the answer apart; None when it is none."""
        found = _ANSWER.fullmatch(text)
        if found is None:
            return None
        if "?" in (found[2], found[3]):
            return cls(found[1], None)
        up, began = float(found[2]), int(found[3]) / _TICKS
        # Some containers' uptime is their own (lxcfs), and their processes' times are the machine's.
        return cls(found[1], up - began if up >= began else up)


class BootWatch:
    """One wait for a reboot.

    Args:
        link: the host.
        units: its detached units.
        previous: the boot id it had.
        unit: the unit that was told to reboot it; empty when there is none.
    """

    def __init__(self, link: Link, units: Units, previous: str, unit: str = "") -> None:
        self._link, self._units, self._previous, self._unit = link, units, previous, unit
        self._began = time.monotonic()
        self._first = link.connection if link.connected else None
        self._seen: LamplighterError | str = ""
        self._let_in = False  # by the last login
        self._asked = 0.0  # when the last question was sent that was answered
        self._failed_since: float | None = None

    def run(self, timeout: float) -> str:
        """Wait; see `Session.await_boot`."""
        patience = Patience(self._began + timeout)
        while patience.left > 0:
            error = None
            try:
                boot = self._ask(patience)
                if boot is not None and self._is_another(boot):
                    return boot.id
                self._look_at_unit(patience)
            except HostKeyError as changed:
                raise self._rekeyed(changed) from None
            except (SessionLostError, UnreachableError, SudoRefusedError) as lost:
                if self._link.closed:
                    raise
                error = lost
                if isinstance(lost, TimedOutError) and patience.left == 0 and self._asked:
                    break  # there was no time for an answer: that says nothing of the host
                self._seen = lost
                if isinstance(lost, TimedOutError):
                    patience.slow()
                if not isinstance(lost, SudoRefusedError):
                    self._link.drop()
            patience.nap(error)
        raise self._over(timeout)

    def _ask(self, patience: Patience) -> Boot | None:
        left = patience.left
        self._let_in = False
        self._link.attach(time.monotonic() + left, patience.login)
        self._let_in = True
        asked = time.monotonic()
        raw = self._link.perform(_QUESTION, (), sudo=False, timeout=min(patience.login, left), cap=_CAP)
        self._asked = asked
        patience.answered()
        boot = Boot.read(decode(raw.out)) if raw.code == 0 else None
        self._seen = "" if boot else last_line(raw.err) or f"its boot id reads {decode(raw.out)[:60]!r}"
        return boot

    def _is_another(self, boot: Boot) -> bool:
        if boot.id != self._previous:
            return True
        return boot.age is not None and boot.age < self._asked - self._began

    def _look_at_unit(self, patience: Patience) -> None:
        """Has the command that was to reboot the host failed?"""
        if not self._unit or time.monotonic() < self._began + 1:
            return
        if self._units.state(self._unit, sudo=True) is not UnitState.FINISHED:
            return
        timeout = max(1.0, min(patience.login, patience.left))
        done = self._units.wait(self._unit, sudo=True, timeout=timeout, cap=_CAP)
        if not 0 < done.exit_code < 128:  # noqa: PLR2004 - from 128 it was a signal: what goes down is killed
            return
        now = time.monotonic()
        self._failed_since = self._failed_since or now
        if now >= self._failed_since + _SURE:
            said = " | ".join((done.stderr + done.stdout).strip().splitlines()[-3:])
            raise RemoteFailedError(
                f"the reboot command ended with exit code {done.exit_code}{': ' if said else ''}{said[:300]}",
                where=self._link.host, changed="The host was not rebooted and runs the same boot",
                advice="Something may hold reboots back: systemd-inhibit --list",
            )

    def _rekeyed(self, error: HostKeyError) -> HostKeyError:
        seconds = time.monotonic() - self._began
        return HostKeyError(
            f"{error.message}; this run itself told the host to reboot, {seconds:.0f} s before",
            where=error.where, changed=error.changed,
            advice=f"It may make new host keys at every boot (cloud-init's ssh_deletekeys). {error.advice}",
        )

    def _over(self, timeout: float) -> TimedOutError:
        """What can be said when nothing proved a reboot."""
        seen = self._seen
        advice = "Look at its console or hypervisor: it may hang in its boot loader or a file system check"
        if isinstance(seen, AuthFailedError | ChannelError | SudoRefusedError):
            what = f"the host is up and refuses us {timeout:g} s after it was told to reboot: {seen.message}"
            advice = seen.advice
        elif isinstance(seen, LamplighterError) and self._let_in:
            what = f"the host lets us in, and in {timeout:g} s did not say which boot it runs: {seen.message}"
            advice = seen.advice
        elif isinstance(seen, LamplighterError):
            what = f"the host did not come back from its reboot within {timeout:g} s: {seen.message}"
        elif seen:
            what = f"the host answers, and which boot it runs cannot be read: {seen}"
            advice = "Without /proc/sys/kernel/random/boot_id no reboot can be proved"
        elif self._link.connection is self._first:
            what = f"the host never went down within {timeout:g} s, and still runs the same boot"
            advice = "See whether a reboot is pending or held back: systemd-inhibit --list; shutdown --show"
        else:
            what = (
                f"the host answers after {timeout:g} s and runs the same boot as before: it did not reboot, "
                "or its boot id does not change (a container)"
            )
        return TimedOutError(what, where=self._link.host, advice=advice)
