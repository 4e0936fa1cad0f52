"""How long a worker works, when it takes itself out of service, and when it replaces a warm child."""

from __future__ import annotations

from pydantic import model_validator

from hpo_steer.config.section import Count, Positive, Section


class WorkerLife(Section):
    """When a worker ends by itself, and when it takes no more points.

    Attributes:
        max_points: it ends after so many points.
        idle_exit_s: it ends after so long without a point; those that steering starts itself stay.
        max_time_s: its wall time, as of a batch job: it takes no point that would not end before, and ends then. The
            end of a Slurm job is found without it.
        quarantine_after: so many failures in a row (``error`` or ``timeout``), and no success between, in one slot or
            in all of them together, and no more points are taken there for a while; more, where many trainings fail
            and others do not.
        quarantine_s: how long that is at first; twice as long each further time, at most 1 h.
        grace_s: what it takes at most to save and to leave when it has to go.
    """

    max_points: Count | None = None
    idle_exit_s: Positive | None = None
    max_time_s: Positive | None = None
    quarantine_after: Count = 5
    quarantine_s: Positive = 60.0
    grace_s: Positive = 25.0

    @model_validator(mode="after")
    def _in_time(self) -> WorkerLife:
        if self.max_time_s is not None and self.max_time_s <= self.grace_s:
            raise ValueError(f"max_time_s ({self.max_time_s:g}) must be more than grace_s ({self.grace_s:g})")
        return self


class Reuse(Section):
    """When a child process that takes many points is replaced by a new one.

    Attributes:
        points: after so many points; None: never for their number.
        memory_mib: once it and what it has started hold more than this after a point; None: never for its memory.
    """

    points: Count | None = None
    memory_mib: Count | None = None
