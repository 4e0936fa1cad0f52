"""Reads the linear inequalities out of constraints, for methods that can search a polytope."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LESS = (ast.Lt, ast.LtE)
_MORE = (ast.Gt, ast.GtE)


@dataclass(frozen=True)
class HalfSpace:
    """The points with ``sum(weights[name] * value[name]) <= bound``.

    Attributes:
        weights: by parameter; at least one, none of them zero.
        bound: finite.
    """

    weights: Mapping[str, float]
    bound: float


def half_spaces(expression: str) -> list[HalfSpace]:
    """The linear inequalities that an expression implies, as in ``2 * a + b <= 3 and a >= b``.

    Parts that are not linear are left out, so that a point which breaks a half-space breaks the expression, and
    not the other way round. A strict inequality is taken as one that is not.

    Example:
        >>> half_spaces("1 <= a + 2 * b")
        [HalfSpace(weights={'a': -1.0, 'b': -2.0}, bound=-1.0)]
        >>> half_spaces("a * b <= 8")
        []
    """
    return list(_of(ast.parse(expression.strip(), mode="eval").body))


def _of(node: ast.expr) -> Iterator[HalfSpace]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _of(part)
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        for left, sign, right in zip(sides, node.ops, sides[1:], strict=False):
            if isinstance(sign, (*_LESS, *_MORE)):
                smaller, larger = (left, right) if isinstance(sign, _LESS) else (right, left)
                yield from _below(smaller, larger)


def _below(smaller: ast.expr, larger: ast.expr) -> Iterator[HalfSpace]:
    a, b = _form(smaller), _form(larger)
    if a is not None and b is not None:
        difference = _sum(a, b, -1.0)
        constant = difference.pop("", 0.0)
        weights = {name: weight for name, weight in difference.items() if weight}
        if weights:
            yield HalfSpace(weights, 0.0 - constant)


def _form(node: ast.expr) -> dict[str, float] | None:
    """Weights by name, the constant under the empty name; None if the expression is not linear."""
    form: dict[str, float] | None = None
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        form = {"": float(node.value)}
    elif isinstance(node, ast.Name):
        form = {node.id: 1.0}
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        inner = _form(node.operand)
        if inner is not None:
            form = _scaled(inner, -1.0 if isinstance(node.op, ast.USub) else 1.0)
    elif isinstance(node, ast.BinOp):
        left, right = _form(node.left), _form(node.right)
        if left is not None and right is not None:
            form = _combined(node.op, left, right)
    return form


def _combined(op: ast.operator, left: dict[str, float], right: dict[str, float]) -> dict[str, float] | None:
    if isinstance(op, (ast.Add, ast.Sub)):
        return _sum(left, right, 1.0 if isinstance(op, ast.Add) else -1.0)
    if isinstance(op, ast.Mult):
        for constant, other in ((left, right), (right, left)):
            if constant.keys() == {""}:
                return _scaled(other, constant[""])
    if isinstance(op, ast.Div) and right.keys() == {""} and right[""]:
        return _scaled(left, 1.0 / right[""])
    return None


def _sum(left: dict[str, float], right: dict[str, float], sign: float) -> dict[str, float]:
    return {name: left.get(name, 0.0) + sign * right.get(name, 0.0) for name in {**left, **right}}


def _scaled(form: dict[str, float], factor: float) -> dict[str, float]:
    return {name: factor * weight for name, weight in form.items()}
