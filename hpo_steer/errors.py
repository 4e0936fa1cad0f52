"""Every error hpo-steer raises, in one tree.

Standard library only and Python 3.9 syntax: this file is also imported inside user trainings.

    HpoSteerError
    ├── UserError                the user can mend it: one sentence, exit code 2, nothing started
    │   ├── ConfigError          a key of a config; names the key, and the file and line once known
    │   ├── UnknownAlgorithm     no algorithm of that name; the nearest one is offered
    │   ├── MissingExtra         an optional package is not installed; says the pip line
    │   ├── ShadowedPackage      a folder of the user's hides one of our packages
    │   ├── RunConflict          the run folder was made by another config
    │   ├── RunLocked            another steering process owns the experiment
    │   ├── NoSuchRun            nothing of that name was ever started
    │   ├── RunUnwritable        the run folder or the store cannot be written
    │   └── BrokerError          no broker there, a wrong password, or a queue that was made otherwise
    ├── OutsideSpace             parameters that are no point of the search space; the point is refused
    ├── StoreError               the store failed; the experiment stops, and resumes when started again
    │   ├── StoreVersion         the store was written by a newer hpo-steer; nothing is touched
    │   ├── StoreDamaged         the database is damaged, or none of ours; nothing is touched
    │   └── LockLost             another steering took over; this one stops without writing
    ├── TransportError           messages cannot travel; retried with back-off
    │   └── MalformedMessage     one message is no message of ours; it goes to the dead letters
    ├── BundleError              a code bundle cannot be had or used; a worker takes no points until it can
    ├── CheckpointError          a checkpoint cannot be saved or fetched; said once, the training goes on
    ├── AlgorithmError           an ask or tell failed; the experiment stops, and resumes when started again
    ├── InvalidPoint             raised by a training: this point cannot be evaluated (failure kind `invalid`)
    └── Stopped                  raised inside a training: steering has ended it (failure kind `pruned`)
        └── Preempted            its worker has to leave: save and return; another one carries on (`released`)
"""

from __future__ import annotations

import difflib
from typing import Iterable, Optional


class HpoSteerError(Exception):
    """Base of every error of ours."""


class UserError(HpoSteerError):
    """Something the user can mend: one clear sentence, exit code 2."""


class ConfigError(UserError):
    """A wrong key or value in a config.

    Args:
        key: dotted path of the key, such as ``search_space.eta``; empty for the whole file.
        message: what is wrong with it and what to do.
        where: ``file`` or ``file:line``, once known.
    """

    def __init__(self, key: str, message: str, where: Optional[str] = None) -> None:
        self.key, self.message, self.where = key, message, where
        super().__init__(": ".join(part for part in (where, key, message) if part))

    def at(self, where: str) -> ConfigError:
        """The same error with its place in a file."""
        return ConfigError(self.key, self.message, where)


class UnknownAlgorithm(UserError):
    """No algorithm of that name is installed."""


class MissingExtra(UserError):
    """An optional package is missing.

    Args:
        what: what needs it, such as ``algorithm "bayesian"``.
        extra: the extra of hpo-steer that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs an extra: pip install "hpo-steer[{extra}]"')


class ShadowedPackage(UserError):
    """A module of the user's has the name of one of our packages."""


class RunConflict(UserError):
    """The run folder was made by another config."""


class RunLocked(UserError):
    """Another steering process runs this experiment."""


class NoSuchRun(UserError):
    """There is no run of that name."""


class RunUnwritable(UserError):
    """The run folder or the store cannot be written."""


class BrokerError(UserError):
    """The broker cannot be used: unreachable, refused the password, or has other queues of that name."""


class OutsideSpace(HpoSteerError):
    """Parameters that are no point of the search space."""


class StoreError(HpoSteerError):
    """The store failed; what was committed is safe, and the experiment resumes when started again.

    Attributes:
        transient: trying the same again soon may succeed (a lost connection, a busy database).
    """

    transient = False

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class StoreVersion(StoreError, UserError):
    """The store was written by a newer hpo-steer, or is no store at all."""


class StoreDamaged(StoreError, UserError):
    """The database is damaged, or none of ours; nothing in it was changed."""


class LockLost(StoreError):
    """Another steering took this experiment over."""


class TransportError(HpoSteerError):
    """Messages cannot travel right now."""


class MalformedMessage(TransportError):
    """A message that is none of ours; it goes to the dead letters with this text as the reason."""


class BundleError(HpoSteerError):
    """A code bundle cannot be had, is damaged, or cannot be used here; workers try again after a while."""


class CheckpointError(HpoSteerError):
    """A checkpoint cannot be saved or fetched; the training goes on without."""


class AlgorithmError(HpoSteerError):
    """A search method failed; the experiment stops and can be resumed."""


class InvalidPoint(HpoSteerError):
    """Raised by a training: this point cannot be evaluated at all (it is not retried)."""


class Stopped(HpoSteerError):
    """Raised inside a training by ``report`` once steering has ended it."""


class Preempted(Stopped):
    """Raised inside a training by ``report`` once its worker has to leave: save, and let it pass or return.

    The next attempt, on whichever worker, finds what was saved.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """The text that offers the nearest valid name, or lists them all.

    >>> nearest("bayesain", ["bayesian", "random"])
    'did you mean "bayesian"?'
    >>> nearest("q", ["bayesian", "random"])
    'it can be: bayesian, random'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return "it can be: " + ", ".join(names) if names else "it can have no keys"
