"""Exercises of chapter 04, prototype overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from sa_lab import analysis
from sa_lab.course.exercises.cases import some_people
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases


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

    def unit(rows: np.ndarray, axis: int = 2) -> np.ndarray:
        return np.asarray(rows / np.linalg.norm(rows, axis=axis, keepdims=True))

    check_cases(
        function,
        cases,
        analysis.prototype_alignment,
        "(P,C), one cosine per part and identity",
        {
            "These are dot products: divide by the lengths of both prototypes.": lambda w: product(*halves(w)),
            "Only the visible prototypes were divided by their lengths: divide the infrared ones as well.": (
                lambda w: product(unit(halves(w)[0]), halves(w)[1])
            ),
            "Only the infrared prototypes were divided by their lengths: divide the visible ones as well.": (
                lambda w: product(halves(w)[0], unit(halves(w)[1]))
            ),
            "Neighbouring rows were paired (0 with 1, 2 with 3): pair row c with row c + C.": (
                lambda w: analysis.prototype_alignment(interleaved(w))
            ),
            "Row c was paired with row c + 1: pair it with row c + C.": (
                lambda w: product(unit(w), np.roll(unit(w), -1, axis=1))[:, : w.shape[1] // 2]
            ),
            "The infrared half was read from its end: pair row c with row c + C.": (
                lambda w: product(unit(halves(w)[0]), unit(halves(w)[1])[:, ::-1])
            ),
            "Each pair comes twice: return one cosine for each identity.": (
                lambda w: np.concatenate([analysis.prototype_alignment(w)] * 2, axis=1)
            ),
            "This is the distance 1 - cos: return the cosine itself.": lambda w: 1 - analysis.prototype_alignment(w),
            "This is the angle: return its cosine.": lambda w: np.arccos(analysis.prototype_alignment(w)),
            "The parts were averaged: keep their axis.": lambda w: analysis.prototype_alignment(w).mean(0),
            "The identities were averaged: keep their axis.": lambda w: analysis.prototype_alignment(w).mean(1),
            "This is one number for all: return one cosine for each part and identity.": (
                lambda w: analysis.prototype_alignment(w).mean()
            ),
            "The axes are in the order (C,P): swap them.": lambda w: analysis.prototype_alignment(w).T,
            "These are Euclidean distances: return the cosine.": (
                lambda w: np.linalg.norm(halves(w)[0] - halves(w)[1], axis=2)
            ),
            "Every visible prototype was compared with every infrared one: compare the pairs of one identity alone.": (
                lambda w: np.einsum("pcd,pkd->pck", *halves(unit(w)))
            ),
            "Lengths were taken along the identities: take them along the channels, the last axis.": (
                lambda w: product(*(unit(half, 1) for half in halves(w)))
            ),
            "Lengths of both halves were taken together: take one for each row.": (
                lambda w: product(*halves(unit(w, 1)))
            ),
            "Lengths were taken along the parts: take them along the channels, the last axis.": (
                lambda w: product(*halves(unit(w, 0)))
            ),
            "The products were averaged over the channels: add them up.": (
                lambda w: analysis.prototype_alignment(w) / w.shape[2]
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

    def lumped(x: np.ndarray, ids: np.ndarray, m: np.ndarray, person: int) -> float:
        mean = {(mine, s): x[((ids == person) == mine) & (m == s)].mean(0) for mine in (True, False) for s in (0, 1)}
        to_strangers = [np.linalg.norm(mean[True, s] - mean[False, 1 - s]) for s in (0, 1)]
        return float(np.linalg.norm(mean[True, 0] - mean[True, 1]) / np.mean(to_strangers))

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
            "This is the mean distance to strangers alone: divide the person's own distance by it.": (
                lambda *a: distances(*a)[:, 1:].mean()
            ),
            "The ratio is upside down: divide the own distance by that to strangers.": lambda *a: 1 / ratio(*a),
            "The two distances were subtracted: divide them.": (
                lambda *a: distances(*a)[0, 0] - distances(*a)[:, 1:].mean()
            ),
            "The distances are squared in your answer: take the length of the difference.": (
                lambda *a: distances(*a)[0, 0] ** 2 / (distances(*a)[:, 1:] ** 2).mean()
            ),
            "Strangers were looked for in the same spectrum: look in the other one.": same_spectrum,
            "Only the person's visible centroid was compared with strangers: add the infrared one against visible "
            "strangers, and average over both.": lambda *a: over(*a, spectra=[0]),
            "Only the person's infrared centroid was compared with strangers: add the visible one against infrared "
            "strangers, and average over both.": lambda *a: over(*a, spectra=[1]),
            "The person is among the strangers: leave the person out of their mean.": with_self,
            "Only the nearest stranger was taken: take the mean over all of them.": (
                lambda *a: distances(*a)[0, 0] / distances(*a)[:, 1:].min()
            ),
            "Only the farthest stranger was taken: take the mean over all of them.": (
                lambda *a: distances(*a)[0, 0] / distances(*a)[:, 1:].max()
            ),
            "The median of the strangers was taken: take the mean.": (
                lambda *a: distances(*a)[0, 0] / np.median(distances(*a)[:, 1:])
            ),
            "The distances to strangers were added up: take their mean.": (
                lambda *a: distances(*a)[0, 0] / distances(*a)[:, 1:].sum()
            ),
            "All strangers were averaged to one centroid: take a centroid, and a distance, for each.": lumped,
            "Distances were averaged over images: average the images to centroids first.": images,
            "Your answer divides the gap by the spread within: divide by the distance to strangers.": (
                lambda x, ids, m, person: float(analysis.modality_gap(x, ids, m).gap[np.unique(ids) == person][0])
            ),
            "This is the mean over all people: return the ratio of `person`.": (
                lambda x, ids, m, person: float(analysis.modality_gap(x, ids, m).stranger_ratio.mean())
            ),
            "There is one ratio for each person: return that of `person`.": (
                lambda x, ids, m, person: analysis.modality_gap(x, ids, m).stranger_ratio
            ),
        },
    )
    return "right. 0: the person's spectra coincide; 1: the person is as far from themselves as from a stranger."
