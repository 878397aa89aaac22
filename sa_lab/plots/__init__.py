"""Data in, plotly Figure out; nothing is computed here."""

from sa_lab.plots.curves import (
    cmc_curves,
    histograms,
    intervals,
    lines,
    live_training,
    scatter,
    training_curves,
)
from sa_lab.plots.lens import loss_lens
from sa_lab.plots.pictures import image_grid, projection, protocol_map
from sa_lab.plots.style import COLOURS, CONFIG, SPECTRA, SYMBOLS, use_config
from sa_lab.plots.toy import toy_world

__all__ = [
    "COLOURS", "CONFIG", "SPECTRA", "SYMBOLS", "cmc_curves", "histograms", "image_grid", "intervals",
    "lines",
    "live_training", "loss_lens", "projection", "protocol_map", "scatter", "toy_world",
    "training_curves", "use_config",
]  # fmt: skip
