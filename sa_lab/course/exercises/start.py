"""Exercises of chapter 00, start here."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from sa_lab import losses
from sa_lab.course.exercises.cases import problem
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases


@exercise("00.1")
def check_logits(function: Function) -> str:
    """Check f(embeddings (B,P,D), prototypes (P,K,D)) -> (B,P,K), the dot products part by part."""
    sizes = ((4, 3, 2, 5), (3, 3, 4, 3), (5, 1, 3, 4), (2, 4, 3, 2))
    drawn = [problem(seed, *size) for seed, size in enumerate(sizes)]
    check_cases(
        function,
        [{name: case[name] for name in ("embeddings", "prototypes")} for case in drawn],
        losses.prototype_logits,
        "(B,P,K), one logit per sample, part and prototype",
        {
            "These are cosines: do not divide by the lengths, logits are raw dot products.": (
                lambda f, w: losses.prototype_logits(normalize(f, dim=2), normalize(w, dim=2))
            ),
            "Do not divide the embeddings by their lengths: logits are raw dot products.": (
                lambda f, w: losses.prototype_logits(normalize(f, dim=2), w)
            ),
            "Do not divide the prototypes by their lengths: logits are raw dot products.": (
                lambda f, w: losses.prototype_logits(f, normalize(w, dim=2))
            ),
            "These are probabilities: leave the softmax to the loss.": (
                lambda f, w: losses.prototype_logits(f, w).softmax(2)
            ),
            "These are logarithms of probabilities: leave the softmax to the loss.": (
                lambda f, w: losses.prototype_logits(f, w).log_softmax(2)
            ),
            "Do not divide by the root of the number of channels: logits have no scale.": (
                lambda f, w: losses.prototype_logits(f, w) / f.shape[2] ** 0.5
            ),
            "The products of the channels are averaged in your answer: add them up.": (
                lambda f, w: losses.prototype_logits(f, w) / f.shape[2]
            ),
            "The products are not added up over the channels: sum over the last axis.": lambda f, w: f[:, :, None] * w,
            "These are distances: multiply the channels and add up, instead of subtracting.": (
                lambda f, w: (f[:, :, None] - w).norm(dim=3)
            ),
            "The axes are in the order (P,B,K): swap the first two.": (
                lambda f, w: losses.prototype_logits(f, w).transpose(0, 1)
            ),
            "The axes are in the order (B,K,P): swap the last two.": (
                lambda f, w: losses.prototype_logits(f, w).transpose(1, 2)
            ),
            "The sample's place in the batch was taken for its part: `@` pairs the first axes, B of the embeddings and "
            "P of the prototypes. Name the axes with `einsum`.": lambda f, w: f @ w.transpose(1, 2),
            "Every part was compared with the prototypes of the first part: compare part p with `prototypes[p]`.": (
                lambda f, w: f @ w[0].T
            ),
            "The parts were added up: keep their axis.": lambda f, w: losses.prototype_logits(f, w).sum(1),
            "The parts were averaged: keep their axis.": lambda f, w: losses.prototype_logits(f, w).mean(1),
            "Every part was compared with the prototypes of every part: compare part p with `prototypes[p]` alone.": (
                lambda f, w: torch.einsum("bpd,qkd->bpqk", f, w)
            ),
        },
    )
    return "right. No length is divided out: a long embedding makes all its logits large."


@exercise("00.2")
def check_cosine(function: Function) -> str:
    """Check f(a (N,D), b (N,D)) -> (N,), the cosine of each row of a with the same row of b."""
    generator = torch.Generator().manual_seed(2)
    cases = [
        {"a": 2 * torch.randn(n, d, generator=generator), "b": 3 * torch.randn(n, d, generator=generator)}
        for n, d in ((4, 3), (3, 3), (6, 8))
    ]

    def matrix(a: Tensor, b: Tensor) -> Tensor:
        return normalize(a, dim=1) @ normalize(b, dim=1).T

    check_cases(
        function,
        cases,
        lambda a, b: cosine_similarity(a, b, dim=1),
        "(N,), one cosine per row",
        {
            "This is the distance 1 - cos, which is 0 for equal directions: return the cosine, which is 1 there.": (
                lambda a, b: 1 - cosine_similarity(a, b, dim=1)
            ),
            "This is the negative cosine: a similarity is higher where the rows are closer.": (
                lambda a, b: -cosine_similarity(a, b, dim=1)
            ),
            "This is the Euclidean distance: return the dot product over the lengths.": (
                lambda a, b: (a - b).norm(dim=1)
            ),
            "This is the angle: return its cosine.": lambda a, b: cosine_similarity(a, b, dim=1).acos(),
            "These are dot products: divide by the lengths of both rows.": lambda a, b: (a * b).sum(1),
            "Only `a` was divided by its length: divide `b` as well.": lambda a, b: (normalize(a, dim=1) * b).sum(1),
            "Only `b` was divided by its length: divide `a` as well.": lambda a, b: (a * normalize(b, dim=1)).sum(1),
            "This is the full table (N,N) of every row with every row: return its diagonal alone.": matrix,
            "Lengths were taken along the samples (`dim=0`): take them along the channels (`dim=1`).": (
                lambda a, b: (normalize(a, dim=0) * normalize(b, dim=0)).sum(1)
            ),
            "The cosine was taken along the samples (`dim=0`): take it along the channels (`dim=1`).": (
                lambda a, b: cosine_similarity(a, b, dim=0)
            ),
            "The dot product was divided by squared lengths: divide by the lengths themselves.": (
                lambda a, b: (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1))
            ),
            "The dot product was divided by the sum of the lengths: divide by their product.": (
                lambda a, b: (a * b).sum(1) / (a.norm(dim=1) + b.norm(dim=1))
            ),
            "The products of unit vectors were averaged over the channels: add them up.": (
                lambda a, b: cosine_similarity(a, b, dim=1) / a.shape[1]
            ),
            "The mean was taken off each row first, which gives the correlation: do not take it off.": (
                lambda a, b: cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1)
            ),
            "This is one number for all rows: return one cosine for each.": (
                lambda a, b: cosine_similarity(a, b, dim=1).mean()
            ),
            "Lengths of the whole tables were taken: take those of the rows.": (
                lambda a, b: (a * b).sum(1) / (a.norm() * b.norm())
            ),
        },
    )
    return "right. The cosine depends on the directions alone: `a` of any length gives the same."
