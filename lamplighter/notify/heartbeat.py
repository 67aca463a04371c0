"""The watch's heartbeat, and who notices when it stops.

The watch writes a time at the end of each round. Every other flow's start, `lamplighter check` and
`lamplighter runs` look at it and warn when it is old: so the watch can only fall silent together with
everything else. What sees even that is outside: the URL the watch asks after each round (`ping`), at a
service that raises the alarm when it is not asked.
"""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from lamplighter.errors import MalformedError, SecretError, SiteError, StoreError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.clocks import span
from lamplighter.secrets import Resolve, resolve
from lamplighter.site import Site
from lamplighter.site.notify import load_notify
from lamplighter.store import LIVE, Store, whoami

KEY = f"{LIVE}heartbeat"
PING_SECONDS = 10.0
OK, REDIRECT = 200, 300
WATCH = "escalate"
"""The runbook that watches."""
_LIMIT = 4096


def beat(store: Store, now: float) -> None:
    """Say that the watch is alive.

    Raises:
        StoreError: it could not be written.
    """
    old = store.get(KEY, limit=_LIMIT)
    store.swap(KEY, old, canonical({"by": whoami(), "time": int(now)}))


def silence(store: Store, now: float, limit: int) -> str:
    """A warning when nobody watches; empty when the heartbeat is young enough. Never raises.

    Args:
        store: the site's.
        now: seconds since the epoch.
        limit: seconds.
    """
    advice = "Escalations and notices may not go out: look at the flow `escalate` and at its worker"
    try:
        data = store.get(KEY, limit=_LIMIT)
        if data is None:
            return f"nobody watches this site: `escalate` never ran. {advice}"
        age = now - int(parse(data, limit=_LIMIT)["time"])
    except (StoreError, MalformedError, KeyError, TypeError, ValueError) as error:
        return f"the watch's heartbeat cannot be read: {error}. {advice}"
    return f"nobody has watched this site for {span(age)}. {advice}" if age > limit else ""


def warning(site: Site, store: Store, now: float) -> str:
    """`silence` at a site that has the watch on a schedule; empty at one that does not. Never raises."""
    watches = [one for one in site.deployments if one.runbook == WATCH]
    if not any(schedule.active for one in watches for schedule in one.schedules):
        return ""
    try:
        limit = load_notify(site.path, site.people).silence
    except SiteError as error:
        return f"nobody can be told anything: {error}"
    return silence(store, now, limit)


def ping(reference: str, *, ok: bool, resolver: Resolve = resolve) -> str:
    """Tell the service outside that a round ended.

    Args:
        reference: to its URL, as healthchecks-style services give one; `/fail` is added when not `ok`.
        ok: whether the round did what it should.

    Returns:
        What went wrong, without the URL; empty when nothing did.
    """
    try:
        url = resolver(reference).reveal()
        status = _get(url if ok else f"{url.rstrip('/')}/fail")
    except SecretError as error:
        return f"the ping was not sent: {error}"
    except (OSError, HTTPException, ValueError) as error:
        return f"the ping was not taken: {type(error).__name__}"
    return "" if OK <= status < REDIRECT else f"the ping was answered with {status}"


def _get(url: str) -> int:
    """The status that a URL answers with; redirects are not followed."""
    parts = urlsplit(url)
    kind = {"https": HTTPSConnection, "http": HTTPConnection}.get(parts.scheme)
    if kind is None or not parts.hostname:
        raise ValueError("not a web address")
    connection = kind(parts.hostname, parts.port, timeout=PING_SECONDS)
    try:
        connection.request("GET", f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}")
        return int(connection.getresponse().status)
    finally:
        connection.close()
