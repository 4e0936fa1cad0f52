"""The section of a config that says where checkpoints travel through, how often and how large."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import field_validator

from hpo_steer.config.section import Count, Positive, Section
from hpo_steer.transport.settings import conceal


class Checkpoint(Section):
    """What becomes of the folder that a training saves its state in.

    Attributes:
        url: a place that all workers reach, under which checkpoints are kept: ``s3://bucket/prefix``,
            ``file:///folder``, or any other of fsspec's that can be written to; None: they stay in the worker's work
            folder.
        interval_s: how often a folder that has changed is saved to `url`.
        max_mib: a checkpoint that is larger stays where it is.
        keep: ``all``, or ``unfinished``: those of a point are deleted, at `url` too, once it has a value.
    """

    url: str | None = None
    interval_s: Positive = 300.0
    max_mib: Count = 1024
    keep: Literal["all", "unfinished"] = "all"

    @field_validator("url")
    @classmethod
    def _writable(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^?#]+", value) or "::" in value:
            raise ValueError(f"is a URL such as s3://bucket/prefix or file:///folder, got {conceal(value)!r}")
        if value.startswith(("http://", "https://")):
            raise ValueError(
                "cannot be http(s), which workers cannot write to; use s3://, file:// or the like"
            )
        return value


def checkpointed(value: Any) -> Any:
    """A section that may be given as its URL alone, or as yes or no."""
    if isinstance(value, bool):
        return {} if value else None
    return {"url": value} if isinstance(value, str) else value
