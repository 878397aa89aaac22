"""The asynchronous iteration as the field usually writes it, for the library to be compared with.

Worker processes transform one PIL image at a time (the benchmarks' `loading`); classifiers and prototypes are lists
in Python loops; the mask is a one-hot matrix made on the CPU; the second forward is a whole one. It is written with
care, no slower than this style has to be, and computes the same numbers as the library; the benchmarks check that
before they time anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer

from sa_lab.config import LossConfig, TrainConfig
from sa_lab.model import TwoStreamNet
from sa_lab.training.loop import Training

PlainFeatures = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""What `PlainNet` says of a batch: P part features (B,D), P embeddings (B,D), P identity logits (B,C)."""


class PlainNet(nn.Module):
    """Two stems and a trunk, a BN neck and a linear classifier for each part, in the default memory format.

    Args:
        net: whose weights to start from; they are copied.
    """

    def __init__(self, net: TwoStreamNet) -> None:
        super().__init__()
        parts, identities, channels = net.classifier.shape
        self.visible_stem, self.infrared_stem = deepcopy(net.stems[0]), deepcopy(net.stems[1])
        self.trunk = deepcopy(net.trunk)
        self.necks, self.classifiers = nn.ModuleList(), nn.ModuleList()
        for weight, rows in zip(net.neck.norm.weight.view(parts, channels), net.classifier, strict=True):
            neck, classifier = nn.BatchNorm1d(channels), nn.Linear(channels, identities, bias=False)
            neck.bias.requires_grad_(False)
            neck.weight.data.copy_(weight.detach())
            classifier.weight.data.copy_(rows.detach())
            self.necks.append(neck)
            self.classifiers.append(classifier)
        self.to(net.classifier.device).to(memory_format=torch.contiguous_format)

    def forward(self, visible: Tensor | None, infrared: Tensor | None) -> PlainFeatures:
        """Normalised images (.,3,H,W) of one spectrum or both; in the output visible ones come first."""
        streams = [] if visible is None else [self.visible_stem(visible)]
        streams += [] if infrared is None else [self.infrared_stem(infrared)]
        maps = self.trunk(torch.cat(streams))
        pooled = functional.adaptive_avg_pool2d(maps, (len(self.necks), 1))
        parts = list(pooled.squeeze(3).unbind(2))
        embeddings = [neck(part) for neck, part in zip(self.necks, parts, strict=True)]
        logits = [classify(one) for classify, one in zip(self.classifiers, embeddings, strict=True)]
        return parts, embeddings, logits


@dataclass
class PlainTraining:
    """What the plain iteration changes.

    Attributes:
        net: the network.
        prototypes: P parameters (2C,D), visible half first.
        feature_optimizer: steps the network.
        prototype_optimizer: steps the prototypes.
        loss: weights of the objective.
        bfloat16: whether forward passes and losses run under autocast.
    """

    net: PlainNet
    prototypes: list[nn.Parameter]
    feature_optimizer: Optimizer
    prototype_optimizer: Optimizer
    loss: LossConfig
    bfloat16: bool


def training_of(training: Training) -> PlainTraining:
    """The plain way from the same weights, with the same dials and torch's default optimisers."""
    net, train = PlainNet(training.network), training.config.train
    prototypes = [nn.Parameter(part.detach().clone()) for part in training.criterion.prototypes]
    backbone = [*net.visible_stem.parameters(), *net.infrared_stem.parameters(), *net.trunk.parameters()]
    head = [p for p in (*net.necks.parameters(), *net.classifiers.parameters()) if p.requires_grad]
    network_groups: list[dict[str, object]] = [
        {"params": backbone, "lr": train.backbone_lr}, {"params": head, "lr": train.head_lr}
    ]  # fmt: skip
    return PlainTraining(
        net, prototypes, _optimizer(network_groups, train),
        _optimizer([{"params": prototypes, "lr": train.prototype_lr}], train),
        training.config.loss, train.precision == "bf16-mixed",
    )  # fmt: skip


def _optimizer(groups: list[dict[str, object]], train: TrainConfig) -> Optimizer:
    if train.optimizer == "sgd":
        return SGD(groups, lr=train.head_lr, momentum=0.9, nesterov=True, weight_decay=train.weight_decay)
    return AdamW(groups, weight_decay=train.weight_decay)


