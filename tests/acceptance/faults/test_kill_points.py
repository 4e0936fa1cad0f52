"""A process dies at each step of a point's way: nothing is lost, and no training is repeated without need.

One case for each of `hpo_steer.faults.POINTS`, so that a new point is a new case. With HPO_STEER_LONG_TESTS set, every
point is also tried on its own over the local transport, with short evaluations, and on RabbitMQ 4.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.faults import POINTS
from tests.acceptance.faults.arena import LEASE_S, Arena
from tests.acceptance.faults.lanes import Lanes, wanted
from tests.acceptance.faults.long_form import LONG, long_form
from tests.acceptance.faults.saving import with_checkpoints
from tests.acceptance.faults.search import with_search
from tests.acceptance.faults.shipped import with_shipping
from tests.servers.rabbitmq import rabbit_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.acceptance.faults.books import Audit
    from tests.servers.rabbitmq import RabbitNode

LEASED_S = (0.35, 0.35)
"""Long enough for a lease of its own."""
PATIENT = {"evaluation": {"lease_s": 10.0}}
"""Longer than a killed worker takes to come back: what it had put into safety is sent before its lease expires."""
SHIPPING = ("steering.shipped", "worker.collected")
"""Passed only where workers get the code over a broker."""
SAVING = ("worker.uploading", "worker.uploaded")
"""Passed only where checkpoints travel."""
SHORT_S = (0.03, 0.03)
"""So short that the work is settled with its result."""

REPEATED = {"worker.trained": 1, "child.trained": 1}
"""How many trainings are repeated: the answer died with its process. All other points repeat none."""
PERHAPS = {"worker.training"}
"""The training's process was just born: it may have begun or not."""
LEASED_ONLY = {"worker.started", "worker.leased", "worker.spooling", "worker.spooled", "worker.forgotten"}
"""A short evaluation takes no lease, and its result, settled together with its work, needs no disk."""


COUNTS = {
    "steering.proposed": 1,
    "steering.settled": 1,
    "steering.published": 1,
    "worker.trained": 1,
    "child.trained": 3,
}
"""Where many are armed in one run: when each fires, so that all do, and no two of them at the same training."""


@dataclass(frozen=True)
class Ended:
    """A run that has come to its end.

    Attributes:
        audit: its books.
        steering: how steering's processes ended.
        workers: likewise of each worker started by hand.
    """

    audit: Audit
    steering: list[int]
    workers: list[list[int]]


def of(*processes: str) -> list[str]:
    return [
        name for name in POINTS if name.partition(".")[0] in processes and name not in (*SHIPPING, *SAVING)
    ]


def needed(name: str, folder: Path) -> dict[str, Any]:
    """The settings without which a point is not passed."""
    if name.startswith("host."):
        return {**PATIENT, **with_search(folder)}
    if name in SAVING:
        return with_checkpoints(folder, PATIENT)
    return with_shipping(folder, PATIENT) if name in SHIPPING else PATIENT


def armed(names: Sequence[str], *, later: int = 0) -> list[str]:
    """Faults that kill, all in one run."""
    return [f"{name}:{COUNTS.get(name, 2) + later}:kill" for name in names]


def run(arena: Arena) -> Ended:
    """Runs it to its end; every armed fault must have fired, and the books must be right."""
    with arena:
        arena.start()
        audit = arena.finish()
        assert set(arena.fired()) == set(arena.faults), f"fired: {arena.fired()}\n{arena.story()}"
        assert not audit.wrong, f"{audit.text()}\n{arena.story()}"
        assert not audit.unexplained, f"{audit.text()}\n{arena.story()}"
        assert arena.steering is not None
        return Ended(audit, arena.steering.exits, [worker.exits for worker in arena.workers])


def check_repeats(audit: Audit, names: Sequence[str]) -> None:
    exactly = sum(REPEATED.get(name, 0) for name in names)
    perhaps = sum(name in PERHAPS for name in names)
    assert exactly <= audit.repeated <= exactly + perhaps, audit.text()


@pytest.fixture(scope="module")
def killed(
    request: pytest.FixtureRequest, rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lanes[Ended]]:
    """The runs of `test_a_kill_at`."""
    folders = tmp_path_factory.mktemp("killed")

    def kill_at(name: str) -> Ended:
        folder = folders / name
        arena = Arena(
            folder,
            broker=rabbitmq,
            name=f"at-{name}",
            points=6,
            training_s=LEASED_S,
            faults=[f"{name}:2:kill"],
            settings=needed(name, folder),
        )
        return run(arena)

    with Lanes(kill_at, wanted(request.session.items, "test_a_kill_at", "name")) as lanes:
        yield lanes


@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", POINTS)
def test_a_kill_at(name: str, killed: Lanes[Ended]) -> None:
    """Over RabbitMQ, where each attempt takes a lease."""
    ended = killed[name]
    check_repeats(ended.audit, [name])
    again = sum(attempts > 1 for attempts in ended.audit.attempts.values())
    if name in ("worker.trained", "child.began", "child.trained"):
        assert again == 1  # its lease has expired, or its training has failed
    elif name.startswith(("steering.", "host.")) or name in (
        "worker.collected",
        "worker.taken",
        "worker.leased",
    ):
        assert again == 0  # the broker itself gives the work to another worker
    if name.startswith("steering."):
        assert ended.steering == [-signal.SIGKILL, 0]
    elif name.startswith("worker."):
        (first, last), other = sorted(ended.workers)
        assert (first, other) == (-signal.SIGKILL, [0])
        assert last in (0, -signal.SIGTERM)  # the run may be over before its successor is up
    else:
        assert [ended.steering, *ended.workers] == [[0]] * 3


