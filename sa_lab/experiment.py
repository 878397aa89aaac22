"""One run from images to report: a folder that is trained once and reused ever after."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import nn
from tqdm.auto import tqdm

from sa_lab import __version__
from sa_lab.config import REGDB_SPLITS, DataConfig, ExperimentConfig
from sa_lab.data import list_images, prepare
from sa_lab.data.store import ImageStore, digest_of
from sa_lab.disk import home, write_text
from sa_lab.evaluation.embedding import embed
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.search import evaluate_all
from sa_lab.evaluation.validation import ValidationSet, few_images, first_people
from sa_lab.model import TwoStreamNet
from sa_lab.runs import Run, loss_name
from sa_lab.schema import Listing
from sa_lab.training import processes
from sa_lab.training.fit import fit
from sa_lab.training.learner import LogRow, OwnLoss
from sa_lab.training.loop import Training
from sa_lab.training.own_loss import own_loss_name

_PROBED_PEOPLE, _PROBED_IMAGES = 16, 4
"""Training identities, and as many validation identities, whose descriptors are saved along the training, and images of
each in each spectrum."""


def run_folder(config: ExperimentConfig) -> Path:
    """Where the run of this config, these images and this version of the library lives."""
    return _folder(config, _made_of(list_images(config.data), config.data))


def _folder(config: ExperimentConfig, made_of: dict[str, str]) -> Path:
    split = f"-split{config.data.split}" if config.data.dataset == "regdb" else ""
    name = f"{config.data.dataset}{split}-{loss_name(config)}-seed{config.seed}"
    return home() / "runs" / f"{name}-{config.digest()}-{made_of['data'][:8]}-v{made_of['library']}"


def _made_of(listing: Listing, data: DataConfig) -> dict[str, str]:
    """What a run depends on besides its config: version of the library and hash of the images."""
    return {"library": __version__, "data": digest_of(listing, data.height, data.width)}


def run(
    config: ExperimentConfig,
    folder: Path | None = None,
    watch: Callable[[LogRow], None] | None = None,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    num_processes: int = 1,
) -> Run:
    """Train, embed and evaluate; whatever of it a former call finished is reused.

    Started by torchrun, every process calls this; they share each batch, and the first one writes the run.

    Args:
        config: the dials.
        folder: of the run; by default `run_folder`.
        watch: called with every row of the training.
        progress: show bars.
        own_loss: a loss of your own in place of SA-Softmax's two terms; the config takes on its name.
        num_processes: new processes of this machine that share each batch, on GPUs one each; also from a notebook.
            The run is that of one process, but for rounding, augmentation and batch statistics (`sync_batch_norm`).

    Raises:
        DataError, WeightsError, NonFiniteLossError, LostProcessError: see `prepare`, `build_model` and `fit`.
        ValueError: ``folder`` holds the run of another config, of other images or of another library version; ``watch``
            or ``own_loss`` with new processes, which they cannot reach.
    """
    if own_loss:
        config = replace(config, loss=replace(config.loss, own=own_loss_name(own_loss)))
    if num_processes < 1:
        raise ValueError(f"num_processes is {num_processes}, expected at least 1")
    if num_processes > 1 and (watch or own_loss):
        raise ValueError(f"num_processes is {num_processes}, expected 1 with watch or own_loss; or start with torchrun")
    processes.fabric_of(config.train)  # a device that is not there is told before the images are prepared
    listing = list_images(config.data)
    made_of = _made_of(listing, config.data)
    folder = folder or _folder(config, made_of)
    result = Run(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if num_processes > 1:
        _check_reuse(result, config, made_of)
        if not (folder / "report.json").is_file():
            prepare(config.data, progress, listing, made_of["data"])
            processes.launch(_share, (config, folder, progress), num_processes)
        return result
    first = processes.is_first()
    with FileLock(folder.with_name(f".{folder.name}.lock")) if first else nullcontext():
        if first:
            _check_reuse(result, config, made_of)
        if processes.agree_with_first((folder / "report.json").is_file()):
            return result
        if first:
            write_text(folder / "made_of.json", json.dumps(made_of))
        store = prepare(config.data, progress and first, listing, made_of["data"])
        _make(result, config, store, watch, progress, own_loss)
    processes.agree_with_first()  # has evaluated
    return result


def _share(config: ExperimentConfig, folder: Path, progress: bool) -> None:
    """What each of the new processes does."""
    run(config, folder, progress=progress)


def run_splits(
    config: ExperimentConfig, folder: Path | None = None, progress: bool = True, num_processes: int = 1
) -> list[Run]:
    """RegDB as an experiment of ten trainings, one a split, in ``folder``/split1..10 or folders named after the config.

    Raises:
        ValueError: the data set has one split only.
    """
    if config.data.dataset != "regdb":
        raise ValueError(f"dataset is {config.data.dataset!r}, expected regdb: only it has {REGDB_SPLITS} splits")
    shown = progress and processes.is_first()
    return [
        run(split, folder / f"split{split.data.split}" if folder else None, None, progress, None, num_processes)
        for split in tqdm(of_every_split(config), "splits", unit="split", disable=not shown)
    ]


def of_every_split(config: ExperimentConfig) -> list[ExperimentConfig]:
    """The config on each split of its data set: ten for regdb, itself for any other."""
    if config.data.dataset != "regdb":
        return [config]
    return [replace(config, data=replace(config.data, split=split)) for split in range(1, REGDB_SPLITS + 1)]


def _check_reuse(run: Run, config: ExperimentConfig, made_of: dict[str, str]) -> None:
    """Raise unless the run's folder is empty or holds a run of this config, these images and this library."""
    if (run.folder / "config.json").is_file() and run.config.dials() != config.dials():
        raise ValueError(f"{run.folder} holds the run of another config; choose another folder")
    if (run.folder / "made_of.json").is_file():
        known = json.loads((run.folder / "made_of.json").read_text())
        changed = [name for name, value in made_of.items() if known.get(name) != value]
        if changed:
            raise ValueError(
                f"{run.folder} was made of another {' and another '.join(changed)}; remove it or choose another folder"
            )


