"""Chapter 02."""

from __future__ import annotations

import random

import numpy as np
import torch

from answers.table import Answers
from sa_lab import transforms
from sa_lab.samplers import CrossModalityIdentitySampler


def split(person_ids, share, generator, rounded=round, least=1, repeated=False):
    people = np.unique(person_ids)
    count = min(max(least, int(rounded(share * len(people)))), len(people) - least)
    chosen = generator.choice(people, count, replace=True) if repeated else generator.permutation(people)[:count]
    return np.isin(person_ids, chosen)


def split_by_set(person_ids, share, generator):
    people = sorted(set(person_ids.tolist()))
    generator.shuffle(people)
    held = set(people[: max(1, min(len(people) - 1, round(share * len(people))))])
    return [person in held for person in person_ids]


def split_one_image_each(person_ids, share, generator):
    held = split(person_ids, share, generator)
    first = np.zeros(len(held), bool)
    first[np.unique(person_ids, return_index=True)[1]] = True
    return held & first


def sorts(person_ids, share, generator):
    person_ids.sort()
    return split(person_ids, share, generator)


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


def batch_by_lists(person_ids, modality, ids_per_batch, images_per_id, generator):
    people = generator.permutation(sorted(set(person_ids.tolist())))[:ids_per_batch]
    out = []
    for spectrum in range(2):
        for person in people:
            pool = [i for i in range(len(person_ids)) if person_ids[i] == person and modality[i] == spectrum]
            generator.shuffle(pool)
            out += (pool * images_per_id)[:images_per_id]
    return out


def batch_of_sampler(person_ids, modality, p, k, generator):
    return next(iter(CrossModalityIdentitySampler(person_ids, modality, p, k, int(generator.integers(10**6)))))


def batch_sorted_second_half(person_ids, modality, p, k, generator):
    first, second = halves(person_ids, modality, p, k, generator).reshape(2, -1)
    order = np.argsort(person_ids[second], kind="stable")
    return np.concatenate([first, second[order[::-1]]])


def batch_two_draws(person_ids, modality, p, k, generator):
    draws = [halves(person_ids, modality, p, k, generator) for _ in (0, 1)]
    return np.concatenate([draws[0][: p * k], draws[1][p * k :]])


def batch_repeating(person_ids, modality, p, k, generator):
    batch = halves(person_ids, modality, p, k, generator)
    if k > 1:
        batch[1] = batch[0]
    return batch


def batch_of_the_first_images(person_ids, modality, p, k, generator):
    people = generator.choice(np.unique(person_ids), p, replace=False)
    pools = [np.flatnonzero((person_ids == i) & (modality == m)) for m in (0, 1) for i in people]
    return np.concatenate([np.resize(pool, k) for pool in pools])


def batch_without_repeats(person_ids, modality, p, k, generator):
    people = generator.choice(np.unique(person_ids), p, replace=False)
    pools = [np.flatnonzero((person_ids == i) & (modality == m)) for m in (0, 1) for i in people]
    return np.concatenate([generator.choice(pool, k, replace=False) for pool in pools])


def batch_by_sample(person_ids, modality, p, k, generator):
    drawn = random.Random(int(generator.integers(10**6)))
    people = drawn.sample(sorted(set(person_ids.tolist())), p)
    pools = [np.flatnonzero((person_ids == i) & (modality == m)).tolist() for m in (0, 1) for i in people]
    return np.concatenate([drawn.sample(pool, k) for pool in pools])


def scaled(x, mean, std, divisor=255.0, shape=(3, 1, 1)):
    return (x / divisor - mean.view(shape)) / std.view(shape)


def channel_by_channel(images, mean, std):
    out = torch.empty(images.shape)
    for c in range(3):
        out[:, c] = (images[:, c].float() / 255 - mean[c]) / std[c]
    return out


