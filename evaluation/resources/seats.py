"""What the processes of each slot find in their environment, so that they use what the slot has and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from containers.process import Seat
from hpo_steer.machine.gpus import VISIBLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.resources.places import Place
    from hpo_steer.machine import Wants

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
"""Where libraries look for how many threads to start; PyTorch heeds the first."""
_JAX_PART = 0.9
"""JAX takes memory beforehand; CUDA itself needs some of the share."""


def seats(
    places: Sequence[Place],
    wants: Wants,
    threads: int | None,
    given: Mapping[str, str],
    mps: Mapping[str, str],
) -> list[Seat]:
    """A seat for each place.

    Args:
        places: what each slot may use.
        wants: what each point asks for.
        threads: how many threads the libraries of a training start; None: as many as they like.
        given: environment variables of the config, which win.
        mps: what leads to the daemon through which several processes share a GPU (MPS); empty: there is none.
    """
    return [
        Seat(
            {**_environment(place, wants, threads, mps), **given},
            place.cores,
            wants.memory_mib,
            place.gpus,
            None if mps else place.gpu_memory_mib,
        )
        for place in places
    ]


def _environment(place: Place, wants: Wants, threads: int | None, mps: Mapping[str, str]) -> dict[str, str]:
    env: dict[str, str] = {}
    if threads is not None:
        env |= dict.fromkeys(THREADS, str(threads))
    if wants.gpus is not None:
        env[VISIBLE] = ",".join(place.gpus)
    if place.share is not None and place.gpu_memory_mib is not None:
        env["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{_JAX_PART * place.share:.3f}"
        env["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        if mps:
            env |= mps
            env["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={place.gpu_memory_mib}M"
            # twice its share, so that a GPU is not idle while a neighbour loads data
            env["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = f"{min(100.0, 200 * place.share):g}"
    return env
