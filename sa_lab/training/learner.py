"""What an iteration changes (`Learner`) and what it measures (`Measured`), without waiting for the device.

What was measured stays on its device until it is asked for, and fused optimisers, told on the device that something was
not finite, leave all weights as they are from then on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from sa_lab.losses import SASoftmaxLoss
from sa_lab.schema import Refusal
from sa_lab.training.objective import OwnLoss

LogRow = dict[str, float | int]
"""What is logged of a step: losses, weights and settings by name; a row of metrics.csv."""


@dataclass(frozen=True)
class Batch:
    """Normalised images with the label in 0..C-1 and the modality of each.

    Attributes:
        images, labels: on the device of the network.
        modality: 0 visible, 1 infrared; on the host, where it decides which image goes through which stem.
        cameras: number of each image's camera, on the host; 0 where nobody knows.
    """

    images: Float[Tensor, "B 3 H W"]
    labels: Int[Tensor, " B"]
    modality: Int[np.ndarray, " B"]
    cameras: Int[np.ndarray, " B"] | int = 0

    @property
    def views(self) -> Int[Tensor, " B"]:
        """``cameras`` beside the labels."""
        cameras = torch.from_numpy(np.broadcast_to(self.cameras, self.modality.shape).astype(np.int64))
        return cameras.to(self.labels.device, non_blocking=True)

    @property
    def spectra(self) -> Int[Tensor, " B"]:
        """``modality`` beside the labels, on their device, sent without waiting."""
        return torch.from_numpy(self.modality).to(self.labels.device, non_blocking=True)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything as tensors on the host."""
        return {"images": self.images.cpu(), "labels": self.labels.cpu(), "modality": torch.from_numpy(self.modality)}


class NonFiniteLossError(Refusal):
    """A loss or its gradient became NaN or infinite; no weight follows it.

    Attributes:
        batch: what it was computed on; None in a process that it was sent to.
    """

    def __init__(self, message: str, batch: Batch | None = None) -> None:
        super().__init__(message)
        self.batch = batch

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[str]]:
        return type(self), (str(self),)


@dataclass(kw_only=True)
class Learner:
    """What an iteration changes, and what it needs to.

    Attributes:
        fabric: device, precision and processes.
        model: the network: images (B,3,H,W), modality and whether to classify, to `Features`.
        criterion: the loss with its prototypes.
        feature_optimizer: steps the network, and what terms learn besides.
        prototype_optimizer: steps the prototypes, its only parameter.
        own_loss: the term own, where ``LossConfig.own`` names it.
        learned: what terms learn besides, see `sa_lab.training.objective.learned_of`.
        reuse_features: the prototype step takes the embeddings of the feature step instead of a second forward.
        scaler: of losses, in half precision, whose small gradients would vanish; None in any other.
    """

    fabric: Fabric
    model: nn.Module
    criterion: SASoftmaxLoss
    feature_optimizer: Optimizer
    prototype_optimizer: Optimizer
    own_loss: OwnLoss | None = None
    learned: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    reuse_features: bool = False
    scaler: torch.amp.GradScaler | None = None
    _failed: Tensor | None = field(default=None, init=False, repr=False)

    @property
    def failed(self) -> Float[Tensor, ""]:
        """1, on the device, from the first loss or gradient that is not finite until its row is read; else 0."""
        if self._failed is None:
            self._failed = torch.zeros((), device=self.criterion.prototypes.device)
        return self._failed

    def check(self, loss: Tensor, parameters: Iterable[Tensor], *optimizers: Optimizer) -> Float[Tensor, ""]:
        """The norm of all gradients together, which ``optimizers`` will follow; notes whether it or the loss is not
        finite.

        With a scaler, a gradient that overflows is no failure: `step` leaves it out, and the norm is given as 0.
        """
        if self.scaler:
            for optimizer in optimizers:
                self.scaler.unscale_(_inner(optimizer))
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.scaler:
            norm = torch.where(norm.isfinite() | ~loss.isfinite(), norm, 0.0)
        wrong = (~(loss.isfinite() & norm.isfinite())).to(self.failed)
        self.failed.copy_(torch.maximum(self.failed, wrong))
        return norm

    def step(self, *optimizers: Optimizer) -> None:
        """A step of each, unless something has failed: fused ones find that out on the device."""
        for optimizer in optimizers:
            inner: Any = _inner(optimizer)
            if inner.defaults.get("fused"):
                inner.found_inf = self.failed
                _begin_momentum(inner)
            elif self.failed:
                continue
            if self.scaler:
                self.scaler.step(inner)
            else:
                optimizer.step()
        if self.scaler:
            self.scaler.update()


def _inner(optimizer: Optimizer) -> Optimizer:
    """The optimiser that Fabric has wrapped."""
    return cast(Optimizer, getattr(optimizer, "optimizer", optimizer))


def _begin_momentum(optimizer: Optimizer) -> None:
    """Momentum 0 where there is none: fused SGD leaves it undefined if its first step fails, and takes no newcomers."""
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


@dataclass(frozen=True)
class Measured:
    """What a step measured, averaged over the processes, still on its device.

    Attributes:
        values: the losses, each ().
        norms: norm of the gradient that was followed, by the name of the loss, each ().
        batch: what they were computed on.
        failed: `Learner.failed`.
        embeddings: what the network said of the batch in the feature step, without gradient, (B,P,D).
        settings: what the row has besides.
        sent: the numbers on their way to the host and, on a GPU, what tells that they are there.
    """

    values: dict[str, Tensor]
    norms: dict[str, Tensor]
    batch: Batch
    failed: Tensor
    embeddings: Tensor | None = None
    settings: LogRow = field(default_factory=dict)
    sent: tuple[Tensor, torch.cuda.Event | None] | None = None

    def send(self) -> Measured:
        """Send the numbers to the host as soon as they are known, before any work that is launched later.

        The way over pinned memory and an event, and the pinning of images in `sa_lab.training.loop.draw_batch`, are for
        GPUs alone: tests need one for them.
        """
        numbers, ready = self._numbers(), None
        if numbers.device.type == "cuda":
            host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            host.copy_(numbers, non_blocking=True)
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
            numbers = host
        return replace(self, sent=(numbers, ready))

    def _numbers(self) -> Float[Tensor, " V"]:
        return torch.stack([*self.values.values(), *self.norms.values()])

    def __or__(self, other: Measured) -> Measured:
        """Both steps of an iteration."""
        return replace(
            self, values=self.values | other.values, norms=self.norms | other.norms,
            settings=self.settings | other.settings,
        )  # fmt: skip

    def row(self) -> LogRow:
        """The losses, the norm of the gradient of each that was followed, and the settings; waits until they are known.

        Raises:
            NonFiniteLossError: something is not finite; no weight has followed it, nor anything after it.
        """
        vector, ready = self.sent or (self._numbers(), None)
        if ready:
            ready.synchronize()
        numbers = vector.tolist()
        row: LogRow = dict(zip(self.values, numbers, strict=False))
        for name, norm in zip(self.norms, numbers[len(self.values) :], strict=True):
            loss = row["total" if name == "feature" else name]
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.failed.zero_()
                what = f"loss is not finite: {row}"
                if math.isfinite(loss):
                    what = f"gradient is not finite, its norm is {norm}: {row}"
                raise NonFiniteLossError(f"the {name} {what}", self.batch)
            row[f"{name}_gradient"] = norm
        return row | self.settings