ANSWERS = {
    "split": Answers(
        right=[split, lambda *a: torch.from_numpy(split(*a)), split_by_set, lambda *a: split(*a).tolist()],
        wrong=[
            ("identities have images on both sides", lambda ids, share, g: g.random(len(ids)) < share),
            ("identities have images on both sides", split_one_image_each),
            ("images that stay", lambda *a: ~split(*a)),
            ("you hold out 2, rounded down, expected 3", lambda *a: split(*a, rounded=np.floor)),
            ("rounded up, expected 3", lambda *a: split(*a, rounded=np.ceil)),
            ("draw nobody twice", lambda *a: split(*a, repeated=True)),
            ("Nobody is held out", lambda *a: split(*a, least=0)),
            ("Everybody is held out", lambda ids, *_: np.ones(len(ids), bool)),
            ("global state", lambda ids, share, _: split(ids, share, np.random.default_rng())),
            (
                "same identities are held out whatever the generator",
                lambda ids, share, _: split(ids, share, np.random.default_rng(0)),
            ),
            ("expected `(", lambda *a: np.flatnonzero(split(*a))),
            ("expected `(", lambda ids, share, g: g.permutation(np.unique(ids))[: int(share * len(ids))] > 0),
            ("expected booleans", lambda *a: split(*a).astype(int)),
            ("changes its argument `person_ids` in place", sorts),
        ],
    ),
    "batch": Answers(
        right=[halves, batch_of_sampler, batch_by_lists, lambda *a: torch.from_numpy(halves(*a))],
        wrong=[
            ("drawn twice", lambda *a: halves(*a, again=True)),
            ("infrared half comes first", lambda *a: halves(*a, infrared_first=True)),
            ("expected images_per_id = 3", lambda *a: halves(*a, short_last=True)),
            ("another order", batch_sorted_second_half),
            ("different identities", batch_two_draws),
            ("put all visible images first", lambda *a: halves(*a).reshape(2, -1).T.ravel()),
            ("is repeated, although", batch_repeating),
            ("whatever the generator", lambda i, m, p, k, _: halves(i, m, p, k, np.random.default_rng(0))),
            ("are in none of 200 batches", batch_of_the_first_images),
            ("global", lambda *a: halves(*a[:4], np.random.default_rng(random.randrange(10**9)))),
            ("expected `(30,)`", lambda *a: halves(*a)[:-1]),
            ("expected `(30,)`", lambda *a: halves(*a).reshape(2, -1)),
            ("indices reach from", lambda *a: halves(*a) + 1000),
            ("only there, images have to be repeated", batch_without_repeats),
            ("only there, images have to be repeated", batch_by_sample),
            ("expected integers", lambda *a: halves(*a).astype(float)),
            ("expected integers", lambda *a: np.isin(np.arange(30), halves(*a))),
        ],
    ),
    "normalise": Answers(
        right=[
            scaled,
            channel_by_channel,
            lambda images, mean, std: transforms.normalize(transforms.to_float(images)),
            lambda x, mean, std: ((x.permute(0, 2, 3, 1) / 255 - mean) / std).permute(0, 3, 1, 2),
            lambda x, mean, std: (x.numpy() / 255 - mean.numpy()[:, None, None]) / std.numpy()[:, None, None],
        ],
        wrong=[
            ("Divide by 255 first", lambda x, mean, std: scaled(x, mean, std, 1.0)),
            ("are exchanged", lambda x, mean, std: scaled(x, std, mean)),
            ("along the width", lambda *a: scaled(*a, shape=(3,))),
            ("along the height", lambda *a: scaled(*a, shape=(3, 1))),
            ("along the batch", lambda *a: scaled(*a, shape=(3, 1, 1, 1))),
            ("put brackets", lambda x, mean, std: x / 255 - mean[:, None, None] / std[:, None, None]),
            (
                "of the batch's own channels",
                lambda x, *_: scaled(x, (x / 255).mean((0, 2, 3)), (x / 255).std((0, 2, 3))),
            ),
            ("division by `std` is missing", lambda x, mean, std: scaled(x, mean, torch.ones(3))),
            ("mean was not taken off", lambda x, mean, std: scaled(x, torch.zeros(3), std)),
            ("before the mean", lambda x, mean, std: x / 255 / std[:, None, None] - mean[:, None, None]),
            ("mean was added", lambda x, mean, std: scaled(x, -mean, std)),
            ("multiplied by `std`", lambda x, mean, std: scaled(x, mean, 1 / std)),
            ("squared `std`", lambda x, mean, std: scaled(x, mean, std**2)),
            ("root of `std`", lambda x, mean, std: scaled(x, mean, std.sqrt())),
            ("[0,1] alone", lambda x, mean, std: x / 255),
            ("[-1,1]", lambda x, mean, std: (x / 255 - 0.5) / 0.5),
            ("own mean and deviation", lambda x, mean, std: (x.float() - x.float().mean()) / x.float().std()),
            ("for all channels", lambda x, mean, std: (x / 255 - mean.mean()) / std.mean()),
            ("BGR", lambda x, mean, std: scaled(x, mean.flip(0), std.flip(0))),
            ("not by 256", lambda *a: scaled(*a, divisor=256.0)),
            ("cuts off", lambda x, mean, std: scaled(x // 255, mean, std, 1.0)),
        ],
    ),
}
