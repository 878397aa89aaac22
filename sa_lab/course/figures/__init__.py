"""Figures of chapters and widgets alone: data in, plotly Figure out, as in `sa_lab.plots`."""

from sa_lab.course.figures.curves import cmc_curves, effect, intervals, lines, live_training, scatter, training_curves
from sa_lab.course.figures.lens import loss_lens
from sa_lab.course.figures.pictures import image_grid, network, protocol_map
from sa_lab.course.figures.toy import toy_spec, toy_world

__all__ = [
    "cmc_curves", "effect", "image_grid", "intervals", "lines", "live_training", "loss_lens",
    "network", "protocol_map", "scatter", "toy_spec", "toy_world", "training_curves",
]  # fmt: skip
