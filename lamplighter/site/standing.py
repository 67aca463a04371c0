"""Reads `standing/*.line` in a site's folder: standing approvals, and revokes of them, a signed line a file.

They are data of the site, kept and reviewed with it: who may run what without asking stands in the history
of the folder. Whether a line counts is the gate's to judge, every time: a line whose signer has left does
not keep the site from being loaded, it just opens nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lamplighter.errors import MalformedError
from lamplighter.model.approval import Decision, Statement, read_statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import read_line
from lamplighter.model.standing import Standing, read_standing
from lamplighter.site.yaml import Source, read_text

FOLDER, PATTERN = "standing", "*.line"


@dataclass(frozen=True, slots=True)
class StandingLine:
    """One file, as it says of itself; nothing of it is verified yet.

    Attributes:
        file: its name.
        line: as signed.
        digest: of the statement; what a revoke names.
        said: a standing approval, or the revoke of one.
    """

    file: str
    line: str
    digest: str
    said: Standing | Statement


def standing_files(folder: Path) -> list[Path]:
    """The files, sorted by name.

    Args:
        folder: the site's.
    """
    return sorted((folder / FOLDER).glob(PATTERN))


def read_standing_lines(folder: Path, source: Source, site: str) -> Iterator[StandingLine]:
    """Read them all; what is no such line, or for another site, is a mistake.

    Args:
        folder: the site's.
        source: takes the mistakes; its file is replaced by each file in turn.
        site: the site's name; empty when it is not known.
    """
    for path in standing_files(folder):
        place = Source(str(path), source.report)
        text = read_text(path, place)
        if text is None:
            continue
        try:
            read = _read(path.name, text.strip())
        except MalformedError as error:
            place.mistake(1, error.message, "write it with `lamplighter standing`, or delete the file")
            continue
        if isinstance(read.said, Standing) and site and read.said.site != site:
            place.mistake(1, f"the standing approval is for the site `{read.said.site}`", "delete the file")
            continue
        yield read


def of_runbook(lines: tuple[StandingLine, ...], runbook: str) -> tuple[StandingLine, ...]:
    """The standing approvals of one runbook, and the revokes of them."""
    named = {one.digest for one in lines if isinstance(one.said, Standing) and one.said.runbook == runbook}
    return tuple(
        one for one in lines
        if one.digest in named or (isinstance(one.said, Statement) and one.said.plan in named)
    )


def _read(file: str, line: str) -> StandingLine:
    statement = read_line(line).statement
    try:
        said: Standing | Statement = read_standing(statement)
    except MalformedError as error:
        try:
            said = read_statement(statement)
        except MalformedError:
            raise error from None
        if said.decision is Decision.APPROVE:
            raise MalformedError("an approval of one plan is no standing approval") from error
    return StandingLine(file, line, sha256(statement), said)
