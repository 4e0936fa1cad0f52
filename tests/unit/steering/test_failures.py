"""What is said of points that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from steering.failures import Ending
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from steering.store.base import Store

GPUS = ["GPU-5f3c2a10-77de-4b10", "GPU-0a1b2c3d-77de-4b10"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, "sim", create=True)
    opened.lock("test")
    yield opened
    opened.close()


def bench(store: Store, max_attempts: int) -> Bench:
    made = Bench(
        experiment(
            evaluation={
                "function": "train.py:train",
                "workers": 0,
                "max_attempts": max_attempts,
                "retry_delay_s": 2.0,
            }
        ),
        store,
    )
    made.create()
    return made


def said_after(made: Bench, *failures: dict[str, Any]) -> list[str]:
    """What is said of the first points, each of which fails so."""
    loop = made.loop()
    try:
        loop.step(0.0)
        works = [made.take() for _ in failures]
        made.notices.clear()
        for work, failure in zip(works, failures, strict=True):
            made.finish(work, kind=failure.pop("kind", "error"), **failure)
            loop.step(0.0)
        return [text for kind, text in made.notices if kind == "failed"]
    finally:
        loop.close()


def test_a_failure_names_the_machine_the_gpus_and_the_time(store: Store) -> None:
    made = bench(store, 1)
    said = said_after(
        made, {"log": "epoch 1\nboom\x1b[2J", "gpus": GPUS[:1], "worker": "gpu-node7-41-a0b1c2"}
    )
    (point,) = made.store.points(ids=[1])
    assert said == [
        "point 1 failed: error, gpu-node7, GPU-5f3c…, after 1.0 s: x",
        f"  x={point.params['x']:.4g}",
        "  | epoch 1",
        r"  | boom\x1b[2J",
        "  see hpo-steer logs 1 · again: hpo-steer retry 1",
    ]
    assert made.store.attempts(1)[0].gpus == (GPUS[0],)


def test_one_that_goes_out_again_says_when(store: Store) -> None:
    said = said_after(bench(store, 3), {"gpus": GPUS})
    assert said[0] == (
        "point 1 failed: error (attempt 1 of 3), host, GPU-5f3c…, GPU-0a1b…, after 1.0 s; it goes out again in 2.0 s: x"
    )
    assert said[-1] == "  see hpo-steer logs 1"


def test_the_same_failure_is_shown_whole_once_and_others_in_small_number(store: Store) -> None:
    messages = ["8 GB missing", "16 GB missing", "no such file", "no such host"]
    said = said_after(bench(store, 1), *({"message": message, "log": "the log"} for message in messages))
    assert [line.split()[1] for line in said if line.startswith("point")] == ["1", "2", "3", "4"]
    assert [line for line in said if line.startswith("  see")] == [
        f"  see hpo-steer logs {n} · again: hpo-steer retry {n}" for n in (1, 3, 4)
    ]


def test_an_invalid_point_is_no_fault_of_a_machine(store: Store) -> None:
    assert said_after(bench(store, 3), {"kind": "invalid", "gpus": GPUS}) == ["point 1 failed: invalid: x"]


def test_long_logs_are_cut(store: Store) -> None:
    log = "\n".join(f"line {n}" for n in range(100))
    said = said_after(bench(store, 1), {"kind": "timeout", "log": log})
    assert [line for line in said if "| " in line] == [f"  | line {n}" for n in range(80, 100)]


def test_nothing_is_known_of_an_attempt_that_never_was() -> None:
    assert Ending().where == ""
