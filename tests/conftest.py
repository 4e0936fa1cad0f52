"""Servers for all tests."""

pytest_plugins = ["tests.servers.rabbitmq", "tests.servers.postgresql", "tests.servers.objects"]
