"""What a container costs per point, and what is left of one when its steering is killed.

    python -m benchmarks.containers --json
    python -m benchmarks.containers --kills 50

Each way to evaluate a point is measured with the worker's own runner: a process or container for each point, and one
that stays up, in every runtime that works here. The training sleeps for a set time; the *overhead* is what a point
takes beyond it. All ways take their turns in every round, and medians over the rounds are compared, so that a busy
machine slows them alike.

With ``--kills N`` a steering whose container is choosing points is killed with SIGKILL N times, at a random moment,
and whatever is left of its containers ten seconds later is counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import machine, median, show
from containers.errors import ContainerError
from containers.warden import Warden
from evaluation.attempt import AttemptFolder
from evaluation.launch import Assignment, make_runner
from evaluation.runners.base import Runner, Task
from hpo_steer.config.evaluation import Evaluation
from hpo_steer.messages import Work
from hpo_steer.transport import BrokerSettings
from tests.servers.containers import BASE, containers_here, set_up_podman

if TYPE_CHECKING:
    from collections.abc import Iterator

TRAINING = """
import time
def train(params):
    time.sleep(params["sleep"])
    return 0.0
"""
COMMAND = "import sys, time; time.sleep(float(sys.argv[1])); print(0.0)"
LEFT_S = 10.0


class Way:
    """One way to evaluate points.

    Args:
        folder: the payload's.
        evaluation: as in a config.
    """

    def __init__(self, folder: Path, name: str, evaluation: dict[str, Any]) -> None:
        self.name, self._work_dir, self._count = name, folder / name.replace(" ", "-"), 0
        self.seconds: list[float] = []
        for part in ("points", "logs"):
            (self._work_dir / part).mkdir(parents=True)
        self._warden = Warden(f"benchmark-{os.getpid()}-{name.replace(' ', '-')}")
        assignment = Assignment(
            "benchmark",
            Evaluation.model_validate(evaluation),
            ["loss"],
            ["sleep"],
            BrokerSettings("local"),
            folder,
            self._work_dir,
        )
        self._runner: Runner = make_runner(assignment, self._warden, self._work_dir / "logs", lambda _: None)
        self._runner.warm(1)

    def point(self, sleep: float) -> float:
        """Evaluates one point; seconds it took beyond its training."""
        self._count += 1
        work = Work(
            experiment="benchmark",
            run="r",
            point=self._count,
            attempt=1,
            model="main",
            iteration=1,
            params={"sleep": sleep},
        )
        folder = AttemptFolder(str(self._work_dir / f"points/{self._count}/attempt-1"))
        begin = time.perf_counter()
        handle = self._runner.start(Task(work, 0, folder, self._work_dir / f"logs/{self._count}.log"))
        while (outcome := handle.poll(time.monotonic())) is None:
            select.select(handle.fds(), [], [], 0.1)
        took = time.perf_counter() - begin
        assert outcome.metrics == {"loss": 0.0}, outcome
        folder.remove()
        return took - sleep

    def close(self) -> None:
        """Ends it."""
        self._runner.close()
        self._warden.close()


def runtimes() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every runtime that works here, with an image for it."""
    os.environ.setdefault("USER", "root")
    yield "none", {"runtime": "none"}
    if BASE.is_dir():
        yield "podman", {"runtime": "podman", "image": set_up_podman()}
        yield "charliecloud", {"runtime": "charliecloud", "image": str(BASE)}


