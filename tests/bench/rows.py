"""A measured figure and its goal."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure. Params: name; value; unit; goal, if there is one; higher, whether more is better."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    higher: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal is met; a figure without one always is."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.higher else self.value <= self.goal

    def to_json(self) -> dict[str, Any]:
        """As it stands in docs/benchmarks."""
        return {
            "name": self.name,
            "value": round(self.value, 4),
            "unit": self.unit,
            "goal": self.goal,
            "met": self.met,
        }

    def __str__(self) -> str:
        sign = "at least" if self.higher else "at most"
        goal = f"  (goal: {sign} {self.goal:g})" if self.goal is not None else ""
        return f"{'  ' if self.met else '! '}{self.name:<36} {self.value:10.3f} {self.unit}{goal}"
