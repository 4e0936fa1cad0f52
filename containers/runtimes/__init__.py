"""How a command runs in docker, podman, apptainer, singularity, charliecloud, or in no container at all.

`find_runtime` gives the one a config asks for. A new runtime is one file here, and a line in `RUNTIMES`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from containers.errors import ContainerError
from containers.runtimes.apptainer import Apptainer
from containers.runtimes.base import Runtime
from containers.runtimes.charliecloud import Charliecloud
from containers.runtimes.none import NoRuntime
from containers.runtimes.oci import Docker, Podman

__all__ = ["RUNTIMES", "Runtime", "find_runtime"]

RUNTIMES: dict[str, type[Runtime]] = {
    "podman": Podman,
    "docker": Docker,
    "apptainer": Apptainer,
    "singularity": Apptainer,
    "charliecloud": Charliecloud,
    "none": NoRuntime,
}
"""Every runtime by name, in the order in which ``auto`` tries them."""

_REMEDY = (
    "Install podman, docker, apptainer or charliecloud; runtime: none runs a plain process without an image"
)


def find_runtime(name: str, image: str | None = None, env: Mapping[str, str] | None = None) -> Runtime:
    """The runtime of that name, once it is sure to work here.

    Args:
        name: as in a config; ``auto`` takes the first one that works (and can take the image).
        image: what it is to run; a file or folder is no image for docker and podman.
        env: the environment that it is looked for in; this process's own if left out.

    Raises:
        ContainerError: it does not work here, and why; with ``auto``, why none of them does.
    """
    env = os.environ if env is None else env
    if name != "auto":
        runtime = RUNTIMES[name](name, env)
        if (wrong := runtime.trouble()) is not None:
            raise ContainerError(f"runtime: {name} does not work here: {wrong}")
        return runtime
    troubles = []
    for candidate, make in RUNTIMES.items():
        if candidate == "none":
            continue
        runtime = make(candidate, env)
        wrong = runtime.trouble()
        if wrong is None and image is not None and not runtime.takes(image):
            wrong = f"cannot run {image}"
        if wrong is None:
            return runtime
        troubles.append(f"{candidate}: {wrong}")
    raise ContainerError(f"no container runtime works here ({'; '.join(troubles)}). {_REMEDY}")
