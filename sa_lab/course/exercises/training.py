"""Exercises of chapter 03, training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa_lab import losses
from sa_lab.course.exercises.cases import problem
from sa_lab.course.exercises.checking import Function, check_cases, compare_gradients, exercise

_SIZES = ((6, 1, 4, 5), (8, 3, 3, 4), (4, 2, 5, 6))


@exercise("03.1")
def check_feature_objective(function: Function) -> str:
    """Check f(embeddings, identity_logits, prototypes, labels, modality, sas_weight, similarity_weight) -> scalar.

    The objective of the feature step, (1-w_sas) L_id + w_sas L_sa + w_as L_as, with the prototypes held fixed.
    """
    cases: list[dict[str, Any]] = []
    for seed, (size, weights) in enumerate(zip(_SIZES, ((0.7, 1.0), (0.4, 0.5), (0.8, 2.0)), strict=True)):
        drawn = problem(seed, *size)
        batch, parts, identities, _ = size
        cases.append(
            {
                "embeddings": drawn["embeddings"].requires_grad_(),
                "identity_logits": torch.randn(
                    batch, parts, identities, generator=torch.Generator().manual_seed(seed + 10)
                ).requires_grad_(),
                "prototypes": drawn["prototypes"].requires_grad_(),
                "labels": drawn["labels"],
                "modality": drawn["modality"],
                "sas_weight": weights[0],
                "similarity_weight": weights[1],
            }
        )

    def terms(f: Tensor, z: Tensor, w: Tensor, y: Tensor, m: Tensor, *, mask: float = 50.0) -> tuple[Tensor, ...]:
        logits = losses.prototype_logits(f, w.detach())
        sa_softmax = losses.sa_softmax_loss(logits, y, m, mask)
        return losses.identity_loss(z, y), sa_softmax, losses.absolute_similarity_loss(f, w.detach(), y, m)

    def total(parts: tuple[Tensor, ...], identity: float, sas: float, similarity: float) -> Tensor:
        return identity * parts[0] + sas * parts[1] + similarity * parts[2]

    def objective(*arguments: Any) -> Tensor:
        sas, similarity = arguments[5:]
        return total(terms(*arguments[:5]), 1 - sas, sas, similarity)

    def own(f: Tensor, z: Tensor, w: Tensor, y: Tensor, m: Tensor, sas: float, similarity: float) -> Tensor:
        identity, _, absolute = terms(f, z, w, y, m)
        own_loss = losses.prototype_loss(losses.prototype_logits(f, w), y, m)
        return total((identity, own_loss, absolute), 1 - sas, sas, similarity)

    def own_similarity(f: Tensor, z: Tensor, w: Tensor, y: Tensor, m: Tensor, sas: float, similarity: float) -> Tensor:
        wrong = losses.absolute_similarity_loss(f, w, y, 1 - m)
        return total((*terms(f, z, w, y, m)[:2], wrong), 1 - sas, sas, similarity)

    check_cases(
        function,
        cases,
        objective,
        "one loss for the whole batch",
        {
            "The identity loss has weight 1: its weight is 1 - `sas_weight`.": (
                lambda *a: total(terms(*a[:5]), 1.0, a[5], a[6])
            ),
            "The absolute term is missing.": lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], 0.0),
            "The identity loss is missing.": lambda *a: total(terms(*a[:5]), 0.0, a[5], a[6]),
            "`sas_weight` and `similarity_weight` are exchanged.": (
                lambda *a: total(terms(*a[:5]), 1 - a[6], a[6], a[5])
            ),
            "1 - `sas_weight` and `sas_weight` are exchanged: L_sa gets `sas_weight`.": (
                lambda *a: total(terms(*a[:5]), a[5], 1 - a[5], a[6])
            ),
            "The absolute term has weight 1: its weight is `similarity_weight`.": (
                lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], 1.0)
            ),
            "The terms were added without their weights.": lambda *a: total(terms(*a[:5]), 1.0, 1.0, 1.0),
            "The Feature Mask is missing from L_sa.": (lambda *a: total(terms(*a[:5], mask=0.0), 1 - a[5], a[5], a[6])),
            "The prototype loss stands where L_sa is asked: that one draws to the own prototypes.": own,
            "The absolute term measures the own prototype: the cross one is asked.": own_similarity,
            "This is the sum over the batch: the mean is asked.": lambda *a: len(a[0]) * objective(*a),
            "The parts were averaged: they are to be added up.": lambda *a: objective(*a) / a[0].shape[1],
        },
    )
    compare_gradients(
        function,
        cases,
        objective,
        {"prototypes": "The value is right, but a gradient reaches the prototypes: detach them."},
    )
    return "right. The network follows all three terms, the prototypes none of them."


@exercise("03.2")
def check_prototype_objective(function: Function) -> str:
    """Check f(embeddings, prototypes, labels, modality) -> scalar, L_p = CE(f.W, own) the embeddings held fixed."""
    cases = [problem(seed + 20, *size) for seed, size in enumerate(_SIZES)]
    for case in cases:
        case["embeddings"].requires_grad_()
        case["prototypes"].requires_grad_()

    def objective(f: Tensor, w: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return losses.prototype_loss(losses.prototype_logits(f.detach(), w), y, m)

    check_cases(
        function,
        cases,
        objective,
        "one loss for the whole batch",
        {
            "The target is the cross prototype: each prototype learns from its own spectrum.": (
                lambda f, w, y, m: objective(f, w, y, 1 - m)
            ),
            "This is L_sa, with mask and the cross prototype as target: L_p has no mask and takes the own one.": (
                lambda f, w, y, m: losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m)
            ),
            "The target is the identity, as if all samples were visible: it is the own prototype, y + m C.": (
                lambda f, w, y, m: objective(f, w, y, torch.zeros_like(m))
            ),
            "This is the sum over the batch: the mean is asked.": lambda f, w, y, m: len(f) * objective(f, w, y, m),
            "The parts were averaged: they are to be added up.": lambda f, w, y, m: objective(f, w, y, m) / f.shape[1],
            "Only the first part counts in your answer: add up the loss of all parts.": (
                lambda f, w, y, m: objective(f[:, :1], w[:1], y, m)
            ),
        },
    )
    compare_gradients(
        function,
        cases,
        objective,
        {"embeddings": "The value is right, but a gradient reaches the embeddings: detach them."},
    )
    return "right. Only the prototypes move, each towards the samples of its own spectrum."


@exercise("03.3")
def check_warmup(function: Function) -> str:
    """Check f(step, warmup_steps, sas_weight, similarity_weight) -> (sas, similarity), the weights of a step."""
    cases = [
        {"step": step, "warmup_steps": warmup, "sas_weight": sas, "similarity_weight": similarity}
        for warmup, sas, similarity in ((4, 0.7, 1.0), (1, 0.5, 2.0), (0, 0.3, 0.8), (10, 0.6, 1.5))
        for step in sorted({0, 1, max(0, warmup - 1), warmup, warmup + 1, 2 * warmup + 3})
    ]

    def weights(step: int, warmup: int, sas: float, similarity: float) -> np.ndarray:
        return np.array([0.0, 0.0] if step < warmup else [sas, similarity])

    def ramp(step: int, warmup: int, sas: float, similarity: float) -> np.ndarray:
        return min(1.0, step / warmup if warmup else 1.0) * np.array([sas, similarity])

    check_cases(
        function,
        cases,
        weights,
        "two numbers (sas, similarity)",
        {
            "The warm-up is one step too long: steps count from 0, so step `warmup_steps` is the first after it.": (
                lambda s, w, a, b: weights(s, w + 1, a, b)
            ),
            "The warm-up is one step too short: steps count from 0, so step `warmup_steps` - 1 still belongs to it.": (
                lambda s, w, a, b: weights(s, w - 1, a, b)
            ),
            "Only the weight of L_sa is 0 in the warm-up: the absolute term has to wait as well.": (
                lambda s, w, a, b: np.array([weights(s, w, a, b)[0], b])
            ),
            "Only the weight of the absolute term is 0 in the warm-up: L_sa has to wait as well.": (
                lambda s, w, a, b: np.array([a, weights(s, w, a, b)[1]])
            ),
            "It is the wrong way round: the weights are 0 during the warm-up, not after it.": (
                lambda s, w, a, b: np.array([a, b]) - weights(s, w, a, b)
            ),
            "The two weights are returned in the wrong order: first sas, then similarity.": (
                lambda s, w, a, b: weights(s, w, a, b)[::-1]
            ),
            "The weights rise little by little: asked are 0 and then the full weight.": ramp,
            "There is no warm-up: before `warmup_steps` both weights are 0.": lambda s, w, a, b: np.array([a, b]),
        },
    )
    return "right. In the first steps the network follows L_id alone, while the prototypes already learn."
