"""Options of a program that may go without the value that others give them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from typer.core import TyperCommand

if TYPE_CHECKING:
    import typer


class BareOptions(TyperCommand):
    """A command some of whose options may go without a value: a mark takes its place.

    Attributes:
        bare: those options, with the mark of each; subclasses name them.
    """

    bare: ClassVar[dict[str, str]] = {}

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override] # typer has a click of its own
        """Puts the mark where no value follows."""
        spelt = []
        for i, word in enumerate(args):
            spelt.append(word)
            if word in self.bare and (i + 1 == len(args) or args[i + 1].startswith("-")):
                spelt.append(self.bare[word])
        return super().parse_args(ctx, spelt)
