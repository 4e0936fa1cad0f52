from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from containers.phpo.spaces import per_segment, translate
from hpo_steer.errors import ConfigError
from hpo_steer.space import SearchSpace

ng = pytest.importorskip("nevergrad")

NUMBERS = st.floats(-1e6, 1e6)
RANGES = st.tuples(NUMBERS, NUMBERS).map(sorted).filter(lambda ends: ends[1] - ends[0] > 1e-3)
LOG_RANGES = (
    st.tuples(st.floats(-8, 6), st.floats(-8, 6)).map(sorted).filter(lambda ends: ends[1] - ends[0] > 0.1)
)
CHOICES = st.lists(
    st.one_of(st.integers(-99, 99), st.text(max_size=3), st.booleans()), min_size=1, max_size=5, unique=True
)


def dimension(method: str, **values: Any) -> dict[str, Any]:
    return {"method": method, "dimension": values}


# ---------------------------------------------------------------- what nevergrad draws is inside


@st.composite
def idds(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["Choice", "TransitionChoice", "Scalar", "Scalar inside", "Log"]))
    if "Choice" in kind:  # nevergrad cannot mutate a single one
        choices = draw(st.one_of(st.integers(2, 9), CHOICES.filter(lambda listed: len(listed) > 1)))
        return {"type": kind, "params": {"choices": choices}}
    if kind == "Log":
        low, high = (10.0**end for end in draw(LOG_RANGES))
        return {"type": "Log", "params": {"lower": low, "upper": high}}
    low, high = draw(RANGES)
    if kind == "Scalar":
        return {"type": "Scalar", "params": {"init": (low + high) / 2}, "bounds": [low, high]}
    return {"type": "Scalar", "params": {"lower": low, "upper": high}}


def idds_parameter(entry: dict[str, Any]) -> Any:
    """What iDDS's own steering script makes of an entry."""
    made = getattr(ng.p, entry["type"])(**entry.get("params", {}))
    if entry["type"] == "Scalar" and entry.get("bounds"):
        made.set_bounds(*entry["bounds"])
    return made


@st.composite
def hpogrid(draw: st.DrawFn) -> dict[str, Any]:
    method = draw(st.sampled_from(["categorical", "uniform", "uniformint", "loguniform"]))
    if method == "categorical":
        return dimension(method, categories=draw(CHOICES), grid_search=0)
    if method == "uniformint":
        least = draw(st.integers(-1000, 1000))
        return dimension(method, low=least, high=least + draw(st.integers(1, 1000)))
    if method == "loguniform":
        low, high = (10.0**end for end in draw(LOG_RANGES))
        return dimension(method, low=low, high=high, base=draw(st.sampled_from([2, 10])))
    low, high = draw(RANGES)
    return dimension(method, low=low, high=high)


def hpogrid_parameter(entry: dict[str, Any]) -> Any:
    """What hpogrid's nevergrad generator makes of an entry."""
    given = entry["dimension"]
    if entry["method"] == "categorical":
        return ng.p.Choice(given["categories"])
    if entry["method"] == "loguniform":
        return ng.p.Log(lower=given["low"], upper=given["high"], exponent=given["base"])
    made = ng.p.Scalar(lower=given["low"], upper=given["high"])
    return made.set_integer_casting() if entry["method"] == "uniformint" else made


def check_draws(spec: dict[str, Any], parameters: dict[str, Any], seed: int) -> None:
    space = SearchSpace.from_dict(translate(spec).search_space)
    instrumentation = ng.p.Instrumentation(**parameters)
    instrumentation.random_state.seed(seed)
    optimizer = ng.optimizers.DiscreteOnePlusOne(instrumentation, budget=20, num_workers=1)
    for i in range(10):
        candidate = optimizer.ask()
        assert space.validate(candidate.kwargs).keys() == spec.keys()
        assert space.validate(instrumentation.sample().kwargs)
        optimizer.tell(candidate, float(i % 3))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("abcd"), idds(), min_size=1), st.integers(0, 2**31))
