"""Augmentation of a whole batch on the batch's device; every sample draws its own parameters from one generator.

Images are (B,3,H,W) float in [0,1] until `normalize`; what only moves pixels also takes bytes. All functions return a
new tensor, unless asked otherwise. Sources: Random Erasing,
Zhong et al. 2020 (arXiv:1708.04896); RandomLinear, the reference program of arXiv:2302.01512.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor
from torch.nn import functional

Images = Float[Tensor, "B 3 H W"]
Pixels = Images | UInt8[Tensor, "B 3 H W"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ERASING_FILL = (0.4914, 0.4822, 0.4465)


def to_float(images: Pixels, dtype: torch.dtype = torch.float32) -> Images:
    """uint8 0..255 to float 0..1; what is float already stays."""
    return images if images.is_floating_point() else images.to(dtype).div_(255)


def normalize(images: Images, in_place: bool = False) -> Images:
    """[0,1] to zero mean and unit deviation per channel, ImageNet's constants; ``in_place`` without a new tensor."""
    kept = _colour.__wrapped__ if torch.compiler.is_compiling() else _colour  # those of a trace are placeholders
    mean, std = (kept(c, images.device, images.dtype) for c in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.sub_(mean) if in_place else images - mean).div_(std)


@lru_cache
def _colour(values: tuple[float, float, float], device: torch.device, dtype: torch.dtype) -> Float[Tensor, "1 3 1 1"]:
    """Made once on a device: to send it there anew would wait for what the device is doing."""
    return torch.tensor(values, device=device, dtype=dtype).view(1, 3, 1, 1)


def augment(
    images: Pixels, modality: Tensor, recipe: str, generator: Generator, dtype: torch.dtype = torch.float32
) -> Images:
    """Apply the recipe of that name in `sa_lab.config.TrainConfig.augmentation`.

    Bytes are moved about as bytes, a quarter of the memory, and made ``dtype`` before their colours change.

    Raises:
        ValueError: no such recipe.
    """
    if recipe not in ("none", "light", "random_linear", "channel_mix"):
        raise ValueError(f"augmentation is {recipe!r}, expected none, light, random_linear or channel_mix")
    if recipe != "none":
        images = horizontal_flip(images, generator)
    if recipe in ("light", "channel_mix"):
        images = pad_crop(images, generator)
    images = to_float(images, dtype)
    if recipe == "random_linear":
        images = random_linear(images, generator)
    if recipe == "channel_mix":
        images = channel_mix(images, modality, generator)
    return images if recipe in ("none", "light") else random_erasing(images, generator)


def horizontal_flip(images: Pixels, generator: Generator, probability: float = 0.5) -> Pixels:
    """Mirror left and right."""
    both, count = torch.cat([images, images.flip(3)]), len(images)
    chosen = _chosen(images, generator, probability)
    return both.index_select(0, torch.arange(count, device=images.device) + count * chosen)


def pad_crop(images: Pixels, generator: Generator, share: float = 0.06) -> Pixels:
    """Shift by up to ``share`` of the height and width in each direction, black where nothing is known.

    Each row of a shifted image is a window of the padded images' memory, which may begin anywhere.
    """
    batch, channels, height, width = images.shape
    reach_y, reach_x = max(1, round(share * height)), max(1, round(share * width))
    padded = functional.pad(images, (reach_x, reach_x, reach_y, reach_y))
    top = _randint(2 * reach_y + 1, batch, images, generator)
    left = _randint(2 * reach_x + 1, batch, images, generator)
    planes, rows = (torch.arange(n, device=images.device) for n in (batch * channels, height))
    first_rows = planes.view(batch, channels, 1) * padded.shape[2] + top.view(-1, 1, 1)
    begins = (first_rows + rows) * padded.shape[3] + left.view(-1, 1, 1)  # (B,3,H)
    return padded.flatten().unfold(0, width, 1).index_select(0, begins.flatten()).view_as(images)


def channel_mix(images: Images, modality: Tensor, generator: Generator, probability: float = 0.5) -> Images:
    """Turn visible images grey by a random convex mix of R, G and B, uniform on the simplex; infrared ones stay."""
    uniform = torch.rand(len(images), 3, generator=generator, device=images.device, dtype=images.dtype)
    weights = -torch.log1p(-uniform) + 1e-12
    grey = (weights / weights.sum(1, keepdim=True))[:, None].expand(-1, 3, -1)  # (B,3,3): all channels alike
    chosen = _chosen(images, generator, probability) & (modality.to(images.device, non_blocking=True) == 0)
    mix = torch.where(chosen[:, None, None], grey, torch.eye(3, dtype=images.dtype, device=images.device))
    return torch.bmm(mix, images.flatten(2)).view_as(images)


