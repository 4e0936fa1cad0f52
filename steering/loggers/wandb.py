"""Weights & Biases: a run for each point once it has ended, in one group, and a run for the experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wandb

from steering.loggers.base import Better, RunCard, RunLogger, ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steering.store.base import PointRecord, ReportRecord


class WandbLogger(RunLogger):
    """Writes runs, one after the other.

    Each has an id made from the run and the point, so that one that an earlier session had begun is carried on. A step
    that several attempts have reported has the last one's values.

    Args:
        card: the run.
        options: ``project``, ``entity`` and ``mode``.
    """

    def __init__(self, card: RunCard, options: Mapping[str, Any]) -> None:
        self._card = card
        self._entity, self._mode = options.get("entity"), options.get("mode")
        self._project = options.get("project") or card.name
        self._curves: dict[int, dict[int, dict[str, float]]] = {}
        self._better: list[Better] = []
        self._run: Any = None

    @property
    def target(self) -> str:
        """The project."""
        return f"{self._entity or ''}/{self._project} {self._mode or ''}"

    def begin(self) -> None:
        """There is nothing to open before the first point has ended."""

    def _open(self, name: str, kind: str, config: Mapping[str, Any], tags: Sequence[str] = ()) -> Any:
        self._run = wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            id=f"{self._card.run[:16]}-{name}",
            name=f"{self._card.name}/{name}",
            group=f"{self._card.name}-{self._card.run[:8]}",
            job_type=kind,
            config=dict(config),
            tags=list(tags),
            dir=str(self._card.folder),
            resume="allow",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True
            ),
        )
        return self._run

    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        """Gathers a point's curve, and writes it down at its end."""
        curve = self._curves.setdefault(point.id, {})
        for report in reports:
            curve[report.step] = dict(report.metrics)
        if not ended(point):
            return
        name = f"point-{point.id}"
        run = self._open(
            name, "point", self._card.params(point), [] if point.failure is None else [point.failure.kind]
        )
        for step in sorted(curve):
            run.log(curve[step], step=step)
        result: dict[str, Any] = {
            f"result/{key}": value for key, value in (point.metrics or point.values or {}).items()
        }
        if point.failure is not None:
            result |= {"failure/kind": point.failure.kind, "failure/message": point.failure.message}
        run.summary.update({**result, "model": point.model, "iteration": point.iteration, "point": point.id})
        self._finish(exit_code=int(point.state == "failed"))
        del self._curves[point.id]

    def better(self, better: Better) -> None:
        """Kept for the experiment's run."""
        self._better.append(better)

    def end(self, ended: str | None) -> None:
        """The experiment's run: the best so far over the number of points."""
        if not self._better:
            return
        run = self._open("experiment", "experiment", self._card.config)
        for better in self._better:
            titles = {self._card.title(better.point.model, name): v for name, v in better.figures.items()}
            if len(self._card.constants) == 1:  # steps grow, and those that it has are passed over
                run.log(titles, step=better.place)
            run.summary.update(titles)
            run.summary.update({self._card.title(better.point.model, "best/point"): better.point.id})
        run.summary.update({"ended": ended or "can be resumed"})
        self._finish()

    def _finish(self, exit_code: int = 0) -> None:
        run, self._run = self._run, None
        run.finish(exit_code=exit_code)

    def close(self) -> None:
        """Ends a run that was left in the middle; it is carried on the next time."""
        if self._run is not None:
            self._finish(exit_code=1)
