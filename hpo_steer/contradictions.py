"""Why no point satisfies all constraints: which of them are in each other's way, and whether that is certain."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from hpo_steer.parameters import Float, Int

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpo_steer.constraints import Constraint
    from hpo_steer.space import Params, SearchSpace

Linear = dict[str, float]
"""Coefficients by parameter; the constant has the key ``""``."""


def contradiction(space: SearchSpace, tried: Sequence[Params]) -> str:
    """A sentence for a space in which sampling has found no point.

    Two proofs are tried: counting a finite space, and linear programming over the constraints that are linear in
    unconditional numbers. Without a proof the sentence says that the rest may merely be too small.

    Args:
        space: with constraints.
        tried: points that break at least one of them each, uniform over the space.
    """
    linear = {c: rows for c in space.constraints if (rows := _rows(c, space)) is not None}
    if linear and not _feasible(space, [row for rows in linear.values() for row in rows]):
        culprits = _smallest(
            list(linear), lambda kept: not _feasible(space, [row for c in kept for row in linear[c]])
        )
        return _impossible(culprits)
    holds = {c: [c.holds(params) for params in tried] for c in space.constraints}
    culprits = _smallest(
        list(space.constraints),
        lambda kept: not any(all(row) for row in zip(*(holds[c] for c in kept), strict=True)),
    )
    if space.size == 0 and (
        len(culprits) == len(space.constraints) or type(space)(space.parameters, culprits).size == 0
    ):
        return _impossible(culprits)
    return (
        f"no point was found that satisfies {_listed(culprits)}: what they leave of the search space is empty, or "
        "too small to be found by sampling; widen them, or narrow the ranges of the parameters"
    )


def _impossible(culprits: Sequence[Constraint]) -> str:
    if len(culprits) == 1:
        return f"{_listed(culprits)} holds nowhere in the search space; change or drop it"
    both = "both" if len(culprits) == 2 else "all"
    return f"{_listed(culprits)} cannot {both} hold within the search space; change or drop one"


def _listed(constraints: Sequence[Constraint]) -> str:
    *others, last = [f'"{c.text}"' for c in constraints]
    return f"{', '.join(others)} and {last}" if others else last


def _smallest(
    constraints: list[Constraint], contradictory: Callable[[list[Constraint]], bool]
) -> list[Constraint]:
    """A set of which none can be left out, by leaving out one after the other."""
    kept = constraints
    for each in constraints:
        rest = [c for c in kept if c is not each]
        if rest and contradictory(rest):
            kept = rest
    return kept


# ---------------------------------------------------------------- linear ones


def _feasible(space: SearchSpace, rows: Sequence[tuple[Linear, bool]]) -> bool:
    """Whether some numbers within the parameters' bounds satisfy all rows; integers may be broken."""
    from scipy.optimize import linprog

    numbers = [p for p in space if isinstance(p, (Float, Int))]

    def matrix(equal: bool) -> tuple[list[list[float]] | None, list[float] | None]:
        chosen = [row for row, is_equal in rows if is_equal == equal]
        if not chosen:
            return None, None
        return [[row.get(p.name, 0.0) for p in numbers] for row in chosen], [-row[""] for row in chosen]

    (a_ub, b_ub), (a_eq, b_eq) = matrix(False), matrix(True)
    bounds = [(p.low, p.high) for p in numbers]
    found = linprog([0.0] * len(numbers), A_ub=a_ub, b_ub=b_ub, A_eq=a_eq, b_eq=b_eq, bounds=bounds)
    return int(found.status) != 2  # 2: proven infeasible


def _rows(constraint: Constraint, space: SearchSpace) -> list[tuple[Linear, bool]] | None:
    """The constraint as rows that are at most 0 (or equal to it); None if it is not linear."""
    if any(not isinstance(space[n], (Float, Int)) or space[n].when for n in constraint.names):
        return None
    try:
        return _comparisons(ast.parse(constraint.text.strip(), mode="eval").body)
    except _NotLinearError:
        return None


class _NotLinearError(Exception):
    """The expression is not linear."""


def _comparisons(node: ast.expr) -> list[tuple[Linear, bool]]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [row for part in node.values for row in _comparisons(part)]
    if not isinstance(node, ast.Compare):
        raise _NotLinearError
    sides = [_linear(side) for side in (node.left, *node.comparators)]
    rows: list[tuple[Linear, bool]] = []
    for left, sign, right in zip(sides, node.ops, sides[1:], strict=False):
        if isinstance(sign, (ast.LtE, ast.Lt, ast.Eq)):
            rows.append((_sum(left, right, -1.0), isinstance(sign, ast.Eq)))
        elif isinstance(sign, (ast.GtE, ast.Gt)):
            rows.append((_sum(right, left, -1.0), False))
        else:
            raise _NotLinearError
    return rows


def _linear(node: ast.expr) -> Linear:  # noqa: PLR0911 - a case for each kind of node
    match node:
        case ast.Constant(value=bool()):
            raise _NotLinearError
        case ast.Constant(value=int() | float() as value):
            return {"": float(value)}
        case ast.Name(id=name):
            return {"": 0.0, name: 1.0}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _times(_linear(operand), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _linear(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sum(_linear(left), _linear(right), 1.0)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _sum(_linear(left), _linear(right), -1.0)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            a, b = _linear(left), _linear(right)
            return _times(a, b[""]) if len(b) == 1 else _times(b, _constant(a))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            divisor = _constant(_linear(right))
            if divisor == 0.0:
                raise _NotLinearError
            return _times(_linear(left), 1.0 / divisor)
    raise _NotLinearError


def _constant(form: Mapping[str, float]) -> float:
    if len(form) > 1:
        raise _NotLinearError
    return form[""]


def _times(form: Mapping[str, float], factor: float) -> Linear:
    return {name: factor * value for name, value in form.items()}


def _sum(a: Mapping[str, float], b: Mapping[str, float], factor: float) -> Linear:
    return {name: a.get(name, 0.0) + factor * b.get(name, 0.0) for name in {**a, **b}}
