"""Checkpoints of the reference program, read into our network and taken to test images."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa_lab.data.store import ImageStore
from sa_lab.evaluation.embedding import embed
from sa_lab.model import TwoStreamNet, WeightsError
from sa_lab.schema import Embeddings, LeakageError


def import_reference(
    net: dict[str, Tensor], add_net: dict[str, Tensor]
) -> tuple[TwoStreamNet, Float[Tensor, "P C2 D"]]:
    """Our model and the prototypes (P,2C,D) from the two states of a published reference checkpoint.

    Number of parts and identities are read off the shapes. Each stem of the reference carries a whole ResNet of which
    only conv1 and bn1 are used; the rest is dropped.

    Raises:
        WeightsError: keys that are missing; all of them are named.
    """
    net = {key.removeprefix("module."): value for key, value in net.items()}
    add_net = {key.removeprefix("module."): value for key, value in add_net.items()}
    parts = sum(key.startswith("classifierD_") for key in add_net)
    try:
        rows = [net[f"classifier.classifier_{p}.classifier.weight"] for p in range(parts)]
        prototypes = torch.stack([add_net[f"classifierD_{p}.weight"] for p in range(parts)])
        model = TwoStreamNet(len(rows[0]), "resnet50", parts)
        state = {"classifier": torch.stack(rows)}
        for key in model.state_dict():
            if key.startswith("stems."):
                _, index, rest = key.split(".", 2)
                name = ("visible", "thermal")[int(index)]
                state[key] = net[f"{name}_module.{name}.{rest}"]
            elif key.startswith("trunk."):
                state[key] = net["base_resnet.base." + key.removeprefix("trunk.")]
            elif key.startswith("neck."):
                field = key.removeprefix("neck.norm.")
                columns = [net[f"classifier.classifier_{p}.bottleneck.{field}"] for p in range(parts)]
                state[key] = columns[0] if field == "num_batches_tracked" else torch.cat(columns)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"this is no checkpoint of the reference: {error} is missing") from error
    model.load_state_dict(state)
    return model, prototypes


def embed_reference(checkpoint: Path, store: ImageStore, device: torch.device, out: Path) -> Embeddings:
    """Descriptors of the test identities by a checkpoint of the reference program, written to ``out``.

    All training identities of ``store`` count as seen. Prototypes come along for SYSU-MM01 and folders of images, whose
    classes the reference numbers by ascending identity; RegDB and LLCM number them in lists of their own.

    Raises:
        WeightsError: the file is no such checkpoint.
        LeakageError: it was trained on another number of identities than the data set's training part has, so on
            another data set or another part of it, and may have seen the test identities.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_VALUES):  # its programs save their last mAP beside the weights
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model, prototypes = import_reference(state["net"], state["add_net"])
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{checkpoint} is no checkpoint of the reference program: {reason}") from error
    train_ids = np.unique(store.person_ids[store.is_train])
    if prototypes.shape[1] != 2 * len(train_ids):
        raise LeakageError(
            f"{checkpoint} was trained on {prototypes.shape[1] // 2} identities, but {store.name} has {len(train_ids)} "
            "training identities; expected a checkpoint of this very training part"
        )
    index = np.flatnonzero(~store.is_train)
    own = None if store.name.startswith(("regdb", "llcm")) else prototypes
    return embed(model.to(device), store, index, device, own, None if own is None else train_ids, train_ids, out=out)


_NUMPY_VALUES: list[Any] = [
    np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "b1")},
    *(
        (value.__reduce__()[0], f"{module}.multiarray.{name}")
        for name, value in (("scalar", np.float64(0)), ("_reconstruct", np.zeros(1)))
        for module in ("numpy.core", "numpy._core")  # before and since numpy 2
    ),
]  # fmt: skip
