"""What a machine has, and how it is divided: planning as values, NVML by a library that stands in for it."""

import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from hpo_steer.errors import ConfigError
from hpo_steer.machine import (
    Gpu,
    Machine,
    Unfit,
    Wants,
    capacity,
    find_gpus,
    gpu_use,
    look,
    share_out,
    slots_here,
)

STAND_IN = Path(__file__).parents[1] / "payloads/nvml/pynvml.py"
Show = Callable[[list[dict[str, Any]]], None]


def load_stand_in() -> Any:
    spec = importlib.util.spec_from_file_location("pynvml", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


H200 = [Gpu(f"GPU-{i}", "NVIDIA H200", 143_771, i) for i in range(4)]
NODE = Machine("node7", tuple(range(64)), 512 * 1024, tuple(H200))
LAPTOP = Machine("laptop", (0, 1), 8_000)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Show:
    module = load_stand_in()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def show(gpus: list[dict[str, Any]]) -> None:
        monkeypatch.setenv("FAKE_GPUS", json.dumps(gpus))

    return show


def test_the_stand_in_is_like_the_true_library() -> None:
    stand_in = load_stand_in()
    names = [name for name in vars(stand_in) if name.startswith("nvml")]
    assert len(names) > 8
    for name in names:
        true = inspect.signature(getattr(pynvml, name)).parameters
        assert list(inspect.signature(getattr(stand_in, name)).parameters) == [
            p for p in true if p != "flags"
        ], name
    assert pynvml.NVML_DEVICE_MIG_ENABLE == stand_in.NVML_DEVICE_MIG_ENABLE
    assert pynvml.NVML_TEMPERATURE_GPU == stand_in.NVML_TEMPERATURE_GPU
    assert issubclass(pynvml.NVMLError, Exception)


def test_without_a_driver_there_are_no_gpus(nvml: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_GPUS", raising=False)
    assert find_gpus() == ()
    assert gpu_use(["GPU-a"]) == []


def test_gpus_and_slices_are_found_and_a_lost_one_is_left_out(nvml: Show) -> None:
    nvml(
        [
            {"uuid": "GPU-a", "name": "NVIDIA A100", "mib": 40_000},
            {"uuid": "GPU-b", "name": "NVIDIA A100", "mib": 40_000, "lost": True},
            {
                "uuid": "GPU-c",
                "name": "NVIDIA A100",
                "mib": 40_000,
                "slices": [{"uuid": "MIG-1", "mib": 10_000}, {"uuid": "MIG-2", "mib": 10_000}],
            },
        ]
    )
    assert [(gpu.uuid, gpu.memory_mib, gpu.slice) for gpu in find_gpus({})] == [
        ("GPU-a", 40_000, False),
        ("MIG-1", 10_000, True),
        ("MIG-2", 10_000, True),
    ]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1,0", ["GPU-bb", "GPU-aa"]),
        ("GPU-b", ["GPU-bb"]),
        ("0,7,1", ["GPU-aa"]),  # as CUDA has it, a wrong one ends the list
        ("", []),
        ("-1", []),
        ("0,0", ["GPU-aa"]),
    ],
)
def test_what_a_batch_system_leaves_visible_is_heeded(nvml: Show, visible: str, expected: list[str]) -> None:
    nvml([{"uuid": "GPU-aa", "mib": 10}, {"uuid": "GPU-bb", "mib": 10}])
    assert [gpu.uuid for gpu in find_gpus({"CUDA_VISIBLE_DEVICES": visible})] == expected


def test_how_busy_gpus_are(nvml: Show) -> None:
    nvml([{"uuid": "GPU-a", "mib": 100, "used": 40, "busy": 73}, {"uuid": "GPU-b", "mib": 100}])
    first, second = gpu_use(["GPU-a", "GPU-b", "GPU-gone"])
    assert (first.used_mib, first.busy, first.celsius) == (40, 0.73, 41)
    assert second.busy is None


def test_this_machine() -> None:
    machine = look()
    assert machine.cores
    assert machine.memory_mib is not None
    assert machine.memory_mib > 100
    assert f"{len(machine.cores)} core" in str(machine)


def test_a_machine_in_words() -> None:
    assert str(NODE) == "4 x H200 (140 GiB), 64 cores, 512 GiB"
    assert str(LAPTOP) == "no GPU, 2 cores, 7.8 GiB"


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        (Wants(), 64),
        (Wants(gpus=1), 4),
        (Wants(gpus=2), 2),
        (Wants(gpus=3), 1),
        (Wants(gpus=0.25), 16),
        (Wants(gpus=0.3), 12),
        (Wants(gpus=1 / 3), 12),
        (Wants(gpus=0), 64),
        (Wants(gpus=0.25, cores=8), 8),
        (Wants(cores=5), 12),
        (Wants(memory_mib=100 * 1024), 5),
    ],
)
def test_capacity(wants: Wants, expected: int) -> None:
    assert capacity(NODE, wants) == expected


@pytest.mark.parametrize(
    ("machine", "wants", "sentence"),
    [
        (
            LAPTOP,
            Wants(gpus=1),
            "evaluation.gpus: each point asks for 1 GPU, and laptop has none. Ask for less",
        ),
        (LAPTOP, Wants(gpus=0.5), "each point asks for 0.5 of a GPU, and laptop has none"),
        (NODE, Wants(gpus=8), "each point asks for 8 GPUs, and node7 has 4 (NVIDIA H200)"),
        (LAPTOP, Wants(cores=3), "evaluation.cores: each point asks for 3 cores, and laptop has 2"),
        (LAPTOP, Wants(memory_mib=9_000), "each point asks for 9,000 MiB, and laptop has 8,000"),
    ],
)
def test_a_machine_that_has_too_little(machine: Machine, wants: Wants, sentence: str) -> None:
    with pytest.raises(Unfit) as caught:
        capacity(machine, wants)
    assert sentence in str(caught.value)


def test_slots_of_a_worker_and_of_several() -> None:
    assert slots_here(NODE, Wants(), None) == 1
    assert slots_here(NODE, Wants(), "auto") == 64
    assert slots_here(NODE, Wants(gpus=0.25), None) == 16
    assert slots_here(NODE, Wants(gpus=0.25), 3) == 3
    assert share_out(NODE, Wants(gpus=1), None, 3) == [2, 1, 1]
    assert share_out(NODE, Wants(gpus=2), "auto", 3) == [1, 1]  # no more workers than slots
    assert share_out(NODE, Wants(gpus=0.25), None, 2) == [8, 8]
    assert share_out(NODE, Wants(gpus=0.25), None, 9) == [4, 4, 4, 4]  # no GPU has points of two workers
    assert share_out(NODE, Wants(gpus=0.4), None, 3) == [4, 2, 2]
    assert share_out(NODE, Wants(gpus=0.25, cores=9), None, 2) == [4, 3]
    assert share_out(NODE, Wants(), 2, 3) == [2, 2, 2]
    assert share_out(LAPTOP, Wants(), 5, 4) == [5, 5, 5, 5]  # nothing is asked for: as the user likes
    assert share_out(NODE, Wants(gpus=1), None, 0) == []
    with pytest.raises(
        ConfigError, match=r"2 in each of 3 workers, of 1 GPU each, do not fit on node7.*: 4 do"
    ):
        share_out(NODE, Wants(gpus=1), 2, 3)