def random_erasing(images: Images, generator: Generator, probability: float = 0.5) -> Images:
    """Fill a random rectangle with ImageNet-like grey."""
    fill = _colour(ERASING_FILL, images.device, images.dtype)
    chosen = _chosen(images, generator, probability)
    inside = _rectangles(images, generator, chosen).to(images.dtype)
    return images.lerp(fill, inside)  # between 0 and 1 alone: as torch.where, in a third of its time on a CPU


def random_linear(images: Images, generator: Generator, probability: float = 0.5, rounds: int = 100) -> Images:
    """RandomLinear: scale random rectangles, channel by channel, until some pixel has nearly gone dark.

    Repeat, at most ``rounds`` times: draw a rectangle as Random Erasing does and, for each of the three channels c, a
    beta_c ~ Beta(0.5, 0.5) of its own; multiply c inside by beta_c / max(c inside); stop when the smallest accumulated
    factor is below 0.01. A rectangle that does not fit into the image is skipped, and counts as a round. Infrared
    images, whose channels are equal, thus become coloured.

    The device is asked only after some of the rounds which images go on, because each question waits for it.
    """
    result = images.clone()
    active = torch.nonzero(_chosen(images, generator, probability)).flatten()
    current = result[active]
    factors = torch.ones_like(current)
    for done in range(1, rounds + 1):
        if not len(active):
            break
        inside = _rectangles(current, generator, _goes_on(factors), attempts=1)
        peak = torch.where(inside, current, 0).amax((2, 3), keepdim=True)
        uniform = torch.rand(len(active), 3, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
        beta = torch.sin(uniform * (math.pi / 2)).square()  # Beta(0.5, 0.5) is the arcsine law
        factor = torch.where(inside & (peak > 0), beta / peak.clamp_min(1e-12), 1)
        current, factors = current.mul_(factor), factors.mul_(factor)
        if done in (2, 4, 6, 8, 12, 16, 24, 32, 48, 64):
            result[active] = current
            left = torch.nonzero(_goes_on(factors)).flatten()
            active, current, factors = active[left], current[left], factors[left]
    result[active] = current
    return result


def _goes_on(factors: Images) -> Bool[Tensor, " B"]:
    """Whether no pixel has nearly gone dark yet."""
    return factors.amin((1, 2, 3)) >= 0.01


def _chosen(images: Pixels, generator: Generator, probability: float) -> Bool[Tensor, " B"]:
    """Which samples an augmentation of this probability meets."""
    return torch.rand(len(images), generator=generator, device=images.device) < probability


def _randint(limit: int, count: int, images: Pixels, generator: Generator) -> Int[Tensor, " B"]:
    return torch.randint(limit, (count,), generator=generator, device=images.device)


def _rectangles(
    images: Images,
    generator: Generator,
    chosen: Bool[Tensor, " B"],
    area: tuple[float, float] = (0.02, 0.4),
    aspect: float = 0.3,
    attempts: int = 20,
) -> Bool[Tensor, "B 1 H W"]:
    """One rectangle in each chosen sample: area share uniform in ``area``, height/width uniform in aspect..1/aspect.

    Rectangles that do not fit are drawn anew, ``attempts`` times in all (Random Erasing says 100; the chance that 20
    do not suffice is below 1e-6 at 1:2); then there is none.
    """
    batch, _, height, width = images.shape
    draw = torch.rand(4, batch, attempts, generator=generator, device=images.device)
    pixels = (area[0] + (area[1] - area[0]) * draw[0]) * height * width
    ratio = aspect + (1 / aspect - aspect) * draw[1]
    tall, wide = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide, down, right = (value.gather(1, first) for value in (tall, wide, draw[2], draw[3]))
    top, left = (down * (height - tall + 1)).floor(), (right * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top) & (rows < top + tall) & fits.any(1, keepdim=True) & chosen[:, None]
    in_columns = (columns >= left) & (columns < left + wide)
    kinds = torch.cat([in_columns, torch.zeros_like(in_columns[:1])])  # of a row of the mask: the last is outside
    kind = torch.where(in_rows, torch.arange(batch, device=images.device)[:, None], batch)
    return kinds.index_select(0, kind.flatten()).view(batch, 1, height, width)
