"""The files that commands read and write: those of PanDA's `phpo`, and the metrics of any command."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, FiniteFloat, RootModel

from hpo_steer.algorithm import FailureKind
from hpo_steer.protocol.lines import Params, Shape, without_default

Loss: TypeAlias = FiniteFloat | None
Segment: TypeAlias = Annotated[int, Field(ge=0)]
SegmentPoint: TypeAlias = tuple[Segment, Params]


class FailedPoint(Shape):
    """A point without a loss because it failed; `point` is its place in `points`, from 0."""

    point: Annotated[int, Field(ge=0)]
    kind: FailureKind
    message: str = ""


class SteeringIn(Shape):
    """What a steering command reads (%IN): all points so far, each with its loss or null, and the search space."""

    points: list[tuple[Params, Loss]]
    opt_space: Any
    failed: tuple[FailedPoint, ...] = ()


class SteeringOut(RootModel[list[Params]]):
    """What a steering command writes (%OUT): new points; none means that the search is over."""


class SegmentSpace(Shape):
    """The search space of one segment."""

    model_id: Segment
    search_space: Any


class SteeringInSegmented(Shape):
    """What a steering command of segments reads (%IN): points are pairs of a segment's id and parameters."""

    points: list[tuple[SegmentPoint, Loss]]
    opt_space: list[SegmentSpace]
    failed: tuple[FailedPoint, ...] = ()


class SteeringOutSegmented(RootModel[list[SegmentPoint]]):
    """What a steering command of segments writes (%OUT): new points, as pairs."""


class EvaluationIn(RootModel[Params]):
    """What an evaluation command reads: the parameters of one point."""


class TrainingData(RootModel[list[str]]):
    """The names of the training files."""


class EvaluationGood(Shape):
    """An evaluation that went well: `loss`, or objectives by their own names, and any further metrics."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 2, "additionalProperties": True})

    status: Literal[0]
    loss: FiniteFloat = Field(default=0.0, json_schema_extra=without_default)
    message: str = ""


class EvaluationBad(Shape):
    """An evaluation that failed: any other status."""

    status: Annotated[int, Field(json_schema_extra={"not": {"const": 0}})]
    message: str = ""


class EvaluationOut(RootModel[EvaluationGood | EvaluationBad]):
    """What an evaluation command writes: status 0 and what it measured, or another status and a message."""


class CommandMetrics(RootModel[dict[str, Any]]):
    """What a plain command writes to {output}: metrics by name, and perhaps `status` and `message`."""
