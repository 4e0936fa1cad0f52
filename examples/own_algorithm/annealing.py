"""Simulated annealing over any space of numbers: Kirkpatrick, Gelatt and Vecchi, Science 220 (1983)."""

import math

import numpy as np

from hpo_steer import SearchAlgorithm


class Annealing(SearchAlgorithm):
    """Steps away from the current point; a worse one is accepted with a chance that falls as the search cools.

    Options of the config, all with defaults: `start` (the first temperature, in units of the objective),
    `cooling` (its factor from one result to the next), `width` (of a step, as a share of each range).
    """

    def __init__(self, space, objectives, seed=0, *, start=1.0, cooling=0.95, width=0.25):
        super().__init__(space, objectives, seed)
        if not 0 < cooling < 1:
            raise ValueError(f"cooling lies between 0 and 1, got {cooling}")
        self.rng = np.random.default_rng(seed)
        self.temperature, self.cooling, self.width = start, cooling, width
        self.place = None  # of the current point, in the unit cube
        self.energy = math.inf
        self.seen = set()

    def ask(self, n):
        points = []
        while len(points) < n:
            params = self.neighbour()
            key = self.space.hash(params)
            if key not in self.seen:  # neither evaluated nor running
                self.seen.add(key)
                points.append(params)
        return points

    def neighbour(self):
        """A point near the current one that satisfies the constraints; anywhere while there is none."""
        while True:
            if self.place is None:
                return self.space.sample(1, self.rng)[0]
            step = self.rng.normal(scale=self.width, size=len(self.space))
            params = self.space.decode(np.clip(self.place + step, 0.0, 1.0))
            if self.space.broken(params) is None:
                return params

    def tell(self, observations):
        goal = self.objectives[0]
        for observation in observations:
            if observation.failure is not None:
                continue  # a failure has no value: the search stays where it is
            energy = goal.sign * observation.values[goal.name]
            worse = energy - self.energy
            if worse <= 0 or self.rng.random() < math.exp(-worse / self.temperature):
                self.place = np.array(self.space.encode(observation.params))
                self.energy = energy
            self.temperature *= self.cooling
