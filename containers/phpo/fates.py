"""What became of each of phpo's options in a config of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from containers.phpo.options import OPTIONS, Given, remark_on

_NOT_HERE = {
    "official": "not needed: there are no official data sets here",
    "site": "not needed: points go to whichever workers are connected; start those where you want them",
    "workingGroup": "not needed: there are no grid groups here",
    "vomsRoles": "not needed: there is no grid proxy here",
    "noEmail": "not needed: no mail is sent",
    "noSubmit": "not needed: hpo-steer check FILE looks at a config without running it",
    "verbose": "not needed: logs are kept; hpo-steer logs shows them",
    "python3": "not needed: a container or command brings its own Python",
    "intrSrv": "not needed: there is no PanDA server here",
    "version": "not needed",
    "loadJson": "read: its options are among these",
    "dumpJson": "not needed: this config is the record",
    "maxPointsPerEvaluationJob": "not needed: there are no jobs; a worker takes points as long as there are some",
}
"""Options without a meaning here; those that start with "not needed" lose nothing."""


@dataclass(frozen=True)
class Fate:
    """What became of an option.

    Attributes:
        option: its name.
        value: what it was.
        text: what became of it.
        kept: whether its meaning is in the config.
    """

    option: str
    value: Any
    text: str
    kept: bool


@dataclass
class Ledger:
    """The options, and what became of those that were looked at."""

    given: Given
    _fates: dict[str, Fate] = field(default_factory=dict)

    def get(self, option: str) -> Any:
        """An option's value; None for an empty text."""
        value = self.given.values[option]
        return value if value != "" else None

    def say(self, option: str, text: str, *, kept: bool = True) -> None:
        """Notes what became of an option, or one thing more."""
        before = self._fates.get(option)
        if before is not None:
            text, kept = f"{before.text}; {text}", kept and before.kept
        self._fates[option] = Fate(option, self.given.values[option], text, kept)

    def say_key(self, option: str, key: str, value: Any, more: str = "") -> None:
        """Notes that an option's value stands in a key of the config."""
        default = "" if option in self.given.explicit else ", phpo's default"
        self.say(option, f"{key}: {value}{default}{more}")

    def fates(self) -> list[Fate]:
        """One for every option that has a value, in phpo's order, then those of what phpo does not know."""
        for name, text in _NOT_HERE.items():
            if name in self.given.explicit and name not in self._fates:
                self.say(name, text)
        rows = [self._fates[option.name] for option in OPTIONS if option.name in self._fates]
        rows += [
            Fate(name, value, f"ignored: {remark_on(name)}", False)
            for name, value in self.given.unknown.items()
        ]
        rows += [
            Fate(name, value, "not needed: how phpo's submission went", True)
            for name, value in self.given.results.items()
        ]
        return rows
