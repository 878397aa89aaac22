"""All measures of one set of points, each with its interval over identities."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from sa_lab.analysis.definitions import DEFINITIONS
from sa_lab.analysis.discrepancy import weighted_mmd
from sa_lab.analysis.gap import modality_gap, weighted_global_gap
from sa_lab.analysis.neighbours import centroid_transfer, neighbourhood, silhouette
from sa_lab.analysis.pairs import (
    KINDS,
    PairSimilarities,
    alignment,
    mean_distance,
    mean_potential,
    overlap_coefficient,
    pair_similarities,
    ranking_area,
)  # fmt: skip
from sa_lab.analysis.points import NotMeasurable, as_points, unit_rows
from sa_lab.analysis.probe import modality_probe
from sa_lab.analysis.prototypes import PrototypeSimilarities, prototype_alignment, prototype_similarities
from sa_lab.intervals import Interval, bootstrap_interval, bootstrap_statistic
from sa_lab.schema import Modality


def measure_overlap(
    points: Float[np.ndarray, "N D"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    prototypes: Float[np.ndarray, "C2 K"] | None = None,
    prototype_ids: Int[np.ndarray, " C"] | None = None,
    only: Collection[str] = tuple(DEFINITIONS),
    num_samples: int = 200,
    watch: Callable[[str], object] | None = None,
) -> dict[str, Interval]:
    """The measures of `DEFINITIONS`, in that order, each with its 95 % bootstrap interval over identities.

    A measure that the images do not allow is left out; with fewer than two identities, all are. Each has its own random
    numbers, so none changes when others are left out.

    Args:
        points: (N,D), reduced beforehand where they are many (`reduce`).
        person_ids: (N,).
        modality: (N,).
        generator: draws pairs, folds, and identities.
        prototypes: (2C,K), the visible half first (`whole_prototypes`); in the space of the points (K is D) if images
            are compared with them.
        prototype_ids: (C,) their persons; images are compared with prototypes only if everybody is among them.
        only: names in `DEFINITIONS`.
        num_samples: bootstrap draws for statistics that are not means.
        watch: called with each measure's name before it is computed.

    Raises:
        ValueError: NaN, infinity or rows of zeros in ``points``, lengths that differ, or an unknown measure.
    """
    if not DEFINITIONS.keys() >= set(only):
        raise ValueError(f"only holds {sorted(set(only) - DEFINITIONS.keys())}, expected names of analysis.DEFINITIONS")
    if not len(points) == len(person_ids) == len(modality):
        raise ValueError(f"points, person_ids and modality have {len(points)}, {len(person_ids)} and {len(modality)} "
                         "rows, expected as many of each")  # fmt: skip
    points, unit = as_points(points, "points"), unit_rows(points, "points")
    people, codes = np.unique(person_ids, return_inverse=True)
    if len(people) < 2:
        return {}
    similarities = None
    if prototypes is not None and prototype_ids is not None and np.isin(people, prototype_ids).all():
        similarities = prototype_similarities(unit, person_ids, modality, prototypes, prototype_ids)
    first, *generators = generator.spawn(1 + len(DEFINITIONS))
    images = _Images(points, unit, codes, modality, first, prototypes, similarities, num_samples)
    impossible = _OF_PROTOTYPES if prototypes is None else _OF_SIMILARITIES if similarities is None else ()
    found = {}
    for (name, measure), rng in zip(_MEASURES.items(), generators, strict=True):
        if name not in only or name in impossible:
            continue
        if watch:
            watch(name)
        with suppress(NotMeasurable):
            found[name] = measure(images, rng)
    return found


@dataclass(frozen=True)
class _Images:
    """What the measures read; the persons' ``codes`` are 0..I-1, in the pairs too."""

    points: np.ndarray
    unit: np.ndarray
    codes: np.ndarray
    modality: np.ndarray
    pair_generator: np.random.Generator
    prototypes: np.ndarray | None
    similarities: PrototypeSimilarities | None
    num_samples: int

    @property
    def count(self) -> int:
        return int(self.codes.max()) + 1

    @cached_property
    def pairs(self) -> PairSimilarities:
        return pair_similarities(self.unit, self.codes, self.modality, self.pair_generator)

    def interval(
        self,
        statistic: Callable[[np.ndarray], float],
        num_groups: int,
        rng: np.random.Generator,
        limits: tuple[float, float],
    ) -> Interval:
        def value(weights: np.ndarray) -> float:
            try:
                return statistic(weights)
            except NotMeasurable:  # these identities alone
                return np.nan

        if num_groups < 2 or not np.isfinite(value(np.ones(num_groups))):
            raise NotMeasurable("points: no finite value, or only one identity")
        return bootstrap_statistic(value, num_groups, rng, num_samples=self.num_samples, limits=limits)


_Measure = Callable[[_Images, np.random.Generator], Interval]


