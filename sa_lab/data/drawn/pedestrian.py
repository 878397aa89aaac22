"""One procedural pedestrian: a pose is drawn as a map of body parts, which every spectrum paints in its own way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ImageFilter

from sa_lab.data.drawn.canvas import Canvas, Part, Pose
from sa_lab.data.drawn.strokes import arm, bag, head, leg, torso
from sa_lab.data.drawn.wardrobe import BANDS, Garment, Identity, Surface

_FLATNESS = {"visible": 1.0, "nir": 0.6, "thermal": 0.45}  # how much of the relief shows: frontal or own light flattens


def sample_pose(rng: np.random.Generator, identity: Identity, facing: float | None = None) -> Pose:
    """Draw a pose: front, back or side view, a moment of the gait, an imperfect detection box.

    Args:
        rng: the generator that decides.
        identity: whose stride and stature to use.
        facing: fixed heading in radians; None chooses freely.
    """
    views = (0.0, 0.5, 1.0, -0.5, 0.22, -0.22, 0.8, -0.8)  # in half turns
    heading = facing if facing is not None else np.pi * views[rng.choice(8, p=[0.24, 0.1, 0.24, 0.1, *[0.08] * 4])]
    size = 0.88 * (1 + 0.45 * (identity.stature - 1)) * np.exp(rng.normal(0, 0.04))
    return Pose(
        yaw=float(heading + rng.normal(0, 0.2)),
        phase=rng.uniform(0, 2 * np.pi),
        stride=identity.stride * rng.uniform(0.5, 1.2) if rng.random() < 0.8 else 0.05,
        size=float(size),
        centre=0.5 + float(np.clip(rng.normal(0, 0.045), -0.12, 0.12)),
        feet=float(np.clip(0.5 + size / 2 + rng.normal(0, 0.02), size * 0.98, 1.06)),
        lean=rng.normal(0, 0.025),
        light=rng.uniform(-1, 1),
        folds=tuple(rng.random(5).tolist()),
    )


@dataclass(frozen=True)
class Figure:
    """A drawn pose: part numbers, relief (about 1, darker in folds and on far limbs), pixel coordinates of the body."""

    parts: UInt8[np.ndarray, "H W"]
    relief: Float[np.ndarray, "H W"]
    left: float
    top: float
    scale: float
    yaw: float


def draw(identity: Identity, pose: Pose, height: int, width: int) -> Figure:
    """Draw the body parts of a posed person.

    Args:
        identity: who.  pose: how.
        height, width: size of the drawing in pixels.
    """
    canvas = Canvas(pose, height, width)
    legs = sorted((-1, 1), key=lambda s: -s * canvas.sin)
    layers = [(-0.02 + 0.01 * k, leg(canvas, identity, s)) for k, s in enumerate(legs)]
    layers += [(0.05, lambda: torso(canvas, identity)), (0.11, lambda: head(canvas, identity))]
    layers += [arm(canvas, identity, s) for s in (-1, 1)] + bag(canvas, identity)
    for _, stroke in sorted(layers, key=lambda layer: layer[0]):
        stroke()
    relief = canvas.relief.filter(ImageFilter.GaussianBlur(0.007 * canvas.scale))
    shading = np.asarray(relief, np.float32) / 128
    return Figure(np.asarray(canvas.parts), shading, canvas.left, canvas.top, canvas.scale, pose.yaw)


def _weave(garment: Garment, figure: Figure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a garment shows its accent, in [0,1], at body coordinates x (1,W) and y (H,1)."""
    if garment.pattern == "stripes":
        return np.broadcast_to(np.mod(y / garment.pitch, 1) < 0.45, (len(y), x.shape[1]))
    if garment.pattern == "columns":
        squeeze = 0.35 + 0.65 * abs(np.cos(figure.yaw))
        return np.broadcast_to(np.mod(x / (0.7 * garment.pitch * squeeze), 1) < 0.4, (len(y), x.shape[1]))
    if garment.pattern == "checks":
        columns, rows = np.mod(x / garment.pitch, 1) < 0.5, np.mod(y / garment.pitch, 1) < 0.5
        return np.asarray(0.5 * columns + 0.5 * rows)
    if garment.pattern == "block":
        return np.broadcast_to(y > 0.22 + 2.2 * garment.pitch, (len(y), x.shape[1]))
    if garment.pattern == "print" and np.cos(figure.yaw) > 0.25:
        centre, half = 0.05 * np.sin(figure.yaw), 0.3 * garment.pitch + 0.035
        return np.asarray((abs(x - centre) < half * np.cos(figure.yaw)) & (abs(y - 0.29) < half))
    return np.zeros((1, 1))


def paint(identity: Identity, figure: Figure, spectrum: str) -> Float[np.ndarray, "H W channels"]:
    """Give the parts of a figure their surfaces' look in one spectrum.

    Args:
        identity: whose surfaces.  figure: what `draw` returned.
        spectrum: ``visible`` (three channels), ``nir`` or ``thermal`` (one).

    Returns:
        Brightness in [0,1]; 0 where there is no person.
    """
    channels, up, low = BANDS[spectrum], identity.upper, identity.lower
    sleeve = up.accent if up.pattern == "raglan" else up.main
    main: list[Surface] = [np.zeros(5), identity.skin, identity.hair, up.main, sleeve, up.accent, low.main]
    main += [identity.shoes, identity.bag, identity.hat, identity.tights]
    table = np.stack(main).astype(np.float32)[:, channels]
    image = table.take(figure.parts, axis=0)
    height, width = figure.parts.shape
    x = (np.arange(width, dtype=np.float32)[None] - figure.left) / figure.scale
    y = (np.arange(height, dtype=np.float32)[:, None] - figure.top) / figure.scale
    for garment, where in ((up, (Part.TORSO, Part.SLEEVE)), (low, (Part.LOWER,))):
        if garment.pattern in ("plain", "raglan"):
            continue
        shown = np.isin(figure.parts, where) * _weave(garment, figure, x, y)
        image += shown[..., None].astype(np.float32) * (garment.accent - garment.main)[channels].astype(np.float32)
    shade = 1 + _FLATNESS[spectrum] * (figure.relief - 1)
    if spectrum == "thermal":  # heat leaks out where cloth is thin or skin close: high on the body, inside of limbs
        shade = shade * (1.06 - 0.18 * np.clip(y, 0, 1))
    return np.clip(image * shade[..., None], 0, 1)
