"""Classes of the generator standard: their options, how they are created, and the random numbers they draw from."""

from __future__ import annotations

import contextlib
import copy
import inspect
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


def is_of_xopt(generator: type[Any]) -> bool:
    """Whether it follows the conventions of Xopt beyond the standard, such as a column ``xopt_error``."""
    return any(c.__module__.partition(".")[0] == "xopt" for c in inspect.getmro(generator))


def create(generator: type[Any], vocs: Any, options: Mapping[str, Any]) -> Any:
    """A generator for a VOCS; Xopt's take it by its name, and others may call it what they like."""
    options = copy.deepcopy(dict(options))  # Xopt's take entries out of them
    if _fields(generator) is not None:
        return generator(vocs=vocs, **options)
    return generator(vocs, **options)


def accepted_options(generator: type[Any]) -> set[str] | None:
    """Names of a generator's options, those of the VOCS and of data apart; None if it takes any."""
    fields = _fields(generator)
    if fields is not None:
        # a frozen field says what the class can do and is nobody's to set
        return {name for name, field in fields.items() if not field.frozen} - {"vocs", "data", "returns_id"}
    parameters = list(inspect.signature(generator).parameters.values())
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters[1:] if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}


def _fields(generator: type[Any]) -> Mapping[str, Any] | None:
    """The fields of a pydantic model, as Xopt's generators are; None for other classes."""
    from pydantic import BaseModel

    return generator.model_fields if issubclass(generator, BaseModel) else None


def complaint(exc: Exception) -> tuple[str, str]:
    """The option that an exception is about (empty if none), and what it says."""
    from pydantic import ValidationError

    if isinstance(exc, ValidationError):
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return str(first["loc"][0]) if first["loc"] else "", f"{where}: {first['msg']}" if where else first[
            "msg"
        ]
    return "", said(exc)


def said(exc: BaseException) -> str:
    """An exception in one line."""
    return f"{type(exc).__name__}: {' '.join(str(exc).split())}"


@contextlib.contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seeds the global random numbers of Python, NumPy and PyTorch (if it is loaded), and puts them back after it."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None and torch_state is not None:
            torch.set_rng_state(torch_state)
