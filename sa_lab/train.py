"""Asynchronous training: a feature step, a prototype step, and `fit`, which repeats them and can be stopped.

Source of the scheme: Tan et al., arXiv:2302.01512. Deviation: a warm-up, in which the network follows the identity
loss alone while the prototypes already learn, because fresh prototypes have no direction to offer.
"""

from __future__ import annotations

import csv
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm.auto import tqdm

from sa_lab import transforms
from sa_lab.config import ExperimentConfig, LossConfig, TrainConfig
from sa_lab.data.store import ImageStore
from sa_lab.losses import SASoftmaxLoss, identity_loss
from sa_lab.model import Features, TwoStreamNet, build_model
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.schema import atomic_path

Row = dict[str, float]
Validate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Batch:
    """Normalised images with the label in 0..C-1 and the modality of each."""

    images: Float[Tensor, "B 3 H W"]
    labels: Int[Tensor, " B"]
    modality: Int[Tensor, " B"]


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; no weight follows it.

    Attributes:
        batch: what it was computed on.
    """

    def __init__(self, message: str, batch: Batch) -> None:
        super().__init__(message)
        self.batch = batch


@dataclass
class Training:
    """All that changes while a run trains, and nothing else.

    Attributes:
        config: the dials.
        fabric: device and precision.
        model: the network, set up by ``fabric``.
        criterion: the loss with its prototypes.
        feature_optimizer: steps the network.
        prototype_optimizer: steps the prototypes.
        sampler: position in the data.
        generator: randomness of the augmentation.
        store: the images.
        train_ids: raw identity of each label, ascending.
        train_index: rows of the store that are trained on.
        rows: what was logged, one row a step.
    """

    config: ExperimentConfig
    fabric: Fabric
    model: nn.Module
    criterion: SASoftmaxLoss
    feature_optimizer: Optimizer
    prototype_optimizer: Optimizer
    sampler: CrossModalityIdentitySampler
    generator: Generator
    store: ImageStore
    train_ids: Int[np.ndarray, " C"]
    train_index: Int[np.ndarray, " M"]
    rows: list[Row] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Iterations of the whole run."""
        return self.config.train.num_epochs * len(self.sampler)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on as if it had never stopped."""
        return {
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "prototypes": self.criterion.prototypes.detach(),
            "feature_optimizer": self.feature_optimizer.state_dict(),
            "prototype_optimizer": self.prototype_optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "generator": self.generator.get_state(),
            "train_ids": torch.from_numpy(self.train_ids),
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken.

        Raises:
            ValueError: the state belongs to another config or other identities.
        """
        mine = asdict(self.config)
        if state["config"] != mine:
            wrong = [f"{k}: {state['config'].get(k)} here {v}" for k, v in mine.items() if state["config"].get(k) != v]
            raise ValueError("the checkpoint belongs to another config; " + "; ".join(wrong))
        if state["train_ids"].tolist() != self.train_ids.tolist():
            raise ValueError(f"the checkpoint was trained on {len(state['train_ids'])} other identities than these")
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            self.criterion.prototypes.copy_(state["prototypes"])
        self.feature_optimizer.load_state_dict(state["feature_optimizer"])
        self.prototype_optimizer.load_state_dict(state["prototype_optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.generator.set_state(state["generator"].cpu())
        self.rows = list(state["rows"])


def split_identities(store: ImageStore, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation identities, both ascending; groups (scenes) are never torn apart.

    Args:
        store: its ``is_train`` identities are divided; test identities are in neither part.
        fraction: share of the groups held back for validation, 0 for none.
        seed: seed of the draw.
    """
    train = store.is_train
    groups = np.unique(store.group_ids[train])
    held = np.random.default_rng(seed).permutation(groups)[: round(fraction * len(groups))]
    is_held = np.isin(store.group_ids, held)
    return np.unique(store.person_ids[train & ~is_held]), np.unique(store.person_ids[train & is_held])


def fabric_of(train: TrainConfig) -> Fabric:
    """The engine for the config's device and precision."""
    if train.threads:
        torch.set_num_threads(train.threads)
    return Fabric(accelerator=train.device, devices=1, precision=train.precision)


def start(config: ExperimentConfig, store: ImageStore) -> Training:
    """A training at step 0: network, prototypes, optimisers, sampler and generator, all decided by the config."""
    fabric = fabric_of(config.train)
    train_ids, _ = split_identities(store, config.data.validation_fraction, config.data.seed)
    train_index = np.flatnonzero(np.isin(store.person_ids, train_ids))
    network = build_model(
        len(train_ids), config.model.backbone, config.model.num_parts, config.model.weights, config.seed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        criterion = SASoftmaxLoss(
            len(train_ids), network.embedding_dim, network.num_parts,
            config.loss.sas_weight, config.loss.similarity_weight, config.loss.mask_value,
        )  # fmt: skip
    criterion = criterion.to(fabric.device, torch.float64 if config.train.precision == "64-true" else torch.float32)
    model, feature_optimizer = fabric.setup(network, _feature_optimizer(network, config.train))
    prototypes: Any = _optimizer([{"params": [criterion.prototypes], "lr": config.train.prototype_lr}], config.train)
    prototype_optimizer: Any = fabric.setup_optimizers(prototypes)
    sampler = CrossModalityIdentitySampler(
        store.person_ids[train_index], store.modality[train_index], config.train.ids_per_batch,
        config.train.images_per_id, config.seed, config.train.steps_per_epoch,
    )  # fmt: skip
    return Training(
        config, fabric, model, criterion, feature_optimizer, prototype_optimizer, sampler,
        Generator(fabric.device).manual_seed(config.seed), store.on(fabric.device), train_ids, train_index,
    )  # fmt: skip


def _feature_optimizer(network: TwoStreamNet, train: TrainConfig) -> Optimizer:
    return _optimizer(
        [
            {"params": network.backbone_parameters(), "lr": train.backbone_lr},
            {"params": network.head_parameters(), "lr": train.head_lr},
        ],
        train,
    )


def _optimizer(groups: list[dict[str, Any]], train: TrainConfig) -> Optimizer:
    groups = [{**group, "base_lr": group["lr"]} for group in groups]
    if train.optimizer == "sgd":
        return SGD(groups, momentum=0.9, nesterov=True, weight_decay=train.weight_decay)
    return AdamW(groups, weight_decay=train.weight_decay)


def draw_batch(training: Training, index: Int[np.ndarray, " B"]) -> Batch:
    """Gather, augment and normalise the images at ``index`` (positions within ``train_index``)."""
    rows = training.train_index[index]
    modality = torch.from_numpy(training.store.modality[rows].astype(np.int64))
    labels = torch.from_numpy(np.searchsorted(training.train_ids, training.store.person_ids[rows]))
    dtype = torch.float64 if training.config.train.precision == "64-true" else torch.float32
    images = transforms.to_float(training.store.gather(torch.from_numpy(rows)).to(training.fabric.device), dtype)
    images = transforms.augment(images, modality, training.config.train.augmentation, training.generator)
    return Batch(transforms.normalize(images), labels.to(training.fabric.device), modality)


def _forward(training: Training, batch: Batch) -> Features:
    """The network on a batch; Fabric would hand the output of a double-precision network back in single."""
    double = training.config.train.precision == "64-true"
    network = cast(nn.Module, training.model.module) if double else training.model
    features: Features = network(batch.images, batch.modality)
    return features


def feature_step(training: Training, batch: Batch, loss: LossConfig) -> Row:
    """Step the network on L = (1-w_sas) L_id + w_sas L_sa + w_as L_as, the prototypes held fixed.

    Returns:
        The unweighted terms and the total.

    Raises:
        NonFiniteLossError: before any weight has changed.
    """
    training.model.train()
    features = _forward(training, batch)
    modality = batch.modality.to(batch.labels.device)
    training.criterion.mask_value = loss.mask_value
    identity = identity_loss(features.identity_logits, batch.labels)
    sa_softmax, absolute = training.criterion.feature_terms(features.embeddings, batch.labels, modality)
    weights = (1 - loss.sas_weight, loss.sas_weight, loss.similarity_weight)
    terms = (identity, sa_softmax, absolute)
    total = torch.stack([weight * term for weight, term in zip(weights, terms, strict=True) if weight]).sum()
    values = torch.stack([*terms, total]).detach().tolist()
    row = dict(zip(("identity", "sa_softmax", "absolute", "total"), values, strict=True))
    if not math.isfinite(row["total"]):
        raise NonFiniteLossError(f"the feature loss is not finite: {row}", batch)
    training.feature_optimizer.zero_grad()
    training.fabric.backward(total)
    training.feature_optimizer.step()
    return row


def prototype_step(training: Training, batch: Batch) -> Row:
    """Step the prototypes on L_p of a second forward, without gradient but in training mode, the network held fixed."""
    with torch.no_grad():
        embeddings = _forward(training, batch).embeddings
    loss = training.criterion.prototype_loss(embeddings, batch.labels, batch.modality.to(batch.labels.device))
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteLossError(f"the prototype loss is {value}", batch)
    training.prototype_optimizer.zero_grad()
    training.fabric.backward(loss)
    training.prototype_optimizer.step()
    return {"prototype": value}


def iterate(training: Training, loss: Callable[[int], LossConfig] | None = None) -> Iterator[Row]:
    """Train to the end from where ``training`` stands, one row of ``training.rows`` a step.

    Args:
        training: changed in place; between two rows it is whole and may be saved.
        loss: gives the loss weights of a step (from 0); by default the config's.
    """
    while training.sampler.epoch < training.config.train.num_epochs:
        _set_learning_rates(training)
        for index in training.sampler:
            epoch, step = training.sampler.epoch, len(training.rows)
            weights = loss(step) if loss else training.config.loss
            warm = step < weights.warmup_steps
            used = LossConfig(0.0, 0.0, weights.mask_value) if warm else weights
            batch = draw_batch(training, index)
            row = feature_step(training, batch, used) | prototype_step(training, batch)
            training.rows.append(
                {"step": step, "epoch": epoch, **row, "sas_weight": used.sas_weight,
                 "similarity_weight": used.similarity_weight, "mask_value": used.mask_value}
            )  # fmt: skip
            yield training.rows[-1]


def _set_learning_rates(training: Training) -> None:
    """Base rates times 0.1 for each milestone behind us: a function of the epoch alone."""
    passed = sum(training.sampler.epoch >= milestone for milestone in training.config.train.milestones)
    for optimizer in (training.feature_optimizer, training.prototype_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * 0.1**passed


def fit(
    config: ExperimentConfig,
    store: ImageStore,
    run: Path,
    validate: Validate | None = None,
    watch: Callable[[Row], None] | None = None,
    progress: bool = True,
) -> Training:
    """Train in the folder ``run``, going on from its checkpoint where there is one.

    An interrupt waits for the end of the step, saves a checkpoint and is then raised.

    Args:
        config: the dials; saved as config.json.
        store: the images.
        run: gets config.json, metrics.csv, checkpoint.pt (to resume) and model.pt (selected on validation identities;
            the last one where there is no validation).
        validate: gives ``mean_ap`` (and more to log) of a model on the validation identities.
        watch: called with every row, for live curves.
        progress: show a bar.

    Raises:
        NonFiniteLossError: with the batch saved in ``run``.
        ValueError: the checkpoint in ``run`` belongs to another config.
    """
    training = start(config, store)
    checkpoint = run / "checkpoint.pt"
    if checkpoint.is_file():
        training.load_state_dict(torch.load(checkpoint, map_location=training.fabric.device, weights_only=True))
    config.save(run / "config.json")
    total, done = training.num_steps, len(training.rows)
    bar = tqdm(total=total, initial=done, unit="step", desc=f"train {run.name}", disable=not progress)
    best = max((row.get("mean_ap", -1.0) for row in training.rows), default=-1.0)
    with bar, _deferred_interrupt() as interrupted:
        try:
            for row in iterate(training):
                at_epoch_end = (row["step"] + 1) % len(training.sampler) == 0
                last = row["step"] + 1 == total
                if at_epoch_end and validate and _due(int(row["epoch"]), config.train.eval_every, last):
                    row |= validate(training.model)
                if row.get("mean_ap", -1.0) > best or (last and best < 0):
                    best = row.get("mean_ap", -1.0)
                    _save_model(training, run / "model.pt")
                if watch:
                    watch(row)
                bar.update()
                bar.set_postfix(loss=f"{row['total']:.3f}", refresh=False)
                if (
                    interrupted.is_set()
                    or last
                    or (at_epoch_end and _due(int(row["epoch"]), config.train.checkpoint_every))
                ):
                    _save(training, run)
                if interrupted.is_set():
                    raise KeyboardInterrupt(f"stopped after step {int(row['step'])}; the same call goes on from there")
        except NonFiniteLossError as error:
            file = run / f"failed_step_{len(training.rows)}.pt"
            with atomic_path(file) as temporary:
                torch.save(error.batch.__dict__, temporary)
            message = (
                f"step {len(training.rows)}: {error}; the batch is in {file} (torch.load); lower the learning rate?"
            )
            raise NonFiniteLossError(message, error.batch) from error
    return training


def _due(epoch: int, every: int, last: bool = False) -> bool:
    return last or (every > 0 and (epoch + 1) % every == 0)


def _save(training: Training, run: Path) -> None:
    with atomic_path(run / "checkpoint.pt") as temporary:
        torch.save(training.state_dict(), temporary)
    fields = list(dict.fromkeys(key for row in training.rows for key in row))
    with atomic_path(run / "metrics.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(training.rows)


def _save_model(training: Training, path: Path) -> None:
    """What evaluation needs: network, prototypes and the identities they were trained on."""
    state = training.state_dict()
    with atomic_path(path) as temporary:
        torch.save({key: state[key] for key in ("config", "model", "prototypes", "train_ids")}, temporary)


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Turn Ctrl-C into an event that is looked at between two steps; outside the main thread, do nothing."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