def test_every_point_that_nevergrad_draws_from_idds_words_is_inside(spec: dict[str, Any], seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nevergrad's remarks on narrow bounds
        check_draws(spec, {name: idds_parameter(entry) for name, entry in spec.items()}, seed)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("abcd"), hpogrid(), min_size=1), st.integers(0, 2**31))
def test_every_point_that_nevergrad_draws_from_hpogrid_words_is_inside(
    spec: dict[str, Any], seed: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_draws(spec, {name: hpogrid_parameter(entry) for name, entry in spec.items()}, seed)


@settings(deadline=None)
@given(RANGES, st.sampled_from([0.1, 0.25, 0.3, 1, 2, 7]), st.floats(0, 1))
@example([-107251.0, 0.0], 0.1, 0.0)
@example([110350.0, 110451.0], 0.1, 0.0)
@example([110350.0, 110351.0], 0.1, 0.0)
def test_every_rounded_draw_is_inside_its_steps(ends: list[float], q: float, place: float) -> None:
    ends = [round(end / 1000, 3) for end in ends]  # some hundreds of steps
    space = SearchSpace.from_dict(
        translate({"x": dimension("quniform", low=ends[0], high=ends[1], q=q)}).search_space
    )
    drawn = round((ends[0] + place * (ends[1] - ends[0])) / q) * q
    assert space.validate({"x": drawn})


# ---------------------------------------------------------------- single forms


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ([1, 4], {"type": "float", "low": 1, "high": 4}),
        ({"type": "Choice", "params": {"choices": [1, 4]}}, {"type": "categorical", "choices": [1, 4]}),
        ({"type": "Choice", "params": {"choices": 3}}, {"type": "categorical", "choices": [0, 1, 2]}),
        ({"type": "Scalar", "bounds": [0, 5]}, {"type": "float", "low": 0, "high": 5}),
        ({"type": "Scalar", "bounds": [[0], [5]]}, {"type": "float", "low": 0, "high": 5}),
        (
            {"type": "Log", "params": {"lower": 0.1, "upper": 9}},
            {"type": "float", "low": 0.1, "high": 9, "log": True},
        ),
        ({"type": "int", "low": 1, "high": 3}, {"type": "int", "low": 1, "high": 3}),
        (dimension("uniformint", low=1, high=30), {"type": "int", "low": 1, "high": 30}),
        (dimension("uniformint", low=3, high=3), {"type": "categorical", "choices": [3]}),
        (dimension("fixed", value="relu"), {"type": "categorical", "choices": ["relu"]}),
        ({"method": "fixed", "dimension": 7}, {"type": "categorical", "choices": [7]}),
        (dimension("quniform", low=0, high=10, q=2), {"type": "int", "low": 0, "high": 10, "step": 2}),
        (
            dimension("quniform", low=0.12, high=0.9, q=0.25),
            {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25},
        ),
        (dimension("qloguniform", low=1, high=64, q=1), {"type": "int", "low": 1, "high": 64, "log": True}),
        (
            dimension("loguniform", low=1e-5, high=0.1, base=10),
            {"type": "float", "low": 1e-5, "high": 0.1, "log": True},
        ),
    ],
)
def test_forms(entry: Any, expected: dict[str, Any]) -> None:
    made = translate({"x": entry})
    assert made.search_space == {"x": expected}
    assert made.notes == ()


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        ({"type": "TransitionChoice", "params": {"choices": [1, 2]}}, "the order of its choices is not used"),
        ({"type": "Choice", "params": {"choices": [1, 1, 2]}}, "listed twice"),
        (dimension("qloguniform", low=0.1, high=10, q=0.1), "the multiples of 0.1 are drawn evenly"),
    ],
)
def test_what_a_translation_changes_is_noted(entry: Any, note: str) -> None:
    notes = translate({"x": entry}).notes
    assert len(notes) == 1
    assert notes[0].startswith("opt_space.x: ")
    assert note in notes[0]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"type": "Array", "params": {"shape": [2]}}, "its value is a list of numbers"),
        ({"type": "Choice", "params": {"choices": [1, 2], "repetitions": 3}}, "its value is a list"),
        ({"type": "Choice"}, "needs a list of choices, got null"),
        ({"type": "Choice", "params": {"choices": "abc"}}, 'needs a list of choices, got "abc"'),
        ({"type": "Scaler", "bounds": [0, 1]}, 'unknown type "Scaler"; did you mean "Scalar"'),
        ({"type": "Scalar"}, "has no bounds, which our search space needs"),
        ({"type": "Scalar", "bounds": [0, None]}, "has no bounds"),
        ({"type": "Scalar", "bounds": [3, 1]}, "lower bound 3 is above its upper bound 1"),
        ({"type": "Scalar", "bounds": 5}, "bounds are [low, high], got 5"),
        ({"type": "Scalar", "bounds": [0, 1], "integer": True}, 'a Scalar has no key "integer"'),
        ({"type": "Log", "params": {"init": 1, "exponent": 2}}, "lower and upper among its params"),
        ({"type": "Log", "params": {"lower": 0, "upper": 1}}, "a log scale needs low above 0"),
        (
            dimension("normal", mu=1, sigma=0.5),
            (
                "a normal has no bounds, and our search space needs some; three sigma to either side are "
                "{type: float, low: -0.5, high: 2.5}"
            ),
        ),
        (dimension("lognormal", mu=0, sigma=1, base=10), "low: 0.001, high: 1000, log: true}"),
        (dimension("qnormal", mu=0, sigma="x", q=1), 'sigma is a number, got "x"'),
        (dimension("uniformn", low=0, high=1), 'unknown method "uniformn"; did you mean'),
        (dimension("uniform", low=0), "needs two numbers as bounds, got 0 and null"),
        (dimension("uniformint", low=0.5, high=2), "from one whole number to another"),
        (dimension("quniform", low=0, high=1, q=0), "q is a number above 0"),
        ({"method": "uniform"}, "needs a dimension"),
        ([1, 2, 3], "is in no known form: expected [low, high]"),
        ("0..1", "is in no known form: expected [low, high]"),
        ({"low": 0, "high": 1}, "is in no known form"),
    ],
)
def test_what_has_no_translation_is_told_in_one_sentence(entry: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate({"x": entry})
    assert caught.value.key == "opt_space.x"
    assert sentence in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [None, [], [1, 2], "x", {}])
