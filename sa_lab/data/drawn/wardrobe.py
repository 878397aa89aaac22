"""Who a drawn pedestrian is: body, hair, garments and bag, and how every surface looks in three spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LUMINANCE = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in the brightness of a visible colour."""
NIR_SHARE = 0.65
"""How much of a garment's near-infrared brightness follows its visible luminance, unless something else is asked for;
the rest is the material's own: dyes that are dark to the eye hardly absorb near infrared."""

# Garment colours as they come out of a surveillance camera: mostly dark or grey, never saturated.
_GREYS = [(26, 26, 28), (45, 46, 50), (70, 71, 75), (104, 105, 108), (150, 150, 151), (190, 189, 186), (222, 220, 215)]
_BLUES = [(36, 42, 62), (52, 64, 92), (72, 90, 116), (104, 122, 146), (138, 154, 170)]
_EARTH = [(62, 50, 42), (92, 72, 58), (126, 100, 80), (164, 146, 120), (198, 184, 158), (80, 82, 62), (112, 108, 84)]
_TINTS = [
    *[(98, 48, 52), (140, 76, 74), (176, 138, 138), (58, 82, 72), (86, 112, 104)],
    *[(168, 138, 88), (112, 98, 126), (186, 178, 140), (72, 104, 116), (150, 98, 74)],
]


def _muted(colours: list[tuple[int, int, int]]) -> Float[np.ndarray, "colours 3"]:
    """Colours in [0,1], a fifth of the way to grey."""
    rgb = np.array(colours) / 255
    return np.asarray(0.8 * rgb + 0.2 * (rgb @ LUMINANCE)[:, None])


_UPPER = _muted(2 * _GREYS + 2 * _BLUES + _EARTH + _TINTS)
_LOWER = _muted(2 * _GREYS[:4] + _GREYS[4:5] + 2 * _BLUES[:4] + _EARTH[:4] + _EARTH[5:])
_SKIN = np.array([(224, 188, 164), (208, 168, 142), (188, 146, 118), (158, 116, 90), (120, 84, 64), (86, 60, 48)]) / 255
_HAIR = np.array([(24, 22, 22), (44, 34, 30), (72, 54, 42), (112, 84, 60), (166, 138, 98), (140, 138, 136)]) / 255

Surface = Float[np.ndarray, " 5"]
"""What a camera sees of a material: R, G, B, near infrared, heat; each in [0,1]."""

BANDS: dict[str, slice] = {"visible": slice(0, 3), "nir": slice(3, 4), "thermal": slice(4, 5)}
"""Which columns of a `Surface` a camera records."""

# cut: probability, share of the arm that is sleeve, hem below the crotch, bulk, insulation
_CUTS: dict[str, tuple[float, float, float, float, float]] = {
    "t-shirt": (0.24, 0.32, 0.00, 0.000, 0.15),
    "shirt": (0.18, 1.00, 0.01, 0.002, 0.30),
    "hoodie": (0.16, 1.00, 0.00, 0.008, 0.50),
    "jacket": (0.20, 1.00, -0.02, 0.010, 0.65),
    "coat": (0.12, 1.00, 0.17, 0.012, 0.85),
    "dress": (0.10, 0.30, 0.20, 0.000, 0.20),
}
_PATTERNS = ("plain", "stripes", "columns", "block", "raglan", "checks", "print")


@dataclass(frozen=True)
class Garment:
    """A piece of clothing.

    Attributes:
        cut: its form, such as ``t-shirt`` or ``trousers``.
        pattern: ``plain``, ``stripes``, ``columns``, ``block``, ``raglan``, ``checks`` or ``print``.
        pitch: size of the pattern, as a fraction of the person's height.
        length: how far it reaches: sleeve share of the arm (upper) or share of the leg (lower).
        hem: how far an upper garment reaches below the crotch, in body heights.
        bulk: what it adds to a limb's radius, in body heights.
        main: the surface of the cloth.
        accent: the surface of the pattern, of raglan sleeves, or of what shows under an open jacket.
    """

    cut: str
    pattern: str
    pitch: float
    length: float
    hem: float
    bulk: float
    main: Surface
    accent: Surface


