"""What a worker is training, noted on disk for the worker that comes after it, should it die.

A note is a file ``RUN-POINT-ATTEMPT.running`` beside the worker's spooled results. Whoever takes over the folder of
a dead worker sends a `lost` result for each, with the last lines of the log, in the dead worker's name. So steering
need not wait for the lease to expire, and a point that kills its workers is set aside with its log.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.attempt import log_tail
from hpo_steer.limits import MAX_DURATION_S
from hpo_steer.messages import MAX_LOG_CHARS, FailureInfo, Result

SUFFIX = ".running"


@dataclass(frozen=True)
class Note:
    """An attempt under way.

    Attributes:
        experiment: name of the experiment.
        run: id of the run.
        point: id of the point.
        attempt: which try.
        worker: who trains it.
        slot: in which of its slots.
        started_at: seconds since the epoch.
        log: the file its output goes to.
        log_start: where in that its output begins, in bytes.
        gpus: those of the slot.
    """

    experiment: str
    run: str
    point: int
    attempt: int
    worker: str
    slot: int
    started_at: float
    log: str
    log_start: int
    gpus: list[str] | None = None

    def encoded(self) -> bytes:
        """As it lies on disk."""
        return json.dumps(asdict(self)).encode()

    def lost(self) -> Result:
        """The result of an attempt whose worker has died."""
        return Result(
            experiment=self.experiment,
            run=self.run,
            worker=self.worker,
            at=time.time(),
            point=self.point,
            attempt=self.attempt,
            slot=self.slot,
            failure=FailureInfo(kind="lost", message="its worker has died"),
            started_at=self.started_at,
            duration_s=min(max(time.time() - self.started_at, 0.0), MAX_DURATION_S),
            log=log_tail(Path(self.log), self.log_start)[-MAX_LOG_CHARS:],
            gpus=self.gpus,
        )


def read_note(file: Path) -> Note:
    """Reads a note.

    Raises:
        ValueError: it is none, or half a one.
        OSError: it cannot be read.
    """
    try:
        return Note(**json.loads(file.read_bytes()))
    except TypeError as exc:
        raise ValueError("it is no note of a training") from exc
