"""A steering command, called once for each ask."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from steering.contract.program import Known, Program, Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steering.outside.file_command import FileCommand


class CommandProgram(Program):
    """A command that meets us through PanDA's files.

    Args:
        command: what is called.
    """

    counts_pending: ClassVar[str] = (
        "it counts points on their way as new ones. hpo-steer asks again for the rest, and once nothing comes back it "
        "waits for results"
    )
    counts_failed: ClassVar[str] = (
        "it takes the failed point (null, and listed under the key failed) for one on its way. The option failed: omit "
        "leaves such points out; failed: 100000 gives them that loss"
    )

    def __init__(self, command: FileCommand) -> None:
        self._command = command
        if not command.bounded:
            self.unbounded = "the command has no %MAX_POINTS"

    def ask(self, known: Sequence[Known], n: int, max_points: int | None = None) -> Reply:
        """Calls the command."""
        began = time.monotonic()
        points, _ = self._command.run(known, n, max_points)
        return Reply(points, None, time.monotonic() - began)
