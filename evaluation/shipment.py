"""From a code bundle to a runner: what is to be run in it, and whether this machine can."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from containers.enclosure import check_container
from hpo_steer.config.surroundings import check_evaluation
from hpo_steer.errors import BundleError, ConfigError
from hpo_steer.machine.slots import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.launch import Assignment
    from evaluation.runners.base import Runner
    from hpo_steer.shipping import Prepared


class Workshop:
    """Makes runners of bundles.

    Args:
        assignment: the worker's. If it `ships_all`, what is to be run comes with the bundle; else it says that itself,
            and the bundle brings the files.
        make_runner: makes a runner of an assignment whose folder is there.
        say: told what looks wrong without being an error.

    Attributes:
        heartbeat_s: how often the experiment wants a sign of life, once a bundle has told.
    """

    def __init__(
        self, assignment: Assignment, make_runner: Callable[[Assignment], Runner], say: Callable[[str], None]
    ) -> None:
        self._assignment, self._make_runner, self._say = assignment, make_runner, say
        self.heartbeat_s: float | None = None

    def inspect(self, prepared: Prepared) -> Assignment:
        """What to do with a bundle.

        Raises:
            BundleError: it is of another experiment, or its manifest is none of this version.
            ConfigError: this machine cannot run it.
            ContainerError: likewise, for want of a runtime or an image.
        """
        mine, manifest = self._assignment, prepared.manifest
        if manifest.experiment != mine.experiment:
            raise BundleError(f"it is of experiment {manifest.experiment}, this is {mine.experiment}")
        changes = {}
        if mine.evaluation.python is not None:
            changes["python"] = _anchored(mine.evaluation.python, mine.folder)
        if mine.ships_all:
            changes |= {name: getattr(mine.evaluation, name) for name in RESOURCES}
            evaluation = manifest.section()
            objectives, parameters, data = manifest.objectives, manifest.parameters, manifest.data
        else:
            evaluation = mine.evaluation
            objectives, parameters, data = (
                list(mine.objectives),
                list(mine.parameters),
                {name: list(files) for name, files in mine.data.items()},
            )
        todo = replace(
            mine,
            evaluation=evaluation.model_copy(update=changes),
            objectives=objectives,
            parameters=parameters,
            data=data,
            folder=prepared.folder / manifest.folder,
        )
        todo.folder.mkdir(parents=True, exist_ok=True)
        try:
            check_evaluation(
                todo.evaluation, todo.folder, todo.parameters, lambda text: self._say(f"warning: {text}")
            )
        except ConfigError as exc:
            hint = "; give this worker its own with --python" if exc.key == "evaluation.python" else ""
            raise ConfigError(exc.key, exc.message + hint) from None
        if todo.evaluation.container is not None:
            check_container(todo.evaluation.container, todo.folder, self._say)  # its image is fetched now
        return todo

    def make(self, todo: Assignment) -> Runner:
        """The runner for what `inspect` has found."""
        self.heartbeat_s = todo.evaluation.heartbeat_s
        return self._make_runner(todo)


def _anchored(python: str, folder: Path) -> str:
    """An interpreter of this machine, by a name that holds in any folder."""
    name = os.path.expanduser(python)  # noqa: PTH111 - Path.expanduser raises
    return os.path.abspath(folder / name) if os.sep in name else name  # noqa: PTH100 - links stay as they are
