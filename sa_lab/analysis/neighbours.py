"""Who lies next to whom: neighbours, silhouettes, and the nearest centroid of the other spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from sklearn import config_context
from sklearn.metrics import silhouette_samples
from sklearn.neighbors import NearestNeighbors

from sa_lab.analysis.points import NotMeasurable, group_means, paired_groups, unit_rows
from sa_lab.schema import Modality

_CHUNK_MEGABYTES = 128  # of distances held at once


@dataclass(frozen=True)
class Neighbourhood:
    """How the spectra mix around each image.

    Attributes:
        share: (N,) share of the nearest images that are of the other spectrum, in [0,1].
        chance: (N,) the same share of all other images, in (0,1]: what neighbours regardless of spectrum would show.
    """

    share: Float[np.ndarray, " N"]
    chance: Float[np.ndarray, " N"]

    @property
    def ratio(self) -> Float[np.ndarray, " N"]:
        """``share / chance``; 0: the spectra are islands, 1: mixed, above 1: the other spectrum is preferred."""
        return np.asarray(self.share / self.chance)


@dataclass(frozen=True)
class Silhouettes:
    """How much closer an image is to its own kind than to the nearest other kind, in [-1,1].

    Attributes:
        identity: (N,) kinds are identities: 1 tight and apart, 0 between two, below 0 nearer to somebody else.
        modality: (N,) kinds are the spectra: 0 mixed, 1 apart.
    """

    identity: Float[np.ndarray, " N"]
    modality: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class CentroidTransfer:
    """Which images the other spectrum's centroids identify correctly.

    Attributes:
        images: (M,) rows of the images judged, those of identities that have both spectra, ascending.
        correct: (M,) identified correctly.
    """

    images: Int[np.ndarray, " M"]
    correct: Bool[np.ndarray, " M"]


def neighbourhood(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    *,
    num_neighbors: int = 10,
) -> Neighbourhood:
    """Share of each image's nearest images (cosine, itself left out) that are of the other spectrum.

    Its own identity's images are among them. Of N images at most N - 1 are neighbours.

    Source: the mixing of batches in the k nearest neighbours, Büttner et al., Nature Methods 2019, as a ratio.

    Raises:
        ValueError: only one spectrum, or no neighbours asked for.
    """
    if num_neighbors < 1:
        raise ValueError(f"num_neighbors is {num_neighbors}, expected at least 1")
    counts = np.bincount(modality, minlength=2)
    if not counts.all():
        raise NotMeasurable(f"modality: {counts.tolist()} images of the two spectra, expected some of both")
    unit = unit_rows(points, "points")  # on the unit sphere the order by distance is that by cosine
    search = NearestNeighbors(n_neighbors=min(num_neighbors, len(unit) - 1), algorithm="brute").fit(unit)
    others = modality[search.kneighbors(return_distance=False)] != modality[:, None]
    return Neighbourhood(others.mean(axis=1), counts[1 - modality] / (len(unit) - 1))


def silhouettes(
    points: Float[np.ndarray, "N D"], person_ids: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> Silhouettes:
    """Silhouettes by identity and by spectrum, with cosine distance; 0 for the only image of its kind.

    Source: Rousseeuw, J. Comput. Appl. Math. 1987.

    Raises:
        ValueError: fewer than two identities or spectra, or as many of them as images.
    """
    return Silhouettes(silhouette(points, person_ids, "person_ids"), silhouette(points, modality, "modality"))


def silhouette(points: Float[np.ndarray, "N D"], kinds: Shaped[np.ndarray, " N"], name: str) -> Float[np.ndarray, " N"]:
    """One of the two `silhouettes`; ``name`` is that of ``kinds`` in the errors."""
    number = len(np.unique(kinds))
    if not 2 <= number < len(points):
        raise NotMeasurable(f"{name} holds {number} kinds of {len(points)} images, expected at least two, and fewer "
                            "than images")  # fmt: skip
    with config_context(working_memory=_CHUNK_MEGABYTES):
        return np.asarray(silhouette_samples(unit_rows(points, "points"), kinds, metric="cosine"))


def centroid_transfer(
    points: Float[np.ndarray, "N D"], person_ids: Int[np.ndarray, " N"], modality: Int[np.ndarray, " N"]
) -> CentroidTransfer:
    """Is an image nearer (cosine) to its identity's centroid in the other spectrum than to any other identity's there?

    Centroids are means of unit rows, of the identities that have both spectra; images of others are left out, and a tie
    does not count as a success. The share of successes is in [0,1]; 1 / identities is chance.

    Source: nearest class mean, Mensink et al., TPAMI 2013, learned in one spectrum and applied in the other.

    Raises:
        ValueError: no identity has both spectra.
    """
    people, used, groups = paired_groups(person_ids, modality)
    unit = unit_rows(points, "points")[used]
    means, _ = group_means(unit, groups)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    centroids = np.divide(means, length, out=np.zeros_like(means), where=length > 0).reshape(len(people), 2, -1)
    correct = np.empty(len(unit), dtype=bool)
    for spectrum in Modality:
        asked = np.flatnonzero(groups % 2 == spectrum)
        cosines = unit[asked] @ centroids[:, spectrum.other].T.astype(unit.dtype)
        rows, own = np.arange(len(asked)), groups[asked] // 2
        mine = cosines[rows, own]
        cosines[rows, own] = -np.inf
        correct[asked] = mine > cosines.max(axis=1)
    return CentroidTransfer(np.flatnonzero(used), correct)
