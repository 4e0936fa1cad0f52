"""The main program of a child process that runs the user's training function.

Standard library only, Python 3.9 or later: it runs in the user's interpreter, which sees `hpo_steer` and
nothing else of ours. A worker starts it as ``python -c BOOTSTRAP LINK SETUP``. It reads one JSON request a
line from an inherited socket (in a container: from standard input), and answers each with a line,
``{"metrics": {...}}`` or ``{"failure": {"kind": ..., "message": ...}}``. What the training prints goes to the
log, never to that socket. Beside it are `duration_s`, the seconds of the evaluation, and from a
child for one request `load_s`, those of loading.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from hpo_steer import faults, training
from hpo_steer.errors import InvalidPoint, Stopped
from hpo_steer.limits import MAX_METRICS, SEM, is_name, tidy

BOOTSTRAP = """
import sys
link = sys.argv.pop(1)
sys.path[:] = [link] + [p for p in sys.path if p not in ("", link)]
from hpo_steer.child import main
sys.path.remove(link)
sys.path.append(link)
main()
"""
"""Finds `hpo_steer` through the folder `link`, which holds nothing else, and puts that folder last."""

MAX_METRICS_CHARS = 500_000
_MAX_MESSAGE_CHARS = 2_000

Answer = Dict[str, Any]


def main() -> None:
    """Serves requests until the worker hangs up, or one request if it was started for one."""
    setup = json.loads(sys.argv.pop(1))
    sys.argv[:] = [setup.get("file") or setup["module"]]
    fd, answers = _lines(setup["fd"])
    _readable_log()
    faults.arm(os.environ)
    sys.path[:0] = setup["path"]
    home, owner = os.getcwd(), os.getpid()  # noqa: PTH109 - a string is wanted
    began = time.perf_counter()
    function, broken = _load(setup)
    load_s = round(time.perf_counter() - began, 6)
    with os.fdopen(fd, "rb", closefd=False) as requests:
        for line in requests:
            request = json.loads(line)
            if "request" in request:
                with open(request["request"], encoding="utf-8") as file:  # noqa: PTH123 - as short as it gets
                    request = json.load(file)
            os.chdir(home)
            faults.reached("child.began")
            began = time.perf_counter()
            answer = _evaluate(function, broken, setup, request)
            answer["duration_s"] = round(time.perf_counter() - began, 6)
            if setup["once"]:
                answer["load_s"] = load_s
            answer["key"] = request["key"]
            if os.getpid() != owner:  # a fork of the training has come back to here
                os._exit(0)
            faults.reached("child.trained")
            _flush()
            _write(answers, json.dumps(answer).encode() + b"\n")
            if setup["once"]:
                return


def _lines(fd: Optional[int]) -> Tuple[int, int]:
    """Where requests come from and answers go to; what the training prints never goes there.

    Args:
        fd: an inherited socket; None: standard input and output, as in a container.
    """
    if fd is not None:
        os.set_inheritable(fd, False)
        return fd, fd
    requests, answers = os.dup(0), os.dup(1)  # no child of the training inherits them
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def check_metrics(value: Any, objectives: Sequence[str], who: str) -> Answer:  # noqa: PLR0911 - a list of rules
    """Reads what a training returned.

    Args:
        value: a number (with one objective), or a dict of metrics.
        objectives: the metrics it must hold (objectives, and those of outcome constraints); none if they are
            not known.
        who: what returned it, such as ``train()``.

    Returns:
        ``{"metrics": ...}``; or a failure: ``invalid`` for one of them that is not finite, else ``error``.
        Other metrics that are not finite numbers are left out, with a line on stderr.
    """
    if not isinstance(value, dict):
        number = _number(value)
        if number is None:
            return failure("error", f"{who} returned {_shown(value)}; {_expected(objectives)}")
        if len(objectives) != 1:
            return failure("error", f"{who} returned a number; {_expected(objectives)}")
        value = {objectives[0]: number}
    value = {str(name): given for name, given in value.items()}
    missing = [name for name in objectives if name not in value]
    if missing:
        listed = ", ".join(value) or "nothing"
        return failure("error", f'{who} returned no metric "{missing[0]}"; it returned: {listed}')
    metrics: Dict[str, float] = {}
    errors_of = {name + SEM for name in objectives} - set(objectives)
    for name, given in value.items():
        number = _number(given)
        if name in errors_of and not (number is not None and 0.0 <= number < math.inf):
            return failure(
                "error", f'metric "{name}" is {_shown(given)}; a standard error is finite and at least 0'
            )
        if number is not None and math.isfinite(number) and is_name(name):
            metrics[name] = number
        elif name not in objectives:
            print(f'hpo-steer: metric "{tidy(name)}" is left out: {_shown(given)}', file=sys.stderr)  # noqa: T201
        elif number is None:
            return failure("error", f'metric "{name}" is no number: {_shown(given)}')
        else:
            return failure("invalid", f'metric "{name}" is {number}')
    if not metrics:
        return failure("error", f"{who} returned no metrics; {_expected(objectives)}")
    if len(metrics) > MAX_METRICS or sum(map(len, metrics)) + 25 * len(metrics) > MAX_METRICS_CHARS:
        return failure(
            "error", f"{who} returned {len(metrics)} metrics, which is too much; write them to a file"
        )
    return {"metrics": metrics}


def failure(kind: str, message: str) -> Answer:
    """A failure as an answer."""
    return {"failure": {"kind": kind, "message": clean(message)}}


def clean(text: str) -> str:
    """Text that any store and any message can hold: no NUL, no lone surrogates, not too long."""
    if len(text) > _MAX_MESSAGE_CHARS:
        text = text[:_MAX_MESSAGE_CHARS] + " …"
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _load(setup: Dict[str, Any]) -> Tuple[Optional[Callable[..., Any]], Optional[BaseException]]:
    """The user's function, or what its file raised."""
    import importlib

    try:
        module = _import_file(setup["file"]) if setup["file"] else importlib.import_module(setup["module"])
        return getattr(module, setup["name"]), None
    except BaseException as exc:  # noqa: BLE001 - the file is the user's: anything may come
        return None, exc


