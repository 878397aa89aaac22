"""The other overlap measures, and all of them together: by hand, on clouds of known value, and what changes nothing."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from test_analysis import clouds, moved

from sa_lab import analysis
from sa_lab.analysis import overlap as overlap_module
from sa_lab.analysis import pairs as pairs_module
from sa_lab.analysis.discrepancy import _drawn_identities, weighted_mmd
from sa_lab.analysis.gap import weighted_global_gap

AROUND = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])  # four directions, a right angle each
seeds = st.integers(0, 10_000)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Fewer dimensions


@pytest.mark.parametrize(("dtype", "atol"), [(np.float16, 1e-4), (np.float32, 1e-4), (np.float64, 1e-10)])
def test_reduce_of_few_rows_keeps_every_dot_product(dtype: type, atol: float) -> None:
    points = rng().normal(size=(12, 50)).astype(dtype)
    reduced = analysis.reduce(points, rng())
    assert reduced.points.shape == (12, 12)
    assert reduced.kept_share == 1.0
    assert reduced.points.dtype == np.result_type(dtype, np.float32)
    exact = points.astype(np.float64)
    np.testing.assert_allclose(reduced.points @ reduced.points.T, exact @ exact.T, atol=atol)


def test_reduce_leaves_narrow_points_alone() -> None:
    points = rng().normal(size=(40, 6))
    for limit in (2000, 10):
        np.testing.assert_array_equal(analysis.reduce(points, rng(), exact_up_to=limit).points, points)


def test_reduce_of_many_rows_keeps_what_the_directions_hold() -> None:
    """Rank 3 is kept whole by 3 directions; of lengths 3, 2, 1 along the axes, two keep 13 / 14 of the squares."""
    low = (rng().normal(size=(80, 3)) + 5) @ rng(1).normal(size=(3, 30))
    reduced = analysis.reduce(low, rng(), num_components=3, exact_up_to=10)
    assert reduced.points.shape == (80, 3)
    assert reduced.kept_share == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(reduced.points @ reduced.points.T, low @ low.T, atol=1e-9)
    axes = np.tile(np.diag([3.0, 2, 1]), (20, 1))
    two = analysis.reduce(axes, rng(), num_components=2, exact_up_to=10)
    assert two.kept_share == pytest.approx(13 / 14)
    np.testing.assert_array_equal(two.points, analysis.reduce(axes, rng(), num_components=2, exact_up_to=10).points)
    assert analysis.reduce(0 * axes, rng(), num_components=2, exact_up_to=10).kept_share == 1.0


def test_reduce_keeps_nearly_as_much_as_can_be_kept() -> None:
    points = rng().normal(size=(300, 200))
    squares = np.square(np.linalg.svd(points, compute_uv=False))
    best = squares[:20].sum() / squares.sum()
    kept = analysis.reduce(points, rng(), num_components=20, exact_up_to=10).kept_share
    assert 0.97 * best < kept <= best


def test_reduce_faults() -> None:
    with pytest.raises(ValueError, match="num_components is 0"):
        analysis.reduce(np.eye(3), rng(), num_components=0)
    with pytest.raises(ValueError, match="points holds NaN"):
        analysis.reduce(np.eye(3) * np.nan, rng())


# Prototypes


def test_prototype_similarities_by_hand() -> None:
    """Person 7 has prototypes at 0 and 90 degrees, person 3 at 180 and 270; images at 0 and at 45 degrees."""
    prototypes = AROUND[[0, 2, 1, 3]]
    points = np.array([[2.0, 0], [1, 1], [-1, 1]])
    found = analysis.prototype_similarities(
        points, np.array([7, 7, 3]), np.array([0, 1, 1]), prototypes, np.array([7, 3])
    )
    half = 0.5**0.5
    np.testing.assert_allclose(found.own, [1, half, -half], atol=1e-12)
    np.testing.assert_allclose(found.cross, [0, half, half], atol=1e-12)
    np.testing.assert_allclose(found.other, [0, -half, half], atol=1e-12)
    np.testing.assert_allclose(found.own_margin, [1, 2 * half, -2 * half], atol=1e-12)
    np.testing.assert_allclose(found.cross_margin, [0, 2 * half, 0], atol=1e-12)


def test_prototype_similarities_know_swapped_spectra_and_other_orders() -> None:
    points, person_ids, modality = clouds(people=6)
    prototypes, ids, order = rng(4).normal(size=(12, 8)), np.arange(6), rng(5).permutation(6)
    here = analysis.prototype_similarities(points, person_ids, modality, prototypes, ids)
    swapped = analysis.prototype_similarities(points, person_ids, modality, np.roll(prototypes, 6, axis=0), ids)
    np.testing.assert_allclose(swapped.own, here.cross)
    np.testing.assert_allclose(swapped.other, here.other)
    mixed = analysis.prototype_similarities(
        points, person_ids, modality, prototypes[np.concatenate([order, order + 6])], ids[order]
    )
    np.testing.assert_allclose([mixed.own, mixed.cross, mixed.other], [here.own, here.cross, here.other])
    one = analysis.prototype_similarities(points[:8], person_ids[:8], modality[:8], prototypes[[0, 6]], ids[:1])
    assert np.isnan(one.other).all()


def test_prototype_similarities_faults(unchecked) -> None:
    columns = np.eye(4), np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"person_ids holds \[2\]"):
        analysis.prototype_similarities(*columns, np.eye(4), np.array([1, 3]))
    with pytest.raises(ValueError, match="2 entries, 1 of them different, expected 2"):
        analysis.prototype_similarities(*columns, np.eye(4), np.array([1, 1]))
    with pytest.raises(ValueError, match="1 entries, 1 of them different, expected 2"):
        analysis.prototype_similarities(*columns, np.eye(4), np.array([1]))
    with pytest.raises(ValueError, match="even number of rows"):
        analysis.prototype_similarities(*columns, np.eye(4)[:3], np.array([1, 2]))
    with pytest.raises(ValueError, match="prototypes has 3 columns, expected 4"):
        analysis.prototype_similarities(*columns, np.ones((4, 3)), np.array([1, 2]))


def test_prototype_cosines() -> None:
    prototypes = rng().normal(size=(3, 10, 6))
    cosines = analysis.prototype_cosines(prototypes)
    np.testing.assert_allclose(cosines.diagonal(), 1)
    aligned = analysis.prototype_alignment(prototypes).mean(axis=0)
    np.testing.assert_allclose(np.diag(cosines, 5), aligned)
    whole = analysis.whole_prototypes(prototypes)
    assert cosines[1, 8] == pytest.approx(whole[1] @ whole[8])  # visible 1 with infrared 3
    with pytest.raises(ValueError, match="even number"):
        analysis.prototype_cosines(np.ones((1, 3, 2)))


# Pairs


def test_pairs_know_their_people() -> None:
    points, person_ids, modality = clouds(people=5)
    pairs = analysis.pair_similarities(points, 10 * person_ids, modality, rng(), max_pairs=50)
    assert tuple(pairs.people) == pairs_module.KINDS
    for kind, people in pairs.people.items():
        assert people.shape == (len(getattr(pairs, kind)), 2)
        assert set(people.ravel()) <= set(10 * person_ids)
        assert ((people[:, 0] == people[:, 1]) == kind.startswith("same_identity")).all()


def test_separation_by_hand() -> None:
    """Of the four pairs two are won, one is tied, one is lost; means 2 and 1, variances 1 and 1."""
    found = analysis.separation(np.array([1.0, 3]), np.array([0.0, 2]))
    assert found.auc == 0.75
    assert found.d_prime == 1
    tied = analysis.separation(np.array([1.0, 3]), np.array([1.0, 2]))
    assert tied.auc == (0.5 + 0 + 1 + 1) / 4
    weighted = analysis.separation(
        np.array([1.0, 3]), np.array([0.0, 2]), weights=(np.array([1.0, 3]), np.array([1.0, 1]))
    )
    assert weighted.auc == pytest.approx((3 * 2 + 1) / 8)
    assert weighted.d_prime == pytest.approx(1.5 / ((0.75 + 1) / 2) ** 0.5)


def test_separation_of_known_clouds() -> None:
    values = rng().normal(size=200_000)
    found = analysis.separation(values + 1, rng(1).normal(size=200_000))
    assert found.d_prime == pytest.approx(1, abs=0.02)
    assert found.auc == pytest.approx(0.7602, abs=0.005)  # Phi(1 / sqrt 2)
    assert found.overlap == pytest.approx(0.6171, abs=0.01)  # 2 Phi(-1 / 2)
    alike = analysis.separation(values, values)
    assert (alike.overlap, alike.auc, alike.d_prime) == (pytest.approx(1), pytest.approx(0.5), 0)


def test_separation_without_spread_or_values() -> None:
    tenth, fifth = np.full(3, 0.1), np.full(7, 0.2)
    assert analysis.separation(fifth, tenth) == analysis.Separation(0.0, 1.0, np.inf)
    assert analysis.separation(tenth, fifth) == analysis.Separation(0.0, 0.0, -np.inf)
    assert np.isnan(analysis.separation(tenth, tenth).d_prime)
    with pytest.raises(analysis.NotMeasurable, match="3, 0 values"):
        analysis.separation(tenth, fifth[:0])
    with pytest.raises(analysis.NotMeasurable, match="0, 7 values"):
        analysis.separation(tenth, fifth, weights=(np.zeros(3), np.ones(7)))


numbers = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 3)), min_size=1, max_size=20).filter(
    lambda rows: any(w for _, w in rows)
)


@settings(deadline=None)
@given(numbers, numbers)
def test_a_weight_is_a_repetition_and_exchange_turns_the_sign(first: list, second: list) -> None:
    values, weights = zip(*(np.array(rows, dtype=float).T for rows in (first, second)), strict=True)
    repeated = [v.repeat(w.astype(int)) for v, w in zip(values, weights, strict=True)]
    here, there = analysis.separation(*values, weights=weights), analysis.separation(*repeated)
    back = analysis.separation(*repeated[::-1])
    for name, mirrored in (("overlap", there.overlap), ("auc", 1 - there.auc), ("d_prime", -there.d_prime)):
        assert getattr(here, name) == pytest.approx(getattr(there, name), nan_ok=True)
        assert getattr(back, name) == pytest.approx(mirrored, nan_ok=True)


def test_alignment_by_hand() -> None:
    """Person 5: visible at 0 degrees, infrared at 0 and 90: squared distances 0 and 2. Person 8: opposite, 4."""
    points = np.concatenate([AROUND[[0, 0, 1]], 3 * AROUND[[0, 2]], AROUND[:1]])
    found = analysis.alignment(points, np.array([5, 5, 5, 8, 8, 9]), np.array([0, 1, 1, 1, 0, 0]))
    assert found.person_ids.tolist() == [5, 8]
    np.testing.assert_allclose(found.distance, [1, 4], atol=1e-12)


def test_alignment_is_the_mean_over_pairs() -> None:
    points, person_ids, modality = clouds(people=3, shift=2.0)
    pairs = analysis.pair_similarities(points, person_ids, modality, rng())
    of, cosines = pairs.people["same_identity_other_spectrum"][:, 0], pairs.same_identity_other_spectrum
    expected = [2 - 2 * cosines[of == p].mean() for p in range(3)]
    np.testing.assert_allclose(analysis.alignment(points, person_ids, modality).distance, expected)


def test_uniformity_by_hand() -> None:
    """Two persons at opposite points: -8. At right angles: squared distance 2, -4. At one point: 0."""
    columns = np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    for rows, expected in (([0, 0, 2, 2], -8), ([0, 0, 1, 1], -4), ([0, 0, 0, 0], 0)):
        assert analysis.uniformity(AROUND[rows], *columns, rng()) == pytest.approx(expected)
    half = np.log((np.exp(-4) + np.exp(-8)) / 2)  # within spectra a right angle, across opposite
    points = np.array([[1.0, 0, 0], [0, -1, 0], [0, 1, 0], [-1, 0, 0]])
    assert analysis.uniformity(points, *columns, rng()) == pytest.approx(half)
    with pytest.raises(analysis.NotMeasurable, match="values count"):
        analysis.uniformity(AROUND, columns[0], np.zeros(4, int), rng())


# Discrepancy


def test_mmd_by_hand() -> None:
    """Two persons; visible at 0 degrees, infrared at 90: kernel 1 within, exp(-2 / (2 * 2)) across, median sqrt 2."""
    points, person_ids, modality = AROUND[[0, 0, 1, 1]], np.array([1, 2, 1, 2]), np.array([0, 0, 1, 1])
    found = analysis.mmd(points, person_ids, modality, rng(), num_permutations=199)
    assert found.bandwidth == pytest.approx(2**0.5)
    assert found.value == pytest.approx(2 - 2 * np.exp(-0.5))
    assert found.p_value == pytest.approx(0.5, abs=0.12)  # two of the four relabellings keep the two clouds
    assert found.chance == pytest.approx(found.value)


def test_mmd_of_exchangeable_clouds_has_uniform_p_values() -> None:
    p_values = np.array([analysis.mmd(*clouds(s, people=8), rng(s), num_permutations=99).p_value for s in range(200)])
    assert p_values.mean() == pytest.approx(0.5, abs=0.08)
    assert (p_values <= 0.1).mean() == pytest.approx(0.1, abs=0.06)
    assert (p_values <= 0.5).mean() == pytest.approx(0.5, abs=0.12)


def test_mmd_sees_a_shift_and_not_who_is_who() -> None:
    points, person_ids, modality = clouds(shift=4.0)
    found = analysis.mmd(points, person_ids, modality, rng())
    assert found.p_value == 1 / 501
    assert found.value > found.chance
    names = rng(1).permutation(20)[person_ids] * 3 + 4
    for other in (
        (moved(points), person_ids, modality),
        (points * rng(2).uniform(1, 2, (len(points), 1)), person_ids, modality),
        (points, names, modality),
        (points, person_ids, 1 - modality),
    ):
        assert analysis.mmd(*other, rng()).value == pytest.approx(found.value)
        assert analysis.mmd(*other, rng()).p_value == found.p_value


def test_mmd_draws_whole_identities() -> None:
    points, person_ids, modality = clouds(people=30)
    images = _drawn_identities(person_ids, rng(), 50)
    assert len(images) == 56  # identities of 8 until there are 50
    assert set(np.bincount(person_ids[images], minlength=30)) == {0, 8}
    assert (np.diff(person_ids[images]) >= 0).all()
    runs = [analysis.mmd(points, person_ids, modality, rng(3), max_points=50, num_permutations=9) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != analysis.mmd(points, person_ids, modality, rng(3), num_permutations=9)


def test_mmd_faults() -> None:
    points, person_ids, modality = clouds(people=2)
    with pytest.raises(ValueError, match="num_permutations is 0"):
        analysis.mmd(points, person_ids, modality, rng(), num_permutations=0)
    with pytest.raises(ValueError, match="max_points is 3"):
        analysis.mmd(points, person_ids, modality, rng(), max_points=3)
    with pytest.raises(analysis.NotMeasurable, match="no identity has images of both"):
        analysis.mmd(points, np.arange(len(points)), modality, rng())
    with pytest.raises(analysis.NotMeasurable, match=r"\[1, 1\] images"):
        analysis.mmd(AROUND[:2], np.array([1, 1]), np.array([0, 1]), rng())
    with pytest.raises(analysis.NotMeasurable, match="at one point"):
        analysis.mmd(np.ones((16, 2)), person_ids, modality, rng())


# Neighbours


def test_neighbourhood_by_hand() -> None:
    """Angles 0, 10, 20, 60 degrees, the second is infrared: with one neighbour, then with all three."""
    angle = np.radians([0.0, 10, 21, 60])
    points, modality = np.stack([np.cos(angle), np.sin(angle)], axis=1), np.array([0, 1, 0, 0])
    one = analysis.neighbourhood(points, np.arange(4), modality, num_neighbors=1)
    assert one.share.tolist() == [1, 1, 1, 0]
    np.testing.assert_allclose(one.chance, [1 / 3, 1, 1 / 3, 1 / 3])
    np.testing.assert_allclose(one.ratio, [3, 1, 3, 0])
    np.testing.assert_allclose(analysis.neighbourhood(points, np.arange(4), modality).ratio, 1)  # cut to all others


def test_neighbourhood_of_mixed_and_separate_clouds() -> None:
    points, person_ids, modality = clouds(people=60)
    assert analysis.neighbourhood(points, person_ids, modality).ratio.mean() == pytest.approx(1, abs=0.15)
    islands = np.concatenate([points, 1e3 * (modality[:, None] - 0.5)], axis=1)
    assert analysis.neighbourhood(islands, person_ids, modality).ratio.max() == 0


def test_silhouettes_by_hand() -> None:
    """Person 1 at 0 degrees; person 2 at 90 (visible) and at 0 (infrared); cosine distances 0 and 1."""
    points, person_ids, modality = AROUND[[0, 0, 1, 0]], np.array([1, 1, 2, 2]), np.array([0, 1, 0, 1])
    found = analysis.silhouettes(points, person_ids, modality)
    np.testing.assert_allclose(found.identity, [1, 1, 0, -1], atol=1e-12)  # own 0 of 0.5; 1 of 1; 1 to 0
    np.testing.assert_allclose(found.modality, [-1, 1, 0, 1], atol=1e-12)


def test_silhouettes_of_known_clouds() -> None:
    points, person_ids, modality = clouds(people=30)
    found = analysis.silhouettes(points, person_ids, modality)
    assert abs(found.modality.mean()) < 0.05
    assert found.identity.mean() > 0.3
    islands = analysis.silhouettes(np.eye(2)[modality], person_ids, modality)
    np.testing.assert_allclose(islands.modality, 1)


def test_centroid_transfer_by_hand() -> None:
    """The spectra of persons 1 and 2 lie alike, then those of one are at the other's; person 3 has one spectrum."""
    points, person_ids, modality = AROUND[[0, 0, 1, 1, 3]], np.array([1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 0])
    found = analysis.centroid_transfer(points, person_ids, modality)
    assert found.images.tolist() == [0, 1, 2, 3]
    assert found.correct.all()
    assert not analysis.centroid_transfer(points[[0, 2, 1, 3, 4]], person_ids, modality).correct.any()
    assert not analysis.centroid_transfer(np.ones((5, 2)), person_ids, modality).correct.any(), "ties"


