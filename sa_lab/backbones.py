"""Backbones, cut in two: a separate stem for each spectrum, and the trunk that both share.

Source: Tan et al., arXiv:2302.01512, and its reference program, for ResNets; the same cut of other networks is ours.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, cast

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from sa_lab.dials import few
from sa_lab.disk import reason_of
from sa_lab.provenance import function_in
from sa_lab.schema import Refusal
from sa_lab.weights import WeightsError

_STEMS = (("conv1", "bn1", "act1", "maxpool"), ("stem",), ("patch_embed",), ("conv_stem", "bn1"))
"""What comes first in networks of timm: ResNets, ConvNeXts, vision transformers, EfficientNets."""
_HEADS = ("fc", "classifier", "head", "head_drop", "fc_norm")
"""What comes last in classification networks; none of it is used."""


class BackboneError(Refusal):
    """A network is not available, or cannot be cut in two; the message gives the reason."""


class Streams(NamedTuple):
    """A network for two spectra.

    Attributes:
        stems: two modules, indexed by `Modality`; images (B,3,H,W) go in.
        trunk: what both share; it gives a map (B,D,h,w).
        num_channels: D.
    """

    stems: nn.ModuleList
    trunk: nn.Module
    num_channels: int


def two_streams(backbone: str, state: Mapping[str, Tensor] | None = None) -> Streams:
    """A backbone with two stems.

    Args:
        backbone: a name of torchvision, ``timm/NAME``, or ``FILE.py:FUNCTION`` for a function without arguments that
            gives a module with ``stems``, ``trunk`` and ``num_channels``, as in `Streams`. The last stride of ResNets
            and MobileNetV2 is set to 1; the others keep theirs. For vision transformers the map is the grid of patches.
        state: weights of the whole network by name, for both stems alike; the classification head is left out. By
            default weights are drawn at random, first for the visible stem and the trunk.

    Raises:
        BackboneError: there is no such network, or it cannot be cut like this.
        WeightsError: names or shapes of ``state`` that do not fit.
    """
    if ".py:" in backbone:
        return _own_streams(backbone, state)
    stem, trunk, channels = _cut(_loaded(backbone, state), backbone)
    other = _cut(_loaded(backbone, state), backbone)[0]
    return Streams(nn.ModuleList([stem, other]), trunk, channels)


def _loaded(backbone: str, state: Mapping[str, Tensor] | None) -> nn.Module:
    """The whole network, with the weights of ``state``."""
    network = _timm(backbone) if backbone.startswith("timm/") else _torchvision(backbone)
    if state is not None:
        _fill(network, state, backbone)
    return network


def _fill(network: nn.Module, state: Mapping[str, Tensor], backbone: str) -> None:
    """Load weights by name, but for the heads.

    Raises:
        WeightsError: names or shapes that do not fit.
    """
    if told := fill(network, state, _HEADS):
        raise WeightsError(f"the weights do not fit {backbone}: {told}")


def fill(network: nn.Module, state: Mapping[str, Tensor], but: Sequence[str]) -> str:
    """Load weights by name if all of them fit.

    Args:
        network: changed in place.
        state: weights by name.
        but: first words of names that are left out on both sides.

    Returns:
        The names and shapes that do not fit, in which case nothing was loaded; otherwise an empty text.
    """
    given, wanted = (
        {name: one for name, one in weights.items() if name.partition(".")[0] not in but}
        for weights in (state, network.state_dict())
    )
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {tuple(given[name].shape)}, expected {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    if told := "; ".join(f"{what} {few(names)}" for what, names in found if names):
        return told
    network.load_state_dict(given, strict=False)
    return ""


def _cut(network: nn.Module, backbone: str) -> tuple[nn.Module, nn.Module, int]:
    """(stem, trunk, channels) of a whole network."""
    if backbone.startswith("timm/"):
        return _cut_timm(network, backbone)
    return _cut_mobilenet(network) if backbone == "mobilenet_v2" else _cut_resnet(network)


def _torchvision(backbone: str) -> nn.Module:
    builder: Callable[..., nn.Module] = getattr(torchvision.models, backbone)
    return builder(weights=None)


def _cut_resnet(network: nn.Module) -> tuple[nn.Module, nn.Module, int]:
    """Of torchvision, the stride of layer4 set to 1."""
    net = cast(Any, network)
    stem = nn.Sequential()
    for name in ("conv1", "bn1", "relu", "maxpool"):
        stem.add_module(name, getattr(net, name))
    trunk = nn.Sequential()
    for name in ("layer1", "layer2", "layer3", "layer4"):
        trunk.add_module(name, getattr(net, name))
    _unstride(net.layer4)
    return stem, trunk, net.fc.in_features


def _cut_mobilenet(network: nn.Module) -> tuple[nn.Module, nn.Module, int]:
    """Of torchvision, the stride of features[14] set to 1."""
    net = cast(Any, network)
    _unstride(net.features[14])
    return net.features[0], net.features[1:], net.last_channel


def _unstride(block: nn.Module) -> None:
    """Let a block keep the size of its map."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d):  # on the way past a block of some ResNets
            module.kernel_size = module.stride = 1


