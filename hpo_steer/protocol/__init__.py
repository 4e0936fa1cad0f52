"""The protocol as documents: JSON Schemas of every message, line and file, and AsyncAPI for RabbitMQ.

They are made from the code: ``python -m hpo_steer.protocol docs/reference`` writes them.
"""

VERSION = 1
"""Of the messages, lines and files; a change that an older reader cannot take makes it 2."""
