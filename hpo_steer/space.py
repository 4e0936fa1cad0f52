"""The search space: named parameters, the conditions that switch them on, and constraints over them."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpo_steer.constraints import Constraint
from hpo_steer.errors import ConfigError, OutsideSpace, nearest
from hpo_steer.parameters import Categorical, Float, Int, Parameter, Value, canonical, parameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Params = dict[str, Value]


def point_hash(params: Mapping[str, Value], parent: int | None = None) -> str:
    """`SearchSpace.hash` of parameters that are in their canonical form."""
    text = canonical(dict(params)) + ("" if parent is None else f" after {parent}")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_TRIES = 100_000
_KEPT = 20_000


class SearchSpace:
    """Named parameters and constraints over them.

    A point of the space is a dict that holds a value for every *active* parameter and no other key. A parameter
    with `when` is active if its parents are, and have the values asked for.

    Args:
        parameters: the parameters; `when` may refer to any other of them, but not in a circle.
        constraints: conditions every point satisfies.

    Raises:
        ConfigError: an unknown parent, a circle, or a condition that can never hold.

    Example:
        >>> space = SearchSpace.from_dict({"x": {"type": "int", "low": 1, "high": 3}})
        >>> space.encode({"x": 2})
        [0.5]
        >>> space.decode([0.9])
        {'x': 3}
    """

    def __init__(self, parameters: Sequence[Parameter], constraints: Sequence[Constraint] = ()) -> None:
        if not parameters:
            raise ConfigError("search_space", "is empty; it needs one parameter at least")
        self.constraints = tuple(constraints)
        self._by_name = {p.name: p for p in parameters}
        self.parameters = tuple(self._by_name.values())
        self._parents_first = self._ordered()

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any], constraints: Sequence[str] = ()) -> SearchSpace:
        """Builds a space from the ``search_space`` (and ``constraints``) of a config.

        Raises:
            ConfigError: naming the key and what is wrong with it.
        """
        if not isinstance(spec, Mapping):
            raise ConfigError("search_space", f"expected parameters by name, got {spec!r}")
        parameters = [parameter(str(name), entry) for name, entry in spec.items()]
        names = [p.name for p in parameters]
        return cls(
            parameters,
            [Constraint.parse(text, names, f"constraints[{i}]") for i, text in enumerate(constraints)],
        )

    # ---------------------------------------------------------------- shape

    def __len__(self) -> int:
        return len(self.parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def conditional(self) -> bool:
        """Whether some parameter can be switched off."""
        return any(p.when for p in self.parameters)

    @cached_property
    def size(self) -> int | None:
        """How many points satisfy it, where that can be counted (a million cells at most); else None."""
        if any(p.count is None for p in self.parameters):
            return None
        if math.prod(p.count or 1 for p in self.parameters) > 1_000_000:
            return None
        if not self.constraints and not self.conditional:
            return math.prod(p.count or 1 for p in self.parameters)
        return sum(1 for _ in self.cells())

    def _ordered(self) -> tuple[Parameter, ...]:
        """Parents before children.

        Raises:
            ConfigError: a condition names no parameter, an impossible value, or the conditions form a circle.
        """
        for p in self.parameters:
            for parent, wanted in p.when.items():
                key = f"search_space.{p.name}.when"
                if parent not in self._by_name:
                    raise ConfigError(key, f'no parameter "{parent}"; {nearest(parent, self._by_name)}')
                source = self._by_name[parent]
                if isinstance(source, Float):
                    raise ConfigError(key, f'"{parent}" is a float; conditions need a categorical or an int')
                values = {canonical(v) for v in source.values()}
                if wrong := sorted(wanted - values):
                    raise ConfigError(key, f'"{parent}" never is {wrong[0]}; {nearest(wrong[0], values)}')
        ordered: dict[str, Parameter] = {}
        rest = dict(self._by_name)
        while rest:
            ready = [p for p in rest.values() if all(parent in ordered for parent in p.when)]
            if not ready:
                raise ConfigError(
                    f"search_space.{next(iter(rest))}.when",
                    "these conditions form a circle: " + ", ".join(sorted(rest)),
                )
            for p in ready:
                ordered[p.name] = rest.pop(p.name)
        return tuple(ordered.values())

    # ---------------------------------------------------------------- points

    def validate(self, params: Mapping[str, Value]) -> Params:
        """The point in its canonical form: values in their own types, keys in the space's order.

        Raises:
            OutsideSpace: a key is unknown, missing or switched off, a value is out of bounds, or a constraint fails.
        """
        for name in params:
            if name not in self._by_name:
                raise OutsideSpace(f'there is no parameter "{name}"; {nearest(str(name), self._by_name)}')
        checked: Params = {}
        for p in self._parents_first:
            if p.active(checked):
                if p.name not in params:
                    raise OutsideSpace(f'the value of "{p.name}" is missing')
                checked[p.name] = p.check(params[p.name])
            elif p.name in params:
                raise OutsideSpace(f'"{p.name}" is switched off by its condition and must not be given')
        if broken := self.broken(checked):
            raise OutsideSpace(f'the constraint "{broken.text}" does not hold')
        return self._in_order(checked)

    def broken(self, params: Mapping[str, Value]) -> Constraint | None:
        """The first constraint a point breaks, or None."""
        return next((c for c in self.constraints if not c.holds(params)), None)

    def _in_order(self, params: Params) -> Params:
        return {p.name: params[p.name] for p in self.parameters if p.name in params}

    def encode(self, params: Mapping[str, Value]) -> list[float]:
        """The point in the unit cube, one number a parameter in the space's order; 0.5 where switched off."""
        return [p.encode(params[p.name]) if p.name in params else 0.5 for p in self.parameters]

    def decode(self, unit: Sequence[float]) -> Params:
        """The point at a place of the unit cube. Constraints are not enforced: see `broken`."""
        if len(unit) != len(self.parameters):
            raise ValueError(f"expected {len(self.parameters)} coordinates, got {len(unit)}")
        if not self.conditional:
            return {p.name: p.decode(float(u)) for p, u in zip(self.parameters, unit, strict=True)}
        places = {p.name: float(u) for p, u in zip(self.parameters, unit, strict=True)}
        params: Params = {}
        for p in self._parents_first:
            if not p.when or p.active(params):
                params[p.name] = p.decode(places[p.name])
        return self._in_order(params)

    def encode_many(self, points: Sequence[Mapping[str, Value]]) -> NDArray[np.float64]:
        """The points as an ``n x d`` array in the unit cube."""
        import numpy as np

        return np.array([self.encode(p) for p in points], dtype=np.float64).reshape(len(points), len(self))

    def sample(self, n: int, rng: np.random.Generator) -> list[Params]:
        """`n` points, uniform over the unit cube among those that satisfy the constraints.

        Raises:
            ConfigError: the constraints leave (almost) nothing: no point in 100,000 tries. It names those that are
                in each other's way.
        """
        points: list[Params] = []
        missed: list[Params] = []
        misses = 0
        while len(points) < n:
            for row in rng.random((max(n - len(points), 16), len(self))).tolist():
                params = self.decode(row)
                if self.broken(params) is None:
                    points.append(params)
                    misses = 0
                    if len(points) == n:
                        break
                else:
                    misses += 1
                    if len(missed) < _KEPT:
                        missed.append(params)
            if misses >= _TRIES:
                from hpo_steer.contradictions import contradiction

                raise ConfigError("constraints", contradiction(self, missed))
        return points

    def cells(self, resolution: int | None = None) -> Iterator[Params]:
        """Every point of the grid once, the last parameter turning fastest.

        Args:
            resolution: how many values a float without a step gets.
        """
        axes = [p.values(resolution) for p in self.parameters]
        seen: set[str] = set()
        for values in itertools.product(*axes):
            row = dict(zip(self._by_name, values, strict=True))
            if self.conditional:
                row = self.without_inactive(row)
                key = canonical(row)
                if key in seen:
                    continue
                seen.add(key)
            if self.broken(row) is None:
                yield row

    def without_inactive(self, row: Mapping[str, Value]) -> Params:
        """A value for every parameter, less those of the parameters that the others switch off."""
        params: Params = {}
        for p in self._parents_first:
            if p.active(params):
                params[p.name] = row[p.name]
        return self._in_order(params)

    def hash(self, params: Mapping[str, Value], parent: int | None = None) -> str:
        """32 hex digits that two points share exactly if they are the same point (1 and 1.0 of a float are).

        Args:
            params: of the point.
            parent: the point it continues, if any: the same parameters after another one are another point.

        Raises:
            OutsideSpace: as in `validate`, but constraints are not checked.
        """
        typed = {name: self._by_name[name].check(value) for name, value in params.items()}
        return point_hash(typed, parent)

    def to_dict(self) -> dict[str, Any]:
        """The ``search_space`` of a config that makes this space again."""
        import json

        spec: dict[str, Any] = {}
        for p in self.parameters:
            entry: dict[str, Any]
            if isinstance(p, Categorical):
                entry = {"type": "categorical", "choices": list(p.choices)}
            elif isinstance(p, Int):
                entry = {"type": "int", "low": p.low, "high": p.high}
                entry |= {"step": p.step} if p.step != 1 else {}
                entry |= {"log": True} if p.log else {}
            elif isinstance(p, Float):
                entry = {"type": "float", "low": p.low, "high": p.high}
                entry |= {"step": p.step} if p.step is not None else {}
                entry |= {"log": True} if p.log else {}
            else:
                raise TypeError(f"{type(p).__name__} has no form in a config")
            if p.when:
                entry["when"] = {k: [json.loads(v) for v in sorted(vs)] for k, vs in p.when.items()}
            spec[p.name] = entry
        return spec