def test_neighbour_faults() -> None:
    points, person_ids, modality = clouds(people=2)
    with pytest.raises(ValueError, match="num_neighbors is 0"):
        analysis.neighbourhood(points, person_ids, modality, num_neighbors=0)
    with pytest.raises(analysis.NotMeasurable, match=r"\[16, 0\] images"):
        analysis.neighbourhood(points, person_ids, 0 * modality)
    with pytest.raises(analysis.NotMeasurable, match="person_ids holds 1 kinds of 16"):
        analysis.silhouettes(points, 0 * person_ids, modality)
    with pytest.raises(analysis.NotMeasurable, match="person_ids holds 16 kinds"):
        analysis.silhouettes(points, np.arange(16), modality)
    with pytest.raises(analysis.NotMeasurable, match="modality holds 1 kinds"):
        analysis.silhouettes(points, person_ids, 0 * modality)
    with pytest.raises(analysis.NotMeasurable, match="no identity"):
        analysis.centroid_transfer(points, person_ids, 0 * modality)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_neighbour_measures_are_invariant(seed: int) -> None:
    points, person_ids, modality = clouds(seed, people=5, images=3, shift=2.0)
    order, names = rng(seed).permutation(len(points)), rng(seed).permutation(5)
    turned = points @ ortho_group.rvs(8, random_state=seed) * rng(seed).uniform(1, 2, (len(points), 1))

    def values(*columns: np.ndarray) -> np.ndarray:
        kinds = analysis.silhouettes(*columns)
        nearest = analysis.centroid_transfer(*columns).correct
        return np.stack([analysis.neighbourhood(*columns).ratio, kinds.identity, kinds.modality, nearest])

    here = values(points, person_ids, modality)
    np.testing.assert_allclose(values(turned, names[person_ids], 1 - modality), here, atol=1e-9)
    np.testing.assert_allclose(values(points[order], person_ids[order], modality[order]), here[:, order], atol=1e-9)


