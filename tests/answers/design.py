"""Chapter 06: losses of one's own."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, normalize, relu

from answers.table import Answers
from sa_lab import baselines, losses


def sa_softmax(f, w, y, m):
    return losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m) + losses.absolute_similarity_loss(f, w, y, m)


def centre_distance(f, w, y, m):
    """A loss without prototypes: the squared distance between the spectra's centres of each identity."""
    f = f.flatten(1)
    apart = [f[(y == i) & (m == 0)].mean(0) - f[(y == i) & (m == 1)].mean(0) for i in y.unique()]
    return torch.stack(apart).square().sum(1).mean()


def contrastive(f, w, y, m):
    similarity = normalize(f.flatten(1), dim=1) @ normalize(f.flatten(1), dim=1).T / 0.5
    same = (y[:, None] == y) & (m[:, None] != m)
    return -((similarity - similarity.logsumexp(1, keepdim=True)) * same).sum(1).div(same.sum(1)).mean()


def to_cross(f, w, y, m):
    """(B,P,D), the target of each sample."""
    return w[:, losses.cross_prototype(y, m, w.shape[1] // 2)].transpose(0, 1)


def closeness(f, w, y, m):
    return (1 - torch.cosine_similarity(f, to_cross(f, w, y, m), dim=2)).sum(1).mean()


def hinged(f, w, y, m):
    """Nearer to the cross prototype than to the stranger's next to it, by a margin."""
    to_target = (f - to_cross(f, w, y, m)).square().sum(2)
    to_stranger = (f - to_cross(f, w, (y + 1) % (w.shape[1] // 2), m)).square().sum(2)
    return relu(5 + to_target - to_stranger).sum(1).mean()


def squared_distance(f, w, y, m):
    return (f - to_cross(f, w, y, m)).square().sum(2).mean()


def bare_root(f, w, y, m):
    return (f - to_cross(f, w, y, m)).square().sum(2).sqrt().sum(1).mean()


def rows_of_axis_0(f, w, y, m):
    return (f - w[losses.cross_prototype(y, m, w.shape[1] // 2)]).square().mean()


def collapse(f, w, y, m):
    return f.square().sum((1, 2)).mean()


def first_half(f, w, y, m):
    half = len(f) // 2
    return (f[:half] - f[half:]).square().mean()


def in_place(f, w, y, m):
    w[:, 0] = 0
    return sa_softmax(f, w, y, m)


def not_smooth(f, w, y, m):
    return (0 * f).norm(dim=2).mean() + (0 * f).abs().sqrt().mean()


def four_people(f, w, y, m):
    return torch.stack([f[y == i].mean() for i in range(4)]).square().mean()


def to_stranger(f, w, y, m):
    return squared_distance(f, w, (y + 1) % (w.shape[1] // 2), m)


RIGHT = [
    sa_softmax, centre_distance, contrastive, hinged, squared_distance, losses.absolute_similarity_loss,
    lambda f, w, y, m: baselines.hetero_center(f, y, m),
]  # fmt: skip
ANSWERS = {
    "design": Answers(
        right=RIGHT,
        wrong=[
            ("chapter's `closeness`", closeness),
            ("chapter's `closeness`", lambda *a: 2 * closeness(*a) + 3),
            ("mean over the batch, not the sum", lambda f, w, y, m: len(y) * sa_softmax(f, w, y, m)),
            ("not the sum", lambda f, w, y, m: (f[:, None] - f[None]).square().sum()),
            ("order of the samples", first_half),
            ("order of the samples", lambda f, w, y, m: f[0].square().sum()),
            ("carries no gradient", lambda f, w, y, m: sa_softmax(f.detach(), w, y, m)),
            ("carries no gradient", lambda *a: sa_softmax(*a).item()),
            ("zero everywhere", lambda f, w, y, m: (0 * f).sum()),
            ("expected a single number", lambda f, w, y, m: f.sum((1, 2))),
            ("do not draw random numbers", lambda f, w, y, m: (f * torch.rand_like(f)).mean()),
            ("expected a finite number", lambda f, w, y, m: (0 * f.sum()).log()),
            ("The answer holds NaN", lambda f, w, y, m: f.sum() * float("nan")),
            ("not finite", not_smooth),
            ("With a batch of one identity: The answer holds NaN", four_people),
            ("With a single part, P = 1: The answer holds NaN", lambda f, w, y, m: f[:, 1:].mean()),
            ("changes its argument `prototypes` in place", in_place),
            ("rows of `prototypes` (P,2C,D) are its axis 1", rows_of_axis_0),
            ("on its cross prototype: The gradient on the embeddings is not finite", bare_root),
        ],
    ),
    "pulls_together": Answers(
        right=RIGHT,
        wrong=[
            ("chapter's `closeness`", closeness),
            ("chapter's `closeness`", lambda *a: closeness(*a) / 7),
            ("in proportion, strangers come together nearly as fast", collapse),
            ("rows of `prototypes` (P,2C,D) are its axis 1", rows_of_axis_0),
            ("all identities collapse", lambda f, w, y, m: (f - f.mean(0)).square().mean()),
            ("move apart. Pull each sample towards the other spectrum. Turn the sign", lambda *a: -centre_distance(*a)),
            ("Turn the sign of the loss round", lambda *a: -squared_distance(*a)),
            ("is zero: nothing is pulled", lambda f, w, y, m: sa_softmax(f.detach(), w, y, m) + 0 * f.sum()),
            ("move apart", lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m)),
            ("do not come together", lambda f, w, y, m: squared_distance(f, w, y, 1 - m)),
            ("move apart", lambda f, w, y, m: (1 - cosine_similarity(f, to_cross(f, w, y, 1 - m), 2)).mean()),
            ("all identities collapse", to_stranger),
            ("move apart", lambda f, w, y, m: -f.norm(dim=2).mean()),
            ("carries no gradient", lambda *a: centre_distance(*a).item()),
            ("expected a single number", lambda f, w, y, m: (f - to_cross(f, w, y, m)).square().sum(2)),
            ("The answer holds NaN", lambda f, w, y, m: f[y < 0].mean()),
            ("changes its argument `prototypes` in place", in_place),
        ],
    ),
}
