"""Full disks and read-only ones cost nobody a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.disks import small_disk
from tests.acceptance.faults.long_form import LONG
from tests.acceptance.faults.test_broker_faults import PATIENT, assert_nothing_repeated, await_trained, said
from tests.acceptance.program import Project, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode


@pytest.mark.rabbitmq
@pytest.mark.parametrize("reuse", [True, False], ids=["warm children", "a child each"])
def test_a_full_disk_under_a_workers_folder(tmp_path: Path, rabbitmq: RabbitNode, reuse: bool) -> None:
    """Neither the spool nor a log has room: results travel all the same, and no point is called failed."""
    settings = {"evaluation": {**PATIENT["evaluation"], "reuse": reuse, "max_attempts": 1}}
    with (
        small_disk(tmp_path / "disk", 1024) as disk,
        Arena(
            tmp_path / "arena",
            name="fulldisk",
            broker=rabbitmq,
            workers=0,
            points=8,
            training_s=(0.6, 0.8),
            settings=settings,
        ) as arena,
    ):
        train = arena.folder / "train.py"
        talk = 'note("begin")\n    print("x" * 9000)\n    os.write(1, b"from below\\n") if disk_has_room() else None'
        text = train.read_text().replace('note("begin")\n', f"{talk}\n", 1)
        train.write_text(
            f"{text}\n\ndef disk_has_room():\n    return os.statvfs({str(disk.path)!r}).f_bavail > 0\n"
        )
        arena.start_steering()
        worker = arena.add_worker("--work-dir", str(disk.path))
        await_trained(arena, 2)
        disk.fill()
        await_trained(arena, 5)
        assert "cannot be written to the spool" in worker.log.read_text()
        disk.free()
        assert_nothing_repeated(arena.finish(), arena.story() + worker.log.read_text())
        arena.remove_queues()


@pytest.mark.rabbitmq
def test_a_full_disk_under_the_store(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Steering says so and waits a while; if it has to give up, the same command carries on."""
    with (
        small_disk(tmp_path / "disk", 4096) as disk,
        Arena(
            tmp_path / "arena",
            name="fullstore",
            broker=rabbitmq,
            workers=1,
            points=10,
            training_s=(0.4, 0.6),
            settings={**PATIENT, "store": f"{disk.path}/"},
        ) as arena,
    ):
        (arena.folder / "runs").symlink_to(disk.path)
        arena.start()
        await_trained(arena, 2)
        disk.fill()
        arena.wait_for(lambda: "is full" in said(arena), "a sentence about it")
        assert arena.steering is not None
        if LONG:
            arena.wait_for(lambda: len(arena.steering.exits) >= 1, "its end", timeout_s=90.0)  # type: ignore[union-attr]
            assert arena.steering.exits[0] == 1
        assert "Traceback" not in said(arena)
        await_trained(arena, 3)
        disk.free()
        assert_nothing_repeated(arena.finish(stall_s=60.0), said(arena))
        arena.remove_queues()


def test_a_disk_that_is_full_or_read_only_from_the_start(tmp_path: Path) -> None:
    """One sentence that says what to do, and nothing is begun."""
    with small_disk(tmp_path / "disk", 64) as disk:
        project = Project(tmp_path, store=f"{disk.path}/")
        disk.fill()
        _, err = project.steer(code=1)
        assert err.count("\n") == 1, err
        assert "full" in err or "No space left" in err
        disk.free()
        disk.read_only(True)
        _, err = project.steer(code=2)
        assert err.count("\n") == 1, err
        assert "cannot be written" in err
        disk.read_only(False)


def test_a_finished_run_on_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    """Commands that only read need no right to write; one that writes says that it cannot."""
    with small_disk(tmp_path / "disk", 8192) as disk:
        project = Project(tmp_path, store=f"{disk.path}/", steering={"max_points": 4})
        project.steer()
        disk.read_only(True)
        before = (disk.path / "demo" / "store.db").read_bytes()
        for command in ("points", "status", "best"):
            out, _ = project.run(command, "--config", "config.yaml", "--json")
            assert json.loads(out)
        _, err = project.steer("--set", "steering.max_points=8", "--extend", code=2)
        assert "cannot be written" in err
        assert err.count("\n") == 1, err
        assert (disk.path / "demo" / "store.db").read_bytes() == before
        disk.read_only(False)


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_store_that_is_taken_away_during_a_run(tmp_path: Path, how: str) -> None:
    """Steering notices before it believes its own words, and says what has happened."""
    project = Project(tmp_path, sleep=0.3, steering={"points_per_iteration": 5, "max_points": 1000})
    process = project.start("--config", "config.yaml")
    wait_for(lambda: project.ended() >= 2, what="two points")
    store = tmp_path / "runs" / "demo" / "store.db"
    saved = tmp_path / "saved"
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        here = store.with_name(name)
        if how == "removed":
            here.unlink()
        else:
            here.rename(tmp_path / f"saved-{name}")
    if how == "replaced":
        saved.write_bytes(b"")
        saved.replace(store)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "store.db" in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0, err
