"""Puts the commands of one part of a config into containers: the image, its runtime, what is seen inside."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from containers.errors import ContainerError
from containers.launch import Launch, Mount, mounts_of
from containers.runtimes import find_runtime
from containers.warden import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from containers.process import Seat
    from hpo_steer.config.container import Container

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Entered:
    """How a command gets into its container.

    Attributes:
        argv: what to run on this machine.
        env: what the environment of that needs besides.
        removal: what ends the container where killing that process does not; None: that does.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    removal: Sequence[str] | None


class Enclosure:
    """One image, and how commands run in it.

    Args:
        container: as configured.
        folder: the config's folder, which is the working folder of most commands.
        mark: id of the process whose children these are; all of them carry it in their environment.
        env: what the commands find in their environment inside, besides that of the config.
        host_env: the environment of the programs that run containers.
        entrypoint: whether the image's entry point gets the commands as its arguments, if the config does not say.

    Raises:
        ContainerError: no runtime that works, or GPUs are asked for and there are none.
    """

    def __init__(
        self,
        container: Container,
        folder: Path,
        mark: str,
        env: Mapping[str, str],
        host_env: Mapping[str, str],
        *,
        entrypoint: bool = False,
    ) -> None:
        self._container, self._folder = container, folder
        self._entrypoint = entrypoint if container.entrypoint is None else container.entrypoint
        self._mark = mark
        self._env = {**env, **container.env, MARK: mark}
        self.image = _placed(container.image or "", folder)
        self.runtime = find_runtime(container.runtime, self.image, host_env)
        if container.gpus and not any(Path(device).exists() for device in _GPU_DEVICES):
            raise ContainerError("container.gpus: there is no GPU on this machine, or no driver for it")

    def __str__(self) -> str:
        return "a plain process" if self.runtime.name == "none" else f"{self.image} ({self.runtime.name})"

    @property
    def real(self) -> bool:
        """Whether there is a container at all."""
        return self.runtime.name != "none"

    def provide(self, say: Callable[[str], None]) -> None:
        """Sees to it that the image is on this machine.

        Raises:
            ContainerError: it is not and cannot be had, or the runtime cannot do what the config asks for.
        """
        self.runtime.provide(self.image, say)
        self.enter(["true"], self._folder, env={})

    def inside(self, path: Path, workdir: Path) -> str:
        """Where a path of this machine is seen in a container whose working folder is `workdir`."""
        if not self.real or self._container.workdir is None or not path.is_relative_to(workdir):
            return str(path)
        rest = path.relative_to(workdir)
        return str(Path(self._container.workdir) / rest)

    def enter(
        self,
        argv: Sequence[str],
        workdir: Path,
        *,
        env: Mapping[str, str],
        seat: Seat | None = None,
        mounts: Sequence[Mount] = (),
        interactive: bool = False,
    ) -> Entered:
        """The way of a command into a container of its own.

        Args:
            argv: program and arguments; empty: the image's entry point.
            workdir: the working folder, on this machine; it is seen inside, and the command starts in it.
            env: environment variables for the command alone.
            seat: what it may use of what a worker has; its environment is in `env` already.
            mounts: what else is seen inside.
            interactive: whether its standard input is open.

        Raises:
            ContainerError: something is asked for that the runtime cannot do.
        """
        inner = {**self._env, **env}
        place = self.inside(workdir, workdir)
        bounds = seat if self.runtime.detached else None  # other runtimes hand on what their own process has
        launch = Launch(
            self.image,
            tuple(argv),
            self._name(),
            place,
            self._seen(Mount(str(workdir), place), mounts),
            inner,
            network=self._container.network,
            user=self._container.user,
            gpus=self._container.gpus,
            memory_mib=self._container.memory_mib or (bounds.memory_mib if bounds else None),
            cores=self._container.cores,
            core_set=bounds.cores if bounds else (),
            options=tuple(self._container.options),
            interactive=interactive,
            entrypoint=self._entrypoint,
        )
        self.runtime.make_ready(launch)
        command = self.runtime.command(launch)
        return Entered(command, {} if self.real else inner, self.runtime.removal(launch.name))

    def _seen(self, working: Mount, mounts: Sequence[Mount]) -> tuple[Mount, ...]:
        """What is seen inside; outer places come before those in them."""
        own = mounts_of(self._container, self._folder)
        if not self.real:
            return own
        seen = {mount.inside: mount for mount in (*mounts, working, *own)}
        return tuple(sorted(seen.values(), key=lambda mount: mount.inside))

    def _name(self) -> str:
        mark = re.sub(r"[^A-Za-z0-9_.-]", "-", self._mark)
        return f"hpo-steer-{mark}-{os.getpid()}-{next(_numbers)}"


def check_container(container: Container, folder: Path, say: Callable[[str], None]) -> str:
    """Sees to it that a container can be had on this machine, image and all.

    Args:
        container: as configured.
        folder: the config's folder.
        say: told when the image is fetched.

    Returns:
        What will run it.

    Raises:
        ContainerError: it cannot be had.
    """
    enclosure = Enclosure(container, folder, "check", {}, os.environ)
    enclosure.provide(say)
    return str(enclosure)


def _placed(image: str, folder: Path) -> str:
    """An image that is a file or a folder, relative to the config's folder."""
    if image.startswith(("./", "../")) or (image.endswith((".sif", ".sqfs")) and not image.startswith("/")):
        return str((folder / image).resolve())
    return image
