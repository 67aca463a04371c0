"""What a site's lines and groups say of an account, put into its facts."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

from lamplighter.errors import MalformedError
from lamplighter.model.directory import Directory
from lamplighter.model.dn import parse_dn
from tasks.accounts import AccountFacts, Guard
from tasks.groups import Kind, Who, judge
from tasks.lines import Names, read_lines


def judged(
    facts: AccountFacts, guard: Guard, who: Who, session: Directory, kind: Kind, names: Names
) -> AccountFacts:
    """The facts with what the server answers to the site's lines.

    A line of the deny list that names nobody is told; whom it could have been meant for, by the name in it,
    is refused. A delegated unit that is not there lets nobody in, which is told as well.

    Args:
        facts: of the account, without it.
        guard: the site's lines.
        who: the account, as groups are asked for it.
        session: the directory's.
        kind: how its groups are read.
        names: how it names accounts.

    Raises:
        UnreachableError, SessionLostError: the directory does not answer.
    """
    units = read_lines(guard.delegated, facts.pin, names, session)
    denied = read_lines(guard.denied, facts.pin, names, session)
    protected = judge(guard.protected, who, session, kind, guard.delegated)
    vip = judge(guard.vip, who, session, kind, guard.delegated)
    meant = [line for line in denied.empty if _may_mean(line, facts)]
    return replace(
        facts, delegated=bool(units.hits), denied=denied.hits,
        protected=(*facts.protected, *protected.inside), vip=vip.inside,
        unjudged=(*facts.unjudged, *protected.doubts, *vip.doubts),
        mistakes=tuple(f"{nobody('denied', line)}, and may have been meant for this one" for line in meant),
        notes=(
            *facts.notes, *(nobody("denied", line) for line in denied.empty if line not in meant),
            *(nobody("delegated", line) for line in units.empty),
        ),
    )


def nobody(where: str, line: str) -> str:
    """That a line of the settings names nobody."""
    return f"`{line}` in `{where}` of directory.yaml names nobody that is there: correct it, or delete it"


def _may_mean(line: str, facts: AccountFacts) -> bool:
    """Whether a line that names nobody has the account's name: it was moved, or the line is misspelt."""
    if "=" not in line[:-2]:
        return _folded(line.rpartition("\\")[2].partition("@")[0]) in _own_names(facts)
    try:
        return any(value in _own_names(facts) for _, value in parse_dn(line).rdns[0])
    except (MalformedError, IndexError):
        return True


def _own_names(facts: AccountFacts) -> set[str]:
    own = {value for _, value in parse_dn(facts.dn).rdns[0]}
    written = (facts.login, facts.name, *facts.logins, *facts.mails)
    return own | {_folded(one.partition("@")[0]) for one in written if one}


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())
