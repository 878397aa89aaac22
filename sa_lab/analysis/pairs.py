"""Similarities of pairs of images, by kind of pair, and how much two distributions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sa_lab.analysis.points import unit_rows

_PAIRS_ENUMERATED = 2_000_000  # up to here pairs of different persons are listed in full, beyond they are drawn


@dataclass(frozen=True)
class PairSimilarities:
    """Cosine similarities, in [-1,1], of the four kinds of pairs of two different images."""

    same_identity_same_spectrum: Float[np.ndarray, " A"]
    same_identity_other_spectrum: Float[np.ndarray, " B"]
    other_identity_same_spectrum: Float[np.ndarray, " C"]
    other_identity_other_spectrum: Float[np.ndarray, " D"]


def pair_similarities(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    max_pairs: int = 20_000,
) -> PairSimilarities:
    """Cosine similarities by kind of pair, at most ``max_pairs`` of each, drawn without preference.

    A kind that does not occur gives an empty array. Above about 2000 images, pairs of different persons are drawn
    with replacement from all pairs; below, and for pairs of one person always, without.
    """
    if max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}, expected at least 1")
    unit = unit_rows(points, "points")
    own = _pairs_of_one_person(person_ids)
    others = _pairs_of_two_persons(person_ids, generator, 8 * max_pairs)
    kinds = []
    for pairs in (own, others):
        same_spectrum = modality[pairs[:, 0]] == modality[pairs[:, 1]]
        for wanted in (True, False):
            chosen = pairs[same_spectrum == wanted]
            if len(chosen) > max_pairs:
                chosen = chosen[generator.choice(len(chosen), max_pairs, replace=False)]
            cosines = [np.einsum("nd,nd->n", unit[c[:, 0]], unit[c[:, 1]]) for c in _chunks(chosen, 1024)]
            kinds.append(np.concatenate([np.empty(0), *cosines]).clip(-1, 1))
    return PairSimilarities(*kinds)


def overlap_coefficient(
    first: Float[np.ndarray, " A"], second: Float[np.ndarray, " B"], *, num_bins: int = 50
) -> float:
    """The area that two distributions share, in [0,1]: 1 the same, 0 disjoint.

    Both are binned over their common range; with few values (below about ten a bin) the result is too low.

    Source: Weitzman 1970; Inman and Bradley, "The overlapping coefficient", 1989.
    """
    if min(len(first), len(second)) == 0 or num_bins < 1:
        raise ValueError(
            f"first, second, num_bins: {len(first)}, {len(second)} values, {num_bins} bins, expected at least 1 each"
        )
    low, high = min(first.min(), second.min()), max(first.max(), second.max())
    if low == high:
        return 1.0
    shares = [np.histogram(values, bins=num_bins, range=(low, high))[0] / len(values) for values in (first, second)]
    return float(np.minimum(*shares).sum())


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
