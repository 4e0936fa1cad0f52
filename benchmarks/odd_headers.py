"""Headers of messages that brokers pass on and clients stumble over; written byte by byte, as pika writes none such."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pika

if TYPE_CHECKING:
    import random


class RawHeaders(pika.BasicProperties):  # type: ignore[misc]
    """Properties with a header table of given bytes.

    Args:
        table: the entries.
    """

    def __init__(self, table: bytes) -> None:
        super().__init__(headers={})
        self._table = table

    def encode(self) -> list[bytes]:
        return [struct.pack(">HI", pika.BasicProperties.FLAG_HEADERS, len(self._table)), self._table]


def _entry(key: bytes, kind: bytes, value: bytes) -> bytes:
    return struct.pack("B", len(key)) + key + kind + value


def _nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = _entry(b"n", b"F", struct.pack(">I", len(table)) + table)
    return table


ODD = {
    "a time beyond the year 9999": _entry(b"t", b"T", struct.pack(">Q", 10**18)),
    "an odd decimal": _entry(b"D", b"D", struct.pack(">Bi", 255, -1)),
    "tables in tables": _nested(400),
    "tables a thousand deep": _nested(3_000),
    "a key that is no text": _entry(b"\xff\xfe", b"t", b"\x01"),
    "a text that is none": _entry(b"s", b"S", struct.pack(">I", 3) + b"\xff\xfe\xfd"),
    "our own header": _entry(b"x-reason", b"S", struct.pack(">I", 5) + b"fine!"),
    "a long list": _entry(b"A", b"A", struct.pack(">I", 20_000) + b"t\x01" * 10_000),
    "a death": _entry(b"x-death", b"S", struct.pack(">I", 2) + b"no"),
}
"""Every table, by what is odd in it."""


def odd_headers(rng: random.Random) -> pika.BasicProperties:
    """Properties with one of them."""
    return RawHeaders(rng.choice(list(ODD.values())))
