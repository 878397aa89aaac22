"""The loss lens: one sample of a trained run, and what mask and weights make of it."""

from __future__ import annotations

import threading
from pathlib import Path

import plotly.graph_objects as go

from sa_lab import plots
from sa_lab.config import LossConfig
from sa_lab.course import figures
from sa_lab.course.lens import Lens
from sa_lab.course.widgets.controls import Dial, Panel, loss_dials, loss_of
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.runs import Run


class LossLens(Panel):
    """Pick a training sample of a run; its logits, probabilities and gradients follow mask and weights.

    Args:
        run: the run, or its folder.
        lens: what was read from it already.

    Attributes:
        lens: the samples.
        figure: the live figure.
    """

    def __init__(self, run: Run | Path | str, lens: Lens | None = None) -> None:
        folder = run.folder if isinstance(run, Run) else Path(run)
        self.lens = lens or Lens.of_run(folder)
        self._lock = threading.Lock()
        trained = Run(folder).config.loss
        self.sample = Dial("sample", 0, 0, len(self.lens) - 1, 1, "which training image")
        self.dials = loss_dials(trained)
        self.figure = LiveFigure(self._draw(), least=600)
        for dial in (self.sample, *self.dials.values()):
            dial.observe(lambda _: self.show(), "value")
        super().__init__([self.figure], [self.sample, *self.dials.values()])

    @property
    def loss(self) -> LossConfig:
        """The loss that the dials stand for."""
        return loss_of(self.dials)

    def show(self) -> None:
        """Draw the sample under the loss that the dials stand for."""
        with self._lock:
            self.figure.show(self._draw())

    def _draw(self) -> go.Figure:
        i, loss = self.sample.value, self.loss
        reading = self.lens.read(i, loss)
        person = self.lens.person_ids[int(self.lens.labels[i])]
        spectrum = plots.SPECTRA[int(self.lens.modality[i])]
        return figures.loss_lens(
            self.lens.images[i], self.lens.names(reading), reading.logits, reading.probabilities, reading.gradients,
            self.lens.gradients(loss),
            title=f"Identity {person}, {spectrum}: L_sa {reading.losses['sa_softmax']:.3f}, "
            f"L_as {reading.losses['absolute']:.3f}, L_id {reading.losses['identity']:.3f} nats, "
            f"sum over {len(self.lens.prototypes)} parts",
        )  # fmt: skip
