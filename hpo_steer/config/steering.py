"""When iterations start, and when the search ends, as a config says it."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import field_validator, model_validator

from hpo_steer.config.section import Count, Positive, Section


class Trigger(Section):
    """When the next iteration starts; exactly one of the three.

    Attributes:
        fraction: this share of the current iteration has ended.
        unevaluated_below: fewer than this many points are unevaluated; then `points_per_iteration` minus this many
            new ones are asked for.
        top_up: every ended point is replaced at once by a new one; where asks take long, some are chosen ahead.
    """

    fraction: float | None = None
    unevaluated_below: Count | None = None
    top_up: bool = False

    @field_validator("fraction")
    @classmethod
    def _inside(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"must lie above 0 and at most at 1, got {value}")
        return value

    @model_validator(mode="after")
    def _one(self) -> Trigger:
        if (self.fraction is not None) + (self.unevaluated_below is not None) + self.top_up != 1:
            raise ValueError("is one of {fraction: 0.75}, {unevaluated_below: 5} and top_up")
        return self

    def needed(self, size: int) -> int:
        """How many of an iteration's `size` points must have ended (fraction trigger)."""
        return math.ceil((self.fraction or 1.0) * size - 1e-9)

    def __str__(self) -> str:
        if self.fraction is not None:
            return f"{100 * self.fraction:g} %"
        return "top-up" if self.top_up else f"fewer than {self.unevaluated_below} unevaluated"


class Steering(Section):
    """How the search goes on and when it ends.

    Attributes:
        points_per_iteration: how many points an ask proposes (for each model).
        trigger: when the next iteration starts.
        max_points: ends a model's search after this many points; 100 if neither `max_iterations`, `max_time_s` nor
            `patience` is given.
        max_iterations: likewise after this many iterations.
        max_time_s: ends the experiment after this much time, earlier sessions of it included.
        target: ends a model's search once its only objective is this good.
        patience: ends it after this many points in a row without a better one.
        duplicates: what becomes of a point proposed before: `reuse` its values, `forbid` it, `replicate` it.
        ask_timeout_s: an algorithm that takes longer to choose points is started anew, and points of a Sobol
            sequence stand in for those it owes.
    """

    points_per_iteration: Count = 10
    trigger: Trigger = Trigger(fraction=0.75)
    max_points: Count | None = None
    max_iterations: Count | None = None
    max_time_s: Positive | None = None
    target: float | None = None
    patience: Count | None = None
    duplicates: Literal["reuse", "forbid", "replicate"] = "reuse"
    ask_timeout_s: Positive = 600.0

    @field_validator("trigger", mode="before")
    @classmethod
    def _spelt_out(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value != "top_up":
                raise ValueError("is one of {fraction: 0.75}, {unevaluated_below: 5} and top_up")
            return {"top_up": True}
        return value

    @model_validator(mode="after")
    def _smaller(self) -> Steering:
        below = self.trigger.unevaluated_below
        if below is not None and below >= self.points_per_iteration:
            raise ValueError(
                f"trigger.unevaluated_below ({below}) must be below points_per_iteration ({self.points_per_iteration})"
            )
        return self

    @property
    def point_limit(self) -> int | None:
        """`max_points`, or its default where nothing is sure to end the search."""
        others = (self.max_iterations, self.max_time_s, self.patience)
        return self.max_points or (100 if all(rule is None for rule in others) else None)
