"""What pika's and the broker's errors mean to us. They travel no further than this."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import TYPE_CHECKING

from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from hpo_steer.errors import BrokerError

if TYPE_CHECKING:
    from hpo_steer.transport.settings import BrokerSettings

_ALERT = re.compile(r"\[SSL: \w*?ALERT_(\w+)\]")
"""What the broker says against our certificate, in the text of OpenSSL's error; with TLS 1.3 after the handshake."""
_REPLY = re.compile(r"ConnectionClosedByBroker: \((\d+)\) (['\"])(.*)\2", re.DOTALL)


def explain(error: BaseException) -> str:  # noqa: PLR0911 - a table
    """A few words for people on why a connection did not come about, or ended.

    >>> explain(ConnectionRefusedError(111, "Connection refused"))
    'connection refused'
    """
    error = _root(error)
    match error:
        case exceptions.ConnectionClosed() | exceptions.ChannelClosed():
            return str(error.reply_text)
        case exceptions.ProbableAuthenticationError() | exceptions.ProbableAccessDeniedError():
            reply = _reply(error)
            return reply[1] if reply else "the broker ended the connection while it was being made"
        case exceptions.AMQPHeartbeatTimeout():
            return "the broker gave no sign of life"
        case exceptions.IncompatibleProtocolError():
            return "what answers there speaks no AMQP 0-9-1 (a TLS port with amqp://, or the reverse?)"
        case workflow.AMQPConnectorStackTimeout() | TimeoutError():
            return "no answer in time"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return f"TLS failed ({error.reason})"
        case socket.gaierror():
            return "unknown host name"
        case OSError() if error.errno:
            return os.strerror(error.errno).lower()
        case exceptions.StreamLostError():
            return "the connection was lost"
    return str(error) or type(error).__name__


def refusal(error: BaseException, settings: BrokerSettings) -> BrokerError | None:
    """The error to give up with, where trying again is of no use; None where it may be."""
    error = _root(error)
    place = f"{settings.host}:{settings.port}"
    alert = _ALERT.search(str(error))
    if alert is not None:
        return _refused_certificate(alert[1].replace("_", " ").lower(), settings)
    match error:
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "RECORD_LAYER_FAILURE"):
            return BrokerError(
                f"what answers at {place} speaks no TLS: use RabbitMQ's TLS port (5671 unless it was given another), "
                "or amqp:// for a connection that is not encrypted"
            )
        case ssl.SSLCertVerificationError():
            return BrokerError(
                f"RabbitMQ at {place}: {explain(error)}. For an authority of your own set broker.ca_file to "
                "its certificate; the host name in the URL must be the one in the certificate"
            )
        case exceptions.ChannelClosed():
            return _refused_queue(error.reply_code, error.reply_text, settings)
        case (
            exceptions.ConnectionClosed()
            | exceptions.ProbableAuthenticationError()
            | exceptions.ProbableAccessDeniedError()
        ):
            return _refused_user(error, settings)
    return None


def _refused_certificate(alert: str, settings: BrokerSettings) -> BrokerError:
    place = f"{settings.host}:{settings.port}"
    if settings.cert_file is None:
        return BrokerError(
            f"RabbitMQ at {place} asks for a certificate of ours ({alert}): set broker.cert_file and "
            "broker.key_file"
        )
    return BrokerError(
        f"RabbitMQ at {place} refuses our certificate {settings.cert_file} ({alert}): it must be valid today, and "
        "signed by an authority that the broker trusts"
    )


def _refused_user(error: BaseException, settings: BrokerSettings) -> BrokerError | None:
    reply = _reply(error)
    if reply is None:
        return None
    code, text = reply
    place = f"{settings.host}:{settings.port}"
    if code == 403:
        return BrokerError(
            f'RabbitMQ at {place} refuses user "{settings.user}" (virtual host "{settings.vhost}"): '
            "wrong user name or password. Name the user in the URL, and set the password in the environment "
            "variable or the file that the config names"
        )
    if code == 530 and "connection limit" not in text:
        return BrokerError(
            f'RabbitMQ at {place} refuses user "{settings.user}" the virtual host "{settings.vhost}": '
            f"{text}. To allow it: rabbitmqctl add_vhost {settings.vhost}; "
            f"{_permit()}"
        )
    return None


def _refused_queue(code: int, text: str, settings: BrokerSettings) -> BrokerError | None:
    place = f"{settings.host}:{settings.port}"
    found = re.search(r"(queue|exchange) '([^']+)'", text)
    what, name = (found[1], found[2]) if found else ("queue", "hpo.*")
    if code == 406:
        return BrokerError(
            f'RabbitMQ at {place} has a {what} "{name}" that was made with other arguments ({text}). Delete '
            f"it once it is empty (rabbitmqctl -p {settings.vhost} delete_queue {name}), give the experiment "
            "another name, or set broker.queue_type to what it was made with"
        )
    if code == 403:
        return BrokerError(
            f'RabbitMQ at {place} refuses user "{settings.user}" the {what} "{name}": {text}. To allow it: '
            f"{_permit()}"
        )
    return None


def _reply(error: BaseException) -> tuple[int, str] | None:
    """Code and text of the broker's reply, which pika hides in the text of what it guesses."""
    if isinstance(error, exceptions.ConnectionClosed):
        return error.reply_code, error.reply_text
    found = _REPLY.search(str(error.args[0]) if error.args else "")
    return (int(found[1]), found[3]) if found else None


def _root(error: BaseException) -> BaseException:
    """The error inside pika's wrappers."""
    while True:
        match error:
            case workflow.AMQPConnectionWorkflowFailed() if error.exceptions:
                error = error.exceptions[-1]
            case workflow.AMQPConnectorPhaseErrorBase():
                error = error.exception
            case exceptions.AMQPConnectionError() if error.args and isinstance(error.args[0], BaseException):
                error = error.args[0]
            case _:
                return error


def _permit() -> str:
    return "hpo-steer permissions --config FILE prints the commands for the users of steering and workers"
