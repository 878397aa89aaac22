"""A training from its start to its end: what it is made of, where it stands, and `iterate`, which repeats the steps.

On a GPU, one iteration is under way while the numbers of the one before are read, so that the GPU does not wait for
Python; but RandomLinear asks it which images go on, and so waits for it with each batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.profiler import record_function

from sa_lab import transforms
from sa_lab.backbones import UNFIT
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, TrainConfig
from sa_lab.data.store import ImageStore, split_identities
from sa_lab.disk import reason_of
from sa_lab.losses import SASoftmaxLoss
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.provenance import function_name
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.schema import Listing
from sa_lab.training import processes
from sa_lab.training.learner import Batch, Learner, LogRow, Measured, NonFiniteLossError
from sa_lab.training.objective import OwnLoss, check_own, learned_of, module_of
from sa_lab.training.origins import carry_on
from sa_lab.training.steps import iteration


@dataclass(kw_only=True)
class Training(Learner):
    """All that changes while a run trains, and nothing else.

    Attributes:
        config: the dials.
        sampler: position in the data.
        generator: randomness of the augmentation; starts anew with each step, from the seed, the step and the process.
        store: the images.
        train_ids: raw identity of each label, ascending.
        train_index: rows of the store that are trained on.
        rows: what was logged, one row per step.
        under_way: steps that were launched and not yet read.
        clock: when the last iteration began, or its rows were read.
    """

    config: ExperimentConfig
    sampler: CrossModalityIdentitySampler
    generator: Generator
    store: ImageStore
    train_ids: Int[np.ndarray, " C"]
    train_index: Int[np.ndarray, " M"]
    rows: list[LogRow] = field(default_factory=list)
    under_way: list[Measured] = field(default_factory=list, repr=False)
    clock: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def num_steps(self) -> int:
        """Iterations of the whole run."""
        return self.config.train.num_epochs * len(self.sampler)

    @property
    def network(self) -> TwoStreamNet:
        """The network without the engine's wrapper: other processes do not take part in its forward."""
        return cast(TwoStreamNet, self.model.module)

    def read(self, leave: int = 0) -> None:
        """Wait for the steps under way, but for the last ``leave`` of them, and log them.

        Raises:
            NonFiniteLossError: of the first step that failed; it is not logged.
        """
        known = len(self.rows)
        while len(self.under_way) > leave:
            images = len(self.under_way[0].batch.labels) * processes.size()
            try:
                self.rows.append(self.under_way[0].row())
            except NonFiniteLossError:
                self.under_way.clear()
                raise
            del self.under_way[0]
        now = time.perf_counter()
        for row in self.rows[known:]:
            row[SPEED] = images * (len(self.rows) - known) / (now - self.clock)
        self.clock = now

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on as if it had never stopped, on any number of processes."""
        self.read()
        return {
            "config": self.config.dials(),
            "model": self.network.state_dict(),
            "prototypes": self.criterion.prototypes.detach(),
            "learned": self.learned.state_dict(),
            "feature_optimizer": self.feature_optimizer.state_dict(),
            "prototype_optimizer": self.prototype_optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "train_ids": torch.from_numpy(self.train_ids),
            "data": self.store.digest,
            "rows": self.rows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` was taken.

        Raises:
            OtherTrainingError: the state belongs to another config or other images.
            Exception: it is no such state.
        """
        if changes := self.config.changes_from(state["config"]):
            raise OtherTrainingError(f"the checkpoint belongs to another config: {changes}")
        if state["data"] != self.store.digest:
            raise OtherTrainingError("the checkpoint was trained on other images than these; choose another run folder")
        if [row["step"] for row in state["rows"] if row["total"] is not None] != list(range(len(state["rows"]))):
            raise ValueError("the rows of the checkpoint are not those of its steps")
        self.network.load_state_dict(state["model"])
        with torch.no_grad():
            self.criterion.prototypes.copy_(state["prototypes"])
        self.learned.load_state_dict(state["learned"])
        self.feature_optimizer.load_state_dict(state["feature_optimizer"])
        self.prototype_optimizer.load_state_dict(state["prototype_optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.rows = list(state["rows"])


class OtherTrainingError(ValueError):
    """A checkpoint is of a training with other dials or images."""


@dataclass(frozen=True)
class Plan:
    """What is trained on, known before any image is read.

    Attributes:
        train_ids: raw identity of each label, ascending.
        train_index: rows of the store that are trained on.
        sampler: at its start.
    """

    train_ids: Int[np.ndarray, " C"]
    train_index: Int[np.ndarray, " M"]
    sampler: CrossModalityIdentitySampler


def plan(config: ExperimentConfig, images: Listing | ImageStore) -> Plan:
    """Which of ``images`` are trained on, and in which batches.

    Raises:
        ValueError: more identities per batch, or a longer warm-up, than possible; a batch that the processes cannot
            share.
    """
    train, loss = config.train, config.loss
    train_ids, _ = split_identities(images, config.data.validation_fraction, config.data.seed)
    if len(train_ids) < 2:
        raise ValueError(
            f"{images.name} leaves {len(train_ids)} identities for training, expected at least 2 to tell apart: add "
            "people, or lower data.test_fraction or data.validation_fraction"
        )
    if train.ids_per_batch > len(train_ids):
        raise ValueError(
            f"train.ids_per_batch is {train.ids_per_batch}, expected at most {len(train_ids)}, the identities left "
            f"for training after those for test and validation: --train.ids-per-batch {len(train_ids)}, or in a "
            f"chapter dials = {{'train.ids_per_batch': {len(train_ids)}}}"
        )
    train_index = np.flatnonzero(np.isin(images.person_ids, train_ids))
    sampler = CrossModalityIdentitySampler(
        images.person_ids[train_index], images.modality[train_index], train.ids_per_batch, train.images_per_id,
        config.seed, train.steps_per_epoch, processes.rank(), processes.size(),
    )  # fmt: skip
    if "own" in loss.weights() and not loss.own:
        raise ValueError(f"loss.terms is {loss.terms!r}, expected an own_loss for its term own")
    num_steps = train.num_epochs * len(sampler)
    if loss.follows_prototypes() and loss.warmup_steps >= num_steps:
        raise ValueError(
            f"loss.warmup_steps is {loss.warmup_steps}, expected fewer than the run's {num_steps} steps: "
            "SA-Softmax would never begin; train longer, or set --loss.warmup-steps"
        )
    return Plan(train_ids, train_index, sampler)


def start(config: ExperimentConfig, store: ImageStore, own_loss: OwnLoss | None = None) -> Training:
    """A training at step 0: network, prototypes, optimisers and sampler, all decided by the config.

    Raises:
        ValueError: as `plan`; an ``own_loss`` that the config does not name, or one that it names and that is missing.
    """
    if config.loss.own != (function_name(own_loss) if own_loss else ""):
        raise ValueError(f"loss.own is {config.loss.own!r}, expected the name of own_loss, which is {own_loss!r}")
    if own_loss:
        check_own(own_loss)
        own_loss = copy.deepcopy(own_loss) if module_of(own_loss) is not None else own_loss  # another run starts anew
    fabric = processes.fabric_of(config.train)
    store = store.on(fabric.device)
    planned = plan(config, store)
    train_ids = planned.train_ids
    network = build_model(
        len(train_ids), config.model.backbone, config.model.num_parts, config.model.weights, config.seed
    )
    _check_size(network, config.data)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(config.seed)
        criterion = SASoftmaxLoss(
            len(train_ids), network.embedding_dim, network.num_parts,
            config.loss.sas_weight, config.loss.similarity_weight, config.loss.mask_value,
        )  # fmt: skip
        learned = learned_of(config.loss, len(train_ids), network.embedding_dim, network.num_parts, own_loss)
    if config.train.sync_batch_norm and processes.size() > 1:
        if fabric.device.type != "cuda":
            raise ValueError("train.sync_batch_norm is True, expected False but on GPUs: torch has it for them alone")
        network = cast(TwoStreamNet, nn.SyncBatchNorm.convert_sync_batchnorm(network))  # type: ignore[no-untyped-call]
    dtype = torch.float64 if config.train.precision == "64-true" else torch.float32
    criterion, learned = criterion.to(fabric.device, dtype), learned.to(fabric.device, dtype)
    model, feature_optimizer = fabric.setup(network, _feature_optimizer(network, learned, config.train))
    prototypes: Any = _optimizer([{"params": [criterion.prototypes], "lr": config.train.prototype_lr}], config.train)
    prototype_optimizer: Any = fabric.setup_optimizers(prototypes)
    training = Training(
        config=config, fabric=fabric, model=model, criterion=criterion, own_loss=own_loss, learned=learned,
        feature_optimizer=feature_optimizer, prototype_optimizer=prototype_optimizer,
        reuse_features=config.train.reuse_features, sampler=planned.sampler, generator=Generator(fabric.device),
        store=store, train_ids=train_ids, train_index=planned.train_index,
        scaler=processes.scaler_of(fabric),
    )  # fmt: skip
    carry_on(training)
    return training


def _check_size(network: TwoStreamNet, data: DataConfig) -> None:
    """Try the network on one image of each spectrum.

    Raises:
        ValueError: they do not pass through it.
    """
    try:
        with torch.no_grad():
            network.eval().maps(torch.zeros(2, 3, data.height, data.width), np.array([0, 1]))
    except UNFIT as error:
        raise ValueError(
            f"images of {data.height}x{data.width} do not pass through {network.backbone} ({reason_of(error)}); "
            "expected larger ones (--data.height, --data.width), or another backbone"
        ) from error
    network.train()


def _feature_optimizer(network: TwoStreamNet, learned: nn.ModuleDict, train: TrainConfig) -> Optimizer:
    heads = [*network.head_parameters(), *(p for p in learned.parameters() if p.requires_grad)]
    return _optimizer(
        [{"params": network.backbone_parameters(), "lr": train.backbone_lr}, {"params": heads, "lr": train.head_lr}],
        train,
    )


def _optimizer(groups: list[dict[str, Any]], train: TrainConfig) -> Optimizer:
    groups = [{**group, "base_lr": group["lr"]} for group in groups]
    if train.optimizer == "sgd":
        return SGD(groups, momentum=0.9, nesterov=True, weight_decay=train.weight_decay, fused=True)
    return AdamW(groups, weight_decay=train.weight_decay, fused=True)


def draw_batch(training: Training, index: Int[np.ndarray, " B"]) -> Batch:
    """Gather, augment and normalise the images at ``index`` (positions within ``train_index``)."""
    rows = training.train_index[index]
    store, device = training.store, training.fabric.device
    modality = store.modality[rows].astype(np.int64)
    labels = torch.from_numpy(np.searchsorted(training.train_ids, store.person_ids[rows]))
    dtype = torch.float64 if training.config.train.precision == "64-true" else torch.float32
    images = store.gather(torch.from_numpy(rows))  # (B,3,H,W) bytes
    if device.type == "cuda" != images.device.type:
        images = images.pin_memory()  # else the copy would wait for what the GPU is doing
    images = images.to(device, non_blocking=True)
    images = transforms.augment(
        images, torch.from_numpy(modality), training.config.train.augmentation, training.generator, dtype
    )
    return Batch(
        transforms.normalize(images, in_place=True), labels.to(device, non_blocking=True), modality,
        store.camera_ids[rows],
    )  # fmt: skip


def iterate(
    training: Training, loss: Callable[[int], LossConfig] | None = None, pause_after: Container[int] = ()
) -> Iterator[LogRow]:
    """Train to the end from where ``training`` stands, one row of ``training.rows`` a step: the losses and gradients
    (`Measured.row`), the learning rate of the backbone, and images per second, not counting the time between two rows.

    On a GPU the training is up to one step ahead of the row that is given out, but not at the end of an epoch.

    Args:
        training: changed in place; between two rows it is whole and may be saved.
        loss: gives the loss weights of a step (from 0); by default the config's.
        pause_after: numbers of steps after which it is not ahead either.
    """
    given, seed = len(training.rows), training.config.seed
    ahead = 1 if _is_asynchronous(training.fabric.device) else 0
    while training.sampler.epoch < training.config.train.num_epochs:
        _set_learning_rates(training)
        for index in training.sampler:
            training.clock = time.perf_counter()
            step = len(training.rows) + len(training.under_way)
            training.generator.manual_seed(_mixed(seed, step, 0, processes.rank()))
            with record_function("input"):
                batch = draw_batch(training, index)
            measured = iteration(training, batch, loss(step) if loss else training.config.loss, step)
            rate = float(training.feature_optimizer.param_groups[0]["lr"])
            place: LogRow = {"step": step, "epoch": training.sampler.epoch, "learning_rate": rate}
            training.under_way.append(replace(measured, settings=place | measured.settings))
            pause = step + 1 in pause_after or training.sampler.step == len(training.sampler)
            training.read(leave=0 if pause else ahead)
            while given < len(training.rows):
                given += 1
                yield training.rows[given - 1]


SPEED = "images_per_second"
"""The one column that differs when a training is repeated."""


def _is_asynchronous(device: torch.device) -> bool:
    """Whether the device computes while Python goes on."""
    return device.type == "cuda"


def _mixed(*numbers: int) -> int:
    """A seed for a generator that differs with each of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _set_learning_rates(training: Training) -> None:
    """Base rates times 0.1 for each milestone behind us: a function of the epoch alone."""
    passed = sum(training.sampler.epoch >= milestone for milestone in training.config.train.milestones)
    for optimizer in (training.feature_optimizer, training.prototype_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * 0.1**passed