@dataclass(frozen=True)
class Identity:
    """Everything that stays the same in all images of one person; lengths in body heights.

    Attributes:
        stature: height relative to the average person, about 0.88 to 1.1.
        shoulder: half the shoulder width.  hip: half the hip width.  girth: factor on all widths.
        leg: length of the legs.  head: half the height of the head.  stride: habitual step, in radians.
        hair_style: ``bald``, ``short``, ``bob``, ``long``, ``tail`` or ``bun``.
        hat_style: ``none``, ``cap`` or ``beanie``.  bag_style: ``none``, ``backpack``, ``shoulder`` or ``hand``.
        bag_side: -1 or +1, the side of the body that carries the bag.
        open_front: an upper garment worn open, so that its accent shows in front.
    """

    stature: float
    shoulder: float
    hip: float
    girth: float
    leg: float
    head: float
    stride: float
    hair_style: str
    hat_style: str
    bag_style: str
    bag_side: int
    beard: bool
    open_front: bool
    upper: Garment
    lower: Garment
    skin: Surface
    hair: Surface
    shoes: Surface
    hat: Surface
    bag: Surface
    tights: Surface


def _surface(rgb: Float[np.ndarray, " 3"], nir: float, heat: float) -> Surface:
    return np.asarray(np.clip([*rgb, nir, heat], 0.02, 0.98))


def _pick(rng: np.random.Generator, palette: Float[np.ndarray, "colours 3"]) -> Float[np.ndarray, " 3"]:
    """A palette colour with some dye lot: brightness and hue differ a little from garment to garment."""
    colour = palette[rng.integers(len(palette))] * rng.uniform(0.7, 1.3) + rng.normal(0, 0.012, 3)
    return np.asarray(np.clip(colour, 0.05, 0.9))


def _cloth(
    rng: np.random.Generator, palette: np.ndarray, insulation: float, nir_share: float
) -> tuple[Surface, Surface]:
    """Main and accent surface of one garment; the accent is the same fibre in another dye."""
    colour, second = _pick(rng, palette), _pick(rng, palette)
    for _ in range(8):  # a pattern is printed to be seen
        if abs((second - colour) @ LUMINANCE) > 0.15:
            break
        second = _pick(rng, palette)
    reflectance, kept = rng.uniform(0.2, 0.8), rng.uniform(0.6, 1.0)
    luminance = float(colour @ LUMINANCE)
    contrast = float(second @ LUMINANCE) - luminance
    nir = nir_share * luminance + (1 - nir_share) * reflectance
    heat = 0.72 - 0.42 * insulation + rng.normal(0, 0.05)
    accent_heat = heat + rng.normal(0, 0.03)
    return _surface(colour, nir, heat), _surface(second, nir + nir_share * kept * contrast, accent_heat)


def _upper(rng: np.random.Generator, nir_share: float) -> Garment:
    names = list(_CUTS)
    cut = names[rng.choice(len(names), p=[_CUTS[name][0] for name in names])]
    _, sleeve, hem, bulk, insulation = _CUTS[cut]
    pattern = _PATTERNS[rng.choice(7, p=[0.4, 0.15, 0.06, 0.11, 0.08, 0.11, 0.09])]
    main, accent = _cloth(rng, _UPPER, insulation + rng.normal(0, 0.1), nir_share)
    length = sleeve if sleeve == 1 else sleeve * rng.uniform(0.6, 1.5)
    hem += rng.uniform(-0.02, 0.03)
    return Garment(cut, pattern, rng.uniform(0.028, 0.06), length, hem, bulk * rng.uniform(0.6, 1.4), main, accent)