def _make(
    run: Run,
    config: ExperimentConfig,
    store: ImageStore,
    watch: Callable[[LogRow], None] | None,
    progress: bool,
    own_loss: OwnLoss | None,
) -> None:
    """Train, embed and evaluate into the run's folder."""
    held = ValidationSet.of(config, store)

    def validate(model: nn.Module) -> dict[str, float]:
        return held.grade(held.embed(model))

    def probe(training: Training) -> None:
        known = training.train_ids
        unseen = np.unique(store.person_ids[held.index])
        index = [few_images(store, people, _PROBED_PEOPLE, _PROBED_IMAGES) for people in (known, unseen)]
        rows = np.flatnonzero(np.isin(known, store.person_ids[index[0]]))
        embed(
            training.network, training.store, np.concatenate(index), training.fabric.device,
            training.criterion.prototypes[:, [*rows, *(rows + len(known))]], known[rows], known, progress=False,
            out=run.folder / "probes" / f"step-{len(training.rows):06}.npz",
        )  # fmt: skip

    training = fit(config, store, run.folder, validate if len(held) else None, watch, progress, own_loss, probe)
    if not processes.is_first():
        return
    model, prototypes, train_ids = load_model(run.folder)
    device, store = training.fabric.device, training.store
    place(model, device, config)
    seen = np.unique(store.person_ids[store.is_train])
    parts = {"training_embeddings": first_people(store, train_ids, 600), "embeddings": np.flatnonzero(~store.is_train)}
    for name, index in parts.items():
        file = run.folder / f"{name}.npz"
        tested = embed(model, store, index, device, prototypes, train_ids, seen, progress=progress, out=file)
    first, *others = evaluate_all(tested, protocols_of(tested.dataset, tested.split, tested.gallery_order is not None))
    for report in others:
        report.save(run.folder, f"-{report.protocol['name']}")
    first.save(run.folder)


def place(model: nn.Module, device: torch.device, config: ExperimentConfig) -> None:
    """Bring a loaded network to the device and precision it was trained in."""
    model.to(device, torch.float64 if config.train.precision == "64-true" else torch.float32)


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
