from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = [
    "algorithms.mobo",
    "containers.phpo.options",
    "containers.phpo.placeholders",
    "containers.phpo.steering_files",
    "hpo_steer.algorithm",
    "hpo_steer.errors",
    "hpo_steer.registry",
    "hpo_steer.space",
    "hpo_steer.transport.settings",
    "steering.words",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert result.attempted
    assert not result.failed
