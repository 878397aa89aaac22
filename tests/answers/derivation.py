"""Chapter 01."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, one_hot

from answers.table import Answers
from sa_lab import losses


def masked(logits, own, cross, mask_value, sign=-1, target=None):
    """One loss for each sample and part, (B,P)."""
    logits = logits.clone()
    logits[range(len(own)), :, own] += sign * mask_value
    return entropies(logits, cross if target is None else target)


def entropies(logits, rows):
    return torch.stack([cross_entropy(part, rows, reduction="none") for part in logits.unbind(1)], 1)


def over_batch(values):
    return values.mean(0).sum()


def with_own(logits, own, value):
    """The own logits put to a value."""
    logits = logits.clone()
    logits[range(len(own)), :, own] = value
    return logits


def by_hand(logits, own, cross, mask_value, log=torch.log, axis=2):
    z = with_own(logits, own, 0.0) + (logits - mask_value) * one_hot(own, logits.shape[2])[:, None]
    p = z.softmax(axis)
    return -sum(log(p[range(len(own)), part, cross]).mean() for part in range(logits.shape[1]))


def masks_columns(logits, own, cross, mask_value):
    logits = logits.clone()
    logits[:, :, own] -= mask_value
    return over_batch(entropies(logits, cross))


def in_place_mask(logits, own, cross, mask_value):
    logits[range(len(own)), :, own] -= mask_value
    return over_batch(entropies(logits, cross))


def probability(logits, own, cross, mask_value):
    return torch.exp(-masked(logits, own, cross, mask_value))


def surplus(f, w, own, target, mask, axis=1):
    logits = f @ w.T
    logits[range(len(own)), own] -= mask
    return logits.softmax(axis) - one_hot(target, len(w))


def gradient(f, w, own, cross, mask):
    return surplus(f, w, own, cross, mask).T @ f / len(f)


def gradient_row_by_row(f, w, own, cross, mask):
    p = (f @ w.T - mask * one_hot(own, len(w))).softmax(1)
    surplus = [[p[i, k] - float(k == cross[i]) for i in range(len(f))] for k in range(len(w))]
    return torch.stack([sum(s * x for s, x in zip(row, f, strict=True)) / len(f) for row in surplus])


def gradient_of_samples(f, w, own, cross, mask):
    total = torch.zeros_like(w)
    for sample, mine, target in zip(f, own, cross, strict=True):
        z = w @ sample
        z[mine] -= mask
        p = z.softmax(0)
        p[target] -= 1
        total += torch.outer(p, sample)
    return total / len(f)


def on_embeddings(f, w, own, cross, mask):
    return surplus(f, w, own, cross, mask) @ w / len(f)


def of_pairs(f, w, rows, axis=2):
    """Cosine of each sample and part with that row of its part, (B,P)."""
    return cosine_similarity(f, w[:, rows].transpose(0, 1), dim=axis)


def absolute_looped(f, w, cross):
    total = 0.0
    for b in range(len(f)):
        for p in range(f.shape[1]):
            x, y = f[b, p], w[p, cross[b]]
            total += (1 - x @ y / x.norm() / y.norm()) ** 2
    return total / len(f)


ANSWERS = {
    "cross_prototype": Answers(
        right=[
            lambda labels, modality, num_identities: labels + (1 - modality) * num_identities,
            lambda y, m, c: torch.where(m == 0, y + c, y),
            lambda y, m, c: [int(a) + (0 if b else c) for a, b in zip(y, m, strict=True)],
            lambda y, m, c: (losses.own_prototype(y, m, c) + c) % (2 * c),
            lambda y, m, c: (y + (m == 0) * c).numpy(),
        ],
        wrong=[
            ("own prototype", lambda y, m, c: y + m * c),
            ("Add the offset C", lambda y, m, c: y),
            ("added for every sample", lambda y, m, c: y + c),
            ("offset is 1", lambda y, m, c: y + (1 - m)),
            ("in turn", lambda y, m, c: 2 * y + 1 - m),
            ("C - 1 rows", lambda y, m, c: y + (1 - m) * (c - 1)),
            ("C + 1 rows", lambda y, m, c: y + (1 - m) * (c + 1)),
            ("count from 1", lambda y, m, c: y + (1 - m) * c + 1),
            ("rows below 0", lambda y, m, c: torch.where(m == 0, y + c, y - c)),
            ("`~modality` is -1 or -2", lambda y, m, c: y + ~m * c),
            ("offset alone", lambda y, m, c: (1 - m) * c),
            ("are exchanged", lambda y, m, c: m + (1 - y) * c),
            ("identity was multiplied", lambda y, m, c: (y + (1 - m)) * c),
            ("keep their identity", lambda y, m, c: torch.where(m == 0, y + c, 0)),
            ("offset is twice C", lambda y, m, c: y + (1 - m) * 2 * c),
            ("expected integers", lambda y, m, c: (y + (1 - m) * c).float()),
            ("axis of length 1 too many", lambda y, m, c: (y + (1 - m) * c)[:, None]),
            ("expected", lambda y, m, c: y + (1 - m) * c + (y == 2)),
        ],
    ),
    "masked_loss": Answers(
        right=[
            lambda *a: over_batch(masked(*a)),
            lambda *a: float(masked(*a).sum(1).mean()),
            lambda z, own, cross, mask: sum(over_batch(masked(q[:, None], own, cross, mask)) for q in z.unbind(1)),
            by_hand,
            lambda z, own, cross, mask: losses.sa_softmax_loss(
                z, own % (z.shape[2] // 2), own // (z.shape[2] // 2), mask
            ),
            lambda z, own, cross, mask: over_batch(
                (z - mask * one_hot(own, z.shape[2])[:, None]).logsumexp(2)
                - z[torch.arange(len(z))[:, None], torch.arange(z.shape[1]), cross[:, None]]
            ),
        ],
        wrong=[
            ("mask is missing", lambda z, own, cross, mask: over_batch(entropies(z, cross))),
            ("off the cross prototype", lambda z, own, cross, mask: over_batch(masked(z, cross, cross, mask))),
            ("mask was added", lambda *a: over_batch(masked(*a, sign=1))),
            ("target is the own prototype", lambda *a: over_batch(masked(*a, target=a[1]))),
            ("prototype loss", lambda z, own, cross, mask: over_batch(entropies(z, own))),
            ("masks the own prototypes of the whole batch", masks_columns),
            ("50 or more in your answer", lambda *a: over_batch(masked(*a[:3], 50.0))),
            ("50 or more in your answer", lambda *a: over_batch(masked(*a[:3], torch.inf))),
            ("own logit was replaced", lambda z, own, k, mask: over_batch(entropies(with_own(z, own, -mask), k))),
            ("own logit was set to 0", lambda z, own, k, mask: over_batch(entropies(with_own(z, own, 0.0), k))),
            (
                "softmax was taken twice",
                lambda z, own, k, mask: over_batch(
                    entropies((z - mask * one_hot(own, z.shape[2])[:, None]).softmax(2), k)
                ),
            ),
            ("taken over the batch: take it over the prototypes", lambda *a: by_hand(*a, axis=0)),
            ("taken over the parts: take it over the prototypes", lambda *a: by_hand(*a, axis=1)),
            ("probability of the target: take its logarithm", lambda *a: over_batch(probability(*a))),
            ("1 minus the probability", lambda *a: over_batch(1 - probability(*a))),
            (
                "logit of the target",
                lambda z, own, k, mask: -sum(z[range(len(k)), p, k].mean() for p in range(z.shape[1])),
            ),
            ("before the logarithm", lambda *a: -probability(*a).mean(0).log().sum()),
            ("base 2", lambda *a: by_hand(*a, log=torch.log2)),
            ("base 10", lambda *a: by_hand(*a, log=torch.log10)),
            ("sign is wrong", lambda *a: -over_batch(masked(*a))),
            ("mean over the batch, not the sum", lambda *a: masked(*a).sum()),
            ("do not average them", lambda *a: masked(*a).mean()),
            ("Sum and mean are exchanged", lambda *a: masked(*a).sum(0).mean()),
            ("one loss for each sample:", lambda *a: masked(*a).sum(1)),
            ("one loss for each part:", lambda *a: masked(*a).mean(0)),
            ("one loss for each sample and part", masked),
            ("Only the first part", lambda *a: masked(*a).mean(0)[0]),
            ("Only the first sample", lambda *a: masked(*a)[0].sum()),
            ("changes its argument `logits` in place", in_place_mask),
        ],
    ),
    "prototype_gradient": Answers(
        right=[gradient, gradient_row_by_row, gradient_of_samples, lambda *a: gradient(*a).numpy()],
        wrong=[
            ("direction of descent", lambda *a: -gradient(*a)),
            ("mask is missing", lambda f, w, own, k, m: gradient(f, w, own, k, 0.0)),
            ("mask was added", lambda f, w, own, k, m: gradient(f, w, own, k, -m)),
            ("taken off the cross logit", lambda f, w, own, k, m: gradient(f, w, k, k, m)),
            ("mean over the batch, not the sum", lambda f, *a: len(f) * gradient(f, *a)),
            ("divided by the number of rows", lambda f, w, *a: surplus(f, w, *a).T @ f / len(w)),
            ("prototype loss", lambda f, w, own, k, m: gradient(f, w, own, own, 0.0)),
            ("target is the own row", lambda f, w, own, k, m: gradient(f, w, own, own, m)),
            ("softmax was taken over the batch", lambda f, *a: surplus(f, *a, axis=0).T @ f / len(f)),
            ("factors p - [k = cross] alone", surplus),
            ("gradient on the embeddings", on_embeddings),
            (
                "target is missing",
                lambda f, w, own, k, m: (surplus(f, w, own, k, m) + one_hot(k, len(w))).T @ f / len(f),
            ),
            (
                "softmax is missing",
                lambda f, w, own, k, m: (f @ w.T - m * one_hot(own, len(w)) - one_hot(k, len(w))).T @ f / len(f),
            ),
            (
                "Only the targets' rows",
                lambda f, w, own, k, m: (surplus(f, w, own, k, m) * one_hot(k, len(w))).T @ f / len(f),
            ),
            (
                "targets' rows stand still",
                lambda f, w, own, k, m: (surplus(f, w, own, k, m) * (1 - one_hot(k, len(w)))).T @ f / len(f),
            ),
            (
                "own rows stand still",
                lambda f, w, own, k, m: (surplus(f, w, own, k, m) * (1 - one_hot(own, len(w)))).T @ f / len(f),
            ),
            ("transpose the answer", lambda *a: gradient(*a).T),
            ("twice the right answer", lambda *a: 2 * gradient(*a)),
        ],
    ),
    "absolute_term": Answers(
        right=[
            lambda f, w, k: over_batch((1 - of_pairs(f, w, k)).square()),
            lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum() / len(f),
            absolute_looped,
            lambda f, w, k: losses.absolute_similarity_loss(f, w, k % (w.shape[1] // 2), 1 - k // (w.shape[1] // 2)),
            lambda f, w, k: (
                (1 - torch.einsum("bpd,pbd->bp", normalize(f, dim=2), normalize(w, dim=2)[:, k])).pow(2).sum(1).mean()
            ),
        ],
        wrong=[
            ("square is missing", lambda f, w, k: over_batch(1 - of_pairs(f, w, k))),
            ("mean of cos squared", lambda f, w, k: over_batch(of_pairs(f, w, k) ** 2)),
            ("put the square round all", lambda f, w, k: over_batch(1 - of_pairs(f, w, k) ** 2)),
            ("mean of the cosines", lambda f, w, k: over_batch(of_pairs(f, w, k))),
            (
                "not divided by their lengths",
                lambda f, w, k: over_batch((1 - torch.einsum("bpd,pbd->bp", f, w[:, k])) ** 2),
            ),
            ("1 + cos", lambda f, w, k: over_batch((1 + of_pairs(f, w, k)) ** 2)),
            ("mean was taken before the square", lambda f, w, k: ((1 - of_pairs(f, w, k)).mean(0) ** 2).sum()),
            ("added up before the square", lambda f, w, k: ((1 - of_pairs(f, w, k)).sum(1) ** 2).mean()),
            ("averaged before the square", lambda f, w, k: ((1 - of_pairs(f, w, k)).mean(1) ** 2).mean()),
            ("square was taken last", lambda f, w, k: over_batch(1 - of_pairs(f, w, k)) ** 2),
            (
                "all parts together",
                lambda f, w, k: (
                    (1 - cosine_similarity(f.reshape(len(f), -1), w[:, k].transpose(0, 1).reshape(len(f), -1)))
                    .square()
                    .mean()
                ),
            ),
            ("Euclidean distances", lambda f, w, k: over_batch((f - w[:, k].transpose(0, 1)).norm(dim=2))),
            ("squared Euclidean", lambda f, w, k: over_batch((f - w[:, k].transpose(0, 1)).square().sum(2))),
            (
                "distances of unit vectors",
                lambda f, w, k: over_batch(
                    (normalize(f, dim=2) - normalize(w[:, k].transpose(0, 1), dim=2)).square().sum(2)
                ),
            ),
            ("along the parts", lambda f, w, k: (1 - of_pairs(f, w, k, axis=1)).square().sum(1).mean()),
            ("mean over the batch, not the sum", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum()),
            ("do not average them", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).mean()),
            ("Sum and mean are exchanged", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum(0).mean()),
            ("one loss for each sample:", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum(1)),
            ("one loss for each part:", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).mean(0)),
            ("root of the right answer", lambda f, w, k: over_batch((1 - of_pairs(f, w, k)) ** 2).sqrt()),
            ("prototypes of the first", lambda f, w, k: over_batch((1 - of_pairs(f, w[:1].expand_as(w), k)) ** 2)),
            (
                "own prototypes",
                lambda f, w, k: over_batch((1 - of_pairs(f, w, (k + w.shape[1] // 2) % w.shape[1])) ** 2),
            ),
            (
                "with every target",
                lambda f, w, k: sum(
                    ((1 - normalize(f[:, p]) @ normalize(w[p, k]).T) ** 2).mean() for p in range(f.shape[1])
                ),
            ),
        ],
    ),
}
