"""How real worker processes begin, end and take themselves out of service."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.messages import Bye, Heartbeat, Hello, Pardon, Report, Result
from tests.acceptance.faults.disks import small_disk
from tests.integration.test_worker import Bench, gone, pids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hpo_steer.messages import Health


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes benches."""
    made: list[Bench] = []

    def new(**evaluation: Any) -> Bench:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Bench(folder, **evaluation))
        return made[-1]

    yield new
    for bench in made:
        bench.close()


def standing(bench: Bench, state: str, within_s: float = 20.0) -> Health:
    """Waits for a heartbeat that says so."""

    def found() -> list[Health]:
        return [h.health for h in bench.all(Heartbeat) if h.health is not None and h.health.state == state]

    return bench.until(found, within_s)[-1]  # type: ignore[no-any-return]


def ended(bench: Bench, worker: Any) -> tuple[int, str]:
    """The exit code and the goodbye of a worker that ends by itself."""
    bye = bench.until(lambda: bench.all(Bye))[0]
    return worker.wait(timeout=20), bye.reason


# --- the end of a worker ---


def test_it_ends_after_so_many_points_and_takes_none_beyond(make: Callable[..., Bench]) -> None:
    bench = make(worker={"max_points": 3}, slots=2)
    worker = bench.start()
    for point in range(1, 6):
        bench.send(point, do="square", x=1.0)
    assert ended(bench, worker) == (0, "max_points (3) reached")
    assert len(bench.all(Result)) == 3
    bench.start()
    for point in range(1, 6):
        bench.result(point)  # what it left is there for the next one


def test_short_points_are_counted_as_exactly(make: Callable[..., Bench]) -> None:
    bench = make(worker={"max_points": 25}, reuse=True)
    worker = bench.start()
    bench.steering.publish([bench.work(point, do="nothing") for point in range(1, 101)])
    assert ended(bench, worker)[0] == 0
    assert len({result.point for result in bench.all(Result)}) == 25


def test_it_ends_when_there_is_nothing_to_do(make: Callable[..., Bench]) -> None:
    bench = make(worker={"idle_exit_s": 1.0})
    worker = bench.start()
    bench.until(lambda: bench.all(Hello))
    bench.send(1, do="sleeps", seconds=2.0)  # longer than it may be idle
    bench.result(1)
    assert ended(bench, worker) == (0, "no point for 1 s (idle_exit_s)")


def test_one_that_steering_has_started_stays_without_points(make: Callable[..., Bench]) -> None:
    bench = make(worker={"idle_exit_s": 0.2})
    worker = bench.start(HPO_STEER_PARENT=str(os.getpid()))
    bench.until(lambda: len(bench.all(Heartbeat)) > 6)
    assert worker.poll() is None
    assert standing(bench, "ok").reason == ""


def test_no_point_is_begun_that_would_not_end_in_time(make: Callable[..., Bench]) -> None:
    bench = make(worker={"max_time_s": 30, "grace_s": 1})
    worker = bench.start()
    bench.send(1, do="sleeps", seconds=15.0)
    bench.result(1, within_s=60)
    bench.send(2, do="square", x=2.0)
    code, reason = ended(bench, worker)
    assert code == 0
    assert "and points take up to 15" in reason
    assert bench.steering.waiting() == 1


def test_the_end_of_a_slurm_job_is_found(make: Callable[..., Bench]) -> None:
    """What still runs when the job is about to end is given back, and the worker leaves in good order."""
    bench = make(worker={"grace_s": 2})
    worker = bench.start(SLURM_JOB_END_TIME=str(int(time.time()) + 14))
    bench.send(1, do="family", pids=str(bench.folder / "pids"))
    bench.started(1)
    bench.until((bench.folder / "pids").exists)
    children = pids(bench.folder / "pids")
    code, reason = ended(bench, worker)
    assert code == 0
    assert reason.startswith("its time ends at ")
    assert all(gone(pid) for pid in children)


def test_one_that_steering_has_started_stays_at_the_end_of_the_job(make: Callable[..., Bench]) -> None:
    bench = make(worker={"grace_s": 2})
    worker = bench.start(HPO_STEER_PARENT=str(os.getpid()), SLURM_JOB_END_TIME=str(int(time.time()) + 1))
    assert standing(bench, "waiting").reason.startswith("its time ends at ")
    bench.send(1, do="square", x=1.0)
    before = len(bench.all(Heartbeat))
    bench.until(lambda: len(bench.all(Heartbeat)) > before + 5)
    assert worker.poll() is None
    assert bench.steering.waiting() == 1


