"""TensorBoard: a folder of event files for each point, and one for the experiment's best."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.api_pb2 import Status
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.summary import hparams, scalar, text

from steering.loggers.base import Better, RunCard, RunLogger, ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steering.store.base import PointRecord, ReportRecord

_MARK = ".hpo-steer-run"
_EVENTS = "events.out.tfevents.*"


class EventFile:
    """The only event file of a folder; those that are there are removed.

    It is written without the queue and the threads of tensorboardX's own writers: what was flushed is there.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob(_EVENTS):
            file.unlink()
        self._writer = EventsWriter(str(folder / "events"))
        self.flush, self.close = self._writer.flush, self._writer.close

    def add(self, summary: Any, step: int, at: float | None) -> None:
        """Writes a summary at a step and a time."""
        self._writer.write_event(
            Event(wall_time=time.time() if at is None else at, step=step, summary=summary)
        )


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
        self._files: dict[int, EventFile] = {}
        self._best: EventFile | None = None

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
        self._best = EventFile(self._root / "experiment")

    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        """Writes what is new of a point."""
        file = self._files.get(point.id)
        if file is None:
            file = self._files[point.id] = EventFile(self._folder(point))
            self._describe(file, point)
        for report in reports:
            for name, value in report.metrics.items():
                file.add(scalar(name, value), report.step, report.at)
        if ended(point):
            self._finish(file, point)
            file.close()
            del self._files[point.id]
        else:
            file.flush()

    def _folder(self, point: PointRecord) -> Path:
        number = f"point-{point.id:05d}"
        several = len(self._card.constants) > 1
        return self._root / quote(point.model, safe=" ") / number if several else self._root / number

    def _describe(self, file: EventFile, point: PointRecord) -> None:
        shown = {
            name: value if isinstance(value, (bool, int, float, str)) else str(value)
            for name, value in self._card.params(point).items()
            if value is not None
        }
        results = [f"result/{name}" for name in self._card.objectives]
        experiment, start, _ = hparams(shown, dict.fromkeys(results, 0.0))
        for summary in (experiment, start):
            file.add(summary, 0, point.started_at)

    def _finish(self, file: EventFile, point: PointRecord) -> None:
        at = point.ended_at
        for name, value in (point.metrics or point.values or {}).items():
            file.add(scalar(f"result/{name}", value), 0, at)
        if point.failure is not None:
            file.add(text("failure", f"{point.failure.kind}: {point.failure.message}"), 0, at)
        file.add(_end(done=point.state == "done"), 0, at)

    def better(self, better: Better) -> None:
        """The best so far over the number of points."""
        assert self._best is not None  # noqa: S101 - begin has made it
        for name, value in better.figures.items():
            self._best.add(scalar(self._card.title(better.point.model, name), value), better.place, better.at)
        self._best.flush()

    def end(self, ended: str | None) -> None:
        """Event files know no end; those of points that have not ended are written anew in the next session."""

    def close(self) -> None:
        """Closes all files."""
        for file in (*self._files.values(), self._best):
            if file is not None:
                file.close()


def _end(*, done: bool) -> Any:
    """What the tab HParams takes for a training's end."""
    status = Status.Value("STATUS_SUCCESS" if done else "STATUS_FAILURE")
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status), version=0)
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
    value = Summary.Value(tag="_hparams_/session_end_info", metadata=SummaryMetadata(plugin_data=plugin))
    return Summary(value=[value])
