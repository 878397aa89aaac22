"""Checkpoints of the reference program: read into our network, applied to test images, and written from our network.

The program writes two files, ``NAME.t`` with the network and ``NAME_add.t`` with the prototypes, each under the key
``net``; it tests with the first alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa_lab.data.store import ImageStore
from sa_lab.disk import reason_of
from sa_lab.evaluation.embedding import embed
from sa_lab.model import TwoStreamNet
from sa_lab.schema import Embeddings, LeakageError
from sa_lab.weights import WeightsError, load_state, save_state

OTHER_PROGRAMS = {
    "DEEN": ("DEE.", "MFA1."),
    "DDAG": ("wpa.", "attention_0."),
    "AGW": ("bottleneck.", "classifier.weight"),
}
"""Programs of the field whose files look alike, and names in the network of each, the most telling first."""
_STEMS = ("visible_module.visible.", "thermal_module.thermal.")
_TRUNK = "base_resnet.base."


def import_reference(
    net: Mapping[str, Tensor], add_net: Mapping[str, Tensor] | None = None
) -> tuple[TwoStreamNet, Float[Tensor, "P C2 D"] | None]:
    """Our model and the prototypes (P,2C,D) from the states in the two files of a reference checkpoint.

    Number of parts and identities are read off the shapes. Each stem of the reference carries a whole ResNet of which
    only conv1 and bn1 are used; the rest is dropped. Without ``add_net`` there are no prototypes.

    Raises:
        WeightsError: this is the file of the prototypes, or of another program, or keys are missing.
    """
    net = _bare(net)
    _refuse_others(net)
    parts = sum(key.startswith("classifier.classifier_") and key.endswith(".classifier.weight") for key in net)
    try:
        rows = [net[_classifier(p)] for p in range(max(1, parts))]
        model = TwoStreamNet(len(rows[0]), "resnet50", parts)
        state = {"classifier": torch.stack(rows)}
        for key in model.state_dict():
            if key.startswith("neck."):
                columns = [net[name] for name in _neck(key, parts)]
                state[key] = columns[0] if columns[0].ndim == 0 else torch.cat(columns)
            elif key != "classifier":
                state[key] = net[_their_name(key)]
        model.load_state_dict(state)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"this is no checkpoint of the reference: {error} is missing") from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(f"this is no checkpoint of the reference: {reason_of(error)}") from error
    return model, None if add_net is None else _prototypes(_bare(add_net), parts)


def export_reference(
    model: TwoStreamNet, prototypes: Float[Tensor, "P C2 D"] | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The states that go into the reference's two files: the reverse of `import_reference`.

    What the reference carries along and does not use is filled with copies.

    Raises:
        ValueError: the backbone is none of the ResNets with bottlenecks, which the reference is made of.
    """
    if model.backbone not in ("resnet50", "resnet101"):
        raise ValueError(
            f"backbone is {model.backbone!r}, expected resnet50 or resnet101, the reference's; onnx and torch take any"
        )
    state, parts = model.state_dict(), model.num_parts
    net: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("neck."):
            split = value.expand(parts) if value.ndim == 0 else value.view(parts, -1)
            net |= {name: split[p].clone() for p, name in enumerate(_neck(key, parts))}
        elif key.startswith("trunk."):
            net |= {prefix + key.removeprefix("trunk."): value for prefix in (_TRUNK, *_STEMS)}
        elif key.startswith("stems.0."):
            net |= {prefix + key.removeprefix("stems.0."): value for prefix in (_TRUNK, _STEMS[0])}
        elif key != "classifier":
            net[_their_name(key)] = value
    net |= {_classifier(p): rows for p, rows in enumerate(state["classifier"])}
    rows_of = {} if prototypes is None else {f"classifierD_{p}.weight": rows for p, rows in enumerate(prototypes)}
    return net, rows_of


def write_reference(path: Path, model: TwoStreamNet, prototypes: Float[Tensor, "P C2 D"]) -> None:
    """Write ``NAME.t`` and, beside it, ``NAME_add.t``, as the reference does; errors as in `export_reference`."""
    net, add_net = export_reference(model, prototypes)
    save_state(_beside(path), {"net": add_net})
    save_state(path, {"net": net})


