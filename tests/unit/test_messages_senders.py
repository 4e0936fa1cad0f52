"""What we send is what we let in: names and sizes are checked where they come from."""

from __future__ import annotations

from typing import Any

import pytest

from hpo_steer import limits
from hpo_steer.child import check_metrics
from hpo_steer.config.schema import Experiment
from hpo_steer.errors import ConfigError
from hpo_steer.messages import Result
from hpo_steer.objectives import parse_objectives


def test_a_metric_that_no_message_can_name_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"loss": 0.5, "x" * 201: 1.0, "a\nb": 2.0, "\ud800": 3.0, "é": 4.0}
    answer = check_metrics(value, ["loss"], "train()")
    assert answer == {"metrics": {"loss": 0.5, "é": 4.0}}
    assert capsys.readouterr().err.count("is left out") == 3


def test_too_many_metrics_are_an_error_that_says_what_to_do() -> None:
    answer = check_metrics({f"m{n}": 1.0 for n in range(limits.MAX_METRICS + 1)}, ["m1"], "train()")
    assert answer["failure"]["kind"] == "error"
    assert "write them to a file" in answer["failure"]["message"]


def test_all_metrics_that_a_training_may_return_fit_a_result() -> None:
    value = {f"m{n}".ljust(limits.MAX_NAME, "é")[:20]: 1.0 for n in range(limits.MAX_METRICS)}
    metrics = check_metrics(value, ["m1".ljust(20, "é")], "train()")["metrics"]
    result = Result(
        experiment="e",
        run="r",
        worker="w",
        at=0.0,
        point=1,
        attempt=1,
        metrics=metrics,
        started_at=0.0,
        duration_s=0.0,
    )
    assert len(result.encoded()) < limits.MAX_BYTES


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x1b[31m"])
def test_an_objective_needs_a_name_that_messages_can_carry(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^objectives: .* is no name: 1 to 200 characters") as caught:
        parse_objectives({name: "minimize"})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("constant", "reason"),
    [
        (float("nan"), "a number is not finite"),
        ([0] * 100_001, "more than 100,000 values"),
        (2**70, "beyond 64 bits"),
    ],
)
def test_constants_are_what_a_message_can_carry(constant: Any, reason: str) -> None:
    config = {
        "name": "demo",
        "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objectives": {"loss": "minimize"},
        "models": [{"name": "a", "constants": {"c": constant}}],
        "evaluation": {"function": "train.py:train"},
    }
    with pytest.raises(ConfigError, match=rf'^models: constants of model "a": .*{reason}'):
        Experiment.model_validate(config)
