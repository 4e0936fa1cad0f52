"""The messages between steering and workers. JSON, UTF-8, at most `MAX_BYTES` each.

Steering sends `Work` to a queue that all workers of an experiment share, and `Control` to every worker.
Workers send `Event` messages to a queue that steering reads, and steering itself sends an `Echo` there. A message
carries parameters, never a command: what a worker runs is what its own config or command line says. Where that
says so, it is the code that steering ships: `Work` names its hash, and the worker asks for it. Unknown keys are
ignored, so that a newer sender of the same protocol version can be understood; a message of another version is
refused, and so is one beyond the limits of `hpo_steer.limits`.
"""

from __future__ import annotations

import base64
import binascii
from math import isfinite
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from hpo_steer.algorithm import FailureKind
from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import (
    MAX_ATTEMPT,
    MAX_BUNDLE,
    MAX_CANCELLED,
    MAX_DURATION_S,
    MAX_FAILURE,
    MAX_GPUS,
    MAX_GPUS_OF_A_SLOT,
    MAX_ID,
    MAX_LEFT_OUT,
    MAX_LOG,
    MAX_METRICS,
    MAX_NAME,
    MAX_PARAM_DEPTH,
    MAX_PARAM_INT,
    MAX_PARAM_NAME,
    MAX_PARAM_VALUES,
    MAX_PART,
    MAX_PARTS,
    MAX_RANGES,
    MAX_REASON,
    MAX_SLOTS,
    MAX_SPOOLED,
    MAX_STEP,
    MAX_TIME,
    MAX_URL,
    has_controls,
    tidy,
)
from hpo_steer.limits import MAX_BYTES as MAX_BYTES  # noqa: PLC0414 - programs take it from here
from hpo_steer.limits import MAX_LOG_CHARS as MAX_LOG_CHARS  # noqa: PLC0414 - likewise

_NO_CONTROLS = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_SHA256 = r"^[0-9a-f]{64}$"
_BASE64_LENGTH = 4 * -(-MAX_PART // 3)
_CONTAINERS = (dict, list, tuple)
_SHOWN = 40
"""Characters of a key that a reason repeats."""

T = TypeVar("T", bound="Message")


def _one(version: Any) -> Any:
    if type(version) is not int or version != 1:
        shown = version if type(version) is int and abs(version) < MAX_ID else "something else"
        raise ValueError(f"protocol version {shown}, this is version 1")
    return version


def _without_nul(text: str) -> str:
    """No database holds a NUL, and no result should be lost for one in its log."""
    return text.replace("\0", "\ufffd")


def _few(value: Any) -> Any:
    """Counts before anything is looked at, so that a message cannot have thousands of mistakes."""
    if isinstance(value, dict) and len(value) > MAX_METRICS:
        raise ValueError(f"{len(value):,} metrics; {MAX_METRICS:,} are allowed")
    return value


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64") from None
    return text


def check_params(params: dict[str, Any]) -> dict[str, Any]:
    """Checks parameters of any shape against the limits of `work`; without recursion.

    Returns:
        The parameters, as they are.

    Raises:
        ValueError: what is wrong with them.
    """
    level: list[Any] = [params]
    depth = values = 0
    while level:
        depth += 1
        if depth > MAX_PARAM_DEPTH:
            raise ValueError(f"more than {MAX_PARAM_DEPTH} levels deep")
        below: list[Any] = []
        for container in level:
            values += len(container)
            if values > MAX_PARAM_VALUES:
                raise ValueError(f"more than {MAX_PARAM_VALUES:,} values")
            if isinstance(container, dict):
                _check_keys(container)
                container = container.values()  # noqa: PLW2901 - a list has values only
            for value in container:
                if isinstance(value, float):
                    if not isfinite(value):
                        raise ValueError("a number is not finite")
                elif isinstance(value, int):
                    if not -MAX_PARAM_INT <= value <= MAX_PARAM_INT:
                        raise ValueError("a whole number is beyond 64 bits")
                elif isinstance(value, _CONTAINERS):
                    below.append(value)
        level = below
    return params


def _check_keys(container: dict[Any, Any]) -> None:
    for key in container:
        if (
            not isinstance(key, str)
            or not 0 < len(key) <= MAX_PARAM_NAME
            or (not key.isprintable() and has_controls(key))
        ):
            raise ValueError(f"a name is empty, longer than {MAX_PARAM_NAME:,} or holds control characters")


Version = Annotated[Literal[1], BeforeValidator(_one)]
Id = Annotated[int, Field(ge=0, le=MAX_ID)]
Attempt = Annotated[int, Field(ge=1, le=MAX_ATTEMPT)]
Slot = Annotated[int, Field(ge=0, lt=MAX_SLOTS)]
Slots = Annotated[int, Field(ge=1, le=MAX_SLOTS)]
Time = Annotated[float, Field(ge=0, le=MAX_TIME)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=_NO_CONTROLS)]
Reason = Annotated[str, Field(max_length=MAX_REASON), AfterValidator(_without_nul)]
Running = Annotated[list[tuple[Id, Attempt]], FailFast(), Field(max_length=MAX_SLOTS)]
Share = Annotated[float, Field(ge=0, le=1)]
Metrics = Annotated[dict[Name, FiniteFloat], Field(max_length=MAX_METRICS), BeforeValidator(_few)]
Sha256 = Annotated[str, Field(pattern=_SHA256)]
Mebibytes = Annotated[int, Field(ge=0, le=MAX_ID)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL, pattern=_NO_CONTROLS)]
Part = Annotated[int, Field(ge=0, lt=MAX_PARTS)]
Ranges = Annotated[list[tuple[Part, Part]], FailFast(), Field(max_length=MAX_RANGES)]
Params = Annotated[dict[str, Any], AfterValidator(check_params)]


