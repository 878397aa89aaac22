"""Live figures for the chapters: dials for losses, runs and rankings; each has a static figure for paper."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import ipywidgets

from sa_lab.course.widgets.augmentations import Augmentations
from sa_lab.course.widgets.feature_training import FeatureTraining
from sa_lab.course.widgets.live_training import LiveTraining
from sa_lab.course.widgets.loss_lens import LossLens
from sa_lab.course.widgets.pictures import PictureSearch
from sa_lab.course.widgets.playground import Playground
from sa_lab.course.widgets.projection import ProjectionBrowser
from sa_lab.course.widgets.quiz import Quiz
from sa_lab.course.widgets.ranking import RankingBrowser
from sa_lab.course.widgets.surface import SurfaceBrowser
from sa_lab.runs import Run, loss_name, source_of

__all__ = [
    "Augmentations", "FeatureTraining", "LiveTraining", "LossLens", "PictureSearch", "Playground", "ProjectionBrowser",
    "Quiz", "RankingBrowser", "SurfaceBrowser", "app",
]  # fmt: skip

if "google.colab" in sys.modules:  # its pages refuse the widgets of other packages unless asked to
    import_module("google.colab.output").enable_custom_widget_manager()


def app(runs: Sequence[Path] = ()) -> ipywidgets.Widget:
    """The page that `sa-lab app` serves: the playground and, with finished runs or evaluated descriptors, the ranking
    browser; with runs, whose networks are at hand, the picture search as well.

    Raises:
        ValueError: more than two of them, or of different images.
    """
    pages: dict[str, ipywidgets.Widget] = {"Prototype playground": Playground()}
    if runs:
        named = {_method(Path(run)): Path(run) for run in runs}
        if len(named) < len(runs):  # the same loss twice
            same = len({Path(run).name for run in runs}) < len(runs)
            named = {str(run) if same else Path(run).name: Path(run) for run in runs}
        pages["Ranking browser"] = RankingBrowser(named)
        if trained := {name: one for name, one in named.items() if not source_of(one)}:
            pages["Your pictures"] = PictureSearch(trained)
    return ipywidgets.Tab(children=list(pages.values()), titles=list(pages))


def _method(folder: Path) -> str:
    """A run's loss, or what evaluated descriptors are called."""
    source = source_of(folder)
    return str(source["method"]) if source else loss_name(Run(folder).config)
