"""The dials on real features: a head on a finished network learns in seconds, with the map of eight people beside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
from sklearn.decomposition import PCA

from sa_lab import plots
from sa_lab.config import LossConfig
from sa_lab.course.frozen import FrozenFeatures
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.course.widgets.live_training import LiveTraining
from sa_lab.runs import Run
from sa_lab.training.learner import LogRow


class FeatureTraining(LiveTraining):
    """Start, pause and stop a head that learns on the features of a finished run; mask and weights follow the dials.

    The previous training is drawn pale behind the current one, so that a dial's effect shows as a difference.

    Args:
        run: finished, with validation people.
        num_steps: of a training.
        measure_every: steps between two looks at the validation people.

    Attributes:
        map: the live figure of eight training people and their prototypes.
    """

    def __init__(self, run: Run, num_steps: int = 600, measure_every: int = 20) -> None:
        self._run, self._num_steps = run, num_steps
        self.frozen = FrozenFeatures(run)
        self.map = LiveFigure(self._mapped())
        usual = LossConfig(warmup_steps=min(60, num_steps // 10))
        super().__init__(replace(run.config, loss=usual), run.folder, measure_every)

    def _below(self) -> list[LiveFigure]:
        return [self.map]

    def _begin(self) -> Iterator[LogRow]:
        if before := self.frozen.rows:
            names = dict.fromkeys(name for row in before for name in row)
            measured = {name: [row.get(name, np.nan) for row in before] for name in names}
            self._behind = {name: np.array(values, dtype=float) for name, values in measured.items()}
        self.frozen = FrozenFeatures(self._run)
        self._measure, self._total = self.frozen.measure, self._num_steps
        return (self.frozen.step(self.loss) for _ in range(self._num_steps))

    def _draw(self) -> None:
        super()._draw()
        if self.rows and all(np.isfinite(value) for value in self.rows[-1].values()):
            self.map.show(self._mapped())

    def _save(self) -> None:
        self.message.value = f"{len(self.rows)} steps; nothing is written."
        self._show()

    def _mapped(self) -> go.Figure:
        found, prototypes, people = self.frozen.trained()
        points = found.embeddings.reshape(len(found), -1)
        rows = np.moveaxis(prototypes, 0, 1).reshape(prototypes.shape[1], -1)
        drawn = PCA(2, svd_solver="full").fit(points)
        scale = np.linalg.norm(points, axis=1).mean() / np.linalg.norm(rows, axis=1).mean().clip(1e-9)
        figure = plots.projection(
            drawn.transform(points), found.person_ids, found.modality, prototypes=drawn.transform(rows * scale),
            prototype_ids=people,
            title=f"Step {len(self.frozen.rows)}: {len(people)} training people, principal components",
        )  # fmt: skip
        return figure.update_layout(uirevision="same", height=420)
