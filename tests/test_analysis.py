"""Overlap measures on clouds where the answer is known, and what they must not depend on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from sa_lab import analysis
from sa_lab.analysis import pairs as pairs_module
from sa_lab.evaluation.cameras import camera_pairs
from sa_lab.evaluation.protocols import PROTOCOLS
from sa_lab.schema import Embeddings

SQRT2 = 2**0.5


def clouds(seed: int = 0, *, shift: float = 0.0, people: int = 20, images: int = 4, dim: int = 8) -> tuple:
    """Persons as Gaussian islands; the infrared half of each is moved along the first axis."""
    rng = np.random.default_rng(seed)
    person_ids = np.repeat(np.arange(people), 2 * images)
    modality = np.tile(np.repeat([0, 1], images), people)
    points = 5 * rng.normal(size=(people, dim))[person_ids] + rng.normal(size=(len(person_ids), dim))
    points[modality == 1, 0] += shift
    return points, person_ids, modality


def moved(points: np.ndarray) -> np.ndarray:
    return 3.7 * points @ ortho_group.rvs(points.shape[1], random_state=1)


def test_modality_gap_by_hand() -> None:
    """Person 4: visible at x = -1, 1, infrared at 5, 7. Person 9: one image each, 3 apart. Person 2: one spectrum."""
    points = np.array([[-1.0, 0], [1, 0], [5, 0], [7, 0], [0, 10], [0, 13], [99, 99]])
    gap = analysis.modality_gap(points, np.array([4, 4, 4, 4, 9, 9, 2]), np.array([0, 0, 1, 1, 0, 1, 0]))
    spread = SQRT2  # four squares of 1 over two degrees of freedom
    assert gap.person_ids.tolist() == [4, 9]
    np.testing.assert_allclose(gap.gap, [6 / spread, 3 / spread])
    np.testing.assert_allclose(gap.floor, [1, SQRT2])
    strangers = (13 + np.hypot(6, 10)) / 2  # 4 visible to 9 infrared, and 9 visible to 4 infrared
    np.testing.assert_allclose(gap.stranger_ratio, [6 / strangers, 3 / strangers])


def test_modality_gap_without_a_gap_stands_at_its_floor() -> None:
    gap = analysis.modality_gap(*clouds(people=300))
    assert np.sqrt(np.square(gap.gap / gap.floor).mean()) == pytest.approx(1, abs=0.1)
    shifted = analysis.modality_gap(*clouds(people=300, shift=30.0))
    assert shifted.gap.mean() == pytest.approx(30 / 8**0.5, rel=0.05)  # unit variance in 8 dimensions
    assert (
        analysis.global_modality_gap(*clouds(shift=0.0)[::2])
        < 0.2
        < analysis.global_modality_gap(*clouds(shift=30.0)[::2])
    )


def test_identical_spectra_have_no_gap() -> None:
    points, person_ids, modality = clouds()
    points[modality == 1] = points[modality == 0]
    gap = analysis.modality_gap(points, person_ids, modality)
    np.testing.assert_allclose(gap.gap, 0, atol=1e-12)
    np.testing.assert_allclose(gap.stranger_ratio, 0, atol=1e-12)
    assert analysis.global_modality_gap(points, modality) == pytest.approx(0, abs=1e-12)


def test_global_gap_by_hand() -> None:
    points, modality = np.array([[0.0], [2], [10], [12]]), np.array([0, 0, 1, 1])
    assert analysis.global_modality_gap(points, modality) == pytest.approx(10 / SQRT2)


def test_modality_gap_invariances() -> None:
    points, person_ids, modality = clouds(shift=3.0)
    order = np.random.default_rng(5).permutation(len(points))
    here = analysis.modality_gap(points, person_ids, modality)
    for there in (
        analysis.modality_gap(moved(points) + 7, 3 * person_ids - 10, modality),
        analysis.modality_gap(points[order], person_ids[order], modality[order]),
        analysis.modality_gap(points, person_ids, 1 - modality),
    ):
        np.testing.assert_allclose(there.gap, here.gap)
        np.testing.assert_allclose(there.stranger_ratio, here.stranger_ratio)
    half = analysis.modality_gap(points.astype(np.float16), person_ids, modality)
    np.testing.assert_allclose(half.gap, here.gap, rtol=1e-2)


def test_modality_gap_faults() -> None:
    points, person_ids, modality = clouds(people=2)
    with pytest.raises(ValueError, match="no identity has images of both spectra"):
        analysis.modality_gap(points, person_ids, np.zeros_like(modality))
    with pytest.raises(ValueError, match="no spread"):
        analysis.modality_gap(np.eye(2), np.array([1, 1]), np.array([0, 1]))
    tight = analysis.modality_gap(np.eye(4)[[0, 0, 1, 1, 2, 2, 2, 2]], np.repeat([1, 2], 4), np.array([0, 0, 1, 1] * 2))
    assert tight.gap[0] == np.inf
    assert np.isnan(tight.gap[1]), "everything at one point"
    np.testing.assert_allclose(tight.stranger_ratio, [1, 0])
    with pytest.raises(ValueError, match="NaN or infinity"):
        analysis.modality_gap(points * np.inf, person_ids, modality)
    alone = analysis.modality_gap(np.array([[0.0], [1], [4]]), np.array([1, 1, 1]), np.array([0, 0, 1]))
    assert np.isnan(alone.stranger_ratio).all()


def test_prototype_alignment_by_hand() -> None:
    visible = np.array([[[1.0, 0], [0, 2], [1, 1]], [[3, 0], [1, 0], [0, 1]]])
    infrared = np.array([[[5.0, 0], [0, -1], [1, 0]], [[0, 4], [1, 1], [0, 7]]])
    aligned = analysis.prototype_alignment(np.concatenate([visible, infrared], axis=1))
    np.testing.assert_allclose(aligned, [[1, -1, 1 / SQRT2], [0, 1 / SQRT2, 1]], atol=1e-12)
    swapped = analysis.prototype_alignment(np.concatenate([infrared, visible], axis=1))
    np.testing.assert_allclose(swapped, aligned, atol=1e-12)


def test_prototype_faults() -> None:
    with pytest.raises(ValueError, match="even number of rows"):
        analysis.prototype_alignment(np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match="2 rows are all zero"):
        analysis.prototype_alignment(np.zeros((1, 2, 2)))


def test_whole_prototypes_average_the_parts_cosines() -> None:
    prototypes = np.random.default_rng(0).normal(size=(3, 10, 6)).astype(np.float32)
    whole = analysis.whole_prototypes(prototypes)
    assert whole.shape == (10, 18)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, rtol=1e-6)
    cosines = (whole[:5] * whole[5:]).sum(axis=1)
    np.testing.assert_allclose(cosines, analysis.prototype_alignment(prototypes).mean(axis=0), atol=1e-6)


def test_pair_similarities_by_hand() -> None:
    points = np.array([[1.0, 0], [2, 0], [0, 1], [-1, 0]])
    kinds = analysis.pair_similarities(
        points, np.array([1, 1, 1, 2]), np.array([0, 0, 1, 0]), np.random.default_rng(0)
    )  # fmt: skip
    assert kinds.same_identity_same_spectrum.tolist() == [1]
    assert sorted(kinds.same_identity_other_spectrum) == [0, 0]
    assert sorted(kinds.other_identity_same_spectrum) == [-1, -1]
    assert kinds.other_identity_other_spectrum.tolist() == [0]


@pytest.mark.parametrize("enumerated", [0, 10**9])
def test_pair_similarities_are_capped_seeded_and_of_their_kind(monkeypatch, enumerated: int) -> None:
    monkeypatch.setattr(pairs_module, "_PAIRS_ENUMERATED", enumerated)
    person_ids, modality = np.repeat(np.arange(20), 8), np.tile([0, 1], 80)
    points = np.eye(40)[2 * person_ids + modality] + 1e-3  # cosine tells the kind: 1 own island, 0 elsewhere
    first, again = (
        analysis.pair_similarities(points, person_ids, modality, np.random.default_rng(3), max_pairs=100)
        for _ in range(2)
    )
    for name, expected in (("same_identity_same", 1), ("same_identity_other", 0), ("other_identity_same", 0)):
        values = getattr(first, f"{name}_spectrum")
        assert len(values) == 100
        np.testing.assert_allclose(values, expected, atol=0.01)
        np.testing.assert_array_equal(values, getattr(again, f"{name}_spectrum"))
    assert len(first.other_identity_other_spectrum) == 100


def test_pair_similarities_with_one_image_identities() -> None:
    kinds = analysis.pair_similarities(
        np.eye(3), np.array([1, 2, 3]), np.array([0, 1, 0]), np.random.default_rng(0)
    )  # fmt: skip
    assert len(kinds.same_identity_same_spectrum) == len(kinds.same_identity_other_spectrum) == 0
    assert len(kinds.other_identity_same_spectrum) == 1
    assert len(kinds.other_identity_other_spectrum) == 2
    with pytest.raises(ValueError, match="max_pairs is 0"):
        analysis.pair_similarities(
            np.eye(2), np.array([1, 2]), np.array([0, 1]), np.random.default_rng(0), max_pairs=0
        )  # fmt: skip


def test_overlap_coefficient_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(size=100_000)
    assert analysis.overlap_coefficient(values, values) == pytest.approx(1)
    assert analysis.overlap_coefficient(values, values + 2) == 0
    assert analysis.overlap_coefficient(values, values + 0.5, num_bins=30) == pytest.approx(0.5, abs=0.01)
    assert analysis.overlap_coefficient(np.ones(3), np.ones(5)) == 1
    with pytest.raises(ValueError, match="0, 5 values"):
        analysis.overlap_coefficient(np.ones(0), np.ones(5))


numbers = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=30).map(np.array)


@settings(deadline=None)
@given(numbers, numbers)
def test_overlap_coefficient_is_symmetric_bounded_and_scale_free(first: np.ndarray, second: np.ndarray) -> None:
    overlap = analysis.overlap_coefficient(first, second)
    assert 0 <= overlap <= 1 + 1e-12
    assert overlap == pytest.approx(analysis.overlap_coefficient(second, first))
    assert overlap == pytest.approx(analysis.overlap_coefficient(4 * first, 4 * second))


def test_probe_knows_known_answers() -> None:
    apart = analysis.modality_probe(*clouds(shift=40.0), np.random.default_rng(0))
    assert apart.accuracy == 1
    assert apart.correct.all()
    same = [analysis.modality_probe(*clouds(seed, people=40), np.random.default_rng(0)).accuracy for seed in range(8)]
    assert np.mean(same) == pytest.approx(0.5, abs=0.04)


def test_probe_sees_no_identity_twice() -> None:
    """Each person's spectra lie at two places of his own: easy to learn by heart, impossible to transfer."""
    person_ids, modality = np.repeat(np.arange(30), 8), np.tile([0, 1], 120)
    points = np.eye(60)[2 * person_ids + modality]
    assert analysis.modality_probe(points, person_ids, modality, np.random.default_rng(0)).accuracy < 0.6


