"""The distance between two clouds as wholes, and whether chance alone would produce it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sa_lab.analysis.points import NotMeasurable, paired_groups, unit_rows
from sa_lab.schema import Modality


@dataclass(frozen=True)
class Discrepancy:
    """Maximum mean discrepancy of the two spectra.

    Attributes:
        value: its square, unbiased, at most 2; 0: the same cloud; it can be slightly negative.
        p_value: share of relabellings, the one seen included, with a value at least as large, in (0,1].
        bandwidth: of the Gaussian kernel, in units of distance on the unit sphere, in (0,2].
        chance: the value that only 5 % of the relabellings exceed.
    """

    value: float
    p_value: float
    bandwidth: float
    chance: float


def mmd(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    num_permutations: int = 500,
    max_points: int = 2000,
) -> Discrepancy:
    """Do the two spectra fill the same region of the unit sphere?

    ``MMD^2 = mean k(v,v') + mean k(r,r') - 2 mean k(v,r)`` over pairs of two different images, visible v and infrared
    r, with ``k(x,y) = exp(-|x - y|^2 / (2 bandwidth^2))`` and the median distance of all pairs as bandwidth. The
    p-value relabels the spectra within each identity, because images of one person are not independent draws. Above
    ``max_points`` images, whole identities are drawn until there are as many.

    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, lemma 6 and section 8 (bandwidth). Deviation: they
    relabel all images alike.

    Raises:
        ValueError: no identity has both spectra, a spectrum with fewer than two images, or most images at one point.
    """
    if num_permutations < 1:
        raise ValueError(f"num_permutations is {num_permutations}, expected at least 1")
    cloud = _cloud(points, person_ids, modality, generator, max_points)
    shuffled = np.argsort(cloud.codes + generator.random((num_permutations, len(cloud.codes))), axis=1)
    labels = np.concatenate([cloud.modality[None], cloud.modality[shuffled]])
    values = _squared_discrepancy(cloud.kernel, labels == Modality.VISIBLE)
    as_large = int((values[1:] >= values[0] - 1e-12).sum())
    chance = float(np.quantile(values[1:], 0.95))
    return Discrepancy(float(values[0]), (1 + as_large) / (1 + num_permutations), cloud.bandwidth, chance)


def weighted_mmd(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    max_points: int = 2000,
) -> tuple[Callable[[np.ndarray], float], int]:
    """The value of `mmd` as a function of how often each identity counts, and the number of identities.

    Pairs of one identity count as often as it does, pairs of two as often as the product of both. The bandwidth stays.
    """
    cloud = _cloud(points, person_ids, modality, generator, max_points)
    groups = 2 * cloud.codes + cloud.modality
    count = int(cloud.codes[-1]) + 1
    members = np.eye(2 * count)[groups]  # (N,2I)
    sizes = members.sum(axis=0)
    sums = (members.T @ cloud.kernel @ members).reshape(count, 2, count, 2)
    pairs = (np.outer(sizes, sizes) - np.diag(sizes)).reshape(count, 2, count, 2)

    def value(weights: np.ndarray) -> float:
        counts = np.outer(weights, weights)
        np.fill_diagonal(counts, weights)
        total, number = (np.einsum("ij,iajb->ab", counts, of) for of in (sums, pairs))
        if not number.all():
            raise NotMeasurable("weights: a spectrum without pairs, expected some of both")
        means = total / number
        return float(means[0, 0] + means[1, 1] - 2 * means[0, 1])

    return value, count


@dataclass(frozen=True)
class _Cloud:
    """Kernel of all pairs, zero on its diagonal; images in the order of their identities' codes 0..I-1."""

    kernel: Float[np.ndarray, "N N"]
    bandwidth: float
    codes: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]


def _cloud(
    points: np.ndarray, person_ids: np.ndarray, modality: np.ndarray, generator: np.random.Generator, max_points: int
) -> _Cloud:
    if max_points < 4:
        raise ValueError(f"max_points is {max_points}, expected at least 4")
    paired_groups(person_ids, modality)  # raises where labels could not be exchanged
    kept = _drawn_identities(person_ids, generator, max_points)
    codes, modality = np.unique(person_ids[kept], return_inverse=True)[1], modality[kept]
    if min(np.bincount(modality, minlength=2)) < 2:
        raise NotMeasurable(f"modality: {np.bincount(modality, minlength=2).tolist()} images of the two spectra, "
                            "expected at least two of each")  # fmt: skip
    unit = unit_rows(points[kept], "points")
    squared = (2 - 2 * (unit @ unit.T).astype(np.float64)).clip(0)
    bandwidth = float(np.sqrt(np.median(squared[np.triu_indices(len(unit), k=1)])))
    if bandwidth < 1e-6:
        raise NotMeasurable("points: most images are at one point, expected a positive median distance")
    kernel = np.exp(-squared / (2 * bandwidth**2))
    np.fill_diagonal(kernel, 0)
    return _Cloud(kernel, bandwidth, codes, modality)


def _drawn_identities(person_ids: np.ndarray, generator: np.random.Generator, max_points: int) -> np.ndarray:
    """Images, by identity: all, or those of identities drawn until there are ``max_points``."""
    people, codes, counts = np.unique(person_ids, return_inverse=True, return_counts=True)
    if len(person_ids) > max_points:
        order = generator.permutation(len(people))
        people = order[: 1 + int(np.searchsorted(np.cumsum(counts[order]), max_points))]
    else:
        people = np.arange(len(people))
    images = np.flatnonzero(np.isin(codes, people))
    return np.asarray(images[np.argsort(codes[images], kind="stable")])


def _squared_discrepancy(kernel: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """One value for each row of ``visible`` (B,N)."""
    chosen = visible.astype(kernel.dtype)
    near = chosen @ kernel
    both, across = (near * chosen).sum(axis=1), (near * (1 - chosen)).sum(axis=1)
    neither = kernel.sum() - both - 2 * across
    first, second = chosen.sum(axis=1), (1 - chosen).sum(axis=1)
    return np.asarray(both / (first * (first - 1)) + neither / (second * (second - 1)) - 2 * across / (first * second))
