"""Experiments side by side: they wait more than they compute, so several of them take little longer than one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LANES = 3
T = TypeVar("T")


class Lanes(Generic[T]):
    """Runs one function for many names, beforehand and a few at a time; each test then asks for its own.

    Args:
        run: what to do for a name.
        names: all that will be asked for, in this order.
        count: how many run at once.
    """

    def __init__(self, run: Callable[[str], T], names: Iterable[str], *, count: int = _LANES) -> None:
        self._pool = ThreadPoolExecutor(count)
        self._futures: dict[str, Future[T]] = {name: self._pool.submit(run, name) for name in names}

    def __enter__(self) -> Lanes[T]:
        return self

    def __exit__(self, *_: object) -> None:
        """Begins no more of them, and waits for those that run."""
        self._pool.shutdown(cancel_futures=True)

    def __getitem__(self, name: str) -> T:
        """What came of a name; raises what its run raised."""
        return self._futures[name].result()


def wanted(items: Iterable[Any], function: str, parameter: str) -> list[str]:
    """The values of a test function's parameter that a session is going to run.

    Args:
        items: of the session.
        function: the test's name.
        parameter: the name of its parameter.
    """
    return [
        item.callspec.params[parameter] for item in items if getattr(item, "originalname", None) == function
    ]
