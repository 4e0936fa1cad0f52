"""Linear inequalities are found in constraints, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms.affine import HalfSpace, half_spaces
from hpo_steer.constraints import Constraint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a + b <= 1", [HalfSpace({"a": 1.0, "b": 1.0}, 1.0)]),
        ("a > b", [HalfSpace({"b": 1.0, "a": -1.0}, 0.0)]),
        ("2 * (a - 3) / 4 <= -b", [HalfSpace({"a": 0.5, "b": 1.0}, 1.5)]),
        ("0 <= a <= 2", [HalfSpace({"a": -1.0}, 0.0), HalfSpace({"a": 1.0}, 2.0)]),
        ("a <= 1 and a * b <= 2 and +b >= 3", [HalfSpace({"a": 1.0}, 1.0), HalfSpace({"b": -1.0}, -3.0)]),
        ("a <= 1 or b <= 1", []),
        ("not a <= 1", []),
        ("a - a <= b - b", []),
        ("a == b", []),
        ("a * b <= 8", []),
        ("8 / a <= 2", []),
        ("a / 0 <= 2", []),
        ("a ** 2 <= 2", []),
        ("sqrt(a) <= 2", []),
        ("a <= max(b, 1)", []),
        ("kind == 'tree'", []),
    ],
)
def test_linear_inequalities_are_found(text: str, found: list[HalfSpace]) -> None:
    assert half_spaces(text) == found


WHOLE = st.integers(-9, 9)


@given(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)
def test_a_point_is_in_the_half_space_iff_the_constraint_holds(
    p: int, q: int, r: int, a: int, b: int
) -> None:
    text = f"{p} * a - b * {q} + a / 2 >= {r} - b"
    constraint = Constraint.parse(text, ["a", "b"])
    values = {"a": a, "b": b}
    inside = all(sum(w * values[n] for n, w in h.weights.items()) <= h.bound for h in half_spaces(text))
    if half_spaces(text):
        assert inside == constraint.holds(values)
