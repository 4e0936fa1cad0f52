"""What a logger is: one small face in front of a tool that shows runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from steering.store.base import PointRecord, ReportRecord


@dataclass(frozen=True)
class RunCard:
    """What a logger knows of a run from the start.

    Attributes:
        name: of the experiment.
        run: id of this run of it.
        folder: of the run.
        created_at: seconds since the epoch.
        config: the config as data, secrets left out.
        objectives: their names.
        constants: of each model, by its name.
    """

    name: str
    run: str
    folder: Path
    created_at: float
    config: Mapping[str, Any]
    objectives: tuple[str, ...]
    constants: Mapping[str, Mapping[str, Any]]

    def params(self, point: PointRecord) -> dict[str, Any]:
        """Everything a point was trained with: its parameters and its model's constants."""
        return {**point.params, **self.constants.get(point.model, {})}

    def title(self, model: str, name: str) -> str:
        """A name with its model's before it, where there are several models."""
        return f"{model}/{name}" if len(self.constants) > 1 else name


@dataclass(frozen=True)
class Better:
    """A point that is better than all before it of its model (in several objectives: dominated by none).

    Attributes:
        point: which.
        figures: by name: ``best/OBJECTIVE``, or the size of the front.
        place: of its observation among those of its model, from 1.
        at: when it ended, seconds since the epoch.
    """

    point: PointRecord
    figures: Mapping[str, float]
    place: int
    at: float


class RunLogger(ABC):
    """Writes a run into a tool.

    It lives in a process of its own and is called by one thread. Where a call raises, whatever it is, everything is
    begun anew later, with a new logger, as it is when the run is resumed. So a logger has to find out what its tool
    has already, and must write nothing twice.

    The calls are ``begin``, then ``point`` and ``better`` in the order of what happened, then ``end``; last of all, and
    also where one has raised, ``close``.
    """

    @property
    @abstractmethod
    def target(self) -> str:
        """Where it writes to; with another target all points are written again. No passwords."""

    @abstractmethod
    def begin(self) -> None:
        """Opens the tool and finds what it has of this run."""

    @abstractmethod
    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        """A point runs or has ended.

        Args:
            point: as the store has it. Once it has ended it does not come again in this session, unless somebody
                gave it a fresh start.
            reports: at a point's first call all that there are, later the new ones; in the order of their coming.
        """

    @abstractmethod
    def better(self, better: Better) -> None:
        """There is a new best point; in each session all of them from the run's beginning on."""

    @abstractmethod
    def end(self, ended: str | None) -> None:
        """The session is over.

        Args:
            ended: why the search has ended; None: it can be resumed.
        """

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Lets go of what it holds open; not called where the process was killed."""


def ended(point: PointRecord) -> bool:
    """Whether a point will not be evaluated any more."""
    return point.state in ("done", "failed")