class Message(BaseModel):
    """What every message has.

    Attributes:
        v: protocol version.
        experiment: name of the experiment.
        run: id of the run; messages of an earlier run of the same name are foreign.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    v: Version = 1
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
        parent: the point whose last checkpoint this one begins with; None: none.
        bundle: the SHA-256 of the code bundle that steering ships; None: it ships none.
        bundle_url: where the bundle lies, besides at steering.
    """

    type: Literal["work"] = "work"
    point: Id
    attempt: Attempt
    model: Name
    iteration: Id
    params: Params
    timeout_s: Annotated[float, Field(gt=0, le=MAX_DURATION_S)] | None = None
    parent: Id | None = None
    bundle: Sha256 | None = None
    bundle_url: Url | None = None


class Stop(Message):
    """Ends a running attempt; the worker answers with a result whose failure has this kind.

    Attributes:
        worker: the only worker that is meant, where two have the same attempt; None: whoever runs it.
    """

    type: Literal["stop"] = "stop"
    point: Id
    attempt: Attempt
    worker: Name | None = None
    kind: FailureKind = "cancelled"
    reason: Reason = ""


class Cancel(Message):
    """Points that need no evaluation any more: a worker that is handed one drops it, a running one goes on."""

    type: Literal["cancel"] = "cancel"
    points: Annotated[list[Id], FailFast(), Field(max_length=MAX_CANCELLED)]


class Pardon(Message):
    """Ends the quarantine of workers: what failed there is mended, or it is the training's fault and no machine's.

    Attributes:
        worker: the only worker that is meant; None: each.
        lasting: none begins anew there before a point has been evaluated.
    """

    type: Literal["pardon"] = "pardon"
    worker: Name | None = None
    lasting: bool = False


