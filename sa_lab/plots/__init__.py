"""Data in, plotly Figure out; nothing is computed here."""

from sa_lab.plots.cards import MOST_RUNS, RunCard, heat_map, over_training, overlap_card
from sa_lab.plots.curves import (
    cmc_curves,
    histograms,
    intervals,
    lines,
    live_training,
    scatter,
    stages,
    training_curves,
)
from sa_lab.plots.lens import loss_lens
from sa_lab.plots.pictures import image_grid, protocol_map
from sa_lab.plots.projections import MOST_CATEGORIES, film, projection, with_choice
from sa_lab.plots.style import COLOURS, CONFIG, SPECTRA, SYMBOLS, use_config
from sa_lab.plots.thumbnails import Atlas, atlas, page
from sa_lab.plots.toy import toy_world

__all__ = [
    "COLOURS", "CONFIG", "MOST_CATEGORIES", "MOST_RUNS", "SPECTRA", "SYMBOLS", "Atlas", "RunCard", "atlas",
    "cmc_curves", "film", "heat_map", "histograms", "image_grid", "intervals", "lines", "live_training", "loss_lens",
    "over_training", "overlap_card", "page", "projection", "protocol_map", "scatter", "stages", "toy_world",
    "training_curves", "use_config", "with_choice",
]  # fmt: skip
