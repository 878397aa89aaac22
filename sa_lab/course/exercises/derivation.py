"""Exercises of chapter 01, derivation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from sa_lab import losses
from sa_lab.course.exercises.cases import problem
from sa_lab.course.exercises.checking import Function, check_cases, exercise


@exercise("01.1")
def check_cross_prototype(function: Function) -> str:
    """Check f(labels (B,), modality (B,), num_identities) -> (B,), rows of the cross prototypes."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, identities) in enumerate(((8, 5), (6, 3), (10, 7))):
        drawn = problem(seed, batch, 1, identities, 1)
        cases.append({"labels": drawn["labels"], "modality": drawn["modality"], "num_identities": identities})
    check_cases(
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
    """Check f(logits (B,P,2C), own (B,), cross (B,), mask_value) -> scalar, SA-Softmax with its mask."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, parts, identities, mask) in enumerate(((6, 2, 4, 50.0), (8, 3, 3, 2.0), (4, 2, 5, 1.0))):
        drawn = problem(seed, batch, parts, identities, 4)
        rows = (drawn["labels"], drawn["modality"], identities)
        logits = losses.prototype_logits(drawn["embeddings"], drawn["prototypes"])
        own, cross = losses.own_prototype(*rows), losses.cross_prototype(*rows)
        cases.append({"logits": logits, "own": own, "cross": cross, "mask_value": mask})

    def loss(logits: Tensor, own: Tensor, cross: Tensor, mask: float) -> Tensor:
        identities = logits.shape[2] // 2
        return losses.sa_softmax_loss(logits, own % identities, own // identities, mask)

    def taken_off(logits: Tensor, rows: Tensor, amount: float) -> Tensor:
        return logits - amount * one_hot(rows, logits.shape[2])[:, None]

    def each(logits: Tensor, rows: Tensor) -> Tensor:
        """(B,P)"""
        return cross_entropy(logits.transpose(1, 2), rows[:, None].expand(logits.shape[:2]), reduction="none")

    check_cases(
        function,
        cases,
        loss,
        "the mean over the batch, summed over the parts",
        {
            "This is the loss without mask: `mask_value` must be taken off the logit of the own prototype.": (
                lambda z, own, cross, mask: losses.identity_loss(z, cross)
            ),
            "The mask was taken off the cross prototype, which is the target: the own one is to be masked.": (
                lambda z, own, cross, mask: losses.identity_loss(taken_off(z, cross, mask), cross)
            ),
            "The mask was added: it must be taken off, so that the own prototype drops out of the competition.": (
                lambda z, own, cross, mask: losses.identity_loss(taken_off(z, own, -mask), cross)
            ),
            "This is the sum over the batch: the mean is asked.": (
                lambda z, own, cross, mask: len(z) * loss(z, own, cross, mask)
            ),
            "This is the mean over the parts: their sum is asked.": (
                lambda z, own, cross, mask: loss(z, own, cross, mask) / z.shape[1]
            ),
            "The target is the own prototype in your answer: the sample is drawn to the cross one.": (
                lambda z, own, cross, mask: losses.identity_loss(taken_off(z, own, mask), own)
            ),
            "This is the prototype loss: own prototype as target and no mask.": (
                lambda z, own, cross, mask: losses.identity_loss(z, own)
            ),
            "`logits[:, :, own]` masks the own prototypes of the whole batch for every sample: pair sample i with "
            "`own[i]` by `logits[range(len(own)), :, own]`.": (
                lambda z, own, cross, mask: losses.identity_loss(
                    z - mask * torch.zeros_like(z).index_fill(2, own, 1), cross
                )
            ),
            "The mask is 50 in your answer whatever `mask_value` is.": (
                lambda z, own, cross, mask: loss(z, own, cross, 50.0)
            ),
            "There is one loss a sample: the mean over the batch is missing.": (
                lambda z, own, cross, mask: each(taken_off(z, own, mask), cross).sum(1)
            ),
            "There is one loss a part: the sum over the parts is missing.": (
                lambda z, own, cross, mask: each(taken_off(z, own, mask), cross).mean(0)
            ),
        },
    )
    return "right. With the mask the own prototype can no longer take half of the probability."


@exercise("01.3")
def check_prototype_gradient(function: Function) -> str:
    """Check f(embeddings (B,D), rows (2C,D), own (B,), cross (B,), mask_value) -> (2C,D), the gradient of L_sa on W."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, identities, mask) in enumerate(((5, 3, 50.0), (8, 2, 2.0), (3, 4, 1.0))):
        drawn = problem(seed, batch, 1, identities, 3)
        index = (drawn["labels"], drawn["modality"], identities)
        own, cross = losses.own_prototype(*index), losses.cross_prototype(*index)
        embeddings, rows = 0.5 * drawn["embeddings"][:, 0], drawn["prototypes"][0]
        cases.append({"embeddings": embeddings, "rows": rows, "own": own, "cross": cross, "mask_value": mask})

    def gradient(f: Tensor, w: Tensor, own: Tensor, cross: Tensor, mask: float, of: int = 1) -> Tensor:
        both, identities = (f.clone().requires_grad_(), w.clone().requires_grad_()), len(w) // 2
        logits = losses.prototype_logits(both[0][:, None], both[1][None])
        loss = losses.sa_softmax_loss(logits, own % identities, own // identities, mask)
        return torch.autograd.grad(loss, both)[of]

    def surplus(f: Tensor, w: Tensor, own: Tensor, target: Tensor, mask: float) -> Tensor:
        return (f @ w.T - mask * one_hot(own, len(w))).softmax(1) - one_hot(target, len(w))

    check_cases(
        function,
        cases,
        gradient,
        "(2C,D), as the rows",
        {
            "The sign is the wrong way round: this is the direction of descent, the gradient points uphill.": (
                lambda f, w, own, cross, mask: -gradient(f, w, own, cross, mask)
            ),
            "The target is missing: 1 must be taken off its probability.": (
                lambda f, w, own, cross, mask: (surplus(f, w, own, cross, mask) + one_hot(cross, len(w))).T @ f / len(f)
            ),
            "The mask is missing: the probabilities are those after `mask_value` was taken off the own logit.": (
                lambda f, w, own, cross, mask: gradient(f, w, own, cross, 0.0)
            ),
            "This is the sum over the batch: the mean is asked.": (
                lambda f, w, own, cross, mask: len(f) * gradient(f, w, own, cross, mask)
            ),
            "This is the gradient of the prototype loss: own row as target, no mask.": (
                lambda f, w, own, cross, mask: surplus(f, w, own, own, 0.0).T @ f / len(f)
            ),
            "The target is the own row in your answer: L_sa draws the sample to the cross one.": (
                lambda f, w, own, cross, mask: surplus(f, w, own, own, mask).T @ f / len(f)
            ),
            "The softmax was forgotten: the factors are probabilities, not logits.": (
                lambda f, w, own, cross, mask: (
                    (f @ w.T - mask * one_hot(own, len(w)) - one_hot(cross, len(w))).T @ f / len(f)
                )
            ),
            "These are the factors p - [k = cross] alone (B,2C): each row still needs the sum of its samples.": (
                lambda f, w, own, cross, mask: surplus(f, w, own, cross, mask)
            ),
            "This is the gradient on the embeddings (B,D): the one on the rows is asked.": (
                lambda f, w, own, cross, mask: gradient(f, w, own, cross, mask, of=0)
            ),
            "Only the targets' rows move in your answer: every row does, with its probability.": (
                lambda f, w, own, cross, mask: (surplus(f, w, own, cross, mask) * one_hot(cross, len(w))).T @ f / len(f)
            ),
        },
    )
    return (
        "right. Down this slope each row goes to the samples of the *other* spectrum: prototypes that followed L_sa "
        "would swap sides."
    )


@exercise("01.4")
def check_absolute_term(function: Function) -> str:
    """Check f(embeddings (B,P,D), prototypes (P,2C,D), cross (B,)) -> scalar, (1 - cos)^2 over batch and parts."""
    cases: list[dict[str, Any]] = []
    for seed, (batch, parts, identities) in enumerate(((4, 2, 3), (7, 3, 2), (3, 2, 4))):
        drawn = problem(seed, batch, parts, identities, 5)
        cross = losses.cross_prototype(drawn["labels"], drawn["modality"], identities)
        cases.append({"embeddings": drawn["embeddings"], "prototypes": drawn["prototypes"], "cross": cross})

    def term(f: Tensor, w: Tensor, cross: Tensor) -> Tensor:
        identities = w.shape[1] // 2
        return losses.absolute_similarity_loss(f, w, cross % identities, 1 - cross // identities)

    def cosine(f: Tensor, w: Tensor, rows: Tensor) -> Tensor:
        """(B,P)"""
        return cosine_similarity(f, w[:, rows].transpose(0, 1), dim=2)

    def every(f: Tensor, w: Tensor, cross: Tensor) -> Tensor:
        return (1 - cosine_similarity(f[:, None], w[:, cross].transpose(0, 1)[None], dim=3)).square()  # (B,B,P)

    check_cases(
        function,
        cases,
        term,
        "the mean over the batch, summed over the parts",
        {
            "The square is missing: (1 - cos) squared.": lambda f, w, k: (1 - cosine(f, w, k)).sum(1).mean(),
            "This is the mean of cos squared: 1 - cos is to be squared.": (
                lambda f, w, k: cosine(f, w, k).square().sum(1).mean()
            ),
            "This is 1 - cos squared; the square belongs round all of (1 - cos).": (
                lambda f, w, k: (1 - cosine(f, w, k).square()).sum(1).mean()
            ),
            "The vectors were not divided by their lengths: a dot product is no cosine.": (
                lambda f, w, k: (1 - (f * w[:, k].transpose(0, 1)).sum(2)).square().sum(1).mean()
            ),
            "1 + cos instead of 1 - cos: this pushes the sample to the opposite direction.": (
                lambda f, w, k: (1 + cosine(f, w, k)).square().sum(1).mean()
            ),
            "This is the sum over the batch: the mean is asked.": lambda f, w, k: len(f) * term(f, w, k),
            "This is the mean over the parts: their sum is asked.": lambda f, w, k: term(f, w, k) / f.shape[1],
            "The mean was taken before the square: square each sample's 1 - cos first.": (
                lambda f, w, k: (1 - cosine(f, w, k)).mean(0).square().sum()
            ),
            "There is one term a sample: the mean over the batch is missing.": (
                lambda f, w, k: (1 - cosine(f, w, k)).square().sum(1)
            ),
            "There is one term a part: the sum over the parts is missing.": (
                lambda f, w, k: (1 - cosine(f, w, k)).square().mean(0)
            ),
            "Every embedding was compared with every target: only the pairs of one sample are asked.": (
                lambda f, w, k: every(f, w, k).sum(2).mean()
            ),
            "Every part was compared with the prototypes of the first: part p has its own, `prototypes[p]`.": (
                lambda f, w, k: (1 - cosine_similarity(f, w[0, k][:, None], dim=2)).square().sum(1).mean()
            ),
            "These are the own prototypes: `cross` has the rows that are asked.": (
                lambda f, w, k: term(f, w, (k + w.shape[1] // 2) % w.shape[1])
            ),
        },
    )
    return "right. It is 0 only where the sample points exactly to its target, whatever the other rows do."
