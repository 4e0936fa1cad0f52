"""A user's algorithm, which runs in a process of its own and whose every proposal depends on the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SEARCH = '''
"""Random steps from the best point so far."""

import random

import hpo_steer


class Search(hpo_steer.SearchAlgorithm):
    def __init__(self, space, objectives, seed=0):
        super().__init__(space, objectives, seed)
        self.rng = random.Random(seed)
        self.best, self.x = float("inf"), 0.5
        self.told = 0

    def ask(self, n):
        return [{"x": self.near(), "k": self.rng.randint(1, 9)} for _ in range(n)]

    def near(self):
        width = 0.5 / (1 + self.told)
        return min(max(self.x + self.rng.uniform(-width, width), 0.0), 1.0)

    def tell(self, observations):
        for observation in observations:
            self.told += 1
            if observation.values and observation.values["loss"] < self.best:
                self.best, self.x = observation.values["loss"], observation.params["x"]
'''


def with_search(folder: Path) -> dict[str, Any]:
    """Puts the algorithm into a project's folder; the config's key for it."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "search.py").write_text(_SEARCH)
    return {"algorithm": {"class": "search.py:Search"}}
