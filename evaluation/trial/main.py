"""The process behind ``hpo-steer check --evaluation``: a request on standard input, findings as lines on its output.

The request is an object: the config's ``evaluation``, ``folder``, ``objectives``, ``parameters``, ``data``, ``model``,
``timeout_s`` and ``plan``, a list of ``[subject, role, params]``. The last line is ``{"done": true}``, or
``{"error": …, "key": …}``.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containers.warden import Warden
from evaluation.launch import Assignment, make_runner
from evaluation.trial.bench import Bench
from evaluation.trial.checks import EvaluationChecks, Planned, nothing_left
from hpo_steer.config.evaluation import Evaluation
from hpo_steer.config.surroundings import check_evaluation
from hpo_steer.errors import ConfigError, HpoSteerError, UserError
from hpo_steer.findings import Finding, as_lines
from hpo_steer.transport import BrokerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def main() -> None:
    """Serves one request."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever prints does not print between the answers
    request = json.load(sys.stdin)
    try:
        for finding in trial(request):
            answers.write(as_lines(finding.to_json()))
    except ConfigError as exc:
        answers.write(as_lines({"error": exc.message, "key": exc.key, "user": True}))
    except HpoSteerError as exc:
        answers.write(as_lines({"error": str(exc), "key": None, "user": isinstance(exc, UserError)}))
    else:
        answers.write(as_lines({"done": True}))


def trial(request: Mapping[str, Any]) -> Iterator[Finding]:
    """Runs the trainings of a request.

    Raises:
        ConfigError: there is nothing that could be run.
        ContainerError: a container that cannot be had.
    """
    evaluation = Evaluation.model_validate(request["evaluation"])
    folder, model = Path(request["folder"]), request["model"]
    remarks: list[str] = []
    what = check_evaluation(evaluation, folder, request["parameters"], remarks.append)
    yield Finding("evaluation", None, what)
    yield from (Finding("evaluation", None, text) for text in remarks)
    warden = Warden(f"check-{os.getpid()}-{secrets.token_hex(3)}")
    with tempfile.TemporaryDirectory(prefix="hpo-steer-check-", ignore_cleanup_errors=True) as scratch:
        work_dir = Path(scratch).resolve()
        for name in ("points", "logs"):
            (work_dir / name).mkdir()
        assignment = Assignment(
            "check",
            evaluation,
            request["objectives"],
            request["parameters"],
            BrokerSettings("local"),
            folder,
            work_dir,
            data=request["data"],
        )
        try:
            runner = make_runner(
                assignment,
                warden,
                work_dir / "logs",
                lambda text: print(text, file=sys.stderr),  # noqa: T201
            )
            files = evaluation.files
            checks = EvaluationChecks(
                Bench(runner, work_dir, model, request["timeout_s"]),
                folder,
                files,
                templated="{" in " ".join(evaluation.command or []),
                data=request["data"].get(model) or (files.data if files is not None else ()),
            )
            try:
                yield from checks.run([Planned(*each) for each in request["plan"]])
            finally:
                runner.close()
            yield nothing_left(warden.mark)
        finally:
            warden.close()
