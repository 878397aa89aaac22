"""A whole iteration, and descriptors, on a GPU that is not there: placement, and that nothing asks the device.

Fake tensors have a shape and a device but no numbers: two devices in one operation raise, and so does every question to
the host. Torch's autograd engine needs a real device, so gradients are filled in by hand here, and the backward pass
runs on the meta device, where the same two things raise. Not proved, since it needs a driver: `Measured.send`, the
pinning of images, generators of the device; and RandomLinear, which asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor

from sa_lab import transforms
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.data.store import ImageStore
from sa_lab.evaluation.embedding import describe
from sa_lab.evaluation.protocols import INFRARED_TO_VISIBLE
from sa_lab.evaluation.validation import ValidationSet
from sa_lab.losses import SASoftmaxLoss
from sa_lab.model import TwoStreamNet
from sa_lab.samplers import CrossModalityIdentitySampler
from sa_lab.training import loop, objective, steps
from sa_lab.training.learner import Batch, Learner, Measured

RECIPES = ("none", "light", "channel_mix")
"""RandomLinear is left out: it has to ask which images go on."""


def leaves_of(loss: Tensor) -> Iterator[nn.Parameter]:
    """The parameters that a loss depends on."""
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]


class Engine(SimpleNamespace):
    """In place of Fabric: no device is looked for, and each parameter that a loss reaches gets a gradient."""

    device = torch.device("cuda")

    def backward(self, loss: Tensor) -> None:
        assert loss.device.type == "cuda"
        reached = list(leaves_of(loss))
        assert reached
        for parameter in reached:
            parameter.grad = torch.zeros_like(parameter)


class Placed(nn.Module):
    """As Fabric wraps a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: object) -> object:
        return self.module(*arguments)


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    transforms._colour.cache_clear()  # its tensors are fake


def training_on_a_fake_gpu(recipe: str, backbone: str = "resnet50", reuse: bool = False) -> loop.Training:
    """Eight people, three images a spectrum, the paper's twelve parts."""
    config = ExperimentConfig(
        DataConfig(height=96, width=48), ModelConfig(backbone, 12, "random"), LossConfig(warmup_steps=0),
        TrainConfig(ids_per_batch=4, images_per_id=2, augmentation=recipe, reuse_features=reuse),
    )  # fmt: skip
    person, modality = np.repeat(np.arange(8), 6), np.tile([0, 0, 0, 1, 1, 1], 8)
    with torch.device("cuda"):
        pixels = torch.zeros(48, 3, 96, 48, dtype=torch.uint8)
        network = TwoStreamNet(8, backbone, 12)
        criterion = SASoftmaxLoss(8, network.embedding_dim, 12)
    store = ImageStore("fake", pixels, person, modality + 1, modality, np.ones(48, bool), person,
                       tuple(f"{i}.png" for i in range(48)), "fake")  # fmt: skip
    return loop.Training(
        config=config, fabric=Engine(), model=Placed(network), criterion=criterion,
        feature_optimizer=torch.optim.AdamW(network.parameters(), fused=True),
        prototype_optimizer=torch.optim.AdamW(criterion.parameters(), fused=True), reuse_features=reuse,
        sampler=CrossModalityIdentitySampler(person, modality, 4, 2, 0), generator=torch.Generator(), store=store,
        train_ids=np.arange(8), train_index=np.arange(48),
    )  # fmt: skip


def drawn(training: loop.Training) -> Batch:
    batch = loop.draw_batch(training, next(iter(training.sampler)))
    assert batch.images.device.type == batch.labels.device.type == batch.spectra.device.type == "cuda"
    return batch


@pytest.mark.usefixtures("fake", "unchecked")
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_iteration_stays_on_its_device_and_asks_nothing(
    recipe: str, reuse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measured, "send", lambda measured: measured)
    training = training_on_a_fake_gpu(recipe, "resnet18", reuse)
    measured = steps.iteration(training, drawn(training), training.config.loss, 1)
    assert measured.values.keys() == {"identity", "sa_softmax", "absolute", "total", "prototype"}
    everything = [*measured.values.values(), *measured.norms.values(), measured.failed, measured.embeddings]
    assert all(value.device.type == "cuda" for value in everything)
    assert training.criterion.prototypes.grad is not None
    with pytest.raises(DataDependentOutputException):
        measured.row()  # the one question, asked when a row is read


@pytest.mark.usefixtures("fake", "unchecked")
def test_descriptors_of_the_papers_network_stay_on_its_device() -> None:
    training = training_on_a_fake_gpu("none")
    images = transforms.to_float(training.store.gather(torch.arange(6)))
    modality = np.array([0, 1, 0, 1, 1, 0])
    with torch.no_grad():
        found = describe(training.network.eval(), images, modality)
    assert {name: (value.device.type, tuple(value.shape)) for name, value in found.items()} == dict.fromkeys(
        ("part_features", "embeddings"), ("cuda", (6, 12, 2048))
    )


@pytest.mark.usefixtures("unchecked")
def test_validation_asks_for_descriptors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With numbers drawn at random where fake ones reach the host; from there on everything is real."""
    asked: list[tuple[int, ...]] = []

    def numbers(values: FakeTensor) -> np.ndarray:
        assert values.device.type == "cpu"
        asked.append(tuple(values.shape))
        return np.random.default_rng(len(asked)).normal(size=tuple(values.shape)).astype(np.float32)

    monkeypatch.setattr(FakeTensor, "numpy", numbers)
    with FakeTensorMode(allow_non_fake_inputs=True):
        training = training_on_a_fake_gpu("none", "resnet18")
        held = ValidationSet(training.store, np.arange(12), INFRARED_TO_VISIBLE)
        found = held.embed(training.network)
    transforms._colour.cache_clear()
    assert asked == [(12, 12, 512)] * 2, "descriptor A and B of one batch"
    assert set(held.grade(found)) == {"rank_1", "mean_ap"}


@pytest.mark.usefixtures("fake", "unchecked")
def test_what_must_not_pass_does_not_pass() -> None:
    """The test above would see a tensor on the host, and a question."""
    training = training_on_a_fake_gpu("none", "resnet18")
    batch = drawn(training)
    with pytest.raises(Exception, match="device"):
        training.criterion.prototype_loss(torch.zeros(16, 12, 512), batch.labels, batch.labels * 0)
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        transforms.random_linear(transforms.to_float(training.store.images[:4]), torch.Generator())


@pytest.mark.usefixtures("unchecked")
def test_the_backward_pass_asks_nothing_either() -> None:
    with torch.device("meta"):
        network, criterion = TwoStreamNet(8, "resnet18", 2), SASoftmaxLoss(8, 512, 2)
        batch = Batch(torch.empty(8, 3, 64, 32), torch.empty(8, dtype=torch.long), np.tile([0, 1], 4))
    features = network.train()(batch.images, batch.modality)
    terms = objective.objective(criterion, features, batch.labels, batch.spectra, LossConfig())
    torch.stack([terms[name] for name in ("identity", "sa_softmax", "absolute")]).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert criterion.prototypes.grad is None
    criterion.prototype_loss(features.embeddings, batch.labels, batch.spectra).backward()
    learner = Learner(
        fabric=Engine(), model=network, criterion=criterion, feature_optimizer=None, prototype_optimizer=None
    )  # fmt: skip
    norm = learner.check(terms["identity"], [criterion.prototypes])
    assert norm.device.type == learner.failed.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        float(norm)
