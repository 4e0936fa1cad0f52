"""A wall clock for programs under test whose hands can be turned; the machine's own stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SITE = """
import time

_true = time.time

def _turned():
    with open({file!r}) as file:
        return _true() + float(file.read())

time.time = _turned
time.time_ns = lambda: int(_turned() * 1e9)
"""

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S


class WallClock:
    """The wall clock of the programs that were started with its environment; their other clocks are true.

    Python imports ``sitecustomize`` before anything of the program's, so all of the program reads this clock.

    Args:
        folder: where it keeps its state; a new one.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._file = folder, folder / "offset"
        self.turn(0.0)
        (folder / "sitecustomize.py").write_text(_SITE.format(file=str(self._file)))

    @property
    def environment(self) -> dict[str, str]:
        """For the programs."""
        return {"PYTHONPATH": str(self._folder)}

    def turn(self, offset_s: float) -> None:
        """Sets it so far ahead of the true time; back, if negative."""
        new = self._folder / "offset.new"
        new.write_text(f"{offset_s}\n")
        new.replace(self._file)