def test_a_space_is_a_mapping(spec: Any) -> None:
    with pytest.raises(ConfigError, match=r"^space: "):
        translate(spec, "space")


def test_one_space_is_that_of_every_segment() -> None:
    assert per_segment({"x": [0, 1]}, 2) == [{"x": [0, 1]}] * 2


def test_a_list_of_spaces_is_taken_in_order_or_by_id() -> None:
    spaces = [{"x": [0, i + 1]} for i in range(3)]
    assert per_segment(spaces, 3) == spaces
    numbered = [{"model_id": i, "search_space": spaces[i]} for i in (2, 0, 1)]
    assert per_segment(numbered, 3) == spaces


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ([{"x": [0, 1]}], "lists 1 search spaces for 2 segments"),
        (
            [{"model_id": 0, "search_space": {}}, {"model_id": 2, "search_space": {}}],
            "from 0 to 1, and has 0, 2",
        ),
        ([{"model_id": 0, "search_space": {}}, {"model_id": 0, "search_space": {}}], "and has 0, 0"),
        ([{"model_id": 0, "search_space": {}}, {"x": [0, 1]}], 'got {"x": [0, 1]}'),
    ],
)
def test_a_list_that_does_not_fit_the_segments_is_refused(spec: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        per_segment(spec, 2)
    assert sentence in str(caught.value)
