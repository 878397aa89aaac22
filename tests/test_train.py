"""Asynchronous training on a micro store: who moves when, stopping and resuming bit for bit, and what a run leaves."""

from __future__ import annotations

import csv
import os
import signal
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.timing import full_precision
from torch import Tensor

from sa_lab import losses
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.data.store import ImageStore, split_identities
from sa_lab.losses import identity_loss
from sa_lab.provenance import function_name
from sa_lab.training import loop, steps
from sa_lab.training.fit import fit
from sa_lab.training.learner import Batch, LogRow, NonFiniteLossError
from sa_lab.training.loop import Training, iterate, start

COLUMNS = {
    "step", "epoch", "identity", "sa_softmax", "absolute", "total", "prototype", "asynchronous",
    "sas_weight", "similarity_weight", "mask_value", "feature_gradient", "prototype_gradient", "learning_rate",
    loop.SPEED,
}  # fmt: skip


def config_of(loss: LossConfig | None = None, **dials) -> ExperimentConfig:
    return ExperimentConfig(
        DataConfig(height=32, width=16, validation_fraction=0.25),
        ModelConfig("mobilenet_v2", 2, "random"),
        loss or LossConfig(warmup_steps=0),
        TrainConfig(
            **{
                "ids_per_batch": 3, "images_per_id": 2, "num_epochs": 2, "steps_per_epoch": 3, "milestones": (),
                "augmentation": "channel_mix", "device": "cpu", "backbone_lr": 5e-4, **dials,
            }
        ),
    )  # fmt: skip


def network_state(training: Training) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def parameters_of(training: Training) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in training.model.module.named_parameters()}