def overhead(rounds: int, points: int, sleep: float) -> dict[str, Any]:
    """Seconds a point takes beyond its training, each way, in medians over rounds."""
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as scratch:
        folder = Path(scratch)
        (folder / "train.py").write_text(TRAINING)
        ways: list[Way] = []
        skipped: dict[str, str] = {}
        for runtime, container in runtimes():
            forms: dict[str, dict[str, Any]] = {
                "command": {"command": ["python3", "-c", COMMAND, "{sleep}"]},
                "function": {"function": "train.py:train", "python": "python3"},
                "staying up": {"function": "train.py:train", "python": "python3", "reuse": True},
            }
            for form, evaluation in forms.items():
                try:
                    ways.append(Way(folder, f"{runtime} {form}", {**evaluation, "container": container}))
                except ContainerError as exc:
                    skipped[runtime] = str(exc)
                    break
        try:
            for way in ways:
                way.point(sleep)  # the first one of a warm child pays for its start
            for _ in range(rounds):
                for way in ways:
                    way.seconds.append(median([way.point(sleep) for _ in range(points)]))
        finally:
            for way in ways:
                way.close()
    figures = {way.name: median(way.seconds) for way in ways}
    bare = figures["none staying up"] + sleep
    return {
        "rounds": rounds,
        "points_per_round": points,
        "training_s": sleep,
        "overhead_s": {name: round(value, 6) for name, value in figures.items()},
        "staying_up_to_bare": {
            name: round((value + sleep) / bare, 4)
            for name, value in figures.items()
            if name.endswith("staying up")
        },
        "skipped": skipped,
    }


def kills(number: int, seed: int = 0) -> dict[str, Any]:
    """Kills steering while its container works; how often something was left."""
    rng = random.Random(seed)  # noqa: S311 - it draws moments
    image = set_up_podman()
    left: list[list[str]] = []
    caught = 0
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as scratch:
        folder = Path(scratch)
        (folder / "steer.py").write_text("import time\ntime.sleep(1000)\n")
        for kill in range(number):
            name = f"kill-{kill}"
            config = {
                "name": name,
                "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
                "objectives": {"loss": "minimize"},
                "algorithm": {
                    "command": "python3 steer.py %IN %OUT",
                    "container": {"image": image, "runtime": "podman"},
                },
                "evaluation": {"command": ["true"], "workers": 1},
            }
            (folder / "config.json").write_text(json.dumps(config))
            program = Path(sys.executable).parent / "hpo-steer"
            with subprocess.Popen(
                [str(program), "--config", "config.json"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as steering:
                until = time.monotonic() + 60
                while not (folder / "runs" / name / "logs").exists() and time.monotonic() < until:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.3, 2.5))
                caught += bool(containers_here())
                steering.kill()
            until = time.monotonic() + LEFT_S
            while (found := containers_here()) and time.monotonic() < until:
                time.sleep(0.1)
            if found:
                left.append(found)
                subprocess.run(
                    ["podman", "rm", "--force", "--time", "0", *found], check=False, capture_output=True
                )
    return {"kills": number, "while_a_container_was_there": caught, "left_behind": len(left), "left": left}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--points", type=int, default=5, help="of a round, each way (default: 5)")
    parser.add_argument(
        "--sleep", type=float, default=0.05, help="a training's time in seconds (default: 0.05)"
    )
    parser.add_argument("--kills", type=int, default=0, help="kill steering this often instead")
    parser.add_argument("--json", action="store_true", help="figures for programs")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "containers", "machine": machine()}
    if arguments.kills:
        result |= kills(arguments.kills)
        lines = [
            f"steering killed           {result['kills']} times",
            f"while a container was up  {result['while_a_container_was_there']} times",
            f"containers left behind    {result['left_behind']} times (goal: 0)",
        ]
    else:
        result |= overhead(arguments.rounds, arguments.points, arguments.sleep)
        lines = [
            f"overhead of a point, training of {arguments.sleep:g} s, medians of {arguments.rounds} rounds"
        ]
        lines += [f"  {name:<28} {1000 * value:8.2f} ms" for name, value in result["overhead_s"].items()]
        lines += ["one that stays up, to a bare process that stays up (goal: 1.2 at most)"]
        lines += [f"  {name:<28} {value:8.3f}" for name, value in result["staying_up_to_bare"].items()]
        lines += [f"  {name}: {why}" for name, why in result["skipped"].items()]
    show(result, lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
