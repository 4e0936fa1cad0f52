"""What is said of a trigger that leaves slots idle."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from steering.fleet import Fleet
from steering.idleness import IdleAdvice, LoadAdvice, busy_share
from tests.unit.steering.simulation import experiment

if TYPE_CHECKING:
    from collections.abc import Sequence


def spread(sigma: float, median_s: float = 100.0) -> list[float]:
    draw = random.Random(1)  # noqa: S311 - no secret
    return [median_s * math.exp(sigma * draw.gauss(0.0, 1.0)) for _ in range(64)]


def said_of(durations: Sequence[float], slots: int = 4, **steering: Any) -> list[str]:
    rules = {"points_per_iteration": 8, "trigger": {"fraction": 1.0}, "max_points": 100, **steering}
    fleet, said = Fleet(60.0), list[str]()
    fleet.hear("host-1-a", 0.0, slots=slots)
    advice = IdleAdvice(experiment(steering=rules), fleet, lambda kind, text: said.append(f"{kind}: {text}"))
    for duration_s in durations:
        advice.ended(duration_s)
    return said


@pytest.mark.parametrize("fraction", [1.0, 0.75, 0.5])
def test_equal_trainings_in_full_iterations_leave_nothing_idle(fraction: float) -> None:
    assert busy_share([3.0], 8, 8, fraction) == pytest.approx(1.0)


def test_a_whole_iteration_takes_as_long_as_its_longest() -> None:
    """One slot in two works all the time and the other half of it, on average, where trainings take 1 s or 3 s."""
    longest = 0.25 * 1.0 + 0.75 * 3.0
    assert busy_share([1.0, 3.0], 2, 2, 1.0, points=20_000) == pytest.approx(2.0 / longest, rel=0.02)


def test_slots_without_a_point_are_idle() -> None:
    assert busy_share([1.0], 10, 4, 1.0) == pytest.approx(0.4)


def test_the_smaller_the_fraction_the_busier() -> None:
    """The shares that `benchmarks.utilisation` finds with the loop itself, for a sigma of 0.6 and four slots."""
    shares = [busy_share(spread(0.6), 4, 4, fraction) for fraction in (1.0, 0.75, 0.5)]
    assert shares == pytest.approx([0.60, 0.84, 0.96], abs=0.04)


def test_a_trigger_that_leaves_much_idle_is_said_once_and_with_figures() -> None:
    (said,) = said_of(spread(1.0), slots=8)
    busy, *others = (f"{100 * busy_share(spread(1.0)[:8], 8, 8, f):.0f} %" for f in (1.0, 0.75, 0.5))
    assert said == (
        f"warning: trigger fraction 1 keeps about {busy} of the slots busy at this spread of training times; "
        f"0.75 about {others[0]}, 0.5 about {others[1]}, top_up nearly all (steering.trigger)"
    )


@pytest.mark.parametrize(
    ("durations", "slots", "steering"),
    [
        (spread(1.0)[:7], 8, {}),
        (spread(1.0), 8, {"points_per_iteration": 100}),
        (spread(0.05), 8, {}),
        (spread(1.0, median_s=0.1), 8, {}),
        (spread(0.6), 8, {"trigger": {"fraction": 0.75}}),
        (spread(1.0), 8, {"trigger": {"top_up": True}}),
        (spread(1.0), 64, {}),
    ],
    ids=["few", "no whole iteration", "busy", "short", "the default", "top-up", "more slots than points"],
)
def test_nothing_is_said(durations: list[float], slots: int, steering: dict[str, Any]) -> None:
    assert said_of(durations, slots, **steering) == []


def loads_said_of(*trainings: tuple[float, float | None]) -> list[str]:
    said = list[str]()
    advice = LoadAdvice(lambda kind, text: said.append(f"{kind}: {text}"))
    for duration_s, load_s in trainings:
        advice.ended(duration_s, load_s)
    return said


def test_imports_that_take_much_of_each_point_are_said_once() -> None:
    (said,) = loads_said_of((20.0, 9.0), (10.0, 3.0), (10.0, 3.2), (10.0, 3.0), (10.0, 3.0), (10.0, 3.0))
    assert said == (
        "warning: each point begins with 3.1 s of imports, 36 % of its time: evaluation.reuse: true pays them "
        "once for each slot"
    )


@pytest.mark.parametrize(("duration_s", "load_s"), [(1.5, 0.9), (100.0, 4.0), (5.0, None), (0.0, 0.0)])
def test_imports_that_hardly_matter_are_not_said(duration_s: float, load_s: float | None) -> None:
    assert loads_said_of(*[(duration_s, load_s)] * 20) == []
