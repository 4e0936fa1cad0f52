"""Differential evolution as a generator of the standard gest-api: Storn and Price, J. Global Optim. 11 (1997)."""

import numpy as np
from gest_api import Generator
from gest_api.vocs import ContinuousVariable


class DifferentialEvolution(Generator):
    """Each child is a member of the population, moved by the difference of two others.

    It takes its random numbers from NumPy's global ones, as most generators do: hpo-steer seeds them.
    """

    returns_id = True

    def __init__(self, vocs, *, population=10, weight=0.8, crossover=0.9):
        super().__init__(vocs)
        (self.goal,) = vocs.objective_names
        self.sign = 1.0 if vocs.objectives[self.goal].__class__.__name__ == "MinimizeObjective" else -1.0
        self.names = vocs.variable_names
        self.low, self.high = np.array(vocs.bounds).T
        self.size, self.weight, self.crossover = population, weight, crossover
        self.members = []  # (value, place), the smaller the better
        self.parents = {}  # id of a suggestion to the index of its parent
        self.next_id = 0

    def _validate_vocs(self, vocs):
        if vocs.n_objectives != 1 or vocs.n_constraints:
            raise ValueError("differential evolution takes one objective and no constraints")
        discrete = [n for n, v in vocs.variables.items() if not isinstance(v, ContinuousVariable)]
        if discrete:
            raise ValueError(f"differential evolution takes numbers only; discrete: {', '.join(discrete)}")

    def suggest(self, num_points):
        return [self._child() for _ in range(num_points or self.size)]

    def _child(self):
        parent = None
        if len(self.members) < self.size:
            place = np.random.uniform(self.low, self.high)
        else:
            parent, a, b, c = np.random.choice(self.size, 4, replace=False)
            moved = self._place(a) + self.weight * (self._place(b) - self._place(c))
            crossed = np.random.random(len(self.names)) < self.crossover
            place = np.clip(np.where(crossed, moved, self._place(parent)), self.low, self.high)
        self.next_id += 1
        self.parents[self.next_id] = parent
        return {"_id": self.next_id, **dict(zip(self.names, place, strict=True))}

    def _place(self, index):
        return self.members[index][1]

    def ingest(self, results):
        for result in results:
            parent = self.parents.pop(result.get("_id"), None)  # points of others have no _id
            member = (self.sign * result[self.goal], np.array([result[name] for name in self.names]))
            if len(self.members) < self.size:
                self.members.append(member)
            else:
                rival = (
                    parent if parent is not None else max(range(self.size), key=lambda i: self.members[i][0])
                )
                if member[0] < self.members[rival][0]:
                    self.members[rival] = member
