"""A transport and a clock that a test turns by hand, and workers that are a list."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpo_steer.algorithm import FailureKind
from hpo_steer.config import Experiment, validate
from hpo_steer.messages import (
    Control,
    Echo,
    Event,
    FailureInfo,
    Health,
    Heartbeat,
    Report,
    Result,
    Started,
    Work,
)
from hpo_steer.transport.base import (
    Connected,
    Delivery,
    Disconnected,
    SteeringEnd,
    SteeringIncoming,
    TransportStatus,
)
from steering.hosts import AlgorithmHost, InProcessHost, Opening, wait_opened
from steering.loop import SteeringLoop
from steering.store.base import ModelRecord, RunRecord, Store

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN = "run-1"


class HandClock:
    """Time that passes only when told; `wrong` is how far the wall clock is off."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wrong = 0.0

    def time(self) -> float:
        return 1.7e9 + self.now + self.wrong

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class HandTransport(SteeringEnd):
    """Work goes into a list, events come out of another; unsettled ones come again to the next steering."""

    def __init__(self) -> None:
        self.work: list[Work] = []
        self.events: list[Event] = []
        self.controls: list[Control] = []
        self.rejected: list[tuple[Event, str]] = []
        self.held_up = False
        """Events wait in front of the queue."""
        self.seen: list[Event] = []
        self._in_hand: dict[int, Event] = {}
        self._tag = 0
        self.news: list[SteeringIncoming] = []
        self._pipe = os.pipe()
        os.write(self._pipe[1], b".")

    def open(self) -> None:
        self.events = [*self._in_hand.values(), *self.events]
        self._in_hand.clear()

    def publish(self, work: Sequence[Work], bundle: int = 1) -> None:
        self.work.extend(work)

    def receive(self, limit: int = 1000) -> list[SteeringIncoming]:
        found, self.news = self.news, []
        limit = 0 if self.held_up else limit
        self.seen += self.events[:limit]
        for event in self.events[:limit]:
            self._tag += 1
            self._in_hand[self._tag] = event
            found.append(Delivery(event, self._tag))
        del self.events[:limit]
        return found

    def settle(self, deliveries: Sequence[Delivery[Event]]) -> None:
        for delivery in deliveries:
            assert isinstance(delivery.tag, int)
            del self._in_hand[delivery.tag]

    def reject(self, delivery: Delivery[Event], reason: str) -> None:
        self.settle([delivery])
        self.rejected.append((delivery.message, reason))

    def control(self, message: Control) -> None:
        self.controls.append(message)

    def echo(self, message: Echo) -> None:
        self.events.append(message)

    def discard_work(self) -> None:
        self.work.clear()

    def waiting(self) -> int | None:
        return len(self.work)

    def drained(self) -> bool:
        return not self.events

    def status(self) -> TransportStatus:
        return TransportStatus(connected=True)

    def fileno(self) -> int:
        return self._pipe[0]

    def close(self) -> None:
        for fd in self._pipe:
            os.close(fd)
        self._pipe = (-1, -1)


@dataclass
class Bench:
    """An experiment on a store, with everything else in the test's hands."""

    experiment: Experiment
    store: Store
    clock: HandClock = field(default_factory=HandClock)
    transport: HandTransport = field(default_factory=HandTransport)
    notices: list[tuple[str, str]] = field(default_factory=list)

    def create(self) -> None:
        """Writes the run down, as a session does before its first loop."""
        models = [ModelRecord(m.name, i) for i, m in enumerate(self.experiment.models)]
        self.store.create(RunRecord(self.experiment.name, RUN, {}, self.clock.time()), models)

    def loop(self, host: AlgorithmHost | None = None, *, workers_gone: bool = False) -> SteeringLoop:
        """A steering process's life begins: loaded from the store, ready to step."""
        self.transport.open()
        host = host or InProcessHost()
        openings = []
        for number, model in enumerate(self.experiment.models):
            space = self.experiment.space(model)
            opening = Opening(
                model.name,
                self.experiment.algorithm_of(model),
                space,
                self.experiment.goals,
                number,
                self.experiment.constraints,
                Path(),
                self.experiment.steering.duplicates,
                self.experiment.outcome_constraints,
            )
            host.open(opening)
            openings.append((model, opening, host))
        wait_opened(host, {m.name for m in self.experiment.models})
        loop = SteeringLoop(
            self.experiment,
            RUN,
            self.store,
            self.transport,
            openings,
            self.clock,
            lambda kind, text: self.notices.append((kind, text)),
        )
        try:
            loop.load(workers_gone=workers_gone)
        except BaseException:
            loop.close()
            raise
        return loop

    def take(self) -> Work:
        """A worker takes the oldest message."""
        return self.transport.work.pop(0)

    def start(self, work: Work, worker: str = "host-1-a") -> None:
        """It says that it has begun."""
        self.transport.events.append(Started(**self._stamp(work, worker)))

    def finish(
        self,
        work: Work,
        loss: float | None = None,
        *,
        kind: FailureKind | Literal["released"] | None = None,
        worker: str = "host-1-a",
        log: str = "",
        message: str = "x",
        gpus: list[str] | None = None,
        **others: float,
    ) -> None:
        """It reports a loss (and other metrics), or a failure of a kind."""
        outcome: dict[str, Any] = (
            {"metrics": {"loss": loss, **others}}
            if kind is None
            else {"failure": FailureInfo(kind=kind, message=message)}
        )
        about = self._stamp(work, worker)
        self.transport.events.append(
            Result(**about, started_at=0.0, duration_s=1.0, log=log, gpus=gpus, **outcome)
        )

    def report(self, work: Work, step: int, worker: str = "host-1-a", **metrics: float) -> None:
        """It reports intermediate metrics."""
        self.transport.events.append(Report(**self._stamp(work, worker), step=step, metrics=metrics))

    def beat(self, *running: Work, worker: str = "host-1-a", health: Health | None = None) -> None:
        """It sends a sign of life."""
        self.transport.events.append(
            Heartbeat(
                experiment=self.experiment.name,
                run=RUN,
                worker=worker,
                at=0.0,
                running=[(w.point, w.attempt) for w in running],
                health=health,
            )
        )

    def _stamp(self, work: Work, worker: str) -> dict[str, Any]:
        return {
            "experiment": work.experiment,
            "run": work.run,
            "worker": worker,
            "at": 0.0,
            "point": work.point,
            "attempt": work.attempt,
        }

    def cut(self) -> None:
        """The broker's connection goes away."""
        self.transport.news.append(Disconnected("cut"))

    def mend(self) -> None:
        """It comes back."""
        self.transport.news.append(Connected())


def experiment(**changes: Any) -> Experiment:
    """A small experiment on one parameter; keys of sections may be given as ``steering={…}``."""
    data: dict[str, Any] = {
        "name": "sim",
        "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objectives": {"loss": "minimize"},
        "algorithm": "random",
        "steering": {"points_per_iteration": 4, "trigger": {"fraction": 0.5}, "max_points": 12},
        "evaluation": {"function": "train.py:train", "workers": 0},
    }
    return validate(data | changes)