def _mean(values: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> Interval:
    if len(np.unique(groups)) < 2 or not np.isfinite(values).all():
        raise NotMeasurable("points: a value that is not finite, or only one identity")
    return bootstrap_interval(values, groups, rng)


def _gap(name: str) -> _Measure:
    def measure(images: _Images, rng: np.random.Generator) -> Interval:
        gap = modality_gap(images.points, images.codes, images.modality)
        return _mean(getattr(gap, name), gap.person_ids, rng)

    return measure


def _alignment(images: _Images, rng: np.random.Generator) -> Interval:
    aligned = alignment(images.unit, images.codes, images.modality)
    return _mean(aligned.distance, aligned.person_ids, rng)


def _neighbour_ratio(images: _Images, rng: np.random.Generator) -> Interval:
    return _mean(neighbourhood(images.unit, images.codes, images.modality).ratio, images.codes, rng)


def _silhouette(name: str) -> _Measure:
    return lambda images, rng: _mean(silhouette(images.unit, getattr(images, name), name), images.codes, rng)


def _centroid_transfer(images: _Images, rng: np.random.Generator) -> Interval:
    transfer = centroid_transfer(images.unit, images.codes, images.modality)
    return _mean(transfer.correct, images.codes[transfer.images], rng)


def _global_gap(images: _Images, rng: np.random.Generator) -> Interval:
    statistic = weighted_global_gap(images.points, images.codes, images.modality)
    return images.interval(statistic, images.count, rng, (0.0, np.inf))


def _probe(images: _Images, rng: np.random.Generator) -> Interval:
    found = modality_probe(images.points, images.codes, images.modality, rng, num_folds=min(5, images.count))
    spectra = np.stack([images.modality == m for m in Modality])
    hits, sizes = (  # (2,I)
        np.stack([np.bincount(images.codes, rows, images.count) for rows in of])
        for of in (spectra & found.correct, spectra)
    )

    def statistic(weights: np.ndarray) -> float:
        total = sizes @ weights
        return float(np.mean(hits @ weights / total)) if total.all() else np.nan

    return images.interval(statistic, images.count, rng, (0.0, 1.0))


def _mmd(images: _Images, rng: np.random.Generator) -> Interval:
    return images.interval(*weighted_mmd(images.unit, images.codes, images.modality, rng), rng, (-2.0, 2.0))


def _pairs(statistic: Callable[..., float], first: str, second: str, limits: tuple[float, float]) -> _Measure:
    """Pairs of one person count as often as he is drawn, pairs of two as often as the product says."""

    def measure(images: _Images, rng: np.random.Generator) -> Interval:
        values, people = [], []
        for kind in (first, second):
            order = np.argsort(getattr(images.pairs, kind))  # sorted once, every draw is faster
            values.append(getattr(images.pairs, kind)[order])
            people.append(images.pairs.people[kind][order].T)

        def weighted(weights: np.ndarray) -> float:
            counts = tuple(weights[a] * np.where(a == b, 1, weights[b]) for a, b in people)
            return statistic(*values, weights=counts)

        return images.interval(weighted, images.count, rng, limits)

    return measure


def _prototype(name: str) -> _Measure:
    return lambda images, rng: _mean(getattr(images.similarities, name), images.codes, rng)


def _prototype_alignment(images: _Images, rng: np.random.Generator) -> Interval:
    assert images.prototypes is not None
    cosines = prototype_alignment(images.prototypes[None])[0]
    return _mean(cosines, np.arange(len(cosines)), rng)


_OWN, _STRANGERS_WITHIN, _STRANGERS = KINDS[1:]
_MEASURES: dict[str, _Measure] = {
    "stranger_ratio": _gap("stranger_ratio"),
    "modality_gap": _gap("gap"),
    "global_gap": _global_gap,
    "modality_probe": _probe,
    "mmd": _mmd,
    "neighbour_ratio": _neighbour_ratio,
    "silhouette_identity": _silhouette("codes"),
    "silhouette_modality": _silhouette("modality"),
    "pair_overlap": _pairs(overlap_coefficient, _OWN, _STRANGERS, (0.0, 1.0)),
    "pair_auc": _pairs(ranking_area, _OWN, _STRANGERS, (0.0, 1.0)),
    "pair_d_prime": _pairs(mean_distance, _OWN, _STRANGERS, (-np.inf, np.inf)),
    "alignment": _alignment,
    "uniformity": _pairs(mean_potential, _STRANGERS_WITHIN, _STRANGERS, (-8.0, 0.0)),
    "centroid_transfer": _centroid_transfer,
    "prototype_alignment": _prototype_alignment,
    "own_similarity": _prototype("own"),
    "cross_similarity": _prototype("cross"),
    "other_similarity": _prototype("other"),
    "cross_margin": _prototype("cross_margin"),
}
_OF_SIMILARITIES = ("own_similarity", "cross_similarity", "other_similarity", "cross_margin")
_OF_PROTOTYPES = ("prototype_alignment", *_OF_SIMILARITIES)
