"""An algorithm that does not answer in time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.program import Project

if TYPE_CHECKING:
    from pathlib import Path

STUCK = """
import time
import hpo_steer

class Stuck(hpo_steer.SearchAlgorithm):
    known = 0

    def ask(self, n):
        if self.known == 3:
            time.sleep(600)
        self.known += n
        return [{"x": (self.known + i) / 64, "k": 1} for i in range(n)]

    def tell(self, observations):
        pass

    def adopt(self, points):
        self.known += len(points)
"""


def test_points_stand_in_for_those_of_an_algorithm_that_takes_too_long(tmp_path: Path) -> None:
    """It is started anew, hears of the points that stood in, and goes on; the run can be repeated from its store."""
    rules = {"points_per_iteration": 3, "trigger": {"fraction": 1.0}, "max_points": 9, "ask_timeout_s": 3.0}
    project = Project(tmp_path, algorithm={"class": "mine.py:Stuck"}, steering=rules)
    (tmp_path / "mine.py").write_text(STUCK)
    out, _ = project.steer()
    sentence = "mine.py:Stuck has not chosen 3 points within 3 s (steering.ask_timeout_s): points of a Sobol sequence"
    assert out.count(sentence) == 1
    points = project.points()
    assert [(p["iteration"], p["state"]) for p in points] == [
        (i, "done") for i in (1, 1, 1, 2, 2, 2, 3, 3, 3)
    ]
    assert [p["params"]["x"] for p in points[6:]] == [9 / 64, 10 / 64, 11 / 64]
    assert len({json.dumps(p["params"]) for p in points}) == 9
    out, _ = project.run("replay", "--config", "config.yaml", "--json")
    assert json.loads(out)["reproduced"] is True
