"""The options of the program phpo: their names, defaults and kinds, and how they are given."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from hpo_steer.errors import UserError, nearest

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Option:
    """One option of phpo.

    Attributes:
        name: as in ``--name`` and in its JSON.
        kind: what its value is.
        default: its value where it is not given.
        flag: how it is written on the command line, if otherwise than ``--name``.
    """

    name: str
    kind: Literal["text", "whole", "flag"] = "text"
    default: Any = None
    flag: str | None = None


OPTIONS = (
    Option("nParallelEvaluation", "whole", 1),
    Option("maxPoints", "whole", 10),
    Option("maxEvaluationJobs", "whole"),
    Option("maxPointsPerEvaluationJob", "whole"),
    Option("nPointsPerIteration", "whole", 2),
    Option("minUnevaluatedPoints", "whole"),
    Option("steeringContainer"),
    Option("steeringExec"),
    Option("searchSpaceFile"),
    Option("evaluationContainer"),
    Option("evaluationExec"),
    Option("evaluationInput", default="input.json"),
    Option("evaluationTrainingData", default="input_ds.json"),
    Option("evaluationOutput", default="output.json"),
    Option("evaluationMeta"),
    Option("evaluationMetrics"),
    Option("checkPointToSave"),
    Option("checkPointToLoad"),
    Option("checkPointInterval", "whole"),
    Option("alrbArgs"),
    Option("architecture", default=""),
    Option("segmentSpecFile"),
    Option("trainingDS"),
    Option("outDS"),
    Option("official", "flag", False),
    Option("site"),
    Option("workingGroup"),
    Option("vomsRoles", flag="--voms"),
    Option("noEmail", "flag", False),
    Option("noSubmit", "flag", False),
    Option("verbose", "flag", False, flag="-v"),
    Option("python3", "flag", False, flag="-3"),
    Option("intrSrv", "flag", False),
    Option("loadJson"),
    Option("dumpJson"),
    Option("version", "flag", False),
)
"""Those of panda-client 2.2."""

BY_NAME = {option.name: option for option in OPTIONS}

RESULTS = ("returnCode", "returnOut", "jediTaskID")
"""What ``--dumpJson`` adds: how the submission went."""

_HELP = ("help", "helpGroup")


@dataclass(frozen=True)
class Given:
    """What somebody gave to phpo.

    Attributes:
        values: option to value, defaults included.
        explicit: the options among them that were given; of a JSON, those that are not at their default.
        unknown: what phpo has no such option for, with its value.
        results: how the submission went, from a JSON that phpo has written.
    """

    values: Mapping[str, Any]
    explicit: frozenset[str]
    unknown: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)


def from_json(data: Mapping[str, Any]) -> Given:
    """The options in a JSON, such as ``--dumpJson`` writes and ``--loadJson`` reads.

    Raises:
        UserError: a value of the wrong kind; names the option.
    """
    values = {option.name: option.default for option in OPTIONS}
    unknown, results = {}, {}
    for name, value in data.items():
        if name in BY_NAME:
            values[name] = _checked(BY_NAME[name], value)
        elif name in RESULTS:
            results[name] = value
        elif name not in _HELP:
            unknown[str(name)] = value
    explicit = frozenset(name for name, value in values.items() if value != BY_NAME[name].default)
    return Given(values, explicit, unknown, results)


def from_words(words: Sequence[str], folder: Path) -> Given:
    """The options of a command line.

    Args:
        words: split as a shell does, with or without the program's name.
        folder: where the file of ``--loadJson`` is looked for; what it says goes before the command line, as in phpo.

    Raises:
        UserError: an option without its value, or one of the wrong kind.
    """
    words = list(words)
    if words and words[0].rpartition("/")[2] == "phpo":
        words = words[1:]
    found, rest = _parser().parse_known_args(words)
    explicit = {name: _checked(BY_NAME[name], value) for name, value in vars(found).items()}
    if "loadJson" in explicit:
        loaded = from_json(_load(folder, explicit["loadJson"]))
        explicit |= {name: loaded.values[name] for name in loaded.explicit}
        unknown = {**_unknown(rest), **loaded.unknown}
    else:
        unknown = _unknown(rest)
    values = {option.name: option.default for option in OPTIONS} | explicit
    return Given(values, frozenset(explicit), unknown)


def words_of(text: str) -> list[str]:
    r"""The words of a command line in a text; lines may end in a backslash, and ``#`` begins a comment.

    Raises:
        UserError: a quotation mark that is never closed.

    >>> words_of("phpo --maxPoints 5 \\\n  --site A  # mine")
    ['phpo', '--maxPoints', '5', '--site', 'A']
    """
    text = re.sub(r"\\\r?\n", " ", text)
    try:
        return shlex.split(text, comments=True)
    except ValueError as exc:
        raise UserError(f"this is no command line of phpo: {str(exc)[:1].lower()}{str(exc)[1:]}") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"phpo would not take this: {message}")


def _parser() -> _Parser:
    """Reads options as phpo does: shortened names and ``--name=value`` are fine."""
    parser = _Parser(prog="phpo", add_help=False, argument_default=argparse.SUPPRESS)
    for option in OPTIONS:
        flag = option.flag or f"--{option.name}"
        if option.kind == "flag":
            parser.add_argument(flag, dest=option.name, action="store_true")
        else:
            parser.add_argument(flag, dest=option.name)
    return parser


def _unknown(rest: Sequence[str]) -> dict[str, Any]:
    """What argparse left over, options with their values."""
    unknown: dict[str, Any] = {}
    last: str | None = None
    for word in rest:
        if word.startswith("-"):
            last, equals, value = word.partition("=")
            unknown[last] = value if equals else None
        elif last is not None and unknown[last] is None:
            unknown[last] = word
        else:
            unknown[word] = None
    return unknown


def _load(folder: Path, name: str) -> Mapping[str, Any]:
    path = folder / name
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"--loadJson {name}: there is no such file") from None
    except (OSError, ValueError) as exc:
        raise UserError(f"--loadJson {name}: {exc}") from None
    if not isinstance(data, Mapping):
        raise UserError(f"--loadJson {name}: expected an object of options")
    return data


def _checked(option: Option, value: Any) -> Any:
    if value is None:
        return option.default
    if option.kind == "whole":
        try:
            return value if isinstance(value, int) and not isinstance(value, bool) else int(str(value))
        except ValueError:
            raise UserError(f"{option.name} is a whole number, got {value!r}") from None
    if option.kind == "flag":
        if not isinstance(value, bool):
            raise UserError(f"{option.name} is true or false, got {value!r}")
        return value
    if isinstance(value, (list, dict, bool)):
        raise UserError(f"{option.name} is a text, got {value!r}")
    return str(value)


def remark_on(name: str) -> str:
    """What to say of an option that phpo does not have."""
    hint = nearest(name.lstrip("-"), BY_NAME)
    return f"phpo has no such option; {hint}" if hint.startswith("did you") else "phpo has no such option"
