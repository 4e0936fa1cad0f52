"""What differs between the config of a run and the config it is started with again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import RunConflict

if TYPE_CHECKING:
    from hpo_steer.config import Experiment

_FREE = ("evaluation.", "broker.", "store.", "steering.ask_timeout_s", "pruning", "loggers")
_GROWING = tuple(
    f"steering.{rule}" for rule in ("max_points", "max_iterations", "max_time_s", "target", "patience")
)


@dataclass(frozen=True)
class Change:
    """One key whose value differs.

    Attributes:
        key: dotted.
        before: in the run.
        now: in the config at hand.
    """

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {_shown(self.before)} → {_shown(self.now)}"

    @property
    def free(self) -> bool:
        """Whether a run may go on with it: it changes where and how points are evaluated, not which."""
        return self.key.startswith(_FREE) and self.key not in ("evaluation.function", "evaluation.command")

    @property
    def growing(self) -> bool:
        """Whether ``--extend`` allows it: a stop rule."""
        return self.key in _GROWING or (self.key.startswith("objectives.") and self.key.endswith(".target"))


def _shown(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def recorded(experiment: Experiment) -> dict[str, Any]:
    """The config as the store keeps it: every key, short forms spelt out, secrets left out."""
    from hpo_steer.objectives import parse_objectives
    from hpo_steer.transport import redact

    data = experiment.model_dump(mode="json")
    data["search_space"] = experiment.space().to_dict()
    data["algorithm"] = dict(experiment.algorithm_of())
    data["objectives"] = {
        goal.name: {"direction": goal.direction, "target": goal.target, "reference": goal.reference}
        for goal in parse_objectives(experiment.objectives)
    }
    for model, spec in zip(experiment.models, data["models"], strict=True):
        if model.search_space is not None:
            spec["search_space"] = experiment.space(model).to_dict()
        if model.algorithm is not None:
            spec["algorithm"] = dict(experiment.algorithm_of(model))
    data["broker"]["url"] = redact(data["broker"]["url"])
    if data["store"]["url"]:
        data["store"]["url"] = redact(data["store"]["url"])
    for key in ("outcome_constraints", "warm_start"):  # runs made before there were any lack the key
        if not data[key]:
            del data[key]
    return data


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The keys that differ, those that matter first. A key that one side lacks counts as None there."""
    old, new = dict(_flat(before)), dict(_flat(now))
    keys = [*new, *(key for key in old if key not in new)]
    found = [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
    return sorted(found, key=lambda c: (c.free, c.growing))


def check_resumable(
    place: str, before: Mapping[str, Any], now: Mapping[str, Any], *, extend: bool
) -> list[Change]:
    """Decides whether a run can go on with this config.

    Returns:
        The stop rules that an extension changes.

    Raises:
        RunConflict: says what differs and what can be done.
    """
    differing = [c for c in changes(before, now) if not c.free]
    fixed = [c for c in differing if not c.growing]
    growing = [c for c in differing if c.growing]
    if not fixed and (extend or not growing):
        return growing
    hints = []
    if growing and not fixed:
        hints.append("stop rules may change: run with --extend")
    if fixed:
        hints.append(
            f"another {fixed[0].key.partition('.')[0]} makes it another experiment: give it another name, or start "
            "anew with --fresh (the old run is moved aside)"
        )
    listed = ", ".join(str(c) for c in differing[:6]) + (
        f" and {len(differing) - 6} more" if len(differing) > 6 else ""
    )
    raise RunConflict(f"{place} was made by another config: {listed}\n" + "; ".join(hints))
