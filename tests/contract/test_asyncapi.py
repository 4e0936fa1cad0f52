"""The AsyncAPI document: of the official form, complete, and true of a broker."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pika
import pytest
import yaml

from hpo_steer.protocol.asyncapi import asyncapi
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from tests.contract.test_payloads import REFERENCE, references

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode

OFFICIAL = Path(__file__).parent / "asyncapi-3.0.0.schema.json"
"""From the npm package @asyncapi/specs 6.11.1 (Apache-2.0), without descriptions, examples and other bindings."""


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text(encoding="utf-8"))


def official() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads(OFFICIAL.read_bytes()))


def test_it_is_what_the_code_makes(document: Any) -> None:
    assert document == asyncapi()


def test_it_has_the_official_form(document: Any) -> None:
    assert [error.message for error in official().iter_errors(document)] == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("asyncapi",), "2.6.0"),
        (("operations", "sendWork", "action"), "publish"),
        (("channels", "work", "bindings", "amqp", "is"), "topic"),
        (("channels", "work", "address"), 7),
        (("servers", "plain", "protocol"), None),
    ],
)
def test_the_official_form_would_show_a_mistake(path: tuple[str, ...], wrong: object) -> None:
    broken = asyncapi()
    part = broken
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = wrong
    assert not official().is_valid(broken)


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = list(references(document))
    assert found
    for reference in found:
        file, _, pointer = reference.partition("#")
        if file:
            assert (REFERENCE / file).is_file(), reference
            continue
        target = document
        for key in pointer.strip("/").split("/"):
            target = target[key]


def test_every_message_is_sent_and_received(document: Any) -> None:
    messages = set(document["components"]["messages"])
    for action in ("send", "receive"):
        operations = [o for o in document["operations"].values() if o["action"] == action]
        named = {entry["$ref"].rpartition("/")[2] for o in operations for entry in o["messages"]}
        assert named == messages
    used = {o["channel"]["$ref"].rpartition("/")[2] for o in document["operations"].values()}
    assert used == set(document["channels"])


@pytest.mark.rabbitmq
def test_a_broker_has_the_queues_and_exchanges_as_it_says(document: Any, any_rabbitmq: RabbitNode) -> None:
    """Declared again by a client that knows nothing but the document, they are the ones of our programs."""
    experiment = f"a-{uuid.uuid4().hex[:12]}"
    settings = BrokerSettings(any_rabbitmq.url)
    steering, worker = steering_end(settings, experiment, "r"), worker_end(settings, experiment)
    steering.open()
    worker.open()
    try:
        with pika.BlockingConnection(pika.URLParameters(any_rabbitmq.url)) as connection:
            channel: Any = connection.channel()
            for entry in document["channels"].values():
                declare(channel, entry, {"experiment": experiment, "id": uuid.uuid4().hex})
    finally:
        worker.close()
        steering.close()


def declare(channel: Any, entry: Any, parameters: dict[str, str]) -> None:
    binding, name = entry["bindings"]["amqp"], entry["address"].format(**parameters)
    if "exchange" in binding:
        kind = binding["exchange"]
        channel.exchange_declare(name, kind["type"], durable=kind["durable"], auto_delete=kind["autoDelete"])
        return
    kind = binding["queue"]
    arguments = {
        key: value.format(**parameters) if isinstance(value, str) else value
        for key, value in entry.get("x-arguments", {}).items()
    }
    channel.queue_declare(
        name,
        durable=kind["durable"],
        exclusive=kind["exclusive"],
        auto_delete=kind["autoDelete"],
        arguments=arguments,
    )
    channel.queue_bind(name, entry["x-bound-to"].format(**parameters))
