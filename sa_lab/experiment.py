"""One run from images to report: a folder that is trained once and reused ever after."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sa_lab import __version__, evaluation, train
from sa_lab.config import DataConfig, ExperimentConfig, home
from sa_lab.data import prepare
from sa_lab.data.store import ImageStore
from sa_lab.model import TwoStreamNet
from sa_lab.protocols import INFRARED_TO_VISIBLE, SYSU_ALL, Protocol
from sa_lab.schema import Embeddings


@dataclass(frozen=True)
class Run:
    """A folder: config.json, metrics.csv, model.pt, embeddings.npz, training_embeddings.npz, report.json, queries.csv.

    Until it is finished there is also checkpoint.pt, from which it goes on.
    """

    folder: Path

    @property
    def config(self) -> ExperimentConfig:
        """The dials."""
        return ExperimentConfig.load(self.folder / "config.json")

    @property
    def embeddings(self) -> Embeddings:
        """Descriptors of the test identities, with the prototypes."""
        return Embeddings.load(self.folder / "embeddings.npz")

    @property
    def training_embeddings(self) -> Embeddings:
        """Descriptors of the first training identities (up to 600 images), with all prototypes."""
        return Embeddings.load(self.folder / "training_embeddings.npz")

    def metrics(self) -> dict[str, np.ndarray]:
        """Columns of metrics.csv; NaN where a row has no value."""
        with (self.folder / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {key: np.array([float(row[key]) if row[key] else np.nan for row in rows]) for key in rows[0]}


def run_folder(config: ExperimentConfig) -> Path:
    """Where the run of this config and this version of the library lives."""
    return (
        home()
        / "runs"
        / f"{config.data.dataset}-{loss_name(config)}-seed{config.seed}-{config.digest()}-v{__version__}"
    )


def loss_name(config: ExperimentConfig) -> str:
    """What a reader calls this loss."""
    loss = config.loss
    if loss.sas_weight == 0 and loss.similarity_weight == 0:
        return "softmax"
    return "sa_softmax" + ("" if loss.mask_value else "_no_mask") + ("" if loss.similarity_weight else "_no_absolute")


def protocol_of(data: DataConfig) -> Protocol:
    """The rules that belong to a data set: SYSU's all-search where there are six cameras, else plain."""
    return SYSU_ALL if data.dataset == "synthetic" else INFRARED_TO_VISIBLE


def run(
    config: ExperimentConfig,
    folder: Path | None = None,
    watch: Callable[[train.Row], None] | None = None,
    progress: bool = True,
) -> Run:
    """Train, embed and evaluate; whatever of it a former call finished is reused.

    Args:
        config: the dials.
        folder: of the run; by default `run_folder`.
        watch: called with every row of the training.
        progress: show bars.

    Raises:
        DataError, WeightsError, NonFiniteLossError: see `prepare`, `build_model` and `fit`.
        ValueError: ``folder`` holds the run of another config.
    """
    folder = folder or run_folder(config)
    result = Run(folder)
    if (folder / "config.json").is_file() and result.config != config:
        raise ValueError(f"{folder} holds the run of another config; choose another folder")
    if (folder / "report.json").is_file():
        return result
    store = prepare(config.data, progress)
    training = train.fit(config, store, folder, validator(config, store), watch, progress)
    model, prototypes, train_ids = load_model(folder)
    device = training.fabric.device
    model.to(device, torch.float64 if config.train.precision == "64-true" else torch.float32)
    parts = {"embeddings": np.flatnonzero(~store.is_train), "training_embeddings": _first_people(store, train_ids, 600)}
    for name, index in parts.items():
        embeddings = evaluation.embed(model, store, index, device, prototypes, train_ids, progress=progress)
        embeddings.save(folder / f"{name}.npz")
    evaluation.evaluate(result.embeddings, protocol_of(config.data)).save(folder)
    (folder / "checkpoint.pt").unlink()
    return result


def validator(config: ExperimentConfig, store: ImageStore) -> train.Validate | None:
    """Rank-1 and mAP on the validation identities, or None where there are none."""
    _, held = train.split_identities(store, config.data.validation_fraction, config.data.seed)
    index = np.flatnonzero(np.isin(store.person_ids, held))
    protocol = protocol_of(config.data)

    def validate(model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        report = evaluation.evaluate(evaluation.embed(model, store, index, device, progress=False), protocol, draws=1)
        return {"rank_1": report.measures["rank_1"].mean, "mean_ap": report.measures["mean_ap"].mean}

    return validate if len(held) else None


def load_model(folder: Path) -> tuple[TwoStreamNet, torch.Tensor, np.ndarray]:
    """Network, prototypes (P,2C,D) and training identities (C,) of a run.

    Raises:
        FileNotFoundError: the run was not trained to its end.
    """
    config = ExperimentConfig.load(folder / "config.json")
    state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
    train_ids = state["train_ids"].numpy()
    model = TwoStreamNet(len(train_ids), config.model.backbone, config.model.num_parts)
    model.load_state_dict(state["model"])
    return model, state["prototypes"], train_ids


def _first_people(store: ImageStore, train_ids: np.ndarray, most: int) -> np.ndarray:
    """All images of the first training identities, as many identities as ``most`` images hold, at least one."""
    counts = np.array([int((store.person_ids == person).sum()) for person in train_ids])
    people = train_ids[: max(1, int((counts.cumsum() <= most).sum()))]
    return np.flatnonzero(np.isin(store.person_ids, people))