def test_probe_is_balanced_seeded_and_invariant() -> None:
    points, person_ids, modality = clouds(shift=1.5, people=30)
    few = (modality == 0) | (np.arange(len(points)) % 4 == 0)  # four visible images to one infrared one
    arguments = points[few], person_ids[few], modality[few]
    here = analysis.modality_probe(*arguments, np.random.default_rng(1))
    again = analysis.modality_probe(moved(points[few]) + 100, *arguments[1:], np.random.default_rng(1))
    np.testing.assert_array_equal(here.correct, again.correct)
    shares = [here.correct[arguments[2] == m].mean() for m in (0, 1)]
    assert here.accuracy == pytest.approx(np.mean(shares))
    assert min(shares) > 0.5


def test_probe_faults() -> None:
    points, person_ids, modality = clouds(people=3)
    with pytest.raises(ValueError, match=r"num_folds is 5, expected 2\.\.3"):
        analysis.modality_probe(points, person_ids, modality, np.random.default_rng(0))
    with pytest.raises(ValueError, match="only one spectrum is left"):
        analysis.modality_probe(points, person_ids, 0 * modality, np.random.default_rng(0), num_folds=3)


def test_bootstrap_by_hand() -> None:
    """Two groups, means 0 (three values) and 1 (one): draws give 0, 1/4 or 1."""
    values, groups = np.array([0.0, 0, 0, 1]), np.array(["a", "a", "a", "b"])
    interval = analysis.bootstrap_interval(values, groups, np.random.default_rng(0))
    assert (interval.mean, interval.low, interval.high) == (0.25, 0, 1)
    constant = analysis.bootstrap_interval(np.ones(4, dtype=bool), groups, np.random.default_rng(0))
    assert (constant.mean, constant.low, constant.high) == (1, 1, 1)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        groups = np.repeat(np.arange(40), 5)
        values = rng.normal(size=40)[groups] + 0.3 * rng.normal(size=200)
        interval = analysis.bootstrap_interval(values, groups, rng, num_samples=500)
        hits += interval.low <= 0 <= interval.high
    assert 0.90 < hits / 300 < 0.985
    singly = analysis.bootstrap_interval(values, np.arange(200), rng)
    assert singly.high - singly.low < 0.7 * (interval.high - interval.low)  # images drawn one by one: too narrow


