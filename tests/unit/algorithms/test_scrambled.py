"""Scrambled Sobol points are SciPy's, without the import of `scipy.stats`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.stats import qmc

from algorithms import scrambled
from algorithms.scrambled import MAX_DIMENSION, ScrambledSobol

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("dimension", [1, 2, 3, 19, 40, 1_112])
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_the_points_are_scipys_to_the_last_bit(dimension: int, seed: int) -> None:
    engine = qmc.Sobol(dimension, rng=seed)
    points = ScrambledSobol(dimension, seed)
    assert (points.rows(0, 256) == engine.random(256)).all()
    engine.fast_forward(1_000_000)
    assert (points.rows(1_000_256, 100) == engine.random(100)).all()


def test_every_coordinate_of_the_widest_sequence_is_scipys() -> None:
    assert qmc.Sobol.MAXDIM == MAX_DIMENSION
    assert (ScrambledSobol(MAX_DIMENSION, 1).rows(0, 64) == qmc.Sobol(MAX_DIMENSION, rng=1).random(64)).all()


def test_a_generator_is_used_as_scipy_uses_it() -> None:
    ours, scipys = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(3):
        assert (ScrambledSobol(4, ours).rows(0, 32) == qmc.Sobol(4, rng=scipys).random(32)).all()
        assert ours.random() == scipys.random()


def test_where_scipy_keeps_its_numbers_elsewhere_it_draws_the_points(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = ScrambledSobol(5, 3).rows(0, 512)
    monkeypatch.setattr(scrambled, "_TABLES", tmp_path / "moved.npz")
    points = ScrambledSobol(5, 3)
    assert (points.rows(256, 256) == expected[256:]).all()
    assert (points.rows(0, 256) == expected[:256]).all()


@pytest.mark.parametrize("algorithm", ["auto", "bayesian", "evolution", "mobo", "random", "sobol"])
def test_no_algorithm_of_ours_imports_scipys_statistics(algorithm: str) -> None:
    code = (
        "import importlib, sys; from algorithms.registry import BUILTIN; "
        f"importlib.import_module(BUILTIN[{algorithm!r}].path.partition(':')[0]); "
        "print('scipy.stats' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "False\n"
