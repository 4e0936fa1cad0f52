"""Single parameters: their unit interval, and the errors of a config that describes them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_steer.errors import ConfigError, OutsideSpace
from hpo_steer.parameters import Parameter, parameter

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
units = st.floats(0.0, 1.0)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """An entry of a config's search_space."""
    kind = draw(
        st.sampled_from(["float", "log float", "step float", "int", "log int", "step int", "categorical"])
    )
    if kind == "categorical":
        scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3))
        choices = st.lists(
            st.one_of(scalars, st.lists(scalars, max_size=2)), min_size=1, max_size=6, unique_by=repr
        )
        return {"type": "categorical", "choices": draw(choices)}
    if kind.endswith("int"):
        low = draw(st.integers(1 if kind == "log int" else -1000, 1000))
        high = low + draw(st.integers(1, 2000))
        spec: dict[str, Any] = {"type": "int", "low": low, "high": high}
        if kind == "step int":
            spec["step"] = draw(st.integers(1, high - low))
    elif kind == "log float":
        low_f = draw(st.floats(1e-9, 1e3))
        spec = {"type": "float", "low": low_f, "high": low_f * draw(st.floats(1.01, 1e6))}
    elif kind == "step float":
        step = draw(st.integers(1, 50)) / 100
        start = draw(st.integers(-100, 100)) / 100
        spec = {
            "type": "float",
            "low": start,
            "high": start + step * draw(st.integers(1, 40)),
            "step": step,
        }
        if spec["step"] > spec["high"] - spec["low"]:
            spec["high"] += step
    else:
        low_f = draw(st.floats(-1e6, 1e6))
        spec = {"type": "float", "low": low_f, "high": low_f + draw(st.floats(1e-3, 1e6))}
    if kind.startswith("log"):
        spec["log"] = True
    return spec


@patient
@given(specs(), units)
def test_every_place_is_a_valid_value_in_bounds(spec: dict[str, Any], unit: float) -> None:
    p = parameter("p", spec)
    value = p.decode(unit)
    assert p.check(value) == value
    assert type(p.check(value)) is type(value)
    if spec["type"] != "categorical":
        assert spec["low"] <= value <= spec["high"]


@patient
@given(specs(), units)
def test_encoding_and_decoding_are_inverse(spec: dict[str, Any], unit: float) -> None:
    p = parameter("p", spec)
    value = p.decode(unit)
    place = p.encode(value)
    assert 0.0 <= place <= 1.0
    if p.count is not None:
        assert p.decode(place) == value
    else:
        assert p.decode(place) == pytest.approx(value, rel=1e-9, abs=1e-9 * (spec["high"] - spec["low"]))


@patient
@given(specs())
def test_all_values_are_distinct_and_survive_the_round_trip(spec: dict[str, Any]) -> None:
    p = parameter("p", spec)
    values = p.values(resolution=5)
    assert len(values) == (p.count if p.count is not None else 5)
    assert len({repr(v) for v in values}) == len(values)
    if p.count is not None:
        assert [p.decode(p.encode(v)) for v in values] == values


@patient
@given(st.integers(1, 500), st.integers(1, 500))
def test_a_logarithmic_integer_reaches_both_ends(low: int, span: int) -> None:
    p = parameter("p", {"type": "int", "low": low, "high": low + span, "log": True})
    assert (p.decode(0.0), p.decode(1.0)) == (low, low + span)


def test_discrete_values_have_equal_shares() -> None:
    p = parameter("p", {"type": "int", "low": 0, "high": 9})
    drawn = [p.decode((i + 0.5) / 1000) for i in range(1000)]
    assert [drawn.count(v) for v in range(10)] == [100] * 10


