"""Measures and pictures of one set of descriptors (`sa_lab.schema.Embeddings`), anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from tqdm.auto import tqdm

from sa_lab.analysis.definitions import DEFINITIONS
from sa_lab.analysis.overlap import measure_overlap
from sa_lab.analysis.points import reduce
from sa_lab.analysis.projection import Projection, project
from sa_lab.analysis.prototypes import whole_prototypes
from sa_lab.intervals import Interval
from sa_lab.schema import Embeddings

OF_ALL_PAIRS = ("modality_probe", "neighbour_ratio", "silhouette_identity", "silhouette_modality")
"""Measures that fit a classifier to all images, or compare each with all others: too slow for many in full."""
QUICK = ("stranger_ratio", "modality_probe", "prototype_alignment")
"""Measures for tables and live curves: gap, probe and prototypes, each of another kind."""


def measure_embeddings(
    embeddings: Embeddings,
    *,
    part: int | None = None,
    only: Sequence[str] = tuple(DEFINITIONS),
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Interval]:
    """The measures of `sa_lab.analysis.measure_overlap` on embeddings after the neck; those that they do not allow are
    left out.

    With more than 3,000 images, the measures in `OF_ALL_PAIRS` are computed in fewer dimensions
    (`sa_lab.analysis.reduce`). What is left out is mostly noise, so images seem closer to their kind than they are:
    compare such numbers only with each other.

    Args:
        embeddings: anybody's.
        part: one horizontal part 0..P-1; None: the whole descriptor, with each prototype's parts made unit length.
        only: names in `sa_lab.analysis.DEFINITIONS`.
        seed: of pairs, folds and bootstrap.
        progress: show a bar.
    """
    points, prototypes = rows_of(embeddings, part)
    count, known = len(points), embeddings.prototype_ids
    compared = known is not None and np.isin(embeddings.person_ids, known).all()
    thin = reduce(np.concatenate([points, prototypes]) if compared else points, np.random.default_rng(seed))
    with tqdm(desc="overlap", unit="measure", disable=not progress) as bar:

        def watch(measure: str) -> None:
            bar.update()
            bar.set_postfix_str(measure)

        def measured(rows: np.ndarray, marks: np.ndarray, keys: Sequence[str]) -> dict[str, Interval]:
            return measure_overlap(
                rows, embeddings.person_ids, embeddings.modality, np.random.default_rng(seed), only=keys, watch=watch,
                prototypes=marks if len(marks) else None, prototype_ids=known,
            )  # fmt: skip

        if thin.kept_share == 1:  # the same in every dot product
            return measured(thin.points[:count], thin.points[count:] if compared else prototypes, only)
        found = measured(points, prototypes, [key for key in only if key not in OF_ALL_PAIRS])
        found |= measured(thin.points[:count], prototypes[:0], [key for key in only if key in OF_ALL_PAIRS])
    return {key: found[key] for key in DEFINITIONS if key in found}


@dataclass(frozen=True)
class Picture:
    """Some images drawn with the prototypes of their persons.

    Attributes:
        embeddings: of the drawn images, with the prototypes of their persons alone.
        projection: where images and prototypes lie.
    """

    embeddings: Embeddings
    projection: Projection


def picture(embeddings: Embeddings, people: int = 8, seed: int = 0, **dials: Any) -> Picture:
    """The first ``people`` persons with their prototypes, if any; ``dials``: see `sa_lab.analysis.project`."""
    some = some_people(embeddings, np.unique(embeddings.person_ids)[:people])
    points, prototypes = rows_of(some)
    known = prototypes if len(prototypes) else None
    return Picture(some, project(points, np.random.default_rng(seed), prototypes=known, **dials))


def of_people(probe: Embeddings, people: str) -> Embeddings:
    """The images of a probe that show "training" identities, with prototypes, or "unseen" ones, without."""
    ids = np.unique(probe.person_ids)
    known = np.array([]) if probe.prototype_ids is None else probe.prototype_ids
    return some_people(probe, ids[np.isin(ids, known) == (people == "training")])


def some_people(embeddings: Embeddings, ids: Int[np.ndarray, " I"]) -> Embeddings:
    """Images of some persons with only their prototypes, or with none if one of them has none."""
    some = embeddings.subset(np.isin(embeddings.person_ids, ids))
    known, prototypes = embeddings.prototype_ids, embeddings.prototypes
    if known is None or prototypes is None or not np.isin(ids, known).all():
        return replace(some, prototypes=None, prototype_ids=None)
    rows = np.flatnonzero(np.isin(known, ids))
    return replace(some, prototypes=prototypes[:, [*rows, *(rows + len(known))]], prototype_ids=known[rows])


def rows_of(embeddings: Embeddings, part: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Descriptors (N,D) and prototypes (2C,D) of one part, or of all as one; without prototypes (0,D)."""
    chosen = slice(None) if part is None else slice(part, part + 1)
    values = embeddings.embeddings[:, chosen]
    points = values.reshape(len(values), -1)
    if embeddings.prototypes is None:
        return points, points[:0]
    return points, whole_prototypes(embeddings.prototypes[chosen]).astype(points.dtype)
