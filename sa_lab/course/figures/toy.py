"""The toy world: where samples and prototypes stand, where each term pulls, and how losses and overlap run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from sa_lab.plots.style import COLOURS, DASHES, SPECTRA, SYMBOLS, TEMPLATE, TERMS, end_labels

_OVERLAP = {"stranger_ratio": "modality gap", "prototype_alignment": "prototype cosine"}


def toy_world(*scene: Any, title: str, **more: Any) -> go.Figure:
    """A circle or sphere with its samples, prototypes and pulls, losses and overlap beside: arguments of `toy_spec`."""
    return go.Figure(toy_spec(*scene, title=title, **more))


def toy_spec(
    samples: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    prototypes: Float[np.ndarray, "C2 D"],
    centres: Float[np.ndarray, "C2 D"],
    pulls: Mapping[str, Float[np.ndarray, "C2 D"]],
    rows: Sequence[Mapping[str, float | int]],
    *,
    title: str,
    arrow_scale: float = 2.5,
) -> dict[str, Any]:
    """`toy_world` as plain data and layout: plotly's checks take ten times as long as the rest, too long for a drag.

    Args:
        samples, labels, modality, prototypes, centres, pulls: as in `sa_lab.course.toy.Scene`; D=2 is a circle, D=3 a
            sphere.
        rows: one per step, as in `sa_lab.course.toy.Toy`.
        title: says what is seen.
        arrow_scale: length of an arrow for a gradient of length 1; arrows are at most half the radius long, and at
            least 8 % of it where there is any pull, so that its direction shows.
    """
    flat, radius = samples.shape[1] == 2, round(float(np.linalg.norm(samples[0])), 3)
    data: list[dict[str, Any]] = []

    def add(places: np.ndarray, **how: Any) -> None:
        gaps = [[None if np.isnan(value) else value for value in column] for column in places.T.tolist()]
        columns = dict(zip("xyz", gaps, strict=False))
        data.append({"type": "scatter" if flat else "scatter3d", **columns, "hoverinfo": "skip", **how})

    half = len(prototypes) // 2
    people = [COLOURS[label % len(COLOURS)] for label in range(half)]
    add(radius * _circles(flat), mode="lines", name="where embeddings lie", line={"color": "#DDDDDD", "width": 1.5})
    add(_segments(prototypes[:half], prototypes[half:]), mode="lines", name="an identity's two prototypes",
        line={"color": "grey", "width": 1.5})  # fmt: skip
    for m, spectrum in enumerate(SPECTRA):
        seen = modality == m
        marker = {"symbol": SYMBOLS[m], "color": [people[label] for label in labels[seen]], "size": 10 if flat else 4}
        add(samples[seen], mode="markers", name=f"{spectrum} sample", marker={**marker, "opacity": 0.75})
    for m, spectrum in enumerate(SPECTRA):
        marker = {"symbol": f"{SYMBOLS[m]}-open", "color": people, "size": 17 if flat else 9}
        line = {"line": {"width": 3.5, "color": people}} if flat else {}
        add(
            prototypes[m * half : (m + 1) * half], mode="markers+text", name=f"{spectrum} prototype, with its identity",
            text=[str(label) for label in range(half)], textfont={"size": 12}, marker=marker | line,
        )  # fmt: skip
    for lane, term in enumerate(_PULLS):
        name, colour, _ = _TERMS[term]
        pull = arrow_scale * pulls.get(term, np.zeros_like(centres))
        length = np.linalg.norm(pull, axis=1, keepdims=True)
        shown = length.clip(_SHORTEST * radius, radius / 2)
        pull = np.where(length > 1e-3 * radius, pull * shown / np.maximum(length, 1e-9), np.nan)
        start = (1.1 + 0.09 * lane) * centres + 0 * pull  # one lane a term outside the circle
        marks = {} if flat else {"marker": _heads(colour, len(centres))}
        add(
            _arrows(start, start + pull, 0.12 * radius) if flat else _segments(start, start + pull),
            mode="lines" if flat else "lines+markers", name=f"{name}: pull and loss",
            line={"color": colour, "width": 2.5 if flat else 4}, **marks,
        )  # fmt: skip
    losses = [_curve(rows, term, f"{name} loss", 2, colour, dash) for term, (name, colour, dash) in _TERMS.items()]
    overlap = [_curve(rows, one, name, 3, COLOURS[4 + i], DASHES[i]) for i, (one, name) in enumerate(_OVERLAP.items())]
    last = max([1, *(row["step"] for row in rows[-1:])])  # by itself the axis would make room for the names
    reach = 1.5 * radius
    while reach < float(np.abs(prototypes).max()):
        reach *= 1.5
    terms, unit = (("identity", "own"), "loss") if any("own" in row for row in rows[-1:]) else (_PULLS[:3], "nats")
    names = [*end_labels(losses, None, _HEIGHT // 3), *end_labels(overlap, _BOUNDS, _HEIGHT // 3)]
    layout = {
        "title": {"text": title, "x": 0.02, "font": {"size": 16}}, "template": TEMPLATE.to_plotly_json(),
        "height": _HEIGHT, "width": 860, "margin": {"l": 50, "r": 140, "t": 60, "b": 120}, "showlegend": False,
        "uirevision": "same", "annotations": [*_CAPTIONS[flat:], _key(terms), *names], **_map_axes(flat, reach),
        "xaxis2": {"anchor": "y2", "domain": [0.64, 1], "title": {"text": "step"}, "range": [0, last]},
        "xaxis3": {"anchor": "y3", "domain": [0.64, 1], "matches": "x2", "title": {"text": "step"}},
        "yaxis2": {"anchor": "x2", "domain": [0.6, 1], "title": {"text": unit}},
        "yaxis3": {"anchor": "x3", "domain": [0, 0.4], "title": {"text": "cosine, ratio"}, "range": [*_BOUNDS]},
    }  # fmt: skip
    return {"data": [*data, *losses, *overlap], "layout": layout}


def _curve(
    rows: Sequence[Mapping[str, float | int]], column: str, name: str, panel: int, colour: str, dash: str
) -> dict[str, Any]:
    """A column of the log over the steps."""
    return {
        "type": "scatter", "x": [row["step"] for row in rows], "y": [row.get(column) for row in rows],
        "mode": "lines+markers", "name": name, "marker": {"size": 3}, "xaxis": f"x{panel}", "yaxis": f"y{panel}",
        "line": {"color": colour, "dash": dash, "width": 2},
    }  # fmt: skip


def _map_axes(flat: bool, reach: float) -> dict[str, Any]:
    """Axes of the plane, or the scene, at the left."""
    if flat:
        left = {"domain": [0, 0.54], "constrain": "domain", "range": [-reach, reach]}
        return {
            "xaxis": {**left, "anchor": "y", "title": {"text": "first coordinate (arbitrary)"}},
            "yaxis": {"anchor": "x", "range": [-reach, reach], "scaleanchor": "x",
                      "title": {"text": "second coordinate (arbitrary)"}},
        }  # fmt: skip
    unread = {"range": [-reach, reach], "showgrid": False, "showline": True, "linecolor": "#B0B0B0", "zeroline": False,
              "showticklabels": False, "showspikes": False}  # fmt: skip
    axes = {f"{x}axis": {"title": {"text": name}, **unread} for x, name in _NAMES.items()}
    camera = {"eye": {"x": 2.0, "y": 2.6, "z": 1.5}, "center": {"x": 0.13, "y": -0.1, "z": -0.2}}
    return {"scene": {"domain": {"x": [0, 0.52], "y": [0, 1]}, "aspectmode": "cube", "camera": camera, **axes}}


def _key(terms: Sequence[str]) -> dict[str, Any]:
    """What the marks and arrows of the map are, in place of a legend."""
    arrows = " ".join(f'<span style="color:{_TERMS[term][1]}"><b>→ {_TERMS[term][0]}</b></span>' for term in terms)
    text = (
        "one colour per person: ● visible sample, ◆ infrared sample,<br>"
        "○ ◇ with a number: prototypes, a line joins both"
        f"<br>pull on the samples by each loss: {arrows}"
    )
    return {"text": text, "x": 0, "y": -0.14, "yanchor": "top", "font": {"size": 12}, **_PAPER}


_TERMS = TERMS | {"own": ("your own", "#009E73", "longdash")}
_PULLS = ("identity", "sa_softmax", "absolute", "own")
_HEIGHT, _SHORTEST, _BOUNDS = 570, 0.08, (-1.1, 1.5)
_NAMES = {"x": "axis 1", "y": "axis 2", "z": "axis 3"}
_PAPER = {"xref": "paper", "yref": "paper", "showarrow": False, "xanchor": "left", "align": "left"}
_OVER = {"yanchor": "bottom", "font": {"size": 14}, **_PAPER}
_CAPTIONS = [
    {"text": "arbitrary axes, drag to turn", "x": 0, "y": 1.01, **_OVER},
    {"text": "loss terms", "x": 0.64, "y": 1.01, **_OVER},
    {"text": "overlap of the spectra", "x": 0.64, "y": 0.41, **_OVER},
]  # fmt: skip


def _circles(flat: bool) -> np.ndarray:
    """The unit circle, or three great circles of the sphere, (M,D)."""
    turn = np.linspace(0, 2 * np.pi, 73)
    cos, sin, none = np.cos(turn), np.sin(turn), np.zeros_like(turn)
    if flat:
        return np.stack([cos, sin], axis=1)
    gap = np.full((1, 3), np.nan)
    rings = [np.stack(axes, axis=1) for axes in ((cos, sin, none), (cos, none, sin), (none, cos, sin))]
    return np.concatenate([rings[0], gap, rings[1], gap, rings[2]])


def _segments(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Lines from each start to its end, with gaps between them, (3M,D)."""
    joined = np.full((3 * len(start), start.shape[1]), np.nan)
    joined[0::3], joined[1::3] = start, end
    return joined


def _arrows(start: np.ndarray, end: np.ndarray, head: float) -> np.ndarray:
    """Arrows in the plane as one line each, heads of length ``head`` at most and gaps between them, (6M,2)."""
    shaft = end - start
    length = np.linalg.norm(shaft, axis=1, keepdims=True)
    along = shaft / np.maximum(length, 1e-9) * np.minimum(head, 0.5 * length)
    across = 0.5 * np.stack([-along[:, 1], along[:, 0]], axis=1)
    joined = np.full((6 * len(start), 2), np.nan)
    for place, points in enumerate((start, end, end - along + across, end, end - along - across)):
        joined[place::6] = points
    return joined


def _heads(colour: str, count: int) -> dict[str, Any]:
    """Marks on the ends of segments in space alone."""
    return {"symbol": "diamond", "size": [0, 3, 0] * count, "color": colour, "line": {"width": 0}}
