"""Exercises of chapter 01, derivation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from sa_lab import losses
from sa_lab.exercises.cases import problem
from sa_lab.exercises.checking import Function, compare, exercise


@exercise("01.1")
def check_cross_prototype(function: Function) -> str:
    """Check f(labels (B,), modality (B,), num_identities) -> (B,), rows of the cross prototypes."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, identities) in enumerate(((8, 5), (6, 3), (10, 7))):
        drawn = problem(seed, batch, 1, identities, 1)
        cases.append({"labels": drawn["labels"], "modality": drawn["modality"], "num_identities": identities})
    compare(
        function,
        cases,
        losses.cross_prototype,
        "(B,), one prototype row a sample",
        {
            "This is the own prototype: the cross one stands in the other half.": losses.own_prototype,
            "The offset C is missing: the infrared half starts at row `num_identities`.": lambda y, m, c: y,
            "`num_identities` was added for every sample: right for visible samples; infrared ones have their cross "
            "prototype in the visible half, rows 0..C-1.": lambda y, m, c: y + c,
            "The offset is 1 instead of C: the halves are `num_identities` rows apart.": lambda y, m, c: y + 1 - m,
            "The rows were taken as visible, infrared, visible, ... in turn: all visible rows come first.": (
                lambda y, m, c: 2 * y + 1 - m
            ),
            "The halves are C - 1 rows apart in your answer: the infrared half starts at row `num_identities`.": (
                lambda y, m, c: y + (1 - m) * (c - 1)
            ),
            "Infrared samples lie in rows below 0: `modality` is 1 for infrared, so the offset is (1 - m) C.": (
                lambda y, m, c: y + (1 - 2 * m) * c
            ),
        },
    )
    return "right. Own and cross prototype always lie C rows apart, in opposite halves."


