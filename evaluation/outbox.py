"""What a worker says to steering, and which of its results are not safe yet."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from hpo_steer import faults
from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import MAX_GPUS, MAX_REASON
from hpo_steer.messages import (
    BundleWanted,
    Bye,
    Event,
    FailureInfo,
    GpuInfo,
    Health,
    Heartbeat,
    Hello,
    Report,
    Result,
    Started,
    Work,
    describe,
)
from hpo_steer.transport import ANY_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from evaluation.attempt import ReportLine
    from evaluation.notes import Note
    from evaluation.settings import WorkerSettings
    from evaluation.spool import Spool
    from hpo_steer.machine import GpuUse, Machine
    from hpo_steer.transport.base import Delivery, WorkerEnd

_BROUGHT_S = 10.0
"""Not for ever: should that value get lost on its way, the point is evaluated anew."""

Key: TypeAlias = tuple[str, int, int]
"""Run, point and attempt."""


def key_of(message: Work | Result) -> Key:
    """Which attempt a message is about."""
    return message.run, message.point, message.attempt


@dataclass(eq=False)
class SentResult:
    """A result on its way: the token of its `Result`.

    Attributes:
        key: the attempt.
        delivery: its work, if the broker still holds that.
        spooled: its file in the spool, if not.
        valued: whether it brings a value.
    """

    key: Key
    delivery: Delivery[Work] | None = None
    spooled: Path | None = None
    valued: bool = False


class Outbox:
    """A worker's events.

    A result whose work is settled goes to the spool before it is published; where the broker still holds the
    work, that is settled once the result is confirmed, and no disk is needed.

    Args:
        transport: where they go.
        spool: keeps results until they are confirmed.
        settings: who the worker is.
        say: told what people should know.

    Attributes:
        run: the run of the latest work; `ANY_RUN` before any has come.
    """

    def __init__(
        self, transport: WorkerEnd, spool: Spool, settings: WorkerSettings, say: Callable[[str], None]
    ) -> None:
        self._transport, self._spool, self._settings, self._say = transport, spool, settings, say
        self.run = settings.run or ANY_RUN
        self._sent: dict[Key, SentResult] = {}
        self._brought: dict[tuple[str, int], float] = {}

    def __len__(self) -> int:
        """Results that are not confirmed."""
        return len(self._sent)

    @property
    def spooled(self) -> int:
        """Results on disk that are not confirmed."""
        return len(self._spool)

    def hello(self, running: Sequence[tuple[int, int]]) -> None:
        """Says who we are."""
        slots, about = self._settings.slots, self._about()
        if (machine := self._settings.machine) is not None:
            about |= told_of(machine)
        self._publish(Hello(**about, host=self._settings.host, slots=slots, running=list(running)))

    def started(self, work: Work, slot: int, token: object) -> None:
        """Takes the lease of an attempt."""
        event = Started(**self._about(work.run), point=work.point, attempt=work.attempt, slot=slot)
        self._transport.publish(event, token)

    def heartbeats(
        self,
        running: Mapping[str, Sequence[tuple[int, int]]],
        gpus: Sequence[GpuUse] = (),
        health: Health | None = None,
    ) -> None:
        """Renews the leases; without any, gives a sign of life.

        Args:
            running: (point, attempt) pairs by run.
            gpus: how busy its GPUs are.
            health: how the worker is.
        """
        told: dict[str, Any] = {"slots": self._settings.slots, "spooled": len(self._spool), "health": health}
        if gpus:
            told["gpus"] = [GpuInfo(**asdict(gpu)) for gpu in gpus[:MAX_GPUS]]
        for run, listed in (running or {self.run: ()}).items():
            self._publish(Heartbeat(**self._about(run), running=list(listed), **told))

    def report(self, work: Work, line: ReportLine) -> None:
        """Passes on an intermediate metric."""
        about = {**self._about(work.run), "point": work.point, "attempt": work.attempt}
        with contextlib.suppress(ValueError):  # beyond the limits of messages; nothing that must arrive
            left_out = list(line.left_out) or None
            self._publish(Report(**about, step=line.step, metrics=line.metrics, left_out=left_out))

    def result(self, work: Work, delivery: Delivery[Work] | None, **content: Any) -> None:
        """Sends how an attempt ended.

        Args:
            work: the point.
            delivery: its work, if it is still in hand.
            content: the other fields of `Result`.
        """
        result = self._made(work, content)
        sent = SentResult(key_of(result), delivery, valued=result.metrics is not None)
        if delivery is None:
            try:
                sent.spooled = self._spool.keep(result)
            except OSError as exc:
                self._say(f"warning: point {work.point}: its result cannot be written to the spool: {exc}")
            faults.reached("worker.spooled")
        self._send(result, sent)
        faults.reached("worker.sent")

    def hold(self, work: Work, **content: Any) -> None:
        """Puts on the disk how an attempt has ended; `result` sends it later, or this worker's successor does.

        Args:
            work: the point.
            content: the other fields of `Result`.
        """
        with contextlib.suppress(OSError):  # it is said when it is sent
            self._spool.keep(self._made(work, content))

    def _made(self, work: Work, content: Mapping[str, Any]) -> Result:
        about = {**self._about(work.run), "point": work.point, "attempt": work.attempt}
        try:
            return Result(**about, **content)
        except ValidationError as exc:
            failure = FailureInfo(kind="error", message=f"its result cannot be sent: {describe(exc)}")
            return Result(**about, **{**content, "metrics": None, "failure": failure, "log": ""})

    def want_bundle(self, run: str, bundle: str, parts: list[tuple[int, int]], problem: str) -> None:
        """Says that a code bundle is lacking.

        Args:
            run: the run of the point that needs it.
            bundle: its SHA-256.
            parts: the ranges to ask steering for.
            problem: why it could not be had so far.
        """
        about = self._about(run)
        self._publish(BundleWanted(**about, bundle=bundle, parts=parts, problem=problem[:MAX_REASON]))

    def collect(self, on: bool) -> None:
        """Has parts of code bundles come, or no more."""
        self._transport.collect(on)

    def training(self, note: Note) -> None:
        """Leaves a note of an attempt under way, for the case that this worker dies."""
        self._spool.note(note)

    def trained(self, work: Work) -> None:
        """An attempt is over, and its result is on its way."""
        self._spool.erase(*key_of(work))

    def bye(self, reason: str) -> None:
        """Gives up every lease."""
        self._publish(Bye(**self._about(), reason=reason))

    def adopt(self) -> None:
        """Sends what dead workers have left in the spool."""
        for path, result in self._spool.adopt():
            if result.metrics is not None:
                self._brought[result.run, result.point] = time.monotonic()
            self._send(result, SentResult(key_of(result), spooled=path))

    def has_brought(self, work: Work) -> bool:
        """Whether a value of the point was found in the spool just now: it needs no training any more."""
        return time.monotonic() - self._brought.get((work.run, work.point), -_BROUGHT_S) < _BROUGHT_S

    def confirmed(self, sent: SentResult) -> Delivery[Work] | None:
        """A result is safe.

        Returns:
            Its work, which can be settled now.
        """
        if self._sent.get(sent.key) is sent:
            del self._sent[sent.key]
        faults.reached("worker.confirmed")
        if sent.spooled is not None:
            self._spool.forget(sent.spooled)
            faults.reached("worker.forgotten")
        return sent.delivery

    def knows(self, delivery: Delivery[Work]) -> SentResult | None:
        """The result of work that comes once more, if that is on its way."""
        return self._sent.get(key_of(delivery.message))

    def lose_deliveries(self) -> None:
        """The connection is gone, and with it the right to settle."""
        for sent in self._sent.values():
            sent.delivery = None

    def deliveries(self) -> Iterator[Delivery[Work]]:
        """Work that waits for its result's confirmation."""
        return (sent.delivery for sent in self._sent.values() if sent.delivery is not None)

    def close(self) -> None:
        """Leaves the spool to the next worker, and says so if there is something in it."""
        if left := len(self._spool):
            results = "result stays" if left == 1 else "results stay"
            self._say(f"{left} {results} in {self._spool.folder}; the next worker here sends them")
        self._spool.close()

    def _send(self, result: Result, sent: SentResult) -> None:
        self._sent[sent.key] = sent
        try:
            self._transport.publish(result, sent)
        except MalformedMessage as exc:
            failure = FailureInfo(kind="error", message=f"its result cannot be sent: {exc}")
            changes = {"metrics": None, "failure": failure, "log": ""}
            self._transport.publish(result.model_copy(update=changes), sent)

    def _publish(self, event: Event) -> None:
        with contextlib.suppress(MalformedMessage):  # too long a list of what runs; nothing that must arrive
            self._transport.publish(event)

    def _about(self, run: str | None = None) -> dict[str, Any]:
        return {
            "experiment": self._settings.experiment,
            "run": run or self.run,
            "worker": self._settings.id,
            "at": time.time(),
        }


def told_of(machine: Machine) -> dict[str, Any]:
    """What a `Hello` says of a machine."""
    gpus = [
        GpuInfo(uuid=gpu.uuid, name=gpu.name, memory_mib=gpu.memory_mib) for gpu in machine.gpus[:MAX_GPUS]
    ]
    return {"gpus": gpus, "cores": len(machine.cores), "memory_mib": machine.memory_mib}
