"""NVIDIA's Multi-Process Service, as far as it is there: a daemon that runs, or the program that starts one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_USUAL = "/tmp/nvidia-mps"  # noqa: S108 - NVIDIA's own place


def running_mps(env: Mapping[str, str] = os.environ) -> Path | None:
    """The pipes of a daemon that somebody runs on this machine."""
    folder = Path(env.get(PIPES) or _USUAL)
    return folder if (folder / "control").exists() else None


def mps_program(env: Mapping[str, str] = os.environ) -> str | None:
    """The program that starts a daemon."""
    return shutil.which(CONTROL, path=env.get("PATH"))