class BundlePart(Message):
    """A piece of a code bundle, for every worker that collects one.

    Attributes:
        bundle: the SHA-256 of the whole.
        number: which piece, from 0; all but the last have `MAX_PART` bytes.
        count: how many there are.
        size: bytes of the whole.
        data: the piece, in base64.
    """

    type: Literal["bundle_part"] = "bundle_part"
    bundle: Sha256
    number: Part
    count: Annotated[int, Field(ge=1, le=MAX_PARTS)]
    size: Annotated[int, Field(ge=1, le=MAX_PART * MAX_PARTS)]
    data: Annotated[str, Field(max_length=_BASE64_LENGTH), AfterValidator(_base64)]

    @model_validator(mode="after")
    def _in_place(self) -> BundlePart:
        if self.number >= self.count or self.count != -(-self.size // MAX_PART):
            raise ValueError("a part that is none of its bundle")
        if len(self.content) != min(MAX_PART, self.size - self.number * MAX_PART):
            raise ValueError("a part of the wrong length")
        return self

    @property
    def content(self) -> bytes:
        """The piece."""
        return base64.b64decode(self.data)


class BundleGone(Message):
    """Steering does not have a code bundle, and never will: work that names it is of no use any more."""

    type: Literal["bundle_gone"] = "bundle_gone"
    bundle: Sha256
    reason: Reason = ""


class WorkerEvent(Message):
    """What every message of a worker has.

    Attributes:
        worker: id of the worker, unique for the life of its process: ``host-pid-random``.
        at: seconds since the epoch by the worker's clock.
    """

    worker: Name
    at: Time


class GpuInfo(BaseModel):
    """A GPU of a worker's, or a slice of one.

    Attributes:
        uuid: which.
        name: the model's.
        memory_mib: its memory, in MiB.
        used_mib: how much of that is taken, by anybody.
        busy: share of the last moments in which it computed.
        celsius: its temperature.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    uuid: Name
    name: Name
    memory_mib: Mebibytes
    used_mib: Mebibytes | None = None
    busy: Annotated[float, Field(ge=0, le=1)] | None = None
    celsius: Annotated[int, Field(ge=-300, le=10_000)] | None = None


Gpus = Annotated[list[GpuInfo], Field(max_length=MAX_GPUS)]


class Hello(WorkerEvent):
    """A worker has connected (again).

    Attributes:
        host: its machine.
        slots: how many points it evaluates at once.
        running: (point, attempt) pairs it is training.
        gpus: the GPUs of its machine; None: it does not say.
        cores: how many cores it may use.
        memory_mib: how much memory, in MiB.
    """

    type: Literal["hello"] = "hello"
    host: Name
    slots: Slots
    running: Running = []
    gpus: Gpus | None = None
    cores: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    memory_mib: Mebibytes | None = None


class Started(WorkerEvent):
    """A worker begins an attempt and takes the lease for it."""

    type: Literal["started"] = "started"
    point: Id
    attempt: Attempt
    slot: Slot = 0


class Health(BaseModel):
    """How a worker and its machine are.

    Attributes:
        state: ``ok``; ``draining``: it takes no more points and ends; ``waiting``: it takes none and stays;
            ``quarantined``: too many failed there, so it takes none for a while. Others may come.
        reason: why it is not ``ok``, for people.
        cpu: share of the machine's cores that is busy, from 0 to 1.
        memory: share of the machine's memory that is in use.
        disk_free_mib: what is free where it keeps its checkpoints and logs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    state: Name = "ok"
    reason: Reason = ""
    cpu: Share | None = None
    memory: Share | None = None
    disk_free_mib: Mebibytes | None = None


class Heartbeat(WorkerEvent):
    """Renews the leases of the attempts a worker is training.

    Attributes:
        running: (point, attempt) pairs.
        slots: how many slots it has.
        spooled: results on its disk that no broker has confirmed yet.
        gpus: how busy its GPUs are; None: it does not say.
        health: how it is, where it says so.
    """

    type: Literal["heartbeat"] = "heartbeat"
    running: Running
    slots: Slots = 1
    spooled: Annotated[int, Field(ge=0, le=MAX_SPOOLED)] = 0
    gpus: Gpus | None = None
    health: Health | None = None


class Report(WorkerEvent):
    """An intermediate metric of a running attempt.

    Attributes:
        step: epoch or the like.
        metrics: finite numbers.
        left_out: the names of metrics that were no finite numbers.
    """

    type: Literal["report"] = "report"
    point: Id
    attempt: Attempt
    step: Annotated[int, Field(ge=-MAX_STEP, le=MAX_STEP)]
    metrics: Metrics
    left_out: Annotated[list[Name], Field(max_length=MAX_LEFT_OUT)] | None = None


class FailureInfo(BaseModel):
    """A failure as it travels.

    Attributes:
        kind: of failures; or ``released``: the worker had to leave, so that the point goes out again at once. No
            algorithm hears of that, and it counts against nothing.
        message: why, for people.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: FailureKind | Literal["released"]
    message: Annotated[str, Field(max_length=MAX_FAILURE), AfterValidator(_without_nul)] = ""


class Result(WorkerEvent):
    """How an attempt ended: with metrics, or with a failure.

    Attributes:
        slot: which of the worker's slots it ran in.
        started_at: seconds since the epoch by the worker's clock.
        duration_s: how long it ran.
        log: the last lines of its log.
        gpus: the GPUs, or slices, that its slot had; None: it had none of its own.
        load_s: how long of that its process took to load the user's function; None: that was not done for it alone.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["metrics"], "properties": {"metrics": {"type": "object"}}},
                {"required": ["failure"], "properties": {"failure": {"type": "object"}}},
            ]
        }
    )

    type: Literal["result"] = "result"
    point: Id
    attempt: Attempt
    slot: Slot = 0
    metrics: Metrics | None = None
    failure: FailureInfo | None = None
    started_at: Time
    duration_s: Annotated[float, Field(ge=0, le=MAX_DURATION_S)]
    log: Annotated[str, Field(max_length=MAX_LOG), AfterValidator(_without_nul)] = ""
    gpus: Annotated[list[Name], Field(max_length=MAX_GPUS_OF_A_SLOT)] | None = None
    load_s: Annotated[float, Field(ge=0, le=MAX_DURATION_S)] | None = None

    @model_validator(mode="after")
    def _one_outcome(self) -> Result:
        if (self.metrics is None) == (self.failure is None):
            raise ValueError("a result has either metrics or a failure")
        return self


