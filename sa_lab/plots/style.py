"""What all figures share: colours, marks, the frame, and the configuration of their tool bar.

Colours are a colour-blind-safe set, doubled by marker shape: circles are visible, diamonds infrared.
"""

from __future__ import annotations

import plotly.graph_objects as go
import plotly.io as pio
from plotly.colors import qualitative

COLOURS = qualitative.Safe
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
"""Configuration for ``fig.show(config=CONFIG)`` and a FigureWidget's ``_config``."""
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


def finish(figure: go.Figure, title: str, height: int = 420, width: int = 760) -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0.02, "font": {"size": 16}}, template=TEMPLATE, height=height, width=width,
        margin={"l": 70, "r": 20, "t": 60, "b": 60}, legend={"itemsizing": "constant"},
    )  # fmt: skip
