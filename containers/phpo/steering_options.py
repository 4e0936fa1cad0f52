"""The ``algorithm`` and the ``steering`` of a config from phpo's options."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from containers.phpo.docker import docker_run, image_name
from containers.phpo.fates import Ledger
from containers.phpo.placeholders import left_alone
from hpo_steer.errors import ConfigError

_HPOGRID = "hpogrid generate"


def algorithm_section(ledger: Ledger, *, segmented: bool, relocate: Callable[[str], str]) -> dict[str, Any]:
    """The ``algorithm`` of a config: the user's steering command.

    Args:
        ledger: the options.
        segmented: whether there are segments.
        relocate: makes a path that is relative to the options' folder one that is relative to the config's.

    Raises:
        ConfigError: a steeringExec that is no ``docker run``.
    """
    text, image = ledger.get("steeringExec"), ledger.get("steeringContainer")
    made: dict[str, Any] = {}
    if image is None:
        run = docker_run(text)
        made["command"] = run.command
        made["container"] = _shortest(run.container, relocate)
        ledger.say("steeringExec", "algorithm.command and algorithm.container, from the arguments of docker")
        for note in run.notes:
            ledger.say("steeringExec", note)
    else:
        made["command"] = ["/bin/sh", "-c", text]
        made["container"] = image_name(image)
        ledger.say("steeringContainer", "algorithm.container")
        ledger.say("steeringExec", "algorithm.command, run by /bin/sh in the container")
    for note in left_alone(text):
        ledger.say("steeringExec", note, kept=False)
    for note in _hpogrid_notes(text):
        ledger.say("steeringExec", note, kept=False)
    if _HPOGRID in text:
        made["failed"] = "omit"
        ledger.say(
            "steeringExec",
            "algorithm.failed: omit; else it would wait for points that failed",
        )
    if ledger.get("searchSpaceFile") is not None:
        made["opt_space"] = relocate(ledger.get("searchSpaceFile"))
    if segmented:
        made["segmented"] = True
    return made


def steering_section(ledger: Ledger) -> dict[str, Any]:
    """The ``steering`` of a config.

    Raises:
        ConfigError: a number below 1; its key is the option.
    """
    per_iteration, least = ledger.get("nPointsPerIteration"), ledger.get("minUnevaluatedPoints") or 0
    for option in ("nPointsPerIteration", "maxPoints"):
        if ledger.get(option) < 1:
            raise ConfigError(option, f"must be at least 1, got {ledger.get(option)}")
    ledger.say_key("nPointsPerIteration", "steering.points_per_iteration", per_iteration)
    ledger.say_key("maxPoints", "steering.max_points", ledger.get("maxPoints"), ", for each model")
    if least >= per_iteration:
        ledger.say(
            "minUnevaluatedPoints",
            f"phpo would ask for no points, {per_iteration} less {least}; taken as {per_iteration - 1}",
            kept=False,
        )
        least = per_iteration - 1
    if least > 0:
        trigger: dict[str, Any] = {"unevaluated_below": least}
        ledger.say("minUnevaluatedPoints", f"steering.trigger: {{unevaluated_below: {least}}}")
    else:
        trigger = {"fraction": 1.0}
        ledger.say_key("minUnevaluatedPoints", "steering.trigger", "{fraction: 1.0}", ": when all have ended")
    return {
        "points_per_iteration": per_iteration,
        "trigger": trigger,
        "max_points": ledger.get("maxPoints"),
    }


def _shortest(container: dict[str, Any], relocate: Callable[[str], str]) -> Any:
    """A container as its image alone, where nothing else is said."""
    if "mounts" in container:
        container = {**container, "mounts": [_relocated(mount, relocate) for mount in container["mounts"]]}
    return container["image"] if set(container) == {"image"} else container


def _relocated(mount: str, relocate: Callable[[str], str]) -> str:
    host, colon, inside = mount.partition(":")
    return (host if host.startswith("/") else relocate(host)) + colon + inside


def _hpogrid_notes(text: str) -> list[str]:
    """What the present hpogrid would refuse in its own command, found by running it."""
    if _HPOGRID not in text:
        return []
    notes = []
    if not re.search(r"(?:^|\s)(?:-s|--space)\b", text):
        notes.append(
            "hpogrid 1.3.3, if the image has it, wants -s FILE, and takes the space from %IN all the same: add -s none"
        )
    if found := re.search(r"\s(-[lsnmio]=)", text):
        notes.append(f"hpogrid 1.3.3 takes no {found[1]}VALUE: write a space in place of =")
    return notes
