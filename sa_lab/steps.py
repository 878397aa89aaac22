"""The asynchronous iteration: a feature step, then a prototype step, on one process or on many.

Source of the scheme: Tan et al., arXiv:2302.01512. Deviations, both off by default or ended by a dial: a warm-up, in
which the network follows the identity loss alone while the prototypes already learn, because fresh prototypes have no
direction to offer; and the synchronous scheme that the paper warns of, to show what it does.

Every process works on its share of the batch; network and prototypes follow the mean of the gradients. Nothing waits
for a GPU, see `sa_lab.learner`.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from sa_lab import processes
from sa_lab.config import LossConfig
from sa_lab.learner import Batch, Learner, Measured, OwnLoss, Row
from sa_lab.losses import SASoftmaxLoss, identity_loss, prototype_logits, prototype_loss
from sa_lab.model import Features


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
    """One asynchronous iteration, its losses and the weights it used.

    Args:
        learner: changed in place.
        batch: what it learns from, the same in both steps; of several processes each has its share.
        loss: weights, and how long the warm-up is.
        step: number of the iteration, from 0.

    Raises:
        NonFiniteLossError: no weight has changed.
    """
    return launch(learner, batch, loss, step).row()


def launch(learner: Learner, batch: Batch, loss: LossConfig, step: int) -> Measured:
    """`iteration`, without waiting for the device."""
    used = in_force(loss, step)
    identities = learner.sampling(batch.labels) if learner.sampling else None
    features, first = _feature_step(learner, batch, used, identities)
    embeddings = features.embeddings.detach() if learner.reuse_features else None
    with record_function("prototype step"):  # the second forward within
        second = _prototype_step(learner, batch, used.asynchronous, embeddings, identities)
    settings: Row = {
        "sas_weight": used.sas_weight, "similarity_weight": used.similarity_weight, "mask_value": used.mask_value,
        "asynchronous": int(used.asynchronous),
    }  # fmt: skip
    return replace(first | second, settings=settings).send()


def _forward(learner: Learner, batch: Batch, classify: bool = True) -> Features:
    """The network on a batch; Fabric would hand the output of a double-precision network back in single."""
    double = learner.criterion.prototypes.dtype == torch.float64
    network = cast(nn.Module, learner.model.module) if double else learner.model
    features: Features = network(batch.images, batch.modality.numpy(), classify)
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
    identities: Int[Tensor, " S"] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The unweighted terms of the feature objective on what the network says of a batch.

    Args:
        criterion, features, labels, modality, loss, own_loss: as in `feature_step`.
        identities: whose prototypes take part in the two terms of SA-Softmax; all by default.
    """
    modality = modality.to(labels.device, non_blocking=True)
    criterion.mask_value = loss.mask_value
    sa_softmax, absolute = criterion.feature_terms(
        features.embeddings, labels, modality, hold_prototypes=loss.asynchronous, identities=identities
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
        NonFiniteLossError: no weight has changed.
        ValueError: the own loss gives no scalar that follows from the embeddings.
    """
    identities = learner.sampling(batch.labels) if learner.sampling else None
    return _feature_step(learner, batch, loss, identities)[1].row()


def _feature_step(
    learner: Learner, batch: Batch, loss: LossConfig, identities: Tensor | None
) -> tuple[Features, Measured]:
    learner.model.train()
    with record_function("forward"):
        features = _forward(learner, batch)
    with record_function("losses"):
        terms = objective(learner.criterion, features, batch.labels, batch.modality, loss, learner.own_loss, identities)
    weights = weights_of(loss)
    followed = {name for name, weight in weights.items() if weight}
    if processes.size() > 1:
        followed.add("identity")  # with weight 0, too: each process waits for a gradient of the classifier
    total = torch.stack([weight * terms[name] for name, weight in weights.items() if name in followed]).sum()
    values = _average({**terms, "total": total})
    learner.feature_optimizer.zero_grad()
    learner.prototype_optimizer.zero_grad()
    with record_function("backward"):
        learner.fabric.backward(total)
    prototypes = learner.criterion.prototypes
    if prototypes.grad is not None:
        prototypes.grad = processes.mean(prototypes.grad)
    with record_function("network step"):
        norm = learner.check(values["total"], [*learner.model.parameters(), prototypes])
        learner.step(learner.feature_optimizer)
        if not loss.asynchronous:
            learner.step(learner.prototype_optimizer)
    return features, Measured(values, {"feature": norm}, batch, learner.failed)


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

    Raises:
        NonFiniteLossError: no prototype has changed.
    """
    identities = learner.sampling(batch.labels) if learner.sampling else None
    return _prototype_step(learner, batch, follow, None, identities).row()


def _prototype_step(
    learner: Learner, batch: Batch, follow: bool, embeddings: Tensor | None, identities: Tensor | None
) -> Measured:
    """`prototype_step` on these embeddings, or on those of a second forward."""
    if embeddings is None:
        with torch.no_grad(), record_function("second forward"):
            embeddings = _forward(learner, batch, classify=False).embeddings
    criterion, modality = learner.criterion, batch.modality.to(batch.labels.device, non_blocking=True)
    whole = criterion.prototypes if identities is None else criterion.prototypes.detach()
    prototypes, labels = criterion.among(identities, whole, batch.labels)
    loss = prototype_loss(prototype_logits(embeddings, prototypes.requires_grad_()), labels, modality)
    values = _average({"prototype": loss})
    if not follow:
        return Measured(values, {"prototype": torch.zeros_like(values["prototype"])}, batch, learner.failed)
    learner.prototype_optimizer.zero_grad()
    learner.fabric.backward(loss)
    prototypes.grad = processes.mean(cast(Tensor, prototypes.grad))
    norm = learner.check(values["prototype"], [prototypes])
    if identities is None:
        learner.step(learner.prototype_optimizer)
    else:
        learner.step_rows(prototypes, criterion.rows_of(identities))
    return Measured(values, {"prototype": norm}, batch, learner.failed)


def _average(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the processes, without gradient."""
    together = torch.stack([value.detach() for value in values.values()])
    return dict(zip(values, processes.mean(together).unbind(), strict=True))
