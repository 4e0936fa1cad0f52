"""Tests a config and everything it needs, before anything is started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.errors import ConfigError, HpoSteerError, NoSuchRun
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpo_steer.config import LoadedConfig

_PROBE = (
    "import importlib.util, sys; sys.path.insert(0, sys.argv[2]); "
    "found = 1 if not sys.argv[1] else importlib.util.find_spec(sys.argv[1]) is not None; "
    "print('hpo-steer', sys.version_info[0], sys.version_info[1], int(found))"
)
_OLDEST = (3, 9)
_BROKER_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was looked at.
        ok: whether it is right.
        text: what it is, or what is wrong and what to do.
    """

    subject: str
    ok: bool
    text: str


def check_config(path: Path) -> Iterator[Finding]:
    """Checks a config, one thing after the other; without a readable config there is only one finding."""
    from hpo_steer.config import load_config

    try:
        config = load_config(path)
    except HpoSteerError as exc:
        yield Finding("config", False, str(exc))
        return
    experiment = config.experiment
    goals = ", ".join(f"{goal.direction} {goal.name}" for goal in experiment.goals)
    models = f", {plural(len(experiment.models), 'model')}" if len(experiment.models) > 1 else ""
    yield Finding("config", True, f"{experiment.name}: {goals}{models}")
    checks: list[tuple[str, Callable[[LoadedConfig], str]]] = [
        ("search space", _space),
        ("algorithm", _algorithm),
        ("evaluation", _evaluation),
        ("store", _store),
        ("broker", _broker),
    ]
    for subject, check in checks:
        try:
            yield Finding(subject, True, check(config))
        except ConfigError as exc:
            yield Finding(subject, False, str(exc if exc.where else exc.at(config.source.where(exc.key))))
        except HpoSteerError as exc:
            yield Finding(subject, False, str(exc))


def _space(config: LoadedConfig) -> str:
    import numpy as np

    experiment = config.experiment
    spaces = {json.dumps(m.search_space): experiment.space(m) for m in experiment.models}
    for space in spaces.values():
        space.sample(10, np.random.default_rng(0))
    first = next(iter(spaces.values()))
    text = plural(len(first), "parameter") if len(spaces) == 1 else f"{len(spaces)} spaces"
    if first.size is not None and len(spaces) == 1:
        text += f", {plural(first.size, 'point')} in all"
    if first.constraints:
        text += f"; the {plural(len(first.constraints), 'constraint')} can be satisfied"
    return text


def _algorithm(config: LoadedConfig) -> str:
    from steering.replay import Hosts, opening

    experiment = config.experiment
    kinds = {
        json.dumps([dict(experiment.algorithm_of(m)), m.search_space], sort_keys=True): (number, m)
        for number, m in enumerate(experiment.models)
    }
    names = []
    with tempfile.TemporaryDirectory(prefix="hpo-steer-") as scratch:
        hosts = Hosts(Path(scratch) / "algorithm.log")
        try:
            for number, model in kinds.values():
                made_from = opening(experiment, model, number, config.folder)
                hosts.open(made_from)
                names.append(str(made_from.spec.get("name") or made_from.spec.get("class")))
        finally:
            hosts.close()
    return ", ".join(dict.fromkeys(names)) + ": can be created for this space"


# ---------------------------------------------------------------- what runs


def _evaluation(config: LoadedConfig) -> str:
    from hpo_steer.config.payload import check_payload, payload_file

    rules = config.experiment.evaluation
    elsewhere = "" if rules.workers else "; every machine with a worker needs it"
    if rules.command is not None:
        return f"{_program(rules.command[0], config.folder, rules.env)}{elsewhere}"
    target = rules.function or ""
    check_payload(target, config.folder, "evaluation.function")
    file, module, _ = payload_file(target, config.folder)
    python = _interpreter(rules.python, config.folder)
    major, minor = _ask_interpreter(python, module if file is None else "", config.folder, rules.env)
    return f"{target}, run by {python} (Python {major}.{minor}){elsewhere}"


