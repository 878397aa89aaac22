"""Rows of numbers, checked, grouped and, if they have many columns, reduced before anything else is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.utils.extmath import randomized_svd

from sa_lab.schema import Modality

_POWER_ITERATIONS = 3


class NotMeasurable(ValueError):
    """The numbers are sound, but there are too few images, identities or spectra for this measure."""


@dataclass(frozen=True)
class Reduced:
    """Points with fewer columns and, as far as ``kept_share`` says, the same dot products.

    Attributes:
        points: (N,K) the rows along K orthonormal directions.
        kept_share: share of the squared lengths that is left, in [0,1]; 1.0 where nothing was left out.
    """

    points: Float[np.ndarray, "N K"]
    kept_share: float


def reduce(
    points: Float[np.ndarray, "N D"],
    generator: np.random.Generator,
    *,
    num_components: int = 512,
    exact_up_to: int = 3000,
) -> Reduced:
    """Points in fewer dimensions, for measures that read lengths, distances and cosines alone.

    Up to ``exact_up_to`` rows nothing is lost: where D > N, the rows are rotated into the N dimensions that they fill.
    With more rows, the ``num_components`` directions that hold most of the squared lengths are kept. The points are not
    centred, because that would change the cosines. Prototypes must be reduced in the same call as the points.

    Source: randomised singular value decomposition, Halko et al., SIAM Review 2011.

    Raises:
        ValueError: NaN or infinity in ``points``, or fewer than one component.
    """
    if num_components < 1:
        raise ValueError(f"num_components is {num_components}, expected at least 1")
    points = as_points(points, "points")
    count, channels = points.shape
    if count <= max(exact_up_to, num_components):
        return Reduced(np.asarray(np.linalg.qr(points.T, mode="r")).T if channels > count else points, 1.0)
    if channels <= num_components:
        return Reduced(points, 1.0)
    seed = int(generator.integers(2**31))
    directions = randomized_svd(points, num_components, n_iter=_POWER_ITERATIONS, random_state=seed)[2]
    rows = points @ directions.T
    before, after = (float(np.einsum("nd,nd->n", p, p).sum(dtype=np.float64)) for p in (points, rows))
    return Reduced(rows, min(1.0, after / before) if before else 1.0)


def as_points(points: np.ndarray, name: str) -> np.ndarray:
    """Finite, in float32 or better."""
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds NaN or infinity, expected finite numbers")
    return points.astype(np.result_type(points.dtype, np.float32), copy=False)


def unit_rows(points: np.ndarray, name: str) -> np.ndarray:
    points = as_points(points, name)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"{name}: {int((length == 0).sum())} rows are all zero, expected vectors with a direction")
    unit: np.ndarray = points / length
    return unit


def paired_groups(person_ids: np.ndarray, modality: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The identities with both spectra (I,), which images are theirs (N,), and 2 * identity + modality of those."""
    people = np.intersect1d(person_ids[modality == Modality.VISIBLE], person_ids[modality == Modality.INFRARED])
    if len(people) == 0:
        raise NotMeasurable("person_ids and modality: no identity has images of both spectra, expected at least one")
    used = np.isin(person_ids, people)
    return people, used, 2 * np.searchsorted(people, person_ids[used]) + modality[used]


def group_means(points: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (G,D) in double precision, and sizes (G,), of the groups 0..G-1, of which none is empty."""
    counts = np.bincount(groups)
    sums = np.add.reduceat(points[np.argsort(groups, kind="stable")], np.cumsum(counts) - counts, 0, np.float64)
    return sums / counts[:, None], counts