def _timm(backbone: str) -> nn.Module:
    """A network of timm, drawn."""
    if importlib.util.find_spec("timm") is None:
        raise BackboneError(
            f"backbone is {backbone!r}, but the extra `timm` is not installed: pip install 'sa-lab[timm]'"
        )
    import timm

    name = backbone.removeprefix("timm/")
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), 3))
        raise BackboneError(f"backbone is {backbone!r}, which timm does not have{near and f'; it has {near}'}")
    options: dict[str, Any] = {"pretrained": False, "num_classes": 0}
    try:  # a transformer takes images of any size if it is asked to; other networks know no such option
        network: nn.Module = timm.create_model(name, **options, dynamic_img_size=True, dynamic_img_pad=True)
    except TypeError:
        network = timm.create_model(name, **options)
        if hasattr(network, "patch_embed"):
            raise BackboneError(f"{backbone} takes images of one size only; expected one that takes any") from None
    return network


def _cut_timm(network: nn.Module, backbone: str) -> tuple[nn.Module, nn.Module, int]:
    """Of timm: modules of the stem go out of the network, which then begins where they end."""
    net = cast(Any, network)
    names = next((names for names in _STEMS if all(hasattr(net, name) for name in names)), None)
    if names is None:
        known = ", ".join("-".join(one) for one in _STEMS)
        raise BackboneError(f"{backbone} cannot be cut in two: it begins with none of {known}")
    stem = nn.Sequential()
    for name in names:
        stem.add_module(name, getattr(net, name))
        gone: Any = nn.Identity()
        gone.grid_size = getattr(stem[-1], "grid_size", None)  # for which a transformer has learned its positions
        setattr(net, name, gone)
    for name in _HEADS:
        if hasattr(net, name):
            setattr(net, name, nn.Identity())
    if hasattr(net, "layer4"):
        _unstride(net.layer4)
    trunk = _Trunk(net)
    shape = _given(stem.eval(), trunk.eval(), f"{backbone} cannot be cut in two")
    if len(shape) != 4 or shape[1] != net.num_features:
        raise BackboneError(f"{backbone} gives {shape}, expected a map (1, {net.num_features}, h, w)")
    return stem.train(), trunk.train(), net.num_features


def _given(stem: nn.Module, trunk: nn.Module, fault: str) -> tuple[int, ...]:
    """The shape of what comes of an image.

    Raises:
        BackboneError: ``fault``, with the reason: they do not fit an image, or each other.
    """
    try:
        with torch.no_grad():
            return tuple(trunk(stem(torch.zeros(1, 3, 128, 64))).shape)
    except UNFIT as error:
        raise BackboneError(f"{fault}: {reason_of(error)}") from error


UNFIT = (RuntimeError, AssertionError, AttributeError, IndexError, TypeError)
"""What networks raise where images, or their own parts, do not fit."""


class _Trunk(nn.Module):
    """A network of timm behind its stem; of a transformer the tokens of patches come back as a map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, maps: Tensor) -> Float[Tensor, "B D h w"]:
        made: Tensor = cast(Any, self.network).forward_features(maps)
        if made.ndim == 3:  # tokens (B,N,D), first those of no patch
            _, rows, columns, _ = maps.shape
            patches = made[:, made.shape[1] - rows * columns :]
            made = patches.transpose(1, 2).reshape(len(made), -1, rows, columns)
        return made


def _own_streams(backbone: str, state: Mapping[str, Tensor] | None) -> Streams:
    """What the user's function builds."""
    try:
        network = function_in(backbone, "model.backbone")()
    except TypeError as error:
        raise BackboneError(f"{backbone} cannot be called: {error}; expected a function without arguments") from error
    stems, trunk, channels = (getattr(network, name, None) for name in ("stems", "trunk", "num_channels"))
    fits = isinstance(network, nn.Module) and isinstance(trunk, nn.Module) and isinstance(channels, int)
    if not fits or not isinstance(stems, nn.ModuleList) or len(stems) != 2:
        raise BackboneError(
            f"{backbone} gives {type(network).__name__}, expected a module with stems (a ModuleList of two), trunk and "
            "num_channels (a number)"
        )
    if state is not None:
        _fill(network, state, backbone)
    trunk, channels = cast(nn.Module, trunk), cast(int, channels)
    training = network.training
    network.eval()
    for stem in stems:
        shape = _given(stem, trunk, f"{backbone} cannot take an image (1, 3, 128, 64)")
        if len(shape) != 4 or shape[1] != channels:
            raise BackboneError(f"{backbone} gives {shape}, expected a map (1, {channels}, h, w), by its num_channels")
    network.train(training)
    return Streams(stems, trunk, channels)
