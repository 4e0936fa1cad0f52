"""An experiment whose trainings do nothing: all that is left is hpo-steer itself."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

PARAMETERS = 10


def ends_of_a_run(points: int, broker: str = "local") -> list[float]:
    """Runs it with two workers.

    Returns:
        When each point ended, in order, in seconds since the epoch, as the store has it.

    Raises:
        RuntimeError: it failed, or did not evaluate each point once.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "noop.py").write_text("def train(params):\n    return 0.5\n")
        config = {
            "name": "noop",
            "search_space": {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(PARAMETERS)},
            "objectives": {"loss": "minimize"},
            "algorithm": "random",
            "steering": {"points_per_iteration": 500, "trigger": {"fraction": 0.5}, "max_points": points},
            "evaluation": {"function": "noop.py:train", "workers": 2, "reuse": True},
            "broker": broker,
            "store": str(folder / "runs"),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        program = str(Path(sys.executable).parent / "hpo-steer")
        command = [program, "--config", str(folder / "config.yaml"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise RuntimeError(f"hpo-steer failed: {done.stdout}{done.stderr}")
        database = sqlite3.connect(folder / "runs" / "noop" / "store.db")
        try:
            ends = [row[0] for row in database.execute("SELECT ended_at FROM hpo_points ORDER BY ended_at")]
            attempts = database.execute("SELECT count(*) FROM hpo_attempts").fetchone()[0]
        finally:
            database.close()
    if len(ends) != points or attempts != points or None in ends:
        raise RuntimeError(f"{points} points wanted, {len(ends)} ended in {attempts} attempts")
    return ends
