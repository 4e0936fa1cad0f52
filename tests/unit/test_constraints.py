"""Constraint expressions: what they accept, what they mean, and that nothing else can run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpo_steer.constraints import Constraint
from hpo_steer.errors import ConfigError
from hpo_steer.space import SearchSpace

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
NAMES = ["depth", "eta", "booster"]


@pytest.mark.parametrize(
    ("text", "params", "holds"),
    [
        ("depth * eta <= 3", {"depth": 6, "eta": 0.5}, True),
        ("depth * eta <= 3", {"depth": 7, "eta": 0.5}, False),
        ("1 < depth < 5", {"depth": 5}, False),
        ("booster == 'dart' or eta > 0.1", {"booster": "dart", "eta": 0.0}, True),
        ("not (booster != 'dart' and eta > 0.1)", {"booster": "tree", "eta": 0.2}, False),
        ("max(depth, 4) % 2 == 0", {"depth": 6}, True),
        ("log2(depth) >= 2", {"depth": 4}, True),
        ("1 / (depth - 2) > 0", {"depth": 2}, False),
        ("sqrt(eta) < 1", {"eta": -1.0}, False),
        ("booster < 3", {"booster": "dart"}, False),
        ("eta > 0.5", {"depth": 1}, True),
    ],
)
def test_meaning(text: str, params: dict[str, object], holds: bool) -> None:
    assert Constraint.parse(text, NAMES).holds(params) is holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deph <= 3", 'did you mean "depth"?'),
        ("sqr(depth) < 3", 'did you mean "sqrt"?'),
        ("depth <=", "is no expression"),
        ("1 < 2", "names no parameter"),
        ("depth.real < 3", "Attribute is not allowed"),
        ("[depth][0] < 3", "not allowed"),
        ("(lambda: depth)() < 3", "only plain functions"),
        ("__import__('os').system('true') or depth", "only plain functions"),
        ("eval('depth')", "unknown function"),
        ("depth if eta else 3", "not allowed"),
        ("max(depth, key=abs) > 1", "not allowed"),
        (3, "expected an expression"),
    ],
)
def test_anything_else_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Constraint.parse(text, NAMES, key="constraints[1]")
    assert caught.value.key == "constraints[1]"
    assert says in caught.value.message


@patient
@given(st.text(max_size=30))
def test_no_text_crashes_the_parser(text: str) -> None:
    try:
        Constraint.parse(text, NAMES)
    except ConfigError as exc:
        assert str(exc).startswith("constraints: ")  # noqa: PT017


FLOATS: dict[str, Any] = {n: {"type": "float", "low": 0, "high": 10} for n in "xyz"}
GRID: dict[str, Any] = {
    "n": {"type": "int", "low": 1, "high": 20},
    "m": {"type": "int", "low": 1, "high": 20},
    "kind": {"type": "categorical", "choices": ["a", "b"]},
}
SMALL = "or too small to be found by sampling; widen them, or narrow the ranges of the parameters"


@pytest.mark.parametrize(
    ("spec", "constraints", "says"),
    [
        (
            FLOATS,
            ["y <= 9", "x <= 1", "x >= 2"],
            '"x <= 1" and "x >= 2" cannot both hold within the search space;',
        ),
        (FLOATS, ["x > 11"], '"x > 11" holds nowhere in the search space; change or drop it'),
        (FLOATS, ["1 <= x / 2 + 3 < 1.5"], '"1 <= x / 2 + 3 < 1.5" holds nowhere'),
        (
            FLOATS,
            ["x + y <= 1", "x * y >= 0", "y >= 2 * z", "z >= 1"],
            '"x + y <= 1", "y >= 2 * z" and "z >= 1" cannot all hold',
        ),
        (
            FLOATS,
            ["x == y", "x * x >= 1"],
            f'satisfies "x == y": what they leave of the search space is empty, {SMALL}',
        ),
        (
            FLOATS,
            ["x <= 1e-9"],
            f'no point was found that satisfies "x <= 1e-9": what they leave of the search space is empty, {SMALL}',
        ),
        (FLOATS, ["x * y >= 200", "z <= 9"], 'no point was found that satisfies "x * y >= 200": what'),
        (GRID, ["n * m == 403", "n >= 2"], '"n * m == 403" holds nowhere'),
        (
            GRID,
            ["kind == 'a'", "n <= 20", "kind == 'b'"],
            "\"kind == 'a'\" and \"kind == 'b'\" cannot both hold",
        ),
    ],
)
def test_contradictory_constraints_are_named(spec: dict[str, Any], constraints: list[str], says: str) -> None:
    space = SearchSpace.from_dict(spec, constraints)
    with pytest.raises(ConfigError) as caught:
        space.sample(1, np.random.default_rng(0))
    assert caught.value.key == "constraints"
    assert says in caught.value.message


def test_a_constraint_over_a_conditional_parameter_proves_nothing() -> None:
    spec = {**GRID, "k": {"type": "int", "low": 1, "high": 9, "when": {"kind": "a"}}}
    space = SearchSpace.from_dict(spec, ["k >= 20"])
    assert {p["kind"] for p in space.sample(20, np.random.default_rng(0))} == {"b"}
    with pytest.raises(ConfigError, match=r"\"k >= 20\" and \"kind == 'a'\" cannot both hold"):
        SearchSpace.from_dict(spec, ["k >= 20", "kind == 'a'"]).sample(1, np.random.default_rng(0))
