"""How far apart the two spectra lie: centroids, prototypes, and a classifier that tries to tell them apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import cdist
from sklearn.linear_model import RidgeClassifier

from sa_lab.analysis.points import as_points, unit_rows
from sa_lab.schema import Modality


@dataclass(frozen=True)
class ModalityGap:
    """How far apart an identity's two spectra lie, one entry an identity that has both.

    Attributes:
        person_ids: (I,) ascending.
        gap: (I,) distance of the visible and the infrared centroid, divided by the spread within, in [0,inf). 1 means
            one standard deviation apart. It is large also where the spread is small, infinite where there is none, and
            NaN where everything is at one point.
        floor: (I,) what two spectra drawn from one distribution would show (root mean square), given how many images
            the centroids are averaged over; a gap at its floor is no gap.
        stranger_ratio: (I,) the same distance, divided by the mean distance to the other persons' centroids in the
            other spectrum: 0 the spectra coincide, 1 the own person is as far away as a stranger. NaN for one identity.
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
    people = np.intersect1d(person_ids[modality == Modality.VISIBLE], person_ids[modality == Modality.INFRARED])
    if len(people) == 0:
        raise ValueError("person_ids and modality: no identity has images of both spectra, expected at least one")
    used = np.isin(person_ids, people)
    points, groups = points[used], 2 * np.searchsorted(people, person_ids[used]) + modality[used]
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    centroids = np.add.reduceat(points[order], starts, axis=0, dtype=np.float64) / counts[:, None]
    freedom = int((counts - 1).sum())
    squares = float(np.square(points - centroids[groups]).sum())
    if freedom == 0:
        raise ValueError("points: no spread within identity and spectrum, expected some that have two different images")
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

    Range [0,inf). Meaningful where both spectra show the same identities about equally often.
    """
    return float(modality_gap(points, np.zeros_like(modality), modality).gap[0])


def prototype_alignment(prototypes: Float[np.ndarray, "P C2 D"]) -> Float[np.ndarray, "P C"]:
    """Cosine of the visible and the infrared prototype of each identity, in [-1,1]; 1 is what the loss aims at.

    Args:
        prototypes: (P,2C,D), the visible half first.

    Returns:
        (P,C); identity labels in order.
    """
    parts, rows, channels = prototypes.shape
    if rows % 2:
        raise ValueError(f"prototypes has shape {prototypes.shape}, expected an even number of rows (P,2C,D)")
    unit = unit_rows(prototypes.reshape(-1, channels), "prototypes").reshape(parts, 2, rows // 2, channels)
    return np.asarray((unit[:, 0] * unit[:, 1]).sum(axis=-1, dtype=np.float64)).clip(-1, 1)


def whole_prototypes(prototypes: Float[np.ndarray, "P C2 D"]) -> Float[np.ndarray, "C2 PD"]:
    """One unit vector a prototype, comparable with a whole descriptor: parts made unit length and concatenated."""
    parts, rows, channels = prototypes.shape
    unit = unit_rows(prototypes.reshape(-1, channels), "prototypes").reshape(parts, rows, channels)
    return unit.transpose(1, 0, 2).reshape(rows, parts * channels) / np.asarray(parts, unit.dtype) ** 0.5


@dataclass(frozen=True)
class ProbeResult:
    """What the modality probe guessed.

    Attributes:
        accuracy: mean of the two spectra's shares of right guesses, in [0,1]; 0.5 is chance, somewhat less can happen.
        correct: (N,) right or wrong, each image judged by a probe that saw nothing of its identity.
    """

    accuracy: float
    correct: Bool[np.ndarray, " N"]


def modality_probe(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    num_folds: int = 5,
    ridge: float = 1.0,
) -> ProbeResult:
    """Can a linear classifier tell the spectrum of unseen identities? 0.5: indistinguishable, 1: apart.

    Ridge classifier with balanced classes, cross-validated with whole identities left out; within each fold the
    points are centred and divided by their root mean square length, so ``ridge`` means the same at every scale.

    Source: linear probes of Alain and Bengio, 2016, arXiv:1610.01644; as a domain measure, Ben-David et al., 2010.

    Raises:
        ValueError: fewer identities than folds, or a fold to learn from that lacks one spectrum.
    """
    points = as_points(points, "points")
    people = np.unique(person_ids)
    if not 2 <= num_folds <= len(people):
        raise ValueError(f"num_folds is {num_folds}, expected 2..{len(people)}, the number of identities")
    fold = (generator.permutation(len(people)) % num_folds)[np.searchsorted(people, person_ids)]
    correct = np.zeros(len(points), dtype=bool)
    for held_out in range(num_folds):
        test, seen = fold == held_out, points[fold != held_out]
        if len(np.unique(modality[~test])) < 2:
            raise ValueError(f"modality: without fold {held_out} only one spectrum is left, expected both")
        centre = seen.mean(axis=0)
        length = np.sqrt(np.square(seen - centre).sum(axis=1).mean()) or 1.0
        probe = RidgeClassifier(alpha=ridge, class_weight="balanced").fit((seen - centre) / length, modality[~test])
        correct[test] = probe.predict((points[test] - centre) / length) == modality[test]
    return ProbeResult(float(np.mean([correct[modality == m].mean() for m in Modality])), correct)