def test_bootstrap_is_seeded_and_monotone_in_confidence() -> None:
    values, groups = np.random.default_rng(0).normal(size=60), np.repeat(np.arange(20), 3)
    runs = [analysis.bootstrap_interval(values, groups, np.random.default_rng(7)) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0].low < runs[0].mean < runs[0].high
    wider = analysis.bootstrap_interval(values, groups, np.random.default_rng(7), confidence=0.99)
    assert wider.low <= runs[0].low
    assert wider.high >= runs[0].high


def test_bootstrap_faults() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="groups holds 1 groups"):
        analysis.bootstrap_interval(np.ones(3), np.zeros(3), rng)
    with pytest.raises(ValueError, match="1 entries that are NaN"):
        analysis.bootstrap_interval(np.array([1, np.nan]), np.arange(2), rng)
    with pytest.raises(ValueError, match="confidence is 95"):
        analysis.bootstrap_interval(np.ones(3), np.arange(3), rng, confidence=95.0)


@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
def test_projection_keeps_islands_and_repeats(method: str) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    points, person_ids, modality = clouds(people=6, images=5, dim=10)
    prototypes = np.stack([points[(person_ids == p) & (modality == m)].mean(axis=0) for m in (0, 1) for p in range(6)])
    first, again = (
        analysis.project(points, np.random.default_rng(2), prototypes=prototypes, method=method) for _ in range(2)
    )
    assert first.samples.shape == (60, 2)
    assert first.prototypes.shape == (12, 2)
    assert first.method == method
    np.testing.assert_array_equal(first.samples, again.samples)
    np.testing.assert_array_equal(first.prototypes, again.prototypes)
    assert first.caution == analysis.CAUTION[method]
    assert (0.75 if method == "umap" else 0.85) < first.trustworthiness <= 1  # UMAP's differs between processors
    if method == "umap":  # a prototype lands on its person's island
        nearest = np.linalg.norm(first.prototypes[:, None] - first.samples, axis=2).argmin(axis=1)
        assert (person_ids[nearest] == np.tile(np.arange(6), 2)).mean() > 0.9


