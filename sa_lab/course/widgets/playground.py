"""The prototype playground: a toy world whose loss can be changed while it learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ipywidgets

from sa_lab.config import LossConfig
from sa_lab.course import figures, toy
from sa_lab.course.widgets.controls import Dial, Panel, Worker, button, choice, loss_dials, loss_of
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.provenance import function_name
from sa_lab.training.objective import OwnLoss

OWN, AS_THEY_STAND = "your own", "changed by hand"
_WEIGHTS = ("sas_weight", "similarity_weight", "mask_value")
_MET = 0.05
"""A modality gap as small as this: the spectra of a person lie on each other."""


class Playground(Panel):
    """A few identities on a circle or sphere, their samples in two spectra, their prototypes, and what pulls them.

    Every step is one of the library's (`course.toy`). While it is paused, the last point of each curve is the loss
    under the present dials, so that a dial shows its effect before anything moves.

    Args:
        world: the start; its number of identities and of dimensions can be changed.
        preset: a name in `sa_lab.course.toy.PRESETS`.
        own_loss: a loss of your own, which becomes an extra preset, selected at the start: 0.3 of the identity loss
            stays beside it.

    Attributes:
        toy: the world as it stands.
        figure: the live figure.
    """

    def __init__(
        self, world: toy.World | None = None, preset: str = "complete", own_loss: OwnLoss | None = None
    ) -> None:
        world = world or toy.World()
        self._own, self._taking = own_loss, False
        self.toy = toy.Toy(world, own_loss=own_loss)
        self.toy.settle()  # prototypes at the origin would feel no dial
        presets = [*toy.PRESETS, *([OWN] if own_loss else []), AS_THEY_STAND]
        preset = OWN if own_loss else preset
        self.preset = choice("preset", presets, "sets loss, warm-up and rates; each can be changed", value=preset)
        warmup = Dial("warm-up steps", 0, 0, 200, 5, "first steps, in which samples follow the identity loss alone")
        self.dials = loss_dials(LossConfig()) | {"warmup_steps": warmup}
        self.rates = {
            "network_lr": Dial("sample rate", 0.03, 0.0, 0.2, 0.005, "learning rate of the samples (the network)"),
            "prototype_lr": Dial("prototype rate", 0.1, 0.0, 0.5, 0.01, "learning rate of the prototypes"),
        }
        self.identities = Dial("identities", world.num_identities, 2, 12, 1, "how many people; starts anew")
        self.shape = choice("world", [("circle", 2), ("sphere", 3)], "dimensions of an embedding; starts anew",
                            value=world.dimensions)  # fmt: skip
        self.asynchronous = ipywidgets.Checkbox(
            True, description="asynchronous", tooltip="off: prototypes follow the samples' loss too", indent=False
        )
        self.figure = LiveFigure(self._draw(), least=600)
        self.message = ipywidgets.HTML()
        self.worker = Worker(self._advance, self._failed, pause=0.05)
        buttons = (
            button("Step", "one iteration of the library", self.step, "step-forward"),
            button("Run", "iterate until paused", self.run, "play"),
            button("Pause", "stand still", self.pause, "pause"),
            button("Reset", "back to the start", self.reset, "refresh"),
            button("Coincide", "put the two prototypes of each identity together", self.coincide, "compress"),
        )
        self._listen()
        dials = [*self.dials.values(), self.asynchronous, *self.rates.values(), self.identities, self.shape]
        super().__init__([self.figure], [*buttons, self.preset, *dials], [self.message])
        self._take_preset()

    @property
    def loss(self) -> LossConfig:
        """The loss that the dials stand for."""
        if self._own and self.preset.value == OWN:
            warmup = self.dials["warmup_steps"].value
            return LossConfig(terms="identity 0.3 + own 1", own=function_name(self._own), warmup_steps=warmup)
        return loss_of(self.dials, asynchronous=self.asynchronous.value)

    def step(self) -> None:
        """One iteration; the worker's thread waits meanwhile."""
        with self.worker.lock:
            try:
                self._advance()
            except Exception as error:  # as in the worker: told, not raised into the page
                self._failed(error)

    def run(self) -> None:
        """Iterate in the background until `pause`."""
        self.message.value = ""
        self.worker.start()

    def pause(self) -> None:
        """Stand still."""
        self.worker.pause()
        self.show()

    def reset(self) -> None:
        """Back to the start, with the world that the dials stand for."""
        self.worker.pause()
        with self.worker.lock:
            world = replace(self.toy.world, num_identities=self.identities.value, dimensions=self.shape.value)
            rates = {name: dial.value for name, dial in self.rates.items()}
            self.toy = toy.Toy(world, **rates, own_loss=self._own)
            self.toy.settle()
            self.message.value = ""
            self.show()

    def coincide(self) -> None:
        """Put both prototypes of each identity where its samples are: what success would look like."""
        self.worker.pause()
        with self.worker.lock:
            self.toy.coincide()
            self.show()

    def show(self) -> None:
        """Draw what stands now."""
        with self.worker.lock:
            self.figure.show(self._draw())

    def _draw(self) -> dict[str, Any]:
        loss, step = self.loss, len(self.toy.rows)
        now = {"step": step, **self.toy.losses(loss), **self.toy.overlap()}
        return figures.toy_spec(
            **vars(self.toy.scene(loss)), rows=[*self.toy.rows[:: 1 + step // 300], now],
            title=f"Step {step}: {_said(loss, now)}",
        )  # fmt: skip

    def _advance(self) -> bool:
        self.toy.step(self.loss)
        self.show()
        return len(self.toy.rows) < 5000

    def _failed(self, error: Exception) -> None:
        self.message.value = f"<b>It stopped:</b> {error}. Lower the rates and press Reset."

    def _listen(self) -> None:
        self.preset.observe(lambda _: self._take_preset(), "value")
        for control in (*self.dials.values(), self.asynchronous):
            control.observe(lambda _: self._moved(), "value")
        for dial in self.rates.values():
            dial.observe(lambda _: self._take_rates(), "value")
        for start in (self.identities, self.shape):
            start.observe(lambda _: self._restart(), "value")

    def _restart(self) -> None:
        """Other people: from the start, and on if it was running."""
        running = self.worker.running
        self.reset()
        if running:
            self.run()

    def _take_rates(self) -> None:
        with self.worker.lock:
            self.toy.set_rates(*(dial.value for dial in self.rates.values()))
        self._moved()

    def _moved(self) -> None:
        """What is no preset's any more is called so, and the preset can be chosen again."""
        named = toy.PRESETS.get(self.preset.value)
        if self._taking:
            return
        if named and (any(getattr(named, name) != getattr(self.loss, name) for name in (*_WEIGHTS, "asynchronous"))
                      or any(dial.moved for dial in (self.dials["warmup_steps"], *self.rates.values()))):  # fmt: skip
            self.preset.value = AS_THEY_STAND
        self.show()

    def _take_preset(self) -> None:
        own = self.preset.value == OWN
        for name in _WEIGHTS:
            self.dials[name].enable(not own)
        self.asynchronous.disabled = own
        if self.preset.value == AS_THEY_STAND:
            self.show()
            return
        loss = toy.PRESETS.get(self.preset.value, LossConfig())
        self._taking = True
        with self.worker.lock:
            for name in _WEIGHTS:
                self.dials[name].value = getattr(loss, name)
            self.asynchronous.value = loss.asynchronous
            for dial in (self.dials["warmup_steps"], *self.rates.values()):
                dial.reset()
        self._taking = False
        self.show()


def _said(loss: LossConfig, now: Mapping[str, float | int]) -> str:
    """What happens in the world, in words."""
    gap = f"gap {now['stranger_ratio']:.2f}"
    pulled = f"L_sa {now['sa_softmax']:.2f}, {gap}" if "sa_softmax" in now else gap
    if now["step"] < loss.warmup_steps:
        return f"warm-up, samples follow the identity loss alone; {pulled}"
    if loss.terms:
        return f"your loss {now['own']:.2f}; {gap}"
    if not loss.sas_weight and not loss.similarity_weight:
        return f"only L_id, which does not ask the two spectra to meet; {gap}"
    if not loss.asynchronous:
        return f"the prototypes follow the samples' losses, too; {gap}"
    if loss.mask_value < 1 and loss.sas_weight:
        return f"no mask: L_sa {now['sa_softmax']:.2f}; while prototypes coincide, log 2 at least; {gap}"
    if not loss.sas_weight:
        return f"samples come nearer to the other spectrum; {gap}"
    if now["stranger_ratio"] < _MET:
        return f"the two spectra of each person have met; {gap}"
    return f"each sample is drawn to the other spectrum's prototype; {pulled}"
