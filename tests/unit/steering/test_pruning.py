"""Each method against small tables, and what all of them promise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_steer.algorithm import Failure, Observation
from hpo_steer.config import Pruning, validate
from hpo_steer.errors import ConfigError
from hpo_steer.jsonlines import observation_from_json, observation_to_json
from hpo_steer.objectives import parse_objectives
from hpo_steer.ranking import Ranking, epsilon_net
from steering.progress import failures
from steering.pruning import make_pruner
from steering.pruning.hyperband import Hyperband, deal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steering.pruning.base import Losses, Pruner

LOSS = {"loss": "minimize"}
BOTH = {"loss": "minimize", "size": "minimize"}
SETTINGS: list[dict[str, Any]] = [
    {"method": "asha", "min_steps": 1, "max_steps": 27},
    {"method": "asha"},
    {"method": "hyperband", "max_steps": 9},
    {"method": "median", "min_points": 2},
    {"method": "percentile", "percentile": 25.0, "min_points": 1},
    {"method": "threshold", "metric": "loss", "upper": 0.5},
    {"method": "patience", "steps": 2},
]


def pruner(goals: Mapping[str, Any] = LOSS, **rules: Any) -> Pruner:
    return make_pruner(Pruning.model_validate(rules), parse_objectives(goals))


def ended(which: Pruner, reports: Sequence[tuple[int, int, float]]) -> dict[int, int]:
    """The step at which each point was ended; after that its reports are left out."""
    found: dict[int, int] = {}
    for point, step, value in reports:
        if point not in found and which.report(point, step, (value,)) is not None:
            found[point] = step
    return found


# ---------------------------------------------------------------- successive halving


def test_asha_keeps_a_third_of_those_that_have_reached_a_rung() -> None:
    asha = pruner(method="asha", min_steps=1, max_steps=9)
    values = [0.5, 0.4, 0.6, 0.3, 0.45, 0.35, 0.1]
    reasons = [asha.report(i, 1, (v,)) for i, v in enumerate(values)]
    # at the sixth report two of six may go on, 0.3 and 0.35
    assert [reason is None for reason in reasons] == [True, True, False, True, False, True, True]
    assert reasons[4] == (
        "step 1: loss 0.45 is not among the best 1 of the 5 points that have reached step 1"
    )


def test_asha_asks_at_rungs_only_and_never_at_the_top() -> None:
    asha = pruner(method="asha", min_steps=1, max_steps=9)
    for step in range(1, 10):
        assert asha.report(0, step, (0.1,)) is None
    assert asha.report(1, 2, (0.9,)) is not None, "with step 2 it reaches the rung at 1"
    assert asha.report(2, 1, (0.05,)) is None
    assert asha.report(2, 2, (0.9,)) is None, "no rung lies at 2"
    assert asha.report(2, 3, (0.9,)) is not None
    assert asha.report(3, 1, (0.01,)) is None
    assert asha.report(3, 3, (0.01,)) is None
    assert asha.report(3, 9, (9.0,)) is None, "a whole training is over"


def test_asha_without_max_steps_goes_on_for_ever() -> None:
    asha = pruner(method="asha", reduction=2)
    assert asha.report(0, 1024, (0.1,)) is None
    assert asha.report(1, 1024, (0.2,)) is not None


def test_asha_begins_at_a_ninth_of_a_whole_training() -> None:
    asha = pruner(method="asha", max_steps=27)
    assert [asha.report(i, 2, (float(i),)) for i in range(9)] == [None] * 9
    assert asha.report(0, 3, (0.0,)) is None
    assert asha.report(1, 3, (1.0,)) is not None


def test_equal_values_share_their_rank() -> None:
    asha = pruner(method="asha", min_steps=1)
    assert [asha.report(i, 1, (0.5,)) for i in range(5)] == [None] * 5


def test_a_later_attempt_takes_the_place_of_the_one_before() -> None:
    asha = pruner(method="asha", min_steps=1, max_steps=9)
    asha.report(0, 1, (0.1,))
    asha.report(0, 1, (0.9,))  # begins anew, and worse
    assert asha.report(1, 1, (0.5,)) is None, "0.9 is the best of the others now"
    assert asha.report(1, 3, (0.5,)) is None
    assert asha.report(1, 4, (7.0,)) is None, "resumed behind a rung: what it had there stands"
    assert asha.report(2, 1, (0.6,)) is not None


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60), st.integers(2, 5))
def test_asha_lets_every_newly_best_one_on(values: list[float], reduction: int) -> None:
    asha = pruner(method="asha", reduction=reduction)
    for i, value in enumerate(values):
        reason = asha.report(i, 1, (value,))
        better = sum(other < value for other in values[:i])
        assert (reason is None) == (better < max((i + 1) // reduction, 1))


# ---------------------------------------------------------------- hyperband


def test_the_brackets_of_hyperband_begin_at_their_own_rungs() -> None:
    band = pruner(method="hyperband", max_steps=9)
    assert isinstance(band, Hyperband)
    brackets = [band.bracket(i) for i in range(17)]
    assert [brackets.count(b) for b in range(3)] == [9, 5, 3]
    assert [band.bracket(i + 17) for i in range(17)] == brackets
    first, second, third = (brackets.index(b) for b in range(3))
    others = [
        next(i for i, b in enumerate(brackets) if b == k and i not in (first, second, third))
        for k in range(3)
    ]
    for point in (first, second, third):
        assert band.report(point, 1, (0.1,)) is None
    reasons = [band.report(point, 1, (0.9,)) for point in others]
    assert [reason is None for reason in reasons] == [False, True, True]
    assert (reasons[0] or "").endswith("in bracket 0")
    for point in (second, third):
        band.report(point, 3, (0.1,))
    assert [band.report(point, 3, (0.9,)) is None for point in others[1:]] == [False, True]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_dealing_gives_each_its_share(shares: list[int]) -> None:
    dealt = deal(shares)
    assert [dealt.count(i) for i in range(len(shares))] == shares
    for upto in range(len(dealt)):
        for i, share in enumerate(shares):
            assert abs(dealt[:upto].count(i) - upto * share / sum(shares)) < len(shares)


# ---------------------------------------------------------------- median and percentile


def test_the_median_rule_compares_the_best_with_running_averages() -> None:
    rule = pruner(method="median", min_points=3)
    for point, values in enumerate([(0.6, 0.2), (0.6, 0.4), (0.8, 0.4)]):
        assert ended(rule, [(point, 1, values[0]), (point, 2, values[1])]) == {}
    # the averages at step 2 are 0.4, 0.5 and 0.6
    assert rule.report(3, 1, (0.6,)) is None
    assert rule.report(3, 2, (9.0,)) is not None, "its best is still 0.6"
    assert rule.report(4, 1, (0.5,)) is None
    assert rule.report(4, 2, (9.0,)) is None, (
        "its best, 0.5, is no worse than the median of 0.4, 0.5, 0.6 and 4.8"
    )


def test_the_median_rule_waits_for_others_and_for_the_warmup() -> None:
    rule = pruner(method="median", min_points=2, warmup_steps=2)
    reports = [
        (0, 1, 0.1),
        (1, 1, 0.2),
        (2, 1, 0.9),
        (0, 2, 0.1),
        (2, 2, 0.9),
        (1, 2, 0.2),
        (2, 3, 0.9),
        (3, 2, 0.9),
    ]
    assert ended(rule, reports) == {3: 2}


def test_a_repeated_step_replaces_its_averages() -> None:
    rule = pruner(method="median", min_points=1)
    for step, value in [(1, 0.1), (2, 0.1), (3, 0.1)]:
        rule.report(0, step, (value,))
    for step, value in [(1, 0.9), (2, 0.9)]:  # the next attempt
        rule.report(0, step, (value,))
    assert rule.report(1, 1, (0.5,)) is None
    assert rule.report(1, 2, (0.5,)) is None
    assert rule.report(1, 3, (0.5,)) is not None, "of step 3 the first attempt's word stands"


def test_the_percentile_is_stricter() -> None:
    values = [0.1 * i for i in range(1, 10)]
    for percent, kept in [(25.0, 0.3), (50.0, 0.5), (75.0, 0.7)]:
        rule = pruner(method="percentile", percentile=percent, min_points=9)
        ended(rule, [(i, 1, v) for i, v in enumerate(values)])
        assert rule.report(20, 1, (kept - 0.001,)) is None
        assert rule.report(21, 1, (kept + 0.101,)) is not None


# ---------------------------------------------------------------- threshold and patience


def test_thresholds_are_in_the_metrics_own_direction() -> None:
    rule = pruner({"accuracy": "maximize"}, method="threshold", lower=0.2, upper=0.9, warmup_steps=2)
    assert rule.report(0, 1, (-0.1,)) is None
    assert rule.report(0, 2, (-0.1,)) == "step 2: accuracy 0.1 is below 0.2"
    assert rule.report(0, 2, (-0.95,)) == "step 2: accuracy 0.95 is above 0.9"
    assert rule.report(0, 2, (-0.5,)) is None


def test_patience_counts_steps_without_progress() -> None:
    rule = pruner(method="patience", steps=3, min_delta=0.1)
    reports = [(0, 1, 1.0), (0, 2, 0.95), (0, 3, 0.89), (0, 4, 0.88), (0, 5, 0.85)]
    assert ended(rule, reports) == {}, "0.89 was progress"
    assert rule.report(0, 6, (0.8,)) is not None
    again = pruner(method="patience", steps=2)
    ended(again, [(0, 1, 0.5), (0, 2, 0.4), (0, 3, 0.3)])
    assert ended(again, [(0, 2, 0.4), (0, 3, 0.45), (0, 4, 0.45)]) == {0: 4}, "the newer attempt alone counts"


# ---------------------------------------------------------------- several metrics


def test_asha_ranks_fronts_and_covers_the_one_that_is_cut() -> None:
    rung = Ranking()
    front: list[Losses] = [(0.0, 1.0), (0.02, 0.95), (0.5, 0.5), (1.0, 0.0)]
    for i, losses in enumerate(front):
        rung.put(i, losses)
    rung.put(4, (1.0, 1.0))
    assert [rung.among_best(i, 4) for i in range(5)] == [True] * 4 + [False]
    assert [rung.among_best(i, 3) for i in range(5)] == [True, False, True, True, False]
    assert [rung.among_best(i, 1) for i in range(5)] == [True, False, False, False, False]
    assert epsilon_net(dict(enumerate(front)), 2) == [0, 3]


def test_with_several_metrics_being_good_at_one_is_enough() -> None:
    for rules in ({"method": "median", "min_points": 1}, {"method": "asha", "min_steps": 1, "reduction": 2}):
        rule = pruner(BOTH, **rules)
        assert rule.report(0, 1, (0.1, 0.9)) is None
        assert rule.report(1, 1, (0.2, 1.0)) is not None
        assert rule.report(2, 1, (0.9, 0.1)) is None or rules["method"] == "asha"
    patience = pruner(BOTH, method="patience", steps=1)
    assert patience.report(0, 1, (1.0, 1.0)) is None
    assert patience.report(0, 2, (2.0, 0.9)) is None
    assert patience.report(0, 3, (1.0, 0.9)) is not None


# ---------------------------------------------------------------- all of them

REPORTS = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 12), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8])), max_size=80
)


@pytest.mark.parametrize("rules", SETTINGS, ids=lambda rules: str(rules["method"]))
@given(reports=REPORTS)
def test_decisions_are_a_function_of_the_reports(
    rules: dict[str, Any], reports: list[tuple[int, int, float]]
) -> None:
    one, other = pruner(**rules), pruner(**rules)
    assert [one.report(p, s, (v,)) for p, s, v in reports] == [
        other.report(p, s, (v,)) for p, s, v in reports
    ]


@pytest.mark.parametrize(
    "rules", [r for r in SETTINGS if r["method"] != "threshold"], ids=lambda r: str(r["method"])
)
@given(reports=REPORTS)
def test_maximising_is_minimising_the_negative(
    rules: dict[str, Any], reports: list[tuple[int, int, float]]
) -> None:
    low, high = pruner(**rules), pruner({"loss": "maximize"}, **rules)
    for point, step, value in reports:
        least, most = low.losses({"loss": value}), high.losses({"loss": -value})
        assert least is not None
        assert most is not None
        assert (low.report(point, step, least) is None) == (high.report(point, step, most) is None)


@pytest.mark.parametrize(
    "rules", [r for r in SETTINGS if "threshold" not in r["method"]], ids=lambda r: str(r["method"])
)
def test_several_metrics_that_agree_decide_as_one(rules: dict[str, Any]) -> None:
    one, two = pruner(**rules), pruner(BOTH, **rules)
    rows = [
        (point, step, (point * 7 % 10) / 10 + 1 / step) for step in (1, 2, 3, 4, 6, 9) for point in range(10)
    ]
    for point, step, value in rows:
        assert (one.report(point, step, (value,)) is None) == (
            two.report(point, step, (value, 2 * value)) is None
        )


# ---------------------------------------------------------------- the section

BASE: dict[str, Any] = {
    "name": "demo",
    "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
    "objectives": LOSS,
    "evaluation": {"function": "train.py:train"},
}


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("ash", "pruning.method: unknown method 'ash'; did you mean \"asha\"?"),
        ({}, "pruning.method: is missing; it can be: asha"),
        ({"method": "asha", "reducton": 3}, 'pruning.reducton: unknown key; did you mean "reduction"?'),
        (
            {"method": "asha", "upper": 3.0},
            "pruning.upper: is no key of asha; it has: method, metric, reduction",
        ),
        (
            {"method": "asha", "reduction": 1},
            "pruning.reduction: should be greater than or equal to 2, got 1",
        ),
        (
            {"method": "asha", "min_steps": 9, "max_steps": 9},
            "pruning.max_steps: (9) must be above min_steps (9)",
        ),
        ("hyperband", "pruning.max_steps: is missing"),
        ("threshold", "pruning: threshold needs lower, upper or both"),
        ({"method": "threshold", "lower": 2.0, "upper": 1.0}, "pruning.lower: (2) must be below upper (1)"),
        (
            {"method": "median", "metric": "acc"},
            'pruning.metric: "acc" is no objective, so say what is wanted of it',
        ),
        ({"method": "median", "metric": {"acc": "up"}}, 'pruning.metric.acc: unknown direction "up"'),
        ({"method": "median", "metric": []}, "pruning.metric: needs at least one name"),
        ({"method": "threshold", "metric": ["loss", "b"], "upper": 1.0}, "threshold watches one metric"),
        (3, "pruning"),
    ],
)
def test_wrong_sections(rules: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(BASE | {"pruning": rules})
    assert sentence in str(caught.value)


def test_the_short_form_and_the_recorded_one() -> None:
    short = validate(BASE | {"pruning": "asha"}).pruning
    assert short == validate(BASE | {"pruning": {"method": "asha", "reduction": 3}}).pruning
    assert short is not None
    assert Pruning.model_validate(short.model_dump(mode="json")) == short
    assert validate(BASE).pruning is None


def test_metrics_have_the_directions_of_their_objectives() -> None:
    rules = validate(
        BASE | {"objectives": {"acc": "maximize"}, "pruning": {"method": "median", "metric": "acc"}}
    )
    assert rules.pruning is not None
    assert [m.sign for m in rules.pruning.metrics(rules.goals)] == [-1.0]
    other = validate(BASE | {"pruning": {"method": "median", "metric": {"train_loss": "minimize"}}}).pruning
    assert other is not None
    assert [m.name for m in other.metrics(())] == ["train_loss"]


def test_a_curve_goes_through_the_lines_of_the_protocol() -> None:
    told = Observation(
        3, failure=Failure("pruned", "no"), params={"x": 1}, curve=((1, {"loss": 0.5}), (3, {"loss": 0.4}))
    )
    assert observation_from_json(json.loads(json.dumps(observation_to_json(told)))) == told
    assert "curve" not in observation_to_json(Observation(3, {"loss": 1.0}))


def test_pruned_points_are_counted_apart_from_failures() -> None:
    assert failures({"pruned": 5, "error": 1, "timeout": 1}) == "2 failed (1 error, 1 timeout), 5 pruned"
    assert failures({"pruned": 5, "cancelled": 2}) == "5 pruned, 2 cancelled"