def test_probe_by_identity() -> None:
    points, person_ids, modality = clouds(people=10, shift=2.0)
    used = np.arange(len(points)) >= 4  # person 0 keeps infrared images alone
    found = analysis.modality_probe(points[used], person_ids[used], modality[used], rng())
    assert found.person_ids.tolist() == list(range(1, 10))
    shares = [
        [found.correct[(person_ids[used] == p) & (modality[used] == m)].mean() for m in (0, 1)] for p in range(1, 10)
    ]
    np.testing.assert_allclose(found.per_identity, np.mean(shares, axis=1))


# Intervals


def test_bootstrap_of_a_mean_agrees_with_bootstrap_interval() -> None:
    values, groups = rng().normal(size=60), np.repeat(np.arange(20), 3)
    sums = values.reshape(20, 3).sum(axis=1)
    found = analysis.bootstrap_statistic(lambda w: float(w @ sums / (3 * w.sum())), 20, rng(7), num_samples=2000)
    known = analysis.bootstrap_interval(values, groups, rng(7))
    assert found.mean == pytest.approx(known.mean)
    assert (found.low, found.high) == (pytest.approx(known.low, abs=0.02), pytest.approx(known.high, abs=0.02))


def test_bootstrap_statistic_holds_its_statistic_and_its_limits() -> None:
    shifts = rng().normal(size=(20, 100))  # the length of a mean: every draw adds to it
    runs = [
        analysis.bootstrap_statistic(lambda w: float(np.linalg.norm(w @ shifts) / 20), 20, rng(1)) for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0].low < runs[0].mean < runs[0].high
    wider = analysis.bootstrap_statistic(lambda w: float(np.linalg.norm(w @ shifts) / 20), 20, rng(1), confidence=0.99)
    assert wider.high - wider.low > runs[0].high - runs[0].low
    cut = analysis.bootstrap_statistic(lambda w: float(w[0] > 0), 20, rng(), limits=(0.0, 1.0))
    assert (cut.mean, cut.high) == (1, 1)
    few = analysis.bootstrap_statistic(lambda w: 1.0 if w.max() == 1 else np.nan, 20, rng())
    assert (few.mean, few.low, few.high) == (1, 1, 1)


