"""Code bundles: a folder of the user's as one archive, named by its SHA-256, and the ways it takes to workers.

`pack` makes one, `unpack` takes one apart without trusting it, `BundleCache` keeps them, `urls` puts them to places
that workers can reach, and a `Manifest` in each says what is to be run in it.
"""

from hpo_steer.shipping.cache import BundleCache, Prepared
from hpo_steer.shipping.manifest import Manifest
from hpo_steer.shipping.pack import Packed, pack

__all__ = ["BundleCache", "Manifest", "Packed", "Prepared", "pack", "short"]


def short(bundle: str) -> str:
    """A bundle's name for people.

    >>> short("3f2a1b9c" + "0" * 56)
    '3f2a1b9c'
    """
    return bundle[:8]
