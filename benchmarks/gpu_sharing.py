"""Small GANs an hour on one card with several points on it, and what a start costs with and without warm runners.

    python -m benchmarks.gpu_sharing --json
    python -m benchmarks.gpu_sharing --shares 1 --points 6 --steps 50     # without a GPU: the start only

Where NVIDIA's Multi-Process Service (MPS) is installed, points on one card run through it; the largest number of them
runs without it, too.

Each figure is that of a run of the installed program, `hpo-steer`, with trainings of `benchmarks/small_gan.py`. GANs an
hour are counted from the first beginning to the last end. The start of a point is the time on a slot that its steps
do not take: a process, its imports, the GPU's context; with ``reuse: true`` these are paid once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring import median, show
from hpo_steer.machine import look
from hpo_steer.machine.mps import mps_program

TRAINING = Path(__file__).with_name("small_gan.py")
STEER = str(Path(sys.executable).parent / "hpo-steer")


def measure(
    points: int, steps: int, share: int, *, gpu: bool, reuse: bool, mps: bool = True
) -> dict[str, float]:
    """One run.

    Args:
        points: how many GANs.
        steps: of each.
        share: how many points run at once, on one GPU.
        gpu: whether there is one.
        reuse: whether processes take many points.
        mps: whether points on one GPU may run through MPS.

    Returns:
        ``per_hour``: GANs an hour; ``start_s``: seconds of a slot for a point beyond its steps, in the median.
    """
    config: dict[str, Any] = {
        "name": "gans",
        "search_space": {"width": {"type": "float", "low": 0.9, "high": 1.1}},
        "models": [{"name": "main", "constants": {"steps": steps}}],
        "objectives": {"loss": "minimize"},
        "algorithm": "random",
        "steering": {"points_per_iteration": points, "max_points": points},
        "evaluation": {
            "function": f"{TRAINING}:train",
            "workers": 1,
            "reuse": reuse,
            "mps": "auto" if mps else False,
        },
    }
    config["evaluation"] |= {"gpus": 1 / share if share > 1 else 1} if gpu else {"slots": share}
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as folder:
        (Path(folder) / "config.yaml").write_text(yaml.safe_dump(config))
        subprocess.run(
            [STEER, "--config", "config.yaml", "--quiet"], cwd=folder, check=True, capture_output=True
        )
        listed = subprocess.run(
            [STEER, "points", "gans", "--json"], cwd=folder, check=True, capture_output=True
        )
    done = [point["metrics"] for point in json.loads(listed.stdout) if point["state"] == "done"]
    assert len(done) == points, f"{len(done)} of {points} GANs were trained"
    spent_s = max(each["ended"] for each in done) - min(each["began"] for each in done)
    # a slot is never empty meanwhile: what the steps did not take, the starts did
    ended = sorted(each["ended"] for each in done)
    starts = [later - sooner for sooner, later in pairwise(ended)]
    start_s = median(starts) - median([each["train_s"] for each in done]) if share == 1 and starts else 0.0
    return {"per_hour": 3600 * points / spent_s, "start_s": start_s}


def main() -> None:
    """Runs what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", default="1,2,4,8", help="points on one card, one after the other")
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--cold-points", type=int, default=6, help="where each has a process of its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit-s", type=float, default=3600.0, help="no round begins later (default: 3600)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    gpu = bool(look().gpus)
    shares = [int(word) for word in options.shares.split(",")] if gpu else [1]
    runs: dict[str, list[dict[str, float]]] = {}

    def run(way: str, points: int, share: int, *, reuse: bool = True, mps: bool = True) -> None:
        found = measure(points, options.steps, share, gpu=gpu, reuse=reuse, mps=mps)
        runs.setdefault(way, []).append(found)
        print(f"{way}: {found['per_hour']:,.0f} GANs an hour", file=sys.stderr)

    begin, rounds = time.monotonic(), 0
    while rounds < options.rounds and (not rounds or time.monotonic() - begin < options.limit_s):
        rounds += 1
        for share in shares:  # all ways take their turns, so that a busy machine slows them alike
            run(f"{share} warm", options.points, share)
        if max(shares) > 1:
            run(f"{max(shares)} warm, no MPS", options.points, max(shares), mps=False)
        run("1 cold", options.cold_points, 1, reuse=False)
    per_hour = {way: median([run["per_hour"] for run in each]) for way, each in runs.items()}
    starts = {way: median([run["start_s"] for run in runs[f"1 {way}"]]) for way in ("warm", "cold")}
    answer: dict[str, Any] = {
        "has": str(look()),
        "points": options.points,
        "steps": options.steps,
        "cold_points": options.cold_points,
        "rounds": rounds,
        "mps": mps_program() is not None,
        "gans_per_hour": {way: round(value, 1) for way, value in per_hour.items()},
        "start_s": {way: round(value, 3) for way, value in starts.items()},
        "against_one_at_a_time": {
            way: round(value / per_hour["1 warm"], 2) for way, value in per_hour.items()
        },
    }
    lines = [f"{way}: {value:,.0f} GANs an hour" for way, value in per_hour.items()]
    lines += [f"start of a point, {way}: {value:.2f} s" for way, value in starts.items()]
    show(answer, lines, as_json=options.json)


if __name__ == "__main__":
    main()
