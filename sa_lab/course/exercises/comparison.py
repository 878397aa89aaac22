"""Exercises of chapter 07, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import relu

from sa_lab import baselines
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases, compare_gradients, reductions


@exercise("07.1")
def check_hetero_center_triplet(function: Function) -> str:
    """Check f(features (B,P,D), labels (B,), modality (B,), margin) -> scalar, hetero-center triplet loss."""
    cases: list[dict[str, Any]] = []
    for seed, (people, images, parts, margin) in enumerate(((4, 3, 2, 2.0), (3, 2, 1, 1.0), (5, 2, 3, 0.5))):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(people).repeat_interleave(2 * images) * 3 + 1
        modality = torch.arange(2).repeat_interleave(images).repeat(people)
        order = torch.randperm(len(labels), generator=generator)
        features = torch.randn(len(labels), parts, 3, generator=generator)
        cases.append(
            {"features": features, "labels": labels[order], "modality": modality[order], "margin": margin}
        )  # fmt: skip

    def loss(
        f: Tensor,
        y: Tensor,
        m: Tensor,
        margin: float,
        negatives: str = "all",
        power: int = 1,
        hinge: bool = True,
        nearest: Function = _nearest,
        partner_weight: float = 1.0,
    ) -> Tensor:
        """(2C,P) of each centre, infrared ones behind."""
        people = torch.unique(y)
        centres = torch.stack([f[(y == k) & (m == s)].mean(0) for s in (0, 1) for k in people])  # (2C,P,D)
        d = (centres[:, None] - centres).norm(dim=3) ** power
        same = torch.cat([people, people])[:, None] == torch.cat([people, people])
        spectrum = torch.arange(2).repeat_interleave(len(people))
        across = spectrum[:, None] != spectrum
        partner = (d * (same & across)[..., None]).sum(1)
        allowed = {"all": ~same, "across": ~same & across, "within": ~same & ~across}[negatives]
        apart = margin + partner_weight * partner - nearest(d, allowed[..., None])
        return relu(apart) if hinge else apart

    def of_samples(f: Tensor, y: Tensor, m: Tensor, margin: float) -> Tensor:
        return baselines.batch_hard_triplet(f, y, margin)

    def of_people(f: Tensor, y: Tensor, m: Tensor, margin: float) -> Tensor:
        """Centres of both spectra together: no positive is left, so each is its own."""
        centres = torch.stack([f[y == k].mean(0) for k in torch.unique(y)])
        d = (centres[:, None] - centres).norm(dim=3)
        return relu(margin - (d + torch.eye(len(d))[..., None] * 1e6).amin(1)).mean(0).sum()

    check_cases(
        function,
        cases,
        baselines.hetero_center_triplet,
        "the mean over the centres, summed over the parts",
        {
            "This is the batch-hard triplet loss of the samples: take the mean of each person's features in each "
            "spectrum first.": of_samples,
            "The centres hold both spectra together: each person has two, a visible and an infrared one.": of_people,
            "Only centres of the other spectrum were taken as strangers: also take those of the centre's own.": (
                lambda f, y, m, margin: loss(f, y, m, margin, negatives="across").mean(0).sum()
            ),
            "Only centres of the own spectrum were taken as strangers: also take those of the other one.": (
                lambda f, y, m, margin: loss(f, y, m, margin, negatives="within").mean(0).sum()
            ),
            "The distances are squared in your answer: take plain Euclidean ones.": (
                lambda f, y, m, margin: loss(f, y, m, margin, power=2).mean(0).sum()
            ),
            "The hinge is missing: a centre whose strangers are far enough away adds 0, never a negative number.": (
                lambda f, y, m, margin: loss(f, y, m, margin, hinge=False).mean(0).sum()
            ),
            "The margin is missing.": lambda f, y, m, margin: loss(f, y, m, 0.0).mean(0).sum(),
            "The margin was taken off: add it.": lambda f, y, m, margin: loss(f, y, m, -margin).mean(0).sum(),
            "Only the visible centres were compared: take the infrared ones as well.": (
                lambda f, y, m, margin: loss(f, y, m, margin)[: len(torch.unique(y))].mean(0).sum()
            ),
            "Only the infrared centres were compared: take the visible ones as well.": (
                lambda f, y, m, margin: loss(f, y, m, margin)[len(torch.unique(y)) :].mean(0).sum()
            ),
            "The mean distance to strangers was taken: take the smallest.": (
                lambda f, y, m, margin: loss(f, y, m, margin, nearest=_mean).mean(0).sum()
            ),
            "The farthest stranger was taken: take the nearest.": (
                lambda f, y, m, margin: loss(f, y, m, margin, nearest=_farthest).mean(0).sum()
            ),
            "The partner is missing: add the distance to the centre in the other spectrum.": (
                lambda f, y, m, margin: loss(f, y, m, margin, partner_weight=0.0).mean(0).sum()
            ),
            **{
                words.replace("sample", "centre").replace("batch", "centres"): f
                for words, f in reductions(loss).items()
            },
        },
    )
    felt = [{**case, "features": case["features"].requires_grad_()} for case in cases]
    compare_gradients(function, felt, baselines.hetero_center_triplet, {})
    return "right. It compares only two centres per person, so a pair of single images counts for little."


@exercise("07.2")
def check_main_effects(function: Function) -> str:
    """Check f(values (M,W,S)) -> (2,), how far the mean moves along the first dial, and along the second."""
    cases: list[dict[str, Any]] = []
    for seed, shape in enumerate(((3, 4, 5), (4, 2, 3), (2, 5, 1))):
        generator = np.random.default_rng(seed)
        slopes = generator.normal(size=(shape[0], 1, 1)) + 3 * generator.normal(size=(1, shape[1], 1))
        cases.append({"values": 30 + slopes + generator.normal(size=shape)})

    def effects(values: np.ndarray) -> np.ndarray:
        return np.array([np.ptp(values.mean((1, 2))), np.ptp(values.mean((0, 2)))])

    check_cases(
        function,
        cases,
        effects,
        "(2,), the range over the first dial and over the second",
        {
            "The two are in the wrong order: the first axis is the first dial.": lambda v: effects(v)[::-1],
            "This is the range of single runs: take the mean over the seeds, and over the other dial, first.": (
                lambda v: np.array([np.ptp(v), np.ptp(v)])
            ),
            "The best value of the other dial was taken: take the mean over it.": (
                lambda v: np.array([np.ptp(v.mean(2).max(1)), np.ptp(v.mean(2).max(0))])
            ),
            "The median of the seeds was taken: take the mean.": (
                lambda v: np.array([np.ptp(np.median(v, 2).mean(1)), np.ptp(np.median(v, 2).mean(0))])
            ),
            "The best seed was taken: take the mean over the seeds.": lambda v: effects(v.max(2)[..., None]),
            "This is a standard deviation: take the largest mean minus the smallest.": (
                lambda v: np.array([v.mean((1, 2)).std(), v.mean((0, 2)).std()])
            ),
            "This is a variance: take the largest mean minus the smallest.": (
                lambda v: np.array([v.mean((1, 2)).var(), v.mean((0, 2)).var()])
            ),
            "These are the largest means: take the smallest ones off.": (
                lambda v: np.array([v.mean((1, 2)).max(), v.mean((0, 2)).max()])
            ),
            "These are the smallest means: take them off the largest ones.": (
                lambda v: np.array([v.mean((1, 2)).min(), v.mean((0, 2)).min()])
            ),
            "This is the last value minus the first: take the largest mean minus the smallest.": (
                lambda v: np.array([v.mean((1, 2))[-1] - v.mean((1, 2))[0], v.mean((0, 2))[-1] - v.mean((0, 2))[0]])
            ),
            "The mean of the ranges was taken: take the mean over the other dial first, then the range.": (
                lambda v: np.array([np.ptp(v.mean(2), 0).mean(), np.ptp(v.mean(2), 1).mean()])
            ),
            "The seeds were compared as well: the dials are the first two axes, take the mean over the third.": (
                lambda v: np.array([np.ptp(v.mean((0, 1))), np.ptp(v.mean((0, 2)))])
            ),
            "Only the first value of the other dial was looked at: take the mean over it.": (
                lambda v: np.array([np.ptp(v[:, 0].mean(1)), np.ptp(v[0].mean(1))])
            ),
            "Only the first seed was looked at: take the mean over them.": (
                lambda v: np.array([np.ptp(v[..., 0].mean(1)), np.ptp(v[..., 0].mean(0))])
            ),
            "This is the first dial alone: return both.": lambda v: effects(v)[0],
            "Sums were compared: take means over the seeds and the other dial.": (
                lambda v: np.array([np.ptp(v.sum((1, 2))), np.ptp(v.sum((0, 2)))])
            ),
        },
    )
    return "right. A dial whose effect is smaller than that of a seed has not been shown to matter."


def _nearest(distances: Tensor, allowed: Tensor) -> Tensor:
    return distances.masked_fill(~allowed, torch.inf).amin(1)


def _farthest(distances: Tensor, allowed: Tensor) -> Tensor:
    return (distances * allowed).amax(1)


def _mean(distances: Tensor, allowed: Tensor) -> Tensor:
    return (distances * allowed).sum(1) / allowed.sum(1)
