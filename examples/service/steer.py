"""A steering service: random search around the best point, as JSON lines on standard input and output."""

import json
import random
import sys


class Search:
    """One model's search."""

    def __init__(self, opening):
        self.space = opening["search_space"]
        self.rng = random.Random(opening["seed"])
        self.best = None  # (loss, params)

    def tell(self, observation):
        if "values" in observation:
            loss = observation["values"]["loss"]
            if self.best is None or loss < self.best[0]:
                self.best = loss, observation["params"]

    def propose(self):
        return {name: self.draw(name, entry) for name, entry in self.space.items()}

    def draw(self, name, entry):
        low, high = entry["low"], entry["high"]
        if self.best is None or self.rng.random() < 0.3:
            return self.rng.uniform(low, high)
        step = self.rng.gauss(0, 0.1) * (high - low)
        return min(max(self.best[1][name] + step, low), high)


def answer(**message):
    print(json.dumps(message), flush=True)


searches = {}
for line in sys.stdin:
    request = json.loads(line)
    model = request["model"]
    if request["op"] == "open":
        searches[model] = Search(request)
        answer(op="opened", model=model)
    elif request["op"] == "tell":
        for observation in request["observations"]:
            searches[model].tell(observation)
    elif request["op"] == "ask":
        points = [{"params": searches[model].propose()} for _ in range(request["n"])]
        answer(op="points", model=model, points=points, ended=None)
