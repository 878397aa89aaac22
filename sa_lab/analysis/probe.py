"""A classifier that tries to tell the two spectra apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import RidgeClassifier

from sa_lab.analysis.points import NotMeasurable, as_points, group_means, paired_groups
from sa_lab.schema import Modality


@dataclass(frozen=True)
class ProbeResult:
    """What the modality probe guessed.

    Attributes:
        accuracy: mean of the two spectra's shares of right guesses, in [0,1]; 0.5 is chance; slightly less is possible.
        correct: (N,) right or wrong, each image judged by a probe that saw nothing of its identity.
        person_ids: (I,) the identities that have both spectra, ascending.
        per_identity: (I,) their accuracy: mean of the shares in the identity's two spectra, in [0,1].
    """

    accuracy: float
    correct: Bool[np.ndarray, " N"]
    person_ids: Int[np.ndarray, " I"]
    per_identity: Float[np.ndarray, " I"]


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
        ValueError: fewer identities than folds, or a training fold that lacks one spectrum.
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
            raise NotMeasurable(f"modality: without fold {held_out} only one spectrum is left, expected both")
        centre = seen.mean(axis=0)
        length = np.sqrt(np.square(seen - centre).sum(axis=1).mean()) or 1.0
        probe = RidgeClassifier(alpha=ridge, class_weight="balanced").fit((seen - centre) / length, modality[~test])
        correct[test] = probe.predict((points[test] - centre) / length) == modality[test]
    accuracy = float(np.mean([correct[modality == m].mean() for m in Modality]))
    return ProbeResult(accuracy, correct, *_per_identity(correct, person_ids, modality))


def _per_identity(correct: np.ndarray, person_ids: np.ndarray, modality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        people, used, groups = paired_groups(person_ids, modality)
    except NotMeasurable:
        return person_ids[:0], np.empty(0)
    shares, _ = group_means(correct[used, None].astype(float), groups)
    return people, shares.reshape(-1, 2).mean(axis=1)
