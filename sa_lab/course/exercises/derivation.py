"""Exercises of chapter 01, derivation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from sa_lab import losses
from sa_lab.course.exercises.cases import entropies, masked, problem
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases, reductions, total


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
        "(B,), one prototype row per sample",
        {
            "This is the own prototype: take the row in the other half.": losses.own_prototype,
            "Add the offset C: the infrared half starts at row `num_identities`.": lambda y, m, c: y,
            "`num_identities` was added for every sample, which is right for visible ones: infrared ones have their "
            "cross prototype in the visible half, rows 0..C-1.": lambda y, m, c: y + c,
            "The offset is 1 in your answer: the halves are `num_identities` rows apart.": lambda y, m, c: y + 1 - m,
            "The rows were taken as visible, infrared, visible, ... in turn: all visible rows come first.": (
                lambda y, m, c: 2 * y + 1 - m
            ),
            "The halves are C - 1 rows apart in your answer: the infrared half starts at row `num_identities`.": (
                lambda y, m, c: y + (1 - m) * (c - 1)
            ),
            "The halves are C + 1 rows apart in your answer: rows count from 0, so row C is the first infrared one.": (
                lambda y, m, c: y + (1 - m) * (c + 1)
            ),
            "The rows count from 1 in your answer: count from 0.": lambda y, m, c: losses.cross_prototype(y, m, c) + 1,
            "Infrared samples lie in rows below 0: `modality` is 1 for infrared, so the offset is (1 - m) C.": (
                lambda y, m, c: y + (1 - 2 * m) * c
            ),
            "Some rows are below 0: `~modality` is -1 or -2 for integers, write `1 - modality`.": (
                lambda y, m, c: y + ~m * c
            ),
            "This is the offset alone: add the identity.": lambda y, m, c: (1 - m) * c,
            "`labels` and `modality` are exchanged.": lambda y, m, c: m + (1 - y) * c,
            "The identity was multiplied, not the offset: y + (1 - m) C.": lambda y, m, c: (y + 1 - m) * c,
            "Infrared samples have row 0 in your answer: keep their identity.": lambda y, m, c: (1 - m) * (y + c),
            "The offset is twice C: the halves are `num_identities` rows apart.": lambda y, m, c: y + 2 * (1 - m) * c,
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

    def each(logits: Tensor, own: Tensor, cross: Tensor, mask: float) -> Tensor:
        return entropies(masked(logits, own, mask), cross)

    check_cases(
        function,
        cases,
        loss,
        "the mean over the batch, summed over the parts",
        {
            "The mask is missing: take `mask_value` off the logit of the own prototype.": (
                lambda z, own, cross, mask: losses.identity_loss(z, cross)
            ),
            "The mask was taken off the cross prototype, which is the target: mask the own one.": (
                lambda z, own, cross, mask: total(entropies(masked(z, cross, mask), cross))
            ),
            "The mask was added: take it off, so that the own prototype drops out of the competition.": (
                lambda z, own, cross, mask: total(each(z, own, cross, -mask))
            ),
            "The target is the own prototype in your answer: draw the sample to the cross one.": (
                lambda z, own, cross, mask: total(each(z, own, own, mask))
            ),
            "This is the prototype loss, with own as target and no mask: target the cross one, and mask the own.": (
                lambda z, own, cross, mask: losses.identity_loss(z, own)
            ),
            "`logits[:, :, own]` masks the own prototypes of the whole batch for every sample: pair sample i with "
            "`own[i]` by `logits[range(len(own)), :, own]`.": (
                lambda z, own, cross, mask: losses.identity_loss(
                    z - mask * torch.zeros_like(z).index_fill(2, own, 1), cross
                )
            ),
            "The mask is 50 or more in your answer whatever `mask_value` is: take `mask_value` off, and no more.": (
                lambda z, own, cross, mask: loss(z, own, cross, 50.0)
            ),
            "The own logit was replaced: take `mask_value` off it.": (
                lambda z, own, cross, mask: total(
                    entropies(torch.where(one_hot(own, z.shape[2]).bool()[:, None], -mask, z), cross)
                )
            ),
            "The own logit was set to 0: take `mask_value` off it.": (
                lambda z, own, cross, mask: total(entropies(z * (1 - one_hot(own, z.shape[2])[:, None]), cross))
            ),
            "The softmax was taken twice: `cross_entropy` takes logits.": (
                lambda z, own, cross, mask: total(entropies(masked(z, own, mask).softmax(2), cross))
            ),
            "The softmax was taken over the batch: take it over the prototypes, the last axis.": (
                lambda z, own, cross, mask: total(_picked(-masked(z, own, mask).log_softmax(0), cross))
            ),
            "The softmax was taken over the parts: take it over the prototypes, the last axis.": (
                lambda z, own, cross, mask: total(_picked(-masked(z, own, mask).log_softmax(1), cross))
            ),
            "This is the probability of the target: take its logarithm, and turn the sign round.": (
                lambda *a: total((-each(*a)).exp())
            ),
            "This is 1 minus the probability of the target: take its logarithm, and turn the sign round.": (
                lambda *a: total(1 - (-each(*a)).exp())
            ),
            "The softmax is missing: this is the logit of the target.": (
                lambda z, own, cross, mask: total(_picked(-masked(z, own, mask), cross))
            ),
            "The mean of the probabilities was taken before the logarithm: take the logarithm of each first.": (
                lambda *a: -(-each(*a)).exp().mean(0).log().sum()
            ),
            **reductions(each),
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
            "The sign is wrong: this is the direction of descent, but the gradient points uphill.": (
                lambda f, w, own, cross, mask: -gradient(f, w, own, cross, mask)
            ),
            "The target is missing: take 1 off its probability.": (
                lambda f, w, own, cross, mask: (surplus(f, w, own, cross, mask) + one_hot(cross, len(w))).T @ f / len(f)
            ),
            "The mask is missing: take `mask_value` off the own logit before you compute the probabilities.": (
                lambda f, w, own, cross, mask: gradient(f, w, own, cross, 0.0)
            ),
            "The mask was added: take it off the own logit.": (
                lambda f, w, own, cross, mask: surplus(f, w, own, cross, -mask).T @ f / len(f)
            ),
            "The mask was taken off the cross logit: take it off the own one.": (
                lambda f, w, own, cross, mask: (
                    ((f @ w.T - mask * one_hot(cross, len(w))).softmax(1) - one_hot(cross, len(w))).T @ f / len(f)
                )
            ),
            "Take the mean over the batch, not the sum: divide by B.": (
                lambda f, w, own, cross, mask: len(f) * gradient(f, w, own, cross, mask)
            ),
            "You divided by the number of rows: divide by the number of samples.": (
                lambda f, w, own, cross, mask: len(f) / len(w) * gradient(f, w, own, cross, mask)
            ),
            "This is the gradient of the prototype loss, with the own row as target and no mask: target the cross "
            "row, and mask the own one.": lambda f, w, own, cross, mask: surplus(f, w, own, own, 0.0).T @ f / len(f),
            "The target is the own row in your answer: L_sa draws the sample to the cross one.": (
                lambda f, w, own, cross, mask: surplus(f, w, own, own, mask).T @ f / len(f)
            ),
            "The softmax is missing: the factors are probabilities, not logits.": (
                lambda f, w, own, cross, mask: (
                    (f @ w.T - mask * one_hot(own, len(w)) - one_hot(cross, len(w))).T @ f / len(f)
                )
            ),
            "The softmax was taken over the batch (`dim=0`): take it over the rows (`dim=1`).": (
                lambda f, w, own, cross, mask: (
                    ((f @ w.T - mask * one_hot(own, len(w))).softmax(0) - one_hot(cross, len(w))).T @ f / len(f)
                )
            ),
            "These are the factors p - [k = cross] alone, (B,2C): multiply each with its sample, and add up for each "
            "row.": lambda f, w, own, cross, mask: surplus(f, w, own, cross, mask),
            "This is the gradient on the embeddings, (B,D): return the one on the rows.": (
                lambda f, w, own, cross, mask: gradient(f, w, own, cross, mask, of=0)
            ),
            "Only the targets' rows move in your answer: every row does, with its probability.": (
                lambda f, w, own, cross, mask: (surplus(f, w, own, cross, mask) * one_hot(cross, len(w))).T @ f / len(f)
            ),
            "The targets' rows stand still in your answer: they get p - 1.": (
                lambda f, w, own, cross, mask: (
                    (surplus(f, w, own, cross, mask) * (1 - one_hot(cross, len(w)))).T @ f / len(f)
                )
            ),
            "The own rows stand still in your answer: after the mask they get their probability, like every row.": (
                lambda f, w, own, cross, mask: (
                    (surplus(f, w, own, cross, mask) * (1 - one_hot(own, len(w)))).T @ f / len(f)
                )
            ),
        },
    )
    return (
        "right. Downhill, each row moves to the samples of the *other* spectrum: prototypes that followed L_sa "
        "would swap sides."
    )


def _picked(values: Tensor, rows: Tensor) -> Tensor:
    """(B,P) of (B,P,K): the entry of each sample's row."""
    return values.gather(2, rows[:, None, None].expand(-1, values.shape[1], 1))[..., 0]
