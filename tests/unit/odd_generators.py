"""Generators of the standard that misbehave, each in its own way."""

from __future__ import annotations

import random
from typing import Any

import numpy as np


class Plain:
    """Uniform points from NumPy's and Python's global random numbers; keeps what it is told."""

    returns_id = True

    def __init__(self, vocs: Any, *, width: float = 1.0) -> None:
        self.vocs, self.width = vocs, width
        self.number = 0
        self.told: list[dict[str, Any]] = []

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        return [self.row() for _ in range(num_points or 1)]

    def row(self) -> dict[str, Any]:
        self.number += 1
        row: dict[str, Any] = {"_id": self.number, "mine": "kept"}
        for name, variable in self.vocs.variables.items():
            if hasattr(variable, "domain"):
                row[name] = np.random.uniform(*variable.domain)
            else:
                row[name] = random.choice(sorted(variable.values))  # noqa: S311
        return row

    def ingest(self, results: list[dict[str, Any]]) -> None:
        self.told += results


class Few(Plain):
    """One point, whatever was wanted."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        return super().suggest(1)


class Many(Plain):
    """Four points and nothing else."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        if num_points is not None:
            raise ValueError("four at a time")
        return super().suggest(4)


class Silent(Plain):
    """No points at all."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        return []


class Same(Plain):
    """The same point for ever."""

    def row(self) -> dict[str, Any]:
        return {name: variable.domain[1] for name, variable in self.vocs.variables.items()}


class Late(Plain):
    """It has to see a result first."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        if not self.told:
            raise RuntimeError("no data")
        return super().suggest(num_points)


class Outside(Plain):
    """Points outside the space."""

    def row(self) -> dict[str, Any]:
        return dict.fromkeys(self.vocs.variables, 1000000000.0)


class Single(Plain):
    """One at a time, and results of nothing else: a sequential method."""

    waiting: int | None = None

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        if num_points != 1 or self.waiting is not None:
            raise RuntimeError("one at a time")
        (row,) = super().suggest(1)
        self.waiting = row["_id"]
        return [row]

    def ingest(self, results: list[dict[str, Any]]) -> None:
        if any(result.get("_id") != self.waiting for result in results):
            raise RuntimeError("not mine")
        super().ingest(results)
        self.waiting = None


class Unseeded(Plain):
    """Random numbers that nobody can seed."""

    def __init__(self, vocs: Any) -> None:
        super().__init__(vocs)
        self.rng = np.random.default_rng()

    def row(self) -> dict[str, Any]:
        return {name: self.rng.uniform(*v.domain) for name, v in self.vocs.variables.items()}
