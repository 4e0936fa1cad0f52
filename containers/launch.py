"""A command and the container it runs in, as values that every runtime can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hpo_steer.config.container import Container


@dataclass(frozen=True)
class Mount:
    """A folder or file of this machine that is seen in a container.

    Attributes:
        host: its path here.
        inside: its path there.
        writable: whether it may be changed from there.
    """

    host: str
    inside: str
    writable: bool = True


@dataclass(frozen=True)
class Launch:
    """A command in a container.

    Attributes:
        image: name of the image, or the path of one.
        argv: program and arguments; empty: the image's entry point.
        name: of the container, unique on this machine.
        workdir: where it starts, a path in the container.
        mounts: what it sees of this machine.
        env: environment variables inside.
        network: whether it has one.
        user: ``UID[:GID]`` inside; None: the caller.
        gpus: whether the machine's GPUs are handed in.
        memory_mib: bound on its memory, in MiB.
        cores: bound on the cores it uses.
        core_set: the numbers of the cores that it may run on; none: any.
        options: further arguments of the runtime, as they are.
        interactive: whether its standard input is open.
        entrypoint: whether the image's entry point gets `argv` as its arguments, where the runtime knows entry points.
    """

    image: str
    argv: tuple[str, ...]
    name: str
    workdir: str
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    network: bool = True
    user: str | None = None
    gpus: bool = False
    memory_mib: int | None = None
    cores: float | None = None
    core_set: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    interactive: bool = False
    entrypoint: bool = False


def mounts_of(container: Container, folder: Path) -> tuple[Mount, ...]:
    """The mounts of a config; what they name here is relative to the config's folder."""
    found = []
    for text in container.mounts:
        host, _, rest = text.partition(":")
        inside, _, mode = rest.partition(":")
        found.append(Mount(str(folder / host), inside, mode != "ro"))
    return tuple(found)
