"""What a pedestrian is drawn on: a pose, and two images in body coordinates, the parts and their relief."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]


class Part(IntEnum):
    """What a pixel of the part map shows; 0 is background."""

    NONE = 0
    SKIN = 1
    HAIR = 2
    TORSO = 3
    SLEEVE = 4
    INNER = 5
    LOWER = 6
    SHOES = 7
    BAG = 8
    HAT = 9
    TIGHTS = 10


@dataclass(frozen=True)
class Pose:
    """How a person stands in one image.

    Attributes:
        yaw: heading in radians; 0 faces the camera, pi/2 walks to the right, pi shows the back.
        phase: gait phase in radians.  stride: swing of the legs in radians.
        size: height of the person as a fraction of the image height.
        centre: horizontal position, 0..1.  feet: position of the soles, 0..1 from the top.
        lean: sideways slope of the body axis.  light: side the light comes from, -1..1.
        folds: five random numbers in [0,1] that place folds of the cloth.
    """

    yaw: float
    phase: float
    stride: float
    size: float
    centre: float
    feet: float
    lean: float
    light: float
    folds: tuple[float, ...]


class Canvas:
    """Part map and relief, drawn with the same strokes in body coordinates (x from the axis, y down from the crown)."""

    def __init__(self, pose: Pose, height: int, width: int) -> None:
        self.pose, self.scale = pose, pose.size * height
        self.left, self.top = pose.centre * width, pose.feet * height - self.scale
        self.parts, self.relief = Image.new("L", (width, height)), Image.new("L", (width, height), 128)
        self._part, self._relief = ImageDraw.Draw(self.parts), ImageDraw.Draw(self.relief)
        self.cos, self.sin = float(np.cos(pose.yaw)), float(np.sin(pose.yaw))

    def at(self, x: float, z: float, y: float) -> Point:
        """Project a point: x to the person's side, z ahead, y down."""
        ahead = z * self.cos
        return x * self.cos + z * self.sin + self.pose.lean * (1 - y), y + 0.06 * ahead

    def half(self, front: float, side: float) -> float:
        """Half width of an elliptic cross-section under this view."""
        return float(np.hypot(front * self.cos, side * self.sin))

    def pixels(self, points: list[Point]) -> list[Point]:
        return [(self.left + x * self.scale, self.top + y * self.scale) for x, y in points]

    def polygon(self, points: list[Point], part: Part, shade: float) -> None:
        pixels = self.pixels(points)
        self._part.polygon(pixels, fill=int(part))
        self._relief.polygon(pixels, fill=int(128 * shade))

    def highlight(self, points: list[Point], shade: float) -> None:
        """Change the relief only, over an area."""
        self._relief.polygon(self.pixels(points), fill=int(128 * shade))

    def crease(self, points: list[Point], shade: float, width: float = 0.008) -> None:
        """Change the relief only, along a line: a fold, a seam, an eye."""
        self._relief.line(self.pixels(points), fill=int(128 * shade), width=max(1, round(width * self.scale)))

    def ellipse(self, centre: Point, rx: float, ry: float, part: Part, shade: float) -> None:
        (x0, y0), (x1, y1) = self.pixels([(centre[0] - rx, centre[1] - ry), (centre[0] + rx, centre[1] + ry)])
        self._part.ellipse((x0, y0, x1, y1), fill=int(part))
        self._relief.ellipse((x0, y0, x1, y1), fill=int(128 * shade))

    def limb(self, a: Point, b: Point, ra: float, rb: float, part: Part, shade: float, flat: bool = False) -> None:
        """A tapered capsule, brighter along its middle; ``flat`` cuts it off at ``b``."""
        length = float(np.hypot(b[0] - a[0], b[1] - a[1])) or 1e-6
        nx, ny = (b[1] - a[1]) / length, (a[0] - b[0]) / length
        self.ellipse(a, ra, ra, part, 0.86 * shade)
        if not flat:
            self.ellipse(b, rb, rb, part, 0.86 * shade)
        for share, tone in ((1.0, 0.86), (0.5, 1.08)):
            shift = 0.35 * self.pose.light * (1 - share)
            side = [
                (ra * (shift + share), a),
                (rb * (shift + share), b),
                (rb * (shift - share), b),
                (ra * (shift - share), a),
            ]
            points = [(p[0] + nx * r, p[1] + ny * r) for r, p in side]
            if share == 1.0:
                self.polygon(points, part, tone * shade)
            else:
                self.highlight(points, tone * shade)
