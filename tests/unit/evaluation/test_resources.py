"""Which slot gets what: places, claims of several workers, seats, MPS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.process import ProcessGroup, Seat, Surroundings
from containers.warden import Warden
from evaluation.resources.claims import Claim, Claims
from evaluation.resources.memory import MemoryWatch
from evaluation.resources.mps import Mps
from evaluation.resources.places import Place, choose, take_places
from evaluation.resources.seats import seats
from hpo_steer.errors import ConfigError
from hpo_steer.machine import Gpu, Machine, Wants, capacity

NODE = Machine("node7", tuple(range(8)), 64_000, tuple(Gpu(f"GPU-{i}", "H200", 140_000, i) for i in range(4)))
CLAIMANT = """
import os, sys, time
from pathlib import Path
from evaluation.resources.claims import Claims
from evaluation.resources.places import Place
Claims(Path(sys.argv[1])).take("other", lambda held: [Place(("GPU-0",)), Place(("GPU-1",), 0.5)])
print("taken", flush=True)
time.sleep(600)
"""


def places(wants: Wants, slots: int, held: list[Claim] | None = None) -> list[Place]:
    found = choose(NODE, wants, slots, held or [])
    assert found is not None
    return found


def test_shares_are_spread_over_all_gpus() -> None:
    found = places(Wants(gpus=0.25), 4)
    assert sorted(place.gpus for place in found) == [("GPU-0",), ("GPU-1",), ("GPU-2",), ("GPU-3",)]
    assert {place.gpu_memory_mib for place in found} == {35_000}


def test_several_gpus_lie_side_by_side() -> None:
    assert [place.gpus for place in places(Wants(gpus=2), 2)] == [("GPU-0", "GPU-1"), ("GPU-2", "GPU-3")]


def test_what_others_hold_is_left_alone() -> None:
    held = [Claim(1, "1", "x", (("GPU-0", 1.0), ("GPU-1", 0.5)))]
    assert choose(NODE, Wants(gpus=1), 3, held) is None
    assert [place.gpus for place in places(Wants(gpus=1), 2, held)] == [("GPU-2",), ("GPU-3",)]
    assert sorted(place.gpus for place in places(Wants(gpus=0.5), 5, held)) == [
        ("GPU-1",),
        ("GPU-2",),
        ("GPU-2",),
        ("GPU-3",),
        ("GPU-3",),
    ]


def test_workers_side_by_side_fill_one_gpu_after_the_other() -> None:
    first = choose(NODE, Wants(gpus=0.5), 4, [], packed=True)
    assert first is not None
    assert [place.gpus for place in first] == [("GPU-0",), ("GPU-0",), ("GPU-1",), ("GPU-1",)]
    held = [Claim(1, "1", "x", (("GPU-0", 1.0), ("GPU-2", 0.75)))]
    second = choose(NODE, Wants(gpus=0.25), 3, held, packed=True)
    assert second is not None
    assert [place.gpus for place in second] == [("GPU-2",), ("GPU-1",), ("GPU-1",)]


def test_cores_that_nobody_uses_come_first() -> None:
    held = [Claim(1, "1", "x", cores=(0, 1, 2, 3))]
    assert [place.cores for place in places(Wants(cores=2), 2, held)] == [(4, 5), (6, 7)]
    assert [place.cores for place in places(Wants(cores=2), 3, held)] == [(0, 1), (4, 5), (6, 7)]


@given(
    st.sampled_from([None, 0.0, 0.1, 0.25, 0.3, 1 / 3, 0.5, 1.0, 2.0, 3.0]),
    st.sampled_from([None, 1, 2, 3]),
    st.data(),
)
def test_no_gpu_is_given_away_twice(gpus: float | None, cores: int | None, data: st.DataObject) -> None:
    wants = Wants(gpus, cores)
    slots = data.draw(st.integers(1, capacity(NODE, wants)))
    found = places(wants, slots)
    assert len(found) == slots
    load: dict[str, float] = {}
    for place in found:
        for uuid in place.gpus:
            load[uuid] = load.get(uuid, 0.0) + (place.share or 1.0)
    assert all(share <= 1 + 1e-6 for share in load.values())
    used = [core for place in found for core in place.cores]
    assert len(used) == len(set(used)) == slots * (cores or 0)


def test_claims_end_with_the_process_that_held_them(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CLAIMANT, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"taken\n"
        claims = Claims(tmp_path)
        (held,) = claims.others()
        assert (held.pid, held.experiment, held.gpus) == (
            other.pid,
            "other",
            (("GPU-0", 1.0), ("GPU-1", 0.5)),
        )
        assert claims.take("mine", lambda held: choose(NODE, Wants(gpus=1), 3, held)) is None
        other.kill()
    taken = claims.take("mine", lambda held: choose(NODE, Wants(gpus=1), 3, held))
    assert taken is not None
    assert Claims(tmp_path).others() == [], "our own are none of others"
    assert json.loads((tmp_path / "claims.json").read_text())[0]["pid"] == os.getpid()
    claims.release()
    assert json.loads((tmp_path / "claims.json").read_text()) == []


def test_a_file_of_claims_that_was_cut_off_holds_none(tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text('[{"pid": 1, "bo')
    assert Claims(tmp_path).others() == []


def test_waiting_ends_when_it_is_not_to_go_on(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CLAIMANT, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        said: list[str] = []
        found = take_places(
            NODE,
            Wants(gpus=1),
            4,
            experiment="x",
            say=said.append,
            claims=Claims(tmp_path),
            goes_on=lambda: False,
        )
        other.kill()
    assert found == []
    assert said == [
        f'waiting: hpo-evaluate {other.pid} ("other") uses the GPUs of node7; what it leaves is taken at once'
    ]


def test_a_share_tells_libraries_of_its_memory() -> None:
    (seat,) = seats([Place(("GPU-0",), 0.25, 35_000)], Wants(gpus=0.25), 2, {}, {})
    assert seat.env["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert seat.env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.225"
    assert seat.env["OMP_NUM_THREADS"] == seat.env["MKL_NUM_THREADS"] == "2"
    assert seat.gpu_memory_mib == 35_000


def test_without_a_word_about_gpus_none_is_hidden() -> None:
    (seat,) = seats([Place()], Wants(), None, {}, {})
    assert dict(seat.env) == {}
    (seat,) = seats([Place()], Wants(gpus=0), None, {}, {})
    assert dict(seat.env) == {"CUDA_VISIBLE_DEVICES": ""}


CONTROL = """#!/bin/sh
[ "$1" = -f ] || exit 1
{body}
touch "$CUDA_MPS_PIPE_DIRECTORY/control"
echo "$CUDA_VISIBLE_DEVICES" > "$CUDA_MPS_LOG_DIRECTORY/devices"
exec sleep 600
"""


@pytest.fixture
def control(tmp_path: Path) -> Any:
    """A program in the place of NVIDIA's daemon, which needs a GPU."""

    def make(body: str = "") -> dict[str, str]:
        (tmp_path / "bin").mkdir()
        file = tmp_path / "bin/nvidia-cuda-mps-control"
        file.write_text(CONTROL.format(body=body))
        file.chmod(0o755)
        return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    return make


