"""Servers for all tests."""

pytest_plugins = [
    "tests.servers.containers",
    "tests.servers.hpogrid",
    "tests.servers.objects",
    "tests.servers.images",
    "tests.servers.postgresql",
    "tests.servers.rabbitmq",
]
