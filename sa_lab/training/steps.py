"""The asynchronous iteration: a feature step, then a prototype step, on one process or on many.

Source of the scheme: Tan et al., arXiv:2302.01512. Deviations, both off by default or ended by a dial: a warm-up, in
which the network follows the identity loss alone while the prototypes already learn, because fresh prototypes have no
direction to offer; and the synchronous scheme that the paper warns of, to show what it does.

Every process works on its share of the batch; network and prototypes follow the mean of the gradients. Nothing waits
for a GPU, see `sa_lab.training.learner`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import record_function

from sa_lab.config import LossConfig
from sa_lab.losses import own_prototype
from sa_lab.model import Features
from sa_lab.training import processes
from sa_lab.training.learner import Batch, Learner, LogRow, Measured
from sa_lab.training.objective import objective, sees_prototypes

_PAPER = LossConfig()
_TOWARDS_MEAN = 0.2
"""How far a running mean goes towards the samples of one batch; a person is in one of some batches only."""


def iteration(learner: Learner, batch: Batch, loss: LossConfig, step: int) -> Measured:
    """One asynchronous iteration, from a batch to stepped network and prototypes.

    Args:
        learner: changed in place.
        batch: what it learns from, the same in both steps; of several processes each has its share.
        loss: weights, and how long the warm-up is.
        step: number of the iteration, from 0.

    Returns:
        The losses and the weights that were used; `Measured.row` waits for them, and raises `NonFiniteLossError` where
        something is not finite: then no weight has changed.
    """
    used = loss_at(loss, step, sees_prototypes(learner.own_loss))
    feature = feature_step(learner, batch, used, step)
    prototype = prototype_step(learner, batch, used, feature.embeddings if learner.reuse_features else None)
    settings: LogRow = {
        "sas_weight": used.sas_weight, "similarity_weight": used.similarity_weight, "mask_value": used.mask_value,
        "asynchronous": int(used.asynchronous),
    }  # fmt: skip
    return replace(feature | prototype, settings=settings).send()


def feature_step(learner: Learner, batch: Batch, loss: LossConfig, step: int = 0) -> Measured:
    """Step the network, and what other terms learn, on L = (1-w_sas) L_id + w_sas L_sa + w_as L_as, or the terms that
    ``loss.terms`` names; the prototypes are held fixed, but without ``loss.asynchronous`` they step on L as well.

    Returns:
        The unweighted terms and the total.

    Raises:
        ValueError: the own loss gives no scalar that follows from the embeddings.
    """
    prototypes = learner.criterion.prototypes
    learner.model.train()
    with record_function("forward"):  # images (B,3,H,W) -> embeddings (B,P,D) and identity logits (B,P,C)
        features = _forward(learner, batch)
    with record_function("losses"):  # three terms, each (): L_id of the logits, L_sa and L_as of embeddings and W
        terms = objective(
            learner.criterion, features, batch.labels, batch.spectra, loss, learner.own_loss, learner.learned,
            batch.views if loss.own else None, step,
        )  # fmt: skip
    followed = {name: weight for name, weight in loss.weights().items() if weight}
    if processes.size() > 1:
        followed.setdefault("identity", 0.0)  # each process waits for a gradient of the classifier
    total = torch.stack([weight * terms[name] for name, weight in followed.items()]).sum()
    values = _average({**terms, "total": total})
    learner.feature_optimizer.zero_grad()
    learner.prototype_optimizer.zero_grad()
    with record_function("backward"):  # gradients of stems, trunk, neck and V; of W (P,2C,D) only if synchronous
        learner.fabric.backward(total)
        for parameter in learner.learned.parameters():  # the network's are averaged over the processes already
            if parameter.grad is not None and processes.size() > 1:
                parameter.grad = processes.mean(parameter.grad)
    with record_function("network step"):  # all weights of the network and V (P,C,D) move
        moved = [*learner.model.parameters(), *learner.learned.parameters(), prototypes]
        followers = [learner.feature_optimizer, *([] if loss.asynchronous else [learner.prototype_optimizer])]
        norm = learner.check(values["total"], moved, *followers)
        learner.step(*followers)
    return Measured(values, {"feature": norm}, batch, learner.failed, embeddings=features.embeddings.detach())


def prototype_step(
    learner: Learner, batch: Batch, loss: LossConfig = _PAPER, embeddings: Float[Tensor, "B P D"] | None = None
) -> Measured:
    """Step the prototypes on L_p of a second forward, without gradient but in training mode, the network held fixed.

    Args:
        learner: changed in place.
        batch: the same as in the feature step.
        loss: its ``prototypes`` say what they follow; without its ``asynchronous``, L_p is only measured.
        embeddings: take these, those of the feature step, instead of a second forward.
    """
    prototypes = learner.criterion.prototypes
    with record_function("prototype step"):
        if embeddings is None:
            with torch.no_grad(), record_function("second forward"):  # the updated network: images -> (B,P,D)
                embeddings = _forward(learner, batch, classify=False).embeddings
        # the fourth term, (): L_p
        term = learner.criterion.prototype_loss(embeddings, batch.labels, batch.spectra, loss.prototypes != "no_rival")
        values = _average({"prototype": term})
        if not loss.asynchronous or loss.prototypes == "running_mean":
            if loss.prototypes == "running_mean":
                _follow_means(learner, batch, embeddings, loss.scale)
            return Measured(values, {"prototype": torch.zeros_like(values["prototype"])}, batch, learner.failed)
        learner.prototype_optimizer.zero_grad()
        learner.fabric.backward(term)  # gradient of W (P,2C,D) alone: the embeddings are detached
        norm = learner.check(values["prototype"], [prototypes], learner.prototype_optimizer)
        learner.step(learner.prototype_optimizer)  # W moves
    return Measured(values, {"prototype": norm}, batch, learner.failed)


def _follow_means(learner: Learner, batch: Batch, embeddings: Float[Tensor, "B P D"], scale: float) -> None:
    """Each prototype that has samples in the batch: a share of the way to their mean direction, brought to ``scale``.

    Of length scale / sqrt(D): an embedding after the neck is about sqrt(D) long, so a logit is about scale * cosine.
    """
    prototypes = learner.criterion.prototypes  # (P,2C,D)
    parts, rows, channels = prototypes.shape
    own = own_prototype(batch.labels, batch.spectra, rows // 2)  # (B,)
    directions = functional.normalize(embeddings.to(prototypes), dim=2).transpose(0, 1)  # (P,B,D)
    sums = prototypes.new_zeros(parts, rows, channels + 1)
    sums.index_add_(1, own, torch.cat([directions, directions.new_ones(parts, len(own), 1)], 2))
    sums = processes.mean(sums)  # the last channel counts, on all processes the same share
    means = sums[..., :-1] / sums[..., -1:].clamp_min(1e-9) * (scale / channels**0.5)
    moved = (sums[..., -1:] > 0) * (1 - learner.failed) * _TOWARDS_MEAN
    with torch.no_grad():
        prototypes.lerp_(means.nan_to_num(), moved.expand_as(prototypes))


def loss_at(loss: LossConfig, step: int, own_is_cold: bool = True) -> LossConfig:
    """The loss of one step: while the prototypes warm up, the identity loss and what does not follow them.

    Args:
        loss: of the training.
        step: number of the iteration, from 0.
        own_is_cold: whether a loss of one's own follows the prototypes.
    """
    followed = {name for name, weight in loss.weights().items() if weight}
    cold = followed & {"sa_softmax", "absolute", *(["own"] if own_is_cold else [])}
    if step >= loss.warmup_steps or not cold:
        return loss
    others = {name: weight for name, weight in loss.weights().items() if name in followed - cold - {"identity"}}
    if not others:
        return LossConfig(0.0, 0.0, loss.mask_value)
    terms = " + ".join(["identity 1", *(f"{name} {weight!r}" for name, weight in others.items())])
    return replace(loss, terms=terms, own=loss.own if "own" in others else "", asynchronous=True)


def _forward(learner: Learner, batch: Batch, classify: bool = True) -> Features:
    """The network on a batch; Fabric would hand the output of a double-precision network back in single."""
    double = learner.criterion.prototypes.dtype == torch.float64
    network = cast(nn.Module, learner.model.module) if double else learner.model
    features: Features = network(batch.images, batch.modality, classify)
    return features


def _average(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the processes, without gradient."""
    stacked = torch.stack([value.detach() for value in values.values()])
    return dict(zip(values, processes.mean(stacked).unbind(), strict=True))
