"""The side of RabbitMQ as an AsyncAPI 3 document: queues and exchanges, who sends what to which, and who reads it.

AsyncAPI describes one application; ours has two halves and somebody who looks after dead letters. So the operations of
all are in one document, each with a tag that says whose it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from hpo_steer.limits import MAX_BYTES
from hpo_steer.protocol import VERSION
from hpo_steer.protocol.schemas import DOCUMENTS, schema_of
from hpo_steer.transport.bundle import CONTENT_TYPE
from hpo_steer.transport.rabbitmq_topology import Topology

Part: TypeAlias = dict[str, Any]

SCHEMAS = f"./schemas/v{VERSION}"
_FORMAT = "application/schema+json;version=draft-07"
_BINDING = "0.3.0"
_NAMES = Topology("{experiment}")
_OWN_QUEUE = f"{_NAMES.control}.{{id}}"

_WORK = ("work",)
_CONTROL = ("stop", "cancel", "pardon")
_BUNDLES = ("bundle_part", "bundle_gone")
_EVENTS = ("hello", "started", "heartbeat", "report", "result", "bundle_wanted", "bye", "echo")

_PARAMETERS = {
    "experiment": {
        "description": "Name of the experiment: 1 to 200 characters, none of them a control character."
    },
    "id": {"description": "32 random hexadecimal digits in lower case, new for every connection."},
}


def asyncapi() -> Part:
    """The document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hpo-steer over RabbitMQ",
            "version": f"{VERSION}.0.0",
            "description": (
                "What steering and workers of an experiment say to one another over AMQP 0-9-1. A message is one JSON "
                f"object in UTF-8 of at most {MAX_BYTES} bytes; receivers ignore fields that they do not know. "
                "Rules that no schema can say are on the page messages.md beside this file."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"plain": _server("amqp"), "tls": _server("amqps")},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "parameters": _PARAMETERS,
            "securitySchemes": {"password": {"type": "userPassword"}},
        },
    }


def _server(protocol: str) -> Part:
    return {
        "host": "{host}",
        "pathname": "/{vhost}",
        "protocol": protocol,
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ 3.10 or later" + (", TLS 1.2 or later" if protocol == "amqps" else ""),
        "variables": {
            "host": {"default": "localhost", "description": "host, and :port where it is not the usual one"},
            "vhost": {"default": "", "description": "virtual host; none: /"},
        },
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    }


# --- channels ---


def _channels() -> Part:
    work, control, events = (_with_bundle("work", _WORK), _CONTROL, _with_bundle("events", _EVENTS))
    queues = {queue: (exchange, arguments) for queue, exchange, arguments in _NAMES.queues}
    return {
        "workIn": _exchange(_NAMES.work_in, "The way into the work queue, for steering.", work),
        "work": _queue(_NAMES.work, "Attempts, for whichever worker is free.", work, *queues[_NAMES.work]),
        "eventsIn": _exchange(_NAMES.events_in, "The way into the events queue, for workers.", events),
        "events": _queue(_NAMES.events, "What workers say to steering.", events, *queues[_NAMES.events]),
        "control": _exchange(_NAMES.control, "What steering says to every worker.", control),
        "ownControl": _own_queue((*control, *_BUNDLES)),
        "bundles": _exchange(_NAMES.bundles, "Code, for the workers that collect it.", _BUNDLES),
        "deadIn": _exchange(_NAMES.dead, "The way to the dead letters.", ("deadLetter",)),
        "dead": _queue(_NAMES.dead, "Messages that were of no use.", ("deadLetter",), *queues[_NAMES.dead]),
    }


def _with_bundle(channel: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names, f"{channel}Bundle")


def _channel(address: str, description: str, messages: tuple[str, ...], binding: Part) -> Part:
    return {
        "address": address,
        "description": description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"}
            for name in _PARAMETERS
            if f"{{{name}}}" in address
        },
        "bindings": {"amqp": {**binding, "bindingVersion": _BINDING}},
    }


def _exchange(name: str, description: str, messages: tuple[str, ...]) -> Part:
    kind = {"name": name, "type": "fanout", "durable": True, "autoDelete": False}
    return _channel(name, description, messages, {"is": "routingKey", "exchange": kind})


