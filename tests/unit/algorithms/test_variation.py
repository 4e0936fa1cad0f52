"""Crossover and mutation, kind by kind."""

from __future__ import annotations

import numpy as np

from algorithms.variation import Variation
from hpo_steer.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "x": {"type": "float", "low": 0, "high": 1},
        "few": {"type": "int", "low": 1, "high": 3},
        "step": {"type": "float", "low": 0, "high": 1, "step": 0.25},
        "log": {"type": "int", "low": 1, "high": 50, "log": True},
        "kind": {"type": "categorical", "choices": list("pqrst")},
        "part": {"type": "float", "low": 0, "high": 1, "when": {"kind": "p"}},
        "only": {"type": "categorical", "choices": ["one"]},
    }
)
A = {"x": 0.2, "few": 1, "step": 0.0, "log": 1, "kind": "p", "part": 0.9, "only": "one"}
B = {"x": 0.6, "few": 3, "step": 1.0, "log": 50, "kind": "t", "only": "one"}


def test_a_parameter_that_is_switched_off_has_no_place() -> None:
    genomes = Variation(SPACE).genomes([A, B])
    assert np.isnan(genomes).tolist() == [[False] * 7, [False] * 5 + [True, False]]


def test_a_child_has_the_choice_of_a_parent_and_the_part_of_the_one_that_has_it() -> None:
    variation = Variation(SPACE)
    mothers, fathers = variation.genomes([A] * 4000), variation.genomes([B] * 4000)
    children = [SPACE.decode(row) for row in variation.children(mothers, fathers, np.random.default_rng(1))]
    kinds = [child["kind"] for child in children]
    assert 0.8 < (kinds.count("p") + kinds.count("t")) / 8000 < 0.99
    assert 0.35 < kinds.count("p") / 8000 < 0.65
    unmoved = [child["part"] == 0.9 for child in children if "part" in child]
    assert 0.7 < np.mean(unmoved) < 1.0


def test_children_of_parents_without_a_part_get_parts_of_all_sizes() -> None:
    variation = Variation(SPACE)
    parents = variation.genomes([B] * 4000)
    children = [SPACE.decode(row) for row in variation.children(parents, parents, np.random.default_rng(1))]
    parts = [child["part"] for child in children if "part" in child]
    assert len(parts) > 50
    assert np.quantile(parts, 0.25) < 0.4
    assert np.quantile(parts, 0.75) > 0.6


def test_a_mutation_changes_the_value_of_a_parameter_with_steps() -> None:
    variation = Variation(SPACE)
    for point in (A, B, {**A, "few": 2, "step": 0.5, "log": 7}):
        places = np.nan_to_num(variation.genomes([point] * 2000), nan=0.5)
        mutants = variation.mutants(places, np.random.default_rng(2))
        assert ((mutants >= 0.0) & (mutants <= 1.0)).all()
        for j, p in enumerate(SPACE):
            moved = mutants[:, j] != places[:, j]
            if p.count == 1:
                continue
            assert 0.08 < moved.mean() < 0.3, p.name
            values = {p.decode(u) for u in mutants[moved, j].tolist()}
            assert p.decode(float(places[0, j])) not in values, p.name