def test_decimal_steps_give_decimal_values() -> None:
    p = parameter("p", {"type": "float", "low": 0.1, "high": 0.7, "step": 0.1})
    assert p.check(0.09999999999999998) == 0.1  # what user code may make of round(x / step) * step
    assert p.check(0.7000000000000002) == 0.7
    assert p.values() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("spec", "key", "says"),
    [
        ({"type": "float", "low": 1, "high": 1}, "search_space.p", "must be below"),
        ({"type": "int", "low": 3, "high": 2}, "search_space.p", "must be below"),
        ({"type": "float", "low": 0, "high": 1, "log": True}, "search_space.p", "low above 0"),
        ({"type": "int", "low": 0, "high": 4, "log": True}, "search_space.p", "low above 0"),
        ({"type": "categorical", "choices": []}, "search_space.p.choices", "empty"),
        ({"type": "categorical"}, "search_space.p", "choices"),
        ({"type": "categorical", "choices": "abc"}, "search_space.p", "choices"),
        ({"type": "categorical", "choices": [1, 1]}, "search_space.p.choices", "twice"),
        ({"type": "categorical", "choices": [math.nan]}, "search_space.p.choices", "JSON"),
        ({"type": "flaot", "low": 0, "high": 1}, "search_space.p.type", 'did you mean "float"?'),
        ({"low": 0, "high": 1}, "search_space.p", "has no type"),
        ({"type": "float", "lo": 0, "high": 1}, "search_space.p.lo", 'did you mean "low"?'),
        ({"type": "float", "low": 0}, "search_space.p", "needs high"),
        ({"type": "float", "low": "0", "high": 1}, "search_space.p.low", "number"),
        ({"type": "float", "low": True, "high": 2}, "search_space.p.low", "number"),
        ({"type": "float", "low": 0, "high": math.inf}, "search_space.p.high", "finite"),
        ({"type": "float", "low": 0, "high": 1, "step": 0}, "search_space.p.step", "above 0"),
        ({"type": "float", "low": 0, "high": 1, "step": 2}, "search_space.p.step", "wider"),
        ({"type": "float", "low": 1, "high": 2, "step": 0.5, "log": True}, "search_space.p", "exclude"),
        ({"type": "float", "low": 1, "high": 2, "log": "yes"}, "search_space.p.log", "true or false"),
        ({"type": "int", "low": 0.5, "high": 2}, "search_space.p.low", "whole"),
        ({"type": "int", "low": 0, "high": 2, "when": "b"}, "search_space.p.when", "mapping"),
        ({"type": "int", "low": 0, "high": 2, "when": {"b": []}}, "search_space.p.when.b", "one at least"),
        (3, "search_space.p", "mapping"),
    ],
)
def test_a_wrong_entry_names_its_key_and_what_to_do(spec: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parameter("p", spec)
    assert caught.value.key == key
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"type": "float", "low": 0, "high": 1}, 1.1),
        ({"type": "float", "low": 0, "high": 1}, math.nan),
        ({"type": "float", "low": 0, "high": 1}, "0.5"),
        ({"type": "float", "low": 0, "high": 1}, True),
        ({"type": "float", "low": 0, "high": 1, "step": 0.25}, 0.3),
        ({"type": "int", "low": 0, "high": 4}, 1.5),
        ({"type": "int", "low": 0, "high": 4, "step": 2}, 3),
        ({"type": "int", "low": 0, "high": 4}, 5),
        ({"type": "categorical", "choices": [1, "a"]}, True),
        ({"type": "categorical", "choices": ["a"]}, "b"),
    ],
)
def test_a_foreign_value_is_refused(spec: dict[str, Any], value: Any) -> None:
    p: Parameter = parameter("p", spec)
    with pytest.raises(OutsideSpace, match="p: "):
        p.check(value)


def test_numbers_come_back_in_their_own_type() -> None:
    numpy = pytest.importorskip("numpy")
    assert type(parameter("p", {"type": "int", "low": 0, "high": 4}).check(numpy.int64(3))) is int
    assert type(parameter("p", {"type": "float", "low": 0, "high": 4}).check(3)) is float
    assert str(parameter("p", {"type": "float", "low": -1, "high": 4}).check(-0.0)) == "0.0"


def test_a_float_one_rounding_beyond_its_bound_is_that_bound() -> None:
    p = parameter("x", {"type": "float", "low": 316.22776601683796, "high": 1000.0, "log": True})
    assert p.check(316.2277660168379) == 316.22776601683796
    assert p.check(1000.0000000000001) == 1000.0
    with pytest.raises(OutsideSpace):
        p.check(316.22)
