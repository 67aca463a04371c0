"""A site of simulated hosts on a command line, for everybody who tries what its answers say."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamplighter.cli import main
from lamplighter.engine.gatekeeper import dropped_lines
from lamplighter.ledger import Ledger
from lamplighter.model.plan import Plan
from tests.enginekit import PRIYA, ROOT, Lab, labs
from tests.sshkit import Pair

DEMO = ROOT / "inventories" / "demo"


@dataclass
class Answer:
    """What a command said. Attributes: code, out, err."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return " ".join((self.out + self.err).split())


class Place:
    """A lab's site, on a command line."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
        self.lab, self.capsys, self.sites = lab, capsys, lab.path.parent
        self.stranger = Pair().write(lab.folder / "stranger")
        self.keys = {person: pair.write(lab.folder / person) for person, pair in lab.keys.items()}

    def say(self, *words: str | Path) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = self.capsys.readouterr()
        return Answer(int(ended.value.code or 0), printed.out, printed.err)

    def waiting(self, run: str = "bump-1", requester: str = PRIYA) -> Plan:
        """A run at its gate."""
        with self.lab.run(run, requester=requester) as one:
            plan = one.make_plan(one.survey())
            one.check_gate()
            one.ask()
        return plan

    def begun(self, run: str, flow_run: str) -> None:
        """A run that has just been opened, by that flow run."""
        with Ledger.open(self.lab.store, run, "demo") as ledger:
            ledger.append(
                "opened", site="demo", runbook="bump-version", owner="msp", requester=PRIYA, known="claimed",
                selection="all", change_ref="", options={"target": 2}, flow_run=flow_run,
            )

    def other_site(self, name: str, edit: Callable[[str], str] = str) -> Path:
        """A second customer beside the first."""
        other = Path(shutil.copytree(self.lab.path, self.sites / name))
        text = (other / "site.yaml").read_text().replace("name: demo", f"name: {name}", 1)
        text = text.replace(f"{self.lab.folder}/store", f"{self.lab.folder}/store-{name}")
        (other / "site.yaml").write_text(edit(text))
        return other

    def real_matrix(self) -> None:
        """Only runbooks that there are: commands that know them look closer."""
        shutil.copyfile(DEMO / "responsibilities.yaml", self.lab.path / "responsibilities.yaml")

    def lines(self, plan: Plan) -> tuple[str, ...]:
        return dropped_lines(self.lab.store, plan.digest)


def places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    """For a fixture."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LAMPLIGHTER_HOME", str(ROOT))
    for make in labs(tmp_path):
        lab = make(["a", "b"])
        sites = tmp_path / "sites"
        sites.mkdir()
        lab.path = Path(shutil.move(lab.path, sites / "demo"))
        monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(sites))
        yield Place(lab, capsys)
