"""Constraints over parameters, written as expressions: ``max_depth * eta <= 3``.

An expression may use parameters, numbers, strings, ``+ - * / // % **``, comparisons (also chained), ``and``,
``or``, ``not`` and the functions listed in `FUNCTIONS`. Nothing else is accepted, and nothing else can run.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CodeType

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}

_NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.UAdd, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE,
    ast.Gt, ast.GtE, ast.Call, ast.Name, ast.Load, ast.Constant,
)  # fmt: skip


_POWER = "**"  # no name that an expression could hold
_SCOPE: dict[str, Any] = {"__builtins__": {}, **FUNCTIONS, _POWER: math.pow}


class _BoundedPowers(ast.NodeTransformer):
    """Has powers computed in floating point: those of integers can take longer than anybody waits."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Pow):
            return node
        return ast.Call(ast.Name(_POWER, ast.Load()), [node.left, node.right], [])


@dataclass(frozen=True)
class Constraint:
    """One condition on the parameters of a point.

    A constraint over a parameter that is switched off in a point does not apply to that point.

    Attributes:
        text: the expression as written.
        names: the parameters in it.
    """

    text: str
    names: frozenset[str]
    code: CodeType = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str, parameters: Iterable[str], key: str = "constraints") -> Constraint:
        """Reads an expression.

        Raises:
            ConfigError: it is no such expression, or names an unknown parameter.
        """
        parameters = set(parameters)
        if not isinstance(text, str):
            raise ConfigError(key, f'expected an expression like "a + b <= 1", got {text!r}')
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except SyntaxError as exc:
            raise ConfigError(key, f'"{text}" is no expression ({exc.msg})') from None
        called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        names = set()
        for node in ast.walk(tree):
            if not isinstance(node, _NODES) or (isinstance(node, ast.Call) and node.keywords):
                raise ConfigError(key, f'"{text}": {type(node).__name__} is not allowed in a constraint')
            if isinstance(node, ast.Name):
                valid = set(FUNCTIONS) if id(node) in called else parameters
                if node.id not in valid:
                    what = "function" if id(node) in called else "parameter"
                    raise ConfigError(key, f'"{text}": unknown {what} "{node.id}"; {nearest(node.id, valid)}')
                if id(node) not in called:
                    names.add(node.id)
            if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
                raise ConfigError(key, f'"{text}": only plain functions can be called')
        if not names:
            raise ConfigError(key, f'"{text}" names no parameter')
        tree = ast.fix_missing_locations(_BoundedPowers().visit(tree))
        return cls(text, frozenset(names), compile(tree, "<constraint>", "eval"))

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether a point satisfies it. A value it cannot be computed for (1/0, log of -1) does not."""
        if not self.names <= params.keys():
            return True
        try:
            return bool(eval(self.code, _SCOPE, dict(params)))  # noqa: S307 - only checked nodes get here
        except (ArithmeticError, ValueError, TypeError):
            return False
