"""Backbones cut in two: torchvision's, timm's, one's own; weights of whole networks and of runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from sa_lab import cli, experiment
from sa_lab.backbones import BackboneError, two_streams
from sa_lab.config import ExperimentConfig, ModelConfig
from sa_lab.data import prepare
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.runs import Run
from sa_lab.schema import LeakageError
from sa_lab.training.origins import trained_people
from sa_lab.weights import WeightsError

OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stems = nn.ModuleList(nn.Conv2d(3, 4, 3, 2, 1) for _ in range(2))
        self.trunk, self.num_channels = nn.Conv2d(4, 8, 3, 2, 1), 8

def build():
    return Net()

def bare():
    return nn.Linear(1, 1)
"""


@pytest.mark.parametrize(
    ("name", "grid"),
    [("resnet10t", (8, 4)), ("convnext_atto", (4, 2)), ("vit_tiny_patch16_224", (8, 4)), ("mobilenetv2_035", (4, 2))],
)
def test_networks_of_timm_have_two_stems_and_a_map(name: str, grid: tuple[int, int]) -> None:
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    net = TwoStreamNet(3, f"timm/{name}", 2).eval()
    images = torch.rand(3, 3, 128, 64)
    with torch.no_grad():
        maps, _ = net.maps(images, torch.tensor([0, 1, 1]))
        same = [net.trunk(stem(images[:1])) for stem in net.stems]
    assert maps.shape == (3, net.embedding_dim, *grid)
    assert not torch.equal(*same), "each spectrum has a stem of its own"
    net.train()(images, torch.tensor([0, 1, 1])).identity_logits.sum().backward()
    idle = [name for name, weight in net.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle, "several GPUs would wait for them"


def test_tokens_of_patches_come_back_row_by_row() -> None:
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    net = TwoStreamNet(2, "timm/vit_tiny_patch16_224", 2).eval()
    network = net.trunk.network
    with torch.no_grad():
        grid = net.stems[0](torch.rand(1, 3, 128, 64))
        tokens = network.forward_features(grid)
        maps = net.trunk(grid)
    torch.testing.assert_close(maps[0, :, 5, 2], tokens[0, 1 + 5 * 4 + 2])


def test_weights_of_timm_start_both_stems(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="the extra `timm` is not installed")
    whole = timm.create_model("resnet10t", num_classes=7).state_dict()
    torch.save({"state_dict": {f"module.{name}": one for name, one in whole.items()}}, tmp_path / "w.pth")
    net = build_model(3, "timm/resnet10t", 2, str(tmp_path / "w.pth"), 0)
    for stem in net.stems:
        assert torch.equal(stem.state_dict()["conv1.0.weight"], whole["conv1.0.weight"])
    assert torch.equal(net.trunk.network.layer4[0].conv1.weight, whole["layer4.0.conv1.weight"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm/swin_tiny_patch4_window7_224", "takes images of one size only"),
        ("timm/resnetblur50", "cannot be cut in two"), ("timm/densenet121", "begins with none of conv1-bn1-act1"),
        ("timm/resnet_50", "which timm does not have; it has resnet"),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_is_refused_with_the_reason(name: str, told: str) -> None:
    pytest.importorskip("timm", reason="the extra `timm` is not installed")
    with pytest.raises(BackboneError, match=told) as caught:
        two_streams(name)
    assert "\n" not in str(caught.value)


def test_a_function_builds_a_network(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(OWN)
    backbone = ModelConfig(backbone=f"{file}:build", weights="random").backbone
    net = TwoStreamNet(3, backbone, 2)
    assert net(torch.rand(2, 3, 32, 16), torch.tensor([0, 1])).embeddings.shape == (2, 2, 8)
    state = {name: torch.full_like(one, 0.5) for name, one in two_streams(backbone)[1].state_dict().items()}
    with pytest.raises(WeightsError, match=r"missing stems\.0\.weight.*unexpected weight"):
        two_streams(backbone, state)
    with pytest.raises(BackboneError, match="gives Linear, expected a module with stems"):
        two_streams(f"{file}:bare")
    with pytest.raises(WeightsError, match="expected random, as it builds it, or a state file"):
        build_model(3, backbone, 2, "imagenet", 0)


@pytest.mark.parametrize("name", ["resnet", "vgg16", "nets.py", "nets.py:", "timm"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"model\.backbone is '.*expected one of resnet18, .*timm/NAME, or FILE\.py"):
        ModelConfig(backbone=name)


def _whole() -> dict[str, torch.Tensor]:
    return dict(torchvision.models.resnet18(weights=None, num_classes=5).state_dict())


@pytest.mark.parametrize("key", ["", "state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_in_the_usual_wrappers(tmp_path: Path, key: str, prefix: str) -> None:
    state = {prefix + name: one for name, one in _whole().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "w.pt")
    net = build_model(2, "resnet18", 2, str(tmp_path / "w.pt"), 0)
    for stem in net.stems:
        assert torch.equal(stem.conv1.weight, state[f"{prefix}conv1.weight"])
    assert torch.equal(net.trunk.layer4[1].conv2.weight, state[f"{prefix}layer4.1.conv2.weight"])


def _without(name: str) -> dict[str, torch.Tensor]:
    return {key: one for key, one in _whole().items() if key != name}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (_without("layer1.0.conv1.weight"), r"do not fit resnet18: missing layer1\.0\.conv1\.weight$"),
        (_whole() | {"extra.weight": torch.ones(1)}, r"do not fit resnet18: unexpected extra\.weight$"),
        (_whole() | {"bn1.weight": torch.ones(2, 3)}, r"of another shape bn1\.weight \(2, 3\), expected \(64,\)$"),
        ({name: one for name, one in _whole().items() if "layer4" not in name}, r"missing layer4.* and \d+ more$"),
        (b"", "damaged, or no file of weights"), (b"<!DOCTYPE html><html>", "damaged, or no file of weights"),
        (nn.Linear(1, 1), "damaged, or no file of weights"), ([1], "holds list, expected tensors by name"),
        ({}, "holds nothing, expected tensors by name"), ({"a": 1}, "holds dict, expected tensors by name"),
        ("half", "damaged, or no file of weights"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_in_one_line(tmp_path: Path, content: object, told: str) -> None:
    file = tmp_path / "w.pt"
    if content == "half":
        torch.save(_whole(), file)
        file.write_bytes(file.read_bytes()[: 1 << 20])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=told) as caught:
        build_model(2, "resnet18", 2, str(file), 0)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def first(people_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run."""
    return experiment.run(people_config, tmp_path_factory.mktemp("first") / "run", progress=False)


def test_a_run_goes_on_from_another_ones_network(first: Run, tmp_path: Path) -> None:
    """At rates of 0, everything comes back as it was: network, classifier and prototypes."""
    still = [
        "--train.backbone-lr",
        "0",
        "--train.head-lr",
        "0",
        "--train.prototype-lr",
        "0",
        "--train.weight-decay",
        "0",
    ]
    cli.main(["train", "--from", str(first.folder), "--run", str(tmp_path / "more"), "tiny", *still])
    more = Run(tmp_path / "more")
    assert more.config.loss == replace(first.config.loss, warmup_steps=0)
    assert more.config.data == first.config.data
    before, after = (experiment.load_model(run.folder) for run in (first, more))
    for name, weight in before[0].named_parameters():
        assert torch.equal(weight, after[0].get_parameter(name)), name
    assert torch.equal(before[1], after[1])


def test_other_parts_or_images_take_the_backbone_alone(
    first: Run, people_config: ExperimentConfig, tmp_path: Path
) -> None:
    weights = str(first.folder / "model.pt")
    known = experiment.load_model(first.folder)[0]
    net = build_model(5, people_config.model.backbone, 3, weights, 0)
    assert all(torch.equal(one, net.trunk.state_dict()[name]) for name, one in known.trunk.state_dict().items())
    assert net.neck.norm.weight.shape != known.neck.norm.weight.shape
    smaller = people_config.replace({"data.height": 48, "model.weights": weights})
    run = experiment.run(smaller.replace("train.num_epochs", 1), tmp_path / "run", progress=False)
    assert not torch.equal(experiment.load_model(run.folder)[0].classifier, known.classifier)
    with pytest.raises(WeightsError, match=r"model\.pt is of another network than mobilenet_v2"):
        build_model(5, "mobilenet_v2", 2, weights, 0)


def test_people_trained_on_before_are_no_strangers(first: Run, people_config: ExperimentConfig, tmp_path: Path) -> None:
    """Neither to the run that starts from another one, nor to one that starts from that."""
    weights = {"model.weights": str(first.folder / "model.pt"), "train.num_epochs": 1}
    with pytest.raises(
        LeakageError,
        match=r"had images of \d+ people for training or validation who are here for validation or test .*expected the",
    ):
        experiment.run(people_config.replace({**weights, "data.seed": 5}), tmp_path / "leak", progress=False)
    second = experiment.run(people_config.replace(weights), tmp_path / "second", progress=False)
    own = second.folder / "images.csv"
    own.write_text("".join(line for line in own.read_text().splitlines(True) if not line.strip().endswith("train")))
    store = prepare(people_config.data, False)
    np.testing.assert_array_equal(trained_people(second.folder, store), np.unique(store.person_ids[store.is_train]))
