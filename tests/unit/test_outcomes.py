"""Constraints over metrics: what they read, what they refuse."""

from __future__ import annotations

import pytest

from hpo_steer.errors import ConfigError
from hpo_steer.outcomes import OutcomeConstraint, parse_outcome_constraints


@pytest.mark.parametrize(
    ("text", "metric", "upper", "bound"),
    [
        ("latency_ms <= 20", "latency_ms", True, 20.0),
        ("20>=latency_ms", "latency_ms", True, 20.0),
        ("accuracy >= -1e-3", "accuracy", False, -1e-3),
        ("0.9 <= top-1 accuracy", "top-1 accuracy", False, 0.9),
    ],
)
def test_either_side_may_be_the_metric(text: str, metric: str, upper: bool, bound: float) -> None:
    assert parse_outcome_constraints([text]) == (OutcomeConstraint(metric, upper, bound),)


@pytest.mark.parametrize(
    "text", ["latency", "latency < 20", "latency == 20", "1 <= 2", "a <= b", "a <= inf", "1 <= a <= 2", ""]
)
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match='"latency_ms <= 20"'):
        parse_outcome_constraints([text])


def test_a_contradiction_is_refused() -> None:
    with pytest.raises(ConfigError, match='"a >= 2" and "a <= 1" cannot both hold'):
        parse_outcome_constraints(["a <= 1", "a >= 2"])
    assert len(parse_outcome_constraints(["a <= 2", "a >= 2"])) == 2


def test_slack_is_positive_inside_and_a_missing_metric_holds_nothing() -> None:
    upper, lower = parse_outcome_constraints(["a <= 3", "a >= 1"])
    assert (upper.slack({"a": 2.5}), lower.slack({"a": 2.5})) == (0.5, 1.5)
    assert upper.holds({"a": 3.0})
    assert not upper.holds({"a": 3.1})
    assert not upper.holds({"b": 0.0})
    assert not upper.holds({"a": float("nan")})