# --- quarantine and health ---


def test_a_machine_on_which_all_fails_takes_no_more_points(make: Callable[..., Bench]) -> None:
    bench = make(worker={"quarantine_after": 3, "quarantine_s": 600})
    bench.start()
    for point in range(1, 7):
        bench.send(point, do="raises", x=1.0)
    health = standing(bench, "quarantined")
    assert health.reason.startswith(
        "3 failures in a row (error: ValueError: x is 1.0); one point is tried in "
    )
    before = len(bench.all(Heartbeat))
    bench.until(lambda: len(bench.all(Heartbeat)) > before + 5)
    assert bench.steering.waiting() == 3


def test_one_point_is_tried_after_a_while_and_its_success_ends_it(make: Callable[..., Bench]) -> None:
    bench = make(worker={"quarantine_after": 2, "quarantine_s": 1.0}, slots=2)
    bench.start()
    for point in (1, 2):
        bench.send(point, do="raises", x=1.0)
    standing(bench, "quarantined")
    for point in (3, 4, 5):
        bench.send(point, do="square", x=1.0)
    for point in (3, 4, 5):
        bench.result(point)
    bench.events.clear()
    standing(bench, "ok")


def test_a_pardon_reaches_only_the_worker_it_is_for(make: Callable[..., Bench]) -> None:
    bench = make(worker={"quarantine_after": 2, "quarantine_s": 600})
    bench.start()
    for point in (1, 2):
        bench.send(point, do="raises", x=1.0)
    standing(bench, "quarantined")
    bench.send(3, do="square", x=2.0)
    pardon = Pardon(experiment=bench.name, run="run-1", worker="somebody-1-else")
    bench.steering.control(pardon)
    before = len(bench.all(Heartbeat))
    bench.until(lambda: len(bench.all(Heartbeat)) > before + 3)
    assert bench.steering.waiting() == 1
    bench.steering.control(pardon.model_copy(update={"worker": None}))
    assert bench.result(3).metrics == {"loss": 4.0}


def test_invalid_points_and_warm_children_do_not_shut_it(make: Callable[..., Bench]) -> None:
    bench = make(worker={"quarantine_after": 2}, reuse=True)
    bench.start()
    for point in range(1, 7):
        bench.send(point, do="invalid")
    bench.send(7, do="square", x=1.0)
    assert bench.result(7).metrics == {"loss": 1.0}


