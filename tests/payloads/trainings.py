"""Trainings for tests: each does what its name says with ``params["x"]``."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035 - trainings may be older than we are

import hpo_steer

Params = Dict[str, Any]  # noqa: UP006


def square(params: Params) -> Any:
    print("squaring", params["x"])
    return float(params["x"]) ** 2


def nothing(params: Params) -> Any:
    return 0.5


def raises(params: Params) -> Any:
    print("about to fail")
    raise ValueError(f"x is {params['x']}")


def behave(params: Params) -> Any:
    """Does what ``params["do"]`` says, so that one function serves many cases."""
    return globals()[params["do"]](params)


def is_nan(params: Params) -> Any:
    return {"loss": float("nan"), "acc": 1.0}


def wrong_metric(params: Params) -> Any:
    return {"acc": 0.9}


def returns_none(params: Params) -> Any:
    pass


def invalid(params: Params) -> Any:
    raise hpo_steer.InvalidPoint("x is too large for the detector")


def leaves(params: Params) -> Any:
    sys.exit(3)


def dies(params: Params) -> Any:
    os.kill(os.getpid(), 9)


def sleeps(params: Params) -> Any:
    time.sleep(params.get("seconds", 60))
    return {"loss": 1.0}


def stubborn(params: Params) -> Any:
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def reports(params: Params) -> Any:
    for step in range(params.get("steps", 1000)):
        hpo_steer.report(step, loss=1.0 / (step + 1))
        time.sleep(params.get("pause", 0.02))
    return {"loss": 0.0}


def swallows(params: Params) -> Any:
    try:
        reports(params)
    except hpo_steer.Stopped:
        return {"loss": 7.0}
    return {"loss": 8.0}


def family(params: Params) -> Any:
    """Leaves its own pid and that of a grandchild, which sleeps on."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    new = Path(params["pids"] + ".new")
    new.write_text(f"{os.getpid()} {grandchild.pid}")
    new.rename(params["pids"])
    time.sleep(params.get("seconds", 60))
    return {"loss": 1.0}


def who(params: Params) -> Any:
    at = hpo_steer.point()
    counter = hpo_steer.checkpoint_dir() / "counter"
    before = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(before + 1))
    return {
        "loss": 0.0,
        "id": at.id,
        "attempt": at.attempt,
        "iteration": at.iteration,
        "before": before,
        "pid": os.getpid(),
    }


def counts(params: Params) -> Any:
    """Counts its steps and saves each; a later attempt goes on behind the last that was saved."""
    state = hpo_steer.checkpoint_dir() / "step"
    begin = int(state.read_text()) if state.exists() else 0
    if params.get("ballast"):
        state.with_name("ballast").write_bytes(os.urandom(int(params["ballast"])))
    for step in range(begin + 1, params["steps"] + 1):
        time.sleep(params.get("pause", 0.02))
        state.with_suffix(".tmp").write_text(str(step))
        state.with_suffix(".tmp").rename(state)
        hpo_steer.report(step, loss=1.0 / step)
    return {"loss": 0.0, "begin": begin}


class Scalar:
    """Like a scalar of numpy or torch."""

    def __float__(self) -> float:
        return 0.25


def scalar(params: Params) -> Any:
    return {"loss": Scalar(), "note": "left out"}


def prints(params: Params) -> Any:
    """Prints so many megabytes, on either way, between a first and a last line."""
    print("first line", flush=True)
    block = b"x" * 99 + b"\n"
    for number in range(params["megabytes"]):
        os.write(1 + number % 2, block * 10_000)
        time.sleep(params.get("pause", 0))
    print("last line", flush=True)
    time.sleep(params.get("seconds", 0))
    return {"loss": 1.0}


_kept: List[bytearray] = []  # noqa: UP006


def leaks(params: Params) -> Any:
    """Holds on to memory from point to point."""
    _kept.append(bytearray(params["megabytes"] * 1_000_000))
    time.sleep(params.get("seconds", 0))
    return {"loss": 0.0, "pid": os.getpid(), "at_once": len(_kept)}


def reports_oddly(params: Params) -> Any:
    """Reports NaN, a metric that nobody has declared, and steps that go backwards."""
    for step, metrics in params["reports"]:
        hpo_steer.report(step, **{name: float(value) for name, value in metrics.items()})
    return {"loss": 4.0}


def writes(params: Params) -> Any:
    """Fills the disk it is given, and fails as whoever needs that disk does."""
    with Path(params["file"]).open("wb") as file:
        for _ in range(1000):
            file.write(b"\0" * 100_000)
    return {"loss": 0.0}
