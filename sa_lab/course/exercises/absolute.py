"""Exercise 01.4 of chapter 01, derivation: the absolute term."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity

from sa_lab import losses
from sa_lab.course.exercises.cases import problem
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases, reductions, total


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

    def each(f: Tensor, w: Tensor, cross: Tensor) -> Tensor:
        return (1 - cosine(f, w, cross)).square()

    def every(f: Tensor, w: Tensor, cross: Tensor) -> Tensor:
        return (1 - cosine_similarity(f[:, None], w[:, cross].transpose(0, 1)[None], dim=3)).square()  # (B,B,P)

    check_cases(
        function,
        cases,
        term,
        "the mean over the batch, summed over the parts",
        {
            "The square is missing: square 1 - cos.": lambda f, w, k: total(1 - cosine(f, w, k)),
            "This is the mean of cos squared: square 1 - cos.": lambda f, w, k: total(cosine(f, w, k).square()),
            "This is 1 - cos squared: put the square round all of (1 - cos).": (
                lambda f, w, k: total(1 - cosine(f, w, k).square())
            ),
            "This is the mean of the cosines: square 1 - cos.": lambda f, w, k: total(cosine(f, w, k)),
            "The vectors were not divided by their lengths: a dot product is no cosine.": (
                lambda f, w, k: total((1 - (f * w[:, k].transpose(0, 1)).sum(2)).square())
            ),
            "This is 1 + cos, which pushes the sample in the opposite direction: take 1 - cos.": (
                lambda f, w, k: total((1 + cosine(f, w, k)).square())
            ),
            "The mean was taken before the square: square each sample's 1 - cos first.": (
                lambda f, w, k: (1 - cosine(f, w, k)).mean(0).square().sum()
            ),
            "The parts were added up before the square: square each part's 1 - cos first.": (
                lambda f, w, k: (1 - cosine(f, w, k)).sum(1).square().mean()
            ),
            "The parts were averaged before the square: square each part's 1 - cos first.": (
                lambda f, w, k: (1 - cosine(f, w, k)).mean(1).square().mean()
            ),
            "The square was taken last, of the whole loss: square each 1 - cos first.": (
                lambda f, w, k: total(1 - cosine(f, w, k)).square()
            ),
            "You took one cosine over all parts together: take one for each part.": (
                lambda f, w, k: (
                    (1 - cosine_similarity(f.flatten(1), w[:, k].transpose(0, 1).flatten(1), dim=1)).square().mean()
                )
            ),
            "These are Euclidean distances: take the cosine, which ignores lengths.": (
                lambda f, w, k: total((f - w[:, k].transpose(0, 1)).norm(dim=2))
            ),
            "These are squared Euclidean distances: take the cosine, which ignores lengths.": (
                lambda f, w, k: total((f - w[:, k].transpose(0, 1)).square().sum(2))
            ),
            "These are squared distances of unit vectors, 2 (1 - cos): square 1 - cos instead.": (
                lambda f, w, k: total(2 * (1 - cosine(f, w, k)))
            ),
            "The cosine was taken along the parts: take it along the channels, the last axis.": (
                lambda f, w, k: (1 - cosine_similarity(f, w[:, k].transpose(0, 1), dim=1)).square().sum(1).mean()
            ),
            "Every embedding was compared with every target: compare each with its own.": (
                lambda f, w, k: every(f, w, k).sum(2).mean()
            ),
            "Every part was compared with the prototypes of the first: compare part p with `prototypes[p]`.": (
                lambda f, w, k: total((1 - cosine_similarity(f, w[0, k][:, None], dim=2)).square())
            ),
            "These are the own prototypes: take the rows in `cross`.": (
                lambda f, w, k: term(f, w, (k + w.shape[1] // 2) % w.shape[1])
            ),
            **reductions(each),
        },
    )
    return "right. It is 0 only where the sample points exactly at its target, whatever the other rows do."
