"""What all figures share: colours, marks, the frame, and the configuration of their tool bar.

Colours are a colour-blind-safe set, doubled by marker shape: circles are visible, diamonds infrared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import qualitative

# two are darker than in the set: a thin line has to be seen on white
COLOURS = ["rgb(74, 156, 199)", qualitative.Safe[1], "rgb(168, 138, 40)", *qualitative.Safe[3:], "rgb(0, 90, 181)"]
SYMBOLS = ("circle", "diamond")
SPECTRA = ("visible", "infrared")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
TERMS = {
    "identity": ("identity", "#999999", "solid"),
    "sa_softmax": ("SA-Softmax", "#000000", "dash"),
    "absolute": ("absolute similarity", "#D55E00", "dot"),
    "prototype": ("prototype", "#0072B2", "dashdot"),
}
"""Name, colour and dash of each loss term, the same in every figure."""
CONFIG = {"showSendToCloud": False, "displaylogo": False, "toImageButtonOptions": {"format": "svg"}}
"""Configuration for ``fig.show(config=CONFIG)`` and for live figures."""
_UNUSED = {"colorscale", "geo", "polar", "ternary", "shapedefaults"}
TEMPLATE = go.layout.Template(
    layout={k: v for k, v in pio.templates["plotly_white"].layout.to_plotly_json().items() if k not in _UNUSED}
)
"""Axes and colours of plotly_white without its defaults of fifty kinds of traces, which every figure would carry."""


def use_config() -> None:
    """Make every renderer of this session show figures with `CONFIG`: JupyterLab, VS Code, Colab, Kaggle, a page."""
    for name in pio.renderers:
        if hasattr(pio.renderers[name], "config"):  # the others draw pictures
            pio.renderers[name].config = CONFIG


def end_labels(
    lines: Sequence[Mapping[str, Any]], bounds: tuple[float, float] | None, height: int
) -> list[dict[str, Any]]:
    """The name of each line at its right end, in its colour, in place of a legend; names keep apart.

    Args:
        lines: scatter traces of one panel as plotly describes them, with ``line.color``.
        bounds: of its vertical axis; by default those of the lines.
        height: of the panel in pixels.

    Returns:
        Annotations of the layout.
    """
    known = [(one, [y for y in one["y"] if y is not None and y == y]) for one in lines]
    known = sorted(((one, ys) for one, ys in known if ys), key=lambda line: line[1][-1])
    low, high = bounds or (min(min(ys) for _, ys in known), max(max(ys) for _, ys in known)) if known else (0.0, 1.0)
    apart, at, found = 16 * max(high - low, 1e-9) / height, -np.inf, []
    for one, ys in known:
        at = max(min(ys[-1], high), at + apart)
        found.append({
            "x": one["x"][-1], "y": float(at), "text": one["name"], "xref": one.get("xaxis", "x"),
            "yref": one.get("yaxis", "y"), "showarrow": False, "xanchor": "left", "yanchor": "middle", "xshift": 6,
            "font": {"color": one["line"]["color"], "size": 12},
        })  # fmt: skip
    return found


def finish(figure: go.Figure, title: str, height: int = 420, width: int = 760) -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0.02, "font": {"size": 16}}, template=TEMPLATE, height=height, width=width,
        margin={"l": 70, "r": 20, "t": 60, "b": 60}, legend={"itemsizing": "constant", "itemwidth": 45},
    )  # fmt: skip
