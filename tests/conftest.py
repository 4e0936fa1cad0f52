"""Servers for all tests, one thread for each process that calculates, and what comes first."""

import os

import pytest

pytest_plugins = [
    "tests.servers.containers",
    "tests.servers.hpogrid",
    "tests.servers.objects",
    "tests.servers.images",
    "tests.servers.postgresql",
    "tests.servers.rabbitmq",
]

# Threads of several processes wait for each other in turns on cores that they share; libraries look once, when loaded.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

_LONGEST = ("test_images.py", "test_loop_model.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, as the last one that is begun keeps all others waiting."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)
