"""The NVIDIA GPUs of this machine, as their driver's management library (NVML) shows them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
_MIB = 2**20


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a slice of one (MIG).

    Attributes:
        uuid: as `CUDA_VISIBLE_DEVICES` takes it: ``GPU-…`` or ``MIG-…``.
        name: the model's.
        memory_mib: its memory, in MiB.
        index: where it stands in NVML's list of GPUs, which is that of ``nvidia-smi``.
        slice: whether it is a slice.
    """

    uuid: str
    name: str
    memory_mib: int
    index: int = 0
    slice: bool = False


@dataclass(frozen=True)
class GpuUse:
    """How busy a GPU is.

    Attributes:
        uuid: which.
        name: the model's.
        memory_mib: its memory, in MiB.
        used_mib: how much of it is taken, by anybody.
        busy: share of the last moments in which it computed, from 0 to 1; None for a slice, which does not tell.
        celsius: its temperature; None where it does not tell.
    """

    uuid: str
    name: str
    memory_mib: int
    used_mib: int
    busy: float | None = None
    celsius: int | None = None


def find_gpus(env: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """The GPUs that this process may use; none where there is no driver.

    A GPU that is divided into MIG slices stands for these. `CUDA_VISIBLE_DEVICES`, which batch systems set, is
    heeded; numbers in it count as in ``nvidia-smi``.

    Args:
        env: the environment.
    """
    with _nvml() as nvml:
        if nvml is None:
            return ()
        found = [gpu for index in range(nvml.nvmlDeviceGetCount()) for gpu in _of(nvml, index)]
    visible = env.get(VISIBLE)
    return tuple(found if visible is None else _chosen(found, visible))


def gpu_use(uuids: Sequence[str]) -> list[GpuUse]:
    """How busy GPUs are. The driver of a sick GPU may take seconds to answer: call it off any loop."""
    with _nvml() as nvml:
        return [] if nvml is None else [use for uuid in uuids if (use := _use(nvml, uuid)) is not None]


def gpu_memory_of_processes(uuids: Sequence[str]) -> dict[int, int]:
    """How much memory of these GPUs each process holds, in MiB by process id, as far as the driver tells."""
    held: dict[int, int] = {}
    with _nvml() as nvml:
        for uuid in uuids if nvml is not None else ():
            with contextlib.suppress(nvml.NVMLError):
                for each in nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByUUID(uuid)):
                    if each.usedGpuMemory is not None:
                        held[each.pid] = held.get(each.pid, 0) + each.usedGpuMemory // _MIB
    return held


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The library, opened; None where there is none, or no driver to answer it."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _of(nvml: Any, index: int) -> Iterator[Gpu]:
    """The GPU of a number, or its slices; nothing where it does not answer (it has fallen off its bus)."""
    with contextlib.suppress(nvml.NVMLError):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name, divided = _text(nvml.nvmlDeviceGetName(handle)), False
        with contextlib.suppress(nvml.NVMLError):  # older models know no slices
            divided = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
        if not divided:
            yield _gpu(nvml, handle, name, index)
            return
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(nvml.NVMLError):  # not all places hold a slice
                piece = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                yield _gpu(nvml, piece, name, index, is_slice=True)


def _gpu(nvml: Any, handle: Any, name: str, index: int, *, is_slice: bool = False) -> Gpu:
    memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // _MIB
    return Gpu(_text(nvml.nvmlDeviceGetUUID(handle)), name, memory, index, is_slice)


def _use(nvml: Any, uuid: str) -> GpuUse | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name = _text(nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError:
        return None
    busy = celsius = None
    with contextlib.suppress(nvml.NVMLError):
        busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    with contextlib.suppress(nvml.NVMLError):
        celsius = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return GpuUse(uuid, name, int(memory.total) // _MIB, int(memory.used) // _MIB, busy, celsius)


def _chosen(found: Sequence[Gpu], visible: str) -> list[Gpu]:
    """Those that a list of numbers or beginnings of UUIDs names; as CUDA has it, a wrong one ends the list."""
    chosen: list[Gpu] = []
    for word in (each.strip() for each in visible.split(",")):
        if word.isdigit():
            named = [gpu for gpu in found if gpu.index == int(word)]
        else:
            named = [gpu for gpu in found if word and gpu.uuid.startswith(word)]
        if not named:
            break
        chosen += [gpu for gpu in named if gpu not in chosen]
    return chosen


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
