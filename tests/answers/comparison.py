"""Chapter 07."""

from __future__ import annotations

import numpy as np
import torch

from answers.table import Answers
from sa_lab import baselines


def centres_of(f, y, m):
    return torch.stack([f[(y == k) & (m == s)].mean(0) for s in (0, 1) for k in y.unique()])


def triplets(f, y, m, margin, negatives=lambda same, across: ~same, power=1, pick=torch.amin, hinge=True, partner=1):
    """(2C,P) as a reader would write it, by loops over the centres."""
    centres, people = centres_of(f, y, m), y.unique()
    count, rows = len(people), []
    for i in range(2 * count):
        d = (centres - centres[i]).norm(dim=2) ** power  # (2C,P)
        same = torch.arange(2 * count) % count == i % count
        across = torch.arange(2 * count) // count != i // count
        nearest = pick(d[negatives(same, across)], 0)
        rows.append(margin + partner * d[(i + count) % (2 * count)] - nearest)
    rows = torch.stack(rows)
    return rows.clamp_min(0) if hinge else rows


def loss(*arguments, **options):
    return triplets(*arguments, **options).mean(0).sum()


def by_tables(features, labels, modality, margin):
    centres = centres_of(features, labels, modality)
    count = len(centres) // 2
    d = (centres[:, None] - centres).norm(dim=3)  # (2C,2C,P)
    person = torch.arange(2 * count) % count
    partner = d[torch.arange(2 * count), (torch.arange(2 * count) + count) % (2 * count)]
    stranger = torch.where((person[:, None] == person)[..., None], torch.inf, d).min(1).values
    return torch.relu(margin + partner - stranger).sum(1).mean()


def part_by_part(features, labels, modality, margin):
    return sum(by_tables(features[:, p : p + 1], labels, modality, margin) for p in range(features.shape[1]))


def of_people(f, y, m, margin):
    centres = torch.stack([f[y == k].mean(0) for k in y.unique()])
    d = (centres[:, None] - centres).norm(dim=3) + torch.eye(len(centres))[..., None] * 1e6
    return torch.relu(margin - d.amin(1)).mean(0).sum()


def effects(values):
    return np.ptp(values.mean((1, 2))), np.ptp(values.mean((0, 2)))


def effects_looped(values):
    first = [float(np.mean(values[i])) for i in range(values.shape[0])]
    second = [float(np.mean(values[:, j])) for j in range(values.shape[1])]
    return [max(first) - min(first), max(second) - min(second)]


def effects_in_torch(values):
    means = torch.from_numpy(values).mean(2)
    ranges = [means.mean(axis).max() - means.mean(axis).min() for axis in (1, 0)]
    return torch.stack(ranges)


ANSWERS = {
    "hetero_center_triplet": Answers(
        right=[loss, baselines.hetero_center_triplet, by_tables, part_by_part],
        wrong=[
            ("mean over the centres, not the sum", lambda *a: triplets(*a).sum()),
            ("do not average them", lambda *a: triplets(*a).mean()),
            ("mean over the centres and the sum over the parts", lambda *a: triplets(*a).sum(0).mean()),
            ("one loss for each centre:", lambda *a: triplets(*a).sum(1)),
            ("one loss for each part:", lambda *a: triplets(*a).mean(0)),
            ("Only centres of the other", lambda *a: loss(*a, negatives=lambda s, c: ~s & c)),
            ("Only centres of the own", lambda *a: loss(*a, negatives=lambda s, c: ~s & ~c)),
            ("distances are squared", lambda *a: loss(*a, power=2)),
            ("hinge is missing", lambda *a: loss(*a, hinge=False)),
            ("margin is missing", lambda f, y, m, margin: loss(f, y, m, 0)),
            ("margin was taken off", lambda f, y, m, margin: loss(f, y, m, -margin)),
            ("Only the visible centres", lambda *a: triplets(*a)[: len(a[1].unique())].mean(0).sum()),
            ("Only the infrared centres", lambda *a: triplets(*a)[len(a[1].unique()) :].mean(0).sum()),
            ("mean distance to strangers", lambda *a: loss(*a, pick=torch.mean)),
            ("farthest stranger", lambda *a: loss(*a, pick=torch.amax)),
            ("partner is missing", lambda *a: loss(*a, partner=0)),
            ("triplet loss of the samples", lambda f, y, m, margin: baselines.batch_hard_triplet(f, y, margin)),
            ("both spectra together", of_people),
            ("carries no gradient", lambda *a: loss(*a).detach()),
            ("do not detach it", lambda f, *a: loss(f.detach(), *a) + 0 * f.sum()),
        ],
    ),
    "main_effects": Answers(
        right=[
            effects,
            effects_looped,
            effects_in_torch,
            lambda v: [v.mean((1, 2)).max() - v.mean((1, 2)).min(), np.ptp(v.mean(2).mean(0))],
        ],
        wrong=[
            ("wrong order", lambda v: effects(v)[::-1]),
            ("range of single runs", lambda v: (np.ptp(v), np.ptp(v))),
            ("best value of the other dial", lambda v: (np.ptp(v.mean(2).max(1)), np.ptp(v.mean(2).max(0)))),
            ("median of the seeds", lambda v: effects(np.median(v, 2, keepdims=True))),
            ("best seed", lambda v: effects(v.max(2, keepdims=True))),
            ("standard deviation", lambda v: (v.mean((1, 2)).std(), v.mean((0, 2)).std())),
            ("variance", lambda v: (v.mean((1, 2)).var(), v.mean((0, 2)).var())),
            ("largest means", lambda v: (v.mean((1, 2)).max(), v.mean((0, 2)).max())),
            ("smallest means", lambda v: (v.mean((1, 2)).min(), v.mean((0, 2)).min())),
            (
                "last value minus the first",
                lambda v: (np.ptp(v.mean((1, 2))[[0, -1]]) * np.sign(v[-1].mean() - v[0].mean()),
                           v[:, -1].mean() - v[:, 0].mean()),
            ),
            ("mean of the ranges", lambda v: (np.ptp(v.mean(2), 0).mean(), np.ptp(v.mean(2), 1).mean())),
            ("seeds were compared", lambda v: (np.ptp(v.mean((0, 1))), np.ptp(v.mean((0, 2))))),
            ("Only the first value of the other", lambda v: effects(v[:, :1])[:1] + effects(v[:1])[1:]),
            ("Only the first seed", lambda v: effects(v[..., :1])),
            ("first dial alone", lambda v: effects(v)[0]),
            ("Sums were compared", lambda v: (np.ptp(v.sum((1, 2))), np.ptp(v.sum((0, 2))))),
        ],
    ),
}  # fmt: skip
