"""Search spaces in other words: iDDS's (nevergrad's classes), hpogrid's, and plain bounds, turned into ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from containers.phpo.files import shown
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.parameters import canonical, parameter

Spec = dict[str, Any]

_OURS = ("float", "int", "categorical")
_FORMATS = (
    '[low, high], {"type": "Scalar", "bounds": [low, high]} (iDDS), '
    '{"method": "uniform", "dimension": {"low": …, "high": …}} (hpogrid) or {type: float, low: …, high: …}'
)


@dataclass(frozen=True)
class Translated:
    """A search space in our words.

    Attributes:
        search_space: as it stands in a config.
        notes: what the translation changes in how points are drawn, a sentence each; every point of the original
            is a point of the translation.
    """

    search_space: Spec
    notes: tuple[str, ...] = ()


def translate(spec: Any, key: str = "opt_space") -> Translated:
    """Translates a search space; each parameter may be in any of the known forms.

    Args:
        spec: a mapping of parameter names.
        key: what errors call it.

    Raises:
        ConfigError: an unknown form, or one that our search space has no words for; names the parameter.
    """
    if not isinstance(spec, Mapping):
        raise ConfigError(key, f"expected parameters by name, got {shown(spec)}")
    if not spec:
        raise ConfigError(key, "has no parameters")
    notes: list[str] = []
    space: Spec = {}
    for name, entry in spec.items():
        space[name] = _translated(entry, _Place(f"{key}.{name}", notes))
        try:
            parameter(name, space[name])
        except ConfigError as exc:
            raise ConfigError(f"{key}.{name}", exc.message) from None
    return Translated(space, tuple(dict.fromkeys(notes)))


def per_segment(spec: Any, count: int, key: str = "opt_space") -> list[Any]:
    """The untranslated space of each segment.

    Args:
        spec: one space for all of them, a list of spaces, or a list of ``{"model_id": 0, "search_space": …}``.
        count: how many segments there are.
        key: what errors call it.

    Raises:
        ConfigError: a list that does not fit the segments.
    """
    if not isinstance(spec, list):
        return [spec] * count
    if not any(isinstance(entry, Mapping) and "model_id" in entry for entry in spec):
        if len(spec) != count:
            raise ConfigError(key, f"lists {len(spec)} search spaces for {count} segments")
        return spec
    by_id: dict[int, Any] = {}
    for i, entry in enumerate(spec):
        if not isinstance(entry, Mapping) or set(entry) != {"model_id", "search_space"}:
            raise ConfigError(
                f"{key}[{i}]", f'expected {{"model_id": …, "search_space": …}}, got {shown(entry)}'
            )
        by_id[entry["model_id"]] = entry["search_space"]
    if set(by_id) != set(range(count)) or len(spec) != count:
        ids = ", ".join(shown(entry["model_id"]) for entry in spec)
        raise ConfigError(
            key, f"needs one search space for each model_id from 0 to {count - 1}, and has {ids}"
        )
    return [by_id[i] for i in range(count)]


@dataclass(frozen=True)
class _Place:
    """Where a parameter stands, to complain or to remark."""

    key: str
    notes: list[str]

    def wrong(self, message: str) -> ConfigError:
        return ConfigError(self.key, message)

    def note(self, text: str) -> None:
        self.notes.append(f"{self.key}: {text}")

    def bounds(self, low: Any, high: Any) -> tuple[float, float]:
        for bound in (low, high):
            if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not math.isfinite(bound):
                raise self.wrong(f"needs two numbers as bounds, got {shown(low)} and {shown(high)}")
        if low > high:
            raise self.wrong(f"its lower bound {low} is above its upper bound {high}")
        return low, high

    def number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.wrong(f"{name} is a number, got {shown(value)}")
        return value


def _translated(entry: Any, place: _Place) -> Spec:
    if isinstance(entry, Mapping):
        if entry.get("type") in _OURS:
            return dict(entry)
        if "type" in entry:
            return _nevergrad(entry, place)
        if "method" in entry:
            return _hpogrid(entry, place)
    elif _is_pair(entry):
        return _float(*place.bounds(*entry))
    raise place.wrong(f"is in no known form: expected {_FORMATS}, got {shown(entry)}")


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, (list, tuple)) and len(entry) == 2


# ---------------------------------------------------------------- iDDS: the classes of nevergrad


def _nevergrad(entry: Mapping[str, Any], place: _Place) -> Spec:
    """``{"type": "Scalar", "params": {…}, "bounds": [low, high]}``: a class of nevergrad and its arguments."""
    kind, params, bounds = entry["type"], entry.get("params") or {}, entry.get("bounds")
    known = ("Choice", "TransitionChoice", "Array", "Scalar", "Log")
    if kind not in known:
        raise place.wrong(f'unknown type "{kind}"; {nearest(str(kind), (*known, *_OURS))}')
    if unknown := sorted(set(entry) - {"type", "params", "bounds"}):
        raise place.wrong(f'a {kind} has no key "{unknown[0]}"; it has type, params and bounds')
    if not isinstance(params, Mapping):
        raise place.wrong(f"params is a mapping of arguments, got {shown(params)}")
    if kind == "Array" or params.get("repetitions") is not None:
        raise place.wrong(
            "its value is a list of numbers, and a parameter of ours is one value; write a parameter for each"
        )
    if kind in ("Choice", "TransitionChoice"):
        choices = params.get("choices")
        if isinstance(choices, int) and not isinstance(choices, bool) and choices > 0:
            choices = list(range(choices))
        if kind == "TransitionChoice":
            place.note("the order of its choices is not used")
        return _choice(choices, place)
    low, high = _limits(kind, params, bounds, place)
    return _float(low, high, log=kind == "Log")


def _limits(kind: str, params: Mapping[str, Any], bounds: Any, place: _Place) -> tuple[float, float]:
    low, high = params.get("lower"), params.get("upper")
    if bounds is not None and (kind == "Scalar" or low is None or high is None):
        if not _is_pair(bounds):
            raise place.wrong(f"bounds are [low, high], got {shown(bounds)}")
        low, high = (each[0] if isinstance(each, list) and len(each) == 1 else each for each in bounds)
    if low is None or high is None:
        where = "bounds: [low, high]" if kind == "Scalar" else "lower and upper among its params"
        raise place.wrong(f"has no bounds, which our search space needs; give it {where}")
    return place.bounds(low, high)


# ---------------------------------------------------------------- hpogrid


def _hpogrid(entry: Mapping[str, Any], place: _Place) -> Spec:
    """``{"method": "uniform", "dimension": {"low": 0, "high": 1}}``."""
    method, dimension = entry["method"], entry.get("dimension")
    known = ("categorical", "fixed", *_RANGES, *_NORMALS)
    if method not in known:
        raise place.wrong(f'unknown method "{method}"; {nearest(str(method), known)}')
    if method == "fixed":
        value = dimension.get("value") if isinstance(dimension, Mapping) else dimension
        return _choice([value], place)
    if not isinstance(dimension, Mapping):
        raise place.wrong(f"needs a dimension, a mapping of what {method} takes, got {shown(dimension)}")
    if method == "categorical":
        return _choice(dimension.get("categories"), place)
    if method in _NORMALS:
        raise place.wrong(_unbounded(method, dimension, place))
    low, high = place.bounds(dimension.get("low"), dimension.get("high"))
    if method == "uniformint":
        if low != int(low) or high != int(high):
            raise place.wrong(f"uniformint goes from one whole number to another, got {low} and {high}")
        return _int(int(low), int(high))
    if method in ("quniform", "qloguniform"):
        return _stepped(low, high, place.number("q", dimension.get("q")), method == "qloguniform", place)
    return _float(low, high, log=method == "loguniform")


_RANGES = ("uniform", "uniformint", "quniform", "loguniform", "qloguniform")
_NORMALS = ("normal", "qnormal", "lognormal", "qlognormal")


def _unbounded(method: str, dimension: Mapping[str, Any], place: _Place) -> str:
    """What to say about a normal distribution."""
    mu, sigma = (place.number(name, dimension.get(name)) for name in ("mu", "sigma"))
    ends = [mu - 3 * sigma, mu + 3 * sigma]
    log = "log" in method
    if log:
        base = place.number("base", dimension.get("base", math.e))
        try:
            ends = [base**end for end in ends]
        except (OverflowError, ZeroDivisionError):
            ends = []
    offer = ""
    if ends:
        scale = ", log: true" if log else ""
        offer = f"; three sigma to either side are {{type: float, low: {ends[0]:.6g}, high: {ends[1]:.6g}{scale}}}"
    return f"a {method} has no bounds, and our search space needs some{offer}"


def _stepped(low: float, high: float, q: float, log: bool, place: _Place) -> Spec:
    """The multiples of q that rounding to the nearest one gives between two bounds."""
    if q <= 0:
        raise place.wrong(f"q is a number above 0, got {q}")
    step = Fraction(str(q))
    first = min(round(low / q), round(Fraction(str(low)) / step)) * step  # draws are rounded as floats are
    last = max(round(high / q), round(Fraction(str(high)) / step)) * step
    whole = step.denominator == first.denominator == 1
    if log and whole and step == 1 and first > 0:
        return _int(int(first), int(last), log=True)
    if log:
        place.note(f"the multiples of {q} are drawn evenly, not on a log scale")
    if whole:
        return _int(int(first), int(last), int(step))
    if first == last:
        return _choice([float(first)], place)
    return {"type": "float", "low": float(first), "high": float(last), "step": float(step)}


# ---------------------------------------------------------------- our words


def _choice(choices: Any, place: _Place) -> Spec:
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise place.wrong(f"needs a list of choices, got {shown(choices)}")
    distinct = list({canonical(choice): choice for choice in choices}.values())
    if len(distinct) < len(choices):
        place.note("choices that were listed twice are listed once")
    return {"type": "categorical", "choices": distinct}


def _float(low: float, high: float, *, log: bool = False) -> Spec:
    if low == high:
        return {"type": "categorical", "choices": [float(low)]}
    return {"type": "float", "low": low, "high": high, **({"log": True} if log else {})}


def _int(low: int, high: int, step: int = 1, *, log: bool = False) -> Spec:
    if low == high:
        return {"type": "categorical", "choices": [low]}
    spec: Spec = {"type": "int", "low": low, "high": high}
    return spec | ({"step": step} if step != 1 else {}) | ({"log": True} if log else {})
