"""What comes back on a channel, taken apart: what is ours, where it ends, and what the rest says. Pure.

`shell` describes the conversation. Here is its reading side: a stream's answer lies between two marks, and
everything outside is the login shell's, PAM's, sudo's or a wrapper's: never an answer, but often the reason
why there is none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lamplighter.transports.shell import ASKS, BEGINS, CUT, END, LOADER
from lamplighter.transports.text import decode

_MARK = 64
"""Bytes no mark is longer than."""
_SHOWN = 200
_OURS = re.compile(re.escape(BEGINS) + rb"|lamplighter-[0-9a-f]{32}|" + ASKS.pattern)
_ENDING = re.compile(re.escape(CUT) + b"|" + re.escape(END) + rb"([0-9]{1,3})\n")


@dataclass(slots=True)
class Stream:
    """One of a channel's two streams.

    Attributes:
        word: what this conversation's marks begin with.
        data: the answer, once it begun; before, what came in front of it.
        front: what came in front of the answer, when it has begun.
        begun: the loader answered with our word.
        cut: the loader did not get the whole text, and ran none of it.
        code: the script's exit code, when the answer has ended.
    """

    word: bytes
    data: bytearray = field(default_factory=bytearray)
    front: bytes = b""
    begun: bool = False
    cut: bool = False
    code: int | None = None

    def feed(self, piece: bytes) -> None:
        """Take what arrived, in order, in pieces of any size; what comes after the end is dropped."""
        if self.code is not None or self.cut:
            return
        seen = max(0, len(self.data) - _MARK)
        self.data += piece
        if not self.begun:
            if not self._begin():
                return
            seen = 0
        self._end(seen)

    def _begin(self) -> bool:
        at = self.data.find(self.word + b"\n")
        if at < 0:
            return False
        self.begun, self.front = True, bytes(self.data[:at])
        del self.data[: at + len(self.word) + 1]
        return True

    def _end(self, start: int) -> None:
        mark = self.word + b"-"
        at = self.data.find(mark, start)
        while at >= 0:
            ended = _ENDING.match(self.data, at + len(self.word))
            if ended is not None:
                self.cut = ended[1] is None
                self.code = None if self.cut else int(ended[1])
                del self.data[at:]
                return
            at = self.data.find(mark, at + 1)

    @property
    def outside(self) -> bytes:
        """What came in front of the answer, or is all there is."""
        return self.front if self.begun else bytes(self.data)


def says(out: bytes, err: bytes, secret: str = "") -> str:
    """What somebody else said, short, on either stream: the last lines, standard error's in front.

    Args:
        out, err: what is not ours.
        secret: never shown, even if a host should echo it.
    """
    lines = []
    for data in (err, out):
        text = decode(_OURS.sub(b"", data.replace(LOADER.encode(), b"..."))[-4096:])
        lines += [line.strip() for line in text.splitlines() if line.strip()][-3:]
    said = " | ".join(lines)
    return (said.replace(secret, "***") if secret else said)[:_SHOWN]


def asked(err: bytes) -> list[str]:
    """The accounts whose passwords sudo asked for so far."""
    return [decode(name) for name in ASKS.findall(err)]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a login gives no shell: what it is, and what to change."""

    what: str
    advice: str


_REASONS = (
    (
        r"sftp connections only|sftp-server|restricted to sftp",
        Reason("the account may use sftp only", "Take the account out of ForceCommand internal-sftp"),
    ),
    (
        r"currently not available|nologin: ",
        Reason("the account's login shell is nologin", "Give it one: usermod -s /bin/sh"),
    ),
    (
        r"git-shell|unrecognized command|interactive git shell",
        Reason("the account's login shell is none (git-shell)", "Give it one: usermod -s /bin/sh"),
    ),
    (
        r"restricted",
        Reason(
            "the account's login shell is a restricted one (rbash), which starts no program by its path",
            "Give the account /bin/sh as login shell; ForceCommand is the better fence (docs/prepare.md)",
        ),
    ),
    (
        r"password.{0,40}expired|change required|password change|change your password|must change",
        Reason(
            "the account's password must be changed, and until then it may run nothing",
            "Change it, or give the account none: usermod -p '*'; chage -M -1 -d -1",
        ),
    ),
    (
        r"account (has|is) expired|account expired",
        Reason("the account has expired", "Set its end anew: chage -E -1"),
    ),
    (
        r"booting up|going down|not permitted to log in|nologin|maintenance",
        Reason("the host lets nobody in for now", "Wait until it is up; look for /etc/nologin, /run/nologin"),
    ),
    (
        r"resource temporarily unavailable|can(no|')t fork|fork: |cannot allocate memory|too many (open|log)",
        Reason(
            "the account or the host is at a limit of processes, memory or files",
            "Look at limits.conf, TasksMax of its slice, and what runs there",
        ),
    ),
    (
        r"no space left|read-only file system|input/output error",
        Reason("the host's disk is full, read-only or broken", "Look at its file systems"),
    ),
    (
        r"(/bin/sh|/usr/bin/env|exec).{0,40}(not found|no such file|cannot execute|permission denied)",
        Reason("the account cannot start /usr/bin/env or /bin/sh", "Look at its login shell and confinement"),
    ),
)
_SUDO_REASONS = (
    (r"incorrect password|no password was provided", "the sudo password is wrong"),
    (r"must have a tty|no tty present|a terminal is required", "sudo wants a terminal (requiretty)"),
    (r"password is required", "sudo wants a password, and none is configured"),
    (r"not in the sudoers|not allowed to|may not run", "sudoers does not allow it"),
    (r"sudo.{0,20}(not found|no such file)", "there is no sudo on the host: not found"),
    (r"account (has )?expired|account validation failure", "sudo's PAM refuses the account"),
)


def reason(said: str) -> Reason | None:
    """What a login shell, sshd or PAM meant by it, if that is known."""
    return next((one for pattern, one in _REASONS if re.search(pattern, said, re.IGNORECASE)), None)


def sudo_reason(said: str) -> str:
    """What sudo meant by it, if that is known; else empty."""
    return next((what for pattern, what in _SUDO_REASONS if re.search(pattern, said, re.IGNORECASE)), "")
