"""Exercises of chapter 03, training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from sa_lab import losses
from sa_lab.course.exercises.cases import entropies, masked, problem
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases, compare_gradients, reductions

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

    def each(f: Tensor, z: Tensor, w: Tensor, y: Tensor, m: Tensor, sas: float, similarity: float) -> Tensor:
        identities = w.shape[1] // 2
        own, cross = losses.own_prototype(y, m, identities), losses.cross_prototype(y, m, identities)
        relative = entropies(masked(losses.prototype_logits(f, w), own, 50.0), cross)
        absolute = (1 - cosine_similarity(f, w[:, cross].transpose(0, 1), dim=2)).square()
        return total((entropies(z, y), relative, absolute), 1 - sas, sas, similarity)

    check_cases(
        function,
        cases,
        objective,
        "one loss for the whole batch",
        {
            "The identity loss has weight 1: give it 1 - `sas_weight`.": lambda *a: total(terms(*a[:5]), 1.0, *a[5:]),
            "The absolute term is missing.": lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], 0.0),
            "The identity loss is missing.": lambda *a: total(terms(*a[:5]), 0.0, *a[5:]),
            "L_sa is missing.": lambda *a: total(terms(*a[:5]), 1 - a[5], 0.0, a[6]),
            "`sas_weight` and `similarity_weight` are exchanged.": (
                lambda *a: total(terms(*a[:5]), 1 - a[6], a[6], a[5])
            ),
            "1 - `sas_weight` and `sas_weight` are exchanged: L_sa gets `sas_weight`.": (
                lambda *a: total(terms(*a[:5]), a[5], 1 - a[5], a[6])
            ),
            "The absolute term has weight 1: give it `similarity_weight`.": (
                lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], 1.0)
            ),
            "L_sa has weight 1: give it `sas_weight`.": lambda *a: total(terms(*a[:5]), 1 - a[5], 1.0, a[6]),
            "The identity loss has weight `sas_weight`: give it 1 - `sas_weight`.": (
                lambda *a: total(terms(*a[:5]), a[5], *a[5:])
            ),
            "The terms were added without their weights.": lambda *a: total(terms(*a[:5]), 1.0, 1.0, 1.0),
            "`sas_weight` was put on the absolute term as well: its weight is `similarity_weight` alone.": (
                lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], a[5] * a[6])
            ),
            "The absolute term was taken off: add it.": lambda *a: total(terms(*a[:5]), 1 - a[5], a[5], -a[6]),
            "The Feature Mask is missing from L_sa.": (lambda *a: total(terms(*a[:5], mask=0.0), 1 - a[5], *a[5:])),
            "The prototype loss stands in place of L_sa: it draws to the own prototypes, L_sa to the cross ones.": own,
            "The absolute term measures the own prototype: take the cross one.": own_similarity,
            **reductions(each),
        },
    )
    compare_gradients(
        function,
        cases,
        objective,
        {"prototypes": "The value is right, but a gradient reaches the prototypes: use `prototypes.detach()`."},
    )
    return "right. The network follows all three terms, the prototypes none of them."


@exercise("03.2")
def check_prototype_objective(function: Function) -> str:
    """Check f(embeddings, prototypes, labels, modality) -> scalar, L_p = CE(f.W, own) with fixed embeddings."""
    cases = [problem(seed + 20, *size) for seed, size in enumerate(_SIZES)]
    for case in cases:
        case["embeddings"].requires_grad_()
        case["prototypes"].requires_grad_()

    def objective(f: Tensor, w: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return losses.prototype_loss(losses.prototype_logits(f.detach(), w), y, m)

    def own(w: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return losses.own_prototype(y, m, w.shape[1] // 2)

    check_cases(
        function,
        cases,
        objective,
        "one loss for the whole batch",
        {
            "The target is the cross prototype: take the own one, as each prototype learns from its own spectrum.": (
                lambda f, w, y, m: objective(f, w, y, 1 - m)
            ),
            "This is L_sa, with mask and the cross prototype as target: leave out the mask, and take the own one.": (
                lambda f, w, y, m: losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m)
            ),
            "The target is the identity, as if all samples were visible: take the own prototype, y + m C.": (
                lambda f, w, y, m: objective(f, w, y, torch.zeros_like(m))
            ),
            "The rival is missing: the cross prototype is a negative like the others.": (
                lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m, rivals=False)
            ),
            "The own prototype was masked: leave out the mask, it is the target.": (
                lambda f, w, y, m: (
                    entropies(masked(losses.prototype_logits(f, w), own(w, y, m), 50.0), own(w, y, m)).mean(0).sum()
                )
            ),
            "These are cosines: logits are raw dot products.": (
                lambda f, w, y, m: objective(normalize(f, dim=2), normalize(w, dim=2), y, m)
            ),
            "This is the absolute term: L_p is a cross-entropy.": (
                lambda f, w, y, m: losses.absolute_similarity_loss(f, w, y, m)
            ),
            "This is the absolute term towards the own prototype: L_p is a cross-entropy.": (
                lambda f, w, y, m: losses.absolute_similarity_loss(f, w, y, 1 - m)
            ),
            "The softmax was taken twice: `cross_entropy` takes logits.": (
                lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w).softmax(2), y, m)
            ),
            "L_sa was added: the prototypes follow L_p alone.": (
                lambda f, w, y, m: objective(f, w, y, m) + losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m)
            ),
            **reductions(lambda f, w, y, m: entropies(losses.prototype_logits(f, w), own(w, y, m))),
        },
    )
    compare_gradients(
        function,
        cases,
        objective,
        {"embeddings": "The value is right, but a gradient reaches the embeddings: use `embeddings.detach()`."},
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
            "Only the weight of L_sa is 0 in the warm-up: let the absolute term wait as well.": (
                lambda s, w, a, b: np.array([weights(s, w, a, b)[0], b])
            ),
            "Only the weight of the absolute term is 0 in the warm-up: let L_sa wait as well.": (
                lambda s, w, a, b: np.array([a, weights(s, w, a, b)[1]])
            ),
            "It is the wrong way round: the weights are 0 during the warm-up, not after it.": (
                lambda s, w, a, b: np.array([a, b]) - weights(s, w, a, b)
            ),
            "The two weights are in the wrong order: return first sas, then similarity.": (
                lambda s, w, a, b: weights(s, w, a, b)[::-1]
            ),
            "The weights rise little by little: return 0, and then the full weight.": ramp,
            "There is no warm-up: before `warmup_steps` both weights are 0.": lambda s, w, a, b: np.array([a, b]),
            "The warm-up never ends: from `warmup_steps` on the weights are the full ones.": (
                lambda s, w, a, b: np.array([0.0, 0.0])
            ),
            "The weights are 1 after the warm-up: return `sas_weight` and `similarity_weight`.": (
                lambda s, w, a, b: weights(s, w, 1.0, 1.0)
            ),
            "The first weight comes twice: the second one is `similarity_weight`.": (
                lambda s, w, a, b: weights(s, w, a, a)
            ),
            "The second weight comes twice: the first one is `sas_weight`.": lambda s, w, a, b: weights(s, w, b, b),
            "Only step 0 is a warm-up in your answer: it takes `warmup_steps` steps.": (
                lambda s, w, a, b: weights(s, 1, a, b)
            ),
            "The first weight is that of the identity loss, 1 - `sas_weight`: return `sas_weight`.": (
                lambda s, w, a, b: weights(s, w, 1 - a, b)
            ),
            "This is one weight: return both, `(sas, similarity)`.": lambda s, w, a, b: weights(s, w, a, b)[0],
        },
    )
    return "right. In the first steps the network follows L_id alone, while the prototypes already learn."
