"""Paired comparisons and breakdowns, by hand and by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sa_lab.course.claims import breakdown
from sa_lab.evaluation.paired import differences
from sa_lab.evaluation.protocols import INFRARED_TO_VISIBLE, SYSU_ALL
from sa_lab.evaluation.reports import QUERY_VALUES, Report, RetrievalResult, summarise
from sa_lab.intervals import randomisation_test

PERSONS = np.array([1, 1, 2, 2, 3, 3])


def result(first_rank: list[int], ap: list[float]) -> RetrievalResult:
    valid = np.array(first_rank) > 0
    values = np.where(valid, ap, np.nan)
    return RetrievalResult(valid, np.array(first_rank), values, values)


def report(*results: RetrievalResult, **changes: str) -> Report:
    columns = {
        "path": np.array(list("abcdef")), "person_id": PERSONS, "camera_id": np.array([3, 6, 3, 6, 3, 6]),
    }  # fmt: skip
    named = {"dataset": "toy", "reranking": ""} | changes
    return summarise(INFRARED_TO_VISIBLE, results, columns, **named, draws=50)


FIRST = result([1, 2, 0, 7, 30, 1], [1.0, 0.5, 0.0, 0.2, 0.1, 1.0])
SECOND = result([1, 1, 0, 1, 30, 1], [1.0, 1.0, 0.0, 0.6, 0.1, 1.0])


def test_summary_by_hand() -> None:
    both = report(FIRST, SECOND)
    means = {name: measure.mean for name, measure in both.measures.items()}
    assert means["rank_1"] == pytest.approx((2 / 5 + 4 / 5) / 2)
    assert means["rank_10"] == pytest.approx(4 / 5)
    assert means["mean_ap"] == pytest.approx((2.8 + 3.7) / 10)
    assert both.measures["mean_ap"].std == pytest.approx((3.7 - 2.8) / 5 / 2**0.5)
    assert both.num_queries == 5
    mean, low, high = both.cmc(7)
    np.testing.assert_allclose(mean, [0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.8])
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert "no re-ranking; toy, 5 queries of 3 identities" in both.title


def test_breakdown_by_hand() -> None:
    parts = breakdown(report(FIRST), "camera_id")
    assert {key: measure.mean for key, measure in parts.items()} == pytest.approx({3: 1.1 / 2, 6: 1.7 / 3})
    assert {key: m.mean for key, m in breakdown(report(FIRST), "person_id", "rank_1").items()} == pytest.approx(
        {1: 0.5, 2: 0.0, 3: 0.5}
    )


def test_comparison_by_hand() -> None:
    changes = differences(report(FIRST), report(SECOND), draws=2000)
    assert set(changes) == set(QUERY_VALUES)
    assert changes["mean_ap"].mean == pytest.approx(0.9 / 5)
    assert changes["mean_ap"].low <= 0.9 / 5 <= changes["mean_ap"].high
    # sums of the identities: 0.5, 0.4, 0; of the 8 sign patterns the 4 with equal signs are as far from 0
    assert changes["mean_ap"].p_value == pytest.approx(0.5, abs=0.05)
    assert differences(report(FIRST), report(FIRST))["rank_1"].p_value == 1


def test_only_like_is_compared_with_like() -> None:
    ours = report(FIRST)
    for other in (report(FIRST, reranking="some"), report(FIRST, dataset="other")):
        with pytest.raises(ValueError, match="different rules"):
            differences(ours, other)
    protocol = {**ours.protocol, "description": SYSU_ALL.description}
    with pytest.raises(ValueError, match="different rules"):
        differences(ours, replace(ours, protocol=protocol))
    with pytest.raises(ValueError, match="other images in their galleries"):
        differences(ours, report(FIRST, gallery="another"))
    with pytest.raises(ValueError, match="differ in the path"):
        differences(ours, replace(ours, queries=ours.queries | {"path": np.array(list("abcdeg"))}))


def test_the_randomisation_test_keeps_its_level() -> None:
    """Without any difference, p <= 0.1 in about a tenth of the cases, also when images of a person are alike."""
    groups, rejected = np.repeat(np.arange(20), 5), 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        differences = rng.normal(size=20)[groups] + 0.1 * rng.normal(size=100)
        rejected += randomisation_test(differences, groups, rng, num_samples=200) <= 0.1
    assert 0.05 < rejected / 300 < 0.15


def test_the_randomisation_test_finds_a_difference() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    assert randomisation_test(rng.normal(0.5, 0.5, 120), groups, rng, num_samples=999) == pytest.approx(0.001)


def test_randomisation_needs_groups_and_numbers() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 groups, expected at least 2"):
        randomisation_test(np.ones(3), np.ones(3, int), rng)
    with pytest.raises(ValueError, match="not finite"):
        randomisation_test(np.array([1.0, np.nan]), np.arange(2), rng)


def test_the_order_of_the_queries_is_irrelevant() -> None:
    ours, order = report(SECOND), np.random.default_rng(0).permutation(6)
    shuffled = replace(ours, queries={name: column[order] for name, column in ours.queries.items()})
    assert differences(report(FIRST), shuffled) == differences(report(FIRST), ours)
