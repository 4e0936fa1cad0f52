"""Takes algorithms through a recorded run and compares what they propose with what is recorded."""

from __future__ import annotations

import select
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.algorithm import Point, Told
from hpo_steer.errors import AlgorithmError
from hpo_steer.parameters import canonical
from hpo_steer.registry import entry, is_outside
from steering.book import steps
from steering.curves import pruned_curves
from steering.hosts import (
    AlgorithmHost,
    HostFailure,
    InProcessHost,
    Opening,
    ProcessHost,
    Proposal,
    wait_opened,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steering.run_view import RunView
    from steering.store.base import IterationRecord


class Hosts:
    """One host for the cheap algorithms, one process for the heavy ones and those of users.

    Args:
        log: file for what the process prints.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._cheap = InProcessHost()
        self._processes: dict[bool, ProcessHost] = {}

    def open(self, made_from: Opening) -> AlgorithmHost:
        """Creates an algorithm in the host that it belongs in.

        Raises:
            UserError: it can't be created from its config.
            AlgorithmError: its process failed.
        """
        name = made_from.spec.get("name")
        host: AlgorithmHost = self._cheap
        if name is None or entry(str(name)).heavy:
            outside = is_outside(made_from.spec)
            if outside not in self._processes:
                self._processes[outside] = ProcessHost(self._log, outside=outside)
            host = self._processes[outside]
        host.open(made_from)
        wait_opened(host, {made_from.model})
        return host

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes.values():
            process.close()


def replay_run(view: RunView, model: str | None = None) -> dict[str, Any]:
    """Goes through all iterations (of a model), until one differs.

    Returns:
        ``iterations`` and ``points`` reproduced, whether all were (``reproduced``), and
        the ``first_difference``.

    Raises:
        UserError: there is no such model, or its algorithm can't be created.
        AlgorithmError: it failed.
    """
    names = [m.name for m in view.models] if model is None else [view.check_model(model)]
    folder = view.config_path.resolve().parent if view.config_path is not None else Path.cwd()
    answer: dict[str, Any] = {"iterations": 0, "points": 0, "reproduced": True, "first_difference": None}
    with tempfile.TemporaryDirectory(prefix="hpo-steer-") as scratch:
        hosts = Hosts(Path(scratch) / "algorithm.log")
        try:
            for number, configured in enumerate(view.experiment.models):
                if configured.name in names and not _replay_model(
                    view, Opening.of(view.experiment, configured, number, folder), hosts, answer
                ):
                    break
        finally:
            hosts.close()
    return answer


def _replay_model(view: RunView, made_from: Opening, hosts: Hosts, answer: dict[str, Any]) -> bool:
    name = made_from.model
    host = hosts.open(made_from)
    points = view.by_model[name]
    for step, iteration in steps(view.store.iterations(name), points, pruned_curves(view.store, points)):
        if isinstance(step, Told):
            host.tell(name, step.observations)
        elif step.given:
            host.restore(name, [step])
        else:
            host.ask(name, step.n)
            if (found := _difference(view, iteration, step.points, _answer(host))) is not None:
                answer |= {"reproduced": False, "first_difference": found}
                return False
            answer["iterations"] += 1
            answer["points"] += len(step.points)
    return True


def _answer(host: AlgorithmHost) -> Sequence[Point]:
    """Waits for the answer to an ask.

    Raises:
        HpoSteerError: what went wrong in the host.
    """
    while True:
        for reply in host.replies():
            if isinstance(reply, HostFailure):
                raise reply.error
            if isinstance(reply, Proposal):
                return reply.points
        fd = host.fileno()
        if fd is None:
            raise AlgorithmError("the algorithm gave no answer")
        select.select([fd], [], [], 60.0)


def _difference(
    view: RunView, iteration: IterationRecord, recorded: Sequence[Point], proposed: Sequence[Point]
) -> dict[str, Any] | None:
    ids = {p.number: p.id for p in view.by_model[iteration.model]}
    for i in range(max(len(recorded), len(proposed))):
        ours = recorded[i] if i < len(recorded) else None
        theirs = proposed[i] if i < len(proposed) else None
        same = ours is not None and theirs is not None and ours.id == theirs.id
        if (
            same
            and ours is not None
            and theirs is not None
            and canonical(ours.params) == canonical(theirs.params)
            and ours.parent == theirs.parent
        ):
            continue
        return {
            "model": iteration.model,
            "iteration": iteration.number,
            "id": ids.get(ours.id) if ours is not None else None,
            "recorded": dict(ours.params) if ours is not None else None,
            "proposed": dict(theirs.params) if theirs is not None else None,
        }
    return None
