"""How the two spectra's prototypes lie relative to each other, and the images relative to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sa_lab.analysis.points import unit_rows


@dataclass(frozen=True)
class PrototypeSimilarities:
    """Cosines, in [-1,1], of each image with prototypes.

    Attributes:
        own: (N,) with the prototype of its identity in its spectrum.
        cross: (N,) with the prototype of its identity in the other spectrum.
        other: (N,) with the most similar prototype of any other identity, in either spectrum; NaN for one identity.
    """

    own: Float[np.ndarray, " N"]
    cross: Float[np.ndarray, " N"]
    other: Float[np.ndarray, " N"]

    @property
    def own_margin(self) -> Float[np.ndarray, " N"]:
        """``own - other``, in [-2,2]; above 0 the prototypes of its own spectrum name the identity."""
        return np.asarray(self.own - self.other)

    @property
    def cross_margin(self) -> Float[np.ndarray, " N"]:
        """``cross - other``, in [-2,2]; above 0 the other spectrum's prototype alone would name the identity."""
        return np.asarray(self.cross - self.other)


def prototype_alignment(prototypes: Float[np.ndarray, "P C2 D"]) -> Float[np.ndarray, "P C"]:
    """Cosine of the visible and the infrared prototype of each identity, in [-1,1]; 1: they coincide, which no term
    of the loss asks for.

    Args:
        prototypes: (P,2C,D), the visible half first.

    Returns:
        (P,C); identity labels in order.
    """
    parts, _, channels = prototypes.shape
    count = _identities(prototypes.shape, "(P,2C,D)")
    unit = unit_rows(prototypes.reshape(-1, channels), "prototypes").reshape(parts, 2, count, channels)
    return np.asarray((unit[:, 0] * unit[:, 1]).sum(axis=-1, dtype=np.float64)).clip(-1, 1)


def whole_prototypes(prototypes: Float[np.ndarray, "P C2 D"]) -> Float[np.ndarray, "C2 PD"]:
    """One unit vector per prototype, comparable with a whole descriptor: parts made unit length and concatenated."""
    parts, rows, channels = prototypes.shape
    unit = unit_rows(prototypes.reshape(-1, channels), "prototypes").reshape(parts, rows, channels)
    return unit.transpose(1, 0, 2).reshape(rows, parts * channels) / np.asarray(parts, unit.dtype) ** 0.5


def prototype_cosines(prototypes: Float[np.ndarray, "P C2 D"]) -> Float[np.ndarray, "C2 C2"]:
    """Cosines of all prototypes with each other, in [-1,1], averaged over the parts.

    Returns:
        (2C,2C), in the order of the prototypes.
    """
    _identities(prototypes.shape, "(P,2C,D)")
    whole = whole_prototypes(prototypes)
    return np.asarray(whole @ whole.T).clip(-1, 1)


def prototype_similarities(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    prototypes: Float[np.ndarray, "C2 D"],
    prototype_ids: Int[np.ndarray, " C"],
) -> PrototypeSimilarities:
    """Cosines of images with their own, their cross-spectrum and the hardest foreign prototype.

    Args:
        points: (N,D), in the space of the prototypes.
        person_ids: (N,).
        modality: (N,).
        prototypes: (2C,D), the visible half first, as of `whole_prototypes`.
        prototype_ids: (C,) the person of each identity label, in any order.

    Raises:
        ValueError: a person without prototypes, a person twice, or shapes that do not fit.
    """
    count = _identities(prototypes.shape, "(2C,D)")
    order = np.argsort(prototype_ids)
    if len(prototype_ids) != count or len(np.unique(prototype_ids)) != count:
        raise ValueError(f"prototype_ids holds {len(prototype_ids)} entries, {len(np.unique(prototype_ids))} of them "
                         f"different, expected {count} different ones")  # fmt: skip
    strangers = np.setdiff1d(person_ids, prototype_ids)
    if len(strangers):
        raise ValueError(f"person_ids holds {strangers[:5].tolist()}, expected only persons among prototype_ids")
    if prototypes.shape[1] != points.shape[1]:
        raise ValueError(f"prototypes has {prototypes.shape[1]} columns, expected {points.shape[1]} as points has")
    cosines = (unit_rows(points, "points") @ unit_rows(prototypes, "prototypes").T).clip(-1, 1).reshape(-1, 2, count)
    rows, label = np.arange(len(points)), order[np.searchsorted(prototype_ids, person_ids, sorter=order)]
    own, cross = cosines[rows, modality, label], cosines[rows, 1 - modality, label]
    cosines[rows, :, label] = -np.inf
    other = cosines.max(axis=(1, 2)) if count > 1 else np.full_like(own, np.nan)
    return PrototypeSimilarities(own, cross, other)


def _identities(shape: tuple[int, ...], expected: str) -> int:
    if shape[-2] % 2:
        raise ValueError(f"prototypes has shape {shape}, expected an even number of rows {expected}")
    return shape[-2] // 2