class BundleWanted(WorkerEvent):
    """A worker lacks a code bundle.

    Attributes:
        bundle: its SHA-256.
        parts: what it asks for: (first, last) numbers of parts, both included; none: it does not ask steering.
        problem: why it could not get or use the bundle so far, for people.
    """

    type: Literal["bundle_wanted"] = "bundle_wanted"
    bundle: Sha256
    parts: Ranges = []
    problem: Reason = ""


class Bye(WorkerEvent):
    """A worker ends on its own accord; attempts it still ran are given up."""

    type: Literal["bye"] = "bye"
    reason: Reason = ""


class Echo(Message):
    """Steering's word to itself by way of the events queue: once it is back, all that was sent before it is read.

    Attributes:
        number: counts them in one session.
    """

    type: Literal["echo"] = "echo"
    number: Id


Event: TypeAlias = Hello | Started | Heartbeat | Report | Result | BundleWanted | Bye | Echo
Control: TypeAlias = Stop | Cancel | Pardon | BundlePart | BundleGone

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
_CONTROL: TypeAdapter[Control] = TypeAdapter(Annotated[Control, Field(discriminator="type")])
_WORK: TypeAdapter[Work] = TypeAdapter(Work)
_TOLD = frozenset({"v", "type"})


def describe(error: ValidationError) -> str:
    """The first mistake in one sentence, without what the message holds."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(_shown(part) for part in first["loc"]) or "message"
    match first["type"]:  # two of pydantic's sentences repeat what came, one is no sentence
        case "union_tag_invalid":
            return f"type: none of {first['ctx']['expected_tags']}"
        case "union_tag_not_found":
            return "type: Field required"
        case "string_pattern_mismatch" if first["ctx"]["pattern"] == _SHA256:
            return f"{place}: no SHA-256 in 64 hexadecimal digits"
        case "string_pattern_mismatch":
            return f"{place}: holds control characters"
        case _:
            return tidy(f"{place}: {first['msg'].removeprefix('Value error, ')}")


def _shown(part: str | int) -> str:
    text = str(part)
    return text if len(text) <= _SHOWN and text.isprintable() else "(a long or strange key)"


def _decode(adapter: TypeAdapter[T], body: bytes) -> T:
    if len(body) > MAX_BYTES:
        raise MalformedMessage(f"message of {len(body):,} bytes; {MAX_BYTES:,} are allowed")
    try:
        message = adapter.validate_json(body, strict=True)
    except ValidationError as exc:
        if (lines := body.count(b"\n")) >= MAX_BUNDLE:
            raise MalformedMessage(
                f"{describe(exc)} ({lines + 1:,} lines; {MAX_BUNDLE:,} are allowed in a bundle)"
            ) from None
        raise MalformedMessage(describe(exc)) from None
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(tidy(str(exc))) from None
    if missing := _TOLD - message.model_fields_set:
        raise MalformedMessage(f"{min(missing)}: Field required")
    return message


def decode_event(body: bytes) -> Event:
    """Reads a message of the events queue.

    Raises:
        MalformedMessage: with the reason, for the dead letters.
    """
    return _decode(_EVENT, body)


def decode_control(body: bytes) -> Control:
    """Reads a control message of steering; raises as `decode_event`."""
    return _decode(_CONTROL, body)


def decode_work(body: bytes) -> Work:
    """Reads a work message; raises as `decode_event`."""
    return _decode(_WORK, body)
