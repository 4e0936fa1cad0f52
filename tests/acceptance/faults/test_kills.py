"""``kill -9`` of everything an experiment consists of, and two steerings at once."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING, cast

import pytest

from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.lanes import Lanes, wanted
from tests.acceptance.faults.long_form import long_form
from tests.acceptance.faults.search import with_search
from tests.acceptance.program import STEER
from tests.servers.rabbitmq import rabbit_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.acceptance.faults.books import Audit
    from tests.acceptance.faults.processes import Kind
    from tests.servers.postgresql import PostgresqlServer
    from tests.servers.rabbitmq import RabbitNode

LEASED_S = (0.32, 0.5)
POINTS = 14


def between(arena: Arena, seed: int, strike: Callable[[], object], times: int = 3) -> Audit:
    """Runs an arena that is struck at moments drawn from a seed, and checks its books."""
    moments = sorted(random.Random(seed).sample(range(1, POINTS - 2), times))  # noqa: S311
    with arena:
        arena.start()
        for number in moments:
            arena.wait_for(lambda number=number: arena.trained() >= number, f"{number} trainings")  # type: ignore[misc]
            strike()
        audit = arena.finish()
        assert not audit.wrong, f"{audit.text()}\n{arena.story()}"
        assert not audit.unexplained, f"{audit.text()}\n{arena.story()}"
    return audit


@pytest.fixture(scope="module")
def struck(
    request: pytest.FixtureRequest, rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lanes[tuple[Audit, int]]]:
    """The runs of `test_kills_of_a_process`: their books, and how often something was killed."""
    folders = tmp_path_factory.mktemp("struck")

    def kill(victim: str) -> tuple[Audit, int]:
        kind = cast("Kind", victim)
        arena = Arena(
            folders / victim,
            broker=rabbitmq,
            name=f"kills-{victim}",
            points=POINTS,
            training_s=LEASED_S,
            settings=with_search(folders / victim),
        )
        rng = random.Random(victim)  # noqa: S311 - it draws which of them
        killed: list[int] = []

        def strike() -> None:
            arena.wait_for(lambda: bool(arena.processes(kind)), f"a {victim} to kill")
            pid = arena.kill(kind, which=rng.randrange(9))
            if pid is not None:
                killed.append(pid)

        return between(arena, 1, strike), len(killed)

    with Lanes(kill, wanted(request.session.items, "test_kills_of_a_process", "victim")) as lanes:
        yield lanes


@pytest.mark.rabbitmq
@pytest.mark.parametrize("victim", ["steering", "worker", "child", "host"])
def test_kills_of_a_process(victim: str, struck: Lanes[tuple[Audit, int]]) -> None:
    audit, killed = struck[victim]
    assert killed >= 2
    if victim in ("steering", "host"):
        assert audit.repeated == 0, audit.text()


def test_kills_of_steering_with_its_workers(tmp_path: Path) -> None:
    arena = Arena(tmp_path, workers=2, points=POINTS, training_s=LEASED_S, settings=with_search(tmp_path))
    between(arena, 2, lambda: arena.kill("steering"))


@pytest.mark.rabbitmq
@pytest.mark.parametrize("version", [pytest.param("3.10", marks=long_form), "4"])
def test_kills_of_the_broker(version: str, tmp_path: Path) -> None:
    """What trains goes on, and every message that was confirmed is still there when it comes back.

    Acknowledgements are not confirmed in AMQP. Those that the broker had not written down when it was killed are lost,
    and it hands that work out once more: so its death explains what was trained shortly before.
    """
    with rabbit_node("4" if version == "4" else "3.10") as node:
        arena = Arena(
            tmp_path / "project",
            broker=node,
            points=POINTS,
            training_s=LEASED_S,
            settings={"evaluation": {"lease_s": 20.0}},  # longer than workers need to find it again
        )

        def strike() -> None:
            at = time.monotonic()
            node.kill()
            node.start()
            arena.note(0, "lost acknowledgements", at, kind="broker")

        audit = between(arena, 3, strike, times=2)
        assert not any(record.lost for record in arena.records()), audit.text()


@pytest.mark.postgresql
def test_kills_of_the_database(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    arena = Arena(tmp_path, database=postgresql, workers=2, points=POINTS, training_s=LEASED_S)

    def strike() -> None:
        postgresql.kill()
        postgresql.start()

    audit = between(arena, 4, strike)
    assert audit.repeated == 0, audit.text()


@pytest.mark.parametrize("place", ["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.postgresql)])
def test_a_second_steering_is_refused_and_the_first_is_unharmed(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Also when both start in the same moment: one of them runs."""
    database = request.getfixturevalue("postgresql") if place == "PostgreSQL" else None
    arena = Arena(tmp_path, database=database, workers=1, points=6, training_s=LEASED_S)
    answers: list[tuple[int, str]] = []

    def second() -> None:
        command = [STEER, "--config", "config.yaml"]
        done = subprocess.run(
            command, cwd=tmp_path, env=arena.environment, capture_output=True, text=True, check=False
        )
        answers.append((done.returncode, done.stderr))

    with arena:
        twin = threading.Thread(target=second)
        with arena.holding():
            twin.start()
            arena.start()
            arena.wait_for(lambda: bool(arena.trainings()), "a training")
            second()
        audit = arena.finish()
        twin.join()
        assert not audit.wrong, f"{audit.text()}\n{arena.story()}"
        assert audit.repeated == 0, audit.text()
        assert arena.steering is not None
        # Whichever of the twins came first ran it; the other one was refused, and so was the third.
        codes = {*arena.steering.exits, *(code for code, _ in answers)}
        assert codes == {0, 2}, f"{arena.steering.exits}, {answers}\n{arena.story()}"
        refused = [text for code, text in answers if code == 2]
        assert refused
        assert all("already being run" in text for text in refused)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=long_form)])
def test_a_resumed_run_proposes_what_an_undisturbed_one_does(seed: int, tmp_path: Path) -> None:
    """With one worker results come in one order, so every later proposal must be the same one."""

    def proposed(name: str) -> list[tuple[int, int, object]]:
        arena = Arena(
            tmp_path / name,
            workers=1,
            points=POINTS,
            training_s=(0.1, 0.2),
            settings={**with_search(tmp_path / name), "steering": {"points_per_iteration": 3}},
        )
        between(arena, seed, lambda: arena.kill("steering"), times=3 if name == "killed" else 0)
        return [(p.id, p.iteration, p.params) for p in arena.records()]

    with Lanes(proposed, ["killed", "calm"]) as lanes:
        assert len(lanes["calm"]) == POINTS
        assert lanes["calm"] == lanes["killed"]
