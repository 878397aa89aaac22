"""Exercises of chapter 06, design your own loss: any loss passes that has the properties a training needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sa_lab import analysis, losses
from sa_lab.course.exercises.checking import Case, Function, Wrong, array, call, exercise, fits, situation
from sa_lab.course.exercises.comparing import gradients

_STEP = 0.05  # length of a descent step, as a share of the embeddings' length
_LEAD = 1.3  # times faster than strangers the spectra of a person have to come together


@exercise("06.1")
def check_design(function: Function) -> str:
    """Check f(embeddings (B,P,D), prototypes (P,2C,D), labels (B,), modality (B,)) -> scalar: fit to train with?"""
    case = _separated(seed=0, identities=4, parts=2)
    value, gradient = _loss(function, case)
    if not gradient.any():
        raise Wrong("The gradient on the embeddings is zero everywhere: let the loss change when they move.")
    again, other = _loss(function, case)
    if not (_agree(value, again) and torch.allclose(gradient, other, rtol=1e-3, atol=1e-6)):
        raise Wrong("The same batch gives two values or gradients: do not draw random numbers in the loss.")
    order = torch.randperm(len(case["labels"]), generator=torch.Generator().manual_seed(1))
    shuffled, _ = _loss(function, _rows(case, order))
    if not _agree(value, shuffled):
        raise Wrong(
            f"The loss depends on the order of the samples: {value:.4g}, and {shuffled:.4g} when they are shuffled. "
            "Find the spectra by `modality` and the identities by `labels`, not by position."
        )
    twice, _ = _loss(function, _rows(case, torch.arange(len(order)).repeat(2)))
    if abs(value) > 1e-6 and twice / value > 1.99:
        raise Wrong(
            f"With every sample twice the loss grows from {value:.4g} to {twice:.4g}: take the mean over the batch, "
            "not the sum, or the step size depends on the batch size."
        )
    with situation("With a single part, P = 1"):
        _loss(function, _separated(seed=2, identities=4, parts=1))
    with situation("With a batch of one identity"):
        _loss(function, _rows(case, torch.nonzero(case["labels"] == 0)[:, 0]))
    with situation("Where every sample stands on its cross prototype"):
        cross = losses.cross_prototype(case["labels"], case["modality"], 4)
        _loss(function, {**case, "embeddings": case["prototypes"][:, cross].transpose(0, 1).clone().requires_grad_()})
    remark = (
        "" if _agree(value, twice) else f" It compares samples within the batch: with each twice it is {twice:.4g}."
    )
    said = f"fit to train with: {value:.4g} on the batch of this check, with a finite gradient.{remark}"
    return _of_ones_own(function, said)


@exercise("06.2")
def check_pulls_together(function: Function) -> str:
    """Check f(embeddings, prototypes, labels, modality) -> scalar: does one step on it close the gap between spectra?

    The embeddings of a batch whose spectra lie apart take one step of gradient descent. The distance between the two
    spectra of an identity has to fall, and to fall in relation to the distance to other identities.
    """
    measured = []
    for seed in (3, 4, 5):
        case = _separated(seed, identities=5, parts=2)
        _, gradient = _loss(function, case)
        if not gradient.any():
            raise Wrong("Where the spectra lie apart, the gradient on the embeddings is zero: nothing is pulled.")
        before, after = (_distances(case, case["embeddings"] - step) for step in (0, _step(case, gradient)))
        told = (
            f"One step takes the distance between a person's spectra from {_moved(before[0], after[0])}, the one to "
            f"strangers from {_moved(before[1], after[1])}"
        )
        if problem := _problem(before, after):
            back = _distances(case, case["embeddings"] + _step(case, gradient))
            turned = "" if _problem(before, back) else " Turn the sign of the loss round."
            raise Wrong(f"{told}: {problem}{turned}")
        measured.append((before, after))
    (own, strangers), (own_after, strangers_after) = np.mean(measured, axis=0)
    said = (
        f"it pulls together. One step takes the distance between a person's spectra from {_moved(own, own_after)}, "
        f"the one to strangers from {_moved(strangers, strangers_after)}."
    )
    return _of_ones_own(function, said)


def _moved(before: float, after: float) -> str:
    return f"{before:.2f} to {after:.2f} ({100 * (after / before - 1):+.1f} %)"


def _problem(before: tuple[float, float], after: tuple[float, float]) -> str:
    """What is wrong with a step that takes own distance and distance to strangers from one to the other; or nothing."""
    own, strangers = after[0] / before[0], after[1] / before[1]
    if own > 1 + 1e-3:
        return "the two spectra of a person move apart. Pull each sample towards the other spectrum."
    if own > 1 - 1e-3:
        return "the two spectra of a person do not come together. Pull each sample towards the other spectrum."
    if 1 - own < _LEAD * (1 - strangers):
        return (
            "in proportion, strangers come together nearly as fast, so all identities collapse. Pull each sample "
            "towards its own person, and let strangers compete, as softmax does."
        )
    return ""


_ROWS = "The rows of `prototypes` (P,2C,D) are its axis 1: choose some with `prototypes[:, rows]`."


def _closeness(embeddings: Tensor, prototypes: Tensor, labels: Tensor, modality: Tensor) -> Tensor:
    """The loss of the chapter: (1 - cos) to the cross prototype."""
    targets = prototypes[:, losses.cross_prototype(labels, modality, prototypes.shape[1] // 2)].transpose(0, 1)
    return (1 - cosine_similarity(embeddings, targets, dim=2)).sum(1).mean()


def _of_ones_own(function: Function, said: str) -> str:
    """What is said of a right answer, unless it is the chapter's, times or plus any number."""
    alike = []
    for seed in (6, 7):
        case = _separated(seed, identities=4, parts=2)
        theirs, ours = (_loss(one, case)[1].flatten() for one in (function, _closeness))
        alike.append(float(cosine_similarity(theirs, ours, dim=0)))
    if min(alike) > 1 - 1e-5:
        raise Wrong(f"This is the chapter's `closeness`, {said} The exercise asks for another loss.")
    return said


