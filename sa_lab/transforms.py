"""Augmentation of a whole batch on the batch's device; every sample draws its own parameters from one generator.

Images are (B,3,H,W) float in [0,1] until `normalize`. All functions return a new tensor. Sources: Random Erasing,
Zhong et al. 2020 (arXiv:1708.04896); RandomLinear, the reference program of arXiv:2302.01512.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional

Images = Float[Tensor, "B 3 H W"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ERASING_FILL = (0.4914, 0.4822, 0.4465)
_ATTEMPTS = 20


def to_float(images: Tensor, dtype: torch.dtype = torch.float32) -> Images:
    """uint8 0..255 to float 0..1."""
    return images.to(dtype) / 255


def normalize(images: Images) -> Images:
    """[0,1] to zero mean and unit deviation per channel, ImageNet's constants."""
    mean, std = (images.new_tensor(c).view(1, 3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def augment(images: Images, modality: Tensor, recipe: str, generator: Generator) -> Images:
    """Apply the recipe of that name in `sa_lab.config.TrainConfig.augmentation`.

    Raises:
        ValueError: no such recipe.
    """
    if recipe == "none":
        return images
    images = horizontal_flip(images, generator)
    if recipe == "random_linear":
        return random_erasing(random_linear(images, generator), generator)
    images = pad_crop(images, generator)
    if recipe == "light":
        return images
    if recipe == "channel_mix":
        return random_erasing(channel_mix(images, modality, generator), generator)
    raise ValueError(f"augmentation is {recipe!r}, expected none, light, random_linear or channel_mix")


def horizontal_flip(images: Images, generator: Generator, probability: float = 0.5) -> Images:
    """Mirror left and right."""
    return torch.where(_chosen(images, generator, probability), images.flip(3), images)


def pad_crop(images: Images, generator: Generator, share: float = 0.06) -> Images:
    """Shift by up to ``share`` of the height and width in each direction, black where nothing is known."""
    batch, _, height, width = images.shape
    reach_y, reach_x = max(1, round(share * height)), max(1, round(share * width))
    padded = functional.pad(images, (reach_x, reach_x, reach_y, reach_y))
    top = _randint(2 * reach_y + 1, batch, images, generator)
    left = _randint(2 * reach_x + 1, batch, images, generator)
    rows = (top[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    sample = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(3, device=images.device)[None, :, None, None]
    return padded[sample, channel, rows, columns]


def channel_mix(images: Images, modality: Tensor, generator: Generator, probability: float = 0.5) -> Images:
    """Turn visible images grey by a random convex mix of R, G and B, uniform on the simplex; infrared ones stay."""
    uniform = torch.rand(len(images), 3, generator=generator, device=images.device, dtype=images.dtype)
    weights = -torch.log1p(-uniform) + 1e-12
    mixed = torch.einsum("bc,bchw->bhw", weights / weights.sum(1, keepdim=True), images)[:, None].expand_as(images)
    visible = (modality.to(images.device) == 0).view(-1, 1, 1, 1)
    return torch.where(_chosen(images, generator, probability) & visible, mixed, images)


def random_erasing(images: Images, generator: Generator, probability: float = 0.5) -> Images:
    """Fill a random rectangle with ImageNet-like grey."""
    fill = images.new_tensor(ERASING_FILL).view(1, 3, 1, 1)
    return torch.where(_chosen(images, generator, probability) & _rectangles(images, generator), fill, images)


def random_linear(images: Images, generator: Generator, probability: float = 0.5, rounds: int = 100) -> Images:
    """RandomLinear: scale random rectangles, channel by channel, until some pixel has nearly gone dark.

    Repeat, at most ``rounds`` times: draw a rectangle as Random Erasing does and one beta ~ Beta(0.5, 0.5); multiply
    each channel inside by beta / max(channel inside); stop when the smallest accumulated factor is below 0.01.
    """
    result = images.clone()
    active = torch.nonzero(_chosen(images, generator, probability).flatten()).flatten()
    smallest = torch.ones_like(images)
    for _ in range(rounds):
        if not len(active):
            break
        current = result[active]
        inside = _rectangles(current, generator)
        peak = torch.where(inside, current, 0).amax((2, 3), keepdim=True)
        uniform = torch.rand(len(active), 1, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
        beta = torch.sin(uniform * (math.pi / 2)).square()  # Beta(0.5, 0.5) is the arcsine law
        factor = torch.where(inside & (peak > 0), beta / peak.clamp_min(1e-12), 1)
        result[active] = current * factor
        smallest[active] *= factor
        active = active[smallest[active].amin((1, 2, 3)) >= 0.01]
    return result


def _chosen(images: Images, generator: Generator, probability: float) -> Bool[Tensor, "B 1 1 1"]:
    """Which samples an augmentation of this probability meets."""
    return (torch.rand(len(images), generator=generator, device=images.device) < probability).view(-1, 1, 1, 1)


def _randint(limit: int, count: int, images: Images, generator: Generator) -> Int[Tensor, " B"]:
    return torch.randint(limit, (count,), generator=generator, device=images.device)


def _rectangles(
    images: Images, generator: Generator, area: tuple[float, float] = (0.02, 0.4), aspect: float = 0.3
) -> Bool[Tensor, "B 1 H W"]:
    """One rectangle a sample: area share uniform in ``area``, height/width uniform in aspect..1/aspect.

    Rectangles that do not fit are drawn anew, at most 20 times (the definition says 100; the chance that 20 do not
    suffice is below 1e-6 at 1:2); then there is none.
    """
    batch, _, height, width = images.shape
    draw = torch.rand(4, batch, _ATTEMPTS, generator=generator, device=images.device)
    pixels = (area[0] + (area[1] - area[0]) * draw[0]) * height * width
    ratio = aspect + (1 / aspect - aspect) * draw[1]
    tall, wide = (pixels * ratio).sqrt().round(), (pixels / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide, down, right = (value.gather(1, first) for value in (tall, wide, draw[2], draw[3]))
    top, left = (down * (height - tall + 1)).floor(), (right * (width - wide + 1)).floor()
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    in_rows = (rows >= top) & (rows < top + tall) & fits.any(1, keepdim=True)
    in_columns = (columns >= left) & (columns < left + wide)
    return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]
