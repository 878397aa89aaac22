"""Data in, plotly Figure out; nothing is computed here."""

from sa_lab.plots.cards import MOST_RUNS, RunCard, heat_map, histograms, over_training, overlap_card
from sa_lab.plots.projections import MOST_CATEGORIES, film, films, projection, with_choice
from sa_lab.plots.similarity import data_uri, painted, similarity_map
from sa_lab.plots.style import COLOURS, CONFIG, SPECTRA, SYMBOLS, use_config
from sa_lab.plots.sweeps import Point, over_dial, parallel, pareto, response_surface
from sa_lab.plots.thumbnails import Atlas, atlas, page

__all__ = [
    "COLOURS", "CONFIG", "MOST_CATEGORIES", "MOST_RUNS", "SPECTRA", "SYMBOLS", "Atlas", "Point", "RunCard",
    "atlas", "data_uri", "film", "films", "heat_map", "histograms", "over_dial", "over_training", "overlap_card",
    "page", "painted", "parallel", "pareto", "projection", "response_surface", "similarity_map", "use_config",
    "with_choice",
]  # fmt: skip
