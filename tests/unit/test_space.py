"""The search space: conditions, round trips, hashes, and the errors of a config."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_steer.errors import ConfigError, OutsideSpace
from hpo_steer.space import SearchSpace
from tests.unit.test_parameters import specs

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
BOOSTER: dict[str, Any] = {
    "booster": {"type": "categorical", "choices": ["tree", "dart"]},
    "drop": {"type": "float", "low": 0.0, "high": 0.5, "when": {"booster": "dart"}},
    "depth": {"type": "int", "low": 1, "high": 9},
    "leaf": {
        "type": "float",
        "low": 0.1,
        "high": 10,
        "log": True,
        "when": {"depth": [7, 8], "booster": "dart"},
    },
}


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    entries = draw(st.lists(specs(), min_size=1, max_size=5))
    spec: dict[str, Any] = {}
    for i, entry in enumerate(entries):
        parents: list[str] = [n for n, e in spec.items() if e["type"] == "categorical"]
        wants: bool = draw(st.booleans())
        if parents and wants:
            parent = draw(st.sampled_from(parents))
            wanted = draw(
                st.lists(st.sampled_from(spec[parent]["choices"]), min_size=1, max_size=2, unique_by=repr)
            )
            entry = {**entry, "when": {parent: wanted}}  # noqa: PLW2901
        spec[f"p{i}"] = entry
    return SearchSpace.from_dict(spec)


def cube(d: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0.0, 1.0), min_size=d, max_size=d)


@patient
@given(st.data())
def test_every_place_of_the_cube_is_a_valid_point_and_comes_back(data: st.DataObject) -> None:
    space = data.draw(spaces())
    params = space.decode(data.draw(cube(len(space))))
    assert space.validate(params) == params
    again = space.decode(space.encode(params))
    assert again.keys() == params.keys()
    for name, value in params.items():
        if space[name].count is not None:
            assert again[name] == value
        else:
            assert space[name].encode(again[name]) == pytest.approx(space[name].encode(value), abs=1e-9)


@patient
@given(spaces())
def test_the_config_of_a_space_makes_it_again(space: SearchSpace) -> None:
    spec = json.loads(json.dumps(space.to_dict()))
    again = SearchSpace.from_dict(spec)
    assert again.to_dict() == space.to_dict()
    assert [p.when for p in again] == [p.when for p in space]


@patient
@given(spaces(), st.integers(0, 2**32))
def test_sampled_points_are_valid(space: SearchSpace, seed: int) -> None:
    points = space.sample(20, np.random.default_rng(seed))
    assert len(points) == 20
    assert [space.validate(p) for p in points] == points


@patient
@given(st.data())
def test_points_share_a_hash_exactly_if_they_are_the_same(data: st.DataObject) -> None:
    space = data.draw(spaces())
    a, b = (space.decode(data.draw(cube(len(space)))) for _ in range(2))
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (space.hash(a) == space.hash(b)) is same
    assert space.hash(dict(reversed(a.items()))) == space.hash(a)


def test_one_is_one_point_zero_for_a_float_and_true_is_not_one_for_a_choice() -> None:
    space = SearchSpace.from_dict(
        {"x": {"type": "float", "low": 0, "high": 2}, "c": {"type": "categorical", "choices": [1, True]}}
    )
    assert space.hash({"x": 1, "c": 1}) == space.hash({"x": 1.0, "c": 1})
    assert space.hash({"x": 1, "c": 1}) != space.hash({"x": 1, "c": True})


def test_conditions_switch_parameters_on_and_off() -> None:
    space = SearchSpace.from_dict(BOOSTER)
    assert space.validate({"leaf": 1, "depth": 7, "drop": 0.1, "booster": "dart"}) == {
        "booster": "dart",
        "drop": 0.1,
        "depth": 7,
        "leaf": 1.0,
    }
    assert space.encode({"booster": "tree", "depth": 5}) == [0.25, 0.5, 0.5, 0.5]
    assert space.decode([0.1, 0.9, 0.99, 0.9]) == {"booster": "tree", "depth": 9}


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"booster": "tree", "depth": 1, "drop": 0.1}, "switched off"),
        ({"booster": "dart", "depth": 1}, '"drop" is missing'),
        ({"booster": "tree"}, '"depth" is missing'),
        ({"booster": "tree", "depth": 1, "dept": 1}, 'did you mean "depth"?'),
        ({"booster": "tree", "depth": 10}, "outside 1 to 9"),
        ({"booster": "tree", "depth": 9}, 'constraint "depth < 9" does not hold'),
    ],
)
def test_what_is_no_point_is_refused(params: dict[str, Any], says: str) -> None:
    space = SearchSpace.from_dict(BOOSTER, ["depth < 9"])
    with pytest.raises(OutsideSpace) as caught:
        space.validate(params)
    assert says in str(caught.value)


def test_a_constraint_over_a_parameter_that_is_off_does_not_apply() -> None:
    space = SearchSpace.from_dict(BOOSTER, ["drop > 0.2"])
    assert space.validate({"booster": "tree", "depth": 3}) == {"booster": "tree", "depth": 3}


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({"drop": {"when": {"boster": "dart"}}}, "search_space.drop.when", 'did you mean "booster"?'),
        ({"drop": {"when": {"booster": "darts"}}}, "search_space.drop.when", "never is"),
        ({"drop": {"when": {"leaf": 1}}}, "search_space.drop.when", "is a float"),
        ({"drop": {"when": {"drop": 0.5}}}, "search_space.drop.when", "is a float"),
        (
            {"depth": {"when": {"extra": 3}}, "extra": {"when": {"depth": 4}}},
            "search_space.depth.when",
            "circle",
        ),
    ],
)
def test_impossible_conditions_are_refused(change: dict[str, Any], key: str, says: str) -> None:
    spec = {**BOOSTER, "extra": {"type": "int", "low": 1, "high": 9}}
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict({n: {**entry, **change.get(n, {})} for n, entry in spec.items()})
    assert caught.value.key == key
    assert says in caught.value.message


@pytest.mark.parametrize("spec", [{}, [], None])
def test_an_empty_space_is_refused(spec: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(spec)
    assert caught.value.key == "search_space"


def test_an_unknown_name_in_a_constraint_names_its_place_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        SearchSpace.from_dict(BOOSTER, ["depth > 1", "dept < 3"])
    assert caught.value.key == "constraints[1]"
    assert 'did you mean "depth"?' in caught.value.message


def test_cells_are_counted_and_listed_once_each() -> None:
    spec = {
        "c": {"type": "categorical", "choices": ["p", "q"]},
        "n": {"type": "int", "low": 1, "high": 4, "when": {"c": "q"}},
    }
    space = SearchSpace.from_dict(spec, ["n != 2"])
    assert space.size == 4
    assert list(space.cells()) == [{"c": "p"}, {"c": "q", "n": 1}, {"c": "q", "n": 3}, {"c": "q", "n": 4}]
    assert SearchSpace.from_dict(BOOSTER).size is None


def test_a_grid_over_a_continuum_needs_a_resolution() -> None:
    space = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}})
    assert [p["x"] for p in space.cells(3)] == [0.0, 0.5, 1.0]
    with pytest.raises(ConfigError, match="resolution"):
        list(space.cells())


def test_many_points_encode_to_an_array() -> None:
    space = SearchSpace.from_dict(BOOSTER)
    points = space.sample(3, np.random.default_rng(0))
    assert space.encode_many(points).shape == (3, 4)
    assert space.encode_many([]).shape == (0, 4)
    with pytest.raises(ValueError, match="expected 4 coordinates"):
        space.decode([0.5])
