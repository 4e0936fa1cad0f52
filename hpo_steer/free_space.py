"""A search space that nobody has written down: the user's own steering program knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import ConfigError, OutsideSpace
from hpo_steer.messages import check_params
from hpo_steer.parameters import Value
from hpo_steer.space import Params, SearchSpace, point_hash

if TYPE_CHECKING:
    import numpy as np


class FreeSpace(SearchSpace):
    """Takes any parameters that JSON can hold, and can propose none.

    Example:
        >>> FreeSpace().validate({"layers": [64, 32]})
        {'layers': [64, 32]}
    """

    def __init__(self) -> None:
        self.constraints = ()
        self._by_name = {}
        self.parameters = ()
        self._parents_first = ()

    @property
    def size(self) -> int | None:
        """None: nobody can count it."""
        return None

    def validate(self, params: Mapping[str, Value]) -> Params:
        """The point as it is.

        Raises:
            OutsideSpace: it holds something that no message can.
        """
        try:
            return check_params(dict(params))
        except (ValueError, TypeError) as exc:
            raise OutsideSpace(str(exc)) from None

    def hash(self, params: Mapping[str, Value], parent: int | None = None) -> str:
        """As in `SearchSpace.hash`."""
        return point_hash(params, parent)

    def sample(self, n: int, rng: np.random.Generator) -> list[Params]:  # noqa: ARG002
        """Nothing can be drawn from it.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "search_space", "is empty, so nothing but your own steering program can propose points"
        )

    def to_dict(self) -> dict[str, Any]:
        """The ``search_space`` of a config that makes this space again."""
        return {}


def search_space(spec: Mapping[str, Any], constraints: Sequence[str] = ()) -> SearchSpace:
    """The space of a config whose algorithm is a program of the user's.

    Raises:
        ConfigError: as `SearchSpace.from_dict`, or constraints over a space without parameters.
    """
    if spec:
        return SearchSpace.from_dict(spec, constraints)
    if constraints:
        raise ConfigError(
            "constraints", "go with a search_space that names the parameters; this one is empty"
        )
    return FreeSpace()
