"""A connection that survives messages whose headers cannot be read.

Whoever may write to a queue may give a message headers that a broker passes on and pika's decoder stumbles over: a
time beyond the year 9999, a number that is not finite, tables nested a thousand deep. The exception would end the
connection, the broker would hand the message out again, and so on without end. Such a message comes with no
properties at all instead, and its body is judged like any other.
"""

from __future__ import annotations

import struct
from typing import Any

import pika
from pika import frame, spec

_HEADER = struct.Struct(">BHL")
_CONTENT = struct.Struct(">HHQ")


class Connection(pika.SelectConnection):  # type: ignore[misc]
    """A connection of pika's that reads past headers it cannot decode."""

    def _read_frame(self) -> tuple[int, Any]:
        try:
            read: tuple[int, Any] = super()._read_frame()
        except Exception:
            bare = _without_properties(self._frame_buffer)
            if bare is None:
                raise
            return bare
        return read


def _without_properties(data: bytes) -> tuple[int, Any] | None:
    """The content header at the start of `data`, with empty properties; None if another frame is there.

    Returns:
        The length of the frame, and the frame.
    """
    kind, channel, size = _HEADER.unpack_from(data)
    end = _HEADER.size + size + spec.FRAME_END_SIZE
    if kind != spec.FRAME_HEADER or data[end - 1] != spec.FRAME_END:
        return None
    class_id, _weight, body_size = _CONTENT.unpack_from(data, _HEADER.size)
    if class_id != spec.BasicProperties.INDEX:
        return None
    return end, frame.Header(channel, body_size, spec.BasicProperties())
