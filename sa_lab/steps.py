"""The asynchronous iteration: a feature step, then a prototype step.

Source of the scheme: Tan et al., arXiv:2302.01512. Deviations, both off by default or ended by a dial: a warm-up, in
which the network follows the identity loss alone while the prototypes already learn, because fresh prototypes have no
direction to offer; and the synchronous scheme that the paper warns of, to show what it does.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from sa_lab.config import LossConfig
from sa_lab.losses import SASoftmaxLoss, identity_loss
from sa_lab.model import Features

Row = dict[str, float | int]
OwnLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A loss of your own: (embeddings (B,P,D), prototypes (P,2C,D) held fixed, labels (B,), modality (B,)) -> scalar."""


@dataclass(frozen=True)
class Batch:
    """Normalised images with the label in 0..C-1 and the modality of each."""

    images: Float[Tensor, "B 3 H W"]
    labels: Int[Tensor, " B"]
    modality: Int[Tensor, " B"]


class NonFiniteLossError(RuntimeError):
    """A loss or its gradient became NaN or infinite; no weight follows it.

    Attributes:
        batch: what it was computed on.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


@dataclass(kw_only=True)
class Learner:
    """What an iteration changes.

    Attributes:
        fabric: device and precision.
        model: the network: images (B,3,H,W) and modality to `Features`.
        criterion: the loss with its prototypes.
        feature_optimizer: steps the network.
        prototype_optimizer: steps the prototypes.
        own_loss: what the network follows in place of SA-Softmax's two terms, where ``LossConfig.own`` names it.
    """

    fabric: Fabric
    model: nn.Module
    criterion: SASoftmaxLoss
    feature_optimizer: Optimizer
    prototype_optimizer: Optimizer
    own_loss: OwnLoss | None = None


def name_of(own_loss: OwnLoss) -> str:
    """What `LossConfig.own` calls a function: its name and a digest of its source.

    What the function calls, and values that it reads from outside, are not part of the digest.

    Raises:
        ValueError: the source cannot be read, or the function has no name.
    """
    name = getattr(own_loss, "__name__", "")
    if not name.isidentifier():
        raise ValueError(f"own_loss is {own_loss!r}, expected a function with a name of its own (def)")
    try:
        source = inspect.getsource(own_loss)
    except (OSError, TypeError) as error:
        raise ValueError(
            f"own_loss is {own_loss!r}, expected a function whose source can be read, from a file or a notebook's cell"
        ) from error
    return f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def iteration(learner: Learner, batch: Batch, loss: LossConfig, step: int) -> Row:
    """One asynchronous iteration, and the weights it used.

    Args:
        learner: changed in place.
        batch: what it learns from, the same in both steps.
        loss: weights, and how long the warm-up is.
        step: number of the iteration, from 0.
    """
    used = in_force(loss, step)
    row = feature_step(learner, batch, used) | prototype_step(learner, batch, follow=used.asynchronous)
    return row | {
        "sas_weight": used.sas_weight, "similarity_weight": used.similarity_weight, "mask_value": used.mask_value,
        "asynchronous": int(used.asynchronous),
    }  # fmt: skip


def _forward(learner: Learner, batch: Batch) -> Features:
    """The network on a batch; Fabric would hand the output of a double-precision network back in single."""
    double = learner.criterion.prototypes.dtype == torch.float64
    network = cast(nn.Module, learner.model.module) if double else learner.model
    features: Features = network(batch.images, batch.modality)
    return features


def in_force(loss: LossConfig, step: int) -> LossConfig:
    """The loss of one step: the identity loss alone while it warms up."""
    return LossConfig(0.0, 0.0, loss.mask_value) if step < loss.warmup_steps else loss


def weights_of(loss: LossConfig) -> dict[str, float]:
    """The weight of each term in the feature objective L."""
    own = {"own": 1.0} if loss.own else {"sa_softmax": loss.sas_weight, "absolute": loss.similarity_weight}
    return {"identity": 1 - loss.sas_weight, **own}


def objective(
    criterion: SASoftmaxLoss,
    features: Features,
    labels: Int[Tensor, " B"],
    modality: Int[Tensor, " B"],
    loss: LossConfig,
    own_loss: OwnLoss | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The unweighted terms of the feature objective on what the network says of a batch."""
    modality = modality.to(labels.device)
    criterion.mask_value = loss.mask_value
    sa_softmax, absolute = criterion.feature_terms(
        features.embeddings, labels, modality, hold_prototypes=loss.asynchronous
    )
    terms = {"identity": identity_loss(features.identity_logits, labels)}
    terms |= {"sa_softmax": sa_softmax, "absolute": absolute}
    if loss.own:
        if own_loss is None:
            raise ValueError(f"loss.own is {loss.own!r}, but there is no own_loss; expected the function of that name")
        terms["own"] = _own(own_loss, features.embeddings, criterion.prototypes, labels, modality)
    return terms