def test_mps_is_started_for_shares_and_ended(tmp_path: Path, control: Any) -> None:
    warden = Warden("test")
    mps = Mps("auto", ["GPU-0", "GPU-1"], tmp_path / "mps.log", warden, control())
    pipes = Path(mps.env["CUDA_MPS_PIPE_DIRECTORY"])
    assert (pipes / "devices").read_text() == "GPU-0,GPU-1\n"
    assert len(str(pipes)) < 80, "sockets have short addresses"
    assert mps.note is None
    (seat,) = seats([Place(("GPU-0",), 0.25, 35_000)], Wants(gpus=0.25), 1, {}, mps.env)
    assert seat.env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=35000M"
    assert seat.env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "50"
    assert seat.gpu_memory_mib is None, "MPS sees to it"
    process = mps._process
    assert process is not None
    assert process.poll() is None
    mps.close()
    mps.close()
    assert not pipes.exists()
    assert process.poll() is not None
    warden.close()


def test_mps_of_a_worker_that_is_killed_leaves_nothing(tmp_path: Path, control: Any) -> None:
    warden = Warden("test")
    mps = Mps("auto", ["GPU-0"], tmp_path / "mps.log", warden, control())
    pipes, process = Path(mps.env["CUDA_MPS_PIPE_DIRECTORY"]), mps._process
    assert pipes.exists()
    assert process is not None
    warden.close()  # as by the end of its pipe
    assert process.wait(10) != 0
    assert not pipes.exists()


def test_mps_that_does_not_start(tmp_path: Path, control: Any) -> None:
    warden, env = Warden("test"), control("exit 1")
    mps = Mps("auto", ["GPU-0"], tmp_path / "mps.log", warden, env)
    assert mps.env == {}
    assert mps.note is not None
    assert "take turns on it: nvidia-cuda-mps-control does not start (see " in mps.note
    with pytest.raises(ConfigError, match=r"evaluation\.mps: nvidia-cuda-mps-control does not start"):
        Mps(True, ["GPU-0"], tmp_path / "mps.log", warden, env)
    warden.close()


def test_mps_that_runs_already_is_used_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "control").touch()
    warden = Warden("test")
    mps = Mps("auto", ["GPU-0"], tmp_path / "own.log", warden, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert mps.env == {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    mps.close()
    assert (tmp_path / "control").exists()
    warden.close()


def test_memory_of_a_whole_session_counts(tmp_path: Path) -> None:
    """A parent of little memory with a child of much; pages that both share count once."""
    code = (
        "import os, time\n"
        "held = bytearray(90 << 20)\nheld[::4096] = b'x' * len(held[::4096])\n"
        "os.fork()\nos.write(1, b'ready\\n')\ntime.sleep(600)\n"
    )
    warden = Warden("test")
    around = Surroundings(os.environ, tmp_path, warden)
    read, write = os.pipe()
    group = ProcessGroup([sys.executable, "-c", code], around, log_fd=2, stdout_fd=write)
    os.close(write)
    with os.fdopen(read, "rb") as lines:
        assert [lines.readline(), lines.readline()] == [b"ready\n"] * 2
    seen = MemoryWatch([Seat(memory_mib=60)]).look({0: group.pid})
    assert "MiB of memory, and evaluation.memory_mib is 60" in seen[0]
    assert MemoryWatch([Seat(memory_mib=160)]).look({0: group.pid}) == {}, "90 MiB shared by two are not 180"
    assert not MemoryWatch([Seat()]).bounded
    group.kill()
    group.reap()
    warden.close()
