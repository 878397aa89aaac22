"""One run from images to report: a folder that is trained once and reused ever after."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from sa_lab import __version__, evaluation, train
from sa_lab.config import VARIANTS, DataConfig, ExperimentConfig, LossConfig, home, variant
from sa_lab.data import list_images, prepare
from sa_lab.data.store import ImageStore, digest_of, split_identities
from sa_lab.fitting import Validate, fit
from sa_lab.model import TwoStreamNet
from sa_lab.protocols import INFRARED_TO_VISIBLE, SYSU_ALL, Protocol
from sa_lab.schema import Embeddings, atomic_path


@dataclass(frozen=True)
class Run:
    """A folder: config.json, made_of.json (library version and hash of the images), metrics.csv, checkpoint.pt (to go
    on from), model.pt (the selected network), embeddings.npz, training_embeddings.npz, queries.csv and, when it is
    finished, report.json.
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
    """Where the run of this config, these images and this version of the library lives."""
    name = f"{config.data.dataset}-{loss_name(config)}-seed{config.seed}"
    return home() / "runs" / f"{name}-{config.digest()}-{_made_of(config.data)['data'][:8]}-v{__version__}"


def _made_of(data: DataConfig) -> dict[str, str]:
    """What a run depends on besides its config: version of the library and hash of the images."""
    return {"library": __version__, "data": digest_of(list_images(data), data.height, data.width)}


def loss_name(config: ExperimentConfig) -> str:
    """The study's name of the config's loss, or "custom"."""
    for name in VARIANTS:
        default = ExperimentConfig(loss=LossConfig(warmup_steps=config.loss.warmup_steps))
        if variant(default, name).loss == config.loss:
            return name
    return "custom"


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
        ValueError: ``folder`` holds the run of another config, of other images or of another library version.
    """
    folder = folder or run_folder(config)
    result = Run(folder)
    made_of = _made_of(config.data)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        _check_reuse(result, config, made_of)
        if (folder / "report.json").is_file():
            return result
        with atomic_path(folder / "made_of.json") as temporary:
            temporary.write_text(json.dumps(made_of) + "\n")
        _make(result, config, watch, progress)
    return result


def _check_reuse(run: Run, config: ExperimentConfig, made_of: dict[str, str]) -> None:
    """Raise unless the run's folder is empty or holds a run of this config, these images and this library."""
    if (run.folder / "config.json").is_file() and run.config != config:
        raise ValueError(f"{run.folder} holds the run of another config; choose another folder")
    if (run.folder / "made_of.json").is_file():
        known = json.loads((run.folder / "made_of.json").read_text())
        changed = [name for name, value in made_of.items() if known.get(name) != value]
        if changed:
            raise ValueError(
                f"{run.folder} was made of another {' and another '.join(changed)}; remove it or choose another folder"
            )


def _make(run: Run, config: ExperimentConfig, watch: Callable[[train.Row], None] | None, progress: bool) -> None:
    """Train, embed and evaluate into the run's folder."""
    store = prepare(config.data, progress)
    training = fit(config, store, run.folder, validator(config, store), watch, progress)
    model, prototypes, train_ids = load_model(run.folder)
    device, store = training.fabric.device, training.store
    model.to(device, torch.float64 if config.train.precision == "64-true" else torch.float32)
    parts = {
        "training_embeddings": _first_people(store, train_ids, 600),
        "embeddings": np.flatnonzero(~store.is_train),
    }
    for name, index in parts.items():
        embeddings = evaluation.embed(model, store, index, device, prototypes, train_ids, progress=progress)
        embeddings.save(run.folder / f"{name}.npz")
    evaluation.evaluate(run.embeddings, protocol_of(config.data)).save(run.folder)


def validator(config: ExperimentConfig, store: ImageStore) -> Validate | None:
    """Rank-1 and mAP on the validation identities, or None where there are none."""
    _, held = split_identities(store, config.data.validation_fraction, config.data.seed)
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
        FileNotFoundError: no model was selected yet.
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
