"""The installed programs, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hpo_steer.errors import UserError
from steering.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_NO_PLOTS = Path(__file__).parents[1] / "payloads" / "no_plots"
BIN = Path(sys.executable).parent
STEER, EVALUATE = str(BIN / "hpo-steer"), str(BIN / "hpo-evaluate")

TRAIN = """
import os
import time

def _may_end():
    for ticket in os.listdir("gate"):
        try:
            os.unlink(os.path.join("gate", ticket))
        except OSError:
            continue  # another training was quicker
        return True
    return os.path.exists("gate-is-open")

def train(params):
    time.sleep({sleep})
    while {gated} and not _may_end():
        time.sleep(0.02)
    return {{"loss": (params["x"] - 0.3) ** 2 + (params["k"] - 4) ** 2 / 100}}
"""

CONFIG: dict[str, Any] = {
    "name": "demo",
    "seed": 3,
    "search_space": {
        "x": {"type": "float", "low": 0.0, "high": 1.0},
        "k": {"type": "int", "low": 1, "high": 9},
    },
    "objectives": {"loss": "minimize"},
    "algorithm": "random",
    "steering": {"points_per_iteration": 5, "trigger": {"fraction": 0.6}, "max_points": 20},
    "evaluation": {"function": "train.py:train", "workers": 1, "reuse": True},
}


class Project:
    """A user's folder: a training, a config, and what the programs make of them.

    Args:
        folder: made if need be.
        sleep: how long a training takes at least, seconds.
        gated: each training waits at its end for a ticket, so that a test knows what runs however slow the machine is.
        plots: whether there is matplotlib: for the pictures of reports, which take longer than many a search, and for
            libraries that load it.
        changes: of the config.
    """

    def __init__(
        self, folder: Path, *, sleep: float = 0.0, gated: bool = False, plots: bool = False, **changes: Any
    ) -> None:
        self.folder, self._plots, self._tickets = folder, plots, 0
        (folder / "gate").mkdir(exist_ok=True, parents=True)
        (folder / "train.py").write_text(TRAIN.format(sleep=sleep, gated=gated))
        self.configure(**changes)

    def let_through(self, n: int) -> None:
        """Has `n` gated trainings end."""
        for _ in range(n):
            self._tickets += 1
            (self.folder / "gate" / f"{self._tickets}").touch()

    def open_gate(self) -> None:
        """Has all of them end from now on."""
        (self.folder / "gate-is-open").touch()

    def configure(self, **changes: Any) -> None:
        """Writes the config; nested keys are merged."""
        config = json.loads(json.dumps(CONFIG))
        for key, value in changes.items():
            both = isinstance(value, dict) and isinstance(config.get(key), dict) and value
            config[key] = {**config[key], **value} if both and key != "algorithm" else value
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def start(
        self, *arguments: str, program: str = STEER, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Starts a program in the folder."""
        return subprocess.Popen(
            [program, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **({} if self._plots else without_plots()), **(env or {})},
        )

    def run(
        self, *arguments: str, code: int = 0, program: str = STEER, env: Mapping[str, str] | None = None
    ) -> tuple[str, str]:
        """Runs a program to its end.

        Returns:
            What it wrote to standard output and standard error.
        """
        process = self.start(*arguments, program=program, env=env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return out, err

    def steer(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> tuple[str, str]:
        """Runs ``hpo-steer --config config.yaml``."""
        return self.run("--config", "config.yaml", *arguments, code=code, env=env)

    def points(self) -> list[dict[str, Any]]:
        """``hpo-steer points --json``."""
        out, _ = self.run("points", "--config", "config.yaml", "--json")
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def seen(self) -> list[dict[str, Any]]:
        """What trainings have noted, a line each."""
        return [json.loads(line) for line in (self.folder / "seen.jsonl").read_text().splitlines()]

    def ended(self) -> int:
        """How many points the store says have ended, while steering runs; 0 before there is a store."""
        name = yaml.safe_load((self.folder / "config.yaml").read_text())["name"]
        try:
            store = open_store(self.folder / "runs" / name, name, create=False, read_only=True)
        except UserError:
            return 0
        with closing(store):
            return store.counts().ended


def without_plots() -> dict[str, str]:
    """What the environment of a program has where the extra `plot` is not to be found."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(_NO_PLOTS), os.environ.get("PYTHONPATH"))))}


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0, what: str = "it") -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true in {timeout_s:g} s")
        time.sleep(0.05)


def children(names: Sequence[str], folder: Path) -> list[str]:
    """Command lines of running processes that name this folder and one of these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            cwd = str((entry / "cwd").readlink())
        except OSError:
            continue
        if (
            state != "Z"
            and (str(folder) in line or str(folder) in cwd)
            and any(name in line for name in names)
        ):
            found.append(line)
    return found
