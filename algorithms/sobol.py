"""Quasi-random search on a scrambled Sobol sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from algorithms.history import HistoryAlgorithm
from algorithms.scrambled import MAX_DIMENSION, ScrambledSobol
from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_BLOCK = 256


class SobolSequence:
    """One scrambled Sobol sequence, read from any place.

    Args:
        dimension: coordinates of a row, 21,201 at most.
        seed: fixes the scrambling (Owen 1998).
    """

    def __init__(self, dimension: int, seed: int) -> None:
        if dimension > MAX_DIMENSION:
            raise ConfigError("algorithm", f"a Sobol sequence has at most {MAX_DIMENSION} dimensions")
        self._points = ScrambledSobol(dimension, seed & 0xFFFF_FFFF_FFFF_FFFF)
        self._rows: list[list[float]] = []
        self._first = 0

    def rows_from(self, start: int) -> Iterator[tuple[int, list[float]]]:
        """Places in the sequence and their rows, from `start` on without end."""
        while True:
            if not self._first <= start < self._first + len(self._rows):
                self._load(start // _BLOCK * _BLOCK)
            yield start, self._rows[start - self._first]
            start += 1

    def _load(self, first: int) -> None:
        self._rows = self._points.rows(first, _BLOCK).tolist()
        self._first = first


class Sobol(HistoryAlgorithm):
    """The points of one scrambled Sobol sequence in order, without those that break a constraint.

    Fills a space more evenly than random points do: Sobol, USSR Computational Mathematics and Mathematical
    Physics 7 (1967); scrambling by Owen, Journal of Complexity 14 (1998).
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int = 0) -> None:
        super().__init__(space, objectives, seed)
        self._sequence = SobolSequence(len(space), seed)
        self._place = 0

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._place = 0

    def propose(self, n: int) -> list[Params]:
        """The next `n` new points of the sequence."""
        found, self._place = sobol_points(self, self._sequence, self._place, n)
        return found


def sobol_points(
    search: HistoryAlgorithm, sequence: SobolSequence, place: int, n: int
) -> tuple[list[Params], int]:
    """Claims the next `n` new points of a sequence, or fewer where constraints leave next to nothing.

    The search may have been restored: then it goes once more over places that were spent, and finds nothing
    new there. How far to look is a function of the number of points alone, so that this changes no proposal.

    Args:
        search: whose space and claims.
        sequence: of the space's dimension.
        place: where to begin; every point but the first ones of a restored search lies after it.
        n: how many.

    Returns:
        The points, and the place after the last one looked at.
    """
    found: list[Params] = []
    known = len(search.points)
    bound = 20_000 + 64 * (known + n)
    for here, row in sequence.rows_from(max(place, known)):
        if len(found) == n or here >= bound:
            return found, here
        params = search.space.decode(row)
        if search.claim(params):
            found.append(params)
    raise AssertionError("a Sobol sequence has no end")