def _import_file(file: str) -> Any:
    import importlib.util

    name = os.path.splitext(os.path.basename(file))[0]  # noqa: PTH119, PTH122 - strings from JSON
    if name in sys.modules or not name.isidentifier():
        name = "payload_" + "".join(c if c.isalnum() else "_" for c in name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _evaluate(
    function: Optional[Callable[..., Any]],
    broken: Optional[BaseException],
    setup: Dict[str, Any],
    request: Dict[str, Any],
) -> Answer:
    os.environ[training.ATTEMPT_DIR] = folder = request["dir"]
    os.environ[training.POINT] = json.dumps(request["point"])
    who = setup["name"] + "()"
    try:
        if function is None:
            raise broken or RuntimeError("nothing was loaded")  # noqa: TRY301
        value = function(request["params"])
        if training.stopped_in(folder):
            return failure("pruned", "steering has ended this attempt")
        return check_metrics(value, setup["objectives"], who)
    except Stopped as exc:
        return failure("pruned", _text(exc))
    except InvalidPoint as exc:
        return failure("invalid", _text(exc) or f"{who} says that this point cannot be evaluated")
    except SystemExit as exc:
        _print_traceback(exc)
        return failure("error", f"{who} left with sys.exit({exc.code!r}) before it returned")
    except BaseException as exc:  # noqa: BLE001 - the function is the user's: anything may come
        _print_traceback(exc)
        text = _text(exc)
        return failure("error", f"{type(exc).__name__}: {text}" if text else type(exc).__name__)


def _print_traceback(exc: BaseException) -> None:
    """The traceback without our own frames at its top."""
    import traceback

    tb = exc.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    try:
        traceback.print_exception(type(exc), exc, tb)
    except Exception:  # noqa: BLE001 - a broken __str__ must not end the child
        print(f"{type(exc).__name__} (its text cannot be shown)", file=sys.stderr)  # noqa: T201


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:  # noqa: BLE001 - __str__ is the user's
        return ""


def _number(value: Any) -> Optional[float]:
    if isinstance(value, (str, bytes, bytearray, bool)) or value is None:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except Exception:  # noqa: BLE001 - __float__ is the user's
        return None


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - __repr__ is the user's
        text = "something"
    text = text if len(text) <= 80 else text[:77] + "..."
    return text if value is None else f"{text} ({type(value).__name__})"


def _expected(objectives: Sequence[str]) -> str:
    if not objectives:
        return 'expected a dict of metrics such as {"loss": 0.1} (or tell the worker: --objective NAME)'
    named: List[str] = [f'"{name}"' for name in objectives]
    wanted = "expected a dict with " + " and ".join(named)
    return wanted + " or a number" if len(named) == 1 else wanted


class _Log(io.FileIO):
    """A log that never fails: what a full disk does not take is lost, and the training goes on."""

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        try:
            while view:
                view = view[super().write(view) or 0 :]
        except OSError:
            pass
        return size


def _readable_log() -> None:
    """Lines reach the log when they are printed, and a crash in C code leaves its stack there."""
    import faulthandler

    for fd, name in ((1, "stdout"), (2, "stderr")):
        log: Any = _Log(fd, "w", closefd=False)
        stream = io.TextIOWrapper(log, "utf-8", "backslashreplace", line_buffering=True, write_through=True)
        setattr(sys, name, stream)
    faulthandler.enable()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib is not needed otherwise
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed or replaced by the training
            pass


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
