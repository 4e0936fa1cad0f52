"""Several messages in one: what keeps a broker quick when evaluations take milliseconds.

A bundle is a message whose content type is `CONTENT_TYPE` and whose body holds one message a line. Its members are
settled one by one, and the bundle when all of them are; if one is given back, all go back. So only short work
travels in bundles, and repeating a member costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

CONTENT_TYPE = "application/x-ndjson"
MOST_BYTES = 262_144
"""A bundle takes no further member beyond this."""


def pack(bodies: Sequence[bytes]) -> bytes:
    """The body of a bundle."""
    return b"\n".join(bodies)


def unpack(body: bytes, content_type: str | None) -> list[bytes]:
    """The messages in a body: one, unless it is a bundle."""
    return body.split(b"\n") if content_type == CONTENT_TYPE else [body]
