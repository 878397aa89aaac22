"""`SASoftmaxLoss` in other people's loops: a module, on two processes, transformed, compiled, in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_losses import criterion_of, problem
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from sa_lab import losses
from sa_lab.config import TrainConfig
from sa_lab.losses import SASoftmaxLoss, own_prototype
from sa_lab.training import processes

pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning"),  # torch's own, where it loads its derivatives
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]
STEPS = ("both", "feature", "prototype")


def gradients(criterion: SASoftmaxLoss, loss: Tensor, embeddings: Tensor, keep: bool = False) -> tuple[Tensor, Tensor]:
    found = torch.autograd.grad(loss, [embeddings, criterion.prototypes], allow_unused=True, retain_graph=keep)
    given = (embeddings, criterion.prototypes)
    return tuple(torch.zeros_like(x) if g is None else g for g, x in zip(found, given, strict=True))


def test_called_as_a_module_each_side_follows_its_own_loss() -> None:
    embeddings, prototypes, labels, modality = problem(3)
    embeddings.requires_grad_()
    criterion = criterion_of(prototypes)
    feature, prototype = criterion.feature_loss, criterion.prototype_loss
    parts = {
        "feature": feature(embeddings, labels, modality), "prototype": prototype(embeddings, labels, modality),
    }  # fmt: skip
    parts["both"] = parts["feature"] + parts["prototype"]
    for step in STEPS:
        loss = criterion(embeddings, labels, modality, step)
        torch.testing.assert_close(loss, parts[step])
        for mine, expected in zip(
            gradients(criterion, loss, embeddings, True),
            gradients(criterion, parts[step], embeddings, True),
            strict=True,
        ):
            torch.testing.assert_close(mine, expected)
    of_network, of_prototypes = gradients(criterion, criterion(embeddings, labels, modality), embeddings)
    torch.testing.assert_close(of_network, torch.autograd.grad(feature(embeddings, labels, modality), embeddings)[0])
    alone = torch.autograd.grad(prototype(embeddings, labels, modality), criterion.prototypes)[0]
    torch.testing.assert_close(of_prototypes, alone)


def test_labels_may_be_rows_of_own_prototypes() -> None:
    """For loops that pass on nothing but labels."""
    embeddings, prototypes, labels, modality = problem(4)
    criterion = criterion_of(prototypes)
    rows = own_prototype(labels, modality, 4)
    assert criterion(embeddings, rows).item() == criterion(embeddings, labels, modality).item()
    with pytest.raises(ValueError, match=r"labels holds values .*, expected 0\.\.7"):
        criterion(embeddings, rows + 8)
    with pytest.raises(ValueError, match="step is 'network', expected both, feature or prototype"):
        criterion(embeddings, labels, modality, "network")  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["forward", "feature_loss", "prototype_loss", "feature_terms"])
def test_an_empty_batch_is_refused(call: str) -> None:
    nobody = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"embeddings has shape \(0, 2, 3\), expected at least one sample"):
        getattr(SASoftmaxLoss(4, 3, 2), call)(torch.zeros(0, 2, 3), nobody, nobody)


def test_an_empty_batch_of_logits_is_refused() -> None:
    nobody = torch.zeros(0, dtype=torch.long)
    for loss in (
        lambda: losses.identity_loss(torch.zeros(0, 2, 4), nobody),
        lambda: losses.sa_softmax_loss(torch.zeros(0, 2, 8), nobody, nobody),
        lambda: losses.prototype_loss(torch.zeros(0, 2, 8), nobody, nobody),
        lambda: losses.absolute_similarity_loss(torch.zeros(0, 2, 3), torch.zeros(2, 8, 3), nobody, nobody),
    ):
        with pytest.raises(ValueError, match="expected at least one sample"):
            loss()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype: torch.dtype) -> None:
    """No overflow where the sum over batch and parts is beyond what 16 bits hold; close to the same in double."""
    embeddings, prototypes, labels, modality = problem(0, batch=1024, parts=12, identities=20, channels=32)
    labels, modality = torch.arange(1024) % 20, torch.arange(1024) % 2
    half, criterion = (2 * embeddings).to(dtype).requires_grad_(), criterion_of(prototypes.float())
    double = criterion_of(prototypes)
    for step in STEPS:
        loss = criterion(half, labels, modality, step)
        assert loss.dtype == torch.float32
        expected = double(half.double(), labels, modality, step)
        assert expected * 1024 > 65504, "or the test shows nothing"
        assert loss.item() == pytest.approx(expected.item(), rel=0.01 if dtype == torch.bfloat16 else 1e-3)
    (slope,) = torch.autograd.grad(criterion(half, labels, modality), half)
    assert slope.dtype == dtype
    assert slope.isfinite().all()
    assert losses.identity_loss((50 * prototypes[None, 0, :, :20]).half(), labels[:1]).isfinite()


def loss_of(criterion: SASoftmaxLoss, labels: Tensor, modality: Tensor):
    return lambda embeddings: criterion(embeddings, labels, modality)


def test_function_transforms() -> None:
    embeddings, prototypes, labels, modality = problem(1)
    criterion = criterion_of(prototypes)
    loss = loss_of(criterion, labels, modality)
    again = embeddings.clone().requires_grad_()
    expected, _ = gradients(criterion, loss(again), again)
    torch.testing.assert_close(torch.func.grad(loss)(embeddings), expected)
    direction = torch.randn_like(embeddings)
    value, slope = torch.func.jvp(loss, (embeddings,), (direction,))
    torch.testing.assert_close(value, loss(embeddings).detach())
    torch.testing.assert_close(slope, (expected * direction).sum())
    with forward_ad.dual_level():
        dual = loss(forward_ad.make_dual(embeddings, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)


def test_vmap_over_batches_and_their_labels() -> None:
    problems = [problem(seed) for seed in range(3)]
    criterion = criterion_of(problems[0][1])
    embeddings, _, labels, modality = (torch.stack(column) for column in zip(*problems, strict=True))
    alone = torch.stack([criterion(*one).detach() for one in zip(embeddings, labels, modality, strict=True)])
    torch.testing.assert_close(torch.func.vmap(criterion)(embeddings, labels, modality).detach(), alone)
    slopes = torch.func.vmap(torch.func.grad(criterion))(embeddings, labels, modality)
    for slope, one in zip(slopes, zip(embeddings, labels, modality, strict=True), strict=True):
        torch.testing.assert_close(slope, torch.func.grad(criterion)(*one))
    with pytest.raises(ValueError, match=r"labels holds values .*9, expected 0\.\.3"):
        torch.func.vmap(criterion)(embeddings, labels.clamp_min(9), modality)


@pytest.mark.parametrize("step", STEPS)
def test_compiles_as_one_graph(step: str) -> None:
    torch.compiler.reset()
    embeddings, prototypes, labels, modality = problem(2)
    criterion = criterion_of(prototypes)
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    for batch in (6, 4):
        part = embeddings[:batch].clone().requires_grad_()
        mine, plain = (f(part, labels[:batch], modality[:batch], step) for f in (compiled, criterion))
        torch.testing.assert_close(mine, plain)
        for first, second in zip(gradients(criterion, mine, part), gradients(criterion, plain, part), strict=True):
            torch.testing.assert_close(first, second)


def test_exports_with_any_batch_and_still_checks_its_labels() -> None:
    embeddings, prototypes, labels, modality = problem(5, batch=8)
    criterion = criterion_of(prototypes)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(criterion, (embeddings, labels, modality), dynamic_shapes=(batch, batch, batch))
    part = embeddings[:5], labels[:5], modality[:5]
    torch.testing.assert_close(exported.module()(*part), criterion(*part))
    with pytest.raises(RuntimeError, match=r"labels holds values outside 0\.\.3"):
        exported.module()(embeddings, labels + 4, modality)


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad:UserWarning")  # the trainer's progress bar
def test_in_a_trainer_of_pytorch_metric_learning(tmp_path: Path) -> None:
    """The loss and its prototypes go into its loop unchanged; labels are rows of own prototypes."""
    trainers = pytest.importorskip("pytorch_metric_learning.trainers")
    torch.manual_seed(0)
    labels, modality = torch.arange(8).repeat(8), torch.arange(2).repeat_interleave(32)
    images = torch.randn(8, 16)[labels] + torch.randn(2, 16)[modality] + 0.1 * torch.randn(64, 16)
    data = TensorDataset(images, own_prototype(labels, modality, 8))
    network, criterion = nn.Sequential(nn.Linear(16, 12), nn.BatchNorm1d(12)), SASoftmaxLoss(8, 12)
    before = criterion(network(images), labels, modality).item()
    modules = {"trunk": network, "metric_loss": criterion}
    trainer = trainers.MetricLossOnly(
        models={"trunk": network}, batch_size=64, loss_funcs={"metric_loss": criterion}, dataset=data,
        optimizers={f"{name}_optimizer": torch.optim.Adam(m.parameters(), lr=0.02) for name, m in modules.items()},
        sampler=torch.utils.data.RandomSampler(data), dataloader_num_workers=0, data_device=torch.device("cpu"),
        end_of_epoch_hook=lambda trainer: None,
    )  # fmt: skip
    trainer.train(num_epochs=60)
    assert criterion(network(images), labels, modality).item() < 0.3 * before
    assert isinstance(next(iter(DataLoader(data)))[1], Tensor)


def _batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """This process's half of the batch of a step."""
    embeddings, _, labels, modality = problem(step, batch=8, dtype=torch.float32)
    share = slice(processes.rank() * 4, processes.rank() * 4 + 4)
    return embeddings[share], labels[share], modality[share]


