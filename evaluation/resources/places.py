"""Which GPUs and cores each slot of a worker gets."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.resources.claims import Claims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from evaluation.resources.claims import Claim
    from hpo_steer.machine import Gpu, Machine, Wants

_AGAIN_S = 1.0
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Place:
    """What one slot may use.

    Attributes:
        gpus: UUIDs of GPUs.
        share: the share of its only GPU; None: all of them, as a whole.
        gpu_memory_mib: what the share of that GPU's memory is, in MiB.
        cores: numbers of cores; none: any.
    """

    gpus: tuple[str, ...] = ()
    share: float | None = None
    gpu_memory_mib: int | None = None
    cores: tuple[int, ...] = ()


def take_places(
    machine: Machine,
    wants: Wants,
    slots: int,
    *,
    experiment: str,
    say: Callable[[str], None],
    claims: Claims | None = None,
    packed: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Place]:
    """Takes what the slots of a worker need; waits while others have the GPUs.

    Cores that are taken are shared, with a warning: a machine's trainings get slower by that, they don't fail.

    Args:
        machine: this one.
        wants: what each point asks for.
        slots: how many; they fit on this machine while nobody else is there.
        experiment: what they are for.
        say: told what is waited for.
        claims: who has what; this machine's, if left out.
        packed: as `choose` takes it.
        goes_on: asked now and then whether to go on waiting.

    Returns:
        A place for each slot; none, if it was not to go on.
    """
    if not wants.gpus and wants.cores is None:
        return [Place()] * slots
    claims = claims or Claims()
    said = False
    while True:
        places = claims.take(experiment, lambda held: choose(machine, wants, slots, held, packed=packed))
        if places is not None:
            if wants.cores is not None and _overlaps(places, claims.others()):
                say("warning: other trainings run on the same cores; fewer slots make both faster")
            return places
        if not said:
            said = True
            say(
                f"waiting: {_holders(claims.others())} uses the GPUs of {machine.name}; what it leaves is taken at once"
            )
        time.sleep(_AGAIN_S)
        if not goes_on():
            return []


def choose(
    machine: Machine, wants: Wants, slots: int, held: Sequence[Claim], *, packed: bool = False
) -> list[Place] | None:
    """Picks places: several GPUs side by side, shares spread over all GPUs, cores that others don't use first.

    Args:
        machine: this one.
        wants: what each point asks for.
        slots: how many.
        held: what others have.
        packed: whether shares fill one GPU after the other, as the rest is for workers beside this one.

    Returns:
        A place for each slot; None: not enough GPUs are free.
    """
    gpus = _choose_gpus(machine.gpus, wants, slots, held, packed=packed)
    if gpus is None:
        return None
    cores = _choose_cores(machine.cores, wants.cores or 0, slots, held)
    share = wants.share
    return [
        Place(
            tuple(gpu.uuid for gpu in chosen),
            share,
            None if share is None else int(share * chosen[0].memory_mib),
            some,
        )
        for chosen, some in zip(gpus, cores, strict=True)
    ]


def _choose_gpus(
    gpus: Sequence[Gpu], wants: Wants, slots: int, held: Sequence[Claim], *, packed: bool
) -> list[tuple[Gpu, ...]] | None:
    if not wants.gpus:
        return [()] * slots
    left = {gpu.uuid: 1.0 for gpu in gpus}
    for claim in held:
        for uuid, share in claim.gpus:
            if uuid in left:
                left[uuid] -= share
    if wants.gpus < 1:
        chosen: list[tuple[Gpu, ...]] = []
        for _ in range(slots):
            fit = [each for each in gpus if left[each.uuid] > wants.gpus - _ROUNDING]
            if not fit:
                return None
            gpu = (min if packed else max)(fit, key=lambda each: left[each.uuid])
            left[gpu.uuid] -= wants.gpus
            chosen.append((gpu,))
        return chosen
    free = [gpu for gpu in gpus if left[gpu.uuid] > 1 - _ROUNDING]
    each = int(wants.gpus)
    if len(free) < each * slots:
        return None
    return [tuple(free[number * each : (number + 1) * each]) for number in range(slots)]


def _choose_cores(
    cores: Sequence[int], each: int, slots: int, held: Sequence[Claim]
) -> list[tuple[int, ...]]:
    taken = Counter(core for claim in held for core in claim.cores)
    ordered = sorted(cores, key=lambda core: (taken[core], core))[: each * slots]
    ordered.sort()  # neighbours share caches
    return [tuple(ordered[number * each : (number + 1) * each]) for number in range(slots)]


def _overlaps(places: Sequence[Place], others: Sequence[Claim]) -> bool:
    mine = {core for place in places for core in place.cores}
    return any(mine.intersection(claim.cores) for claim in others)


def _holders(others: Sequence[Claim]) -> str:
    """Who holds GPUs.

    >>> _holders([])
    'another program'
    """
    named = [f'hpo-evaluate {each.pid} ("{each.experiment}")' for each in others if each.gpus]
    return " and ".join(named) or "another program"
