"""Apptainer, and Singularity, its older name: containers are children of their caller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from containers.errors import ContainerError
from containers.runtimes.base import Runtime, bound, pairs, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers.launch import Launch

_SCHEMES = ("docker://", "oras://", "library://", "shub://", "http://", "https://", "docker-archive:", "oci:")


class Apptainer(Runtime):
    """``apptainer exec``; its containers end with its process, in a process namespace of their own."""

    def command(self, launch: Launch) -> list[str]:
        """``apptainer exec``, or ``run`` for an image's own entry point."""
        self.refuse(launch, user=True)
        verb = "exec" if launch.argv and not launch.entrypoint else "run"
        argv = [self.program, verb, "--cleanenv", "--no-home", "--pid"]
        argv += ["--pwd", launch.workdir]
        argv += pairs("--bind", [bound(mount) for mount in launch.mounts])
        argv += pairs("--env", [f"{name}={value}" for name, value in launch.env.items()])
        argv += [] if launch.network else ["--net", "--network", "none"]
        argv += ["--nv"] if launch.gpus else []
        argv += [] if launch.memory_mib is None else ["--memory", f"{launch.memory_mib}m"]
        argv += [] if launch.cores is None else ["--cpus", f"{launch.cores:g}"]
        return [*argv, *launch.options, named(launch.image), *launch.argv]

    def trouble(self) -> str | None:
        """Asks for its version."""
        if self.found() is None:
            return "is not installed"
        code, text = self.ask("--version")
        return None if code == 0 else shortened(text)

    def provide(self, image: str, say: Callable[[str], None]) -> None:
        """A file or folder has to be there; an image by name is fetched by its first run."""
        place = named(image)
        if place.startswith(_SCHEMES):
            say(f"{self.name} fetches {place} when it is first run")
        elif not Path(place).exists():
            raise ContainerError(f"there is no image {place}; give a .sif file, a folder, or docker://NAME")


def named(image: str) -> str:
    """An image as apptainer names it: what is no path and has no scheme comes from a docker registry.

    >>> named("user/train:1"), named("/images/train.sif")
    ('docker://user/train:1', '/images/train.sif')
    """
    if (
        image.startswith((*_SCHEMES, "/", "./", "../"))
        or image.endswith((".sif", ".sqfs"))
        or Path(image).exists()
    ):
        return image
    return f"docker://{image}"
