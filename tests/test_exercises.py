"""The checkers of the course: right solutions pass, templates stay open, and each known mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize, one_hot

from sa_lab import analysis, baselines, losses, transforms
from sa_lab.course import exercises
from sa_lab.course.exercises import Verdict
from sa_lab.evaluation import metrics, protocols
from sa_lab.samplers import CrossModalityIdentitySampler

Solution = Callable[..., Any]
Checker = Callable[[Any], Verdict]


def of(name: str) -> Checker:
    checker: Checker = getattr(exercises, f"check_{name}")
    return checker


def split(person_ids, share, generator):
    people = np.unique(person_ids)
    count = min(max(1, round(share * len(people))), len(people) - 1)
    return np.isin(person_ids, generator.permutation(people)[:count])


def split_images(person_ids, share, generator):
    return generator.random(len(person_ids)) < share


def split_floor(person_ids, share, generator):
    people = np.unique(person_ids)
    return np.isin(person_ids, generator.permutation(people)[: int(share * len(people))])


def split_globally(person_ids, share, generator):
    return split(person_ids, share, np.random.default_rng())


def split_first(person_ids, share, generator):
    return split(person_ids, share, np.random.default_rng(0))


def halves(person_ids, modality, p, k, generator, again=False, short_last=False, infrared_first=False):
    """A batch as a reader would draw it, and with some of the mistakes a reader would make."""
    people = generator.choice(np.unique(person_ids), p, replace=again)
    batch = []
    for spectrum in (1, 0) if infrared_first else (0, 1):
        for person in people:
            pool = np.flatnonzero((person_ids == person) & (modality == spectrum))
            batch.append(generator.choice(pool, k, replace=len(pool) < k))
    if short_last:
        batch[0][-1] = batch[1][0]
    return np.concatenate(batch)


def batch_sorted_second_half(person_ids, modality, p, k, generator):
    first, second = halves(person_ids, modality, p, k, generator).reshape(2, -1)
    order = np.argsort(person_ids[second], kind="stable")
    return np.concatenate([first, second[order[::-1]]])


def batch_two_draws(person_ids, modality, p, k, generator):
    draws = [halves(person_ids, modality, p, k, generator) for _ in (0, 1)]
    return np.concatenate([draws[0][: p * k], draws[1][p * k :]])


def batch_interleaved(person_ids, modality, p, k, generator):
    return halves(person_ids, modality, p, k, generator).reshape(2, -1).T.ravel()


def batch_repeating(person_ids, modality, p, k, generator):
    batch = halves(person_ids, modality, p, k, generator)
    if k > 1:
        batch[1] = batch[0]
    return batch


def batch_first_images(person_ids, modality, p, k, generator):
    return halves(person_ids, modality, p, k, np.random.default_rng(0))


def batch_of_the_first_images(person_ids, modality, p, k, generator):
    people = generator.choice(np.unique(person_ids), p, replace=False)
    pools = [np.flatnonzero((person_ids == i) & (modality == m)) for m in (0, 1) for i in people]
    return np.concatenate([np.resize(pool, k) for pool in pools])


def batch_global(person_ids, modality, p, k, generator):
    return halves(person_ids, modality, p, k, np.random.default_rng(random.randrange(10**9)))


def batch_of_sampler(person_ids, modality, p, k, generator):
    return next(iter(CrossModalityIdentitySampler(person_ids, modality, p, k, int(generator.integers(10**6)))))


def average_precision(matches):
    ranks = torch.arange(1, len(matches) + 1)
    return (matches.cumsum(0) / ranks)[matches].mean()


def rank_k(similarity, query_ids, gallery_ids, k):
    best = similarity.argsort(1, descending=True)[:, :k]
    return (gallery_ids[best] == query_ids[:, None]).any(1).float().mean()


def masked(logits, own, cross, mask_value, sign=-1, target=None):
    """One loss a sample and part, (B,P)."""
    logits = logits.clone()
    logits[range(len(own)), :, own] += sign * mask_value
    return entropies(logits, cross if target is None else target)


def entropies(logits, rows):
    return torch.stack([cross_entropy(part, rows, reduction="none") for part in logits.unbind(1)], 1)


def over_batch(values):
    return values.mean(0).sum()


def masks_columns(logits, own, cross, mask_value):
    logits = logits.clone()
    logits[:, :, own] -= mask_value
    return over_batch(entropies(logits, cross))


def surplus(f, w, own, target, mask):
    logits = f @ w.T
    logits[range(len(own)), own] -= mask
    return logits.softmax(1) - one_hot(target, len(w))


def prototype_gradient(f, w, own, cross, mask):
    return surplus(f, w, own, cross, mask).T @ f / len(f)


def on_embeddings(f, w, own, cross, mask):
    return surplus(f, w, own, cross, mask) @ w / len(f)


def of_pairs(f, w, rows):
    """Cosine of each sample and part with that row of its part, (B,P)."""
    return cosine_similarity(f, w[:, rows].transpose(0, 1), dim=2)


def feature_objective(f, z, w, y, m, sas, similarity, hold=torch.Tensor.detach, mask=50.0, weights=None):
    w = hold(w)
    identity_weight, sas_weight, similarity_weight = weights or (1 - sas, sas, similarity)
    relative = losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m, mask)
    absolute = losses.absolute_similarity_loss(f, w, y, m)
    return identity_weight * losses.identity_loss(z, y) + sas_weight * relative + similarity_weight * absolute


def prototype_objective(f, w, y, m):
    return losses.prototype_loss(losses.prototype_logits(f.detach(), w), y, m)


def partly_detached(f, z, w, y, m, sas, similarity):
    alone = (1 - sas) * losses.identity_loss(z, y)
    rest = feature_objective(f, z.detach(), w, y, m, sas, similarity) - alone.detach()
    return rest - 0.0 * f.sum() + alone + (losses.identity_loss(z, y) - losses.identity_loss(z.detach(), y))


def alignment(w):
    visible, infrared = np.split(w / np.linalg.norm(w, axis=2, keepdims=True), 2, axis=1)
    return (visible * infrared).sum(2)


def stranger_ratio(points, person_ids, modality, person, spectra=(0, 1), other=lambda s: 1 - s, myself=False):
    def centre(i, s):
        return points[(person_ids == i) & (modality == s)].mean(0)

    people = [i for i in np.unique(person_ids) if myself or i != person]
    strangers = [np.linalg.norm(centre(person, s) - centre(i, other(s))) for i in people for s in spectra]
    return np.linalg.norm(centre(person, 0) - centre(person, 1)) / np.mean(strangers)


def stranger_distance(points, person_ids, modality, person):
    return np.linalg.norm(
        points[(person_ids == person) & (modality == 0)].mean(0)
        - points[(person_ids == person) & (modality == 1)].mean(0)
    )


def image_ratio(points, person_ids, modality, person):
    def mean(i, s, j):
        first, second = points[(person_ids == i) & (modality == s)], points[(person_ids == j) & (modality == 1 - s)]
        return np.linalg.norm(first[:, None] - second[None], axis=2).mean()

    others = [i for i in np.unique(person_ids) if i != person]
    return mean(person, 0, person) / np.mean([mean(person, s, i) for i in others for s in (0, 1)])


def shares(first, second, edges):
    return [np.histogram(values, edges)[0] / len(values) for values in (first, second)]


def counts(first, second, edges):
    return [np.histogram(values, edges)[0] for values in (first, second)]


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


def collapse(f, w, y, m):
    return f.square().sum((1, 2)).mean()


def first_half(f, w, y, m):
    half = len(f) // 2
    return (f[:half] - f[half:]).square().mean()


def in_place(f, w, y, m):
    w[:, 0] = 0
    return sa_softmax(f, w, y, m)


def centres_of(f, y, m):
    return torch.stack([f[(y == k) & (m == s)].mean(0) for s in (0, 1) for k in y.unique()])


def centre_triplet(f, y, m, margin, negatives=lambda same, across: ~same, power=1):
    """As a reader would write it, by loops over the centres."""
    centres, people = centres_of(f, y, m), y.unique()
    count, total = len(people), 0.0
    for i in range(2 * count):
        d = (centres - centres[i]).norm(dim=2) ** power  # (2C,P)
        same = torch.arange(2 * count) % count == i % count
        across = torch.arange(2 * count) // count != i // count
        nearest = d[negatives(same, across)].amin(0)
        total = total + (margin + d[(i + count) % (2 * count)] - nearest).clamp_min(0)
    return total.sum() / (2 * count)


def effects(values):
    return np.ptp(values.mean((1, 2))), np.ptp(values.mean((0, 2)))


SOLUTIONS: dict[str, list[Solution]] = {
    "hetero_center_triplet": [centre_triplet],
    "main_effects": [effects, lambda v: [v.mean((1, 2)).max() - v.mean((1, 2)).min(), np.ptp(v.mean(2).mean(0))]],
    "logits": [
        lambda f, w: torch.einsum("bpd,pkd->bpk", f, w),
        lambda f, w: (f[:, :, None] * w).sum(3),
        lambda f, w: np.einsum("bpd,pkd->bpk", f.numpy(), w.numpy()),
    ],
    "cosine": [
        lambda a, b: (a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1),
        lambda a, b: [float(cosine_similarity(x, y, dim=0)) for x, y in zip(a, b, strict=True)],
    ],
    "cross_prototype": [
        lambda labels, modality, num_identities: labels + (1 - modality) * num_identities,
        lambda y, m, c: [int(a) + (0 if b else c) for a, b in zip(y, m, strict=True)],
    ],
    "masked_loss": [
        lambda *a: over_batch(masked(*a)),
        lambda *a: float(masked(*a).sum(1).mean()),
        lambda z, own, cross, mask: sum(over_batch(masked(part[:, None], own, cross, mask)) for part in z.unbind(1)),
    ],
    "prototype_gradient": [prototype_gradient],
    "absolute_term": [lambda f, w, k: over_batch((1 - of_pairs(f, w, k)).square())],
    "split": [split, lambda *a: torch.from_numpy(split(*a)), lambda *a: split(*a).tolist()],
    "batch": [halves, batch_of_sampler],
    "normalise": [lambda x, mean, std: (x / 255 - mean[:, None, None]) / std[:, None, None]],
    "feature_objective": [feature_objective],
    "prototype_objective": [prototype_objective],
    "warmup": [
        lambda step, warmup, sas, similarity: (0, 0) if step < warmup else (sas, similarity),
        lambda step, warmup, sas, similarity: [sas * (step >= warmup), similarity * (step >= warmup)],
    ],
    "prototype_alignment": [alignment, lambda w: torch.from_numpy(alignment(w)).float()],
    "modality_gap": [stranger_ratio],
    "overlap": [lambda *a: np.minimum(*shares(*a)).sum(), lambda *a: torch.tensor(np.minimum(*shares(*a)).sum())],
    "rank_k": [rank_k],
    "average_precision": [average_precision],
    "hidden": [
        lambda q, g: (q[:, None] == 3) & (g == 2),
        lambda q, g: torch.tensor([[a == 3 and b == 2 for b in g] for a in q]),
    ],
    "design": [sa_softmax, centre_distance, contrastive],
    "pulls_together": [sa_softmax, centre_distance, contrastive],
}

MISTAKES: list[tuple[str, Solution, str]] = [
    (
        "hetero_center_triplet",
        lambda f, y, m, a: 2 * len(y.unique()) * centre_triplet(f, y, m, a),
        "sum over the centres",
    ),
    ("hetero_center_triplet", lambda f, y, m, a: centre_triplet(f, y, m, a) / f.shape[1], "mean over the parts"),
    (
        "hetero_center_triplet",
        lambda f, y, m, a: centre_triplet(f, y, m, a, lambda s, c: ~s & c),
        "Only centres of the other",
    ),
    (
        "hetero_center_triplet",
        lambda f, y, m, a: centre_triplet(f, y, m, a, lambda s, c: ~s & ~c),
        "Only centres of the own",
    ),
    ("hetero_center_triplet", lambda f, y, m, a: centre_triplet(f, y, m, a, power=2), "distances are squared"),
    ("hetero_center_triplet", lambda f, y, m, a: centre_triplet(f, y, m, 0), "margin is missing"),
    ("hetero_center_triplet", lambda f, y, m, a: baselines.batch_hard_triplet(f, y, a), "triplet loss of the samples"),
    ("hetero_center_triplet", lambda f, y, m, a: centre_triplet(f, y, m, a).detach(), "carries no gradient"),
    ("main_effects", lambda v: effects(v)[::-1], "wrong order"),
    ("main_effects", lambda v: (np.ptp(v), np.ptp(v)), "range of single runs"),
    ("main_effects", lambda v: (v.mean((1, 2)).std(), v.mean((0, 2)).std()), "standard deviation"),
    ("main_effects", lambda v: effects(v[..., :1]), "Only the first seed"),
    ("main_effects", lambda v: effects(v[:, :1])[:1] + effects(v[:1])[1:], "Only the first value of the other"),
    ("logits", lambda f, w: torch.einsum("bpd,pkd->bpk", normalize(f, dim=2), normalize(w, dim=2)), "cosines"),
    ("logits", lambda f, w: torch.einsum("bpd,pkd->bpk", f, w).softmax(2), "probabilities"),
    ("logits", lambda f, w: torch.bmm(f.transpose(0, 1), w.transpose(1, 2)), "order (P,B,K)"),
    ("logits", lambda f, w: torch.einsum("bpd,pkd->bkp", f, w), "order (B,K,P)"),
    ("logits", lambda f, w: f @ w.transpose(1, 2), "place in the batch was taken for its part"),
    ("logits", lambda f, w: f @ w[0].T, "prototypes of the first part"),
    ("logits", lambda f, w: torch.einsum("bpd,pkd->bk", f, w), "parts were added up"),
    ("logits", lambda f, w: torch.einsum("bpd,qkd->bpqk", f, w), "prototypes of every part"),
    ("logits", lambda f, w: -torch.einsum("bpd,pkd->bpk", f, w), "sign is the wrong way round"),
    ("cosine", lambda a, b: 1 - cosine_similarity(a, b), "distance 1 - cos"),
    ("cosine", lambda a, b: -cosine_similarity(a, b), "negative cosine"),
    ("cosine", lambda a, b: (a - b).square().sum(1).sqrt(), "Euclidean distance"),
    ("cosine", lambda a, b: (a * b).sum(1), "neither row was divided"),
    ("cosine", lambda a, b: (a * b).sum(1) / a.norm(dim=1), "Only `a`"),
    ("cosine", lambda a, b: (a * b).sum(1) / b.norm(dim=1), "Only `b`"),
    ("cosine", lambda a, b: normalize(a) @ normalize(b).T, "full table (N,N)"),
    ("cosine", lambda a, b: (a / a.norm(dim=0) * b / b.norm(dim=0)).sum(1), "Lengths were taken along the samples"),
    ("cosine", lambda a, b: cosine_similarity(a, b, dim=0), "cosine was taken along the samples"),
    ("cosine", lambda a, b: (a * b).sum(1) / (a**2).sum(1) / (b**2).sum(1), "squared lengths"),
    ("cross_prototype", lambda y, m, c: y + m * c, "own prototype"),
    ("cross_prototype", lambda y, m, c: y, "offset C is missing"),
    ("cross_prototype", lambda y, m, c: y + c, "added for every sample"),
    ("cross_prototype", lambda y, m, c: y + (1 - m), "1 instead of C"),
    ("cross_prototype", lambda y, m, c: 2 * y + 1 - m, "in turn"),
    ("cross_prototype", lambda y, m, c: y + (1 - m) * (c - 1), "C - 1 rows"),
    ("cross_prototype", lambda y, m, c: torch.where(m == 0, y + c, y - c), "rows below 0"),
    ("cross_prototype", lambda y, m, c: (y + (1 - m) * c).float(), "expected integers"),
    ("cross_prototype", lambda y, m, c: (y + (1 - m) * c)[:, None], "of shape `(8, 1)`, expected `(8,)`"),
    ("cross_prototype", lambda y, m, c: y + (1 - m) * c + (y == 2), "expected"),
    ("masked_loss", lambda z, own, cross, mask: over_batch(entropies(z, cross)), "without mask"),
    ("masked_loss", lambda z, own, cross, mask: over_batch(masked(z, cross, cross, mask)), "off the cross prototype"),
    ("masked_loss", lambda *a: over_batch(masked(*a, sign=1)), "mask was added"),
    ("masked_loss", lambda *a: masked(*a).sum(), "sum over the batch"),
    ("masked_loss", lambda *a: masked(*a).mean(), "mean over the parts"),
    ("masked_loss", lambda *a: -over_batch(masked(*a)), "sign is the wrong way round"),
    ("masked_loss", lambda *a: over_batch(masked(*a, target=a[1])), "target is the own prototype"),
    ("masked_loss", lambda z, own, cross, mask: over_batch(entropies(z, own)), "prototype loss"),
    ("masked_loss", lambda *a: over_batch(masked(*a[:3], 50.0)), "50 in your answer"),
    ("masked_loss", lambda *a: masked(*a).sum(1), "one loss a sample"),
    ("masked_loss", lambda *a: masked(*a).mean(0), "one loss a part"),
    ("masked_loss", masks_columns, "for every sample"),
    ("prototype_gradient", lambda *a: -prototype_gradient(*a), "descent"),
    ("prototype_gradient", lambda f, w, own, k, m: prototype_gradient(f, w, own, k, 0.0), "mask is missing"),
    ("prototype_gradient", lambda f, *a: len(f) * prototype_gradient(f, *a), "sum over the batch"),
    ("prototype_gradient", lambda f, w, own, k, m: prototype_gradient(f, w, own, own, 0.0), "prototype loss"),
    ("prototype_gradient", lambda f, w, own, k, m: prototype_gradient(f, w, own, own, m), "target is the own row"),
    ("prototype_gradient", surplus, "factors p - [k = cross] alone"),
    ("prototype_gradient", on_embeddings, "gradient on the embeddings"),
    (
        "prototype_gradient",
        lambda f, w, own, k, m: (surplus(f, w, own, k, m) + one_hot(k, len(w))).T @ f / len(f),
        "target is missing",
    ),
    (
        "prototype_gradient",
        lambda f, w, own, k, m: (f @ w.T - m * one_hot(own, len(w)) - one_hot(k, len(w))).T @ f / len(f),
        "softmax was forgotten",
    ),
    (
        "prototype_gradient",
        lambda f, w, own, k, m: (surplus(f, w, own, k, m) * one_hot(k, len(w))).T @ f / len(f),
        "Only the targets' rows",
    ),
    ("absolute_term", lambda f, w, k: over_batch(1 - of_pairs(f, w, k)), "square is missing"),
    ("absolute_term", lambda f, w, k: over_batch(of_pairs(f, w, k) ** 2), "mean of cos squared"),
    ("absolute_term", lambda f, w, k: over_batch(1 - of_pairs(f, w, k) ** 2), "round all of"),
    (
        "absolute_term",
        lambda f, w, k: over_batch((1 - torch.einsum("bpd,pbd->bp", f, w[:, k])) ** 2),
        "not divided by their lengths",
    ),
    ("absolute_term", lambda f, w, k: over_batch((1 + of_pairs(f, w, k)) ** 2), "1 + cos"),
    ("absolute_term", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum(), "sum over the batch"),
    ("absolute_term", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).mean(), "mean over the parts"),
    ("absolute_term", lambda f, w, k: ((1 - of_pairs(f, w, k)).mean(0) ** 2).sum(), "mean was taken before"),
    ("absolute_term", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).sum(1), "one term a sample"),
    ("absolute_term", lambda f, w, k: ((1 - of_pairs(f, w, k)) ** 2).mean(0), "one term a part"),
    (
        "absolute_term",
        lambda f, w, k: over_batch((1 - of_pairs(f, w[:1].expand_as(w), k)) ** 2),
        "prototypes of the first",
    ),
    (
        "absolute_term",
        lambda f, w, k: over_batch((1 - of_pairs(f, w, (k + w.shape[1] // 2) % w.shape[1])) ** 2),
        "own prototypes",
    ),
    (
        "absolute_term",
        lambda f, w, k: sum(((1 - normalize(f[:, p]) @ normalize(w[p, k]).T) ** 2).mean() for p in range(f.shape[1])),
        "with every target",
    ),
    ("split", split_images, "identities have images on both sides"),
    ("split", lambda *a: ~split(*a), "images that stay"),
    ("split", split_floor, "you hold out 2, expected 3"),
    ("split", split_globally, "global state"),
    ("split", split_first, "same identities are held out whatever the generator"),
    ("split", lambda *a: np.flatnonzero(split(*a)), "expected `("),
    ("split", lambda *a: split(*a).astype(int), "expected booleans"),
    ("batch", lambda *a: halves(*a, again=True), "drawn twice"),
    ("batch", lambda *a: halves(*a, infrared_first=True), "infrared half comes first"),
    ("batch", lambda *a: halves(*a, short_last=True), "expected images_per_id = 3"),
    ("batch", batch_sorted_second_half, "another order"),
    ("batch", batch_two_draws, "different identities"),
    ("batch", batch_interleaved, "all visible images come first"),
    ("batch", batch_repeating, "is repeated, although"),
    ("batch", batch_first_images, "whatever the generator"),
    ("batch", batch_of_the_first_images, "are in none of 200 batches"),
    ("batch", batch_global, "global"),
    ("batch", lambda *a: halves(*a)[:-1], "expected `(30,)`"),
    ("batch", lambda *a: halves(*a) + 1000, "indices reach from"),
    ("batch", lambda *a: halves(*a).astype(float), "expected integers"),
    ("normalise", lambda x, mean, std: (x - mean[:, None, None]) / std[:, None, None], "255 is missing"),
    ("normalise", lambda x, mean, std: (x / 255 - std[:, None, None]) / mean[:, None, None], "are exchanged"),
    ("normalise", lambda x, mean, std: (x / 255 - mean) / std, "along the width"),
    ("normalise", lambda x, mean, std: (x / 255 - mean[:, None]) / std[:, None], "along the height"),
    ("normalise", lambda x, mean, std: (x / 255 - mean[:, None, None, None]) / std[:, None, None, None], "the batch"),
    ("normalise", lambda x, mean, std: x / 255 - mean[:, None, None], "division by `std` is missing"),
    ("normalise", lambda x, mean, std: x / 255 / std[:, None, None], "mean was not taken off"),
    ("normalise", lambda x, mean, std: x / 255 / std[:, None, None] - mean[:, None, None], "before the mean"),
    ("normalise", lambda x, mean, std: x / 255, "[0,1] alone"),
    ("normalise", lambda x, mean, std: (x / 255 - mean.flip(0)[:, None, None]) / std.flip(0)[:, None, None], "BGR"),
    ("normalise", lambda x, mean, std: (x / 256 - mean[:, None, None]) / std[:, None, None], "Divided by 256"),
    ("feature_objective", lambda *a: feature_objective(*a, hold=lambda w: w), "gradient reaches the prototypes"),
    ("feature_objective", lambda f, *a: feature_objective(f.detach(), *a), "no gradient reaches `embeddings`"),
    ("feature_objective", lambda f, z, *a: feature_objective(f, z.detach(), *a), "reaches `identity_logits`"),
    ("feature_objective", partly_detached, "part of the gradient on `identity_logits` is lost"),
    ("feature_objective", lambda *a: feature_objective(*a).item(), "carries no gradient"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(1, a[5], a[6])), "identity loss has weight 1"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(1 - a[5], a[5], 0)), "absolute term is missing"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(0, a[5], a[6])), "identity loss is missing"),
    ("feature_objective", lambda *a: feature_objective(*a[:5], a[6], a[5]), "are exchanged"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(a[5], 1 - a[5], a[6])), "L_sa gets `sas_weight`"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(1 - a[5], a[5], 1)), "absolute term has weight 1"),
    ("feature_objective", lambda *a: feature_objective(*a, weights=(1, 1, 1)), "without their weights"),
    ("feature_objective", lambda *a: feature_objective(*a, mask=0.0), "Mask is missing"),
    ("feature_objective", lambda *a: a[0].shape[0] * feature_objective(*a), "sum over the batch"),
    ("feature_objective", lambda *a: feature_objective(*a) / a[0].shape[1], "parts were averaged"),
    (
        "feature_objective",
        lambda f, z, w, y, m, sas, similarity: (
            feature_objective(f, z, w, y, m, sas, 0) + similarity * losses.absolute_similarity_loss(f, w, y, 1 - m)
        ),
        "measures the own prototype",
    ),
    (
        "feature_objective",
        lambda f, z, w, y, m, sas, similarity: (
            feature_objective(f, z, w, y, m, sas, similarity, weights=(1 - sas, 0, similarity))
            + sas * prototype_objective(f, w, y, m)
        ),
        "prototype loss stands where",
    ),
    ("prototype_objective", lambda f, w, y, m: prototype_objective(f, w, y, 1 - m), "target is the cross prototype"),
    ("prototype_objective", lambda f, w, y, m: losses.sa_softmax_loss(losses.prototype_logits(f, w), y, m), "L_sa"),
    ("prototype_objective", lambda f, w, y, m: losses.identity_loss(losses.prototype_logits(f, w), y), "identity, as"),
    ("prototype_objective", lambda f, w, y, m: prototype_objective(f, w, y, m) * len(f), "sum over the batch"),
    ("prototype_objective", lambda f, w, y, m: prototype_objective(f, w, y, m) / f.shape[1], "parts were averaged"),
    ("prototype_objective", lambda f, w, y, m: prototype_objective(f[:, :1], w[:1], y, m), "Only the first part"),
    (
        "prototype_objective",
        lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m),
        "gradient reaches the embeddings",
    ),
    ("prototype_objective", lambda f, w, y, m: prototype_objective(f, w.detach(), y, m), "carries no gradient"),
    ("warmup", lambda s, w, a, b: (a, b) if s > w else (0, 0), "one step too long"),
    ("warmup", lambda s, w, a, b: (a, b) if s >= w - 1 else (0, 0), "one step too short"),
    ("warmup", lambda s, w, a, b: (a * (s >= w), b), "Only the weight of L_sa"),
    ("warmup", lambda s, w, a, b: (a, b * (s >= w)), "Only the weight of the absolute term"),
    ("warmup", lambda s, w, a, b: (a, b) if s < w else (0, 0), "wrong way round"),
    ("warmup", lambda s, w, a, b: (b, a) if s >= w else (0, 0), "wrong order"),
    ("warmup", lambda s, w, a, b: (min(1, s / max(w, 1e-9)) * a, min(1, s / w) * b) if w else (a, b), "little by"),
    ("warmup", lambda s, w, a, b: (a, b), "no warm-up"),
    ("warmup", lambda s, w, a, b: a * (s >= w), "expected `(2,)`"),
    ("prototype_alignment", lambda w: (w[:, : w.shape[1] // 2] * w[:, w.shape[1] // 2 :]).sum(2), "dot products"),
    (
        "prototype_alignment",
        lambda w: analysis.prototype_alignment(np.concatenate([w[:, ::2], w[:, 1::2]], 1)),
        "Neighbouring rows",
    ),
    ("prototype_alignment", lambda w: 1 - alignment(w), "distance 1 - cos"),
    ("prototype_alignment", lambda w: alignment(w).mean(0), "parts were averaged"),
    ("prototype_alignment", lambda w: alignment(w).T, "order (C,P)"),
    ("prototype_alignment", lambda w: np.linalg.norm(np.subtract(*np.split(w, 2, 1)), axis=2), "Euclidean"),
    (
        "prototype_alignment",
        lambda w: np.matmul(
            *(
                h if i == 0 else h.transpose(0, 2, 1)
                for i, h in enumerate(np.split(w / np.linalg.norm(w, axis=2)[..., None], 2, 1))
            )
        ),
        "with every infrared one",
    ),
    (
        "prototype_alignment",
        lambda w: np.prod([h / np.linalg.norm(h, axis=1, keepdims=True) for h in np.split(w, 2, 1)], axis=0).sum(2),
        "along the identities",
    ),
    ("modality_gap", stranger_distance, "centroids alone"),
    ("modality_gap", lambda *a: 1 / stranger_ratio(*a), "upside down"),
    ("modality_gap", lambda *a: stranger_ratio(*a, other=lambda s: s), "same spectrum"),
    ("modality_gap", lambda *a: stranger_ratio(*a, spectra=(0,)), "Only the person's visible centroid"),
    ("modality_gap", lambda *a: stranger_ratio(*a, spectra=(1,)), "Only the person's infrared centroid"),
    ("modality_gap", lambda *a: stranger_ratio(*a, myself=True), "among the strangers"),
    ("modality_gap", image_ratio, "averaged over images"),
    (
        "modality_gap",
        lambda x, ids, m, person: analysis.modality_gap(x, ids, m).gap[np.unique(ids).tolist().index(person)],
        "spread within",
    ),
    ("overlap", lambda *a: np.minimum(*counts(*a)).sum(), "Counts were compared: "),
    ("overlap", lambda a, b, e: np.minimum(*counts(a, b, e)).sum() / (len(a) + len(b)), "divided by all values"),
    ("overlap", lambda a, b, e: np.minimum(*counts(a, b, e)).sum() / min(len(a), len(b)), "by the smaller set"),
    ("overlap", lambda *a: np.maximum(*shares(*a)).sum(), "larger share"),
    ("overlap", lambda a, b, e: np.minimum(*(np.histogram(v, e, density=True)[0] for v in (a, b))).sum(), "densities"),
    ("overlap", lambda *a: 1 - np.minimum(*shares(*a)).sum(), "1 - overlap"),
    ("overlap", lambda *a: np.minimum(*shares(*a)).mean(), "averaged over the bins"),
    ("overlap", lambda *a: np.minimum(*shares(*a)), "not added up"),
    ("overlap", lambda *a: np.multiply(*shares(*a)).sum(), "multiplied"),
    ("overlap", lambda *a: np.abs(np.subtract(*shares(*a))).sum(), "difference of the histograms"),
    ("rank_k", lambda s, q, g, k: rank_k(-s, q, g, k), "order is the wrong way round"),
    ("rank_k", lambda s, q, g, k: rank_k(s, q, g, k + 1), "One place too many"),
    ("rank_k", lambda s, q, g, k: rank_k(s, q, g, k - 1), "One place too few"),
    ("rank_k", lambda *a: 100 * rank_k(*a), "percent"),
    ("rank_k", lambda s, q, g, k: len(q) * rank_k(s, q, g, k), "number of queries"),
    ("rank_k", lambda s, q, g, k: (g[s.topk(k).indices] == q[:, None]).float().mean(), "were counted: one is enough"),
    ("rank_k", lambda s, q, g, k: (g[s.topk(k).indices] == q[:, None]).sum(1).float().mean(), "were added up"),
    ("rank_k", lambda s, q, g, k: (g[s.topk(k).indices[:, k - 1]] == q).float().mean(), "Only place k"),
    ("rank_k", lambda s, q, g, k: (g[s.argmax(1)] == q).float().mean(), "Only the first place"),
    ("rank_k", lambda s, q, g, k: (g[s.topk(k).indices] == q[:, None]).any(1), "one answer a query"),
    ("rank_k", lambda s, q, g, k: (s.topk(k).indices == q[:, None]).any(1).float().mean(), "look the ids up"),
    (
        "rank_k",
        lambda s, q, g, k: metrics.evaluate_ranking(s, q, g, first_occurrence=True).cmc(k)[-1],
        "Identities were counted",
    ),
    ("average_precision", lambda m: (m.cumsum(0) / torch.arange(1, len(m) + 1)).mean(), "over all ranks"),
    ("average_precision", lambda m: 1 / (1 + int(m.nonzero()[0])), "rank of the first match"),
    ("average_precision", lambda m: int(m.sum()) / (1 + int(m.nonzero()[-1])), "inverse negative penalty"),
    ("average_precision", lambda m: average_precision(m) * m.sum() / len(m), "length of the ranking"),
    ("average_precision", lambda m: average_precision(m) * m.sum(), "not divided by their number"),
    ("average_precision", lambda m: (m.cumsum(0) / torch.arange(2, len(m) + 2))[m].mean(), "one too large"),
    ("average_precision", lambda m: (1 / torch.arange(1, len(m) + 1))[m].mean(), "1 over the rank was averaged"),
    ("average_precision", lambda m: m.float().mean(), "share of matches"),
    ("average_precision", lambda m: (m.cumsum(0) / torch.arange(1, len(m) + 1))[m], "one precision a match"),
    ("average_precision", lambda m: m.cumsum(0) / torch.arange(1, len(m) + 1), "one precision a rank"),
    ("average_precision", lambda m: average_precision(m.flip(0)), "from its end"),
    ("hidden", lambda q, g: (g[:, None] == 2) & (q == 3), "transposed"),
    ("hidden", lambda q, g: q[:, None] == g, "same camera"),
    ("hidden", lambda q, g: (q[:, None] == 2) & (g == 3), "cameras are exchanged"),
    ("hidden", lambda q, g: ~((q[:, None] == 3) & (g == 2)), "may be seen"),
    ("hidden", lambda q, g: np.isin(q, (2, 3))[:, None] & np.isin(g, (2, 3)) & (q[:, None] != g), "Both orders"),
    ("hidden", lambda q, g: (q[:, None] == 3) | (g == 2), "`or` stands"),
    ("hidden", lambda q, g: (q[:, None] > 0) & (g == 2), "from every query"),
    ("hidden", lambda q, g: (q[:, None] == 3) & (g > 0), "Everything was hidden"),
    ("hidden", lambda q, g: (q == 3) & (g == 2), "paired one by one"),
    ("hidden", lambda q, g: (q == 3) & (np.resize(g, len(q)) == 2), "expected `(8, 11)`"),
    ("hidden", lambda q, g: ((q[:, None] == 3) & (g == 2)).astype(int), "expected booleans"),
    ("design", lambda f, w, y, m: len(y) * sa_softmax(f, w, y, m), "mean over the batch, not the sum"),
    ("design", lambda f, w, y, m: (f[:, None] - f[None]).square().sum(), "not the sum"),
    ("design", first_half, "order of the samples"),
    ("design", lambda f, w, y, m: sa_softmax(f.detach(), w, y, m), "carries no gradient"),
    ("design", lambda f, w, y, m: (0 * f).sum(), "zero everywhere"),
    ("design", lambda f, w, y, m: f.sum((1, 2)), "expected a single number"),
    ("design", lambda f, w, y, m: (f * torch.rand_like(f)).mean(), "random"),
    ("design", lambda f, w, y, m: (0 * f.sum()).log(), "expected a finite number"),
    ("design", lambda f, w, y, m: (0 * f).norm(dim=2).mean() + (0 * f).abs().sqrt().mean(), "not finite"),
    (
        "design",
        lambda f, w, y, m: torch.stack([f[y == i].mean() for i in range(4)]).square().mean(),
        "With a batch of one identity: The answer holds NaN",
    ),
    ("design", in_place, "changes its argument `prototypes` in place"),
    ("pulls_together", collapse, "all identities collapse"),
    ("pulls_together", lambda f, w, y, m: -centre_distance(f, w, y, m), "do not come together"),
    ("pulls_together", lambda f, w, y, m: prototype_objective(f, w, y, m) + 0 * f.sum(), "is zero: nothing is pulled"),
    (
        "pulls_together",
        lambda f, w, y, m: losses.prototype_loss(losses.prototype_logits(f, w), y, m),
        "do not come together",
    ),
]

NAMES = [name.removeprefix("check_") for name in exercises.__all__ if name.startswith("check_")]


def test_every_checker_has_a_solution_and_two_mistakes() -> None:
    assert sorted(SOLUTIONS) == sorted(NAMES)
    assert min(sum(name == of_ for of_, _, _ in MISTAKES) for name in NAMES) >= 2


@pytest.mark.parametrize(("name", "solution"), [(n, s) for n, many in SOLUTIONS.items() for s in many])
def test_right_solutions_pass(name: str, solution: Solution) -> None:
    verdict = of(name)(solution)
    assert verdict.status == "right", str(verdict)


@pytest.mark.parametrize(("name", "mistake", "words"), MISTAKES)
def test_each_mistake_is_named(name: str, mistake: Solution, words: str) -> None:
    verdict = of(name)(mistake)
    assert verdict.status == "wrong"
    assert "stops with" not in verdict.message  # which would quote the line of this file, words and all
    assert words in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_function_does_there_is_a_verdict(name: str) -> None:
    def template(*arguments):
        return ...

    def fails(*arguments):
        raise KeyError("no such key")

    assert of(name)(template).status == "open"
    told = of(name)(fails)
    assert told.status == "wrong"
    assert "KeyError: 'no such key'" in told.message
    assert '`raise KeyError("no such key")`' in told.message
    assert of(name)(lambda *a: None).message == "Your function returns `None`: is the `return` missing?"
    for odd in (
        "text",
        {},
        object(),
        [1, [2]],
        (),
        [[]],
        torch.ones(2, 3, 4, 5),
        True,
        1j,
        float("nan"),
        len,
        Exception,
    ):
        assert of(name)(lambda *a, odd=odd: odd).status == "wrong", odd
    for no_function in (None, 3, torch.ones(3)):
        assert "without calling it" in of(name)(no_function).message


def refuses_to_be_told(*arguments):
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Mute


@pytest.mark.parametrize("name", NAMES)
def test_nothing_escapes(name: str) -> None:
    assert "Mute" in of(name)(refuses_to_be_told).message
    assert "SystemExit" in of(name)(lambda *a: exit()).message
    assert "RecursionError" in of(name)(lambda *a: (f := lambda: f())()).message
    assert "It is called as `f(" in of(name)(lambda: 0).message


def test_the_line_of_the_error_is_told() -> None:
    def broken(labels, modality, num_identities):
        offset = 1 - modality
        return labels + offset @ num_identities

    message = exercises.check_cross_prototype(broken).message
    line = broken.__code__.co_firstlineno + 2
    assert f"in line {line}, `return labels + offset @ num_identities`" in message
    assert "TypeError" in message


def test_a_changed_argument_is_told_and_changes_nothing_later() -> None:
    def in_place_mask(logits, own, cross, mask_value):
        logits[range(len(own)), :, own] -= mask_value
        return over_batch(entropies(logits, cross))

    def sorts(person_ids, share, generator):
        person_ids.sort()
        return split(person_ids, share, generator)

    for _ in range(2):
        assert "changes its argument `logits` in place" in exercises.check_masked_loss(in_place_mask).message
        assert "changes its argument `person_ids` in place" in exercises.check_split(sorts).message
    assert exercises.check_masked_loss(lambda *a: over_batch(masked(*a))).status == "right"


def test_an_unknown_mistake_is_told_in_numbers() -> None:
    message = exercises.check_cosine(lambda a, b: cosine_similarity(a, b) + (torch.arange(len(a)) == 1)).message
    assert message.startswith("With `a (4, 3)`, `b (4, 3)` your function gives ")
    assert "at `[1]`" in message
    assert "1 of 4 entries" in message
    message = exercises.check_hidden(lambda q, g: (q[:, None] == 3) & (g == 4)).message
    assert "your function gives True" in message or "your function gives False" in message
    assert "`k = 1`" in exercises.check_rank_k(lambda *a: 0.5).message


def test_a_failure_on_some_sizes_only() -> None:
    def one_part(embeddings, prototypes):
        assert embeddings.shape[1] != 3, "three parts"
        return losses.prototype_logits(embeddings, prototypes)

    assert "AssertionError: three parts" in exercises.check_logits(one_part).message


def test_a_verdict_is_shown() -> None:
    verdict = Verdict("01.1", "wrong", "This is the own prototype.")
    assert str(verdict) == "✗ Exercise 01.1: This is the own prototype."
    assert verdict._repr_markdown_() == "✗ **Exercise 01.1** · This is the own prototype."
    assert exercises.check_cosine(cosine_similarity)._repr_markdown_().startswith("✓ **Exercise 00.2** · right.")
    assert str(exercises.check_cosine(lambda a, b: ...)).startswith("○ Exercise 00.2: ")


def test_numbers_are_told_where_spectra_come_together() -> None:
    message = exercises.check_pulls_together(sa_softmax).message
    own, own_after, strangers, strangers_after = (
        float(part.split()[-1].rstrip(".,")) for part in message.replace(",", " to").split(" to ") if "." in part[-5:]
    )
    assert own_after < own
    assert own_after / own < strangers_after / strangers


def test_a_loss_that_needs_two_parts() -> None:
    message = exercises.check_design(lambda f, w, y, m: (f[:, 0] - f[:, 1]).square().mean()).message
    assert message.startswith("With a single part, P = 1: Your function stops with `IndexError")


def test_negatives_within_the_batch_are_remarked_on() -> None:
    assert "compares samples within the batch" in exercises.check_design(contrastive).message


def test_the_course_and_the_library_agree() -> None:
    """Solutions as the library has them, where a reader would call it."""
    right = {
        "logits": losses.prototype_logits,
        "cross_prototype": losses.cross_prototype,
        "prototype_alignment": analysis.prototype_alignment,
        "overlap": lambda first, second, edges: analysis.overlap_coefficient(first, second, num_bins=len(edges) - 1),
        "normalise": lambda images, mean, std: transforms.normalize(transforms.to_float(images)),
    }
    for name, function in right.items():
        assert of(name)(function).status == "right", name
    assert protocols.SYSU_ALL.hidden_cameras == ((3, 2),)


class Odd:
    """Answers to everything, mostly in the wrong way."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None
    shape = dtype = 3


