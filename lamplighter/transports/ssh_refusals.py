"""What is told when a login gives no answer: the errors of `ssh_exchange`, with what is and is not known."""

from __future__ import annotations

from paramiko.ssh_exception import ChannelException

from lamplighter.errors import (
    ChannelError,
    LamplighterError,
    SessionLostError,
    SudoRefusedError,
    TimedOutError,
)
from lamplighter.transports.ssh_answer import reason, says, sudo_reason

UNKNOWN = "The command may still be running on the host"
NOT_RUN = "Nothing was run on the host: its script was not sent"
_NOT_SENT = "The command was not sent"
_LOOK = "Log in by hand as this account, and look at its shell's profile (.bashrc) and any forced command"


def channel(out: bytes, err: bytes, secret: str, ended: str, what: str = "") -> ChannelError:
    """The login succeeded, and our command was not run as it was sent.

    Args:
        out, err: what came on either stream and is not ours.
        secret: never shown.
        ended: how the channel ended, as `exit code 1`.
        what: what is known to be wrong; else it is read from what was said.
    """
    said = says(out, err, secret)
    known = reason(said)
    what = what or (
        known.what if known else f"the login shell ended with {ended} and did not run our command"
    )
    return ChannelError(_and(what, said), changed=NOT_RUN, advice=known.advice if known else _LOOK)


def is_sudo(out: bytes, err: bytes, secret: str) -> bool:
    """Whether what was said is sudo's, as far as its words are known."""
    return bool(sudo_reason(says(out, err, secret)))


def sudo(out: bytes, err: bytes, secret: str, ended: str) -> LamplighterError:
    """Sudo, or what stands in front of it, did not run our command."""
    said = says(out, err, secret)
    what = sudo_reason(said)
    if not what and reason(said) is not None:
        return channel(out, err, secret, ended)
    return sudo_refused(
        _and(f"sudo did not run the command: {what or ended}", said),
        "Allow the account in sudoers (docs/prepare.md has the line), and set lamplighter_sudo_password if "
        "sudo asks for one",
    )


def asked_twice(quoted: tuple[bytes, bytes, str]) -> SudoRefusedError:
    """Sudo asked a second time."""
    return sudo_refused(
        _and(
            "sudo asked a second time: the sudo password is wrong, or sudo wants more than a password "
            "(a one-time code, a second factor)", says(*quoted)
        ),
        "It was offered once and not tried again. Look at lamplighter_sudo_password and at /etc/pam.d/sudo",
    )


def another_password(name: str) -> SudoRefusedError:
    """Sudo wants somebody else's password."""
    return sudo_refused(
        f"sudo asks for the password of {name}, not of the account (rootpw, targetpw or runaspw in sudoers)",
        "No password was sent. Take that option off for the account, or allow it NOPASSWD",
    )


def another_question(quoted: tuple[bytes, bytes, str]) -> SudoRefusedError:
    """Something waits for an answer, and it is not sudo's password prompt."""
    return sudo_refused(
        _and("sudo asks for something else than the password (a code, a second factor)", says(*quoted)),
        "No password was sent. Look at /etc/pam.d/sudo",
    )


def sudo_refused(message: str, advice: str) -> SudoRefusedError:
    """Sudo's answer was no, and our script was not sent."""
    return SudoRefusedError(message, changed=NOT_RUN, advice=advice)


def cut() -> SessionLostError:
    """The loader says that the text did not come whole."""
    return SessionLostError(
        "the script did not reach the host whole: something in the login read part of it",
        changed="Nothing of it was run",
        advice=_LOOK,
    )


def no_beginning(out: bytes, err: bytes, secret: str, ended: str) -> SessionLostError:
    """On a connection that was proved before: the script went along at once, and no answer begins."""
    said = says(out, err, secret)
    known = reason(said)
    what = known.what if known else f"the channel ended with {ended} and no answer"
    return SessionLostError(
        _and(what, said), changed="Whether the script was run is not known",
        advice=known.advice if known else "Look on the host before it is tried again",
    )


def no_end(ended: str) -> SessionLostError:
    """The script began, and its answer has no end."""
    return SessionLostError(
        f"the command's answer broke off: the channel ended with {ended}, and the answer did not",
        changed="What it did is not known: it, or the shell around it, was killed",
        advice="Look on the host before it is tried again",
    )


def no_exec(out: bytes, err: bytes, secret: str) -> ChannelError:
    """The server refuses commands after it let us in."""
    return ChannelError(
        _and("the server lets the account in and refuses to run commands for it", says(out, err, secret)),
        changed=NOT_RUN,
        advice="Allow it a shell: look at ForceCommand, restrictions in its authorized_keys, and what kind "
        "of server it is",
    )


def no_channel(error: Exception) -> SessionLostError:
    """The connection lives and the host opens no channel on it."""
    code = f" (code {error.code})" if isinstance(error, ChannelException) else ""
    return SessionLostError(
        f"the host opens no session on the connection{code}: it allows no more of them, or this account none",
        changed=_NOT_SENT,
        advice="Look at MaxSessions in its sshd_config (at least 1), and at its limits of processes",
    )


def gone() -> SessionLostError:
    """The connection is no more."""
    return SessionLostError("the connection is gone", changed=_NOT_SENT, advice="Connect again")


def no_answer(timeout: float) -> TimedOutError:
    """No channel was opened in time."""
    return TimedOutError(
        f"the host did not answer within {timeout:.3g} s", changed=_NOT_SENT,
        advice="It may be frozen or cut off; look at its console",
    )


def not_begun(out: bytes, err: bytes, secret: str, timeout: float, *, sudo: bool) -> TimedOutError:
    """The login shell or sudo took all the time there was."""
    said = says(out, err, secret)
    who = "sudo or the login shell" if sudo else "the login shell"
    return TimedOutError(
        _and(f"{who} did not start our command within {timeout:.3g} s: it is slow, or waits for input", said),
        changed=NOT_RUN, advice=_LOOK,
    )


def timed_out(timeout: float) -> TimedOutError:
    """The deadline passed after the script was sent."""
    return TimedOutError(
        f"the command did not end within {timeout:.3g} s", changed=UNKNOWN,
        advice="Look on the host before it is tried again",
    )


def _and(what: str, said: str) -> str:
    return f"{what}; it said: {said}" if said else f"{what}; it said nothing"
