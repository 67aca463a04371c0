"""The running kernel, those installed, and whether a host asks for a reboot. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.linux import Part, whole

MOST_KERNELS, LONGEST_LINE = 200, 1024
"""Kernels and pins that are looked at, and characters of a line: `/boot` never holds more."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The running kernel, and those installed under `/boot` (none in a container).

    Attributes:
        pinned: the installed kernel the boot loader is told to boot, whatever is newer; empty for none.
        pin: the file that says so.
    """

    running: str
    installed: tuple[str, ...] = ()
    pinned: str = ""
    pin: str = ""

    @property
    def newer(self) -> str:
        """The kernel a reboot would bring, when that is not the running one.

        It is the newest installed one of the running one's flavour, or the pinned one.
        """
        if self.running not in self.installed:
            return ""  # a container, or a kernel from outside the package system: nothing to compare
        alike = [name for name in self.installed if _flavour(name) == _flavour(self.running)]
        newest = self.pinned or max(alike, key=_natural)
        return "" if newest == self.running else newest


def kernels(text: str) -> Kernels:
    """Read `uname -r`, then one installed version a line, then `pinned FILE VALUE` of boot loaders.

    Returns:
        `Kernels("6.1.0-18-amd64", ("6.1.0-18-amd64", "6.1.0-21-amd64"))`
    """
    lines = [line for line in (raw.strip() for raw in text.splitlines()) if 0 < len(line) <= LONGEST_LINE]
    running, *names = [line for line in lines if not line.startswith("pinned ")] or [""]
    installed = list(dict.fromkeys(names))[:MOST_KERNELS]
    for line in [line for line in lines if line.startswith("pinned ")][:MOST_KERNELS]:
        _, file, value = [*line.split(maxsplit=2), "", ""][:3]
        named = max((name for name in installed if _names(value, name)), key=len, default="")
        if named:
            return Kernels(running, tuple(installed), named, file)
    return Kernels(running, tuple(installed))


def _names(value: str, kernel: str) -> bool:
    """Whether a boot entry is that kernel's: its release stands in it, and is not a part of a longer one."""
    return bool(re.search(rf"(?<![\w.]){re.escape(kernel)}(?![\w.+~]*\d)", value))


def _flavour(release: str) -> str:
    return re.sub(r"^[0-9][0-9.+~]*(-[0-9]+(\.[0-9]+)*)*(\+?(bpo|deb)[0-9+.]*)?", "", release)


def _natural(text: str) -> list[tuple[int, str]]:
    return [(whole(word, -1), word) for word in re.findall(r"[0-9]+|[^0-9]+", text)]


def asks_for_reboot(part: Part, kernel: Kernels) -> tuple[str, ...] | None:
    """Who asks for a reboot: package names (perhaps none are named), a newer kernel; None: nobody."""
    named = tuple(sorted(set(part.text.split()))) if part.code == 0 else ()
    newer = (f"the newer kernel {kernel.newer}",) if kernel.newer else ()
    return named + newer if part.code == 0 or newer else None