@pytest.mark.parametrize("process", ["steering", "worker"])
def test_kills_one_after_the_other_without_a_broker(process: str, tmp_path: Path) -> None:
    """Over the local transport, where steering starts the workers and they end with it."""
    names = [*of(process), *(of("child") if process == "worker" else of("host"))]
    if not LONG:
        names = names[::2]
    arena = Arena(
        tmp_path,
        workers=1,
        points=8 + 2 * len(names),
        training_s=LEASED_S,
        faults=armed(names),
        settings={**PATIENT, **with_search(tmp_path)},
    )
    ended = run(arena)
    if process == "worker":
        check_repeats(ended.audit, names)


@pytest.mark.rabbitmq
def test_kills_where_evaluations_are_short(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """The work is settled with its result: whoever dies with it in hand repeats milliseconds of work."""
    names = [name for name in of("steering", "worker", "child") if name not in LEASED_ONLY]
    arena = Arena(
        tmp_path,
        broker=rabbitmq,
        name="short",
        points=100,
        training_s=SHORT_S,
        faults=[*armed(of("steering")), *armed([n for n in names if not n.startswith("steering.")], later=4)],
        settings={"steering": {"trigger": {"unevaluated_below": 3}}},
    )
    run(arena)


@pytest.mark.rabbitmq
@pytest.mark.parametrize("process", ["steering", "worker"])
def test_kills_on_rabbitmq_4(process: str, tmp_path: Path) -> None:
    """A part of them on the other major version."""
    names = [*of(process), *(of("child") if process == "worker" else ())]
    with rabbit_node("4") as node:
        arena = Arena(
            tmp_path,
            broker=node,
            points=4 + 2 * len(names),
            training_s=LEASED_S,
            faults=armed(names),
            settings=PATIENT,
        )
        check_repeats(run(arena).audit, names)


@long_form
@pytest.mark.parametrize("name", [name for name in POINTS if name not in (*SHIPPING, *SAVING)])
def test_a_kill_without_a_broker_at(name: str, tmp_path: Path) -> None:
    arena = Arena(
        tmp_path,
        workers=1,
        points=6,
        training_s=LEASED_S,
        faults=[f"{name}:2:kill"],
        settings={**PATIENT, **with_search(tmp_path)},
    )
    ended = run(arena)
    if not name.startswith("steering."):  # with steering end its workers, whatever they are at
        check_repeats(ended.audit, [name])


@long_form
@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", of("steering", "worker", "child"))
def test_a_kill_of_a_short_evaluation_at(name: str, tmp_path: Path, rabbitmq: RabbitNode) -> None:
    if name in LEASED_ONLY:
        pytest.skip("short evaluations do not pass here")
    arena = Arena(
        tmp_path,
        broker=rabbitmq,
        name=f"short-{name}",
        points=16,
        training_s=SHORT_S,
        faults=[f"{name}:4:kill"],
    )
    run(arena)


@long_form
@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", POINTS)
def test_a_kill_on_rabbitmq_4_at(name: str, tmp_path: Path, any_rabbitmq: RabbitNode) -> None:
    arena = Arena(
        tmp_path,
        broker=any_rabbitmq,
        name=f"any-{name}",
        points=6,
        training_s=LEASED_S,
        faults=[f"{name}:2:kill"],
        settings=needed(name, tmp_path),
    )
    check_repeats(run(arena).audit, [name])


@pytest.mark.rabbitmq
@pytest.mark.parametrize("name", ["worker.training", "worker.trained"])
def test_a_worker_that_wakes_after_its_lease_has_gone(
    name: str, tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    """Its point goes out again; whichever result comes first is taken, and the other one changes nothing."""
    arena = Arena(
        tmp_path,
        broker=rabbitmq,
        name=f"pause-{name}",
        points=8,
        training_s=LEASED_S,
        faults=[f"{name}:2:pause"],
    )
    with arena:
        arena.start()
        arena.wait_for(lambda: bool(arena.fired()), "the pause")
        (pid,) = arena.fired().values()
        arena.paused_itself(pid, "worker")
        arena.wait_for(lambda: any(p.lost for p in arena.records()), "an expired lease")
        arena.wake(pid)
        audit = arena.finish()
        assert not audit.wrong, f"{audit.text()}\n{arena.story()}"
        assert not audit.unexplained, f"{audit.text()}\n{arena.story()}"
        assert audit.repeated <= 1
        assert max(audit.attempts.values()) <= 2


@pytest.mark.rabbitmq
def test_a_steering_that_sleeps_while_workers_go_on(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """It wakes long after every lease: the heartbeats and results that wait for it are read before any expires."""
    arena = Arena(
        tmp_path,
        broker=rabbitmq,
        name="sleep",
        points=10,
        training_s=LEASED_S,
        faults=["steering.committed:6:pause"],
    )
    with arena:
        arena.start()
        arena.wait_for(lambda: bool(arena.fired()), "the pause")
        (pid,) = arena.fired().values()
        time.sleep(2 * LEASE_S)
        arena.paused_itself(pid, "steering")
        arena.wake(pid)
        audit = arena.finish()
        assert not audit.wrong, f"{audit.text()}\n{arena.story()}"
        assert audit.repeated == 0, f"{audit.text()}\n{arena.story()}"
        assert set(audit.attempts.values()) == {1}