def same(first: object, second: object) -> bool:
    """Equal bit for bit, through dicts and lists, but for how fast it was."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and first.keys() == second.keys()
            and all(same(first[k], second[k]) for k in first if k != loop.SPEED)
        )
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def first_batch(training: Training) -> Batch:
    return loop.draw_batch(training, next(iter(training.sampler)))


def test_identities_are_divided_by_whole_groups(micro_store: ImageStore) -> None:
    """Training identities 2..16 in four groups of two; 18..24 are for testing."""
    group = {int(p): int(g) for p, g in zip(micro_store.person_ids, micro_store.group_ids, strict=True)}
    held_sets = set()
    for seed in range(8):
        for fraction, held_groups in ((0.0, 0), (0.25, 1), (0.5, 2)):
            training, held = split_identities(micro_store, fraction, seed)
            assert sorted([*training, *held]) == list(range(2, 18, 2))
            assert list(training) == sorted(training)
            assert {group[p] for p in training}.isdisjoint(group[p] for p in held)
            assert len({group[p] for p in held}) == held_groups
            held_sets.add(tuple(held))
    assert len(held_sets) > 5
    for first, again in zip(*(split_identities(micro_store, 0.25, 3) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(first, again)


def test_only_training_identities_are_drawn(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    _, held = split_identities(micro_store, 0.25, 0)
    drawn = micro_store.person_ids[training.train_index]
    assert set(drawn).isdisjoint(held)
    assert micro_store.is_train[training.train_index].all()
    assert set(drawn) == set(training.train_ids)
    for index in training.sampler:
        batch = loop.draw_batch(training, index)
        rows = training.train_index[index]
        np.testing.assert_array_equal(training.train_ids[batch.labels], micro_store.person_ids[rows])
        assert batch.modality.tolist() == [0] * 6 + [1] * 6
        assert batch.images.shape == (12, 3, 32, 16)


def test_a_start_is_decided_by_the_seed_and_leaves_the_global_one_alone(micro_store: ImageStore) -> None:
    before = torch.get_rng_state()
    first, again = (start(config_of(), micro_store).state_dict() for _ in range(2))
    other = start(replace(config_of(), seed=1), micro_store)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first, again)
    assert not torch.equal(first["prototypes"], other.criterion.prototypes)
    assert not torch.equal(first["model"]["classifier"], other.model.state_dict()["classifier"])


def test_feature_step_moves_the_network_and_not_the_prototypes(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    before, prototypes = parameters_of(training), training.criterion.prototypes.detach().clone()
    row = steps.feature_step(training, batch, LossConfig()).row()
    assert torch.equal(training.criterion.prototypes, prototypes)
    assert training.criterion.prototypes.grad is None
    moved = {name for name, value in training.model.module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(before) - {"neck.norm.bias"}
    expected = 0.3 * row["identity"] + 0.7 * row["sa_softmax"] + row["absolute"]
    assert row["total"] == pytest.approx(expected, rel=1e-6)


def test_prototype_step_moves_the_prototypes_and_running_statistics_alone(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    steps.feature_step(training, batch, LossConfig())
    before, state, prototypes = (
        parameters_of(training), network_state(training), training.criterion.prototypes.detach().clone()
    )  # fmt: skip
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in training.model.module.named_parameters()}
    row = steps.prototype_step(training, batch).row()
    assert row.keys() == {"prototype", "prototype_gradient"}
    for name, value in training.model.module.named_parameters():
        assert torch.equal(value, before[name]), name
        assert same(value.grad, gradients[name]), name
    assert not torch.equal(training.criterion.prototypes, prototypes)
    changed = {name for name, value in training.model.state_dict().items() if not torch.equal(value, state[name])}
    statistics = {name for name in state if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert changed == statistics


@pytest.mark.parametrize("start_at", [0.0, 0.5])
def test_running_means_go_a_share_of_the_way_to_the_mean_direction(micro_store: ImageStore, start_at: float) -> None:
    """Of the samples of a row, at the length that gives a logit of ``scale``; other rows stay."""
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    prototypes = training.criterion.prototypes  # (P,2C,D)
    parts, rows, channels = prototypes.shape
    with torch.no_grad():
        prototypes.fill_(start_at)
    embeddings = torch.randn(len(batch.labels), parts, channels)
    row = steps.prototype_step(training, batch, LossConfig(prototypes="running_mean", scale=8.0), embeddings).row()
    assert row["prototype_gradient"] == 0
    own = batch.labels + torch.from_numpy(batch.modality) * (rows // 2)
    for one in range(rows):
        expected = torch.full((parts, channels), start_at)
        if (own == one).any():
            directions = embeddings[own == one] / embeddings[own == one].norm(dim=2, keepdim=True)
            expected = 0.8 * expected + 0.2 * 8.0 / channels**0.5 * directions.mean(0)
        torch.testing.assert_close(prototypes.detach()[:, one], expected)


def test_running_means_stay_where_something_was_not_finite(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    before = training.criterion.prototypes.detach().clone()
    parts, _, channels = before.shape
    wrong = torch.full((len(batch.labels), parts, channels), torch.nan)
    training.failed.fill_(1)
    steps.prototype_step(training, batch, LossConfig(prototypes="running_mean"), wrong)
    assert torch.equal(training.criterion.prototypes, before)


def test_without_rivals_a_sample_leaves_the_other_prototype_of_its_person_alone(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    one = type(batch)(batch.images[:1], batch.labels[:1], batch.modality[:1])
    embeddings = torch.randn(1, *training.criterion.prototypes.shape[::2])
    label, other = int(one.labels[0]), int(one.labels[0]) + len(training.train_ids) * (1 - int(one.modality[0]))
    assert other != label, "the batch begins with a visible image"
    for kind, pushed in (("learned", True), ("no_rival", False)):
        steps.prototype_step(training, one, LossConfig(prototypes=kind), embeddings)
        gradient = training.criterion.prototypes.grad
        assert bool(gradient[:, other].any()) is pushed
        assert gradient[:, label].any()


def test_softmax_baseline_is_plain_training_with_the_identity_loss(micro_store: ImageStore) -> None:
    config = config_of(LossConfig(0.0, 0.0, warmup_steps=0), augmentation="none", optimizer="sgd", backbone_lr=0.01)
    training, plain = start(config, micro_store), start(config, micro_store)
    batch = first_batch(training)
    for _ in range(2):
        row = steps.feature_step(training, batch, config.loss).row()
        loss = identity_loss(plain.model.train()(batch.images, batch.modality).identity_logits, batch.labels)
        plain.feature_optimizer.zero_grad()
        loss.backward()
        plain.feature_optimizer.step()
        assert row["total"] == row["identity"] == loss.item()
    assert same(network_state(training), network_state(plain))


def test_warm_up_follows_the_identity_loss_while_prototypes_move(micro_store: ImageStore) -> None:
    complete = start(config_of(LossConfig(warmup_steps=2)), micro_store)
    softmax = start(config_of(LossConfig(0.0, 0.0, warmup_steps=0)), micro_store)
    other = start(config_of(LossConfig(warmup_steps=0)), micro_store)
    fresh = complete.criterion.prototypes.detach().clone()
    rows = [iterate(training) for training in (complete, softmax, other)]
    for step in range(3):
        warm, plain, hot = (next(row) for row in rows)
        assert (warm["sas_weight"], warm["similarity_weight"]) == ((0, 0) if step < 2 else (0.7, 1))
        assert (hot["sas_weight"], hot["similarity_weight"]) == (0.7, 1)
        assert same(network_state(complete), network_state(softmax)) == (step < 2)
        assert torch.equal(complete.criterion.prototypes, softmax.criterion.prototypes) == (step < 2)
        assert not torch.equal(complete.criterion.prototypes, fresh)
        assert not same(network_state(complete), network_state(other))
        if step < 2:
            assert warm["total"] == warm["identity"] == plain["total"]


def test_synchronous_prototypes_follow_the_cross_loss_after_the_warm_up(micro_store: ImageStore) -> None:
    together = start(config_of(LossConfig(warmup_steps=1, asynchronous=False)), micro_store)
    in_turns = start(config_of(LossConfig(warmup_steps=1)), micro_store)
    runs = [iterate(together), iterate(in_turns)]
    for step in range(2):
        first, second = (next(run) for run in runs)
        assert first.keys() == second.keys()
        assert torch.equal(together.criterion.prototypes, in_turns.criterion.prototypes) == (step < 1)
        assert first["total"] == second["total"]
    prototypes = together.criterion.prototypes
    before = prototypes.detach().clone()
    batch = first_batch(together)
    steps.prototype_step(together, batch, LossConfig(asynchronous=False))
    assert torch.equal(before, prototypes), "measured only"
    steps.feature_step(together, batch, LossConfig(asynchronous=False))
    assert not torch.equal(before, prototypes)


def pull_across(embeddings: torch.Tensor, prototypes: torch.Tensor, labels: torch.Tensor, modality: torch.Tensor):
    """The library's two terms with their usual weights, as somebody's own loss."""
    assert not prototypes.requires_grad
    logits = losses.prototype_logits(embeddings, prototypes)
    relative = losses.sa_softmax_loss(logits, labels, modality)
    return 0.7 * relative + losses.absolute_similarity_loss(embeddings, prototypes, labels, modality)


def test_a_loss_of_ones_own_takes_the_place_of_both_terms(micro_store: ImageStore) -> None:
    named = LossConfig(own=function_name(pull_across), terms="identity 0.3 + own 1", warmup_steps=1)
    own = start(config_of(named), micro_store, pull_across)
    library = start(config_of(LossConfig(warmup_steps=1)), micro_store)
    for step, (first, second) in enumerate(zip(iterate(own), iterate(library), strict=True)):
        assert first["total"] == pytest.approx(second["total"], rel=1e-4)
        assert ("own" in first) == (step > 0)
        if step == 2:
            break
    assert named.own.startswith("pull_across-")


@pytest.mark.parametrize(
    ("value", "said"),
    [(lambda f: f.sum((1, 2)), r"shape \(12,\)"), (lambda f: 1.0, "1.0"), (lambda f: f.detach().sum(), "")],
)
def test_an_own_loss_that_is_none_is_told(micro_store: ImageStore, value, said: str) -> None:
    def own(embeddings, prototypes, labels, modality):
        return value(embeddings)

    training = start(config_of(LossConfig(own=function_name(own), terms="own", warmup_steps=0)), micro_store, own)
    with pytest.raises(ValueError, match=f"own_loss gave {said}.*, expected a scalar"):
        next(iterate(training))


def test_own_loss_and_config_must_agree(micro_store: ImageStore) -> None:
    with pytest.raises(ValueError, match=r"loss.own is 'lost-1234', expected the name of own_loss, which is None"):
        start(config_of(LossConfig(own="lost-1234", terms="own")), micro_store)
    with pytest.raises(ValueError, match=r"loss.terms is 'own', expected an own_loss for its term own"):
        start(config_of(LossConfig(terms="own")), micro_store)
    with pytest.raises(ValueError, match=r"loss.terms is '', expected one with the term own"):
        LossConfig(own="lost-1234")
    with pytest.raises(ValueError, match=r"loss.own is '', expected the name of own_loss"):
        start(config_of(), micro_store, pull_across)
    with pytest.raises(ValueError, match="with a name of its own"):
        function_name(lambda embeddings, prototypes, labels, modality: embeddings.sum())
    training = start(config_of(), micro_store)
    with pytest.raises(ValueError, match="there is no own_loss"):
        steps.feature_step(training, first_batch(training), LossConfig(own="lost-1234", terms="own"))


def test_weights_may_change_while_it_trains(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    rows = iterate(training, lambda step: LossConfig(0.1 * step, 0.5 * step, 10.0 * step, warmup_steps=0))
    for step, row in zip(range(2), rows, strict=False):
        assert (row["sas_weight"], row["similarity_weight"], row["mask_value"]) == (0.1 * step, 0.5 * step, 10.0 * step)
        expected = (1 - 0.1 * step) * row["identity"] + 0.1 * step * row["sa_softmax"] + 0.5 * step * row["absolute"]
        assert row["total"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_learning_rates_fall_at_milestones(micro_store: ImageStore, optimizer: str) -> None:
    config = config_of(
        num_epochs=4, steps_per_epoch=1, milestones=(1, 3), optimizer=optimizer, backbone_lr=1e-4, head_lr=1e-3
    )
    training = start(config, micro_store)
    heads = [id(p) for p in training.model.module.head_parameters()]
    for row in iterate(training):
        factor = 0.1 ** sum(row["epoch"] >= milestone for milestone in (1, 3))
        backbone, head = training.feature_optimizer.param_groups
        assert backbone["lr"] == pytest.approx(1e-4 * factor)
        assert head["lr"] == pytest.approx(1e-3 * factor)
        (group,) = training.prototype_optimizer.param_groups
        assert group["lr"] == pytest.approx(group["base_lr"] * factor)
        assert [id(p) for p in head["params"]] == heads
    assert [row["epoch"] for row in training.rows] == [0, 1, 2, 3]


@pytest.mark.parametrize("stop_after", [2, 3])
def test_stopped_and_resumed_is_as_never_stopped(micro_store: ImageStore, tmp_path: Path, stop_after: int) -> None:
    """In mid-epoch (after 2 of 3 steps) and at its end."""
    config = config_of(milestones=(1,), checkpoint_every=2)

    def interrupt(row: LogRow) -> None:
        if row["step"] + 1 == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    whole = fit(config, micro_store, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt, match=f"stopped after step {stop_after - 1}"):
        fit(config, micro_store, tmp_path / "stopped", watch=interrupt, progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "stopped" / "checkpoint.pt").is_file()
    assert not (tmp_path / "stopped" / "model.pt").exists()
    seen = []
    resumed = fit(config, micro_store, tmp_path / "stopped", watch=seen.append, progress=False)
    assert [row["step"] for row in seen] == list(range(stop_after, 6))
    assert same(resumed.state_dict(), whole.state_dict())
    for name in ("metrics.csv", "config.json"):
        texts = [(tmp_path / folder / name).read_text() for folder in ("stopped", "whole")]
        assert [len(text.splitlines()) for text in texts] == [7, 7] if name == "metrics.csv" else texts[0] == texts[1]
    saved = [torch.load(tmp_path / run / "model.pt", weights_only=True) for run in ("whole", "stopped")]
    assert same(*saved)
    again = fit(config, micro_store, tmp_path / "whole", watch=seen.append, progress=False)
    assert len(seen) == 6 - stop_after, "a finished run does not train again"
    assert same(again.state_dict(), whole.state_dict())


def test_a_run_leaves_its_files(micro_store: ImageStore, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = config_of()
    training = fit(config, micro_store, run, progress=False)
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.csv", "checkpoint.pt", "model.pt"}
    assert ExperimentConfig.load(run / "config.json") == config
    with (run / "metrics.csv").open() as file:
        rows = [{name: cell for name, cell in row.items() if name != "crc32"} for row in csv.DictReader(file)]
    assert set(rows[0]) == COLUMNS
    assert [int(row["step"]) for row in rows] == list(range(6))
    assert [int(row["epoch"]) for row in rows] == [0, 0, 0, 1, 1, 1]
    assert [float(row["total"]) for row in rows] == [row["total"] for row in training.rows]
    state = torch.load(run / "model.pt", weights_only=True)
    assert state["train_ids"].tolist() == training.train_ids.tolist()
    assert torch.equal(state["prototypes"], training.criterion.prototypes)
    assert same(state["model"], training.model.state_dict())


def test_a_checkpoint_of_another_config_or_other_images_is_refused(micro_store: ImageStore, tmp_path: Path) -> None:
    config = config_of(num_epochs=1, steps_per_epoch=1)
    state = fit(config, micro_store, tmp_path, progress=False).state_dict()
    other = config_of(num_epochs=1, steps_per_epoch=1, head_lr=0.5)
    with pytest.raises(ValueError, match=r"another config: train\.head_lr 0\.001 there, 0\.5 here"):
        fit(other, micro_store, tmp_path, progress=False)
    fresh = start(config, micro_store)
    with pytest.raises(ValueError, match="trained on other images"):
        fresh.load_state_dict({**state, "data": "0" * 64})


def test_a_refused_config_leaves_the_run_as_it_was(micro_store: ImageStore, tmp_path: Path) -> None:
    config = config_of(num_epochs=1, steps_per_epoch=1)
    fit(config, micro_store, tmp_path, progress=False)
    with pytest.raises(ValueError, match="another config"):
        fit(replace(config, seed=5), micro_store, tmp_path, progress=False)
    assert ExperimentConfig.load(tmp_path / "config.json") == config


def test_non_finite_loss_stops_with_the_batch_and_no_weight_changed(
    micro_store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(augmentation="none")
    reference = start(config, micro_store)
    next(iterate(reference))
    seen: list[Training] = []
    draw = loop.draw_batch

    def spoiled(training: Training, index: np.ndarray) -> Batch:
        seen.append(training)
        batch = draw(training, index)
        if len(training.rows) == 1:
            batch.images[3] = torch.nan
        return batch

    monkeypatch.setattr(loop, "draw_batch", spoiled)
    with pytest.raises(NonFiniteLossError, match=r"step 1: .*not finite.*failed_step_1\.pt") as caught:
        fit(config, micro_store, tmp_path, progress=False)
    batch = torch.load(tmp_path / "failed_step_1.pt", weights_only=True)
    assert batch.keys() == {"images", "labels", "modality"}
    assert torch.isnan(batch["images"][3]).all()
    assert torch.equal(batch["labels"], caught.value.batch.labels)
    assert same(parameters_of(seen[-1]), parameters_of(reference))
    assert torch.equal(seen[-1].criterion.prototypes, reference.criterion.prototypes)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_non_finite_prototype_loss_moves_no_prototype(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = first_batch(training)
    batch.images[0] = torch.inf
    before = training.criterion.prototypes.detach().clone()
    with pytest.raises(NonFiniteLossError, match="the prototype loss is not finite"):
        steps.prototype_step(training, batch).row()
    assert torch.equal(training.criterion.prototypes, before)


def test_the_best_model_by_validation_is_kept(micro_store: ImageStore, tmp_path: Path) -> None:
    scores, states = iter([0.2, 0.6, 0.6, 0.1]), []

    def validate(model: torch.nn.Module) -> dict[str, float]:
        model.eval()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"mean_ap": next(scores), "rank_1": 0.5}

    config = config_of(num_epochs=4, steps_per_epoch=1, eval_every=1)
    training = fit(config, micro_store, tmp_path, validate, progress=False)
    assert [row["mean_ap"] for row in training.rows] == [0.2, 0.6, 0.6, 0.1]
    assert same(torch.load(tmp_path / "model.pt", weights_only=True)["model"], states[1])
    with (tmp_path / "metrics.csv").open() as file:
        assert set(next(csv.DictReader(file))) == COLUMNS | {"mean_ap", "rank_1", "crc32"}


@pytest.mark.parametrize(("every", "expected"), [(0, [3]), (2, [1, 3]), (3, [2, 3])])
def test_validation_is_due(micro_store: ImageStore, tmp_path: Path, every: int, expected: list[int]) -> None:
    """Every so many epochs, and always after the last one."""
    config = config_of(num_epochs=4, steps_per_epoch=1, eval_every=every, checkpoint_every=10)
    training = fit(config, micro_store, tmp_path, lambda model: {"mean_ap": 0.5}, progress=False)
    assert [row["epoch"] for row in training.rows if "mean_ap" in row] == expected


def test_double_precision_all_the_way(micro_store: ImageStore) -> None:
    training = start(config_of(precision="64-true"), micro_store)
    next(iterate(training))
    batch = first_batch(training)
    assert steps._forward(training, batch).embeddings.dtype == batch.images.dtype == torch.float64
    assert {p.dtype for p in training.model.parameters()} == {torch.float64}
    assert training.criterion.prototypes.dtype == torch.float64


def test_training_learns(micro_store: ImageStore) -> None:
    training = start(config_of(num_epochs=1, steps_per_epoch=25, augmentation="none"), micro_store)
    rows = list(iterate(training))
    for name, share in (("identity", 0.85), ("prototype", 0.8), ("total", 0.95)):
        assert np.mean([row[name] for row in rows[-5:]]) < share * np.mean([row[name] for row in rows[:5]]), name


def test_a_gradient_that_is_not_finite_stops_before_the_step(micro_store: ImageStore) -> None:
    training = start(config_of(), micro_store)
    batch = loop.draw_batch(training, next(iter(training.sampler)))
    before = [p.detach().clone() for p in (training.criterion.prototypes, *training.model.parameters())]
    training.criterion.prototypes.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLossError, match="the prototype gradient is not finite"):
        steps.prototype_step(training, batch).row()
    next(p for p in training.model.parameters() if p.requires_grad).register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteLossError, match="the feature gradient is not finite"):
        steps.feature_step(training, batch, training.config.loss).row()
    after = (training.criterion.prototypes, *training.model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not exercised here")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_steps_and_resume_on_cuda(micro_store: ImageStore, tmp_path: Path, precision: str) -> None:
    """The CPU's losses as long as rounding has not grown; an interrupt in mid-epoch changes nothing."""
    config = config_of(device="cuda", precision=precision, augmentation="none")
    cpu = list(iterate(start(config_of(augmentation="none"), micro_store)))
    with full_precision():
        gpu = list(iterate(start(config, micro_store)))
    first, later = (1e-3, 0.02) if precision == "32-true" else (0.05, 0.1)
    for row, expected in zip(gpu[:3], cpu[:3], strict=True):
        for name in ("identity", "sa_softmax", "absolute", "total", "prototype"):
            close = later if row["step"] or name == "prototype" else first
            assert row[name] == pytest.approx(expected[name], rel=close, abs=close), name

    def interrupt(row: LogRow) -> None:
        if row["step"] == 0:
            os.kill(os.getpid(), signal.SIGINT)

    whole = fit(config, micro_store, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        fit(config, micro_store, tmp_path / "stopped", watch=interrupt, progress=False)
    saved = torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)
    assert 0 < len(saved["rows"]) < whole.num_steps
    resumed = fit(config, micro_store, tmp_path / "stopped", progress=False)
    assert resumed.store.images.device.type == "cuda"
    assert len(resumed.rows) == resumed.num_steps
    for row, expected in zip(resumed.rows, whole.rows, strict=True):
        assert row["total"] == pytest.approx(expected["total"], rel=later), "kernels of a GPU add in any order"


