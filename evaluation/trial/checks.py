"""The contract of an evaluation, as a list of checks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from containers.process import GRACE_S
from evaluation.trial.bench import Bench, in_grace, listing, still_running, was_read
from hpo_steer.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from evaluation.trial.bench import Seen
    from hpo_steer.config.container import Files

RANDOM, AGAIN, END = "random", "again", "end"
"""What a training is run for; any other text is that of a corner of the space."""
_LONGEST_BEFORE_STOP_S = 1.0
_LOG_LINES = 10
_SHOWN = 5


@dataclass(frozen=True)
class Planned:
    """A training to run.

    Attributes:
        subject: how its line begins.
        role: what it is for.
        params: the point, with constants.
    """

    subject: str
    role: str
    params: Mapping[str, Any]


class EvaluationChecks:
    """Runs a few trainings and looks at what they do.

    Args:
        bench: runs them.
        folder: the user's folder.
        files: the names of the files, where there are any.
        templated: whether a command gets parameters in its arguments.
        data: the training's data files.
    """

    def __init__(
        self,
        bench: Bench,
        folder: Path,
        files: Files | None = None,
        *,
        templated: bool = False,
        data: Sequence[str] = (),
    ) -> None:
        self._bench, self._folder, self._files = bench, folder, files
        self._templated, self._data = templated, data
        self._first: Seen | None = None
        self._seen: list[Seen] = []

    def run(self, plan: Sequence[Planned]) -> Iterator[Finding]:
        """One finding after the other; where nothing can be trained at all there is only one."""
        before = listing(self._folder)
        for planned in plan:
            if planned.role == END:
                yield self._asked_to_end(planned)
                continue
            seen = self._bench.train(planned.params)
            self._seen.append(seen)
            yield self._judged(planned, seen)
            if self._first is None:
                self._first = seen
                if seen.outcome.failure is not None and seen.outcome.failure.kind != "invalid":
                    return
        yield self._extras()
        if self._files is not None:
            yield from self._files_read(self._files)
        yield self._users_folder(before)

    # ------------------------------------------------------------ trainings

    def _judged(self, planned: Planned, seen: Seen) -> Finding:
        failure = seen.outcome.failure
        if failure is not None:
            not_finite = failure.message.startswith('metric "')
            if failure.kind == "invalid" and not not_finite:
                return Finding(
                    planned.subject,
                    None,
                    f"says that it cannot be evaluated: {failure.message} ({_time(seen)})",
                )
            return Finding(
                planned.subject,
                False,
                f"{failure.message}, with {_shown(planned.params)} ({_time(seen)})",
                _end(seen.log),
            )
        metrics = seen.outcome.metrics or {}
        text = f"{_metrics(metrics)} ({_time(seen)})"
        first = self._first.outcome.metrics if self._first is not None else None
        if first is None or planned.role not in (RANDOM, AGAIN):
            return Finding(planned.subject, True, text)
        same = dict(first) == dict(metrics)
        if planned.role == RANDOM and same:
            return Finding(
                planned.subject, None, f"{text}: exactly what another point gave. Does it read its point?"
            )
        if planned.role == AGAIN:
            return Finding(
                planned.subject,
                None,
                f"{text}: "
                + ("the same result" if same else f"{_metrics(first)} before, so results are noisy"),
            )
        return Finding(planned.subject, True, text)

    def _asked_to_end(self, planned: Planned) -> Finding:
        took_s = self._first.took_s if self._first is not None else _LONGEST_BEFORE_STOP_S
        seen = self._bench.train(planned.params, stop_after_s=min(took_s / 2, _LONGEST_BEFORE_STOP_S))
        after = seen.after_stop_s
        if after is None:
            return Finding(planned.subject, None, "it had ended by itself before it could be asked to")
        if not in_grace(after):
            return Finding(
                planned.subject,
                False,
                f"had not ended {GRACE_S:g} s after SIGTERM, and was killed",
                _end(seen.log),
            )
        return Finding(planned.subject, True, f"ended {after:.1f} s after SIGTERM")

    # ------------------------------------------------------------ what else was seen

    def _extras(self) -> Finding:
        steps = sorted({step for seen in self._seen for step in seen.steps})
        reports = f"reports at steps {steps[0]} to {steps[-1]}" if steps else "no reports"
        saved = "checkpoints" if any(seen.checkpoint for seen in self._seen) else "no checkpoints"
        return Finding("reports and checkpoints", None, f"{reports}, {saved}")

    def _files_read(self, files: Files) -> Iterator[Finding]:
        read = [was_read(seen.folder / "work" / files.input) for seen in self._seen]
        if None in read:
            yield Finding(files.input, None, "this file system does not tell whether it was read")
            return
        if any(read):
            yield Finding(files.input, True, "was read")
        else:
            yield Finding(
                files.input,
                None if self._templated else False,
                "was never read" + ("" if self._templated else ", so every point would give the same"),
            )
        if not self._data:
            return
        got = any(was_read(seen.folder / "work" / files.training_data) for seen in self._seen)
        yield Finding(
            files.training_data,
            True if got else None,
            "was read" if got else "was never read: no data files are taken",
        )

    def _users_folder(self, before: Mapping[str, tuple[int, int]]) -> Finding:
        after = listing(self._folder)
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        if not changed:
            return Finding("your folder", True, "is as it was")
        what = f"{len(changed)} file{'s' * (len(changed) != 1)} changed in {self._folder}"
        quote = "\n".join(changed[:_SHOWN])
        if self._files is not None:
            text = (
                f"{what}: points at work side by side would disturb each other; write to the working folder"
            )
            return Finding("your folder", False, text, quote)
        return Finding("your folder", None, f"{what}: points may run side by side there", quote)


def nothing_left(mark: str) -> Finding:
    """Whether all processes of the trainings are gone."""
    if left := still_running(mark):
        text = f"{len(left)} process{'es' * (len(left) != 1)} went on after its training (now killed)"
        return Finding("nothing left behind", False, text, "\n".join(left[:_SHOWN]))
    return Finding("nothing left behind", True, "no process is")


def _time(seen: Seen) -> str:
    return f"{seen.took_s:.2g} s" if seen.took_s < 10 else f"{seen.took_s:.0f} s"


def _metrics(metrics: Mapping[str, float]) -> str:
    shown = ", ".join(f"{name} {value:.6g}" for name, value in list(metrics.items())[:_SHOWN])
    return shown + (f" and {len(metrics) - _SHOWN} more" if len(metrics) > _SHOWN else "")


def _shown(params: Mapping[str, Any]) -> str:
    text = json.dumps(dict(params), ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def _end(log: str) -> str:
    return "\n".join(log.splitlines()[-_LOG_LINES:])
