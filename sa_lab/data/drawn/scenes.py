"""Where drawn pedestrians walk: the place behind each camera, its light, its sensor, and what gets in the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

from sa_lab.data.drawn.wardrobe import BANDS, LUMINANCE

_WIDE = 6  # a place is a strip this many image widths long, of which each image shows a window

Length = float | int


class _Strip:
    """A strip of scenery, drawn at once as colour, near infrared and heat; x in image widths, y in image heights."""

    def __init__(self, rng: np.random.Generator, height: int, width: int) -> None:
        self.rng, self.height, self.width = rng, height, width
        size = (_WIDE * width, height)
        self.images = [Image.new("RGB", size), Image.new("L", size), Image.new("L", size)]
        self._draw = [ImageDraw.Draw(image) for image in self.images]

    def tone(self, low: float, high: float, tint: float = 0.022) -> Float[np.ndarray, " 5"]:
        """A muted colour, a near-infrared brightness that follows it in part, a cool temperature."""
        grey = self.rng.uniform(low, high)
        colour = grey + self.rng.normal(0, tint, 3)
        return np.array([*colour, 0.6 * grey + 0.3 * self.rng.random(), self.rng.uniform(0.08, 0.3)])

    def box(self, x0: Length, y0: Length, x1: Length, y1: Length, tone: np.ndarray, round_: bool = False) -> None:
        value = (255 * np.clip(tone, 0, 1)).astype(int).tolist()
        corners = (
            min(x0, x1) * self.width,
            min(y0, y1) * self.height,
            max(x0, x1) * self.width,
            max(y0, y1) * self.height,
        )
        for draw, fill in zip(self._draw, (tuple(value[:3]), value[3], value[4]), strict=True):
            (draw.ellipse if round_ else draw.rectangle)(corners, fill=fill)


def _indoor(strip: _Strip) -> None:
    """Wall, skirting, doors, notice boards, lamps, shiny floor."""
    rng, floor = strip.rng, strip.rng.uniform(0.62, 0.76)
    wall = strip.tone(0.45, 0.75)
    strip.box(0, 0, _WIDE, floor, wall)
    ground = strip.tone(0.3, 0.6)
    strip.box(0, floor, _WIDE, 1, ground)
    strip.box(0, floor - 0.02, _WIDE, floor, wall * 0.6)
    if rng.random() < 0.6:
        strip.box(0, floor * 0.55, _WIDE, floor, wall * rng.uniform(0.75, 0.95))
    x = rng.uniform(0, 0.6)
    while x < _WIDE:
        kind, w = rng.integers(4), rng.uniform(0.25, 0.8)
        tone = strip.tone(0.15, 0.7, 0.04)
        if kind == 0:
            strip.box(x - 0.03, 0.1, x + w + 0.03, floor, tone * 0.7)
            strip.box(x, 0.13, x + w, floor, tone)
        elif kind == 1:
            strip.box(x, rng.uniform(0.12, 0.3), x + w, rng.uniform(0.35, 0.5), tone)
        elif kind == 2:
            strip.box(x, 0, x + 0.4 * w, floor + 0.03, tone * 0.9)
        else:
            warm = tone + np.array([0, 0, 0, 0, 0.35])  # a radiator
            strip.box(x, floor - 0.2, x + w, floor - 0.02, warm)
        x += w + rng.uniform(0.2, 0.9)
    for k in range(1, 5):
        strip.box(
            0, floor + (1 - floor) * (k / 5) ** 1.5, _WIDE, floor + (1 - floor) * (k / 5) ** 1.5 + 0.006, ground * 0.88
        )


def _outdoor(strip: _Strip) -> None:
    """Sky, facades with windows, trees, parked cars, road with a kerb."""
    rng, road = strip.rng, strip.rng.uniform(0.5, 0.68)
    strip.box(0, 0, _WIDE, road, strip.tone(0.6, 0.8) + np.array([-0.03, 0, 0.05, -0.25, -0.1]))
    x = 0.0
    while x < _WIDE:
        w, tone = rng.uniform(0.6, 1.6), strip.tone(0.25, 0.6)
        top = rng.uniform(-0.1, 0.25)
        strip.box(x, top, x + w, road, tone)
        glass, cell = tone * rng.uniform(0.5, 0.75) + np.array([0, 0, 0.02, 0, 0.12]), rng.uniform(0.18, 0.3)
        for column in np.arange(x + 0.08, x + w - 0.12, cell):
            for row in np.arange(top + 0.06, road - 0.12, 0.16):
                strip.box(column, row, column + 0.55 * cell, row + 0.09, glass)
        x += w + rng.choice((0, 0.3))
    ground = strip.tone(0.3, 0.5, 0.02)
    strip.box(0, road, _WIDE, 1, ground)
    strip.box(0, road, _WIDE, road + 0.05, ground * 1.2)
    strip.box(0, road + 0.05, _WIDE, road + 0.06, ground * 0.7)
    for _ in range(int(rng.integers(8, 14))):  # foliage: dark green to the eye, bright in near infrared
        leaf = np.array([0.24, 0.28, 0.21, 0.55, 0.15]) * rng.uniform(0.7, 1.25)
        x, y, r = rng.uniform(0, _WIDE), rng.uniform(0.1, road), rng.uniform(0.12, 0.35)
        strip.box(x - 0.03, y, x + 0.03, road + 0.02, leaf * 0.5)
        for _ in range(5):
            dx, dy = rng.normal(0, 0.5 * r), rng.normal(0, 0.25 * r)
            strip.box(x + dx - r, y + dy - 0.5 * r, x + dx + r, y + dy + 0.5 * r, leaf * rng.uniform(0.8, 1.15), True)
    for _ in range(int(rng.integers(1, 4))):
        x, tone = rng.uniform(0, _WIDE), strip.tone(0.1, 0.7, 0.04)
        strip.box(x + 0.25, road - 0.13, x + 1.05, road + 0.03, tone * 0.55)
        strip.box(x, road - 0.05, x + 1.4, road + 0.08, tone + np.array([0, 0, 0, 0, 0.25]))


@lru_cache(maxsize=16)
def _place(seed: int, place: int, outdoor: bool, height: int, width: int) -> list[Image.Image]:
    strip = _Strip(np.random.default_rng(np.random.SeedSequence([seed, 3, place])), height, width)
    (_outdoor if outdoor else _indoor)(strip)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 4, place]))
    grain = Image.fromarray(rng.standard_normal((height // 2 + 1, _WIDE * width // 2 + 1), np.float32))
    texture = 1 + 0.035 * np.asarray(grain.resize(strip.images[0].size, Image.Resampling.BICUBIC))
    return [_textured(image, texture).filter(ImageFilter.GaussianBlur(height / 160)) for image in strip.images]


def _textured(image: Image.Image, texture: Float[np.ndarray, "H W"]) -> Image.Image:
    values = np.asarray(image, np.float32)
    values = values * (texture[..., None] if values.ndim == 3 else texture)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def backdrop(
    rng: np.random.Generator, seed: int, place: int, outdoor: bool, spectrum: str, height: int, width: int
) -> Float[np.ndarray, "H W channels"]:
    """A random window of a place.

    Args:
        rng: chooses the window.
        seed, place: which place; the same numbers show the same place in every spectrum.
        outdoor: a street instead of a corridor.
        spectrum: ``visible``, ``nir`` or ``thermal``.
        height, width: size in pixels.

    Returns:
        Brightness in [0,1].
    """
    strip = _place(seed, place, outdoor, height, width)[list(BANDS).index(spectrum)]
    zoom = rng.uniform(0.75, 1.0)
    x, y = rng.uniform(0, (_WIDE - zoom) * width), rng.uniform(0, (1 - zoom) * height)
    window = strip.resize((width, height), Image.Resampling.BILINEAR, box=(x, y, x + zoom * width, y + zoom * height))
    values = np.asarray(window, np.float32) / np.float32(255)
    return values if values.ndim == 3 else values[..., None]


def occlude(rng: np.random.Generator, image: np.ndarray, spectrum: str, probability: float = 0.1) -> None:
    """Perhaps cover part of ``image`` (H,W,channels), in place, by a post, a low obstacle or a passer-by."""
    if rng.random() >= probability:
        return
    height, width, channels = image.shape
    kind, side, share = rng.integers(3), rng.random() < 0.5, rng.uniform(0.12, 0.3)
    grey = rng.uniform(0.1, 0.6)
    tone = (
        grey + rng.normal(0, 0.03, 3)
        if channels == 3
        else np.array([0.2 * rng.random() + (0.1 if spectrum == "thermal" else 0.7 * grey)])
    )
    ys, xs = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    xs = 1 - xs if side else xs
    if kind == 0:
        mask, shade = xs < share, 0.75 + 0.5 * np.sin(np.pi * np.clip(xs / share, 0, 1))
    elif kind == 1:
        mask, shade = ys > 1 - share, 1.1 - 0.5 * (ys - 1 + share) / share
    else:
        body = ((xs + 0.1) / (share + 0.12)) ** 2 + ((ys - 0.75) / 0.5) ** 2 < 1
        mask, shade = body | (((xs - 0.02) / 0.13) ** 2 + ((ys - 0.2) / 0.075) ** 2 < 1), np.ones_like(xs)
        tone = tone + 0.35 if spectrum == "thermal" else tone
    image[mask] = np.clip(shade[mask][:, None] * tone, 0, 1)


def _slope(rng: np.random.Generator, image: np.ndarray, strength: float) -> np.ndarray:
    (height, width), angle = image.shape[:2], rng.uniform(0, 2 * np.pi)
    ys, xs = np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None]
    slope = strength * rng.random()
    return 1 + float(slope * np.sin(angle)) * ys + float(slope * np.cos(angle)) * xs


def _visible(rng: np.random.Generator, image: np.ndarray, person: np.ndarray, outdoor: bool) -> np.ndarray:
    """Exposure, colour temperature, a gradient of light; harder outdoors."""
    warmth = rng.normal(-0.02 if outdoor else 0.03, 0.03)
    gain = float(np.exp(rng.normal(0.05 if outdoor else -0.05, 0.12)))
    white = np.array([1 + warmth, 1 + rng.normal(0, 0.01), 1 - warmth], np.float32)
    colour = rng.uniform(0.6, 0.95)  # how strongly the camera renders colours
    image = colour * image + (1 - colour) * (image @ LUMINANCE.astype(np.float32))[..., None]
    light = gain * _slope(rng, image, 0.3 if outdoor else 0.2)
    haze = rng.uniform(0, 0.06)
    return image * light[..., None] * (white * np.float32(1 - haze)) + haze


def _nir(rng: np.random.Generator, image: np.ndarray, person: np.ndarray, outdoor: bool) -> np.ndarray:
    """A lamp beside the lens: bright in the middle, falling off towards the edges and the background."""
    height, width = image.shape[:2]
    cy, cx = rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.7)
    ys, xs = np.linspace(0, 1, height)[:, None] - cy, (np.linspace(0, 1, width)[None] - cx) * 0.5
    lamp = 0.7 + 0.45 * np.exp(-(ys**2 + xs**2) / rng.uniform(0.15, 0.45))
    far = rng.uniform(0.35, 0.65) if outdoor else rng.uniform(0.6, 0.95)
    depth = far + (1 - far) * person
    return image * (lamp * float(np.exp(rng.normal(0.12, 0.06))))[..., None] * depth


def _thermal(rng: np.random.Generator, image: np.ndarray, person: np.ndarray, outdoor: bool) -> np.ndarray:
    """Automatic gain: contrast and offset differ from image to image."""
    gain, offset = float(np.exp(rng.normal(0, 0.1))), rng.normal(0, 0.03)
    return np.asarray(image * gain * _slope(rng, image, 0.08)[..., None] + offset)


_LIGHT: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray, bool], np.ndarray]]
_LIGHT = {"visible": _visible, "nir": _nir, "thermal": _thermal}
_BLUR = {"visible": (0.2, 0.8), "nir": (0.3, 0.9), "thermal": (0.7, 1.2)}  # pixels at a height of 128
_NOISE = {"visible": (0.006, 0.02), "nir": (0.008, 0.02), "thermal": (0.008, 0.02)}


def expose(
    rng: np.random.Generator,
    image: Float[np.ndarray, "H W channels"],
    person: Float[np.ndarray, "H W 1"],
    spectrum: str,
    outdoor: bool,
    brightness: float = 1.0,
) -> Image.Image:
    """Light the scene and take the picture.

    Args:
        rng: decides on light and noise.
        image: reflectance (visible, nir) or heat (thermal) in [0,1].
        person: how much of a pixel is the person, in [0,1].
        spectrum, outdoor: which camera, where.
        brightness: how much of the usual light there is; the noise stays as it is.

    Returns:
        Mode ``RGB`` for visible, ``L`` for the others.
    """
    lit = np.clip(brightness * _LIGHT[spectrum](rng, image, person, outdoor), 0, 1)
    pixels = (255 * lit).astype(np.uint8)
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(*_BLUR[spectrum]) * image.shape[0] / 128))
    values = np.asarray(picture, np.float32)
    noise = rng.standard_normal(values.shape, np.float32) * (255 * rng.uniform(*_NOISE[spectrum]))
    return Image.fromarray(np.clip(values + noise + 0.5, 0, 255).astype(np.uint8))
