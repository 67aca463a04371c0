"""Every error the engine raises, and nothing else.

An error is written for the person on night shift. It carries four things: what happened (`message`),
where (`where`: a host, a file and line, a run), what was and was not changed (`changed`), and what to
do next (`advice`). `str(error)` joins them into one readable sentence block. No error ever holds a secret:
transports wrap foreign exceptions and keep only what was checked to be harmless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class LamplighterError(Exception):
    """Root of the hierarchy.

    Args:
        message: what happened, one sentence without a full stop.
        where: the host, file or run it happened at; empty when it is obvious.
        changed: what was or was not changed; empty when nothing could have been.
        advice: what the reader should do next.
    """

    def __init__(self, message: str, *, where: str = "", changed: str = "", advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.changed = changed
        self.advice = advice
        self.data: Mapping[str, object] = {}
        """What was read on the way and belongs into the evidence; canonical JSON, no secrets."""

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return ". ".join(part.rstrip(".") for part in (head, self.changed, self.advice) if part)

    def at(self, where: str) -> LamplighterError:
        """Name the place, unless a deeper layer already did; returns the same error."""
        self.where = self.where or where
        return self


# --- input: sites, plans, approvals ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in one input file.

    Attributes:
        file: path as the reader would type it.
        line: 1-based line, 0 when the whole file is meant.
        message: what is wrong.
        advice: what to write instead.
    """

    file: str
    line: int
    message: str
    advice: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}" + (f" ({self.advice})" if self.advice else "")


class SiteError(LamplighterError):
    """A site's files hold mistakes; all of them are listed, in file and line order."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        self.mistakes = tuple(sorted(set(mistakes)))
        count = len(self.mistakes)
        super().__init__(f"{count} mistake{'s' if count != 1 else ''} in the site's files")

    def __str__(self) -> str:
        return "\n".join((f"{self.message}:", *(f"  {mistake}" for mistake in self.mistakes)))


class SelectionError(LamplighterError):
    """A host pattern matches nothing, or names something the inventory does not know."""


class MalformedError(LamplighterError):
    """Bytes that should be a plan, approval or ledger record are not in canonical form."""


class DeclinedError(LamplighterError):
    """What was asked for is understood and not done: the answer is no."""


class SecretError(LamplighterError):
    """A secret reference could not be resolved. Names the reference, never a value."""


# --- governance -----------------------------------------------------------------------------------


class NotApprovedError(LamplighterError):
    """The gate is not (or no longer) satisfied; no further host may be touched."""


class WindowClosedError(NotApprovedError):
    """The hosts' maintenance window is closed, or closes too soon; no further host may be touched."""


class SigningError(LamplighterError):
    """No signature was made: the key, its passphrase, its agent or its touch was missing."""


class LimitExceededError(LamplighterError):
    """The plan touches more hosts than the runbook's limit allows; nothing was changed."""


class LeaseHeldError(LamplighterError):
    """Another run holds the host; this run did not touch it."""


# --- records --------------------------------------------------------------------------------------


class LedgerError(LamplighterError):
    """The ledger cannot be read or written; nothing may be changed without it."""


class LedgerBrokenError(LedgerError):
    """A record does not verify: the chain was edited, reordered or truncated.

    Attributes:
        reason: one of `lamplighter.model.chain.Break`.
        record: the place of the first record that fails, from 1; 0 when the whole ledger is meant.
    """

    def __init__(
        self, message: str, *, where: str = "", advice: str = "", reason: str = "", record: int = 0
    ) -> None:
        super().__init__(message, where=where, advice=advice)
        self.reason = reason
        self.record = record


class StoreError(LamplighterError):
    """The site's store refuses a read or a write."""


class ExistsError(StoreError):
    """The key already holds other bytes; nothing was written."""


# --- transports -----------------------------------------------------------------------------------


class TransportError(LamplighterError):
    """Something between the worker and the host went wrong."""


class UnreachableError(TransportError):
    """No connection could be made; nothing was sent to the host."""


class AuthFailedError(UnreachableError):
    """The host answered and refused the credentials. Never retried: retrying locks accounts."""


class HostKeyError(UnreachableError):
    """The host's key is not the pinned one, or none is pinned."""


class ChannelError(UnreachableError):
    """The host is there, and its login gives no shell whose answers come back whole; nothing was run."""


class CertificateError(UnreachableError):
    """The server's certificate is not of the pinned CA, not of the expected name, or out of date."""


class SessionLostError(TransportError):
    """An established session broke; what the host did since is not known."""


class TimedOutError(SessionLostError):
    """A deadline passed; the command may still be running on the host."""


class OutputTooLargeError(TransportError):
    """The host printed more than the cap; the rest was not read."""


class RemoteFailedError(TransportError):
    """The host carried the command out and it failed."""


class SudoRefusedError(RemoteFailedError):
    """The account may not use sudo, or its sudo password is wrong or missing; nothing was changed."""


class NotPermittedError(RemoteFailedError):
    """The account that was used has no right to do this; nothing was changed."""


class PolicyViolationError(RemoteFailedError):
    """A rule of the server, such as its password policy, forbids the value; nothing was changed."""


class UnwillingError(RemoteFailedError):
    """The server understands and declines; nothing was changed."""


class NoSuchEntryError(RemoteFailedError):
    """The object is not there, or the account may not see it; nothing was changed."""


class ReferralError(RemoteFailedError):
    """The server sent the request on to another one. It was not followed; nothing was changed."""


class UnitExistsError(TransportError):
    """The detached unit was started before; it is never started twice. Attach to it instead."""


# --- operations -----------------------------------------------------------------------------------


class RefusedError(LamplighterError):
    """The operation declined before it changed anything: a lock, a full disk, a failed preflight."""


class DriftedError(LamplighterError):
    """What the plan was made for is not so any more; nothing was begun."""


class UnusableError(LamplighterError):
    """The host answers, but its state cannot be read well enough to plan for it."""


class OrchestratorError(LamplighterError):
    """Prefect's API refused or did not answer."""
