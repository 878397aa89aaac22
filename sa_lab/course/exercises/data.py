"""Exercises of chapter 02, data and sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa_lab import transforms
from sa_lab.course.exercises.cases import some_people
from sa_lab.course.exercises.checking import Case, Function, Wrong, array, call, exercise, fits
from sa_lab.course.exercises.comparing import check_cases


@exercise("02.1")
def check_split(function: Function) -> str:
    """Check f(person_ids (N,), share, generator) -> (N,), True for the images of held-out identities."""
    sizes = ((24, 0.25), (11, 0.25), (13, 0.25), (5, 0.01), (4, 0.99))
    cases = [
        {
            "person_ids": some_people(seed, identities, 2, 5)["person_ids"],
            "share": share,
            "generator": np.random.default_rng(seed),
        }
        for seed, (identities, share) in enumerate(sizes)
    ]
    for case in cases:
        _judge_split(_held_out(function, case), **case)
    _follows_generator(lambda case: _held_out(function, case), cases[0], "The same identities are held out")
    return "right. No person of the held-out part was ever trained on."


def _held_out(function: Function, case: Case) -> np.ndarray:
    asked = "(N,), True for held-out images"
    held = array(call(function, case)[0], asked)
    fits(held, case["person_ids"].shape, "b", asked)
    return held


def _judge_split(held: np.ndarray, person_ids: np.ndarray, share: float, **_: Any) -> None:
    everybody, out = np.unique(person_ids), np.unique(person_ids[held])
    leaks = np.intersect1d(out, person_ids[~held])
    if len(leaks):
        raise Wrong(
            f"{len(leaks)} of {len(everybody)} identities have images on both sides: choose identities, not images, "
            "and hold out all images of a chosen one."
        )
    count = min(max(1, round(share * len(everybody))), len(everybody) - 1)
    if len(out) == count:
        return
    if not 0 < len(out) < len(everybody):
        whom = "Everybody is" if len(out) else "Nobody is"
        raise Wrong(f"{whom} held out of {len(everybody)} identities: leave at least one on both sides.")
    if len(out) == len(everybody) - count:
        raise Wrong("In your answer True marks the images that stay: mark the held-out ones.")
    rounded = {math.floor: "down", math.ceil: "up"}
    way = next((f", rounded {word}" for turn, word in rounded.items() if len(out) == turn(share * len(everybody))), "")
    raise Wrong(
        f"With a share of {share} of {len(everybody)} identities you hold out {len(out)}{way}, expected {count}: take "
        "the share of the identities, rounded to the nearest number, and draw nobody twice."
    )


def _follows_generator(answer: Callable[[Case], np.ndarray], case: Case, what: str) -> None:
    """Raise `Wrong` unless the answer follows from the generator, and from it alone."""
    answers = [answer({**case, "generator": np.random.default_rng(seed)}) for seed in (0, 0, 1, 2, 3)]
    if not np.array_equal(answers[0], answers[1]):
        raise Wrong(
            "Two generators of the same seed lead to two answers: draw from `generator` alone, not from the global "
            "state of `np.random`, `torch` or `random`."
        )
    if all(np.array_equal(answers[0], other) for other in answers):
        raise Wrong(f"{what} whatever the generator: draw with `generator`.")


@exercise("02.2")
def check_batch(function: Function) -> str:
    """Check f(person_ids (N,), modality (N,), ids_per_batch, images_per_id, generator) -> (B,) indices."""
    cases: list[dict[str, Any]] = []
    for seed, (identities, least, ids_per_batch, images_per_id) in enumerate(
        ((12, 4, 5, 3), (8, 3, 8, 1), (6, 2, 6, 4), (9, 5, 4, 2))
    ):
        numbers = {"ids_per_batch": ids_per_batch, "images_per_id": images_per_id}
        generator = np.random.default_rng(seed)
        cases.append({**some_people(seed, identities, least, 7), **numbers, "generator": generator})
    for case in cases:
        _judge_batch(_batch(function, case), **case)
    _follows_generator(lambda case: _batch(function, case), cases[0], "The batch is the same")
    _draws_images(function, cases[3])
    return "right. Every sample finds its own identity in the other spectrum in the same batch."


def _draws_images(function: Function, case: Case) -> None:
    """Raise `Wrong` unless in many batches every image comes; drawn at random it comes in more than a tenth of them."""
    many = [_batch(function, {**case, "generator": np.random.default_rng(seed)}) for seed in range(200)]
    never = len(case["person_ids"]) - len(np.unique(many))
    if never:
        raise Wrong(
            f"{never} of {len(case['person_ids'])} images are in none of 200 batches: draw the images of an identity "
            "with the generator as well, do not take the same ones every time."
        )


_FEW = (
    "An identity has fewer images in a spectrum than `images_per_id`: there, and only there, images have to be "
    "repeated (`replace=True`)."
)


def _batch(function: Function, case: Case) -> np.ndarray:
    size = 2 * case["ids_per_batch"] * case["images_per_id"]
    asked = "2 x ids_per_batch x images_per_id indices of images"
    batch = array(call(function, case, {"(?i)larger sample|sample larger": _FEW})[0], asked)
    fits(batch, (size,), "i", asked)
    return batch


def _judge_batch(
    batch: np.ndarray, person_ids: np.ndarray, modality: np.ndarray, ids_per_batch: int, images_per_id: int, **_: Any
) -> None:
    if batch.min() < 0 or batch.max() >= len(person_ids):
        raise Wrong(f"The indices reach from {batch.min()} to {batch.max()}, expected 0..{len(person_ids) - 1}.")
    spectra, persons = modality[batch].reshape(2, -1), person_ids[batch].reshape(2, -1)
    if spectra[0].all() and not spectra[1].any():
        raise Wrong("The infrared half comes first: put the visible one first.")
    if spectra[0].any() or not spectra[1].all():
        raise Wrong(
            f"The first half holds {int(spectra[0].sum())} infrared images and the second "
            f"{int((1 - spectra[1]).sum())} visible ones: put all visible images first."
        )
    people_of = [np.unique(half, return_counts=True) for half in persons]
    for name, (found, counts) in zip(("visible", "infrared"), people_of, strict=True):
        if len(found) < ids_per_batch:
            raise Wrong(
                f"The {name} half shows {len(found)} identities, expected ids_per_batch = {ids_per_batch}: an identity "
                "was drawn twice; draw without replacement."
            )
        if (counts != images_per_id).any():
            raise Wrong(
                f"In the {name} half an identity has {counts[counts != images_per_id][0]} images, expected "
                f"images_per_id = {images_per_id}: draw as many of each."
            )
    if not np.array_equal(people_of[0][0], people_of[1][0]):
        raise Wrong("The halves show different identities: draw the identities once, for both spectra.")
    if not np.array_equal(persons[0], persons[1]):
        raise Wrong("Both halves show the same identities, but in another order: keep one order for both.")
    images, counts = np.unique(batch, return_counts=True)
    for image in images[counts > 1]:
        have = int(((person_ids == person_ids[image]) & (modality == modality[image])).sum())
        if have >= images_per_id:
            raise Wrong(
                f"Image {image} is repeated, although its identity has {have} images in this spectrum and "
                f"{images_per_id} are needed: draw without replacement where there are enough."
            )


@exercise("02.3")
def check_normalise(function: Function) -> str:
    """Check f(images uint8 (B,3,H,W), mean (3,), std (3,)) -> (B,3,H,W), to [0,1] and then per channel."""
    generator = torch.Generator().manual_seed(6)
    mean, std = torch.tensor(transforms.IMAGENET_MEAN), torch.tensor(transforms.IMAGENET_STD)
    cases = [
        {
            "images": torch.randint(256, shape, generator=generator, dtype=torch.uint8),
            "mean": mean.clone(),
            "std": std.clone(),
        }
        for shape in ((3, 3, 3, 3), (2, 3, 5, 3), (2, 3, 3, 4), (4, 3, 6, 5))
    ]

    def scaled(mean_shape: tuple[int, ...]) -> Function:
        return lambda x, mean, std: (x / 255 - mean.view(mean_shape)) / std.view(mean_shape)

    def flipped(images: Tensor, mean: Tensor, std: Tensor) -> Any:
        return scaled((3, 1, 1))(images, mean.flip(0), std.flip(0))

    channel = (3, 1, 1)
    check_cases(
        function,
        cases,
        lambda images, mean, std: transforms.normalize(transforms.to_float(images)),
        "(B,3,H,W), as the images",
        {
            "Divide by 255 first: `mean` and `std` are meant for values in [0,1].": (
                lambda x, mean, std: (x - mean.view(channel)) / std.view(channel)
            ),
            "`mean` and `std` are exchanged: take the mean off, then divide by the deviation.": (
                lambda x, mean, std: (x / 255 - std.view(channel)) / mean.view(channel)
            ),
            "`mean` and `std` were laid along the width: channels are axis 1, so view them as (3,1,1).": scaled((3,)),
            "`mean` and `std` were laid along the height: channels are axis 1, so view them as (3,1,1).": scaled(
                (3, 1)
            ),
            "`mean` and `std` were laid along the batch: channels are axis 1, so view them as (1,3,1,1).": (
                scaled((3, 1, 1, 1))
            ),
            "Only the mean was divided by `std`: put brackets round the difference, (images - mean) / std.": (
                lambda x, mean, std: x / 255 - mean.view(channel) / std.view(channel)
            ),
            "The division by `std` is missing.": lambda x, mean, std: x / 255 - mean.view(channel),
            "The mean was not taken off.": lambda x, mean, std: x / 255 / std.view(channel),
            "The images were divided by `std` before the mean was taken off: take it off first.": (
                lambda x, mean, std: x / 255 / std.view(channel) - mean.view(channel)
            ),
            "The mean was added: take it off.": lambda x, mean, std: (x / 255 + mean.view(channel)) / std.view(channel),
            "The images were multiplied by `std`: divide by it.": (
                lambda x, mean, std: (x / 255 - mean.view(channel)) * std.view(channel)
            ),
            "The images were divided by the squared `std`: it is the deviation already.": (
                lambda x, mean, std: (x / 255 - mean.view(channel)) / std.view(channel) ** 2
            ),
            "The images were divided by the root of `std`: it is the deviation already.": (
                lambda x, mean, std: (x / 255 - mean.view(channel)) / std.view(channel).sqrt()
            ),
            "This is [0,1] alone: take the mean off, and divide by the deviation.": lambda x, mean, std: x / 255,
            "The range is [-1,1] in your answer: take off the given `mean` and divide by the given `std`.": (
                lambda x, mean, std: x / 127.5 - 1
            ),
            "Mean and deviation of the batch's own channels were used: take the given ones.": (
                lambda x, mean, std: (
                    (x / 255 - (x / 255).mean((0, 2, 3)).view(channel)) / (x / 255).std((0, 2, 3)).view(channel)
                )
            ),
            "The images' own mean and deviation were used: take the given ones.": (
                lambda x, mean, std: (x / 255 - (x / 255).mean()) / (x / 255).std()
            ),
            "One mean and one deviation were taken for all channels: each channel has its own.": (
                lambda x, mean, std: (x / 255 - mean.mean()) / std.mean()
            ),
            "The channels are in reverse order (BGR): keep their order.": flipped,
            "Divide by 255, not by 256: the largest value is 255.": (
                lambda x, mean, std: (x / 256 - mean.view(channel)) / std.view(channel)
            ),
            "The division cuts off at the decimal point: use `/`.": (
                lambda x, mean, std: (x // 255 - mean.view(channel)) / std.view(channel)
            ),
        },
    )
    return "right. The network's ImageNet weights expect exactly this scale."