def _separated(seed: int, identities: int, parts: int, channels: int = 8, images: int = 3) -> dict[str, Any]:
    """A batch whose two spectra lie apart, shuffled, with each prototype in the middle of its samples."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(2 * identities, parts, channels, generator=generator) * 0.3
    centres += torch.randn(identities, parts, channels, generator=generator).repeat(2, 1, 1)
    centres += torch.randn(2, parts, channels, generator=generator).repeat_interleave(identities, 0)
    rows = torch.arange(2 * identities).repeat(images)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    embeddings = centres[rows] + 0.2 * torch.randn(len(rows), parts, channels, generator=generator)
    return {
        "embeddings": embeddings.requires_grad_(),
        "prototypes": centres.transpose(0, 1).contiguous(),
        "labels": rows % identities,
        "modality": rows // identities,
    }


def _rows(case: Case, rows: Tensor) -> dict[str, Any]:
    """Some samples of a batch; the prototypes stay."""
    embeddings = case["embeddings"].detach()[rows].requires_grad_()
    chosen = {"labels": case["labels"][rows], "modality": case["modality"][rows]}
    return {"embeddings": embeddings, "prototypes": case["prototypes"], **chosen}


def _loss(function: Function, case: Case) -> tuple[float, Tensor]:
    """Value and gradient on the embeddings of the reader's loss, both finite."""
    answer, arguments = call(
        function, case, {f"out of bounds for dimension 0 with size {len(case['prototypes'])}$": _ROWS}
    )
    asked = "one loss for the whole batch"
    value = array(answer, asked)
    fits(value, (), "f", asked)
    if not np.isfinite(value):
        raise Wrong(f"The loss is {value}, expected a finite number: do not divide by 0 or take the logarithm of 0.")
    gradient = gradients(answer, arguments)["embeddings"]
    if not torch.isfinite(gradient).all():
        raise Wrong(
            "The gradient on the embeddings is not finite: take no root, length or logarithm of zero, or add a small "
            "number first."
        )
    return float(value), gradient


def _step(case: Case, gradient: Tensor) -> Tensor:
    return _STEP * float(case["embeddings"].detach().norm()) / float(gradient.norm()) * gradient


def _agree(first: float, second: float) -> bool:
    return bool(np.isclose(first, second, rtol=1e-3, atol=1e-5))


def _distances(case: Case, embeddings: Tensor) -> tuple[float, float]:
    """Mean distance of a person's two centroids, and of a person's centroid to strangers in the other spectrum."""
    points = embeddings.detach().flatten(1).double().numpy()
    labels, modality = case["labels"].numpy(), case["modality"].numpy()
    gap = analysis.modality_gap(points, labels, modality)
    centres = [
        np.stack([points[(labels == person) & (modality == spectrum)].mean(0) for person in gap.person_ids])
        for spectrum in (0, 1)
    ]
    own = np.linalg.norm(centres[0] - centres[1], axis=1)
    return float(own.mean()), float((own / gap.stranger_ratio).mean())
