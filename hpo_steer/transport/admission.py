"""Which messages an end lets in; all others go to the dead letters with a reason."""

from __future__ import annotations

from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import MAX_BYTES, MAX_DEAD_BYTES, tidy
from hpo_steer.messages import (
    Bye,
    Control,
    Event,
    Heartbeat,
    Hello,
    Message,
    Work,
    decode_control,
    decode_event,
    decode_work,
)

ANY_RUN = "*"
"""The run that a worker names in its hello, heartbeat and bye while it has seen no work yet."""


def encode(message: Message) -> bytes:
    """The message as it travels.

    Raises:
        MalformedMessage: it is larger than any receiver would let in.
    """
    body = message.encoded()
    if len(body) > MAX_BYTES:
        raise MalformedMessage(
            f"message of {len(body):,} bytes; {MAX_BYTES:,} are allowed. Large values belong in files"
        )
    return body


def corpse(body: bytes) -> bytes:
    """What the dead letters keep of a message: all of it, or the beginning of one that is too large."""
    return body if len(body) <= MAX_BYTES else body[:MAX_DEAD_BYTES]


def admit_event(body: bytes, experiment: str, run: str) -> Event:
    """Reads an event for steering.

    Raises:
        MalformedMessage: it is no event, or one of another experiment or run; the text is the reason.
    """
    event = decode_event(body)
    if event.run != run and event.run == ANY_RUN and isinstance(event, Hello | Heartbeat | Bye):
        run = ANY_RUN
    _admit(event, experiment, run)
    return event


def admit_work(body: bytes, experiment: str, run: str | None) -> Work:
    """Reads work for a worker; raises as `admit_event`. With `run` None it may be of any run."""
    work = decode_work(body)
    _admit(work, experiment, run)
    return work


def admit_control(body: bytes, experiment: str, run: str | None) -> Control:
    """Reads a control message for a worker; raises as `admit_event`. With `run` None it may be of any run."""
    control = decode_control(body)
    _admit(control, experiment, run)
    return control


def _admit(message: Message, experiment: str, run: str | None) -> None:
    if message.experiment != experiment:
        raise MalformedMessage(tidy(f"of experiment {message.experiment}, this is experiment {experiment}"))
    if run is not None and message.run != run:
        raise MalformedMessage(tidy(f"of run {message.run}, this is run {run}"))