def switched(arguments, on):
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.is_leaf and argument.is_floating_point():
            argument.requires_grad_(on)
    return arguments[0].sum()


def grows(*arguments):
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.is_leaf:
            argument.resize_(0) if not argument.requires_grad else None
    return arguments[0]


def raises(error):
    def function(*arguments):
        raise error

    return function


HOSTILE = {
    "gradient off": lambda *a: switched(a, False),
    "gradient on": lambda *a: switched(a, True),
    "backward": lambda *a: a[0].float().sum().backward(),
    "argument": lambda *a: a[0],
    "all arguments": lambda *a: a,
    "resized": grows,
    "nothing": lambda *a: None,
    "not a number": lambda *a: float("nan"),
    "infinity": lambda *a: float("inf"),
    "text": lambda *a: "0.5",
    "bytes": lambda *a: b"1",
    "object": lambda *a: Odd(),
    "class": lambda *a: Odd,
    "generator": lambda *a: (x for x in a),
    "ragged": lambda *a: [[1], [1, 2]],
    "nested": lambda *a: [[[[a]]]],
    "dictionary": lambda *a: {"loss": 1},
    "complex": lambda *a: torch.tensor(1j),
    "sparse": lambda *a: torch.eye(3).to_sparse(),
    "meta": lambda *a: torch.zeros(3, device="meta"),
    "empty": lambda *a: torch.zeros(0),
    "huge": lambda *a: torch.zeros(1).expand(10**9),
    "big number": lambda *a: 10**400,
    "half": lambda *a: torch.tensor(0.5, dtype=torch.bfloat16),
    "array of objects": lambda *a: np.array([None, 1]),
    "dates": lambda *a: np.array(["2020-01-01"], dtype="datetime64[D]"),
    "parameter": lambda *a: torch.nn.Parameter(torch.ones(())),
    "detached": lambda *a: torch.ones(()),
    "exit": raises(SystemExit(3)),
    "error without words": raises(Exception()),
    "error with many lines": raises(ValueError("`a`\n|b|\n<c>")),
    "stop": raises(StopIteration()),
    "recursion": lambda *a: HOSTILE["recursion"](*a),
    "memory": raises(MemoryError()),
    "no arguments": lambda: 1,
    "one argument": lambda a: a,
    "keywords": lambda *, x: x,
}
CHECKERS = [name for name in exercises.__all__ if name.startswith("check_")]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_survives_any_answer(checker: str) -> None:
    for name, function in HOSTILE.items():
        if name == "huge" and checker not in ("check_cosine",):
            continue  # once is enough
        verdict = getattr(exercises, checker)(function)
        assert verdict.status in ("wrong", "open", "right"), name
        assert "\n" not in verdict.message, (name, verdict.message)
        assert (verdict.status != "right") or name in ("argument",), (name, verdict.message)
    for value in (None, 3, "text", Odd(), Odd):
        assert getattr(exercises, checker)(value).status == "wrong"


@pytest.mark.usefixtures("unchecked")
def test_a_gradient_that_is_switched_off_is_named() -> None:
    verdict = exercises.check_prototype_objective(lambda f, *rest: f.requires_grad_(False).sum())
    assert verdict.message.startswith("Your function switches the gradient of its argument"), verdict.message
