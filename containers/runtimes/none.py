"""No container: a plain process, for tests and for machines without a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from containers.errors import ContainerError
from containers.runtimes.base import Runtime

if TYPE_CHECKING:
    from containers.launch import Launch


class NoRuntime(Runtime):
    """Runs the command itself; its folder and environment are those of the process that starts it."""

    def command(self, launch: Launch) -> list[str]:
        """The command."""
        self.refuse(launch, network=True, limits=True, user=True)
        if not launch.argv:
            raise ContainerError("container.runtime: none has no image with an entry point; give a command")
        if moved := next((m for m in launch.mounts if m.host != m.inside), None):
            raise ContainerError(
                f"container.mounts: without a container {moved.host} cannot be seen at {moved.inside}"
            )
        return [*launch.options, *launch.argv]

    def trouble(self) -> str | None:
        """None: there is nothing that could be missing."""
        return None