def gradients(terms: Mapping[str, Tensor], loss: LossConfig, inputs: Tensor) -> dict[str, Tensor]:
    """The gradient of each weighted term of `objective` with respect to ``inputs``."""
    return {
        name: weight * torch.autograd.grad(terms[name], inputs, retain_graph=True)[0]
        for name, weight in weights_of(loss).items()
    }


def feature_step(learner: Learner, batch: Batch, loss: LossConfig) -> Row:
    """Step the network on L = (1-w_sas) L_id + w_sas L_sa + w_as L_as, the prototypes held fixed.

    With ``loss.own`` the learner's own loss stands in place of the last two terms. Without ``loss.asynchronous`` the
    prototypes are not held fixed: they step on L as well.

    Returns:
        The unweighted terms and the total.

    Raises:
        NonFiniteLossError: before any weight has changed.
        ValueError: the own loss gives no scalar that follows from the embeddings.
    """
    learner.model.train()
    features = _forward(learner, batch)
    terms = objective(learner.criterion, features, batch.labels, batch.modality, loss, learner.own_loss)
    weights = weights_of(loss)
    total = torch.stack([weight * terms[name] for name, weight in weights.items() if weight]).sum()
    values = torch.stack([*terms.values(), total]).detach().tolist()
    row = dict(zip((*terms, "total"), values, strict=True))
    if not math.isfinite(row["total"]):
        raise NonFiniteLossError(f"the feature loss is not finite: {row}", batch)
    learner.feature_optimizer.zero_grad()
    learner.prototype_optimizer.zero_grad()
    learner.fabric.backward(total)
    _check_gradients([*learner.model.parameters(), learner.criterion.prototypes], "feature", batch)
    learner.feature_optimizer.step()
    if not loss.asynchronous:
        learner.prototype_optimizer.step()
    return row


def _own(
    own_loss: OwnLoss, embeddings: Tensor, prototypes: Tensor, labels: Tensor, modality: Tensor
) -> Float[Tensor, ""]:
    value = own_loss(embeddings, prototypes.detach(), labels, modality)
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        said = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"own_loss gave {said}, expected a scalar tensor that follows from the embeddings")
    return value


def prototype_step(learner: Learner, batch: Batch, follow: bool = True) -> Row:
    """Step the prototypes on L_p of a second forward, without gradient but in training mode, the network held fixed.

    Args:
        learner: changed in place.
        batch: the same as in the feature step.
        follow: False only measures L_p.
    """
    with torch.no_grad():
        embeddings = _forward(learner, batch).embeddings
    loss = learner.criterion.prototype_loss(embeddings, batch.labels, batch.modality.to(batch.labels.device))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteLossError(f"the prototype loss is {value}", batch)
    if follow:
        learner.prototype_optimizer.zero_grad()
        learner.fabric.backward(loss)
        _check_gradients([learner.criterion.prototypes], "prototype", batch)
        learner.prototype_optimizer.step()
    return {"prototype": value}


def _check_gradients(parameters: Iterable[nn.Parameter], name: str, batch: Batch) -> None:
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not math.isfinite(norm):
        raise NonFiniteLossError(f"the gradient of the {name} loss is not finite, its norm is {float(norm)}", batch)