def embed_reference(checkpoint: Path, store: ImageStore, device: torch.device, out: Path) -> Embeddings:
    """Descriptors of the test identities by a checkpoint of the reference program, written to ``out``.

    All training identities of ``store`` count as seen. Prototypes are included if their file lies beside it, for
    SYSU-MM01 and folders of images, where the reference numbers classes by ascending identity; RegDB and LLCM number
    them in their own lists.

    Args:
        checkpoint: ``NAME.t``; the prototypes are in ``NAME_add.t``.
        store: the images.
        device: where to compute.
        out: the .npz file.

    Raises:
        WeightsError: the file is no such checkpoint; those of AGW, DDAG and DEEN are named.
        LeakageError: it was trained on another number of identities than the data set's training part has, so on
            another data set or another part of it, and may have seen the test identities.
    """
    beside = _beside(checkpoint)
    try:
        model, prototypes = import_reference(_net_of(checkpoint), _net_of(beside) if beside.is_file() else None)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint}: {str(error).replace(f'{checkpoint} ', '')}") from error
    train_ids, count = np.unique(store.person_ids[store.is_train]), model.classifier.shape[1]
    if count != len(train_ids):
        raise LeakageError(
            f"{checkpoint} was trained on {count} identities, but {store.name} has {len(train_ids)} "
            "training identities; expected a checkpoint of this very training part"
        )
    index = np.flatnonzero(~store.is_train)
    own = None if store.name.startswith(("regdb", "llcm")) else prototypes
    return embed(model.to(device), store, index, device, own, None if own is None else train_ids, train_ids, out=out)


def _net_of(file: Path) -> Mapping[str, Tensor]:
    """What a file of these programs holds under ``net``."""
    with file.open("rb") as opened:
        if opened.read(6) == b"MATLAB":
            raise WeightsError("this is a MATLAB file, no checkpoint; " + _BY_DESCRIPTORS)
    with torch.serialization.safe_globals(_PLAIN_VALUES):  # the programs save their last mAP and options besides
        state = load_state(file)
    net = state.get("net", state.get("state_dict", state)) if isinstance(state, Mapping) else None
    if not isinstance(net, Mapping) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in net.items()):
        raise WeightsError("this is no checkpoint of the reference program: it holds no network under the key net")
    return net


_BY_DESCRIPTORS = (
    "write what it says of each image to an .npz with features, person_ids, camera_ids, modality and paths "
    "(sa_lab.schema.Embeddings.load), and evaluate that"
)


def _refuse_others(net: Mapping[str, Tensor]) -> None:
    """Raise if the names are those of the prototypes' file, or of another program's network."""
    if any(key.startswith("classifierD_") for key in net):
        raise WeightsError("this file holds the prototypes alone; give NAME.t, beside which NAME_add.t is found")
    for program, names in OTHER_PROGRAMS.items():
        if any(key.startswith(names) for key in net) and "classifier.classifier_0.classifier.weight" not in net:
            raise WeightsError(f"this is a checkpoint of {program}'s program, another network; {_BY_DESCRIPTORS}")


def _prototypes(add_net: Mapping[str, Tensor], parts: int) -> Float[Tensor, "P C2 D"]:
    try:
        return torch.stack([add_net[f"classifierD_{p}.weight"] for p in range(parts)])
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"the file of the prototypes does not fit that of the network: {error}") from error


def _beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}_add{checkpoint.suffix}")


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


def _classifier(part: int) -> str:
    return f"classifier.classifier_{part}.classifier.weight"


def _neck(key: str, parts: int) -> list[str]:
    """Their names, a part each, of one of our neck's values."""
    return [f"classifier.classifier_{p}.bottleneck.{key.removeprefix('neck.norm.')}" for p in range(parts)]


def _their_name(key: str) -> str:
    """Of a value of our stems or trunk."""
    if key.startswith("stems."):
        _, index, rest = key.split(".", 2)
        return _STEMS[int(index)] + rest
    return _TRUNK + key.removeprefix("trunk.")


_PLAIN_VALUES: list[Any] = [
    argparse.Namespace, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "b1")},
    *(
        (value.__reduce__()[0], f"{module}.multiarray.{name}")
        for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(1)))
        for module in ("numpy.core", "numpy._core")  # before and since numpy 2
    ),
]  # fmt: skip
