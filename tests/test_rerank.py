"""k-reciprocal re-ranking against a slow implementation with sets, straight from the paper's definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_lab.evaluation.rerank import KReciprocal, k_reciprocal


def slow(inner, num_queries: int, k1: int, k2: int, weight: float, expand: str):
    """Equations (3) to (12) with sets and dictionaries."""
    count = len(inner)
    distance = [[max(inner[i][i] + inner[j][j] - 2 * inner[i][j], 0.0) for j in range(count)] for i in range(count)]
    distance = [[d / (max(row) or 1) for d in row] for row in distance]
    near = [[i, *sorted((j for j in range(count) if j != i), key=lambda j: (distance[i][j], j))] for i in range(count)]

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in near[i][: k + 1] if i in near[j][: k + 1]}

    encodings = []
    for i in range(count):
        start = reciprocal(i, k1)
        members = set(start)
        for j in start:
            half = reciprocal(j, round(k1 / 2))
            common, needed = 3 * len(start & half), 2 * len(half)
            if common > needed or (expand == "at_least" and common == needed):
                members |= half
        weights = {j: math.exp(-distance[i][j]) for j in members}
        encodings.append({j: value / sum(weights.values()) for j, value in weights.items()})
    averaged = []
    for i in range(count):
        around = near[i][:k2]
        averaged.append({j: sum(encodings[n].get(j, 0) for n in around) / len(around) for j in range(count)})
    result = np.zeros((num_queries, count - num_queries))
    for q in range(num_queries):
        for g in range(num_queries, count):
            least = sum(min(averaged[q][j], averaged[g][j]) for j in range(count))
            most = sum(max(averaged[q][j], averaged[g][j]) for j in range(count))
            result[q, g - num_queries] = -((1 - weight) * (1 - least / most) + weight * distance[q][g])
    return result


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6), queries=st.integers(1, 6), gallery=st.integers(1, 14), k1=st.integers(2, 9),
    k2=st.integers(1, 4), weight=st.sampled_from([0.0, 0.3, 1.0]), expand=st.sampled_from(["above", "at_least"]),
)  # fmt: skip
def test_equals_the_definitions(
    seed: int, queries: int, gallery: int, k1: int, k2: int, weight: float, expand: str
) -> None:
    points = np.random.default_rng(seed).normal(size=(queries + gallery, 3))
    inner, parameters = points @ points.T, KReciprocal(k1, min(k1, k2), weight, expand)
    ours = k_reciprocal(inner, queries, parameters)
    np.testing.assert_allclose(ours, slow(inner, queries, k1, min(k1, k2), weight, expand), atol=1e-5)
    assert ours.min() >= -1 - 1e-6
    assert ours.max() <= 1e-6


def test_reciprocal_neighbours_come_first() -> None:
    """Two tight clusters and a stray image that is near the query, but has nearer neighbours of its own."""
    cluster, right = np.array([[0.0, 0], [0.1, 0], [0, 0.1], [0.1, 0.1]]), np.array([0.6, 0.0])
    points = np.concatenate([cluster, [[0.5, 0]], cluster + right])
    scores = k_reciprocal(points @ points.T, 1, KReciprocal(k1=3, k2=1, original_weight=0.0))
    assert set(np.argsort(-scores[0], kind="stable")[:3].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("changes", [{"k1": 1}, {"k2": 0}, {"k2": 30}, {"original_weight": 1.5}])
def test_parameters_out_of_range(changes: dict) -> None:
    with pytest.raises(ValueError, match="out of range"):
        KReciprocal(**changes)


@pytest.mark.usefixtures("unchecked")
def test_the_rule_is_named_and_is_that_of_published_programs_by_default() -> None:
    """Equation (5) and the programs differ where exactly two thirds are shared."""
    assert "expanded at > 2/3" in KReciprocal().description
    assert "expanded at >= 2/3" in KReciprocal(expand="at_least").description
    with pytest.raises(ValueError, match="expand is 'never', expected above or at_least"):
        KReciprocal(expand="never")  # type: ignore[arg-type]
    points = np.random.default_rng(0).normal(size=(40, 3))
    default, paper = (
        k_reciprocal(points @ points.T, 10, KReciprocal(k1=5, k2=2, expand=x)) for x in ("above", "at_least")
    )
    assert not np.allclose(default, paper)
    np.testing.assert_allclose(default, slow(points @ points.T, 10, 5, 2, 0.3, "above"), atol=1e-5)


def test_queries_alone_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match=r"num_queries is 3, expected 1\.\.2"):
        k_reciprocal(np.eye(3), 3, KReciprocal())
