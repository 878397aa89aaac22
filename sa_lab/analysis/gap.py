"""How far apart the two spectra lie: distances of centroids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from sa_lab.analysis.points import NotMeasurable, as_points, group_means, paired_groups

_ROWS = 1024  # images whose distances from their centroids are held at once


@dataclass(frozen=True)
class ModalityGap:
    """How far apart an identity's two spectra lie, one entry per identity that has both.

    Attributes:
        person_ids: (I,) ascending.
        gap: (I,) distance of the visible and the infrared centroid, divided by the spread within, in [0,inf). 1 means
            one standard deviation apart. It is large also where the spread is small, infinite where there is none, and
            NaN where everything is at one point.
        floor: (I,) what two spectra drawn from one distribution would show (root mean square), given how many images
            the centroids are averaged over; a gap at its floor is no gap.
        stranger_ratio: (I,) the same distance, divided by the mean distance to the other persons' centroids in the
            other spectrum: 0: the spectra coincide; 1: the own person is as far as a stranger; NaN for one identity.
    """

    person_ids: Int[np.ndarray, " I"]
    gap: Float[np.ndarray, " I"]
    floor: Float[np.ndarray, " I"]
    stranger_ratio: Float[np.ndarray, " I"]


def modality_gap(
    points: Float[np.ndarray, "N D"], person_ids: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> ModalityGap:
    """Distance between an identity's two spectra, in units of the spread within.

    With centroids c of each identity i in each spectrum m, and n(i,m) images,
    ``spread^2 = sum |x - c(i,m)|^2 / sum (n(i,m) - 1)`` over all images (pooled),
    ``gap(i) = |c(i,0) - c(i,1)| / spread`` and ``floor(i) = sqrt(1/n(i,0) + 1/n(i,1))``.

    Source: the centroid distance of Liang et al., "Mind the Gap", NeurIPS 2022, made free of scale as Cohen's d is.

    Raises:
        ValueError: no identity has both spectra, or there is no spread (one image per identity and spectrum).
    """
    points = as_points(points, "points")
    people, used, groups = paired_groups(person_ids, modality)
    points = points if used.all() else points[used]
    centroids, counts = group_means(points, groups)
    freedom = int((counts - 1).sum())
    squares = sum(
        float(np.square(points[s : s + _ROWS] - centroids[groups[s : s + _ROWS]]).sum())
        for s in range(0, len(points), _ROWS)
    )
    if freedom == 0:
        raise NotMeasurable("points: no spread within identity and spectrum, expected some with two different images")
    visible, infrared = centroids[0::2], centroids[1::2]
    distance = cdist(visible, infrared)
    own = distance.diagonal()
    strangers = (distance.sum(axis=0) + distance.sum(axis=1) - 2 * own) / max(1, 2 * (len(people) - 1))
    return ModalityGap(
        person_ids=people,
        gap=np.divide(own, np.sqrt(squares / freedom), out=np.where(own > 0, np.inf, np.nan), where=squares > 0),
        floor=np.sqrt(1 / counts[0::2] + 1 / counts[1::2]),
        stranger_ratio=np.divide(own, strangers, out=np.full_like(own, np.nan), where=strangers > 0),
    )


def global_modality_gap(points: Float[np.ndarray, "N D"], modality: Int[np.ndarray, " N"]) -> float:
    """The gap of `modality_gap` with everybody taken as one person: distance of the two clouds over their spread.

    Range [0,inf). Meaningful where both spectra show the same identities about equally often; with few identities
    their chance differences add to it.
    """
    return float(modality_gap(points, np.zeros_like(modality), modality).gap[0])


def weighted_global_gap(
    points: Float[np.ndarray, "N D"], codes: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> Callable[[np.ndarray], float]:
    """`global_modality_gap` as a function of how often each identity counts; ``codes`` are the identities 0..I-1."""
    points = as_points(points, "points")
    paired_groups(np.zeros_like(codes), modality)  # raises where a spectrum has no images
    centroids, _ = group_means(points, modality)
    moved = points - centroids[modality].astype(points.dtype)
    shape = (int(codes.max()) + 1, 2)
    groups = 2 * codes + modality
    present, places = np.unique(groups, return_inverse=True)
    means, sizes = group_means(moved, places)
    sums = np.zeros((*shape, points.shape[1]))
    sums.reshape(2 * shape[0], -1)[present] = means * sizes[:, None]
    counts = np.bincount(groups, minlength=2 * shape[0]).reshape(shape)
    squares = np.bincount(groups, np.einsum("nd,nd->n", moved, moved), minlength=2 * shape[0]).reshape(shape).sum(1)

    def value(weights: np.ndarray) -> float:
        total = weights @ counts
        if not total.all() or total.sum() <= 2:
            raise NotMeasurable(f"weights: {total.tolist()} images of the two spectra, expected more of both")
        shift = np.einsum("i,imd->md", weights, sums) / total[:, None]
        spread = np.sqrt(max(0.0, weights @ squares - total @ np.square(shift).sum(axis=1)) / (total.sum() - 2))
        distance = np.linalg.norm(centroids[0] + shift[0] - centroids[1] - shift[1])
        return float(distance / spread) if spread > 0 else np.inf

    return value
