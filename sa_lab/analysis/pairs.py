"""Similarities of pairs of images, by kind of pair, and how far two distributions lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sa_lab.analysis.points import NotMeasurable, group_means, paired_groups, unit_rows

KINDS = (
    "same_identity_same_spectrum",
    "same_identity_other_spectrum",
    "other_identity_same_spectrum",
    "other_identity_other_spectrum",
)
_PAIRS_ENUMERATED = 2_000_000  # up to here pairs of different persons are listed in full, beyond they are drawn

Weights = tuple[Float[np.ndarray, " A"], Float[np.ndarray, " B"]]


@dataclass(frozen=True)
class PairSimilarities:
    """Cosine similarities, in [-1,1], of the four kinds of pairs of two different images.

    ``people`` holds, under the name of each kind, the two persons of each pair, (n,2).
    """

    same_identity_same_spectrum: Float[np.ndarray, " A"]
    same_identity_other_spectrum: Float[np.ndarray, " B"]
    other_identity_same_spectrum: Float[np.ndarray, " C"]
    other_identity_other_spectrum: Float[np.ndarray, " D"]
    people: dict[str, Int[np.ndarray, "_ 2"]]


@dataclass(frozen=True)
class Separation:
    """How far a distribution of positives lies above one of negatives.

    Attributes:
        overlap: the area that they share, in [0,1]; see `overlap_coefficient`.
        auc: chance that a positive is above a negative, ties counted half, in [0,1]; 0.5: no difference.
        d_prime: difference of the means over the root of the mean variance, any number; infinite if nothing varies, NaN
            if the means are also equal.
    """

    overlap: float
    auc: float
    d_prime: float


def pair_similarities(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    max_pairs: int = 20_000,
) -> PairSimilarities:
    """Cosine similarities by kind of pair, at most ``max_pairs`` of each, drawn without preference.

    A kind that does not occur gives an empty array. Above about 2000 images, pairs of different persons are drawn with
    replacement from all pairs; below, and always for pairs of one person, without.
    """
    if max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}, expected at least 1")
    unit = unit_rows(points, "points")
    own = _pairs_of_one_person(person_ids)
    others = _pairs_of_two_persons(person_ids, generator, 8 * max_pairs)
    kinds, people = [], []
    for pairs in (own, others):
        same_spectrum = modality[pairs[:, 0]] == modality[pairs[:, 1]]
        for wanted in (True, False):
            chosen = pairs[same_spectrum == wanted]
            if len(chosen) > max_pairs:
                chosen = chosen[generator.choice(len(chosen), max_pairs, replace=False)]
            cosines = [np.einsum("nd,nd->n", unit[c[:, 0]], unit[c[:, 1]]) for c in _chunks(chosen, 1024)]
            kinds.append(np.concatenate([np.empty(0), *cosines]).clip(-1, 1))
            people.append(person_ids[chosen])
    return PairSimilarities(**dict(zip(KINDS, kinds, strict=True)), people=dict(zip(KINDS, people, strict=True)))


def separation(
    positive: Float[np.ndarray, " A"], negative: Float[np.ndarray, " B"], *, weights: Weights | None = None
) -> Separation:
    """How far ``positive`` lies above ``negative``; ``weights``: how often each value of the two counts.

    Source: d' of Green and Swets, "Signal Detection Theory and Psychophysics", 1966; the area under the ROC curve as
    a probability, Hanley and McNeil, Radiology 1982; `overlap_coefficient`. The variances are of the values alone
    (divided by their number), since pairs of images are not independent draws.

    Raises:
        ValueError: no values, or none that counts.
    """
    return Separation(
        overlap_coefficient(positive, negative, weights=weights),
        ranking_area(positive, negative, weights=weights),
        mean_distance(positive, negative, weights=weights),
    )


def overlap_coefficient(
    first: Float[np.ndarray, " A"],
    second: Float[np.ndarray, " B"],
    *,
    num_bins: int = 50,
    weights: Weights | None = None,
) -> float:
    """The area that two distributions share, in [0,1]: 1 the same, 0 disjoint.

    Both are binned over their common range; with few values (below about ten a bin) the result is too low.

    Source: Weitzman 1970; Inman and Bradley, "The overlapping coefficient", 1989.
    """
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, expected at least 1")
    samples = _counted(first, second, weights)
    low, high = min(v.min() for v, _ in samples), max(v.max() for v, _ in samples)
    if low == high:
        return 1.0
    shares = [np.histogram(v, bins=num_bins, range=(low, high), weights=w)[0] / w.sum() for v, w in samples]
    return float(np.minimum(*shares).sum())


def ranking_area(
    positive: Float[np.ndarray, " A"], negative: Float[np.ndarray, " B"], *, weights: Weights | None = None
) -> float:
    """The ``auc`` of `Separation`."""
    (above, above_weights), (below, below_weights) = _counted(positive, negative, weights)
    order = np.argsort(below, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(below_weights[order])])  # weight of the negatives up to each
    beaten = total[np.searchsorted(below, above, "left", order)] + total[np.searchsorted(below, above, "right", order)]
    return float(above_weights @ beaten / (2 * above_weights.sum() * total[-1]))


def mean_distance(
    positive: Float[np.ndarray, " A"], negative: Float[np.ndarray, " B"], *, weights: Weights | None = None
) -> float:
    """The ``d_prime`` of `Separation`."""
    means, variances = [], []
    for values, counts in _counted(positive, negative, weights):
        moved = values - values[0]  # makes the variance of equal values exactly 0
        means.append(np.average(moved, weights=counts))
        variances.append(np.average(np.square(moved - means[-1]), weights=counts))
        means[-1] += values[0]
    difference, spread = float(means[0] - means[1]), float(np.sqrt(np.mean(variances)))
    if spread == 0:
        return float(np.copysign(np.inf, difference)) if difference else np.nan
    return difference / spread


@dataclass(frozen=True)
class Alignment:
    """How close an identity's two spectra are, one entry per identity that has both.

    Attributes:
        person_ids: (I,) ascending.
        distance: (I,) mean squared distance of its visible from its infrared images, on the unit sphere, in [0,4].
    """

    person_ids: Int[np.ndarray, " I"]
    distance: Float[np.ndarray, " I"]


def alignment(
    points: Float[np.ndarray, "N D"], person_ids: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> Alignment:
    """Mean of ``|x - y|^2`` over the pairs of one identity in the two spectra, rows made unit length.

    Since ``|x - y|^2 = 2 - 2 x.y``, the mean over all pairs is 2 minus twice the product of the two centroids.

    Source: Wang and Isola, ICML 2020, arXiv:2005.10242, with power 2. Deviation: their positive pairs are two views of
    one image, here they are two images of one identity, across spectra; each identity counts the same.

    Raises:
        ValueError: no identity has both spectra.
    """
    people, used, groups = paired_groups(person_ids, modality)
    centroids, _ = group_means(unit_rows(points, "points")[used], groups)
    products = np.einsum("id,id->i", centroids[0::2], centroids[1::2])
    return Alignment(people, (2 - 2 * products).clip(0, 4))


def uniformity(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    max_pairs: int = 20_000,
) -> float:
    """``log mean exp(-2 |x - y|^2)`` of different persons' images on the unit sphere, in [-8,0]; low: spread evenly.

    The pairs are those of `pair_similarities`; those within and those across the spectra count half each.

    Source: Wang and Isola, ICML 2020, arXiv:2005.10242, with t = 2. Deviation: their pairs are any two images, here
    they are of two identities.

    Raises:
        ValueError: no pair of two persons within the spectra, or none across.
    """
    pairs = pair_similarities(points, person_ids, modality, generator, max_pairs=max_pairs)
    return mean_potential(pairs.other_identity_same_spectrum, pairs.other_identity_other_spectrum)


def mean_potential(
    same_spectrum: Float[np.ndarray, " A"], other_spectrum: Float[np.ndarray, " B"], *, weights: Weights | None = None
) -> float:
    """`uniformity` of cosines: the squared distance is 2 - 2 cos."""
    kinds = _counted(same_spectrum, other_spectrum, weights)
    return float(np.log(np.mean([np.average(np.exp(4 * cosines - 4), weights=counts) for cosines, counts in kinds])))


def _counted(first: np.ndarray, second: np.ndarray, weights: Weights | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """The values that count, of both, each with its weights."""
    if weights is None:
        samples = [(values, np.ones(len(values))) for values in (first, second)]
    else:
        samples = [(v[w > 0], w[w > 0]) for v, w in zip((first, second), weights, strict=True)]
    if not all(len(values) for values, _ in samples):
        raise NotMeasurable(f"{len(samples[0][0])}, {len(samples[1][0])} values count, expected at least 1 of each")
    return samples


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _pairs_of_one_person(person_ids: np.ndarray) -> np.ndarray:
    """All (i,j), i before j, of one identity, (M,2)."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for person in np.unique(person_ids):
        images = np.flatnonzero(person_ids == person)
        pairs.append(images[np.stack(np.triu_indices(len(images), k=1), axis=1)])
    return np.concatenate(pairs)


def _pairs_of_two_persons(person_ids: np.ndarray, generator: np.random.Generator, wanted: int) -> np.ndarray:
    """All (i,j) of different identities, or ``wanted`` draws of them where there are too many, (M,2)."""
    count = len(person_ids)
    if count * (count - 1) // 2 <= _PAIRS_ENUMERATED:
        pairs = np.stack(np.triu_indices(count, k=1), axis=1)
    else:
        pairs = generator.integers(count, size=(wanted, 2))
    kept: np.ndarray = pairs[person_ids[pairs[:, 0]] != person_ids[pairs[:, 1]]]
    return kept
