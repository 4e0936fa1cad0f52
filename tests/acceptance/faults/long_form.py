"""The long form of the fault suite: every case on its own, and faults that last as long as they do in real life."""

from __future__ import annotations

import os

import pytest

LONG = bool(os.environ.get("HPO_STEER_LONG_TESTS"))
"""Whether it was asked for."""
long_form = pytest.mark.skipif(not LONG, reason="the long form: set HPO_STEER_LONG_TESTS=1")
"""Marks what only runs then."""
