"""Exercises of chapter 04, prototype overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from sa_lab import analysis
from sa_lab.course.exercises.cases import some_people
from sa_lab.course.exercises.checking import Function, check_cases, exercise


@exercise("04.1")
def check_prototype_alignment(function: Function) -> str:
    """Check f(prototypes (P,2C,D)) -> (P,C), the cosine of the two prototypes of each identity."""
    generator = np.random.default_rng(7)
    cases = [{"prototypes": generator.normal(size=shape)} for shape in ((2, 8, 5), (3, 6, 3), (1, 10, 4))]

    def halves(prototypes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        visible, infrared = np.split(prototypes, 2, axis=1)
        return visible, infrared

    def interleaved(prototypes: np.ndarray) -> np.ndarray:
        return np.concatenate([prototypes[:, 0::2], prototypes[:, 1::2]], axis=1)

    def product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray((first * second).sum(2))

    check_cases(
        function,
        cases,
        analysis.prototype_alignment,
        "(P,C), one cosine a part and identity",
        {
            "These are dot products: divide by the lengths of both prototypes.": lambda w: product(*halves(w)),
            "Neighbouring rows were paired (0 with 1, 2 with 3): the pair of row c is row c + C.": (
                lambda w: analysis.prototype_alignment(interleaved(w))
            ),
            "This is the distance 1 - cos: the cosine itself is asked.": lambda w: 1 - analysis.prototype_alignment(w),
            "The parts were averaged: keep their axis.": lambda w: analysis.prototype_alignment(w).mean(0),
            "The axes are in the order (C,P): swap them.": lambda w: analysis.prototype_alignment(w).T,
            "These are Euclidean distances: the cosine is asked.": (
                lambda w: np.linalg.norm(halves(w)[0] - halves(w)[1], axis=2)
            ),
            "Every visible prototype was compared with every infrared one: only pairs of one identity are asked.": (
                lambda w: np.einsum("pcd,pkd->pck", *halves(w / np.linalg.norm(w, axis=2, keepdims=True)))
            ),
            "Lengths were taken along the identities: take them along the channels, the last axis.": (
                lambda w: product(*(half / np.linalg.norm(half, axis=1, keepdims=True) for half in halves(w)))
            ),
        },
    )
    return "right. 1 means that the two spectra of an identity share one prototype direction."


@exercise("04.2")
def check_modality_gap(function: Function) -> str:
    """Check f(points (N,D), person_ids (N,), modality (N,), person) -> float, the person's stranger ratio."""
    cases: list[dict[str, Any]] = []
    for seed, (identities, channels) in enumerate(((4, 3), (6, 5), (3, 2))):
        known = some_people(seed, identities, 2, 5)
        generator = np.random.default_rng(seed + 30)
        centres = generator.normal(size=(2, 101, channels))
        points = 3 * centres[known["modality"], known["person_ids"]] + generator.normal(
            size=(len(known["modality"]), channels)
        )
        cases += [{"points": points, **known, "person": int(person)} for person in np.unique(known["person_ids"])[:2]]

    def ratio(points: np.ndarray, person_ids: np.ndarray, modality: np.ndarray, person: int) -> float:
        gap = analysis.modality_gap(points, person_ids, modality)
        return float(gap.stranger_ratio[gap.person_ids == person][0])

    def distances(x: np.ndarray, ids: np.ndarray, m: np.ndarray, person: int, *, across: bool = True) -> np.ndarray:
        """Own distance, then (2, others): from the person's centroid of each spectrum to strangers' centroids."""
        centres = {(i, s): x[(ids == i) & (m == s)].mean(0) for i in np.unique(ids) for s in (0, 1)}
        own = np.linalg.norm(centres[person, 0] - centres[person, 1])
        rows = [
            [
                np.linalg.norm(centres[person, s] - centres[i, 1 - s if across else s])
                for i in np.unique(ids)
                if i != person
            ]
            for s in (0, 1)
        ]
        return np.array([[own, *row] for row in rows])

    def over(x: np.ndarray, ids: np.ndarray, m: np.ndarray, person: int, *, spectra: list[int]) -> float:
        table = distances(x, ids, m, person)
        return float(table[0, 0] / table[spectra, 1:].mean())

    def same_spectrum(*arguments: Any) -> float:
        table = distances(*arguments, across=False)
        return float(table[0, 0] / table[:, 1:].mean())

    def with_self(*arguments: Any) -> float:
        table = distances(*arguments)
        return float(table[0, 0] / table.mean())

    def images(x: np.ndarray, ids: np.ndarray, m: np.ndarray, person: int) -> float:
        """With the mean distance of pairs of images in place of the distance of centroids."""
        table = np.linalg.norm(x[m == 0, None] - x[None, m == 1], axis=2)
        one, two = ids[m == 0] == person, ids[m == 1] == person
        strangers = [table[one][:, ids[m == 1] == i].mean() for i in np.unique(ids) if i != person]
        strangers += [table[ids[m == 0] == i][:, two].mean() for i in np.unique(ids) if i != person]
        return float(table[one][:, two].mean() / np.mean(strangers))

    check_cases(
        function,
        cases,
        ratio,
        "the ratio of two distances",
        {
            "This is the distance of the two centroids alone: divide it by the mean distance to strangers.": (
                lambda *a: distances(*a)[0, 0]
            ),
            "The ratio is upside down: own distance over distance to strangers.": lambda *a: 1 / ratio(*a),
            "Strangers were looked for in the same spectrum: they are asked in the other one.": same_spectrum,
            "Only the person's visible centroid was compared with strangers: add the infrared one against visible "
            "strangers, and average over both.": lambda *a: over(*a, spectra=[0]),
            "Only the person's infrared centroid was compared with strangers: add the visible one against infrared "
            "strangers, and average over both.": lambda *a: over(*a, spectra=[1]),
            "The person is among the strangers: leave the person out of their mean.": with_self,
            "Distances were averaged over images: average the images to centroids first.": images,
            "The gap is divided by the spread within in your answer: divide by the distance to strangers.": (
                lambda x, ids, m, person: float(analysis.modality_gap(x, ids, m).gap[np.unique(ids) == person][0])
            ),
        },
    )
    return "right. 0: the person's spectra coincide; 1: the person is as far from themselves as from a stranger."