def test_bootstrap_statistic_faults() -> None:
    with pytest.raises(ValueError, match="num_groups is 1"):
        analysis.bootstrap_statistic(lambda w: 1.0, 1, rng())
    with pytest.raises(ValueError, match="statistic is nan"):
        analysis.bootstrap_statistic(lambda w: np.nan, 5, rng())
    with pytest.raises(ValueError, match="confidence is 95"):
        analysis.bootstrap_statistic(lambda w: 1.0, 5, rng(), confidence=95.0)


# All together


def all_measures(columns: tuple, **settings: object) -> dict[str, analysis.Interval]:
    return analysis.measure_overlap(*columns, rng(), num_samples=50, **settings)


def with_prototypes(columns: tuple) -> dict[str, np.ndarray]:
    points, person_ids, modality = columns
    people = np.unique(person_ids)
    means = [points[(person_ids == p) & (modality == m)].mean(axis=0) for m in (0, 1) for p in people]
    return {"prototypes": np.stack(means), "prototype_ids": people}


def test_measures_agree_with_the_single_functions() -> None:
    columns = clouds(shift=2.0)
    known, watched = with_prototypes(columns), []
    found = all_measures(columns, **known, watch=watched.append)
    assert list(found) == list(analysis.DEFINITIONS) == watched
    gap, pairs = analysis.modality_gap(*columns), analysis.pair_similarities(*columns, rng())
    apart = analysis.separation(pairs.same_identity_other_spectrum, pairs.other_identity_other_spectrum)
    kinds, close = analysis.silhouettes(*columns), analysis.prototype_similarities(*columns, **known)
    probe = analysis.modality_probe(*columns, rng().spawn(20)[1 + list(found).index("modality_probe")])
    expected = {
        "stranger_ratio": gap.stranger_ratio.mean(),
        "modality_gap": gap.gap.mean(),
        "global_gap": analysis.global_modality_gap(columns[0], columns[2]),
        "modality_probe": probe.accuracy,
        "mmd": analysis.mmd(*columns, rng()).value,
        "neighbour_ratio": analysis.neighbourhood(*columns).ratio.mean(),
        "silhouette_identity": kinds.identity.mean(),
        "silhouette_modality": kinds.modality.mean(),
        "pair_overlap": apart.overlap,
        "pair_auc": apart.auc,
        "pair_d_prime": apart.d_prime,
        "alignment": analysis.alignment(*columns).distance.mean(),
        "uniformity": analysis.uniformity(*columns, rng()),
        "centroid_transfer": analysis.centroid_transfer(*columns).correct.mean(),
        "prototype_alignment": analysis.prototype_alignment(known["prototypes"][None]).mean(),
        "own_similarity": close.own.mean(),
        "cross_similarity": close.cross.mean(),
        "other_similarity": close.other.mean(),
        "cross_margin": close.cross_margin.mean(),
    }
    assert {name: one.mean for name, one in found.items()} == pytest.approx(expected)


