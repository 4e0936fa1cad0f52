"""Whether messages move while the connection stands.

A broker can be there, take part in heartbeats, and yet confirm nothing or hand nothing out: a queue without a
leader, a consumer that it has forgotten, a channel that hangs. No error comes then, so somebody has to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pika.exceptions import AMQPError

if TYPE_CHECKING:
    from hpo_steer.transport.rabbitmq_intake import Intake
    from hpo_steer.transport.rabbitmq_outbox import Outbox
    from hpo_steer.transport.rabbitmq_session import Session

_LOOKS = 30
"""Looks within the bound."""
_QUESTIONS = 3
"""How often within the bound an idle consumer's queue is asked whether it holds messages."""
_LONGEST = 16
"""How many times longer than the first bound it waits at most, when connecting anew does not help."""


class _Symptom:
    """One way in which nothing moves: since how many looks, how long it may last, and what is said about it."""

    def __init__(self) -> None:
        self.looks, self.patience = 0, 1
        self.trouble: str | None = None

    @property
    def overdue(self) -> bool:
        """Whether it has lasted too long."""
        return self.looks >= _LOOKS * self.patience

    def over(self) -> None:
        """Something has moved."""
        self.looks, self.patience = 0, 1
        self.trouble = None


class Watch:
    """Looks about once a second, has the session connect anew, and says what is wrong until messages move again.

    Time is counted in looks, not by a clock: a process that was paused has not been waiting. A broker that
    blocks us says so, and is not hurried.

    Args:
        session: what connects anew.
        outbox: what waits for confirms.
        intake: what waits for deliveries.
        election: the command that mends queues without a leader.
        bound_s: how long nothing may move.
    """

    def __init__(
        self, session: Session, outbox: Outbox, intake: Intake, *, election: str, bound_s: float
    ) -> None:
        self._session, self._outbox, self._intake = session, outbox, intake
        self._bound_s, self._every_s = bound_s, bound_s / _LOOKS
        self._election = election
        self._channel: Any = None
        self._unconfirmed, self._starved = _Symptom(), _Symptom()
        self._oldest: tuple[int, str] | None = None
        self._taken = 0
        self._found = 0  # questions in a row that were answered with messages
        self._asking = False

    @property
    def trouble(self) -> str | None:
        """What is wrong, if something is; from any thread."""
        return self._unconfirmed.trouble or self._starved.trouble

    def attach(self, channel: Any) -> None:
        """Looks from now on; `channel` is the one that publishes."""
        self._channel = channel
        self._begin()
        self._session.call_later(self._every_s, lambda: self._look(channel))

    def detach(self) -> None:
        """There is no connection to look at."""
        self._channel = None

    def _begin(self) -> None:
        self._oldest, self._taken = None, self._intake.taken
        self._unconfirmed.looks = self._starved.looks = self._found = 0
        self._asking = False

    def _look(self, channel: Any) -> None:
        if channel is not self._channel:
            return
        self._session.call_later(self._every_s, lambda: self._look(channel))
        if self._session.blocked:
            self._begin()
            return
        self._look_at_confirms()
        self._look_at_deliveries()

    def _look_at_confirms(self) -> None:
        symptom, before = self._unconfirmed, self._oldest
        refused, self._oldest = self._outbox.refused, self._outbox.oldest
        if refused is not None:
            self._outbox.again()
            symptom.looks += 1
            if symptom.overdue:  # RabbitMQ 3.10 goes on refusing a channel when there is room again
                self._renew(symptom, f'refuses the messages for "{refused}"')
            else:
                symptom.trouble = self._sentence(f'refuses the messages for "{refused}"')
        elif self._oldest is None or (before is not None and self._oldest != before):
            symptom.over()
        elif before is not None:
            symptom.looks += 1
            if symptom.overdue:
                queue = self._oldest[1]
                self._renew(symptom, f'does not confirm what was sent to "{queue}"')

    def _look_at_deliveries(self) -> None:
        intake, symptom = self._intake, self._starved
        if not intake.hungry or intake.taken != self._taken:
            self._taken, self._found = intake.taken, 0
            symptom.over()
            return
        symptom.looks += 1
        if symptom.overdue and self._asking:
            self._renew(symptom, f'does not say how many messages are in "{intake.queue}"')
        elif symptom.overdue and self._found >= _QUESTIONS - 1:
            self._renew(symptom, f'hands out none of the messages in "{intake.queue}"')
        elif symptom.looks % (_LOOKS // _QUESTIONS) == 0 and not self._asking:
            self._ask()

    def _ask(self) -> None:
        channel, taken = self._channel, self._intake.taken

        def answered(frame: Any) -> None:
            if channel is not self._channel:
                return
            self._asking = False
            if frame.method.message_count > 0 and self._intake.taken == taken:
                self._found += 1
            else:
                self._found = 0
                self._starved.over()

        try:
            channel.queue_declare(self._intake.queue, passive=True, callback=answered)
        except AMQPError:
            return  # the channel is closing
        self._asking = True

    def _renew(self, symptom: _Symptom, what: str) -> None:
        duration = f"{self._bound_s * symptom.patience:g} s"
        symptom.patience = min(2 * symptom.patience, _LONGEST)
        symptom.trouble = self._sentence(f"{what} (for {duration} by now)")
        self._begin()
        self._session.renew(f"for {duration} it {what}")

    def _sentence(self, what: str) -> str:
        return (
            f"RabbitMQ {what}. If a policy limits the queue's length, lift it; if the queue has lost its leader, "
            f"which a kill of the broker can bring about, give it one: {self._election}"
        )