def test_heartbeats_say_how_the_machine_is(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.start()

    def measured() -> list[Any]:
        return [h.health for h in bench.all(Heartbeat) if h.health and h.health.cpu is not None]

    health = bench.until(measured)[0]
    assert health.state == "ok"
    assert 0 <= health.cpu <= 1
    assert 0 < health.memory < 1
    assert health.disk_free_mib >= 0


def test_a_full_scratch_disk_costs_points_but_not_the_worker(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    """Trainings fail with the system's own sentence, the machine shuts itself out, and is back with the space."""
    bench = make(worker={"quarantine_after": 2, "quarantine_s": 1.5})
    with small_disk(tmp_path / "scratch", 512) as disk:
        bench.start()
        for point in (1, 2):
            bench.send(point, do="writes", file=str(disk.path / "data"))
        first = bench.result(1).failure
        assert first is not None
        assert (first.kind, first.message) == ("error", "OSError: [Errno 28] No space left on device")
        standing(bench, "quarantined")
        (disk.path / "data").unlink()
        bench.send(3, do="square", x=3.0)
        assert bench.result(3).metrics == {"loss": 9.0}


# --- warm children are renewed ---


def test_a_warm_child_is_replaced_after_so_many_points(make: Callable[..., Bench]) -> None:
    bench = make(reuse={"points": 3})
    bench.start()
    for point in range(1, 8):
        bench.send(point, do="who")
    found = [bench.result(point).metrics for point in range(1, 8)]
    pids = [metrics["pid"] for metrics in found if metrics]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
    assert all(gone(int(pid)) for pid in pids[:6])


def test_short_points_that_are_handed_over_beforehand_count_too(make: Callable[..., Bench]) -> None:
    bench = make(reuse={"points": 40}, slots=1)
    bench.start()
    bench.steering.publish([bench.work(point, do="leaks", megabytes=0) for point in range(1, 201)])
    most = [bench.result(point).metrics for point in range(1, 201)]
    served = [metrics["at_once"] for metrics in most if metrics]
    assert len(served) == 200
    assert max(served) == 40


def test_a_warm_child_that_leaks_is_replaced_between_two_points(make: Callable[..., Bench]) -> None:
    bench = make(reuse={"memory_mib": 300})
    bench.start()
    for point in range(1, 7):
        bench.send(point, do="leaks", megabytes=120, seconds=0.6)
    found = [bench.result(point, within_s=60).metrics for point in range(1, 7)]
    assert [metrics["at_once"] for metrics in found if metrics] == [1, 2, 3, 1, 2, 3]


# --- what trainings print ---


def log_of(bench: Bench, name: str) -> tuple[int, list[str]]:
    data = (bench.folder / "logs" / name).read_bytes()
    return len(data), data.decode().splitlines()


@pytest.mark.parametrize("reuse", [False, True], ids=["once", "reuse"])
def test_a_gigabyte_of_output_takes_a_bounded_part_of_the_disk(
    make: Callable[..., Bench], reuse: bool
) -> None:
    bench = make(reuse=reuse, log_mib=1)
    bench.start()
    bench.send(1, do="prints", megabytes=1000, pause=0.004)
    largest = 0

    def looked() -> bool:
        nonlocal largest
        sizes = [file.stat().st_blocks * 512 for file in (bench.folder / "logs").glob("*")]
        largest = max(largest, sum(sizes))
        return bool(bench.all(Result))

    bench.until(looked, within_s=120)
    size, lines = log_of(bench, "1-1.log")
    assert size <= 2**20
    assert (lines[0], lines[-1]) == ("first line", "last line")
    assert sum("bytes are cut out here" in line for line in lines) == 1
    assert largest < 500_000_000
    beats = [event.at for event in bench.all(Heartbeat)]
    assert max((b - a for a, b in pairwise(beats)), default=0.0) < 5.0


def test_a_command_that_prints_is_bounded_on_both_its_ways(make: Callable[..., Bench]) -> None:
    program = (
        "import os; print('first line', flush=True); "
        "[os.write(1 + n % 2, b'x' * 99_999 + b'\\n') for n in range(1000)]; print(0.5)"
    )
    bench = make(command=["python3", "-c", program], log_mib=1)
    assert bench.run().metrics == {"loss": 0.5}
    size, lines = log_of(bench, "1-1.log")
    assert size <= 2**20
    text = "\n".join(lines)  # either way may be read before the other, and they meet in the middle of lines
    assert text.index("first line") < size / 2 < text.rindex("0.5")


SERVICE = """
import json, os, sys
for line in sys.stdin:
    key = json.loads(line)["key"]
    block = b"not an answer, but a line of a hundred bytes or so, as programs print them when nobody has asked\\n"
    for _ in range(300):
        os.write(1, block * 1000)
        os.write(2, block * 1000)
    print(json.dumps({"key": key, "metrics": {"loss": 0.25}}), flush=True)
"""


def test_a_service_that_prints_between_its_answers_is_bounded(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    bench = make(service=["python3", str(tmp_path / "service.py")], log_mib=1)
    bench.start()
    for point in (1, 2):
        bench.send(point)
    for point in (1, 2):
        assert bench.result(point, within_s=60).metrics == {"loss": 0.25}
    assert all(file.stat().st_size <= 2 * 2**20 + 200_000 for file in (bench.folder / "logs").glob("*-*.log"))


# --- reports ---


def test_a_report_of_nan_travels_without_it(make: Callable[..., Bench]) -> None:
    bench = make()
    reports = [(1, {"loss": 2.0}), (2, {"loss": "nan", "acc": 0.5}), (3, {"loss": "inf"}), (4, {"loss": 1.0})]
    assert bench.run(do="reports_oddly", reports=reports).metrics == {"loss": 4.0}
    assert [(r.step, r.metrics, r.left_out) for r in bench.all(Report)] == [
        (1, {"loss": 2.0}, None),
        (2, {"acc": 0.5}, ["loss"]),
        (3, {}, ["loss"]),
        (4, {"loss": 1.0}, None),
    ]
