"""A training from its start to its end: what it is made of, where it stands, and `iterate`, which repeats the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from lightning_fabric import Fabric
from torch import Generator
from torch.optim import SGD, AdamW, Optimizer

from sa_lab import transforms
from sa_lab.config import ExperimentConfig, LossConfig, TrainConfig
from sa_lab.data.store import ImageStore, split_identities
from sa_lab.losses import SASoftmaxLoss
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.steps import Batch, Learner, OwnLoss, Row, iteration, name_of


@dataclass(kw_only=True)
class Training(Learner):
    """All that changes while a run trains, and nothing else.

    Attributes:
        config: the dials.
        sampler: position in the data.
        generator: randomness of the augmentation.
        store: the images.
        train_ids: raw identity of each label, ascending.
        train_index: rows of the store that are trained on.
        rows: what was logged, one row a step.
    """

    config: ExperimentConfig
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
            "config": self.config.dials(),
            "model": self.model.state_dict(),
            "prototypes": self.criterion.prototypes.detach(),
            "feature_optimizer": self.feature_optimizer.state_dict(),
            "prototype_optimizer": self.prototype_optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "generator": self.generator.get_state(),
            "train_ids": torch.from_numpy(self.train_ids),
            "data": self.store.digest,
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken.

        Raises:
            ValueError: the state belongs to another config or other identities.
        """
        mine = self.config.dials()
        if state["config"] != mine:
            wrong = [f"{k}: {state['config'].get(k)} here {v}" for k, v in mine.items() if state["config"].get(k) != v]
            raise ValueError("the checkpoint belongs to another config; " + "; ".join(wrong))
        if state["data"] != self.store.digest:
            raise ValueError("the checkpoint was trained on other images than these; choose another run folder")
        self.model.load_state_dict(state["model"])
        with torch.no_grad():
            self.criterion.prototypes.copy_(state["prototypes"])
        self.feature_optimizer.load_state_dict(state["feature_optimizer"])
        self.prototype_optimizer.load_state_dict(state["prototype_optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.generator.set_state(state["generator"].cpu())
        self.rows = list(state["rows"])


def fabric_of(train: TrainConfig) -> Fabric:
    """The engine for the config's device and precision."""
    if train.threads:
        torch.set_num_threads(train.threads)
    try:
        return Fabric(accelerator=train.device, devices=1, precision=train.precision)
    except (RuntimeError, ValueError) as error:  # Fabric's words for a device that is not there
        raise ValueError(f"train.device is {train.device!r}, which this machine does not have; auto chooses") from error


def start(config: ExperimentConfig, store: ImageStore, own_loss: OwnLoss | None = None) -> Training:
    """A training at step 0: network, prototypes, optimisers, sampler and generator, all decided by the config.

    Raises:
        ValueError: more identities a batch, or a longer warm-up, than there are; an ``own_loss`` that the config does
            not name, or one that it names and that is missing.
    """
    if config.loss.own != (name_of(own_loss) if own_loss else ""):
        raise ValueError(f"loss.own is {config.loss.own!r}, expected the name of own_loss, which is {own_loss!r}")
    fabric = fabric_of(config.train)
    store = store.on(fabric.device)
    train_ids, _ = split_identities(store, config.data.validation_fraction, config.data.seed)
    train_index = np.flatnonzero(np.isin(store.person_ids, train_ids))
    if config.train.ids_per_batch > len(train_ids):
        raise ValueError(
            f"train.ids_per_batch is {config.train.ids_per_batch}, expected at most {len(train_ids)}, the "
            f"identities left for training; give --train.ids-per-batch {len(train_ids)}"
        )
    network = build_model(
        len(train_ids), config.model.backbone, config.model.num_parts, config.model.weights, config.seed
    )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
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
    num_steps, loss = config.train.num_epochs * len(sampler), config.loss
    if (loss.sas_weight or loss.similarity_weight or loss.own) and loss.warmup_steps >= num_steps:
        raise ValueError(
            f"loss.warmup_steps is {loss.warmup_steps}, expected fewer than the run's {num_steps} steps: "
            "SA-Softmax would never begin"
        )
    return Training(
        config=config, fabric=fabric, model=model, criterion=criterion, own_loss=own_loss,
        feature_optimizer=feature_optimizer, prototype_optimizer=prototype_optimizer, sampler=sampler,
        generator=Generator(fabric.device).manual_seed(config.seed), store=store, train_ids=train_ids,
        train_index=train_index,
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
            row = iteration(training, draw_batch(training, index), weights, step)
            training.rows.append({"step": step, "epoch": epoch, **row})
            yield training.rows[-1]


def replay(rows: Sequence[Row], own: str = "") -> Callable[[int], LossConfig]:
    """The weights that a log names, step by step, so that `iterate` repeats a training whose weights were changed.

    Args:
        rows: as `iterate` gives them or metrics.csv holds them.
        own: name of the own loss that was followed, see `LossConfig`.

    Raises:
        ValueError: from ``iterate``, when it goes on after the log's end.
    """

    def weights(step: int) -> LossConfig:
        if step >= len(rows):
            raise ValueError(f"step is {step}, expected 0..{len(rows) - 1}: the log ends there")
        row = rows[step]
        return LossConfig(
            row["sas_weight"], row["similarity_weight"], row["mask_value"], warmup_steps=0,
            asynchronous=bool(row["asynchronous"]), own=own if math.isfinite(row.get("own", math.nan)) else "",
        )  # fmt: skip

    return weights


def _set_learning_rates(training: Training) -> None:
    """Base rates times 0.1 for each milestone behind us: a function of the epoch alone."""
    passed = sum(training.sampler.epoch >= milestone for milestone in training.config.train.milestones)
    for optimizer in (training.feature_optimizer, training.prototype_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * 0.1**passed
