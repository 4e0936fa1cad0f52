"""The section of a config that says how a worker's life ends."""

from __future__ import annotations

from hpo_steer.config.section import Positive, Section


class WorkerLife(Section):
    """When a worker ends, and how.

    Attributes:
        grace_s: what it takes at most to have its trainings saved and to leave, once it gets SIGTERM.
    """

    grace_s: Positive = 25.0
