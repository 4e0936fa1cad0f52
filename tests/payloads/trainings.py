"""Trainings for tests: each does what its name says with ``params["x"]``."""

import os
import subprocess
import sys
import time

import hpo_steer


def square(params):
    print("squaring", params["x"])
    return float(params["x"]) ** 2


def nothing(params):
    return 0.5


def raises(params):
    print("about to fail")
    raise ValueError(f"x is {params['x']}")


def behave(params):
    """Does what ``params["do"]`` says, so that one function serves many cases."""
    return globals()[params["do"]](params)


def is_nan(params):
    return {"loss": float("nan"), "acc": 1.0}


def wrong_metric(params):
    return {"acc": 0.9}


def returns_none(params):
    pass


def invalid(params):
    raise hpo_steer.InvalidPoint("x is too large for the detector")


def leaves(params):
    sys.exit(3)


def dies(params):
    os.kill(os.getpid(), 9)


def sleeps(params):
    time.sleep(params.get("seconds", 60))
    return {"loss": 1.0}


def stubborn(params):
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def reports(params):
    for step in range(params.get("steps", 1000)):
        hpo_steer.report(step, loss=1.0 / (step + 1))
        time.sleep(params.get("pause", 0.02))
    return {"loss": 0.0}


def swallows(params):
    try:
        reports(params)
    except hpo_steer.Stopped:
        return {"loss": 7.0}


def family(params):
    """Leaves its own pid and that of a grandchild, which sleeps on."""
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with open(params["pids"] + ".new", "w") as file:
        file.write(f"{os.getpid()} {grandchild.pid}")
    os.rename(params["pids"] + ".new", params["pids"])
    time.sleep(params.get("seconds", 60))
    return {"loss": 1.0}


def who(params):
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


class Scalar:
    """Like a scalar of numpy or torch."""

    def __float__(self):
        return 0.25


def scalar(params):
    return {"loss": Scalar(), "note": "left out"}