def test_intervals_hold_the_mean_are_seeded_and_do_not_depend_on_each_other() -> None:
    columns = clouds(shift=2.0)
    known = with_prototypes(columns)
    found = all_measures(columns, **known)
    assert found == all_measures(columns, **known)
    for name, one in found.items():
        assert one.low <= one.mean <= one.high, name
        assert one.low < one.high or one.mean == 1, name  # every image finds its centroid, in every draw
        assert all_measures(columns, **known, only=[name]) == {name: one}
    alone = all_measures(columns)
    assert alone == {name: found[name] for name in list(analysis.DEFINITIONS)[:14]}


def test_an_identity_drawn_twice_counts_twice() -> None:
    """Global gap: as if its images were there twice. MMD: pairs of it twice, pairs with others by the product."""
    points, person_ids, modality = clouds(people=5, images=2, shift=1.0)
    uneven = np.arange(20) != 3
    points, person_ids, modality = points[uneven], person_ids[uneven], modality[uneven]
    drawn = np.array([2.0, 0, 1, 1, 1])
    again = np.concatenate([np.flatnonzero(person_ids == p) for p in (0, 0, 2, 3, 4)])
    expected = analysis.global_modality_gap(points[again], modality[again])
    assert weighted_global_gap(points, person_ids, modality)(drawn) == pytest.approx(expected)

    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    squared = 2 - 2 * unit @ unit.T
    kernel = np.exp(-squared / np.median(squared[np.triu_indices(19, k=1)]) / 2)
    of = drawn[person_ids]
    counts = np.where(person_ids[:, None] == person_ids, of, np.outer(of, of))
    np.fill_diagonal(counts, 0)

    def mean(a: int, b: int) -> float:
        rows = np.ix_(modality == a, modality == b)
        return float((counts * kernel)[rows].sum() / counts[rows].sum())

    value, number = weighted_mmd(points, person_ids, modality, rng())
    assert number == 5
    assert value(drawn) == pytest.approx(mean(0, 0) + mean(1, 1) - 2 * mean(0, 1))
    assert value(np.ones(5)) == pytest.approx(analysis.mmd(points, person_ids, modality, rng()).value)
    for function in (value, weighted_global_gap(points, person_ids, modality)):
        with pytest.raises(analysis.NotMeasurable, match="weights"):
            function(np.zeros(5))


