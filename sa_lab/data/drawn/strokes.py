"""The strokes that a pedestrian is drawn with: legs, torso, head, arms and bag on a map of body parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sa_lab.data.drawn.canvas import Canvas, Part, Point
from sa_lab.data.drawn.wardrobe import Identity


def _outline(canvas: Canvas, rows: list[tuple[float, float, float]]) -> list[Point]:
    """Closed outline of a body section from (y, front half width, side half width) rows."""
    halves = [(canvas.at(0.0, 0.0, y), canvas.half(front, side)) for y, front, side in rows]
    return [(p[0] - h, p[1]) for p, h in halves] + [(p[0] + h, p[1]) for p, h in reversed(halves)]


def leg(canvas: Canvas, who: Identity, side: int) -> Callable[[], None]:
    """One leg with shoe and its share of the lower garment."""
    pose, low = canvas.pose, who.lower
    crotch, swing = 1 - who.leg, pose.stride * float(np.sin(pose.phase) * side)
    bend = 0.9 * pose.stride * max(0.0, float(np.cos(pose.phase) * side)) + 0.06
    thigh, shin, x, start = 0.5 * who.leg, 0.46 * who.leg, side * who.hip * 0.5, crotch - 0.01
    knee = (x, thigh * np.sin(swing), start + thigh * np.cos(swing))
    ankle = (x, knee[1] + shin * np.sin(swing - bend), knee[2] + shin * np.cos(swing - bend))
    hip, mid, end = canvas.at(x, 0.0, start), canvas.at(*knee), canvas.at(*ankle)
    toe = canvas.at(x + 0.012 * side, ankle[1] + 0.075, ankle[2] + 0.022)
    near = -x * canvas.sin + knee[1] * canvas.cos
    shade, g, bulk = (1.0 if near > 0 else 0.82), who.girth, low.bulk + 0.004

    def blend(a: Point, b: Point, t: float) -> Point:
        return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t

    def draw() -> None:
        bare = Part.TIGHTS if low.cut == "skirt" or who.upper.cut == "dress" else Part.SKIN
        trousers = low.cut == "trousers" and who.upper.cut != "dress"
        canvas.limb(end, toe, 0.017, 0.015, Part.SHOES, shade)
        part, extra = (Part.LOWER, bulk) if trousers else (bare, -0.002)
        cuff = blend(mid, end, 0.75 + 0.25 * low.length) if trousers else end
        canvas.limb(mid, cuff, 0.031 * g + extra, 0.02 * g + extra * 1.3, part, shade, flat=trousers)
        canvas.limb(hip, mid, 0.046 * g + extra, 0.033 * g + extra, part, shade)
        if low.cut == "shorts" and who.upper.cut != "dress":
            hem = blend(hip, mid, min(1.0, 1.9 * low.length))
            canvas.limb(hip, hem, 0.046 * g + bulk, 0.044 * g + bulk, Part.LOWER, shade, flat=True)

    return draw


def arm(canvas: Canvas, who: Identity, side: int) -> tuple[float, Callable[[], None]]:
    """One arm with sleeve, hand and perhaps a handbag; layer and stroke."""
    pose, cloth = canvas.pose, who.upper
    x = side * (who.shoulder * (0.55 + 0.45 * who.girth) - 0.016)
    swing = -0.8 * pose.stride * float(np.sin(pose.phase) * side)
    shoulder, length, flare = (x, 0.0, 0.205), (0.165, 0.15), 0.018 * who.girth
    elbow = (x + side * flare, length[0] * np.sin(swing), shoulder[2] + length[0] * np.cos(swing))
    bend = swing + 0.25 + 0.3 * max(0.0, swing)
    wrist = (elbow[0] - side * 0.004, elbow[1] + length[1] * np.sin(bend), elbow[2] + length[1] * np.cos(bend))
    a, b, c = canvas.at(*shoulder), canvas.at(*elbow), canvas.at(*wrist)
    depth = -x * canvas.sin
    shade, g, bulk = (0.95 if depth > -0.05 else 0.78), 0.5 + 0.5 * who.girth, cloth.bulk

    def draw() -> None:
        if who.bag_style == "hand" and side == who.bag_side:
            corners = ((-0.045, 0.04), (0.045, 0.04), (0.052, 0.14), (-0.052, 0.14))
            canvas.polygon([(c[0] + dx, c[1] + dy) for dx, dy in corners], Part.BAG, 0.95)
        canvas.ellipse((c[0], c[1] + 0.012), 0.017, 0.022, Part.SKIN, shade)
        long = cloth.length >= 0.99
        part = Part.SLEEVE if long else Part.SKIN
        canvas.limb(b, c, 0.023 * g + bulk * long, 0.017 * g + bulk * long, part, shade)
        canvas.limb(a, b, 0.029 * g + bulk * long, 0.024 * g + bulk * long, part, shade)
        if not long:
            t = min(1.0, 2 * cloth.length)
            cuff = (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t)
            canvas.limb(a, cuff, 0.031 * g, 0.031 * g, Part.SLEEVE, shade, flat=True)

    return (0.12 if depth > -0.05 else -0.12), draw


def torso(canvas: Canvas, who: Identity) -> None:
    """Skirt or seat, then the upper garment with folds, front opening and pocket."""
    cloth, g, b, crotch = who.upper, who.girth, who.upper.bulk, 1 - who.leg
    sh, hip = who.shoulder * (0.55 + 0.45 * g) + b, who.hip * g + b
    waist = 0.5 * (sh + hip) * (0.74 + 0.22 * g)
    rows = [(0.15, 0.03, 0.03), (0.168, 0.6 * sh, 0.045), (0.185, 0.93 * sh, 0.055), (0.215, sh, 0.065 * g + b)]
    rows += [(0.29, 0.92 * sh, 0.074 * g + b), (0.40, waist, 0.066 * g + b), (crotch - 0.03, hip, 0.07 * g + b)]
    if who.lower.cut == "skirt" and cloth.cut != "dress":
        reach = crotch + who.lower.length * 0.5 * who.leg
        skirt = [(0.41, waist * 0.95, 0.06 * g), (crotch, hip * 1.06, 0.078 * g), (reach, hip * 1.22, 0.1 * g)]
        canvas.polygon(_outline(canvas, skirt), Part.LOWER, 0.95)
    else:
        seat = [
            (0.42, waist * 0.92, 0.06 * g),
            (crotch - 0.02, hip * 0.98, 0.07 * g),
            (crotch + 0.025, hip * 0.8, 0.055 * g),
        ]
        if cloth.cut != "dress":
            canvas.polygon(_outline(canvas, seat), Part.LOWER, 0.9)
    flare = {"dress": 1.25, "coat": 1.1}.get(cloth.cut, 1.0)
    rows.append((crotch + cloth.hem, hip * flare, 0.07 * g * flare + b))
    canvas.polygon(_outline(canvas, rows), Part.TORSO, 0.84)
    inner = [(y, 0.62 * f, 0.62 * s) for y, f, s in rows[2:]]
    shift = 0.03 * canvas.pose.light
    canvas.highlight([(x + shift, y) for x, y in _outline(canvas, inner)], 1.08)
    if who.open_front and canvas.cos > 0.15:
        x = canvas.sin * 0.05
        y = crotch + min(cloth.hem, 0.0)
        w = 0.042 * canvas.cos
        points = [(x - w * 0.7, 0.16), (x + w * 0.7, 0.16), (x + w * 1.3, y), (x - w * 1.3, y)]
        canvas.polygon(points, Part.INNER, 0.98)
    f = canvas.pose.folds
    for k in range(4):
        y = 0.26 + 0.24 * f[k]
        canvas.crease([(-0.08 + 0.1 * f[k - 1], y), (0.06 * f[k] + 0.02, y + 0.05 * (f[k + 1] - 0.3))], 0.78)
    if cloth.cut == "hoodie" and canvas.cos > 0.2:
        canvas.crease([(-0.05 + canvas.sin * 0.04, 0.42), (0.05 + canvas.sin * 0.04, 0.42)], 0.7)


def head(canvas: Canvas, who: Identity) -> None:
    """Neck, collar or hood, hair, face, hat."""
    r, cos, sin = who.head, canvas.cos, canvas.sin
    width = canvas.half(0.78 * r, 0.92 * r)
    x, y = canvas.at(0.0, 0.012, r + 0.004)
    hair = Part.SKIN if who.hair_style == "bald" else Part.HAIR
    covers = who.hair_style in ("long", "bob")
    fall = {"long": 0.255, "bob": 0.16}.get(who.hair_style, 0.0)
    back_x = x - 0.03 * sin
    mane = [
        (back_x - width * 1.1, y),
        (back_x + width * 1.1, y),
        (back_x + width * 1.05, fall),
        (back_x - width * 1.05, fall),
    ]
    if covers and cos > -0.2:
        canvas.polygon(mane, Part.HAIR, 0.85)
    canvas.limb(
        canvas.at(0.0, 0.0, 0.12), canvas.at(0.0, 0.0, 0.158), 0.028 * who.girth, 0.034 * who.girth, Part.SKIN, 0.85
    )
    if who.upper.cut in ("hoodie", "coat", "jacket"):  # hood or collar
        thick = 0.022 if who.upper.cut == "hoodie" else 0.012
        canvas.ellipse((x - 0.025 * sin, 0.16), 0.058 + 0.3 * thick, thick + 0.012 * (cos < 0), Part.TORSO, 0.95)
    canvas.ellipse((x, y), width, r, hair, 0.95)
    if cos > -0.45:  # face
        face_x, face_w = x + sin * 0.32 * r, width * (0.56 + 0.32 * max(cos, 0.0))
        canvas.ellipse((face_x, y + 0.2 * r), face_w, 0.8 * r, Part.SKIN, 1.08)
        if who.beard:
            canvas.ellipse((face_x + 0.1 * r * sin, y + 0.72 * r), face_w * 0.8, 0.3 * r, hair, 1.0)
        for eye in (-0.4, 0.4):
            ex = face_x + eye * face_w * max(cos, 0.0) + sin * face_w * 0.5
            canvas.crease([(ex - 0.009, y + 0.06 * r), (ex + 0.009, y + 0.06 * r)], 0.45, 0.011)
        canvas.crease([(face_x - 0.012 + sin * 0.02, y + 0.62 * r), (face_x + 0.012 + sin * 0.02, y + 0.62 * r)], 0.75)
    elif covers:
        canvas.polygon(mane, Part.HAIR, 0.9)
    if who.hair_style == "tail":
        a, b = canvas.at(0.0, -0.9 * r, 0.06), canvas.at(0.0, -1.2 * r, 0.19)
        if cos < 0.3:
            canvas.limb(a, b, 0.018, 0.012, Part.HAIR, 0.95)
    if who.hair_style == "bun":
        canvas.ellipse(canvas.at(0.0, -0.6 * r, 0.008), 0.025, 0.025, Part.HAIR, 0.9)
    if who.hat_style != "none":
        dome = [
            (x + width * 1.1 * np.cos(t), y - 0.25 * r + 0.85 * r * np.sin(t)) for t in np.linspace(np.pi, 2 * np.pi, 9)
        ]
        canvas.polygon(dome, Part.HAT, 1.0)
        if who.hat_style == "cap" and cos > -0.3:
            brim = (x + sin * 0.3 * r, y - 0.3 * r), (x + sin * 1.4 * r, y - 0.25 * r)
            canvas.limb(*brim, width * (0.25 + 0.2 * abs(cos)), 0.012, Part.HAT, 0.8)
        elif who.hat_style == "beanie":
            canvas.limb((x - width, y - 0.28 * r), (x + width, y - 0.28 * r), 0.012, 0.012, Part.HAT, 0.85)


def bag(canvas: Canvas, who: Identity) -> list[tuple[float, Callable[[], None]]]:
    """Backpack or shoulder bag: layers and strokes."""
    side, cos = who.bag_side, canvas.cos
    if who.bag_style == "backpack":

        def pack() -> None:
            w, x = canvas.half(0.085, 0.05), canvas.at(0.0, -0.1 * who.girth, 0.3)[0]
            corners = ((-1, 0.2), (-0.7, 0.175), (0.7, 0.175), (1, 0.2), (1, 0.4), (-1, 0.4))
            canvas.polygon([(x + side * w, y) for side, y in corners], Part.BAG, 0.92)
            canvas.crease([(x - 0.7 * w, 0.31), (x + 0.7 * w, 0.31)], 0.7)

        def straps() -> None:
            for s in (-1, 1):
                a, b = canvas.at(s * 0.06, 0.03, 0.17), canvas.at(s * 0.075, 0.05, 0.34)
                canvas.limb(a, b, 0.012, 0.01, Part.BAG, 0.9)

        return [(-0.2 if cos > 0 else 0.15, pack), *([(0.1, straps)] if cos > 0.1 else [])]
    if who.bag_style == "shoulder":

        def sling() -> None:
            z = 0.05 if cos > 0 else -0.05
            a, b = canvas.at(-side * 0.06, z, 0.17), canvas.at(side * 0.1, z, 0.45)
            if abs(cos) > 0.3:
                canvas.limb(a, b, 0.008, 0.008, Part.BAG, 0.95)

        def body() -> None:
            x, y = canvas.at(side * (who.hip * who.girth + 0.025), -0.02, 0.5)
            w = canvas.half(0.045, 0.075)
            canvas.polygon(
                [(x - w, y - 0.06), (x + w, y - 0.06), (x + w, y + 0.055), (x - w, y + 0.055)], Part.BAG, 0.95
            )

        return [(0.1, sling), (0.13 if -side * canvas.sin > -0.1 else -0.2, body)]
    return []
