from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from containers.process import Surroundings
from containers.warden import Warden
from evaluation.attempt import AttemptFolder, log_tail
from evaluation.runners.base import Outcome, Task
from evaluation.runners.command import CommandRunner
from hpo_steer.messages import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def warden() -> Iterator[Warden]:
    made = Warden(f"test-{os.getpid()}")
    yield made
    made.close()


def evaluate(folder: Path, warden: Warden, code: str, *arguments: str, **params: Any) -> Outcome:
    """Runs Python code as a command."""
    around = Surroundings(dict(os.environ), folder, warden)
    command = [sys.executable, "-c", code, *arguments]
    runner = CommandRunner(command, around, ["loss"], ["x", "rate", "mode"])
    work = Work(
        experiment="e", run="r", point=1, attempt=1, model="m", iteration=1, params=params or {"x": 0.5}
    )
    handle = runner.start(Task(work, 0, AttemptFolder(str(folder / "points/1/attempt-1")), folder / "log"))
    deadline = time.monotonic() + 20
    while (outcome := handle.poll(time.monotonic())) is None:
        assert time.monotonic() < deadline
        select.select(handle.fds(), [], [], 0.1)
    runner.close()
    return outcome


@pytest.mark.parametrize(
    ("code", "metrics"),
    [
        ("print('epoch 1'); print(0.25); print()", {"loss": 0.25}),
        ('print(\'{"loss": 0.5, "acc": 1}\')', {"loss": 0.5, "acc": 1.0}),
        ("import sys; print(1); print('late', file=sys.stderr)", {"loss": 1.0}),
        ("import sys; open(sys.argv[2], 'w').write('{\"loss\": 2}'); print('noise')", {"loss": 2.0}),
        ("import sys; open(sys.argv[2], 'w').write('{\"status\": 0, \"loss\": 3}')", {"loss": 3.0}),
        ("import sys, json; print(json.load(open(sys.argv[1]))['x'])", {"loss": 0.5}),
        ("import hpo_steer; print(hpo_steer.point().id)", {"loss": 1.0}),
    ],
)
def test_metrics(tmp_path: Path, warden: Warden, code: str, metrics: dict[str, float]) -> None:
    assert evaluate(tmp_path, warden, code, "{input}", "{output}").metrics == metrics


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("pass", "error", 'no metrics: expected {"loss": 0.1} in the file {output} or as the last line'),
        ("print('done')", "error", "no metrics: expected"),
        ("print('nan')", "invalid", 'metric "loss" is nan'),
        ("print('{\"acc\": 1}')", "error", 'the last line of output returned no metric "loss"'),
        ("print('[1]')", "error", "the last line of output holds '[1]'"),
        ("raise SystemExit(4)", "error", "the command ended with exit code 4"),
        ("print(1); import os; os.kill(os.getpid(), 11)", "error", "the command was killed by SIGSEGV"),
        ("import sys; open(sys.argv[2], 'w').write('{')", "error", "the output file is no JSON"),
        (
            'import sys; open(sys.argv[2], \'w\').write(\'{"status": 1, "message": "diverged"}\')',
            "error",
            "status 1: diverged",
        ),
    ],
)
def test_failures(tmp_path: Path, warden: Warden, code: str, kind: str, message: str) -> None:
    failure = evaluate(tmp_path, warden, code, "{input}", "{output}").failure
    assert failure is not None
    assert failure.kind == kind
    assert failure.message.startswith(message)


def test_placeholders(tmp_path: Path, warden: Warden) -> None:
    code = "import sys; print(sys.argv[1:]); print(0)"
    given = ["--x={x}", "{mode}", "{rate}", "{unknown}", "{x"]
    evaluate(tmp_path, warden, code, *given, x=1e-7, mode="a b; $HOME")
    shown = ["--x=1e-07", "a b; $HOME", "", "{unknown}", "{x"]
    assert (tmp_path / "log").read_text().splitlines()[0] == repr(shown)


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"".join(b"line %d\n" % i for i in range(1000)) + b"\xff\0end")
    tail = log_tail(log).splitlines()
    assert len(tail) == 50
    assert tail[-1] == "\ufffdend"
    log.write_text("x" * 100_000)
    assert len(log_tail(log)) == 8192
    assert log_tail(log, start=99_990) == "x" * 10
    assert log_tail(tmp_path / "none") == ""
