"""The section ``pruning``: how trainings that promise little are ended early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from hpo_steer.config.section import Count, Section
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.objectives import Objective, parse_objectives

if TYPE_CHECKING:
    from collections.abc import Sequence

Method = Literal["asha", "hyperband", "median", "percentile", "threshold", "patience"]
_HALVING = ("reduction", "min_steps", "max_steps")
_DEFAULTS: dict[str, dict[str, Any]] = {
    "asha": {"reduction": 3},
    "hyperband": {"reduction": 3, "min_steps": 1},
    "median": {"warmup_steps": 0, "min_points": 5},
    "percentile": {"percentile": 50.0, "warmup_steps": 0, "min_points": 5},
    "threshold": {"warmup_steps": 0},
    "patience": {"steps": 10, "min_delta": 0.0, "warmup_steps": 0},
}
_KEYS: dict[str, tuple[str, ...]] = {
    "asha": _HALVING,
    "hyperband": _HALVING,
    "median": ("warmup_steps", "min_points"),
    "percentile": ("percentile", "warmup_steps", "min_points"),
    "threshold": ("lower", "upper", "warmup_steps"),
    "patience": ("steps", "min_delta", "warmup_steps"),
}
_COMMON = ("method", "metric")


class Pruning(Section):
    """Which trainings are ended early. A key that is left out has its method's default.

    Attributes:
        method: the rule.
        metric: what it looks at: an objective's name, several of them, or metrics with their directions; the
            objectives, if it is left out.
        reduction: of what has reached a rung, one in so many goes on (asha, hyperband).
        min_steps: the lowest rung (asha, hyperband); asha without one takes ``max_steps / reduction**2``, at least 1.
        max_steps: how many steps a whole training has (asha, hyperband); None: nobody knows (asha only).
        percentile: the best so many percent go on (percentile).
        min_points: so many others must have reported a step before a point is compared with them (median, percentile).
        lower: a metric below it ends the point (threshold).
        upper: a metric above it ends the point (threshold).
        steps: so many steps without a better value end the point (patience).
        min_delta: by how much a value must be better to count (patience).
        warmup_steps: below this step no point is ended (all but asha and hyperband).
    """

    method: Method
    metric: str | list[str] | dict[str, Any] | None = None
    reduction: Annotated[int, Field(ge=2)] | None = None
    min_steps: Count | None = None
    max_steps: Count | None = None
    percentile: Annotated[float, Field(gt=0, lt=100)] | None = None
    min_points: Count | None = None
    lower: Annotated[float, Field(allow_inf_nan=False)] | None = None
    upper: Annotated[float, Field(allow_inf_nan=False)] | None = None
    steps: Count | None = None
    min_delta: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    warmup_steps: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        """Refuses the keys of other methods, and fills in the defaults of this one."""
        if isinstance(value, str):
            value = {"method": value}
        if not isinstance(value, dict):
            return value
        method = value.get("method")
        if method is None:
            raise ConfigError("pruning.method", f"is missing; it can be: {', '.join(get_args(Method))}")
        if method not in _KEYS:
            raise ConfigError(
                "pruning.method", f"unknown method {method!r}; {nearest(str(method), get_args(Method))}"
            )
        given = {
            key: each for key, each in value.items() if each is not None
        }  # a recorded config has every key
        for key in given:
            if key in cls.model_fields and key not in (*_COMMON, *_KEYS[method]):
                raise ConfigError(
                    f"pruning.{key}",
                    f"is no key of {method}; it has: {', '.join((*_COMMON, *_KEYS[method]))}",
                )
        return _DEFAULTS[method] | given

    @model_validator(mode="after")
    def _sound(self) -> Pruning:
        if self.method == "hyperband" and self.max_steps is None:
            raise ConfigError(
                "pruning.max_steps",
                "is missing: how many steps does a whole training report? (asha needs it not)",
            )
        if self.max_steps is not None and self.max_steps <= self.lowest:
            raise ConfigError(
                "pruning.max_steps", f"({self.max_steps}) must be above min_steps ({self.lowest})"
            )
        if self.method == "threshold":
            if self.lower is None and self.upper is None:
                raise ConfigError("pruning", "threshold needs lower, upper or both")
            if self.lower is not None and self.upper is not None and self.lower >= self.upper:
                raise ConfigError("pruning.lower", f"({self.lower:g}) must be below upper ({self.upper:g})")
        return self

    @property
    def lowest(self) -> int:
        """The lowest rung (asha, hyperband)."""
        return self.min_steps or max((self.max_steps or 1) // (self.reduction or 3) ** 2, 1)

    def metrics(self, goals: Sequence[Objective]) -> tuple[Objective, ...]:
        """What the rule looks at, with directions.

        Args:
            goals: the objectives of the experiment.

        Raises:
            ConfigError: a metric that is no objective has no direction, or threshold is given several.
        """
        found = self._metrics({goal.name: goal for goal in goals})
        if self.method == "threshold" and len(found) > 1:
            raise ConfigError("pruning.metric", "threshold watches one metric: say which")
        return found

    def _metrics(self, goals: dict[str, Objective]) -> tuple[Objective, ...]:
        if self.metric is None:
            return tuple(goals.values())
        if isinstance(self.metric, dict):
            try:
                return parse_objectives(self.metric)
            except ConfigError as exc:
                raise ConfigError(exc.key.replace("objectives", "pruning.metric", 1), exc.message) from None
        names = [self.metric] if isinstance(self.metric, str) else self.metric
        if not names or len({*names}) < len(names):
            raise ConfigError("pruning.metric", "needs at least one name, and each once")
        for name in names:
            if name not in goals and self.method != "threshold":
                raise ConfigError(
                    "pruning.metric",
                    f'"{name}" is no objective, so say what is wanted of it: metric: {{{name}: minimize}}',
                )
        return tuple(goals.get(name, Objective(name)) for name in names)
