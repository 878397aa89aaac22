"""A real training in the background, whose weights can be changed while it runs."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np

from sa_lab.analysis.descriptors import QUICK, measure_embeddings
from sa_lab.config import ExperimentConfig, LossConfig
from sa_lab.course import figures
from sa_lab.course.widgets.controls import Panel, Worker, button, loss_dials
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.data import prepare
from sa_lab.disk import home, write_csv
from sa_lab.evaluation.validation import ValidationSet
from sa_lab.training import loop
from sa_lab.training.learner import LogRow


class LiveTraining(Panel):
    """Start, pause and stop a training of ``config``; its mask and weights follow the dials from the next step on.

    Every step is logged with the weights it used. Pause and stop write the log, so that `replay` of
    metrics.csv repeats the training step by step.

    Args:
        config: what is trained; its loss is where the dials begin.
        folder: gets config.json and metrics.csv, with a number added to its name if it already has a log; by default
            one named after the config among the runs.
        measure_every: steps between two looks at the validation identities.
        most_images: most images of validation identities to look at.
        behind: a log to draw pale behind the curves, such as that of a finished run with the usual weights
            (`sa_lab.runs.Run.metrics`), so that a dial's effect shows as a difference.

    Attributes:
        rows: what was logged, one row per step.
        figure: the live figure.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        folder: Path | None = None,
        measure_every: int = 40,
        most_images: int = 240,
        behind: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.config = config
        self.folder = self._wanted = folder or home() / "runs" / f"live-{config.digest()}"
        self.rows: list[LogRow] = []
        self._measure_every, self._most_images = measure_every, most_images
        self._behind, self._pace, self._total, self._quiet_until = behind, 0.0, 0, 0.0
        self._iteration: Iterator[LogRow] | None = None
        self._measure: Callable[[], LogRow] = dict
        self.dials = loss_dials(config.loss)
        self.figure = LiveFigure(figures.live_training([], title="Press Start to train"), least=600)
        self.message = ipywidgets.HTML()
        self.worker = Worker(self._advance, self._failed)
        self._halt = threading.Event()
        self.buttons = {
            "start": button("Start", "train, or go on", self.start, "play"),
            "pause": button("Pause", "stop after this step; Go on continues", self.pause, "pause"),
            "stop": button("Stop", "end; Start anew begins again", self.stop, "stop"),
        }
        super().__init__([self.figure, *self._below()], [*self.buttons.values(), *self.dials.values()], [self.message])
        self._enable()

    def _below(self) -> list[LiveFigure]:
        """Further figures."""
        return []

    @property
    def loss(self) -> LossConfig:
        """The loss that the dials stand for; the warm-up is the config's."""
        return replace(self.config.loss, **{name: dial.value for name, dial in self.dials.items()})

    def start(self) -> None:
        """Train in the background, from where it stands."""
        self.message.value = "Training; Pause and Stop write its log."
        self.worker.start()
        self._enable()

    def advance(self, num_steps: int) -> None:
        """Train ``num_steps`` steps here and now, under the dials as they stand; ends early where the training ends."""
        self._halt.clear()
        with self.worker.lock:
            for _ in range(num_steps):
                if self._halt.is_set() or not self._advance():
                    break
            self._show()
        self._enable()

    def usual(self) -> None:
        """Put the dials back to where they were at the beginning."""
        for dial in self.dials.values():
            dial.reset()

    def pause(self) -> None:
        """Stop after the step in hand and write the log."""
        self._halt.set()
        self.worker.pause()
        with self.worker.lock:
            self._save()
        self._enable()

    def stop(self) -> None:
        """Stop, write the log and forget the network."""
        self.pause()
        with self.worker.lock:
            self._iteration = None
        self._enable()

    def _enable(self, ending: bool = False) -> None:
        """What can be pressed now; the rest is grey. ``ending``: asked by the worker's own thread, as its last act."""
        going, begun = self.worker.running and not ending, self._iteration is not None
        self.buttons["start"].disabled = going
        self.buttons["start"].description = "Go on" if begun else "Start anew" if self.rows else "Start"
        self.buttons["pause"].disabled = not going
        self.buttons["stop"].disabled = not (going or begun)

    def _advance(self) -> bool:
        begin, known = time.perf_counter(), self._pace
        more = self._step()
        taken = time.perf_counter() - begin  # with all that is measured and drawn
        self._pace = 0.9 * known + 0.1 * taken if known and len(self.rows) > 1 else taken
        return more

    def _step(self) -> bool:
        if self._iteration is None:
            self.rows = []
            self._iteration = self._begin()
        row = next(self._iteration)
        self.rows.append(row)
        if (len(self.rows)) % self._measure_every == 0:
            row |= self._measure()
        if len(self.rows) == self._total:
            return self._end()
        if len(self.rows) % 5 == 0 and time.perf_counter() > self._quiet_until:
            self._show()
        return True

    def _end(self) -> bool:
        self._iteration = None
        self._save()
        self._enable(ending=True)
        return False

    def _begin(self) -> Iterator[LogRow]:
        number = 1
        self.folder = self._wanted
        while (self.folder / "metrics.csv").exists():  # an earlier log stays
            number += 1
            self.folder = self._wanted.with_name(f"{self._wanted.name}-{number}")
        store = prepare(self.config.data, progress=False)
        training = loop.start(self.config, store)
        self._total = self.config.train.num_epochs * len(training.sampler)
        held = ValidationSet.of(self.config, store, self._most_images)

        def measure() -> LogRow:
            if not len(held):
                return {}
            found = held.embed(training.model, training.criterion.prototypes, training.train_ids)
            measured = measure_embeddings(found, only=QUICK)
            return held.grade(found) | {name: one.mean for name, one in measured.items()}

        self._measure = measure
        return loop.iterate(training, lambda step: self.loss)

    def _show(self) -> None:
        """Draw what stands now; where steps are quick, this takes a quarter of the time at most."""
        begin = time.perf_counter()
        self._draw()
        self._quiet_until = time.perf_counter() + 3 * (time.perf_counter() - begin)

    def _draw(self) -> None:
        self.figure.show(figures.live_training(self.rows, title=self._told(), behind=self._behind))

    def _told(self) -> str:
        """How far it is, how fast, and what it finds."""
        done, known = len(self.rows), [row for row in self.rows if "rank_1" in row]
        left = (self._total - done) * self._pace
        speed = (
            f", {1 / self._pace:.1f} steps/s, {left:.0f} s left" if self.worker.running and self._pace and left else ""
        )
        found = f"; validation Rank-1 {100 * known[-1]['rank_1']:.1f} %" if known else ""
        return f"Step {done} of {self._total}{speed}{found}"

    def _save(self) -> None:
        if not self.rows:
            return
        self.config.save(self.folder / "config.json")
        write_csv(self.folder / "metrics.csv", self.rows)
        self.message.value = f"{len(self.rows)} steps; the weights of each are in {self.folder.name}/metrics.csv."
        self._show()

    def _failed(self, error: Exception) -> None:
        self._iteration = None
        self._save()
        self.message.value = f"<b>It stopped:</b> {error}"
        self._enable(ending=True)


def replay(rows: Sequence[LogRow], own: str = "") -> Callable[[int], LossConfig]:
    """The weights in a log, step by step, with which `loop.iterate` repeats a training whose weights were changed.

    Args:
        rows: as `iterate` gives them or metrics.csv holds them.
        own: name of the own loss that was followed, see `LossConfig`.

    Raises:
        ValueError: from ``iterate``, when it goes on after the log's end.
    """

    def weights(step: int) -> LossConfig:
        if step >= len(rows):
            raise ValueError(f"step is {step}, expected 0..{len(rows) - 1}: the log ends there")
        row = rows[step]
        return LossConfig(
            row["sas_weight"], row["similarity_weight"], row["mask_value"], warmup_steps=0,
            asynchronous=bool(row["asynchronous"]), own=own if math.isfinite(row.get("own", math.nan)) else "",
        )  # fmt: skip

    return weights