def test_intervals_of_pairs_and_probe_draw_identities() -> None:
    points, person_ids, modality = clouds(people=8, shift=2.0)
    few = (modality == 0) | (np.arange(len(points)) % 4 == 0)
    columns = points[few], person_ids[few], modality[few]
    found = analysis.measure_overlap(*columns, rng(), only=["pair_auc", "modality_probe"])
    generators = dict(zip(analysis.DEFINITIONS, rng().spawn(20)[1:], strict=True))
    pairs = analysis.pair_similarities(*columns, rng())
    own, strangers = (pairs.people[f"{kind}_identity_other_spectrum"].T for kind in ("same", "other"))

    def auc(drawn: np.ndarray) -> float:
        weights = drawn[own[0]], drawn[strangers[0]] * drawn[strangers[1]]
        values = pairs.same_identity_other_spectrum, pairs.other_identity_other_spectrum
        return analysis.separation(*values, weights=weights).auc

    expected = analysis.bootstrap_statistic(auc, 8, generators["pair_auc"], limits=(0.0, 1.0))
    assert astuple(found["pair_auc"]) == pytest.approx(astuple(expected))
    probe = analysis.modality_probe(*columns, generators["modality_probe"])
    assert found["modality_probe"].mean == pytest.approx(probe.accuracy)
    assert probe.accuracy != pytest.approx(probe.correct.mean())


