"""Tests a config and everything it needs, before anything is started."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.errors import ConfigError, HpoSteerError, NoSuchRun
from hpo_steer.findings import Finding
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpo_steer.config import LoadedConfig

_BROKER_PATIENCE_S = 5.0


def check_config(path: Path) -> Iterator[Finding]:
    """Checks a config, one thing after the other; without a readable config there is only one finding."""
    from hpo_steer.config import load_config

    try:
        config = load_config(path)
    except HpoSteerError as exc:
        yield Finding("config", False, str(exc))
        return
    for text in config.remarks:
        yield Finding("config", True, text)
    experiment = config.experiment
    goals = ", ".join(
        [*(f"{g.direction} {g.name}" for g in experiment.goals), *map(str, experiment.outcomes)]
    )
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
    from hpo_steer.registry import algorithm_name
    from steering.hosts import Opening
    from steering.replay import Hosts

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
                made_from = Opening.of(experiment, model, number, config.folder)
                hosts.open(made_from)
                names.append(algorithm_name(made_from.spec))
        finally:
            hosts.close()
    return ", ".join(dict.fromkeys(names)) + ": can be created for this space"


# ---------------------------------------------------------------- what runs


def _evaluation(config: LoadedConfig) -> str:
    from containers.enclosure import check_container
    from hpo_steer.config.surroundings import check_evaluation
    from hpo_steer.machine import look, slots_of_workers

    experiment = config.experiment
    names = [p.name for m in experiment.models for p in experiment.space(m)]
    names += [name for model in experiment.models for name in model.constants]
    remarks: list[str] = []
    evaluation = experiment.evaluation
    what = check_evaluation(evaluation, config.folder, names, remarks.append)
    if evaluation.container is not None:
        what += f" in {check_container(evaluation.container, config.folder, remarks.append)}"
    elsewhere = []
    if evaluation.ship is not None:
        elsewhere = [_shipped(config)]
    elif not evaluation.workers:
        elsewhere = ["every machine with a worker needs it"]
    if slots := slots_of_workers(evaluation):
        what += f"; {look()} → {plural(sum(slots), 'slot')} in {plural(len(slots), 'worker')}"
        what += f", {evaluation.wants} each" if evaluation.wants else ""
    return "; ".join([what, *elsewhere, *remarks])


def _shipped(config: LoadedConfig) -> str:
    from hpo_steer.shipping import short
    from hpo_steer.shipping.limits import mib
    from steering.shipping import pack_config

    packed = pack_config(config)
    packed.file.close()
    return f"ships {plural(len(packed.names), 'file')} to workers, {mib(packed.size)} packed ({short(packed.bundle)})"


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
    from hpo_steer.transport.rabbitmq_probe import try_broker

    broker = config.experiment.broker
    if broker.local:
        if config.experiment.evaluation.workers == 0:
            raise ConfigError(
                "broker", "is local, and evaluation.workers is 0: nobody would evaluate anything"
            )
        return "local: none is needed"
    settings = broker_settings(broker, config.folder)
    settings = replace(settings, connect_timeout_s=min(settings.connect_timeout_s, _BROKER_PATIENCE_S))
    try_broker(settings, config.experiment.name)
    return f"{settings.url} answers and lets us in"
