"""Servers for all tests."""

pytest_plugins = ["tests.servers.containers", "tests.servers.rabbitmq", "tests.servers.postgresql"]
