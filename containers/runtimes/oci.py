"""docker and podman: two programs with one command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from containers.errors import ContainerError
from containers.runtimes.base import Runtime, bound, pairs, shortened

if TYPE_CHECKING:
    from containers.launch import Launch

LABEL = "hpo-steer"


class _Oci(Runtime):
    """What both have in common."""

    detached: ClassVar[bool] = True

    def command(self, launch: Launch) -> list[str]:
        """``docker run`` or ``podman run``, attached."""
        argv = [self.program, "run", "--rm", "--name", launch.name, "--label", LABEL, "--log-driver", "none"]
        argv += ["--interactive"] if launch.interactive else []
        argv += ["--security-opt", "label=disable"]  # SELinux would hide the mounts
        argv += self._user(launch)
        argv += ["--workdir", launch.workdir]
        argv += pairs("--volume", [bound(mount) for mount in launch.mounts])
        argv += pairs("--env", [f"{name}={value}" for name, value in launch.env.items()])
        argv += [] if launch.network else ["--network", "none"]
        argv += self._gpus() if launch.gpus else []
        argv += [] if launch.memory_mib is None else ["--memory", f"{launch.memory_mib}m"]
        argv += [] if launch.cores is None else ["--cpus", f"{launch.cores:g}"]
        argv += ["--cpuset-cpus", ",".join(map(str, launch.core_set))] if launch.core_set else []
        argv += ["--entrypoint", ""] if launch.argv and not launch.entrypoint else []
        return [*argv, *launch.options, launch.image, *launch.argv]

    def _user(self, launch: Launch) -> list[str]:
        if launch.user is not None:
            return ["--user", launch.user]
        return [] if os.getuid() == 0 else self._caller()

    def _caller(self) -> list[str]:
        return ["--user", f"{os.getuid()}:{os.getgid()}"]

    def _gpus(self) -> list[str]:
        return ["--gpus", "all"]

    def takes(self, image: str) -> bool:
        """A name, no path."""
        return not image.startswith(("/", "./", "../", "~")) and not image.endswith((".sif", ".sqfs"))

    def provide(self, image: str, say: Callable[[str], None]) -> None:
        """Looks for the image here, and pulls it if it is not."""
        if not self.takes(image):
            raise ContainerError(
                f"{image} is a path; {self.name} runs images by name. For a file or folder: apptainer"
            )
        code, text = self.ask("image", "inspect", "--format", "{{.Id}}", image)
        if code == 0:
            return
        say(f"pulling {image} with {self.name}")
        code, text = self.ask("pull", "--quiet", image, timeout_s=None)
        if code != 0:
            raise ContainerError(
                f'there is no image "{image}" here, and {self.name} cannot pull it: {shortened(text)}. '
                f"{self.name} images lists what is here"
            )


class Docker(_Oci):
    """The Docker engine."""

    def removal(self, name: str) -> list[str]:
        """Kills and removes it."""
        return [self.program, "rm", "--force", name]

    def trouble(self) -> str | None:
        """Asks the engine, which may be down or closed to this user."""
        if self.found() is None:
            return "is not installed"
        code, text = self.ask("version", "--format", "{{.Server.Version}}")
        if code == 0:
            return None
        if "permission denied" in text.lower():
            return "no permission on its socket: join the group docker (and log in again), or use podman"
        if "cannot connect" in text.lower() or "is the docker daemon running" in text.lower():
            return "the engine does not run: start it (systemctl start docker), or use podman"
        return shortened(text)


class Podman(_Oci):
    """Podman, as root or rootless."""

    def removal(self, name: str) -> list[str]:
        """Kills and removes it; it need not be there."""
        return [self.program, "rm", "--force", "--ignore", "--time", "0", name]

    def trouble(self) -> str | None:
        """Has it look at its own storage."""
        if self.found() is None:
            return "is not installed"
        code, text = self.ask("info", "--format", "{{.Version.Version}}")
        return None if code == 0 else shortened(text)

    def _caller(self) -> list[str]:
        return ["--userns", "keep-id"]

    def _gpus(self) -> list[str]:
        return ["--device", "nvidia.com/gpu=all"]
