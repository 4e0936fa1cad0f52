"""What a machine has for trainings, and how it is divided into slots."""

from hpo_steer.machine.gpus import Gpu, GpuUse, find_gpus, gpu_use
from hpo_steer.machine.host import Machine, look
from hpo_steer.machine.slots import Unfit, Wants, capacity, share_out, slots_here, slots_of_workers

__all__ = [
    "Gpu",
    "GpuUse",
    "Machine",
    "Unfit",
    "Wants",
    "capacity",
    "find_gpus",
    "gpu_use",
    "look",
    "share_out",
    "slots_here",
    "slots_of_workers",
]
