"""Augmentations: the same distribution as their plain per-image definitions, from the generator alone."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from sa_lab import transforms
from sa_lab.transforms import channel_mix, horizontal_flip, pad_crop, random_erasing, random_linear

RECIPES = ("none", "light", "random_linear", "channel_mix")
HEIGHT, WIDTH = 48, 24
SIGNIFICANT = 1e-4  # seeds are fixed: a test that passes once passes always


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def noise(batch: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 99) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=seeded(seed))


def modality_of(batch: int) -> Tensor:
    return torch.arange(batch) % 2


FUNCTIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "horizontal_flip": horizontal_flip,
    "pad_crop": pad_crop,
    "channel_mix": lambda images, generator: channel_mix(images, torch.zeros(len(images)), generator),
    "random_erasing": random_erasing,
    "random_linear": random_linear,
    **{
        recipe: lambda images, generator, recipe=recipe: transforms.augment(
            images, modality_of(len(images)), recipe, generator
        )
        for recipe in RECIPES
    },
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_generator_is_the_only_source_and_the_input_stays(name: str, dtype: torch.dtype) -> None:
    images = noise(24).to(dtype)
    before, python, torch_state = images.clone(), random.getstate(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (FUNCTIONS[name](images, seeded(seed)) for seed in (3, 3, 4))
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert name == "none" or not torch.equal(first, other)
    assert torch.equal(images, before)
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_stay_in_range_and_samples_differ(name: str) -> None:
    for images in (noise(64), torch.zeros(64, 3, HEIGHT, WIDTH), torch.ones(64, 3, HEIGHT, WIDTH)):
        result = FUNCTIONS[name](images, seeded(1))
        assert result.shape == images.shape
        assert torch.isfinite(result).all()
        assert result.min() >= 0
        assert result.max() <= 1 + 1e-6
    same = noise(1).expand(64, -1, -1, -1)
    distinct = {sample.numpy().tobytes() for sample in FUNCTIONS[name](same, seeded(2))}
    assert len(distinct) == {"none": 1, "horizontal_flip": 2}.get(name, len(distinct))
    assert name in ("none", "horizontal_flip") or len(distinct) > 20


def test_flip_share() -> None:
    images = noise(4000, 2, 4)
    for probability in (0.5, 0.1):
        flipped = horizontal_flip(images, seeded(), probability)
        mirrored = (flipped == images.flip(3)).flatten(1).all(1)
        assert ((flipped == images).flatten(1).all(1) | mirrored).all()
        assert stats.binomtest(int(mirrored.sum()), 4000, probability).pvalue > SIGNIFICANT
    assert torch.equal(horizontal_flip(images, seeded(), 0.0), images)
    assert torch.equal(horizontal_flip(images, seeded(), 1.0), images.flip(3))


def test_pad_crop_shifts_uniformly_and_independently() -> None:
    """An image of 50 x 34 moves by -3..3 rows and -2..2 columns; a marked pixel tells which."""
    batch, height, width = 7000, 50, 34
    images = torch.zeros(1, 3, height, width)
    images[:, :, 20, 10] = 1
    moved = pad_crop(images.expand(batch, -1, -1, -1), seeded())
    assert (moved.flatten(2).sum(2) == 1).all()
    place = moved[:, 0].flatten(1).argmax(1)
    down, right = place // width - 20, place % width - 10
    table = np.zeros((7, 5))
    np.add.at(table, (down.numpy() + 3, right.numpy() + 2), 1)
    assert stats.chisquare(table.ravel()).pvalue > SIGNIFICANT


def test_pad_crop_shows_black_where_nothing_is_known() -> None:
    moved = pad_crop(torch.ones(200, 3, 50, 34), seeded(1))
    rows, columns = moved[:, 0].amax(2).sum(1), moved[:, 0].amax(1).sum(1)
    assert set(rows.tolist()) == {47, 48, 49, 50}
    assert set(columns.tolist()) == {32, 33, 34}
    image = noise(1, 50, 34)
    for sample in pad_crop(image.expand(20, -1, -1, -1), seeded(2)):
        crops = [
            torch.nn.functional.pad(image, (2, 2, 3, 3))[0, :, y : y + 50, x : x + 34]
            for y in range(7)
            for x in range(5)
        ]
        assert any(torch.equal(sample, crop) for crop in crops)


def test_channel_mix_weights_are_uniform_on_the_simplex_and_infrared_stays() -> None:
    batch = 6000
    images = torch.zeros(batch, 3, 2, 2)
    for pixel, (y, x) in enumerate(((0, 0), (0, 1), (1, 0))):
        images[:, pixel, y, x] = 1  # pixel k shows channel k alone: after mixing its value is the weight
    modality = modality_of(batch)
    mixed = channel_mix(images, modality, seeded())
    assert torch.equal(mixed[modality == 1], images[modality == 1])
    visible = mixed[modality == 0]
    touched = (visible != images[0]).flatten(1).any(1)
    assert stats.binomtest(int(touched.sum()), batch // 2, 0.5).pvalue > SIGNIFICANT
    grey = visible[touched]
    assert torch.equal(grey, grey[:, :1].expand_as(grey))
    weights = grey[:, 0].flatten(1)[:, :3]
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))
    # uniform on the simplex: each weight is Beta(1, 2), and w0 / (w0 + w1) is uniform and independent of w2
    for k in range(3):
        assert stats.kstest(weights[:, k].numpy(), stats.beta(1, 2).cdf).pvalue > SIGNIFICANT
    share = (weights[:, 0] / (weights[:, 0] + weights[:, 1])).numpy()
    assert stats.kstest(share, stats.uniform.cdf).pvalue > SIGNIFICANT
    assert stats.spearmanr(share, weights[:, 2].numpy()).pvalue > SIGNIFICANT


def plain_rectangle(rng: random.Random, height: int, width: int, tries: int = 100) -> tuple[int, int, int, int] | None:
    """(top, left, tall, wide) as Random Erasing defines it; None if none of the tries fits into the image."""
    for _ in range(tries):
        area, ratio = rng.uniform(0.02, 0.4) * height * width, rng.uniform(0.3, 1 / 0.3)
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tall < height and wide < width:
            return rng.randint(0, height - tall), rng.randint(0, width - wide), tall, wide
    return None


def boxes(masks: np.ndarray) -> np.ndarray:
    """(N,4) top, left, tall, wide of the masks (N,H,W), each one full rectangle."""
    found = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert mask.sum() == box[2] * box[3], "a rectangle without holes"
        found.append(box)
    return np.array(found)


@pytest.mark.parametrize(("height", "width"), [(HEIGHT, WIDTH), (30, 30)])
def test_random_erasing_draws_the_rectangles_of_its_definition(height: int, width: int) -> None:
    batch = 3000
    images = torch.ones(batch, 3, height, width)
    erased = random_erasing(images, seeded(), probability=1.0)
    drawn = boxes((erased != 1).all(1).numpy())
    rng = random.Random(0)
    plain = np.array([plain_rectangle(rng, height, width) for _ in range(batch)])
    assert len(drawn) == batch
    statistics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "tall": lambda b: b[:, 2],
        "wide": lambda b: b[:, 3],
        "area": lambda b: b[:, 2] * b[:, 3],
        "aspect": lambda b: b[:, 2] / b[:, 3],
        "vertical place": lambda b: (b[:, 0] + 0.5) / (height - b[:, 2] + 1),
        "horizontal place": lambda b: (b[:, 1] + 0.5) / (width - b[:, 3] + 1),
    }
    for name, statistic in statistics.items():
        assert stats.ks_2samp(statistic(drawn), statistic(plain)).pvalue > SIGNIFICANT, name
    assert (drawn[:, 0] + drawn[:, 2] == height).any(), "the lower edge is reached"
    assert (drawn[:, 1] + drawn[:, 3] == width).any(), "the right edge is reached"


def test_random_erasing_fill_and_share() -> None:
    images = torch.zeros(3000, 3, 16, 8)
    erased = random_erasing(images, seeded())
    touched = (erased != 0).flatten(1).any(1)
    assert stats.binomtest(int(touched.sum()), 3000, 0.5).pvalue > SIGNIFICANT
    colours = erased.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0)
    torch.testing.assert_close(colours, torch.tensor([[0, 0, 0], [0.4914, 0.4822, 0.4465]]))


def plain_random_linear(image: np.ndarray, rng: random.Random) -> tuple[np.ndarray, int]:
    """(image, rounds) of RandomLinear as the method's page defines it for one image (3,H,W).

    A beta for each channel; a rectangle that does not fit is skipped, and counts.
    """
    image, factors = image.copy(), np.ones_like(image)
    rounds = 0
    while rounds < 100 and factors.min() >= 0.01:
        rounds += 1
        box = plain_rectangle(rng, *image.shape[1:], tries=1)
        if box is not None:
            top, left, tall, wide = box
            for channel in range(3):
                inside = (channel, slice(top, top + tall), slice(left, left + wide))
                factor = rng.betavariate(0.5, 0.5) / image[inside].max()
                image[inside] *= factor
                factors[inside] *= factor
    return image, rounds


def test_random_linear_equals_its_definition() -> None:
    """The number of rounds, the stop rule and the brightness that is left."""
    batch, height, width = 800, 16, 8
    start = (0.2 + 0.8 * noise(1, height, width)).expand(batch, -1, -1, -1)
    result = random_linear(start, seeded(), probability=1.0)
    factors = (result / start).amin((1, 2, 3)).numpy()
    stopped_after = np.full(batch, 100)
    for rounds in range(60, -1, -1):  # the same draws, cut short
        shorter = random_linear(start, seeded(), probability=1.0, rounds=rounds)
        stopped_after[(shorter == result).flatten(1).all(1).numpy()] = rounds
    assert stopped_after.min() == 1

    rng = random.Random(1)
    image = start[0].double().numpy()
    plain = [plain_random_linear(image, rng) for _ in range(batch)]
    rounds = np.array([n for _, n in plain])
    images = np.stack([final for final, _ in plain])
    assert stats.ks_2samp(stopped_after, rounds).pvalue > SIGNIFICANT
    assert stopped_after.mean() == pytest.approx(rounds.mean(), rel=0.15)
    assert (factors[stopped_after < 100] < 0.01001).all()
    assert stats.ks_2samp(factors, (images / image).min((1, 2, 3))).pvalue > SIGNIFICANT
    for statistic in (np.mean, np.std, np.min, np.max, np.median):
        ours, definition = (statistic(x.reshape(batch, -1), axis=1) for x in (result.numpy(), images))
        assert stats.ks_2samp(ours, definition).pvalue > SIGNIFICANT, statistic.__name__
    for first, second in ((0, 1), (1, 2), (2, 0)):  # how far apart two channels have come
        ours, definition = ((x / image)[:, first] - (x / image)[:, second] for x in (result.numpy(), images))
        for statistic in (np.mean, np.std, np.max):
            both = (statistic(x.reshape(batch, -1), axis=1) for x in (ours, definition))
            assert stats.ks_2samp(*both).pvalue > SIGNIFICANT, statistic.__name__
    np.testing.assert_allclose(result.mean(0).numpy(), images.mean(0), atol=0.09)


def test_random_linear_rounds_and_share() -> None:
    images = noise(2000, 8, 8)
    touched = (random_linear(images, seeded(), rounds=1) != images).flatten(1).any(1)
    assert stats.binomtest(int(touched.sum()), 2000, 0.5).pvalue > SIGNIFICANT
    assert torch.equal(random_linear(images, seeded(), rounds=0), images)
    one = random_linear(0.5 * torch.ones(500, 3, 20, 20), seeded(), probability=1.0, rounds=1)
    beta = torch.where(one != 0.5, one, 0).flatten(2).amax(2).numpy()  # (500,3)
    beta = beta[beta.min(1) > 0]
    for channel in range(3):
        law = stats.kstest(beta[:, channel], stats.beta(0.5, 0.5).cdf)
        assert law.pvalue > SIGNIFICANT, f"the peak of channel {channel} becomes beta"
        assert stats.spearmanr(beta[:, channel], beta[:, (channel + 1) % 3]).pvalue > SIGNIFICANT, "drawn apart"
    fitted = np.mean([plain_rectangle(random.Random(k), 20, 20, tries=1) is not None for k in range(4000)])
    assert stats.binomtest(len(beta), 500, fitted).pvalue > SIGNIFICANT, "what does not fit is skipped"


def test_random_linear_colours_infrared_images() -> None:
    grey = noise(400)[:, :1].expand(-1, 3, -1, -1)
    result = random_linear(grey, seeded())
    changed = (result != grey).flatten(1).any(1)
    coloured = (result.amax(1) - result.amin(1)).flatten(1).amax(1) > 0.01
    assert stats.binomtest(int(changed.sum()), 400, 0.5).pvalue > SIGNIFICANT
    assert coloured.sum() > 0.95 * changed.sum()


def test_recipes_are_their_functions_in_order() -> None:
    images, modality = noise(30), modality_of(30)

    def by_hand(*functions: Callable[[Tensor, Generator], Tensor]) -> Tensor:
        generator, result = seeded(5), images
        for function in functions:
            result = function(result, generator)
        return result

    def mix(batch: Tensor, generator: Generator) -> Tensor:
        return channel_mix(batch, modality, generator)

    recipes = {
        "none": (),
        "light": (horizontal_flip, pad_crop),
        "random_linear": (horizontal_flip, random_linear, random_erasing),
        "channel_mix": (horizontal_flip, pad_crop, mix, random_erasing),
    }
    for name, functions in recipes.items():
        assert torch.equal(transforms.augment(images, modality, name, seeded(5)), by_hand(*functions)), name
    with pytest.raises(ValueError, match=r"augmentation is 'more', expected none, light"):
        transforms.augment(images, modality, "more", seeded())


def test_to_float_and_normalize() -> None:
    bytes_ = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    images = transforms.to_float(bytes_, torch.float64)
    assert images.flatten().tolist() == [0, 0.2, 1]
    expected = [(0 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert transforms.normalize(images).flatten().tolist() == pytest.approx(expected, rel=1e-12)
    assert transforms.to_float(bytes_).dtype == torch.float32
