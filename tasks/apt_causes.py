"""Why apt could not bring an archive up to date: the most specific cause, and what mends it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"\b407\b", "the proxy asks for a sign-in (407)", "give Acquire::http::Proxy an account"),
    (r"NOSPLIT|Clearsigned file isn't valid|require authentication",
     "something else answers in its place, such as the sign-in page of a proxy or network",
     "sign in, or mend the proxy in /etc/apt/apt.conf.d"),
    (r"\b401\s+Unauthorized|\b401\b", "it asks for a subscription or password (401)",
     "mend /etc/apt/auth.conf.d, or switch the source off"),
    (r"\b403\b", "it refuses this host (403)", "ask who runs it, or mend the proxy"),
    (r"\b5\d\d\s+[A-Z]", "its server is ill (5xx)", "try again later, or take another mirror"),
    (r"certificate|TLS|SSL|handshake", "its TLS certificate or connection is not accepted",
     "install ca-certificates or the site's own authority, and check the clock"),
    (r"cdrom", "it is a CD-ROM that is not there", "switch the source off"),
    (r"method driver .* could not be found", "apt here does not speak its protocol",
     "install the transport, or switch the source off"),
    (r"Could not resolve|failure resolving|No address associated", "its name cannot be resolved",
     "mend /etc/resolv.conf or the source"),
    (r"\b404\b|\b410\b|have a Release file|File not found|No such file",
     "it does not offer this release, or not here", "mend the source"),
    (r"not valid yet", "its index is from the future", "check the clock of the host and of the mirror"),
    (r"is expired \(invalid since", "its index has expired, as a mirror's that stopped or a snapshot's does",
     "take another mirror, or check the clock"),
    (r"changed its '?\w+'? value", "it changed its name, and apt wants that accepted",
     "look at it, then apt-get update --allow-releaseinfo-change"),
    (r"Hash Sum mismatch|unexpected size|sync in progress", "it contradicts itself (hash sum mismatch)",
     "try again later: its mirror is being updated, or a proxy is stale"),
    (r"EXPKEYSIG|KEYEXPIRED|key .*expired|expired on", "its signing key has expired",
     "install the new key of the archive"),
    (r"REVKEYSIG|revoked", "its signing key was revoked", "find out why, and install the new key"),
    (r"weak digest|SHA1|insufficient|deprecated|[Pp]olicy rejected|not considered secure",
     "it is signed in a way that is no longer accepted", "ask who runs it for a newer signature"),
    (r"NO_PUBKEY|[Mm]issing key|couldn't be verified|could not be verified",
     "its signature cannot be verified, for want of the key", "install the archive's key for Signed-By"),
    (r"BADSIG|[Bb]ad signature|signature.*invalid", "its signature is wrong", "take another mirror"),
    (r"not signed|no longer signed", "it is not signed", "ask who runs it; nothing unsigned is taken"),
    (r"Unable to connect|Could not connect|[Cc]onnection (refused|failed|reset)|unreachable|timed out",
     "it cannot be reached", "mend the network, the firewall or the proxy"),
    (r"Conflicting values set for option Signed-By",
     "two source lines name different keys (Signed-By) for it", "leave one of them"),
    (r"Could not get lock|Unable to lock",
     "another process refreshes the package lists and did not finish", "plan again when it is done"),
    (r"No space left|enough free space", "the disk is full", "make room in /var"),
    (r"Read-only file system", "the lists cannot be written: the file system is read-only",
     "mount it writable"),
    (r"Malformed|could not be parsed|list of sources could not be read", "the list of sources is malformed",
     "mend the line"),
)


def cause(said: Iterable[str], code: int) -> str:
    """The most specific cause in apt's words, with them and with what mends it.

    Args:
        said: complaints about one archive; none when it was just not fetched.
        code: how `apt-get update` ended; 124 is timeout(1)'s.
    """
    words = "; ".join(dict.fromkeys(line.removeprefix("E: ").removeprefix("W: ").strip() for line in said))
    for pattern, what, mend in CAUSES:
        if re.search(pattern, words):
            return f"{what}: {mend} ({words[:300]})"
    if code == 124:  # noqa: PLR2004 - timeout(1)
        return "the archives did not answer in time"
    return words[:300] or f"it was not fetched, and apt-get update ended with exit code {code} without a word"


def not_updated(warning: str) -> bool:
    """Whether a `W:` line that names an archive says that it was not brought up to date."""
    return bool(re.search(
        r"^W: (Failed to fetch|GPG error|An error occurred|Some index files|.*previous index files"
        r"|.*(?:is not|no longer) signed|.*OpenPGP signature verification failed)", warning))
