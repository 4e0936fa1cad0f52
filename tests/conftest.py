"""Servers for all tests, and one thread for each process that calculates."""

import os

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
