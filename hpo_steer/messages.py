"""The messages between steering and workers. JSON, UTF-8, at most `MAX_BYTES` each.

Steering sends `Work` to a queue that all workers of an experiment share, and `Control` to every worker.
Workers send `Event` messages to a queue that steering reads. A message carries parameters, never code or
commands: what a worker runs is what its own config says. Unknown keys are ignored, so that a newer sender of
the same protocol version can be understood; a message of another version is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

from hpo_steer.algorithm import FailureKind
from hpo_steer.errors import MalformedMessage

MAX_BYTES = 1_048_576
MAX_LOG_CHARS = 16_384
"""How much of the end of a log travels with a result."""

Id = Annotated[int, Field(ge=0, le=2**53)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Message(BaseModel):
    """What every message has.

    Attributes:
        v: protocol version.
        experiment: name of the experiment.
        run: id of the run; messages of an earlier run of the same name are foreign.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    v: Literal[1] = 1
    experiment: Name
    run: Name

    def encoded(self) -> bytes:
        """The message as it travels."""
        return self.model_dump_json(exclude_none=True).encode()


class Work(Message):
    """One attempt at a point, for whichever worker takes it.

    Attributes:
        point: id of the point in the experiment.
        attempt: counts the tries of workers at it from 1.
        model: which model it belongs to.
        iteration: the iteration that proposed it, from 1.
        params: what the training gets: the point's parameters and the model's constants.
        timeout_s: when the attempt counts as failed; None: never.
    """

    type: Literal["work"] = "work"
    point: Id
    attempt: Annotated[int, Field(ge=1, le=100_000)]
    model: Name
    iteration: Id
    params: dict[str, Any]
    timeout_s: Annotated[float, Field(gt=0)] | None = None


class Stop(Message):
    """Ends a running attempt; the worker answers with a result whose failure has this kind.

    Attributes:
        worker: the only worker that is meant, where two have the same attempt; None: whoever runs it.
    """

    type: Literal["stop"] = "stop"
    point: Id
    attempt: int
    worker: Name | None = None
    kind: FailureKind = "cancelled"
    reason: str = ""


class Cancel(Message):
    """Points that need no evaluation any more: a worker that is handed one drops it, a running one goes on."""

    type: Literal["cancel"] = "cancel"
    points: list[Id]


class WorkerEvent(Message):
    """What every message of a worker has.

    Attributes:
        worker: id of the worker, unique for the life of its process: ``host-pid-random``.
        at: seconds since the epoch by the worker's clock.
    """

    worker: Name
    at: float


class Hello(WorkerEvent):
    """A worker has connected (again).

    Attributes:
        host: its machine.
        slots: how many points it evaluates at once.
        running: (point, attempt) pairs it is training.
    """

    type: Literal["hello"] = "hello"
    host: str
    slots: Annotated[int, Field(ge=1)]
    running: list[tuple[Id, int]] = []


class Started(WorkerEvent):
    """A worker begins an attempt and takes the lease for it."""

    type: Literal["started"] = "started"
    point: Id
    attempt: int
    slot: int = 0


class Heartbeat(WorkerEvent):
    """Renews the leases of the attempts a worker is training.

    Attributes:
        running: (point, attempt) pairs.
        slots: how many slots it has.
        spooled: results on its disk that no broker has confirmed yet.
    """

    type: Literal["heartbeat"] = "heartbeat"
    running: list[tuple[Id, int]]
    slots: int = 1
    spooled: int = 0


class Report(WorkerEvent):
    """An intermediate metric of a running attempt."""

    type: Literal["report"] = "report"
    point: Id
    attempt: int
    step: int
    metrics: dict[str, FiniteFloat]


class FailureInfo(BaseModel):
    """A failure as it travels."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: FailureKind
    message: Annotated[str, Field(max_length=4 * MAX_LOG_CHARS)] = ""


class Result(WorkerEvent):
    """How an attempt ended: with metrics, or with a failure.

    Attributes:
        slot: which of the worker's slots it ran in.
        started_at: seconds since the epoch by the worker's clock.
        duration_s: how long it ran.
        log: the last lines of its log.
    """

    type: Literal["result"] = "result"
    point: Id
    attempt: int
    slot: int = 0
    metrics: dict[str, FiniteFloat] | None = None
    failure: FailureInfo | None = None
    started_at: float
    duration_s: Annotated[float, Field(ge=0)]
    log: Annotated[str, Field(max_length=2 * MAX_LOG_CHARS)] = ""

    @model_validator(mode="after")
    def _one_outcome(self) -> Result:
        if (self.metrics is None) == (self.failure is None):
            raise ValueError("a result has either metrics or a failure")
        return self


class Bye(WorkerEvent):
    """A worker ends on its own accord; attempts it still ran are given up."""

    type: Literal["bye"] = "bye"
    reason: str = ""


Event: TypeAlias = Hello | Started | Heartbeat | Report | Result | Bye
Control: TypeAlias = Stop | Cancel

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_CONTROL: TypeAdapter[Control] = TypeAdapter(Annotated[Control, Field(discriminator="type")])
_WORK: TypeAdapter[Work] = TypeAdapter(Work)


def _decode(adapter: TypeAdapter[Any], body: bytes) -> Any:
    if len(body) > MAX_BYTES:
        raise MalformedMessage(f"message of {len(body):,} bytes; {MAX_BYTES:,} are allowed")
    try:
        return adapter.validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedMessage(f"{place or 'message'}: {first['msg']}") from exc
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(str(exc)) from exc


def decode_event(body: bytes) -> Event:
    """Reads a worker's message.

    Raises:
        MalformedMessage: with the reason, for the dead letters.
    """
    return _decode(_EVENT, body)  # type: ignore[no-any-return]


def decode_control(body: bytes) -> Control:
    """Reads a control message of steering; raises as `decode_event`."""
    return _decode(_CONTROL, body)  # type: ignore[no-any-return]


def decode_work(body: bytes) -> Work:
    """Reads a work message; raises as `decode_event`."""
    return _decode(_WORK, body)  # type: ignore[no-any-return]
