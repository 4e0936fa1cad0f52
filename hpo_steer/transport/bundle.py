"""Several messages in one: what keeps a broker quick when evaluations take milliseconds.

A bundle is a message whose content type is `CONTENT_TYPE` and whose body holds one message a line. Its members are
settled one by one, and the bundle when all of them are; if one is given back, all go back. So only short work
travels in bundles, and repeating a member costs milliseconds.

A bundle has the limits of one message, and at most `MAX_BUNDLE` members. One beyond that is not taken apart: it is
a single malformed message, and one dead letter, not a million.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpo_steer.limits import MAX_BUNDLE, MAX_BYTES

CONTENT_TYPE = "application/x-ndjson"
MOST_BYTES = 262_144
"""A bundle takes no further member beyond this."""


def pack(bodies: Sequence[bytes]) -> bytes:
    """The body of a bundle."""
    return b"\n".join(bodies)


def is_bundle(content_type: str | bytes | None) -> bool:
    """Whether a content type is ours, in any case and with any parameters (such as a charset)."""
    if content_type == CONTENT_TYPE:
        return True
    return isinstance(content_type, str) and content_type.partition(";")[0].strip().lower() == CONTENT_TYPE


def unpack(body: bytes, content_type: str | bytes | None) -> list[bytes]:
    """The messages in a body: one, unless it is a bundle. Never none; empty lines are left out."""
    if not is_bundle(content_type) or len(body) > MAX_BYTES or body.count(b"\n") > 2 * MAX_BUNDLE:
        return [body]
    members = [line for line in body.split(b"\n") if line and not line.isspace()]
    return members if 0 < len(members) <= MAX_BUNDLE else [body]