def test_measures_point_the_way_that_they_say() -> None:
    """Spectra that move apart make every measure of the spectra worse."""
    near, far = clouds(shift=0.5, people=30), clouds(shift=15.0, people=30)
    before, after = all_measures(near, **with_prototypes(near)), all_measures(far, **with_prototypes(far))
    indifferent = {"silhouette_identity", "uniformity", "own_similarity", "other_similarity"}
    for name in analysis.DEFINITIONS.keys() - indifferent:
        change = after[name].mean - before[name].mean
        assert change < 0 if analysis.DEFINITIONS[name].better == "higher" else change > 0, name


def test_measures_are_invariant() -> None:
    points, person_ids, modality = clouds(shift=2.0)
    names = np.sort(rng(3).choice(900, 20, replace=False))[person_ids]  # another name, the same order: same draws
    here = all_measures((points, person_ids, modality))
    for other in ((moved(points), names, modality), (points, person_ids, 1 - modality)):
        for name, one in all_measures(other).items():
            assert (one.mean, one.low, one.high) == pytest.approx((here[name].mean, here[name].low, here[name].high))


def test_what_the_images_do_not_allow_is_left_out() -> None:
    points, person_ids, modality = clouds(people=12, images=1)
    found = all_measures((points, person_ids, modality), **with_prototypes((points, person_ids, modality)))
    assert set(analysis.DEFINITIONS) - set(found) == {"stranger_ratio", "modality_gap"}  # no spread within
    assert all(np.isfinite([one.mean, one.low, one.high]).all() for one in found.values())
    one_spectrum = all_measures((points, person_ids // 2, 0 * modality))
    assert set(one_spectrum) == {"silhouette_identity"}
    assert all_measures((points, 0 * person_ids, modality)) == {}
    strangers = all_measures((points, np.arange(24), modality))
    assert {"pair_auc", "alignment", "mmd", "silhouette_identity"}.isdisjoint(strangers)
    assert "neighbour_ratio" in strangers
    unknown = all_measures((points, person_ids, modality), prototypes=np.eye(8)[:4], prototype_ids=np.array([0, 1]))
    assert "prototype_alignment" in unknown
    assert "cross_margin" not in unknown
    without_ids = all_measures((points, person_ids, modality), prototypes=np.eye(8)[:4])
    assert set(without_ids) == set(unknown)
    assert all_measures((np.empty((0, 4)), person_ids[:0], modality[:0])) == {}


@settings(deadline=None, max_examples=20)
@given(seeds, st.integers(2, 5), st.integers(2, 14))
def test_small_sets_give_finite_intervals_or_none(seed: int, people: int, count: int) -> None:
    random = rng(seed)
    columns = random.normal(size=(count, 3)), random.integers(people, size=count), random.integers(2, size=count)
    for name, one in analysis.measure_overlap(*columns, random, num_samples=10).items():
        assert np.isfinite([one.mean, one.low, one.high]).all(), name
        assert one.low <= one.mean <= one.high, name


def test_measure_overlap_faults(unchecked) -> None:
    points, person_ids, modality = clouds(people=2)
    with pytest.raises(ValueError, match="have 16, 15 and 16 rows"):
        all_measures((points, person_ids[1:], modality))
    with pytest.raises(ValueError, match="points holds NaN"):
        all_measures((points * np.nan, person_ids, modality))
    with pytest.raises(ValueError, match="16 rows are all zero"):
        all_measures((0 * points, person_ids, modality))
    with pytest.raises(ValueError, match=r"only holds \['gap'\]"):
        all_measures((points, person_ids, modality), only=["gap"])


def test_definitions_are_complete() -> None:
    assert list(overlap_module._MEASURES) == list(analysis.DEFINITIONS)
    titles = [one.title for one in analysis.DEFINITIONS.values()]
    assert len(set(titles)) == len(titles)
    assert all(len(one.title) <= 45 and one.meaning.endswith(".") for one in analysis.DEFINITIONS.values())
