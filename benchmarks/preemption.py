"""What it costs to preempt every worker once: how much is trained twice, and how long nothing is trained.

    python -m benchmarks.preemption --json

Workers over RabbitMQ that share nothing but a folder for checkpoints train a point each, all at the same time. One
after the other is taken away in the middle of its training, and another one comes in an empty work folder. First they
get SIGTERM, as from Slurm; then the same again with SIGKILL, as from a machine that loses its power.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring import median, rabbitmq, show

_TRAINING = """
import os
import time

import hpo_steer


def train(params):
    state = hpo_steer.checkpoint_dir() / "step"
    begin = int(state.read_text()) if state.exists() else 0
    at = hpo_steer.point()
    log = os.open(os.environ["STEPS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    worker = os.environ["HPO_STEER_ATTEMPT_DIR"].split("/worker-")[1].split("/")[0]
    for step in range(begin + 1, {steps} + 1):
        time.sleep({step_s})
        os.write(log, f"{{worker}} {{at.id}} {{at.attempt}} {{step}} {{time.time()}}\\n".encode())
        state.with_suffix(".tmp").write_text(str(step))
        state.with_suffix(".tmp").rename(state)
        hpo_steer.report(step, loss=1.0 / step)
    return params["x"]
"""
_PROGRAMS = Path(sys.executable).parent
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Step:
    """A step that was trained.

    Attributes:
        worker: which worker, from 0; those that come later count on.
        point: of which point.
        attempt: in which attempt.
        step: which one, from 1.
        at: when, in seconds since the epoch.
    """

    worker: int
    point: int
    attempt: int
    step: int
    at: float


class Fleet:
    """An experiment of one point for each worker, and its workers.

    Args:
        folder: for all of it.
        broker: the URL of RabbitMQ.
        workers: how many.
        steps: of a training.
        step_s: how long each takes, seconds.
        interval_s: between checkpoints, seconds.
        phase: which share of an interval has gone by when a worker is taken away.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        *,
        workers: int,
        steps: int,
        step_s: float,
        interval_s: float,
        phase: float,
    ) -> None:
        self._folder, self._size, self._interval_s, self._phase = folder, workers, interval_s, phase
        self._hired = 0
        (folder / "train.py").write_text(_TRAINING.format(steps=steps, step_s=step_s))
        config = {
            "name": "preempted",
            "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "objectives": {"loss": "minimize"},
            "algorithm": "random",
            "steering": {
                "points_per_iteration": workers,
                "trigger": {"fraction": 1.0},
                "max_points": workers,
            },
            "evaluation": {
                "function": "train.py:train",
                "workers": 0,
                "heartbeat_s": 0.5,
                "lease_s": 2.0,
                "env": {"STEPS": str(folder / "steps")},
                "checkpoint": {"url": f"file://{folder}/shared", "interval_s": interval_s},
            },
            "broker": broker,
            "store": str(folder / "runs"),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.steering = self._start("hpo-steer", "--config", "config.yaml", "--json")
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        for _ in range(workers):
            self.hire()

    def hire(self) -> None:
        """A new worker comes, with nothing of its own."""
        number, self._hired = self._hired, self._hired + 1
        arguments = ("--config", "config.yaml", "--work-dir", str(self._folder / f"worker-{number}"))
        self.workers[number] = self._start("hpo-evaluate", *arguments)

    def preempt_all(self, how: signal.Signals) -> dict[int, float]:
        """Takes each of the first workers away in the middle of its training.

        Returns:
            When, by the point it was training, in seconds since the epoch.
        """
        taken: dict[int, float] = {}
        for number in range(self._size):
            while True:
                mine = [step for step in self.trained() if step.worker == number]
                if mine and mine[-1].at - mine[0].at >= (number + self._phase) * self._interval_s:
                    break
                self._wait()
            taken[mine[-1].point] = time.time()
            self.workers[number].send_signal(how)
            self.hire()
        for number in range(self._size):
            code = self.workers[number].wait(_PATIENCE_S)
            assert code == (0 if how == signal.SIGTERM else -how), f"a worker ended with {code}"
        return taken

    def end(self) -> list[dict[str, Any]]:
        """Waits for the end of the experiment; its points as `hpo-steer points` has them."""
        out, err = self.steering.communicate(timeout=_PATIENCE_S)
        if self.steering.returncode:
            raise RuntimeError(f"hpo-steer failed: {out.decode()}{err.decode()}")
        points = self._start("hpo-steer", "points", "--config", "config.yaml", "--json")
        found: list[dict[str, Any]] = yaml.safe_load(points.communicate(timeout=60)[0])
        return found

    def close(self) -> None:
        """Ends all that still runs."""
        for process in (*self.workers.values(), self.steering):
            if process.poll() is None:
                process.kill()
            process.communicate()

    def trained(self) -> list[Step]:
        """The steps so far, in order."""
        file = self._folder / "steps"
        lines = file.read_text().splitlines() if file.exists() else []
        found = []
        for line in lines:
            worker, point, attempt, step, at = line.split()
            found.append(Step(int(worker), int(point), int(attempt), int(step), float(at)))
        return found

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL if program == "hpo-evaluate" else subprocess.PIPE
        return subprocess.Popen(
            [str(_PROGRAMS / program), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=quiet,
            stderr=quiet,
            env=dict(os.environ),
        )

    def _wait(self) -> None:
        if self.steering.poll() is not None:
            raise RuntimeError(f"hpo-steer ended early: {self.steering.communicate()}")
        time.sleep(0.05)


def measure(how: signal.Signals, **sizes: Any) -> dict[str, Any]:
    """Preempts every worker once in one way.

    Args:
        how: the signal.
        sizes: see `Fleet`.

    Returns:
        Steps trained twice, and seconds in which a point was not trained, for each preemption.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hpo-steer-bench-")))
        node = stack.enter_context(rabbitmq())
        fleet = Fleet(folder, node.url, **sizes)
        stack.callback(fleet.close)
        taken = fleet.preempt_all(how)
        points = fleet.end()
        trained = fleet.trained()
    by_attempt: dict[tuple[int, int], list[Step]] = defaultdict(list)
    for step in trained:
        by_attempt[step.point, step.attempt].append(step)
    redone, gaps = [], []
    for point, at in taken.items():
        later = min(attempt for number, attempt in by_attempt if number == point and attempt > 1)
        before = by_attempt[point, later - 1] if (point, later - 1) in by_attempt else by_attempt[point, 1]
        after = by_attempt[point, later]
        redone.append(before[-1].step - after[0].step + 1)
        gaps.append(after[0].at - at)
    seconds = [steps * sizes["step_s"] for steps in redone]
    return {
        "preempted": len(taken),
        "done": sum(point["state"] == "done" for point in points),
        "attempts": [point["attempts"] for point in points],
        "steps_twice": redone,
        "intervals_twice": [each / sizes["interval_s"] for each in seconds],
        "away_s": gaps,
        "median_away_s": median(gaps),
        "cost_intervals": [
            (each + gap) / sizes["interval_s"] for each, gap in zip(seconds, gaps, strict=True)
        ],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1200, help="of a training")
    parser.add_argument("--step-s", type=float, default=0.05, help="how long each takes")
    parser.add_argument("--interval-s", type=float, default=10.0, help="between checkpoints")
    parser.add_argument(
        "--phase", type=float, default=0.9, help="share of an interval gone by when one is taken"
    )
    parser.add_argument("--how", default="term,kill", help="signals: term, kill")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = {
        "workers": arguments.workers,
        "steps": arguments.steps,
        "step_s": arguments.step_s,
        "interval_s": arguments.interval_s,
        "phase": arguments.phase,
    }
    begin = time.perf_counter()
    found = {how: measure(signal.Signals[f"SIG{how.upper()}"], **sizes) for how in arguments.how.split(",")}
    result = {"benchmark": "preemption", **sizes, **found, "took_s": time.perf_counter() - begin}
    lines = [
        f"SIG{how.upper():4} {one['preempted']} workers: at most {max(one['steps_twice'])} steps trained twice "
        f"({max(one['intervals_twice']):.2f} intervals), {one['median_away_s']:.1f} s away; "
        f"at most {max(one['cost_intervals']):.2f} intervals each (goal 2)"
        for how, one in found.items()
    ]
    show(result, lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
