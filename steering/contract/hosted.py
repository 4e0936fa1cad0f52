"""A class, a generator or a method of ours, in a process of its own for each ask."""

from __future__ import annotations

import select
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from hpo_steer.algorithm import Asked, Point, Told
from hpo_steer.errors import AlgorithmError
from steering.contract.program import Known, Program, Reply, observations
from steering.hosts import HostFailure, ProcessHost, Proposal, wait_opened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hpo_steer.space import Params
    from steering.hosts import Opening


class HostedProgram(Program):
    """An algorithm that runs in a Python of ours.

    Args:
        made_from: what it is made from.
        log: a file for what it prints.
        timeout_s: how long an answer may take.
    """

    unbounded = "an algorithm of this kind is not told"

    def __init__(self, made_from: Opening, log: Path, timeout_s: float) -> None:
        self._made_from = replace(made_from, duplicates="replicate")
        self._log, self._timeout_s = log, timeout_s
        self._own: list[Params] = []

    def ask(self, known: Sequence[Known], n: int, max_points: int | None = None) -> Reply:  # noqa: ARG002
        """Creates it, takes it through what is known, and asks."""
        model, began = self._made_from.model, time.monotonic()
        self._log.write_bytes(b"")
        host = ProcessHost(self._log)
        try:
            host.open(self._made_from)
            wait_opened(host, {model}, self._timeout_s)
            if known:
                points = [Point(i, params) for i, (params, _) in enumerate(known)]
                given = [params for params, _ in known] != self._own
                told = Told(observations(known, self._made_from.objectives))
                host.restore(model, [Asked(len(points), points, given=given), told])
            host.ask(model, n)
            proposal = self._answer(host, began + self._timeout_s)
        except AlgorithmError as exc:
            said = self._log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
            text = str(exc).replace(f" (see {self._log})", "")
            raise AlgorithmError(f"{text}\n{said}" if said else text) from None
        finally:
            host.close()
        found = [point.params for point in proposal.points]
        if not known:
            self._own = found  # asked for again in every history, as in a run that is resumed
        return Reply(found, proposal.ended, time.monotonic() - began)

    def _answer(self, host: ProcessHost, until: float) -> Proposal:
        while True:
            for reply in host.replies():
                if isinstance(reply, HostFailure):
                    raise reply.error
                if isinstance(reply, Proposal):
                    return reply
            left = until - time.monotonic()
            if left <= 0:
                raise AlgorithmError(
                    f"the algorithm has not answered within {self._timeout_s:g} s (--timeout)"
                )
            select.select([host.fileno()], [], [], left)