@exercise("04.3")
def check_overlap(function: Function) -> str:
    """Check f(first (A,), second (B,), edges (bins + 1,)) -> float in [0,1], the area two histograms share."""
    cases: list[dict[str, Any]] = []
    for seed, (count_first, count_second, bins) in enumerate(((60, 90, 8), (200, 50, 12), (40, 40, 5))):
        generator = np.random.default_rng(seed)
        first, second = generator.normal(0, 1, count_first), generator.normal(1.2, 1.5, count_second)
        both = np.concatenate([first, second])
        cases.append({"first": first, "second": second, "edges": np.linspace(both.min(), both.max(), bins + 1)})

    def shares(first: np.ndarray, second: np.ndarray, edges: np.ndarray, *, density: bool = False) -> tuple[Any, Any]:
        counts = [np.histogram(values, bins=edges, density=density)[0] for values in (first, second)]
        if density:
            return counts[0], counts[1]
        return counts[0] / len(first), counts[1] / len(second)

    def counted(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> tuple[Any, Any]:
        return np.histogram(first, bins=edges)[0], np.histogram(second, bins=edges)[0]

    check_cases(
        function,
        cases,
        lambda first, second, edges: analysis.overlap_coefficient(first, second, num_bins=len(edges) - 1),
        "one number in [0,1]",
        {
            "Counts were compared: divide each histogram by its own number of values first.": (
                lambda *a: np.minimum(*counted(*a)).sum()
            ),
            "Counts were compared and divided by all values: divide each histogram by its own number first.": (
                lambda *a: np.minimum(*counted(*a)).sum() / (len(a[0]) + len(a[1]))
            ),
            "Counts were compared and divided by the smaller set: divide each histogram by its own number of values "
            "first.": lambda *a: np.minimum(*counted(*a)).sum() / min(len(a[0]), len(a[1])),
            "The larger share of each bin was added up: the smaller one is what both have.": (
                lambda *a: np.maximum(*shares(*a)).sum()
            ),
            "These are densities: multiply by the width of the bins, or use shares of the values.": (
                lambda *a: np.minimum(*shares(*a, density=True)).sum()
            ),
            "This is what the two do not share, 1 - overlap.": lambda *a: 1 - np.minimum(*shares(*a)).sum(),
            "The shares were averaged over the bins: add them up.": lambda *a: np.minimum(*shares(*a)).mean(),
            "The bins were not added up.": lambda *a: np.minimum(*shares(*a)),
            "Shares were multiplied: the smaller of the two is asked.": lambda *a: np.multiply(*shares(*a)).sum(),
            "This is the difference of the histograms, not what they share.": (
                lambda *a: np.abs(np.subtract(*shares(*a))).sum()
            ),
        },
    )
    return "right. 1 where the two distributions are the same, 0 where no bin holds values of both."
