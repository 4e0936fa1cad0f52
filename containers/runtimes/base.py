"""What every runtime offers: the argument lists of a container's life, and a look at what the machine has."""

from __future__ import annotations

import shutil
import subprocess
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from containers.errors import ContainerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from containers.launch import Launch, Mount

PROBE_S = 20.0
_MOST_SHOWN = 300


class Runtime(ABC):
    """One way to run a command in a container.

    Args:
        name: as configured.
        env: the environment its program is run in.

    Attributes:
        detached: whether its containers live on when the process that started them is killed, so that `removal` is
            needed.
    """

    detached: ClassVar[bool] = False

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name, self.env = name, env

    @property
    def program(self) -> str:
        """The program that runs containers."""
        return self.name

    @abstractmethod
    def command(self, launch: Launch) -> list[str]:
        """The argument list that runs a command in a container and ends with its exit code.

        Raises:
            ContainerError: something is asked for that this runtime cannot do.
        """

    def make_ready(self, launch: Launch) -> None:  # noqa: B027 - most have nothing to do
        """Does what has to be done on this machine before `command` is run.

        Raises:
            ContainerError: it cannot be done.
        """

    def removal(self, name: str) -> list[str] | None:  # noqa: ARG002 - some need it
        """The argument list that ends a container and all that is in it; None where killing its process does."""
        return None

    def takes(self, image: str) -> bool:
        """Whether an image of that name is one for this runtime."""
        return bool(image)

    @abstractmethod
    def trouble(self) -> str | None:
        """Why it does not work on this machine; None if it does."""

    def provide(self, image: str, say: Callable[[str], None]) -> None:  # noqa: B027 - likewise
        """Sees to it that an image is on this machine.

        Args:
            image: its name.
            say: told when it is fetched, which may take long.

        Raises:
            ContainerError: it is not here and cannot be had.
        """

    def found(self) -> str | None:
        """Where the program lies."""
        return shutil.which(self.program, path=self.env.get("PATH"))

    def ask(self, *arguments: str, timeout_s: float | None = PROBE_S) -> tuple[int, str]:
        """Runs the program for an answer.

        Returns:
            Its exit code, and what it printed (on stderr, if it failed).
        """
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError:
            return 127, "is not installed"
        except (OSError, subprocess.TimeoutExpired) as exc:
            return 126, str(exc)
        text = done.stdout if done.returncode == 0 else done.stderr or done.stdout
        return done.returncode, text.decode("utf-8", "replace").strip()

    def refuse(
        self, launch: Launch, *, network: bool = False, limits: bool = False, user: bool = False
    ) -> None:
        """Raises for what is asked for and cannot be done; nothing that is configured is ignored.

        Args:
            launch: what is asked for.
            network: whether a missing network is beyond this runtime.
            limits: whether bounds on memory and cores are.
            user: whether another user is.
        """
        wanted = {
            "network: false": network and not launch.network,
            "memory_mib": limits and launch.memory_mib is not None,
            "cores": limits and launch.cores is not None,
            "user": user and launch.user is not None,
        }
        for key, impossible in wanted.items():
            if impossible:
                raise ContainerError(
                    f"container.{key} is beyond {self.name}; leave it out, or take docker or podman"
                )


def shortened(text: str) -> str:
    """The last line that a program said, or its end."""
    line = next(
        (" ".join(line.split()) for line in reversed(text.splitlines()) if line.strip()), "it says nothing"
    )
    return line if len(line) <= _MOST_SHOWN else "… " + line[-_MOST_SHOWN:]


def bound(mount: Mount) -> str:
    """A mount as docker, podman and apptainer write it: ``HOST:INSIDE``, or ``HOST:INSIDE:ro``.

    Raises:
        ContainerError: a colon in one of its paths, which none of them can tell from their own.
    """
    if ":" in mount.host or ":" in mount.inside:
        raise ContainerError(f"a colon in {mount.host}: such a folder cannot be mounted; rename it")
    return f"{mount.host}:{mount.inside}" + ("" if mount.writable else ":ro")


def pairs(flag: str, values: Sequence[str]) -> list[str]:
    """``flag value flag value``."""
    return [part for value in values for part in (flag, value)]
