"""Chapter 03."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, normalize

from answers.derivation import entropies, masked, of_pairs, over_batch
from answers.table import Answers
from sa_lab import losses


def objective(f, z, w, y, m, sas, similarity, hold=torch.Tensor.detach, mask=50.0, weights=None):
    w = hold(w)
    identity_weight, sas_weight, similarity_weight = weights or (1 - sas, sas, similarity)
    relative = losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m, mask)
    absolute = losses.absolute_similarity_loss(f, w, y, m)
    return identity_weight * losses.identity_loss(z, y) + sas_weight * relative + similarity_weight * absolute


def each_objective(f, z, w, y, m, sas, similarity):
    """(B,P), by hand."""
    w, c = w.detach(), w.shape[1] // 2
    own, cross = y + m * c, y + (1 - m) * c
    relative = masked(torch.einsum("bpd,pkd->bpk", f, w), own, cross, 50.0)
    return (1 - sas) * entropies(z, y) + sas * relative + similarity * (1 - of_pairs(f, w, cross)).square()


def by_module(f, z, w, y, m, sas, similarity):
    criterion = losses.SASoftmaxLoss(w.shape[1] // 2, w.shape[2], w.shape[0], sas, similarity)
    criterion.prototypes.data = w.detach().clone()
    return criterion.feature_loss(f, y, m) + (1 - sas) * losses.identity_loss(z, y)


def own_absolute(f, z, w, y, m, sas, similarity):
    return objective(f, z, w, y, m, sas, 0) + similarity * losses.absolute_similarity_loss(f, w, y, 1 - m)


def prototype_loss_for_sa(f, z, w, y, m, sas, similarity):
    return objective(f, z, w, y, m, sas, similarity, weights=(1 - sas, 0, similarity)) + sas * follow(f, w, y, m)


def partly_detached(f, z, w, y, m, sas, similarity):
    alone = (1 - sas) * losses.identity_loss(z, y)
    rest = objective(f, z.detach(), w, y, m, sas, similarity) - alone.detach()
    return rest - 0.0 * f.sum() + alone + (losses.identity_loss(z, y) - losses.identity_loss(z.detach(), y))


def follow(f, w, y, m):
    return losses.prototype_loss(losses.prototype_logits(f.detach(), w), y, m)


def follow_by_hand(f, w, y, m):
    logits = torch.einsum("bpd,pkd->bpk", f.detach(), w)
    own = y + m * (w.shape[1] // 2)
    return sum(cross_entropy(logits[:, p], own) for p in range(len(w)))


def each_follow(f, w, y, m, mask=0.0, target=None):
    own = y + m * (w.shape[1] // 2)
    return masked(losses.prototype_logits(f.detach(), w), own, own if target is None else target, mask)


def no_grad_follow(f, w, y, m):
    with torch.no_grad():
        return follow(f, w, y, m)


ANSWERS = {
    "feature_objective": Answers(
        right=[objective, by_module, lambda *a: over_batch(each_objective(*a))],
        wrong=[
            ("gradient reaches the prototypes", lambda *a: objective(*a, hold=lambda w: w)),
            ("no gradient reaches `embeddings`", lambda f, *a: objective(f.detach(), *a)),
            ("no gradient reaches `identity_logits`", lambda f, z, *a: objective(f, z.detach(), *a)),
            ("part of the gradient on `identity_logits` is lost", partly_detached),
            ("carries no gradient", lambda *a: objective(*a).item()),
            ("switches the gradient of its argument `prototypes`", lambda *a: objective(*a, hold=torch.Tensor.detach_)),
            (
                "switches the gradient of its argument `prototypes`",
                lambda *a: objective(*a, hold=lambda w: w.requires_grad_(False)),
            ),
            ("identity loss has weight 1", lambda *a: objective(*a, weights=(1, a[5], a[6]))),
            ("absolute term is missing", lambda *a: objective(*a, weights=(1 - a[5], a[5], 0))),
            ("identity loss is missing", lambda *a: objective(*a, weights=(0, a[5], a[6]))),
            ("L_sa is missing", lambda *a: objective(*a, weights=(1 - a[5], 0, a[6]))),
            ("`sas_weight` and `similarity_weight` are exchanged", lambda *a: objective(*a[:5], a[6], a[5])),
            ("L_sa gets `sas_weight`", lambda *a: objective(*a, weights=(a[5], 1 - a[5], a[6]))),
            ("absolute term has weight 1", lambda *a: objective(*a, weights=(1 - a[5], a[5], 1))),
            ("L_sa has weight 1", lambda *a: objective(*a, weights=(1 - a[5], 1, a[6]))),
            ("identity loss has weight `sas_weight`", lambda *a: objective(*a, weights=(a[5], a[5], a[6]))),
            ("without their weights", lambda *a: objective(*a, weights=(1, 1, 1))),
            ("on the absolute term as well", lambda *a: objective(*a, weights=(1 - a[5], a[5], a[5] * a[6]))),
            ("absolute term was taken off", lambda *a: objective(*a, weights=(1 - a[5], a[5], -a[6]))),
            ("Mask is missing", lambda *a: objective(*a, mask=0.0)),
            ("mean over the batch, not the sum", lambda *a: len(a[0]) * objective(*a)),
            ("do not average them", lambda *a: objective(*a) / a[0].shape[1]),
            ("one loss for each sample:", lambda *a: each_objective(*a).sum(1)),
            ("measures the own prototype", own_absolute),
            ("prototype loss stands in place", prototype_loss_for_sa),
            ("sign is wrong", lambda *a: -objective(*a)),
        ],
    ),
    "prototype_objective": Answers(
        right=[follow, follow_by_hand, lambda *a: over_batch(each_follow(*a))],
        wrong=[
            ("target is the cross prototype", lambda f, w, y, m: follow(f, w, y, 1 - m)),
            ("This is L_sa", lambda f, w, y, m: losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m)),
            ("target is the identity", lambda f, w, y, m: losses.identity_loss(losses.prototype_logits(f, w), y)),
            (
                "rival is missing",
                lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m, rivals=False),
            ),
            ("own prototype was masked", lambda *a: over_batch(each_follow(*a, mask=50.0))),
            ("These are cosines", lambda f, w, y, m: follow(normalize(f, dim=2), normalize(w, dim=2), y, m)),
            ("This is the absolute term:", losses.absolute_similarity_loss),
            ("towards the own prototype", lambda f, w, y, m: losses.absolute_similarity_loss(f, w, y, 1 - m)),
            (
                "softmax was taken twice",
                lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w).softmax(2), y, m),
            ),
            (
                "L_sa was added",
                lambda f, w, y, m: follow(f, w, y, m) + losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m),
            ),
            ("mean over the batch, not the sum", lambda f, w, y, m: follow(f, w, y, m) * len(f)),
            ("do not average them", lambda f, w, y, m: follow(f, w, y, m) / f.shape[1]),
            ("Only the first part", lambda f, w, y, m: follow(f[:, :1], w[:1], y, m)),
            ("one loss for each part:", lambda *a: each_follow(*a).mean(0)),
            (
                "gradient reaches the embeddings",
                lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m),
            ),
            ("carries no gradient", lambda f, w, y, m: follow(f, w.detach(), y, m)),
            ("carries no gradient", no_grad_follow),
            (
                "switches the gradient of its argument `embeddings`",
                lambda f, w, y, m: follow(f.requires_grad_(False), w, y, m),
            ),
            ("base 2", lambda *a: follow(*a) / torch.log(torch.tensor(2.0))),
        ],
    ),
    "warmup": Answers(
        right=[
            lambda step, warmup, sas, similarity: (0, 0) if step < warmup else (sas, similarity),
            lambda step, warmup, sas, similarity: [sas * (step >= warmup), similarity * (step >= warmup)],
            lambda step, warmup, sas, similarity: torch.tensor([sas, similarity]) * float(step >= warmup),
        ],
        wrong=[
            ("one step too long", lambda s, w, a, b: (a, b) if s > w else (0, 0)),
            ("one step too short", lambda s, w, a, b: (a, b) if s >= w - 1 else (0, 0)),
            ("Only the weight of L_sa", lambda s, w, a, b: (a * (s >= w), b)),
            ("Only the weight of the absolute term", lambda s, w, a, b: (a, b * (s >= w))),
            ("wrong way round", lambda s, w, a, b: (a, b) if s < w else (0, 0)),
            ("wrong order", lambda s, w, a, b: (b, a) if s >= w else (0, 0)),
            ("little by little", lambda s, w, a, b: (min(1, s / w) * a, min(1, s / w) * b) if w else (a, b)),
            ("no warm-up", lambda s, w, a, b: (a, b)),
            ("never ends", lambda s, w, a, b: (0, 0)),
            ("weights are 1", lambda s, w, a, b: (1, 1) if s >= w else (0, 0)),
            ("first weight comes twice", lambda s, w, a, b: (a, a) if s >= w else (0, 0)),
            ("second weight comes twice", lambda s, w, a, b: (b, b) if s >= w else (0, 0)),
            ("Only step 0", lambda s, w, a, b: (a, b) if s else (0, 0)),
            ("that of the identity loss", lambda s, w, a, b: (1 - a, b) if s >= w else (0, 0)),
            ("This is one weight", lambda s, w, a, b: a * (s >= w)),
            ("expected two numbers", lambda s, w, a, b: {"sas": a, "similarity": b}),
        ],
    ),
}
