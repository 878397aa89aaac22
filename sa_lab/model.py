"""TwoStreamNet: two stems, one trunk, part pooling and a BN neck; parts are one tensor dimension.

Source: Tan et al., arXiv:2302.01512, and its reference program; the backbone may be another one, see
`sa_lab.backbones`. Images come in normalised (`sa_lab.transforms.normalize`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sa_lab.backbones import fill, two_streams
from sa_lab.losses import prototype_logits
from sa_lab.weights import WeightsError, backbone_state, state_of_run


class Features(NamedTuple):
    """The network's outputs for a batch.

    Attributes:
        part_features: pooled features before the neck, (B,P,D).
        embeddings: after the neck, (B,P,D); what the losses see.
        identity_logits: f.V of the identity classifier, (B,P,C); (B,P,0) where they were not asked for.
    """

    part_features: Float[Tensor, "B P D"]
    embeddings: Float[Tensor, "B P D"]
    identity_logits: Float[Tensor, "B P C"]


class PartNeck(nn.Module):
    """One batch norm per part and channel, over the batch; the bias stays 0, the weight starts at N(1, 0.01^2)."""

    def __init__(self, num_parts: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_parts * channels)
        self.norm.bias.requires_grad_(False)
        nn.init.normal_(self.norm.weight, 1.0, 0.01)

    def forward(self, part_features: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
        flat: Tensor = self.norm(part_features.flatten(1))
        return flat.view_as(part_features)


class TwoStreamNet(nn.Module):
    """Visible and infrared stems, a shared trunk, P horizontal parts, BN neck and identity classifier.

    Args:
        num_identities: C, rows of the classifier V.
        backbone: as in `sa_lab.backbones.two_streams`.
        num_parts: P.
        state: weights of the whole backbone by name; drawn by default.

    Attributes:
        stems: two modules, indexed by `Modality`.
        trunk: the shared rest of the backbone.
        classifier: V, parameter (P,C,D), drawn from N(0, 0.001^2), no bias.
    """

    def __init__(
        self,
        num_identities: int,
        backbone: str = "resnet50",
        num_parts: int = 12,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.stems, self.trunk, channels = two_streams(backbone, state)
        self.backbone, self.num_parts, self.embedding_dim = backbone, num_parts, channels
        self.neck = PartNeck(num_parts, channels)
        self.classifier = nn.Parameter(torch.randn(num_parts, num_identities, channels) * 0.001)

    def forward(
        self, images: Float[Tensor, "B 3 H W"], modality: Tensor | np.ndarray, classify: bool = True
    ) -> Features:
        """Embed a batch, each image through the stem of its own modality.

        Args:
            images: normalised images.
            modality: 0 visible, 1 infrared, (B,) integers. An array, or a tensor on the CPU, lets a GPU batch be split
                without waiting; an array stays on the CPU with several GPUs, too, where torch sends tensors to each.
            classify: if off, there are no identity logits.

        Raises:
            ValueError: ``modality`` has another length, or holds anything but 0 and 1.
        """
        maps, order = self.maps(images, modality)
        # P horizontal parts: the mean over each band of rows, (B,D,h,w) -> (B,P,D)
        pooled = functional.adaptive_avg_pool2d(maps, (self.num_parts, 1)).squeeze(3).transpose(1, 2)
        part_features = pooled[torch.from_numpy(np.argsort(order)).to(images.device, non_blocking=True)]  # as they came
        # BN neck: what the losses see, (B,P,D); identity logits f.V, (B,P,C)
        embeddings = self.neck(part_features)
        logits = prototype_logits(embeddings, self.classifier) if classify else embeddings[:, :, :0]
        return Features(part_features, embeddings, logits)

    def maps(
        self, images: Float[Tensor, "B 3 H W"], modality: Tensor | np.ndarray
    ) -> tuple[Float[Tensor, "B D h w"], Int[np.ndarray, " B"]]:
        """The trunk's maps of a batch, visible images first, and the place of each in the batch; as `forward`."""
        codes = modality.cpu().numpy() if isinstance(modality, Tensor) else modality
        if codes.shape != images.shape[:1] or not np.isin(codes, (0, 1)).all():
            raise ValueError(f"modality is {codes.tolist()}, expected 0 or 1 for each of {len(images)} images")
        order, num_visible = np.argsort(codes, kind="stable"), int((codes == 0).sum())
        # each image through the stem of its own spectrum, visible ones first: (B,3,H,W) -> (B,C,H/4,W/4) in a ResNet
        sorted_images = images[torch.from_numpy(order).to(images.device, non_blocking=True)]
        halves = (sorted_images[:num_visible], sorted_images[num_visible:])
        stems = [stem(half) for stem, half in zip(self.stems, halves, strict=True) if len(half)]
        # the shared trunk: (B,D,h,w)
        return self.trunk(torch.cat(stems)), order

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of stems and trunk."""
        return [*self.stems.parameters(), *self.trunk.parameters()]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of neck and classifier."""
        return [*(p for p in self.neck.parameters() if p.requires_grad), self.classifier]


def build_model(num_identities: int, backbone: str, num_parts: int, weights: str, seed: int) -> TwoStreamNet:
    """A `TwoStreamNet` with its start decided by ``seed`` and ``weights``; the global random state is left alone.

    Convolutions are laid out channels-last, which makes depthwise ones much faster on a CPU, and all of them on a GPU.
    A run's model.pt brings both stems and the trunk and, if there are as many parts, the neck.

    Raises:
        BackboneError, WeightsError: network or weights are not available; it never silently starts at random.
    """
    run = state_of_run(weights)
    state = None if run or weights == "random" else backbone_state(backbone, weights)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = TwoStreamNet(num_identities, backbone, num_parts, state)
    if run:
        _start_from(model, run["model"], weights)
    return model.to(memory_format=torch.channels_last)


def _start_from(model: TwoStreamNet, state: Mapping[str, Tensor], weights: str) -> None:
    """Take what another network has learned, but for its classes."""
    like = state["neck.norm.weight"].shape == model.neck.norm.weight.shape
    if told := fill(model, state, ("classifier",) if like else ("classifier", "neck")):
        raise WeightsError(f"{weights} is of another network than {model.backbone}: {told}")
