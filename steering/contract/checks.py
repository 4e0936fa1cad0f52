"""The contract of a steering, as a list of checks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hpo_steer.algorithm import Failure
from hpo_steer.errors import HpoSteerError, OutsideSpace
from hpo_steer.findings import Breach, Finding, outlined
from hpo_steer.free_space import FreeSpace
from hpo_steer.parameters import canonical
from steering.contract.program import Known, Program, Reply
from steering.words import duration, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hpo_steer.space import Params, SearchSpace

FEWEST = 2
"""Points in an ask: with one, nothing could be compared."""
MOST_FULL = 256
"""The largest space that is filled with known points."""
_NEAR_ZERO = 1e-3
_SHOWN = 3


class SteeringChecks:
    """Asks a steering under one history after the other.

    Args:
        program: the steering.
        space: where its points have to come from.
        n: how many points to ask for.
        full: the steering again, on a space that is filled with known points, and that space; None: not tried.
    """

    def __init__(
        self,
        program: Program,
        space: SearchSpace,
        n: int,
        full: tuple[Program, SearchSpace] | None = None,
    ) -> None:
        self._program, self._space, self._n, self._full = program, space, n, full
        self._points: list[Params] = []
        self._near: Sequence[Params] | None = None
        self._awaited: Sequence[Params] | None = None
        self._repeats = False
        self._outside = False  # whether that has had its line
        self._few = self._many = n

    def run(self) -> Iterator[Finding]:
        """One finding after the other; one that cannot be asked at all gets a single one."""
        first = _finding("first call, no history", self._first)
        yield first
        if not self._points:
            return
        checks: list[tuple[str, Callable[[], str | None]]] = [
            ("history of losses", self._losses),
            ("the same input twice", self._twice),
            ("asked for one", self._one),
            ("history with a pending point", self._pending),
            ("pending points are not counted", self._not_counted),
            ("a loss of 0.0", self._zero),
            ("a failed point", self._failed),
            ("fewer left than asked for", self._fewer_left),
            ("every point known", self._all_known),
            *self._program.more(self._history(), self._n),
        ]
        for subject, check in checks:
            yield _finding(subject, check)

    # ------------------------------------------------------------ what it is asked

    def _history(self, result: Known | None = None) -> list[Known]:
        """The known points with losses; the second one with another result, if one is given."""
        known: list[Known] = [(params, 1.0 / (1 + i)) for i, params in enumerate(self._points)]
        known[self._chosen] = (self._points[self._chosen], _NEAR_ZERO)
        if result is not None:
            known[self._chosen] = result
        return known

    @property
    def _chosen(self) -> int:
        return min(1, len(self._points) - 1)

    @property
    def _point(self) -> Params:
        return self._points[self._chosen]

    def _least(self, known: int) -> int:
        """How many new points there have to be; what the first call lacked has had its line."""
        return self._few if self._space.size is None else min(self._few, max(self._space.size - known, 0))

    def _ask(self, known: Sequence[Known], n: int | None = None, most: int | None = None) -> Reply:
        """An answer; points outside the space have one line, not all of them.

        Raises:
            Breach: some are outside the space.
        """
        reply = self._program.ask(known, n or self._n, most)
        self._check_inside(reply.points)
        return replace(reply, points=[_in_form(params, self._space) for params in reply.points])

    def _check_inside(self, points: Sequence[Params]) -> None:
        if not self._outside:
            try:
                _inside(points, self._space)
            except Breach:
                self._outside = True
                raise

    # ------------------------------------------------------------ checks

    def _first(self) -> str:
        reply = self._program.ask([], self._n)
        self._points = _known(reply.points, self._space, self._n)
        found, least = len(reply.points), self._least(0)
        self._few, self._many = min(max(found, 1), self._n), max(found, self._n)
        self._check_inside(reply.points)
        if not least <= found <= self._n:
            rest = " (hpo-steer asks again for the rest)" if 0 < found < self._n else ""
            raise Breach(f"returned {plural(found, 'point')} where {self._n} were asked for{rest}")
        twice = found - len({canonical(_in_form(params, self._space)) for params in reply.points})
        free = isinstance(self._space, FreeSpace)
        return (
            f"{plural(found, 'point')} of {self._n}"
            + ("" if free else ", all in the space")
            + (f", {twice} of them twice" if twice else "")
            + f" ({duration(reply.took_s)})"
        )

    def _losses(self) -> str:
        reply = self._ask(self._history())
        self._near = reply.points
        known = {canonical(params) for params in self._points}
        again = sum(canonical(params) in known for params in reply.points)
        self._counted(reply, f"with {plural(len(self._points), 'result')}")
        text = f"{plural(len(reply.points), 'point')} of {self._n}"
        return text + (f", {again} of them known already, whose values are reused" if again else "")

    def _counted(self, reply: Reply, when: str, hint: str = "") -> None:
        found = len(reply.points)
        if found > self._many or (found < self._least(len(self._points)) and reply.ended is None):
            hint = f": {hint}" if hint and found < self._n else ""
            raise Breach(f"returned {found} of {self._n} points {when}{hint}")

    def _twice(self) -> None:
        self._repeats = self._near is not None and _same(self._near, self._ask(self._history()).points)
        what = (
            "gives the same points"
            if self._repeats
            else "gives other points: a run cannot be repeated, its recorded points can be resumed"
        )
        raise _Remark(what)

    def _one(self) -> str:
        found = len(self._ask(self._history(), 1).points)
        if found > 1:
            raise Breach(f"returned {plural(found, 'point')} where one was asked for: mind %NUM_POINTS, or n")
        return f"{plural(found, 'point')} of 1"

    def _pending(self) -> str:
        reply = self._ask(self._history((self._point, None)))
        self._awaited = reply.points
        if _holds(reply.points, self._point):
            raise Breach(
                f"the pending point {_shown(self._point)} came back: null is a point that is being evaluated"
            )
        return "not proposed again"

    def _not_counted(self) -> str:
        if self._awaited is None:
            raise _Remark("not looked at, as there was no answer to such a history")
        self._counted(Reply(self._awaited, None, 0.0), "with one pending", self._program.counts_pending)
        return f"{plural(len(self._awaited), 'point')} of {self._n} with one pending"

    def _zero(self) -> str:
        reply = self._ask(self._history((self._point, 0.0)))
        near, awaited, zero = self._near, self._awaited, reply.points
        unevaluated = "is treated as not evaluated: "
        came_back = _holds(zero, self._point) and (near is None or not _holds(near, self._point))
        by_chance = self._space.size is not None and (awaited is None or not _holds(awaited, self._point))
        if came_back and not by_chance:
            raise Breach(f"{unevaluated}point {_shown(self._point)} came back")
        if near is not None and awaited is not None:
            if len(zero) == len(awaited) < len(near):
                raise Breach(
                    f"{unevaluated}returned {len(zero)} of {self._n} points, as with that point pending, and "
                    f"{len(near)} with a loss of {_NEAR_ZERO:g}"
                )
            if self._repeats and _same(zero, awaited) and not _same(zero, near):
                raise Breach(
                    f"{unevaluated}it gave the very points that it gives with that point pending, and others with a "
                    f"loss of {_NEAR_ZERO:g}"
                )
        return "counts as evaluated"

    def _failed(self) -> str:
        failure = Failure("error", "a failure that hpo-steer check made up")
        reply = self._ask(self._history((self._point, failure)))
        self._counted(reply, "with one failed", self._program.counts_failed)
        return f"accepted, {plural(len(reply.points), 'point')} of {self._n}"

    def _fewer_left(self) -> str:
        if self._program.unbounded is not None:
            raise _Remark(f"{self._program.unbounded}; hpo-steer asks for no more than are left")
        known, left = self._history(), self._n - 1
        most = len(known) + left
        found = len(self._ask(known, most=most).points)
        if found > left:
            raise Breach(
                f"asked for {self._n} with {left} left of {most}: returned {found} (hpo-steer asks for no more than "
                "are left; others do)"
            )
        return f"asked for {self._n} with {left} left of {most}: returned {found}"

    def _all_known(self) -> str:
        if self._full is None:
            raise _Remark("not tried: this space has no end")
        program, space = self._full
        if space is not self._space and not _takes(program, space):
            raise _Remark("not tried: the points do not come from the search space that it is given")
        known: list[Known] = [(params, 1.0 + i) for i, params in enumerate(space.cells())]
        reply = program.ask(known, self._n)
        _inside(reply.points, space)
        if reply.points:
            raise _Remark(
                f"of {len(known)} it proposes {len(reply.points)} again, whose values are reused; [] ends a search"
            )
        return f"ends the search, with all {len(known)} known" + (f": {reply.ended}" if reply.ended else "")


class _Remark(Exception):
    """Something to say that is neither right nor wrong."""


def _finding(subject: str, check: Callable[[], str | None]) -> Finding:
    try:
        return Finding(subject, True, check() or "")
    except _Remark as exc:
        return Finding(subject, None, str(exc))
    except Breach as exc:
        return Finding(subject, False, str(exc), exc.quote)
    except HpoSteerError as exc:
        text, quote = outlined(str(exc))
        return Finding(subject, False, text, quote)


def _inside(points: Sequence[Params], space: SearchSpace) -> None:
    wrong = []
    for params in points:
        try:
            space.validate(params)
        except OutsideSpace as exc:
            wrong.append(f"{_shown(params)}: {exc}")
    if wrong:
        raise Breach(
            f"{len(wrong)} of {plural(len(points), 'point')} not in the space", "\n".join(wrong[:_SHOWN])
        )


def _takes(program: Program, space: SearchSpace) -> bool:
    """Whether a program proposes points of a space that it has not been tried on so far."""
    try:
        _inside(program.ask([], FEWEST).points, space)
    except (Breach, HpoSteerError):
        return False
    return True


def _in_form(params: Params, space: SearchSpace) -> Params:
    """A point as the space has it, 1 as 1.0 where that is meant; as it is, outside the space."""
    try:
        return space.validate(params)
    except OutsideSpace:
        return params


def _known(points: Sequence[Params], space: SearchSpace, n: int) -> list[Params]:
    """`n` points to go on with: those of the steering that are in the space, and random ones."""
    found: dict[str, Params] = {}
    for params in points[:n]:
        try:
            valid = space.validate(params)
        except OutsideSpace:
            continue
        found.setdefault(canonical(valid), valid)
    if not isinstance(space, FreeSpace):
        wanted = n if space.size is None else min(n, space.size)
        rng = np.random.default_rng(0)
        while len(found) < wanted:
            (params,) = space.sample(1, rng)
            found.setdefault(canonical(params), params)
    return list(found.values())


def _holds(points: Sequence[Params], params: Params) -> bool:
    return canonical(params) in {canonical(each) for each in points}


def _same(one: Sequence[Params], other: Sequence[Params]) -> bool:
    return [canonical(params) for params in one] == [canonical(params) for params in other]


def _shown(params: Params) -> str:
    text = json.dumps(params, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"
