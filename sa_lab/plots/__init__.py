"""Data in, plotly Figure out; nothing is computed here."""

from sa_lab.plots.curves import (
    LiveCurves,
    cmc_curves,
    histograms,
    intervals,
    lines,
    scatter,
    training_curves,
)
from sa_lab.plots.pictures import image_grid, projection, protocol_map
from sa_lab.plots.style import COLOURS, CONFIG, SPECTRA, SYMBOLS, use_config

__all__ = [
    "COLOURS", "CONFIG", "SPECTRA", "SYMBOLS", "LiveCurves", "cmc_curves", "histograms", "image_grid", "intervals",
    "lines", "projection", "protocol_map", "scatter", "training_curves", "use_config",
]  # fmt: skip