def _lower(rng: np.random.Generator, skirt: float, nir_share: float) -> Garment:
    cut = ("trousers", "shorts", "skirt")[rng.choice(3, p=[0.78 - skirt, 0.22, skirt])]
    pattern = ("plain", "checks", "columns")[rng.choice(3, p=[0.88, 0.06, 0.06])]
    main, accent = _cloth(rng, _LOWER, 0.35 + rng.normal(0, 0.12), nir_share)
    length = {"trousers": rng.uniform(0.9, 1.0), "shorts": rng.uniform(0.34, 0.55), "skirt": rng.uniform(0.35, 0.8)}[
        cut
    ]
    return Garment(cut, pattern, rng.uniform(0.02, 0.04), length, 0.0, rng.uniform(-0.004, 0.012), main, accent)


def sample_identity(rng: np.random.Generator, nir_share: float = NIR_SHARE) -> Identity:
    """Draw one person.

    Args:
        rng: the generator that decides; the same state gives the same person.
        nir_share: how much of a garment's near-infrared brightness follows its visible luminance, 0..1.

    Returns:
        The identity; its surfaces hold visible, near-infrared and thermal appearance at once.
    """
    woman = rng.random() < 0.5
    style = ("bald", "short", "bob", "long", "tail", "bun")[
        rng.choice(6, p=[0.02, 0.18, 0.24, 0.3, 0.16, 0.1] if woman else [0.12, 0.76, 0.07, 0.03, 0.01, 0.01])
    ]
    skin, hair = (
        _SKIN[rng.choice(6, p=[0.24, 0.26, 0.2, 0.12, 0.1, 0.08])],
        _HAIR[rng.choice(6, p=[0.3, 0.26, 0.18, 0.1, 0.08, 0.08])],
    )
    upper, lower = _upper(rng, nir_share), _lower(rng, 0.2 if woman else 0.0, nir_share)
    shoes = _cloth(rng, _LOWER if rng.random() < 0.7 else _UPPER, 0.6, nir_share)[0]
    bag = _cloth(rng, _UPPER, 1.0, nir_share)[0]
    bare = rng.random() < 0.6
    skin_surface = _surface(
        skin * rng.uniform(0.92, 1.05), 0.52 + 0.15 * skin[0] + rng.normal(0, 0.03), 0.9 + rng.normal(0, 0.02)
    )
    tights = _surface(np.array([0.13, 0.12, 0.13]), rng.uniform(0.2, 0.45), 0.7)
    return Identity(
        stature=float(np.clip(rng.normal(0.97 if woman else 1.03, 0.045), 0.86, 1.14)),
        shoulder=rng.normal(0.108 if woman else 0.12, 0.007), hip=rng.normal(0.088 if woman else 0.084, 0.006),
        girth=float(np.clip(rng.lognormal(0.0, 0.11), 0.82, 1.35)),
        leg=float(np.clip(rng.normal(0.475, 0.014), 0.44, 0.51)), head=rng.normal(0.066, 0.003),
        stride=rng.uniform(0.22, 0.5), hair_style=style,
        hat_style=("none", "cap", "beanie")[rng.choice(3, p=[0.84, 0.1, 0.06])],
        bag_style=("none", "backpack", "shoulder", "hand")[rng.choice(4, p=[0.5, 0.22, 0.18, 0.1])],
        bag_side=int(rng.choice((-1, 1))), beard=bool(not woman and rng.random() < 0.25),
        open_front=bool(upper.cut in ("jacket", "coat", "shirt") and rng.random() < 0.4), upper=upper, lower=lower,
        skin=skin_surface,
        hair=_surface(hair, 0.28 + 0.5 * float(hair @ LUMINANCE) + rng.normal(0, 0.05), 0.6 + rng.normal(0, 0.04)),
        shoes=shoes, hat=_cloth(rng, _UPPER, 0.6, nir_share)[0], bag=bag, tights=skin_surface if bare else tights,
    )  # fmt: skip
