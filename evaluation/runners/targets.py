"""What child processes run, and how they are spoken to: a function of the user's, or a service."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from evaluation.runners.base import Outcome, failed, read_answer
from hpo_steer.child import BOOTSTRAP, check_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from containers.launch import Mount

SERVICE_FAILURES = ("error", "invalid", "pruned")
"""The kinds of failure that a service may answer with."""


class Target(ABC):
    """What a child runs. Requests and answers are JSON objects, one a line.

    Attributes:
        reuse: whether one child takes many points.
        stdio: whether the lines go through its standard input and output, as into a container; else through an
            inherited socket.
        trusted: whether it is our own program that reads and writes them.
        mounts: what it needs to see in a container.
    """

    trusted: ClassVar[bool]
    reuse: bool
    stdio: bool
    mounts: Sequence[Mount]

    @abstractmethod
    def argv(self, fd: int | None, *, once: bool) -> list[str]:
        """Its program and arguments.

        Args:
            fd: the inherited socket; None: standard input and output.
            once: whether it ends after one point.
        """

    @abstractmethod
    def outcome(self, answer: Mapping[str, Any]) -> Outcome:
        """What an answer says."""


@dataclass(frozen=True)
class FunctionTarget(Target):
    """Which function, and where it runs; paths are those that the child sees.

    Attributes:
        file: the file it is in; None: `module` is found by the interpreter.
        module: the module's name.
        name: the function's.
        path: folders that go to the front of the child's ``sys.path``.
        python: the interpreter.
        link: a folder that holds nothing but `hpo_steer`.
        objectives: metrics that the function must return.
        reuse: one child takes many points.
        stdio: as in `Target`.
        mounts: as in `Target`.
    """

    file: str | None
    module: str
    name: str
    path: Sequence[str]
    python: str
    link: str
    objectives: Sequence[str]
    reuse: bool = False
    stdio: bool = False
    mounts: Sequence[Mount] = ()

    trusted: ClassVar[bool] = True

    def argv(self, fd: int | None, *, once: bool) -> list[str]:
        """Our program, run by the user's interpreter."""
        setup = {
            "fd": fd,
            "file": self.file,
            "module": self.module,
            "name": self.name,
            "path": list(self.path),
            "objectives": list(self.objectives),
            "once": once,
        }
        return [self.python, "-c", BOOTSTRAP, self.link, json.dumps(setup)]

    def outcome(self, answer: Mapping[str, Any]) -> Outcome:
        """What the child has checked already."""
        return read_answer(answer)


@dataclass(frozen=True)
class ServiceTarget(Target):
    """A program that stays up; empty arguments: the entry point of its image.

    Attributes:
        command: program and arguments.
        objectives: metrics that it must give.
        mounts: as in `Target`.
    """

    command: Sequence[str]
    objectives: Sequence[str]
    mounts: Sequence[Mount] = ()
    reuse: bool = True
    stdio: bool = True

    trusted: ClassVar[bool] = False

    def argv(self, fd: int | None, *, once: bool) -> list[str]:  # noqa: ARG002 - it knows neither
        """The user's program."""
        return list(self.command)

    def outcome(self, answer: Mapping[str, Any]) -> Outcome:
        """Checks an answer: ``{"metrics": {…}}``, or ``{"failure": {"kind": …, "message": …}}``."""
        failure = answer.get("failure")
        if failure is None and "metrics" in answer:
            return read_answer(check_metrics(answer["metrics"], self.objectives, "the service"))
        if not isinstance(failure, dict) or failure.get("kind") not in SERVICE_FAILURES:
            kinds = ", ".join(SERVICE_FAILURES)
            shown = json.dumps({name: given for name, given in answer.items() if name != "key"})[:200]
            return failed(
                "error",
                f"the service answered {shown}; expected "
                '{"key": …, "metrics": {…}} or {"key": …, "failure": {"kind": …, "message": …}} '
                f"(kinds: {kinds})",
            )
        return failed(str(failure["kind"]), str(failure.get("message", "")))