def test_umap_of_very_few_points() -> None:
    pytest.importorskip("umap")
    points = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float16)
    drawn = analysis.project(points, np.random.default_rng(0), num_dimensions=3)
    assert drawn.samples.shape == (8, 3)
    assert drawn.prototypes.shape == (0, 3)
    assert np.isfinite(drawn.samples).all()
    place = sys.modules["umap.layouts"]._nb_optimize_layout_euclidean_single_epoch.stats.cache_path
    assert list(Path(place).glob("layouts.*.nbc")), "the next process compiles it once more"


def test_pca_of_a_plane_is_exact_and_ignores_scale() -> None:
    angle = np.linspace(0.3, 1.7, 40) ** 2
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * np.linspace(1, 9, 40)[:, None]
    drawn = analysis.project(points, np.random.default_rng(0), method="pca")
    assert drawn.trustworthiness == pytest.approx(1)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.linalg.norm(drawn.samples[:, None] - drawn.samples, axis=2),
        np.linalg.norm(unit[:, None] - unit, axis=2), atol=1e-9,
    )  # fmt: skip


def test_projection_faults() -> None:
    rng, points = np.random.default_rng(0), np.random.default_rng(1).normal(size=(10, 4))
    with pytest.raises(ValueError, match="num_dimensions is 2 for"):
        analysis.project(points[:4], rng, method="pca")
    with pytest.raises(ValueError, match="num_dimensions is 5"):
        analysis.project(points, rng, method="pca", num_dimensions=5)
    with pytest.raises(ValueError, match="num_dimensions is 4, expected 2 or 3 for t-SNE"):
        analysis.project(points, rng, method="tsne", num_dimensions=4)
    with pytest.raises(ValueError, match="method is 'tsne', expected 'umap' or 'pca'"):
        analysis.project_along([points, points], rng, method="tsne")
    with pytest.raises(ValueError, match="samples: 10 rows are all zero"):
        analysis.project(0 * points, rng, method="pca")
    with pytest.raises(ValueError, match="prototypes holds NaN"):
        analysis.project(points, rng, prototypes=points * np.nan, method="pca")


def test_neither_torch_nor_umap_is_needed_to_import() -> None:
    code = "import sys, sa_lab.analysis; sys.exit(not {'torch', 'umap'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_camera_pairs_by_hand() -> None:
    """Cameras 1 and 2 visible, 3 and 6 infrared, two people with an image in each; camera 2 is hidden from camera 3."""
    cameras = np.array([1, 2, 3, 6] * 2)
    data = Embeddings(
        None, np.ones((8, 1, 1)), np.repeat([7, 9], 4), cameras, np.isin(cameras, (3, 6)).astype(int),
        tuple(f"cam{c}/{i}" for i, c in enumerate(cameras)),
    )  # fmt: skip
    pairs = camera_pairs(PROTOCOLS["sysu-all"], data)
    assert (pairs.query_cameras.tolist(), pairs.gallery_cameras.tolist()) == ([3, 6], [1, 2])
    assert pairs.queries.tolist() == pairs.gallery.tolist() == [2, 2]
    assert pairs.hidden.tolist() == [[0, 1], [0, 0]]
    same = replace(data, camera_ids=np.array([1, 2, 1, 2] * 2))
    pairs = camera_pairs(PROTOCOLS["llcm-infrared-to-visible"], same)
    assert pairs.hidden.tolist() == [[0.5, 0], [0, 0.5]]  # one's own identity is half of the gallery
    assert pairs.matches_hidden.tolist() == [[1, 0], [0, 1]]