def _program(program: str, folder: Path, env: dict[str, str]) -> str:
    if "{" in program:
        return f"{program} depends on the point"
    place = str(folder / program) if os.sep in program else program
    found = shutil.which(place, path=env.get("PATH", os.environ.get("PATH")))
    if found is None:
        where = "cannot be run" if os.sep in program and Path(place).exists() else "is not there"
        raise ConfigError("evaluation.command", f"the program {place} {where}")
    return found


def _interpreter(python: str | None, folder: Path) -> Path:
    if python is None:
        return Path(sys.executable)
    name = os.path.expanduser(python)  # noqa: PTH111 - Path.expanduser raises
    found = shutil.which(str(folder / name) if os.sep in name else name)
    if found is None:
        raise ConfigError("evaluation.python", f"there is no interpreter {name}")
    return Path(os.path.abspath(found))  # noqa: PTH100 - resolving the link would leave its virtual environment


def _ask_interpreter(python: Path, module: str, folder: Path, env: dict[str, str]) -> tuple[int, int]:
    """The version of an interpreter that can run trainings, and finds the module.

    Raises:
        ConfigError: it can't, or doesn't.
    """
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE, module, str(folder)],
            cwd=folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError("evaluation.python", f"{python} cannot be run: {exc}") from None
    words = next((line.split() for line in done.stdout.splitlines() if line.startswith("hpo-steer ")), [])
    if len(words) != 4:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ConfigError("evaluation.python", f"{python} is no working Python: {last}")
    version = int(words[1]), int(words[2])
    if version < _OLDEST:
        raise ConfigError(
            "evaluation.python", f"{python} is Python {version[0]}.{version[1]}; trainings need 3.9 or later"
        )
    if words[3] == "0":
        raise ConfigError(
            "evaluation.function", f'{python} finds no module "{module}"; install it there, or in {folder}'
        )
    return version


# ---------------------------------------------------------------- where results go and come from


def _store(config: LoadedConfig) -> str:
    from hpo_steer.config.secrets import store_password
    from steering.store.filesystem import network_filesystem
    from steering.store.opening import StoreLocation, open_store

    where, name = config.experiment.store, config.experiment.name
    folder = Path(where.folder) / name
    _check_writable(folder)
    if where.url is not None:
        location = StoreLocation(url=where.url, password=store_password(where, config.folder))
        try:
            open_store(location, name, create=False, read_only=True).close()
        except NoSuchRun:
            return f"{where.url} answers; this will be a new run"
        return f"{where.url} answers, and holds a run of this name"
    if kind := network_filesystem(folder):
        raise ConfigError(
            "store", f"{folder} lies on a network file system ({kind}), where SQLite can lose data"
        )
    try:
        store = open_store(StoreLocation(folder=folder), name, create=False, read_only=True)
    except NoSuchRun:
        return f"{folder} can be written; this will be a new run"
    try:
        ended = store.counts().ended
    finally:
        store.close()
    return f"{folder} holds a run of this name, {plural(ended, 'point')} done"


def _check_writable(folder: Path) -> None:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as exc:
        why = exc.strerror or exc
        text = f"{folder} cannot be made: {place} is not writable ({why}); choose another with store: FOLDER"
        raise ConfigError("store", text) from exc


def _broker(config: LoadedConfig) -> str:
    from hpo_steer.config.secrets import broker_settings
    from hpo_steer.transport import worker_end

    broker = config.experiment.broker
    if broker.local:
        if config.experiment.evaluation.workers == 0:
            raise ConfigError(
                "broker", "is local, and evaluation.workers is 0: nobody would evaluate anything"
            )
        return "local: none is needed"
    settings = broker_settings(broker, config.folder)
    settings = replace(settings, connect_timeout_s=min(settings.connect_timeout_s, _BROKER_PATIENCE_S))
    end = worker_end(settings, config.experiment.name)
    end.open()
    end.close()
    return f"{settings.url} answers and lets us in"
