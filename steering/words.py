"""Numbers and times as people read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def duration(seconds: float) -> str:
    """A time span in two units at most.

    >>> [duration(s) for s in (0.042, 3.21, 69, 4000, 200000)]
    ['0.04 s', '3.2 s', '1 min 09 s', '1 h 06 min', '2 d 7 h']
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def number(value: Any) -> str:
    """A value in four significant digits; other values as they are.

    >>> [number(v) for v in (0.04123456, 12, 1e-07, True, "dart", 123456.7)]
    ['0.04123', '12', '1e-07', 'true', 'dart', '1.235e+05']
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (bool, type(None), list, dict)):
        return json.dumps(value)
    return printable(str(value))


def printable(text: str, most: int = 60) -> str:
    r"""Text on one line and without control characters, shortened if it is long.

    >>> print(printable("a\nb"))
    a\nb
    """
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def params(values: Mapping[str, Any], most: int | None = None) -> str:
    """Parameters on one line.

    >>> params({"eta": 0.0831, "booster": "dart"})
    'eta=0.0831 booster=dart'
    """
    shown = [f"{printable(name)}={number(value)}" for name, value in values.items()]
    if most is not None and len(shown) > most:
        shown = [*shown[:most], "…"]
    return " ".join(shown)


def host_of(worker: str) -> str:
    """The machine in a worker's id ``host-pid-random``; an id of another form as it is.

    >>> host_of("gpu-node7-411-a0b1c2"), host_of("mine")
    ('gpu-node7', 'mine')
    """
    return worker.rsplit("-", 2)[0] if worker.count("-") > 1 else worker


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "point"), plural(2, "point")
    ('1 point', '2 points')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
