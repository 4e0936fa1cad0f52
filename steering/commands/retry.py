"""``hpo-steer retry``: failed points are evaluated once more."""

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from steering.commands.options import RUNS, AsJson, Config, StoreFolder, say, say_json

if TYPE_CHECKING:
    from steering.run_view import RunView
    from steering.store.base import PointRecord

_TAKEN_S = 20.0


class Kind(StrEnum):
    """Kinds of failure."""

    error = "error"
    timeout = "timeout"
    lost = "lost"
    invalid = "invalid"
    pruned = "pruned"


_USUAL = (Kind.error, Kind.timeout, Kind.lost)


def retry(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[POINT]... [RUN]", help="Ids of points, and the run's name."),
    ] = None,
    *,
    failed: Annotated[
        bool, typer.Option("--failed", help="All points that failed with error, timeout or lost.")
    ] = False,
    kind: Annotated[
        list[Kind] | None,
        typer.Option("--kind", help="With --failed: only this kind of failure (may be repeated)."),
    ] = None,
    config: Config = None,
    store: StoreFolder = RUNS,
    as_json: AsJson = False,
) -> None:
    """Evaluates failed points once more: at once if steering runs, else when it is started again.

    Each gets a fresh start with all its attempts; its failure leaves the history that the algorithm sees.

    Example: hpo-steer retry --failed digits
    """
    from hpo_steer.errors import UserError
    from steering.run_view import open_view

    points = [int(each) for each in arguments or [] if each.isdecimal()]
    names = [each for each in arguments or [] if not each.isdecimal()]
    if len(names) > 1:
        raise UserError(f"{names[0]} and {names[1]}: name one run, and its points by their ids")
    run = names[0] if names else None
    if bool(points) == failed:
        raise UserError("say which points: hpo-steer retry 118 120, or hpo-steer retry --failed")
    if kind and not failed:
        raise UserError("--kind goes with --failed")
    with open_view(run, config=config, store=store) as view:
        chosen = _chosen(view, points, kind or list(_USUAL))
        owner = view.store.owner()
        if not chosen:
            how = "nothing"
        elif owner is not None:
            how = _ask_steering(view, chosen, owner.name)
        else:
            how = ""
    if chosen and not how:
        how = _write(run, config, store, chosen)
    if as_json:
        say_json({"points": chosen, "running": owner is not None})
        return
    if not chosen:
        say("no point has failed that way")
        return
    which = f"point {chosen[0]} goes" if len(chosen) == 1 else f"{len(chosen)} points go"
    say(f"{which} out again{how}")


def _chosen(view: "RunView", points: list[int], kinds: list[Any]) -> list[int]:
    """Ids of the points that are meant.

    Raises:
        UserError: there is none of that id, or it has not failed.
    """
    from hpo_steer.errors import UserError

    if not points:
        found = view.store.points(states=["failed"])
        return [p.id for p in found if p.failure is not None and p.failure.kind in kinds]
    known = {p.id: p for p in view.store.points(ids=points)}
    for number in points:
        record: PointRecord | None = known.get(number)
        if record is None:
            raise UserError(f"{view.name} has no point {number}; hpo-steer points {view.name} lists them")
        if record.state != "failed":
            raise UserError(f"point {number} has not failed: it is {record.state}")
        if record.failure is not None and record.failure.kind == "cancelled":
            raise UserError(
                f"point {number} was cancelled, as the search had stopped; to go on, change the stop rule and run "
                "with --extend"
            )
    return sorted(known)


def _ask_steering(view: "RunView", chosen: list[int], owner: str) -> str:
    """Leaves a request for the steering that runs, and waits until it is done.

    Raises:
        UserError: it does not look at this folder.
    """
    from hpo_steer.errors import UserError
    from steering.run_folder import RunFolder

    request = RunFolder(view.folder).request(chosen)
    deadline = time.monotonic() + _TAKEN_S
    while request.waits:
        if time.monotonic() > deadline:
            request.done()
            raise UserError(
                f"{view.name} is steered by {owner}, which has not answered within {_TAKEN_S:g} s: run this "
                "command on its machine, or once it has ended"
            )
        time.sleep(0.1)
    return "" if view.store.owner() is None else ", and steering knows"


def _write(run: str | None, config: Any, store: Any, chosen: list[int]) -> str:
    """Writes it down, as nobody steers the run."""
    import os
    import socket

    from steering.run_view import located
    from steering.store.opening import open_store

    _, name, where, file = located(run, config, store)
    opened = open_store(where, name, create=False)
    try:
        opened.lock(f"hpo-steer retry on {socket.gethostname()}, process {os.getpid()}")
        still = [p for p in opened.points(ids=chosen) if p.state == "failed"]
        with opened.transaction() as transaction:
            for point in still:
                transaction.reopen_point(point.id)
            for model in {point.model for point in still}:
                transaction.end_model(model, None)
            transaction.set_run(ended=None)
    finally:
        opened.close()
    return f" when steering does: hpo-steer --config {file}" if file else " when steering is started again"
