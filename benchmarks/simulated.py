"""A steering loop on a bench whose clock is turned by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steering.hosts import Opening, wait_opened
from steering.loop import SteeringLoop
from tests.unit.steering.simulation import RUN

if TYPE_CHECKING:
    from steering.hosts import AlgorithmHost
    from tests.unit.steering.simulation import Bench


def started_loop(bench: Bench, host: AlgorithmHost) -> SteeringLoop:
    """The loop of an experiment of one model, with the experiment's seed and its algorithm in `host`."""
    model = bench.experiment.models[0]
    opening = Opening.of(bench.experiment, model, 0, Path())
    host.open(opening)
    wait_opened(host, {model.name})
    openings = [(model, opening, host)]
    loop = SteeringLoop(
        bench.experiment, RUN, bench.store, bench.transport, openings, bench.clock, lambda *_: None
    )
    loop.load(workers_gone=False)
    return loop
