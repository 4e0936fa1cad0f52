"""The uninterrupted run: the same results in the same order, and nothing else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_steer.messages import Work
from steering.store.opening import open_store
from tests.unit.steering.hazards import RecordingHost
from tests.unit.steering.loop_model import history
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from steering.store.base import PointRecord, Store

_BY_THE_SEARCH = "the search has stopped"


class QuietRun:
    """Repeats what a recorded run was told, with one worker that never fails and a steering that never dies.

    Args:
        config: the sections of the experiment.
        recorded: the store of the run to compare with.
        slow: the recorded run's algorithms took their time.
    """

    def __init__(self, config: Mapping[str, Any], recorded: Store, *, slow: bool) -> None:
        once = {"function": "t.py:t", "workers": 0, "max_attempts": 1, "max_lost": 1}
        quiet = experiment(**{**config, "name": "quiet", "evaluation": once})
        self._models = [m.name for m in quiet.models]
        self._recorded = recorded
        self._points = {(p.model, p.number): p for p in recorded.points()}
        self._script = {m: self._outcomes(m) for m in self._models}
        self._host = RecordingHost(slow=slow)
        self._bench = Bench(quiet, open_store("memory", "quiet", create=True))
        self._works: dict[tuple[str, int], Work] = {}

    def _outcomes(self, model: str) -> list[PointRecord]:
        """Of the points that somebody evaluated, in the order told; the others' follow from them."""
        own = [p for p in self._points.values() if p.model == model and p.duplicate_of is None]
        return sorted((p for p in own if not _by_the_search(p)), key=lambda p: p.told or 0)

    def compare(self) -> None:
        """Runs it, and compares every iteration, every point and the order of all that was told."""
        store = self._bench.store
        store.lock("quiet")
        self._bench.create()
        loop = self._bench.loop(self._host)
        try:
            for _ in range(4 * len(self._points) + 10):
                self._begin()
                loop.step(0)
                if loop.over:
                    break
                for model in self._models:
                    self._go_on(model)
                loop.step(0)
            for model in self._models:
                self._compare(model)
        finally:
            loop.close()
            self._bench.transport.close()
            store.close()

    def _begin(self) -> None:
        """Everything that will bring a result is begun at once, so that no stop rule cancels it."""
        numbers = {p.id: (p.model, p.number) for p in self._bench.store.points()}
        for work in list(self._bench.transport.work):
            recorded = self._points.get(numbers[work.point])
            if recorded is not None and not _by_the_search(recorded):
                self._bench.transport.work.remove(work)
                self._works[numbers[work.point]] = work
                self._bench.start(work)

    def _go_on(self, model: str) -> None:
        """The next result of a model; where an answer of its algorithm is due before it, that."""
        script = self._script[model]
        asked = len(self._bench.store.iterations(model)) + 1
        following = self._recorded.iterations(model)[asked:]
        told = sum(p.told is not None for p in self._bench.store.points(model=model))
        work = self._works.get((model, script[0].number)) if script else None
        if model in self._host.thinking:
            # before the next ask; and the last points, if they were begun, before a stop rule cancels them
            if following:
                due = following[0].told <= told
            else:
                due = any(p.iteration == asked for p in script) and not self._early(model, asked, told)
            # or one of its points was told next, as a duplicate of another one is at once
            told_next = any(
                (p.model, p.iteration, p.told) == (model, asked, told + 1) for p in self._points.values()
            )
            if due or told_next or work is None:
                self._host.release(model)
                return
        if work is None:
            return
        record = script.pop(0)
        if record.failure is None:
            self._bench.finish(work, loss=(record.values or {})["loss"])
        else:
            self._bench.finish(work, kind=record.failure.kind)

    def _early(self, model: str, iteration: int, told: int) -> bool:
        """A duplicate in it was not told at its original's result but later: when the answer came."""
        own = [p for p in self._points.values() if p.model == model and p.told is not None]
        of = {p.id: p.told or 0 for p in own}
        with_the_answer = [
            p.told or 0
            for p in own
            if p.iteration == iteration
            and p.duplicate_of in of
            # something else was told between the two
            and any(
                of[p.duplicate_of] < of[q.id] < of[p.id] and q.duplicate_of != p.duplicate_of for q in own
            )
        ]
        return bool(with_the_answer) and min(with_the_answer) > told + 1

    def _compare(self, model: str) -> None:
        quiet, recorded = self._rows(self._bench.store, model), self._rows(self._recorded, model)
        assert quiet == recorded, f"\nuninterrupted: {quiet}\nthis run: {recorded}"

    def _rows(self, store: Store, model: str) -> list[Any]:
        iterations = [(i.number, i.wanted, i.size, i.told) for i in store.iterations(model)]
        points = [(p.number, p.iteration, dict(p.params)) for p in store.points(model=model)]
        return [iterations, points, history(store.points(), model)]


def _by_the_search(record: PointRecord) -> bool:
    failure = record.failure
    return failure is not None and failure.kind == "cancelled" and failure.message.startswith(_BY_THE_SEARCH)
