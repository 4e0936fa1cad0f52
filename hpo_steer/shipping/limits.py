"""How much a code bundle may be, packed or not."""

from hpo_steer.limits import MAX_SHIPPED_MIB as MAX_MIB

__all__ = ["MAX_FILES", "MAX_MIB", "MIB", "mib"]

MIB = 1_048_576
MAX_FILES = 100_000
"""Files, folders and links in a bundle."""


def mib(size: int) -> str:
    """A number of bytes for people.

    >>> mib(300), mib(34_816), mib(12_582_912)
    ('300 bytes', '34 KiB', '12.0 MiB')
    """
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KiB" if size < MIB else f"{size / MIB:,.1f} MiB"