def test_half_precision_scales_losses_and_leaves_out_what_overflows(micro_store: ImageStore, tmp_path: Path) -> None:
    """On a CPU; the losses are those of full precision, as far as eleven bits tell."""
    config = config_of(precision="16-mixed", augmentation="none")
    half, full = start(config, micro_store), start(config_of(augmentation="none"), micro_store)
    assert half.scaler is not None
    assert full.scaler is None
    half.scaler.load_state_dict(half.scaler.state_dict() | {"scale": 16.0})  # the usual 65536 comes down step by step
    for row, expected in zip(islice(iterate(half), 3), islice(iterate(full), 3), strict=True):
        for name in ("identity", "sa_softmax", "absolute", "total", "prototype"):
            assert row[name] == pytest.approx(expected[name], rel=0.1, abs=0.05), (row["step"], name)
        if row["step"] == 0:  # later ones are those of other weights
            assert row["feature_gradient"] == pytest.approx(expected["feature_gradient"], rel=0.2)
    before, scale = parameters_of(half), half.scaler.get_scale()
    overflow = half.network.classifier.register_hook(lambda gradient: gradient * torch.inf)
    half.sampler = start(config, micro_store).sampler
    batch = loop.draw_batch(half, next(iter(half.sampler)))
    row = steps.feature_step(half, batch, config.loss).row()
    assert row["feature_gradient"] == 0
    assert half.scaler.get_scale() == scale / 2
    assert same(parameters_of(half), before)
    overflow.remove()
    assert steps.feature_step(half, batch, config.loss).row()["feature_gradient"] > 0
    assert not same(parameters_of(half), before)
    again = start(config, micro_store)
    again.load_state_dict(half.state_dict())
    assert again.scaler is not None
    assert again.scaler.get_scale() == scale / 2
    batch.images[0] = torch.nan
    with pytest.raises(NonFiniteLossError, match="the feature loss is not finite"):
        steps.feature_step(half, batch, config.loss).row()


