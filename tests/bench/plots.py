"""Horizontal bars, readable at 900 pixels: what a bench found, as a picture beside its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

OURS, OTHERS, TEXT = "#b45309", "#94a3b8", "#1f2937"
_WIDTH, _DPI = 9.0, 100
_STYLE = {
    "font.size": 12, "svg.hashsalt": "lamplighter", "text.color": TEXT, "axes.labelcolor": TEXT,
    "xtick.color": TEXT, "ytick.color": TEXT,
}


@dataclass(frozen=True)
class Panel:
    """Bars that belong together.

    Attributes:
        title: what they have in common.
        bars: label to value, from the top.
        goal: a line that the bars should end before.
    """

    title: str
    bars: dict[str, float]
    goal: float | None = None

    @property
    def longest(self) -> float:
        """What its scale must hold."""
        return max(*self.bars.values(), self.goal or 0)


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        name: of its file, without the ending.
        title: says what was found.
        axis: what is measured, and its unit.
        panels: from the top, on one scale.
        ours: labels that are drawn in colour.
        own_scales: give each panel its own scale, when their values differ too much.
    """

    name: str
    title: str
    axis: str
    panels: Sequence[Panel]
    ours: str = "Lamplighter"
    own_scales: bool = False

    def draw(self, folder: Path, kind: str = "svg") -> Path:
        """Write it. Returns: the file."""
        count = sum(len(panel.bars) + 1.2 for panel in self.panels)
        heights = [len(panel.bars) + 0.6 for panel in self.panels]
        with mpl.rc_context(_STYLE):
            figure, axes = plt.subplots(
                len(self.panels), 1, sharex=not self.own_scales, squeeze=False, layout="constrained",
                figsize=(_WIDTH, 1.3 + 0.36 * count), dpi=_DPI, gridspec_kw={"height_ratios": heights},
            )
            figure.suptitle(self.title, fontsize=14, fontweight="bold", x=0.01, ha="left")
            most = max(panel.longest for panel in self.panels)
            for axis, panel in zip(axes[:, 0], self.panels, strict=True):
                self._panel(axis, panel, panel.longest if self.own_scales else most)
            axes[-1, 0].set_xlabel(self.axis)
            path = folder / f"{self.name}.{kind}"
            figure.savefig(path, facecolor="white", metadata={"Date": None} if kind == "svg" else None)
            plt.close(figure)
        return path

    def _panel(self, axis: Axes, panel: Panel, most: float) -> None:
        labels = list(panel.bars)
        colours = [OURS if label.startswith(self.ours) else OTHERS for label in labels]
        drawn = axis.barh(labels, list(panel.bars.values()), color=colours, height=0.68)
        axis.bar_label(drawn, [figure(value) for value in panel.bars.values()], padding=4, color=TEXT)
        axis.invert_yaxis()
        axis.set_title(panel.title, loc="left", fontsize=12)
        axis.set_xlim(0, most * 1.14)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="x", color="#e5e7eb")
        axis.set_axisbelow(True)
        if panel.goal is not None:
            axis.axvline(panel.goal, color="#15803d", linestyle="--", linewidth=1.5)
            axis.annotate("goal", (panel.goal, 1), (4, -2), xycoords=("data", "axes fraction"), va="top",
                          textcoords="offset points", color="#15803d", fontsize=11)


def figure(value: float) -> str:
    """Two or three digits that mean something."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