@exercise("01.2")
def check_masked_loss(function: Function) -> str:
    """Check f(logits (B,2C) of one part, own (B,), cross (B,), mask_value) -> scalar, SA-Softmax with its mask."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, identities, mask) in enumerate(((6, 4, 50.0), (8, 3, 2.0), (4, 5, 1.0))):
        drawn = problem(seed, batch, 1, identities, 4)
        rows = (drawn["labels"], drawn["modality"], identities)
        logits = losses.prototype_logits(drawn["embeddings"], drawn["prototypes"])[:, 0]
        own, cross = losses.own_prototype(*rows), losses.cross_prototype(*rows)
        cases.append({"logits": logits, "own": own, "cross": cross, "mask_value": mask})

    def loss(logits: Tensor, own: Tensor, cross: Tensor, mask: float) -> Tensor:
        identities = logits.shape[1] // 2
        return losses.sa_softmax_loss(logits[:, None], own % identities, own // identities, mask)

    def taken_off(logits: Tensor, rows: Tensor, amount: float) -> Tensor:
        return logits - amount * one_hot(rows, logits.shape[1])

    compare(
        function,
        cases,
        loss,
        "the mean over the batch",
        {
            "This is the loss without mask: `mask_value` must be taken off the logit of the own prototype.": (
                lambda z, own, cross, mask: cross_entropy(z, cross)
            ),
            "The mask was taken off the cross prototype, which is the target: the own one is to be masked.": (
                lambda z, own, cross, mask: cross_entropy(taken_off(z, cross, mask), cross)
            ),
            "The mask was added: it must be taken off, so that the own prototype drops out of the competition.": (
                lambda z, own, cross, mask: cross_entropy(taken_off(z, own, -mask), cross)
            ),
            "This is the sum over the batch: the mean is asked.": (
                lambda z, own, cross, mask: len(z) * loss(z, own, cross, mask)
            ),
            "The target is the own prototype in your answer: the sample is drawn to the cross one.": (
                lambda z, own, cross, mask: cross_entropy(taken_off(z, own, mask), own)
            ),
            "This is the prototype loss: own prototype as target and no mask.": (
                lambda z, own, cross, mask: cross_entropy(z, own)
            ),
            "`logits[:, own]` masks the own prototypes of the whole batch for every sample: pair sample i with "
            "`own[i]` by `logits[range(len(own)), own]`.": (
                lambda z, own, cross, mask: cross_entropy(z - mask * torch.zeros_like(z).index_fill(1, own, 1), cross)
            ),
            "The mask is 50 in your answer whatever `mask_value` is.": (
                lambda z, own, cross, mask: loss(z, own, cross, 50.0)
            ),
            "There is one loss a sample: the mean over the batch is missing.": (
                lambda z, own, cross, mask: cross_entropy(taken_off(z, own, mask), cross, reduction="none")
            ),
        },
    )
    return "right. With the mask the own prototype can no longer take half of the probability."


@exercise("01.3")
def check_softmax_gradient(function: Function) -> str:
    """Check f(embedding (D,), rows (K,D), target) -> (D,), the gradient of the cross-entropy on the embedding."""
    generator = torch.Generator().manual_seed(4)
    cases = [
        {
            "embedding": torch.randn(d, generator=generator),
            "rows": torch.randn(k, d, generator=generator),
            "target": target,
        }
        for k, d, target in ((4, 4, 2), (3, 3, 0), (5, 3, 4), (2, 6, 1))
    ]

    def gradient(embedding: Tensor, rows: Tensor, target: int, of: int = 0) -> Tensor:
        both = (embedding.clone().requires_grad_(), rows.clone().requires_grad_())
        logits = losses.prototype_logits(both[0][None, None], both[1][None])
        return torch.autograd.grad(losses.identity_loss(logits, torch.tensor([target])), both)[of]

    def surplus(f: Tensor, w: Tensor, target: int) -> Tensor:
        return (w @ f).softmax(0) - one_hot(torch.tensor(target), len(w))

    compare(
        function,
        cases,
        gradient,
        "(D,), as the embedding",
        {
            "The sign is the wrong way round: this is the direction of descent, the gradient points uphill.": (
                lambda f, w, target: -gradient(f, w, target)
            ),
            "The target is missing: 1 must be taken off its probability.": (
                lambda f, w, target: (w @ f).softmax(0) @ w
            ),
            "`rows` is transposed in the last product: add up the rows, each with its own factor.": (
                lambda f, w, target: w @ surplus(f, w, target)
            ),
            "The softmax was forgotten: the factors are probabilities, not logits.": (
                lambda f, w, target: (w @ f - one_hot(torch.tensor(target), len(w))) @ w
            ),
            "These are the factors p - [k = target] alone: the sum over the rows is missing.": surplus,
            "This is the gradient on the rows (K,D): the one on the embedding is asked.": (
                lambda f, w, target: gradient(f, w, target, of=1)
            ),
            "Only the target's row counts in your answer: every row pushes, with its probability.": (
                lambda f, w, target: surplus(f, w, target)[target] * w[target]
            ),
        },
    )
    return "right. The sample moves towards its target and off the rows that take probability from it."


@exercise("01.4")
def check_absolute_term(function: Function) -> str:
    """Check f(embeddings (B,D), targets (B,D)) -> scalar, the mean of (1 - cos)^2."""
    generator = torch.Generator().manual_seed(5)
    cases = [
        {"embeddings": torch.randn(b, d, generator=generator), "targets": 2 * torch.randn(b, d, generator=generator)}
        for b, d in ((4, 3), (7, 5), (3, 3))
    ]

    def term(embeddings: Tensor, targets: Tensor) -> Tensor:
        labels = torch.arange(len(targets))
        rows = torch.cat([torch.zeros_like(targets), targets])[None]
        return losses.absolute_similarity_loss(embeddings[:, None], rows, labels, torch.zeros_like(labels))

    compare(
        function,
        cases,
        term,
        "the mean over the batch",
        {
            "The square is missing: (1 - cos) squared.": lambda f, w: (1 - cosine_similarity(f, w)).mean(),
            "This is the mean of cos squared: 1 - cos is to be squared.": (
                lambda f, w: cosine_similarity(f, w).square().mean()
            ),
            "This is 1 - cos squared; the square belongs round all of (1 - cos).": (
                lambda f, w: (1 - cosine_similarity(f, w).square()).mean()
            ),
            "The vectors were not divided by their lengths: a dot product is no cosine.": (
                lambda f, w: (1 - (f * w).sum(1)).square().mean()
            ),
            "1 + cos instead of 1 - cos: this pushes the sample to the opposite direction.": (
                lambda f, w: (1 + cosine_similarity(f, w)).square().mean()
            ),
            "This is the sum over the batch: the mean is asked.": lambda f, w: len(f) * term(f, w),
            "The mean was taken before the square: square each sample's 1 - cos first.": (
                lambda f, w: (1 - cosine_similarity(f, w)).mean().square()
            ),
            "There is one term a sample: the mean over the batch is missing.": (
                lambda f, w: (1 - cosine_similarity(f, w)).square()
            ),
            "Every embedding was compared with every target: only the pairs of one row are asked.": (
                lambda f, w: (1 - cosine_similarity(f[:, None], w[None], dim=2)).square().mean()
            ),
        },
    )
    return "right. It is 0 only where the sample points exactly to its target, whatever the other rows do."