def one_hot_mask(own: Int[Tensor, " B"], rows: int, mask_value: float) -> Float[Tensor, "B R"]:
    """The Feature Mask as a matrix on the device of ``own``: ``mask_value`` at each sample's own prototype, else 0."""
    return torch.zeros(len(own), rows, device=own.device).scatter_(1, own[:, None], mask_value)


def feature_terms(
    embeddings: Sequence[Tensor],
    logits: Sequence[Tensor],
    prototypes: Sequence[Tensor],
    labels: Int[Tensor, " B"],
    cross: Int[Tensor, " B"],
    mask: Float[Tensor, "B R"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
    """(L_id, L_sa, L_as), part by part, the prototypes held fixed.

    Args:
        embeddings, logits, prototypes: P of (B,D), (B,C) and (2C,D).
        labels: identity in 0..C-1.
        cross: row of the prototype of the same identity in the other spectrum.
        mask: see `one_hot_mask`.
    """
    identity, sa_softmax, absolute = torch.zeros(3, device=labels.device).unbind()
    for embedding, scores, part in zip(embeddings, logits, prototypes, strict=True):
        rows = part.detach()
        identity = identity + functional.cross_entropy(scores, labels)
        sa_softmax = sa_softmax + functional.cross_entropy(functional.linear(embedding, rows) - mask, cross)
        cosine = functional.cosine_similarity(embedding, rows[cross])
        absolute = absolute + (1 - cosine).square().mean()
    return identity, sa_softmax, absolute


def prototype_term(
    embeddings: Sequence[Tensor], prototypes: Sequence[Tensor], own: Int[Tensor, " B"]
) -> Float[Tensor, ""]:
    """L_p, part by part; arguments as of `feature_terms`, ``own`` the row of the sample's own prototype."""
    pairs = zip(embeddings, prototypes, strict=True)
    return torch.stack([functional.cross_entropy(functional.linear(e, rows), own) for e, rows in pairs]).sum()


def plain_iteration(
    plain: PlainTraining, images: Float[Tensor, "B 3 H W"], labels: Int[Tensor, " B"], modality: Int[Tensor, " B"]
) -> dict[str, float]:
    """One asynchronous iteration: the network on L, a second forward, the prototypes on L_p.

    Source: Tan et al., arXiv:2302.01512.

    Args:
        plain: changed in place.
        images: normalised, on the CPU as the loader gives them; as many of each spectrum, visible ones first.
        labels: identity in 0..C-1, on the CPU.
        modality: 0 visible, 1 infrared, on the CPU.

    Returns:
        The unweighted terms, their total and the prototype loss, in nats, summed over the parts.
    """
    net, loss, device = plain.net, plain.loss, plain.prototypes[0].device
    count = len(plain.prototypes[0]) // 2
    own, cross = labels + modality * count, labels + (1 - modality) * count
    mask = one_hot_mask(own, 2 * count, loss.mask_value)
    visible, infrared = images.to(device, non_blocking=True).chunk(2)
    labels, own, cross, mask = (value.to(device, non_blocking=True) for value in (labels, own, cross, mask))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=plain.bfloat16)
    net.train()
    with autocast:
        _, embeddings, logits = net(visible, infrared)
        identity, sa_softmax, absolute = feature_terms(embeddings, logits, plain.prototypes, labels, cross, mask)
        total = (1 - loss.sas_weight) * identity + loss.sas_weight * sa_softmax + loss.similarity_weight * absolute
    plain.feature_optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    plain.feature_optimizer.step()
    with torch.no_grad(), autocast:
        _, embeddings, _ = net(visible, infrared)
    with autocast:
        prototype = prototype_term(embeddings, plain.prototypes, own)
    plain.prototype_optimizer.zero_grad()
    prototype.backward()  # type: ignore[no-untyped-call]
    plain.prototype_optimizer.step()
    terms = {"identity": identity, "sa_softmax": sa_softmax, "absolute": absolute, "total": total}
    return {name: float(value.detach()) for name, value in {**terms, "prototype": prototype}.items()}
