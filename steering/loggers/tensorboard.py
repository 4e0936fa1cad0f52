"""TensorBoard: a folder of event files for each point, and one for the experiment's best."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tensorboardX import SummaryWriter
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.summary import hparams

from steering.loggers.base import Better, RunCard, RunLogger, ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steering.store.base import PointRecord, ReportRecord

_MARK = ".hpo-steer-run"
_EVENTS = "events.out.tfevents.*"


class TensorBoardLogger(RunLogger):
    """Writes event files.

    A point's curves are scalars by its reports' names and steps, its result scalars below ``result/``, its parameters
    what the tab HParams shows. What an earlier session began is written anew from the store, so that nothing is there
    twice.

    Args:
        card: the run.
        options: ``folder``.
    """

    def __init__(self, card: RunCard, options: Mapping[str, Any]) -> None:
        self._card = card
        folder = options.get("folder")
        self._root = card.folder / "tensorboard" if folder is None else Path(folder).absolute() / card.name
        self._writers: dict[int, SummaryWriter] = {}
        self._best: SummaryWriter | None = None

    @property
    def target(self) -> str:
        """The folder."""
        return str(self._root)

    def begin(self) -> None:
        """Makes the folder; one that another run of this name has left is moved aside."""
        mark = self._root / _MARK
        if mark.exists() and mark.read_text(encoding="utf-8") != self._card.run:
            stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime())
            self._root.rename(self._root.with_name(f"{self._root.name}.old-{stamp}"))
        self._root.mkdir(parents=True, exist_ok=True)
        mark.write_text(self._card.run, encoding="utf-8")
        self._best = _fresh(self._root / "experiment")

    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        """Writes what is new of a point."""
        writer = self._writers.get(point.id)
        if writer is None:
            writer = self._writers[point.id] = _fresh(self._folder(point))
            self._describe(writer, point)
        for report in reports:
            for name, value in report.metrics.items():
                writer.add_scalar(name, value, report.step, walltime=report.at)
        if ended(point):
            self._finish(writer, point)
            writer.close()
            del self._writers[point.id]
        else:
            writer.flush()

    def _folder(self, point: PointRecord) -> Path:
        number = f"point-{point.id:05d}"
        several = len(self._card.constants) > 1
        return self._root / quote(point.model, safe=" ") / number if several else self._root / number

    def _describe(self, writer: SummaryWriter, point: PointRecord) -> None:
        shown = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in self._card.params(point).items()
            if value is not None
        }
        results = [f"result/{name}" for name in self._card.objectives]
        experiment, start, _ = hparams(shown, dict.fromkeys(results, 0.0))
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(start)

    def _finish(self, writer: SummaryWriter, point: PointRecord) -> None:
        at = point.ended_at
        for name, value in (point.metrics or point.values or {}).items():
            writer.add_scalar(f"result/{name}", value, 0, walltime=at)
        if point.failure is not None:
            writer.add_text("failure", f"{point.failure.kind}: {point.failure.message}", 0, walltime=at)
        status = Status.Value("STATUS_SUCCESS" if point.state == "done" else "STATUS_FAILURE")
        data = HParamsPluginData(session_end_info=SessionEndInfo(status=status), version=0)
        plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
        value = Summary.Value(tag="_hparams_/session_end_info", metadata=SummaryMetadata(plugin_data=plugin))
        writer.file_writer.add_summary(Summary(value=[value]))

    def better(self, better: Better) -> None:
        """The best so far over the number of points."""
        assert self._best is not None  # noqa: S101 - begin has made it
        for name, value in better.figures.items():
            title = self._card.title(better.point.model, name)
            self._best.add_scalar(title, value, better.place, walltime=better.at)
        self._best.flush()

    def end(self, ended: str | None) -> None:  # noqa: ARG002 - event files know no end
        """Closes all files; those of points that have not ended are written anew in the next session."""
        for writer in (*self._writers.values(), self._best):
            if writer is not None:
                writer.close()


def _fresh(folder: Path) -> SummaryWriter:
    """A writer into a folder without event files."""
    for file in folder.glob(_EVENTS):
        file.unlink()
    return SummaryWriter(str(folder))