def test_one_step_is_under_way_while_the_one_before_is_read(
    micro_store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the rows are those of a training that waits, and what is saved is whole."""
    waiting, ahead = start(config_of(), micro_store), start(config_of(), micro_store)
    expected = [(row, deepcopy(waiting.state_dict())) for row in iterate(waiting)]
    monkeypatch.setattr(loop, "_is_asynchronous", lambda device: True)
    under_way = []
    for row in iterate(ahead, pause_after={5}):
        under_way.append(len(ahead.under_way))
        assert same(row, expected[row["step"]][0])
        if row["step"] == 0:
            state = ahead.state_dict()
            assert [one["step"] for one in state["rows"]] == [0, 1]
            assert same(state, expected[1][1])
    assert under_way == [1, 0, 0, 0, 0, 0], "none at the end of an epoch of three steps, nor after step 5, as asked"
    assert same(ahead.rows, waiting.rows)
    assert all(row[loop.SPEED] > 0 for row in ahead.rows)
    assert same(ahead.state_dict(), waiting.state_dict())


def test_a_failure_read_late_has_moved_no_weight(micro_store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(augmentation="none")
    reference, spoiled = start(config, micro_store), start(config, micro_store)
    next(iterate(reference))
    draw = loop.draw_batch

    def spoil(training: Training, index: np.ndarray) -> Batch:
        batch = draw(training, index)
        if len(training.rows) + len(training.under_way) == 1:
            batch.images[3] = torch.nan
        return batch

    monkeypatch.setattr(loop, "draw_batch", spoil)
    monkeypatch.setattr(loop, "_is_asynchronous", lambda device: True)
    with pytest.raises(NonFiniteLossError, match="the feature loss is not finite") as caught:
        list(iterate(spoiled))
    assert torch.isnan(caught.value.batch.images[3]).all()
    assert [row["step"] for row in spoiled.rows] == [0]
    assert same(parameters_of(spoiled), parameters_of(reference))
    assert torch.equal(spoiled.criterion.prototypes, reference.criterion.prototypes)
    optimizers = (spoiled.feature_optimizer, spoiled.prototype_optimizer)
    for optimizer, other in zip(optimizers, (reference.feature_optimizer, reference.prototype_optimizer), strict=True):
        assert same(optimizer.state_dict(), other.state_dict()), "two steps were skipped whole"
    assert not spoiled.failed


def test_one_forward_serves_both_steps(micro_store: ImageStore) -> None:
    twice, once = (start(config_of(reuse_features=reuse), micro_store) for reuse in (False, True))
    seen = {"twice": 0, "once": 0}
    for name, training in (("twice", twice), ("once", once)):
        count = training.network.register_forward_hook(lambda *_, name=name: seen.update({name: seen[name] + 1}))
        first = next(iterate(training))
        count.remove()
        assert np.isfinite(first["prototype"])
    assert seen == {"twice": 2, "once": 1}
    assert same(parameters_of(once), parameters_of(twice)), "the network does not see the prototypes' step"
    assert not torch.equal(once.criterion.prototypes, twice.criterion.prototypes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU path is not exercised here")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_no_step_waits_for_the_gpu(micro_store: ImageStore) -> None:
    """But for RandomLinear, which asks which images go on."""
    training = start(config_of(device="cuda", augmentation="channel_mix"), micro_store)
    rows = iterate(training)
    next(rows)
    index = next(iter(training.sampler))
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps.iteration(training, loop.draw_batch(training, index), training.config.loss, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
