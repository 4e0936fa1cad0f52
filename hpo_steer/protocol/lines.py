"""The JSON lines between us and processes that stay up: algorithms, and services that evaluate.

`hpo_steer.jsonlines` and the runners of workers read and write them; here is their form, for the schemas.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from hpo_steer.algorithm import FailureKind
from hpo_steer.limits import MAX_ID

PointId: TypeAlias = Annotated[int, Field(ge=0, le=MAX_ID)]
Params: TypeAlias = dict[str, Any]
Numbers: TypeAlias = dict[str, FiniteFloat]


def either(one: str, other: str) -> dict[str, Any]:
    """That exactly one of two keys holds an object."""
    return {"oneOf": [{"required": [key], "properties": {key: {"type": "object"}}} for key in (one, other)]}


def without_default(schema: dict[str, Any]) -> None:
    """For a field that may be left out, where its absence is no value."""
    del schema["default"]


class Shape(BaseModel):
    """A JSON object whose unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Direction(Shape):
    """What is wanted of an objective."""

    direction: Literal["minimize", "maximize"] = "minimize"
    target: FiniteFloat | None = None
    reference: FiniteFloat | None = None


class FailureLine(Shape):
    """Why a point has no values."""

    kind: FailureKind
    message: str = ""


class ObservationLine(Shape):
    """What came of a point: values, or a failure."""

    model_config = ConfigDict(json_schema_extra=either("values", "failure"))

    id: PointId
    params: Params | None = None
    values: Numbers | None = None
    sem: Numbers | None = None
    failure: FailureLine | None = None
    curve: list[tuple[int, Numbers]] | None = None


class PointLine(Shape):
    """A proposed point; ids count the points of one model from 0. It begins with its parent's last checkpoint."""

    id: PointId
    params: Params
    parent: PointId | None = None


class AskedStep(Shape):
    """A step of a history: what an ask returned, or points that came from elsewhere."""

    asked: Annotated[int, Field(ge=0)]
    points: list[PointLine]
    given: bool = False


class ToldStep(Shape):
    """A step of a history: observations that were told."""

    told: list[ObservationLine]


# --- steering to an algorithm's process ---


class Open(Shape):
    """Creates the algorithm of a model; answered by `opened`. Services of users get `options` and no `algorithm`."""

    op: Literal["open"]
    v: Literal[1]
    model: str
    algorithm: dict[str, Any] | None = None
    options: dict[str, Any] = {}
    max_points: Annotated[int, Field(ge=1)] | None = None
    segment: Annotated[int, Field(ge=0)] = 0
    search_space: dict[str, Any]
    constraints: list[str]
    objectives: dict[str, Literal["minimize", "maximize"] | Direction]
    seed: Annotated[int, Field(ge=0)]
    folder: str = "."
    duplicates: Literal["reuse", "forbid", "replicate"] = "reuse"
    outcome_constraints: list[str] = []


class Restore(Shape):
    """Takes an algorithm through a history, or through what comes next of it; not answered."""

    op: Literal["restore"]
    model: str
    history: list[AskedStep | ToldStep]


class Tell(Shape):
    """Gives an algorithm observations; not answered."""

    op: Literal["tell"]
    model: str
    observations: list[ObservationLine]


class Ask(Shape):
    """Asks for up to `n` points; answered by `points`. `pending` are those that were not told yet."""

    op: Literal["ask"]
    model: str
    n: Annotated[int, Field(ge=1)]
    id: str
    pending: list[PointLine] = []


# --- an algorithm's process to steering ---


class Opened(Shape):
    """The algorithm of a model has been created."""

    op: Literal["opened"]
    model: str


class ProposedPoint(Shape):
    """A point in an answer; `python -m hpo_steer.host` numbers them, a service of the user's need not.

    One that continues an earlier point names it as its parent.
    """

    id: PointId = Field(default=0, json_schema_extra=without_default)
    params: Params
    parent: PointId | None = None


class Points(Shape):
    """The answer to an ask; `ended` says why there are no more, or is null."""

    op: Literal["points"]
    model: str
    id: Any = None
    points: list[ProposedPoint]
    ended: str | None
    note: str | None = None


class Error(Shape):
    """A request could not be met; `user` says whether the user can mend it, `key` by which key of the config."""

    op: Literal["error"]
    model: Any = None
    id: Any = None
    message: str
    user: bool
    key: str | None = None


# --- a worker and a service that evaluates ---


class PointOfService(Shape):
    """Which attempt at which point it is, and the point whose last checkpoint it begins with, if any."""

    id: PointId
    attempt: Annotated[int, Field(ge=1)]
    model: str
    iteration: PointId
    parent: PointId | None = None


class ServiceRequest(Shape):
    """A worker asks for one evaluation; `dir` is a folder of the attempt's own."""

    key: str
    point: PointOfService
    dir: str
    params: Params


class ServiceFailure(Shape):
    """Why there are no metrics."""

    kind: Literal["error", "invalid", "pruned"]
    message: str = ""


class ServiceAnswer(Shape):
    """What came of one evaluation; `key` is the request's."""

    model_config = ConfigDict(json_schema_extra=either("metrics", "failure"))

    key: str
    metrics: Numbers | None = None
    failure: ServiceFailure | None = None


class ReportLine(Shape):
    """A line of `reports.jsonl` in the folder of an attempt: intermediate metrics of a training."""

    step: int
    metrics: Numbers
    left_out: list[str] = []