def _queue(name: str, description: str, messages: tuple[str, ...], exchange: str, arguments: Part) -> Part:
    kind = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
    channel = _channel(name, description, messages, {"is": "queue", "queue": kind})
    return {**channel, "x-bound-to": exchange, "x-arguments": arguments}


def _own_queue(messages: tuple[str, ...]) -> Part:
    kind = {"name": _OWN_QUEUE, "durable": False, "exclusive": True, "autoDelete": True}
    text = "One worker's copy of what steering says to all; while it collects code, the bundles of that come here too."
    channel = _channel(_OWN_QUEUE, text, messages, {"is": "queue", "queue": kind})
    return {**channel, "x-bound-to": _NAMES.control}


# --- operations ---


def _operations() -> Part:
    events = tuple(name for name in _EVENTS if name != "echo")
    return {
        "sendWork": _send("steering", "workIn", _with_bundle("work", _WORK), "Sends attempts out."),
        "receiveEvents": _receive("steering", "events", "Takes in what workers say, and its own echo."),
        "sendControl": _send(
            "steering", "control", _CONTROL, "Ends attempts, and calls points off.", lasting=False
        ),
        "sendBundles": _send("steering", "bundles", _BUNDLES, "Sends code to those that asked for it."),
        "sendEcho": _send(
            "steering", "eventsIn", ("echo",), "Asks itself how far it has read.", lasting=False
        ),
        "buryEvent": _send("steering", "deadIn", ("deadLetter",), "Puts an event aside that is of no use."),
        "receiveWork": _receive("worker", "work", "Takes attempts, as many as slots are free."),
        "sendEvents": _send("worker", "eventsIn", _with_bundle("events", events), "Says what it does."),
        "receiveControl": _receive("worker", "ownControl", "Hears what is to end."),
        "buryMessage": _send(
            "worker", "deadIn", ("deadLetter",), "Puts work or a control message aside that is of no use."
        ),
        "receiveDeadLetters": _receive("operator", "dead", "Looks at what was of no use."),
    }


def _send(whose: str, channel: str, messages: tuple[str, ...], summary: str, *, lasting: bool = True) -> Part:
    care = {"deliveryMode": 2, "mandatory": True} if lasting else {"deliveryMode": 1, "mandatory": False}
    return _operation("send", whose, channel, messages, summary, care)


def _receive(whose: str, channel: str, summary: str) -> Part:
    messages = tuple(_channels()[channel]["messages"])
    return _operation("receive", whose, channel, messages, summary, {"ack": channel != "ownControl"})


def _operation(
    action: str, whose: str, channel: str, messages: tuple[str, ...], summary: str, binding: Part
) -> Part:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "tags": [{"name": whose}],
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
        "bindings": {"amqp": {**binding, "bindingVersion": _BINDING}},
    }


# --- messages ---


def _messages() -> Part:
    names = [name.partition("/")[2] for name in DOCUMENTS if name.startswith("messages/")]
    return {
        **{name: _message(name) for name in names},
        "workBundle": _bundle("work", _WORK),
        "eventsBundle": _bundle("events", _EVENTS),
        "deadLetter": _dead_letter(),
    }


def _message(name: str) -> Part:
    return {
        "name": name,
        "title": name,
        "summary": schema_of(f"messages/{name}")["description"],
        "contentType": "application/json",
        "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"{SCHEMAS}/messages/{name}.json"}},
    }


def _bundle(what: str, names: tuple[str, ...]) -> Part:
    return {
        "name": f"{what}Bundle",
        "title": f"Several messages of {what} in one",
        "summary": f"One message a line, each one of: {', '.join(names)}. Receivers must understand it.",
        "contentType": CONTENT_TYPE,
        "payload": {"type": "string"},
    }


def _dead_letter() -> Part:
    texts = {
        "x-queue": "the queue, or exchange, where it was",
        "x-reason": "why it is here: one sentence of at most 1,000 characters",
    }
    return {
        "name": "deadLetter",
        "title": "Dead letter",
        "summary": "A message that was of no use, as it came.",
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in texts.items()},
        },
        "payload": {"description": "Any bytes."},
    }
