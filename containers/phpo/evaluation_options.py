"""The ``evaluation`` of a config from phpo's options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from containers.phpo.docker import image_name
from containers.phpo.fates import Ledger
from containers.phpo.placeholders import left_alone
from hpo_steer.config.surroundings import INPUT, OUTPUT, PLACEHOLDER
from hpo_steer.errors import ConfigError

MAX_WORKERS = 1024
WORKDIR = "/srv/workDir"
"""Where PanDA's evaluation containers start."""


def evaluation_section(ledger: Ledger, models: int, parameters: Iterable[str]) -> dict[str, Any]:
    """The ``evaluation`` of a config.

    Args:
        ledger: the options.
        models: how many there are; phpo's bound on jobs is for each of them.
        parameters: names of the search space: our commands may hold them in braces.

    Raises:
        ConfigError: a value that makes no sense; its key is the option.
    """
    text, image = ledger.get("evaluationExec"), ledger.get("evaluationContainer")
    made: dict[str, Any] = {"command": ["/bin/sh", "-c", text]}
    ledger.say("evaluationExec", "evaluation.command, run by /bin/sh")
    for note in left_alone(text):
        ledger.say("evaluationExec", note, kept=False)
    ours = {INPUT, OUTPUT, *parameters}
    for name in sorted(ours & set(PLACEHOLDER.findall(text))):
        ledger.say(
            "evaluationExec", f"{{{name}}} is filled in by hpo-steer: rename that variable", kept=False
        )
    gpus = _architecture(ledger)
    if image is not None:
        container = {"image": image_name(image), "workdir": WORKDIR, **({"gpus": True} if gpus else {})}
        made["container"] = container
        ledger.say("evaluationContainer", f"evaluation.container, with the working folder at {WORKDIR}")
    made["files"] = _files(ledger)
    wanted = ledger.get("nParallelEvaluation")
    if wanted < 1:
        raise ConfigError("nParallelEvaluation", f"must be at least 1, got {wanted}")
    made["workers"] = min(wanted, MAX_WORKERS)
    more = "" if wanted <= MAX_WORKERS else ", the most on one machine"
    ledger.say_key("nParallelEvaluation", "evaluation.workers", made["workers"], more)
    made["max_retries"] = _retries(ledger, models)
    return made


def _architecture(ledger: Ledger) -> bool:
    """Whether it asks for a GPU."""
    text = ledger.get("architecture")
    if text is None:
        return False
    gpu = re.search(r"&\s*\S|nvidia|gpu", text, re.IGNORECASE) is not None
    if gpu and ledger.get("evaluationContainer") is not None:
        ledger.say("architecture", "evaluation.container.gpus: true")
    ledger.say(
        "architecture",
        "the rest of it chooses no machine here: start workers on machines that have what it asks for",
        kept=False,
    )
    return gpu


def _retries(ledger: Ledger, models: int) -> int:
    points = ledger.get("maxPoints")
    jobs = ledger.get("maxEvaluationJobs") or 2 * points
    retries: int = max(jobs - points, 0) * models
    each = f", {models} times" if models > 1 else ""
    ledger.say_key(
        "maxEvaluationJobs", "evaluation.max_retries", retries, f": the jobs beyond one a point{each}"
    )
    return retries


def _files(ledger: Ledger) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for option, key in (
        ("evaluationInput", "input"),
        ("evaluationOutput", "output"),
        ("evaluationTrainingData", "training_data"),
        ("evaluationMetrics", "metrics"),
        ("evaluationMeta", "meta"),
    ):
        value = ledger.get(option)
        if value is not None:
            files[key] = value
            ledger.say_key(option, f"evaluation.files.{key}", value)
    if ledger.get("trainingDS") is not None:
        ledger.say(
            "trainingDS",
            "a data set cannot be looked up here: list its files as evaluation.files.data, or as the data of "
            "each model",
            kept=False,
        )
    _checkpoints(ledger, files)
    if ledger.get("alrbArgs") is not None:
        ledger.say(
            "alrbArgs",
            "not supported: there is no ALRB here; write arguments of your runtime as evaluation.container.options",
            kept=False,
        )
    return files


def _checkpoints(ledger: Ledger, files: dict[str, Any]) -> None:
    saved = [part.strip() for part in (ledger.get("checkPointToSave") or "").split(",") if part.strip()]
    minutes = ledger.get("checkPointInterval")
    if minutes is not None and minutes < 1:
        raise ConfigError("checkPointInterval", f"must be at least 1 (minute), got {minutes}")
    if saved:
        files["checkpoint"] = saved
        files["checkpoint_interval_s"] = 60.0 * (minutes or 5)
        ledger.say("checkPointToSave", "evaluation.files.checkpoint")
        ledger.say_key(
            "checkPointInterval", "evaluation.files.checkpoint_interval_s", files["checkpoint_interval_s"]
        )
    elif minutes is not None:
        ledger.say("checkPointInterval", "nothing: there is no checkPointToSave")
    if ledger.get("checkPointToLoad") is not None:
        ledger.say(
            "checkPointToLoad",
            "not supported: saved files are put back where they were, unpacked, before the next attempt; a command "
            "that unpacks a tarball itself finds none and need not",
            kept=False,
        )
