"""A process that hosts algorithms for steering: ``python -P -m hpo_steer.host``.

Speaks the protocol of `hpo_steer.jsonlines` on standard input and output. Whatever the algorithms print goes to
standard error.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from hpo_steer import faults
from hpo_steer.errors import ConfigError, HpoSteerError, MalformedMessage, UserError
from hpo_steer.free_space import search_space
from hpo_steer.guests import Guest, Outside
from hpo_steer.jsonlines import (
    PROTOCOL,
    dumps,
    history_from_json,
    loads,
    observation_from_json,
    point_to_json,
)
from hpo_steer.launcher import pin
from hpo_steer.limits import tidy
from hpo_steer.objectives import parse_objectives


class Host:
    """Answers requests, one after the other.

    Args:
        replies: where answers go.
        outside: makes the classes of algorithms that are programs of the user's.
    """

    def __init__(self, replies: BinaryIO, outside: Outside | None = None) -> None:
        self._replies, self._outside = replies, outside
        self._guests: dict[str, Guest] = {}

    def read(self, line: bytes) -> None:
        """Does what one line says; one that is no request is answered with ``error``."""
        try:
            request = loads(line)
        except MalformedMessage as exc:
            self._fail({}, f"no request: {exc}", user=False)
        else:
            self.handle(request)

    def handle(self, request: dict[str, Any]) -> None:
        """Does what one request says; errors become ``error`` replies."""
        try:
            getattr(self, f"_{request['op']}")(request)
        except HpoSteerError as exc:
            key = exc.key if isinstance(exc, ConfigError) else None
            message = exc.message if isinstance(exc, ConfigError) else str(exc)
            self._fail(request, message, user=isinstance(exc, UserError), key=key)
        except Exception as exc:  # noqa: BLE001 - a request's failure is the sender's to judge
            traceback.print_exc()
            self._fail(request, f"{type(exc).__name__}: {exc}", user=False)

    def _fail(self, request: dict[str, Any], message: str, *, user: bool, key: str | None = None) -> None:
        self._reply(
            {
                "op": "error",
                "id": request.get("id"),
                "model": request.get("model"),
                "message": message,
                "user": user,
                "key": key,
            }
        )

    def _reply(self, message: dict[str, Any]) -> None:
        self._replies.write(dumps(message))
        self._replies.flush()

    def _open(self, request: dict[str, Any]) -> None:
        if request.get("v") != PROTOCOL:
            shown = tidy(repr(request.get("v")))[:40]
            self._fail(request, f"open: protocol version {shown}, this is version {PROTOCOL}", user=False)
            return
        if "name" in request["algorithm"]:  # a host of users' classes leaves the name to their folders
            pin("algorithms")
        self._guests[request["model"]] = Guest(
            request["algorithm"],
            search_space(request["search_space"], request["constraints"]),
            parse_objectives(request["objectives"]),
            request["seed"],
            Path(request.get("folder", ".")),
            forbid=request.get("duplicates") == "forbid",
            outside=self._outside,
            outcome_constraints=request.get("outcome_constraints", ()),
        )
        self._reply({"op": "opened", "model": request["model"]})

    def _restore(self, request: dict[str, Any]) -> None:
        self._guests[request["model"]].restore(history_from_json(request["history"]))

    def _tell(self, request: dict[str, Any]) -> None:
        self._guests[request["model"]].tell([observation_from_json(o) for o in request["observations"]])

    def _ask(self, request: dict[str, Any]) -> None:
        guest = self._guests[request["model"]]
        faults.reached("host.asked")
        points = guest.ask(request["n"])
        self._reply(
            {
                "op": "points",
                "id": request["id"],
                "model": request["model"],
                "points": [point_to_json(p) for p in points],
                "ended": guest.ended,
                "note": guest.note,
            }
        )
        faults.reached("host.answered")


def main() -> None:
    """Serves requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    host = Host(replies)
    faults.arm(os.environ)
    for line in sys.stdin.buffer:
        host.read(line)


if __name__ == "__main__":
    main()