def train_as_readme_shows(folder: Path) -> None:
    """Prototypes begin apart and take five steps, unwrapped and wrapped."""
    processes.fabric_of(TrainConfig(device="cpu"))
    for wrapped in (False, True):
        torch.manual_seed(processes.rank())
        criterion = SASoftmaxLoss(4, 5, 3)
        called = DistributedDataParallel(criterion) if wrapped else criterion
        optimizer = torch.optim.SGD(criterion.parameters(), lr=0.5)
        kept = []
        for step in range(5):
            embeddings, labels, modality = _batch(step)
            embeddings = embeddings.requires_grad_()
            called(embeddings, labels, modality, "feature").backward()
            optimizer.zero_grad()
            called(embeddings, labels, modality, "prototype").backward()
            optimizer.step()
            kept.append(criterion.prototypes.detach().clone())
        torch.save(kept, folder / f"{wrapped} {processes.rank()}.pt")


def test_prototypes_of_two_processes_stay_the_same(tmp_path: Path) -> None:
    """They are those of one process that sees the whole batch."""
    processes.launch(train_as_readme_shows, (tmp_path,), 2)
    torch.manual_seed(0)
    criterion = SASoftmaxLoss(4, 5, 3)
    optimizer = torch.optim.SGD(criterion.parameters(), lr=0.5)
    expected = []
    for step in range(5):
        embeddings, _, labels, modality = problem(step, batch=8, dtype=torch.float32)
        optimizer.zero_grad()
        criterion(embeddings, labels, modality, "prototype").backward()
        optimizer.step()
        expected.append(criterion.prototypes.detach().clone())
    for wrapped in (False, True):
        first, second = (torch.load(tmp_path / f"{wrapped} {rank}.pt") for rank in (0, 1))
        for mine, other, one in zip(first, second, expected, strict=True):
            assert torch.equal(mine, other)
            torch.testing.assert_close(mine, one, rtol=1e-5, atol=1e-6)
