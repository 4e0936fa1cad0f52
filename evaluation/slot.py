"""A point in one of a worker's slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.notes import Note
from evaluation.runners.base import Outcome

if TYPE_CHECKING:
    from evaluation.attempt import AttemptFolder
    from evaluation.runners.base import Handle
    from hpo_steer.messages import FailureInfo, Work
    from hpo_steer.transport.base import Delivery


@dataclass(eq=False)
class SlotAttempt:
    """A point in a slot. It is also the token of its `Started`.

    Attributes:
        work: the point.
        slot: where it runs.
        gpus: those of the slot.
        folder: its folder.
        delivery: the work in hand, while it is unsettled.
        leased: `Started` was sent.
        confirmed: and confirmed.
        handle: its training; None before that begins.
        fds: what the loop waits for.
        began: when its training began (monotonic).
        started_at: the same by the clock on the wall.
        asked: the failure it ends with if it heeds steering's stop.
        kill_by: when it is ended if it does not (monotonic).
        ending: the failure it ends with, as it is being ended.
        fetching: its checkpoint is on its way, and its training begins with that.
        saving: its training is over, with this outcome, and its checkpoint is being saved.
        held_until: its training got a SIGTERM, and the worker may get one until then (monotonic).
        duration_s: how long its training took, once it is over.
    """

    work: Work
    slot: int
    folder: AttemptFolder
    delivery: Delivery[Work] | None
    gpus: list[str] | None = None
    leased: bool = False
    confirmed: bool = False
    handle: Handle | None = None
    fds: tuple[int, ...] = ()
    began: float = 0.0
    started_at: float = 0.0
    asked: FailureInfo | None = None
    kill_by: float | None = None
    ending: FailureInfo | None = None
    fetching: bool = False
    saving: Outcome | None = None
    held_until: float | None = None
    duration_s: float = 0.0

    def judge(self, outcome: Outcome) -> Outcome:
        """The outcome of one that was stopped: its values count only if it had finished before it noticed."""
        if self.ending is not None:
            return Outcome(failure=self.ending)
        if self.asked is not None and outcome.failure is not None:
            return Outcome(failure=self.asked)
        return outcome

    def note(self, worker: str, handle: Handle) -> Note:
        """What is left on disk for the case that the worker dies.

        Args:
            worker: its id.
            handle: the training.
        """
        log, start = handle.log
        return Note(
            experiment=self.work.experiment,
            run=self.work.run,
            point=self.work.point,
            attempt=self.work.attempt,
            worker=worker,
            slot=self.slot,
            started_at=self.started_at,
            log=str(log),
            log_start=start,
            gpus=self.gpus,
        )
