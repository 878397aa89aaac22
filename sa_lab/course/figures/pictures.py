"""Pictures: images in a grid, who may find whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int, UInt8

from sa_lab.plots import data_uri
from sa_lab.plots.style import COLOURS, finish


def image_grid(
    images: UInt8[np.ndarray, "N 3 H W"],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 8,
    right: Sequence[bool | None] | None = None,
) -> go.Figure:
    """Images in rows, a caption under each; ``right``: a solid frame for True, a dashed for False, none for None."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    pad, text = max(2, height // 16), height * 0.16 * (1 + max(caption.count("<br>") for caption in captions))
    figure = go.Figure()
    for i, image in enumerate(images):
        left = (i % columns) * (width + pad)
        top = -(i // columns) * (height + text + pad)
        figure.add_layout_image(
            source=data_uri(image), x=left, y=top, sizex=width, sizey=height, xref="x", yref="y", sizing="stretch"
        )
        figure.add_annotation(
            x=left + width / 2, y=top - height, text=captions[i], showarrow=False, yanchor="top", font={"size": 10}
        )
        if right and right[i] is not None:
            line = {"color": COLOURS[3], "width": 4} if right[i] else {"color": COLOURS[1], "width": 3, "dash": "dash"}
            figure.add_shape(type="rect", x0=left, x1=left + width, y0=top - height, y1=top, line=line)
    used_x, used_y = min(count, columns) * (width + pad), rows * (height + text + pad)
    figure.add_scatter(x=[0, used_x], y=[0, -used_y], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    figure.update_xaxes(visible=False, range=[-pad, used_x]).update_yaxes(
        visible=False, range=[-used_y, pad], scaleanchor="x"
    )
    pixels = 720
    return finish(figure, title, height=int(80 + pixels * used_y / used_x), width=pixels + 40).update_layout(
        showlegend=False, margin={"l": 10, "r": 10, "b": 10}
    )


def protocol_map(
    query_cameras: Int[np.ndarray, " K"],
    gallery_cameras: Int[np.ndarray, " L"],
    queries: Int[np.ndarray, " K"],
    gallery: Int[np.ndarray, " L"],
    hidden: Float[np.ndarray, "K L"],
    matches_hidden: Float[np.ndarray, "K L"],
    *,
    title: str,
) -> go.Figure:
    """Who may find whom: query cameras down, gallery cameras across; arrays as in `evaluation.cameras.CameraPairs`."""
    states = ("not searched", "searched", "own matches<br>hidden", "hidden")
    code = np.where(gallery == 0, 0, np.where(hidden == 1, 3, np.where(matches_hidden == 1, 2, 1)))
    colours = ("#EEEEEE", "#88CCEE", "#DDCC77", "#CC6677")
    steps = [(edge / 4, colour) for i, colour in enumerate(colours) for edge in (i, i + 1)]
    figure = go.Figure(
        go.Heatmap(
            x=[f"camera {c}<br>{n} images" for c, n in zip(gallery_cameras, gallery, strict=True)],
            y=[f"camera {c}<br>{n} queries" for c, n in zip(query_cameras, queries, strict=True)],
            z=code, zmin=-0.5, zmax=3.5, colorscale=steps, xgap=3, ygap=3, showscale=False,
            text=[[states[c] for c in row] for row in code], texttemplate="%{text}", hoverinfo="skip",
        )
    )  # fmt: skip
    figure.update_xaxes(title="gallery", type="category").update_yaxes(
        title="query", type="category", autorange="reversed"
    )
    height = 190 + 58 * len(query_cameras)
    width = min(820, max(620, 220 + 90 * len(gallery_cameras)))  # a notebook at 1280 pixels shows 840
    return finish(figure, title, height=height, width=width).update_layout(margin={"l": 130})


_BOXES = {
    "visible images": (0, 3), "infrared images": (0, 1), "visible stem": (1, 3), "infrared stem": (1, 1),
    "trunk": (2, 2), "parts": (3, 2), "neck": (4, 2), "classifier": (5, 3), "prototypes": (5, 1),
}  # fmt: skip
_ARROWS = (
    ("visible images", "visible stem"), ("infrared images", "infrared stem"), ("visible stem", "trunk"),
    ("infrared stem", "trunk"), ("trunk", "parts"), ("parts", "neck"), ("neck", "classifier"), ("neck", "prototypes"),
)  # fmt: skip
_OF_SPECTRUM = {"visible": COLOURS[0], "infrared": COLOURS[1]}


def network(shapes: Mapping[str, str], *, title: str) -> go.Figure:
    """The two-stream network, from the images to the two tables that the losses compare with.

    Args:
        shapes: what comes out of each box, in a few words: visible images, infrared images, visible stem, infrared
            stem, trunk, parts, neck, classifier, prototypes.
        title: of the figure.
    """
    figure = go.Figure()
    for name, (x, y) in _BOXES.items():
        colour = _OF_SPECTRUM.get(name.split(" ")[0], "#DDDDDD")
        box = {"x0": x - 0.38, "x1": x + 0.38, "y0": y - 0.42, "y1": y + 0.42}
        figure.add_shape(type="rect", **box, fillcolor=colour, opacity=0.45, line={"color": "#444444", "width": 1})
        figure.add_annotation(x=x, y=y, text=f"<b>{name}</b><br>{shapes[name]}", showarrow=False, font={"size": 12})
    for start, end in _ARROWS:
        (x, y), (u, v) = _BOXES[start], _BOXES[end]
        figure.add_annotation(
            x=u - 0.39, y=v, ax=x + 0.39, ay=y, xref="x", yref="y", axref="x", ayref="y", text="", arrowhead=2,
            arrowwidth=1.5, arrowcolor="#444444",
        )  # fmt: skip
    figure.add_scatter(x=[-0.4, 5.4], y=[0.5, 3.5], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    figure.update_xaxes(visible=False, range=[-0.45, 5.45]).update_yaxes(visible=False, range=[0.4, 3.6])
    return finish(figure, title, height=300, width=860).update_layout(
        showlegend=False, margin={"l": 10, "r": 10, "b": 10}
    )
