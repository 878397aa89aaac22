"""Chapter 00."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, normalize

from answers.table import Answers
from sa_lab import losses


def products(f, w):
    return torch.einsum("bpd,pkd->bpk", f, w)


def looped(f, w):
    out = torch.zeros(len(f), f.shape[1], w.shape[1])
    for b in range(len(f)):
        for p in range(f.shape[1]):
            out[b, p] = w[p] @ f[b, p]
    return out


def in_place_unit(a, b):
    a /= a.norm(dim=1, keepdim=True)
    return (a * normalize(b)).sum(1)


ANSWERS = {
    "logits": Answers(
        right=[
            products,
            losses.prototype_logits,
            lambda f, w: (f[:, :, None] * w).sum(3),
            lambda f, w: torch.stack([f[:, p] @ w[p].T for p in range(f.shape[1])], 1),
            lambda f, w: np.einsum("bpd,pkd->bpk", f.numpy(), w.numpy()),
            lambda f, w: torch.bmm(f.transpose(0, 1), w.transpose(1, 2)).transpose(0, 1),
            looped,
        ],
        wrong=[
            ("These are cosines", lambda f, w: products(normalize(f, dim=2), normalize(w, dim=2))),
            ("Do not divide the embeddings", lambda f, w: products(f / f.norm(dim=2, keepdim=True), w)),
            ("Do not divide the prototypes", lambda f, w: products(f, w / w.norm(dim=2, keepdim=True))),
            ("These are probabilities", lambda f, w: products(f, w).softmax(2)),
            ("logarithms of probabilities", lambda f, w: products(f, w).softmax(-1).log()),
            ("root of the number of channels", lambda f, w: products(f, w) / np.sqrt(f.shape[-1])),
            ("averaged in your answer: add", lambda f, w: (f[:, :, None] * w).mean(3)),
            ("not added up over the channels", lambda f, w: torch.einsum("bpd,pkd->bpkd", f, w)),
            ("These are distances", lambda f, w: (f[:, :, None] - w[None]).square().sum(-1).sqrt()),
            ("order (P,B,K)", lambda f, w: torch.bmm(f.transpose(0, 1), w.transpose(1, 2))),
            ("order (B,K,P)", lambda f, w: torch.einsum("bpd,pkd->bkp", f, w)),
            ("place in the batch was taken for its part", lambda f, w: f @ w.transpose(1, 2)),
            ("prototypes of the first part", lambda f, w: f @ w[0].T),
            ("parts were added up", lambda f, w: torch.einsum("bpd,pkd->bk", f, w)),
            ("parts were averaged", lambda f, w: products(f, w).mean(1)),
            ("prototypes of every part", lambda f, w: torch.einsum("bpd,qkd->bpqk", f, w)),
            ("sign is wrong", lambda f, w: -products(f, w)),
            ("twice the right answer", lambda f, w: products(f, w) + products(f, w)),
            ("axis of length 1 too many", lambda f, w: products(f, w)[..., None]),
            ("of shape `(48,)`", lambda f, w: products(f, w).flatten()),
        ],
    ),
    "cosine": Answers(
        right=[
            cosine_similarity,
            lambda a, b: (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1),
            lambda a, b: [float(cosine_similarity(x, y, dim=0)) for x, y in zip(a, b, strict=True)],
            lambda a, b: torch.diagonal(normalize(a) @ normalize(b).T),
            lambda a, b: np.einsum("nd,nd->n", a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1),
        ],
        wrong=[
            ("distance 1 - cos", lambda a, b: 1 - cosine_similarity(a, b)),
            ("negative cosine", lambda a, b: -cosine_similarity(a, b)),
            ("Euclidean distance", lambda a, b: (a - b).square().sum(1).sqrt()),
            ("angle", lambda a, b: torch.arccos(cosine_similarity(a, b))),
            ("divide by the lengths of both rows", lambda a, b: (a * b).sum(1)),
            ("Only `a`", lambda a, b: (a * b).sum(1) / a.norm(dim=1)),
            ("Only `b`", lambda a, b: (a * b).sum(1) / b.norm(dim=1)),
            ("full table (N,N)", lambda a, b: normalize(a) @ normalize(b).T),
            ("Lengths were taken along the samples", lambda a, b: (a / a.norm(dim=0) * b / b.norm(dim=0)).sum(1)),
            ("cosine was taken along the samples", lambda a, b: cosine_similarity(a, b, dim=0)),
            ("squared lengths", lambda a, b: (a * b).sum(1) / (a**2).sum(1) / (b**2).sum(1)),
            ("sum of the lengths", lambda a, b: (a * b).sum(1) / (a.norm(dim=1) + b.norm(dim=1))),
            ("averaged over the channels", lambda a, b: (normalize(a) * normalize(b)).mean(1)),
            ("correlation", lambda a, b: [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]),
            ("one number for all rows", lambda a, b: cosine_similarity(a, b).mean()),
            ("Lengths of the whole tables", lambda a, b: (a * b).sum(1) / a.norm() / b.norm()),
            ("signs are lost", lambda a, b: cosine_similarity(a, b).abs()),
            ("square of the right answer", lambda a, b: cosine_similarity(a, b) ** 2),
            ("changes its argument `a` in place", in_place_unit),
            ("holds no numbers yet", lambda a, b: (float(x @ y) for x, y in zip(a, b, strict=True))),
        ],
    ),
}
