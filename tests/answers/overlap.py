"""Chapter 04."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from answers.table import Answers
from sa_lab import analysis


def halves(w):
    return np.split(w, 2, axis=1)


def unit(w, axis=2):
    return w / np.linalg.norm(w, axis=axis, keepdims=True)


def cosines(w, axis=2):
    visible, infrared = halves(unit(w, axis))
    return (visible * infrared).sum(2)


def cosines_looped(w):
    c = w.shape[1] // 2
    return [[float(v @ u / np.sqrt((v @ v) * (u @ u))) for v, u in zip(part[:c], part[c:], strict=True)] for part in w]


def ratio(points, person_ids, modality, person, spectra=(0, 1), other=lambda s: 1 - s, myself=False, over=np.mean):
    def centre(i, s):
        return points[(person_ids == i) & (modality == s)].mean(0)

    people = [i for i in np.unique(person_ids) if myself or i != person]
    strangers = [np.linalg.norm(centre(person, s) - centre(i, other(s))) for i in people for s in spectra]
    return np.linalg.norm(centre(person, 0) - centre(person, 1)) / over(strangers)


def ratio_in_torch(points, person_ids, modality, person):
    x, ids, m = torch.from_numpy(points), torch.from_numpy(person_ids), torch.from_numpy(modality)
    people = ids.unique()
    centres = torch.stack([torch.stack([x[(ids == i) & (m == s)].mean(0) for i in people]) for s in (0, 1)])
    distances = torch.cdist(centres[0], centres[1])
    at = int((people == person).nonzero()[0])
    apart = torch.cat([distances[at], distances[:, at]])
    own = distances[at, at]
    return own / ((apart.sum() - 2 * own) / (2 * len(people) - 2))


def own_distance(points, person_ids, modality, person):
    mine = [points[(person_ids == person) & (modality == s)].mean(0) for s in (0, 1)]
    return np.linalg.norm(mine[0] - mine[1])


def image_ratio(points, person_ids, modality, person):
    def mean(i, s, j):
        first, second = points[(person_ids == i) & (modality == s)], points[(person_ids == j) & (modality == 1 - s)]
        return np.linalg.norm(first[:, None] - second[None], axis=2).mean()

    others = [i for i in np.unique(person_ids) if i != person]
    return mean(person, 0, person) / np.mean([mean(person, s, i) for i in others for s in (0, 1)])


def lumped(points, person_ids, modality, person):
    def centre(mask, s):
        return points[mask & (modality == s)].mean(0)

    me = person_ids == person
    strangers = [np.linalg.norm(centre(me, s) - centre(~me, 1 - s)) for s in (0, 1)]
    return np.linalg.norm(centre(me, 0) - centre(me, 1)) / np.mean(strangers)


def shares(first, second, edges):
    return [np.histogram(values, edges)[0] / len(values) for values in (first, second)]


def counts(first, second, edges):
    return [np.histogram(values, edges)[0] for values in (first, second)]


def densities(first, second, edges):
    return [np.histogram(values, edges, density=True)[0] for values in (first, second)]


def overlap_by_bins(first, second, edges, last_open=False):
    total = 0.0
    for k, (low, high) in enumerate(pairwise(edges)):
        closed = k == len(edges) - 2 and not last_open
        inside = [(v >= low) & ((v <= high) if closed else (v < high)) for v in (first, second)]
        total += min(inside[0].mean(), inside[1].mean())
    return total


def overlap_by_cumulative(first, second, edges):
    """Numbers up to each edge, the last one inclusive."""
    share = []
    for values in (first, second):
        upto = np.searchsorted(np.sort(values), edges, side="left")
        upto[-1] = (values <= edges[-1]).sum()
        share.append(np.diff(upto) / len(values))
    return torch.tensor(np.minimum(*share).sum())


ANSWERS = {
    "prototype_alignment": Answers(
        right=[
            cosines,
            analysis.prototype_alignment,
            cosines_looped,
            lambda w: torch.from_numpy(cosines(w)).float(),
            lambda w: torch.cosine_similarity(*torch.from_numpy(w).chunk(2, 1), dim=2),
        ],
        wrong=[
            ("dot products", lambda w: np.multiply(*halves(w)).sum(2)),
            ("Only the visible prototypes", lambda w: (unit(halves(w)[0]) * halves(w)[1]).sum(2)),
            ("Only the infrared prototypes", lambda w: (halves(w)[0] * unit(halves(w)[1])).sum(2)),
            ("Neighbouring rows", lambda w: (unit(w)[:, ::2] * unit(w)[:, 1::2]).sum(2)),
            ("with row c + 1", lambda w: (unit(w) * np.roll(unit(w), -1, 1)).sum(2)[:, : w.shape[1] // 2]),
            ("read from its end", lambda w: (halves(unit(w))[0] * halves(unit(w))[1][:, ::-1]).sum(2)),
            ("Each pair comes twice", lambda w: (unit(w) * np.roll(unit(w), w.shape[1] // 2, 1)).sum(2)),
            ("distance 1 - cos", lambda w: 1 - cosines(w)),
            ("This is the angle", lambda w: np.arccos(cosines(w))),
            ("parts were averaged", lambda w: cosines(w).mean(0)),
            ("identities were averaged", lambda w: cosines(w).mean(1)),
            ("one number for all", lambda w: cosines(w).mean()),
            ("order (C,P)", lambda w: cosines(w).T),
            ("Euclidean", lambda w: np.linalg.norm(np.subtract(*halves(w)), axis=2)),
            ("with every infrared one", lambda w: np.matmul(halves(unit(w))[0], halves(unit(w))[1].swapaxes(1, 2))),
            ("along the identities", lambda w: (unit(halves(w)[0], 1) * unit(halves(w)[1], 1)).sum(2)),
            ("both halves were taken together", lambda w: cosines(w, axis=1)),
            ("along the parts", lambda w: cosines(w, axis=0)),
            ("averaged over the channels", lambda w: np.multiply(*halves(unit(w))).mean(2)),
            ("square of the right answer", lambda w: cosines(w) ** 2),
            ("signs are lost", lambda w: np.abs(cosines(w))),
        ],
    ),
    "modality_gap": Answers(
        right=[
            ratio,
            ratio_in_torch,
            lambda x, ids, m, person: analysis.modality_gap(x, ids, m).stranger_ratio[np.unique(ids) == person].item(),
        ],
        wrong=[
            ("centroids alone", own_distance),
            ("distance to strangers alone", lambda *a: own_distance(*a) / ratio(*a)),
            ("upside down", lambda *a: 1 / ratio(*a)),
            ("were subtracted", lambda *a: own_distance(*a) - own_distance(*a) / ratio(*a)),
            ("distances are squared", lambda *a: own_distance(*a) * ratio(*a, over=lambda d: np.mean(np.square(d)))),
            ("same spectrum", lambda *a: ratio(*a, other=lambda s: s)),
            ("Only the person's visible centroid", lambda *a: ratio(*a, spectra=(0,))),
            ("Only the person's infrared centroid", lambda *a: ratio(*a, spectra=(1,))),
            ("among the strangers", lambda *a: ratio(*a, myself=True)),
            ("nearest stranger", lambda *a: ratio(*a, over=np.min)),
            ("farthest stranger", lambda *a: ratio(*a, over=np.max)),
            ("median of the strangers", lambda *a: ratio(*a, over=np.median)),
            ("were added up", lambda *a: ratio(*a, over=np.sum)),
            ("averaged to one centroid", lumped),
            ("averaged over images", image_ratio),
            (
                "spread within",
                lambda x, ids, m, person: analysis.modality_gap(x, ids, m).gap[np.unique(ids).tolist().index(person)],
            ),
            ("mean over all people", lambda x, ids, m, _: np.mean([ratio(x, ids, m, i) for i in np.unique(ids)])),
            ("one ratio for each person", lambda x, ids, m, _: [ratio(x, ids, m, i) for i in np.unique(ids)]),
            ("percent", lambda *a: 100 * ratio(*a)),
        ],
    ),
    "overlap": Answers(
        right=[
            lambda *a: np.minimum(*shares(*a)).sum(),
            overlap_by_bins,
            overlap_by_cumulative,
            lambda a, b, e: 0.5 * (np.add(*shares(a, b, e)).sum() - np.abs(np.subtract(*shares(a, b, e))).sum()),
        ],
        wrong=[
            ("Counts were compared: ", lambda *a: np.minimum(*counts(*a)).sum()),
            ("divided by all values", lambda a, b, e: np.minimum(*counts(a, b, e)).sum() / (len(a) + len(b))),
            ("by the smaller set", lambda a, b, e: np.minimum(*counts(a, b, e)).sum() / min(len(a), len(b))),
            ("by the larger set", lambda a, b, e: np.minimum(*counts(a, b, e)).sum() / max(len(a), len(b))),
            ("last bin is half open", lambda *a: overlap_by_bins(*a, last_open=True)),
            ("density times the width", lambda *a: (np.minimum(*densities(*a)) * np.diff(a[2])).sum()),
            ("larger share", lambda *a: np.maximum(*shares(*a)).sum()),
            ("These are densities", lambda *a: np.minimum(*densities(*a)).sum()),
            ("1 - overlap", lambda *a: 1 - np.minimum(*shares(*a)).sum()),
            ("averaged over the bins", lambda *a: np.minimum(*shares(*a)).mean()),
            ("not added up", lambda *a: np.minimum(*shares(*a))),
            ("Shares were multiplied", lambda *a: np.multiply(*shares(*a)).sum()),
            ("Roots of products", lambda *a: np.sqrt(np.multiply(*shares(*a))).sum()),
            ("two shares were averaged", lambda *a: np.mean(shares(*a), axis=0).sum()),
            ("difference of the histograms", lambda *a: np.abs(np.subtract(*shares(*a))).sum()),
            ("divided by the union", lambda *a: np.minimum(*shares(*a)).sum() / np.maximum(*shares(*a)).sum()),
            ("Bins in which both", lambda *a: np.mean(np.minimum(*counts(*a)) > 0)),
            ("smaller of the two sums", lambda *a: np.sum(shares(*a), axis=1).min()),
            ("last bin was left out", lambda *a: np.minimum(*shares(*a))[:-1].sum()),
            ("first bin was left out", lambda *a: np.minimum(*shares(*a))[1:].sum()),
            ("percent", lambda *a: 100 * np.minimum(*shares(*a)).sum()),
        ],
    ),
}
