"""The losses: by hand on tiny inputs, against the golden numbers, and by property (which gradient reaches what)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sa_lab import losses
from sa_lab.losses import (
    SASoftmaxLoss,
    absolute_similarity_loss,
    cross_prototype,
    identity_loss,
    own_prototype,
    prototype_logits,
    prototype_loss,
    sa_softmax_loss,
)

HERE = Path(__file__).parent / "golden"
LOG2 = math.log(2)

many = settings(deadline=None, max_examples=40)
seeds = st.integers(0, 2**31)


def golden(number: int) -> dict[str, np.ndarray]:
    name = f"losses_{number}.npz"
    with np.load(HERE / name) as file:
        return dict(file)


def problem(
    seed: int,
    batch: int = 6,
    parts: int = 3,
    identities: int = 4,
    channels: int = 5,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(embeddings, prototypes, labels, modality), drawn."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, parts, channels, generator=generator, dtype=dtype),
        torch.randn(parts, 2 * identities, channels, generator=generator, dtype=dtype),
        torch.randint(identities, (batch,), generator=generator),
        torch.randint(2, (batch,), generator=generator),
    )


def criterion_of(prototypes: Tensor, **dials: float) -> SASoftmaxLoss:
    parts, rows, channels = prototypes.shape
    criterion = SASoftmaxLoss(rows // 2, channels, parts, **dials).to(prototypes.dtype)
    criterion.prototypes.data = prototypes.clone()
    return criterion


@pytest.mark.parametrize("number", range(5))
def test_golden_values_and_gradients(number: int, device: str) -> None:
    data = golden(number)
    features = torch.from_numpy(data["features"]).to(device).requires_grad_()
    classifier, prototypes, labels, modality = (
        torch.from_numpy(data[key]).to(device) for key in ("classifier", "prototypes", "labels", "modality")
    )
    w_sas, w_ast, mask = (float(data[key]) for key in ("w_sas", "w_ast", "mask_value"))
    criterion = criterion_of(prototypes, sas_weight=w_sas, similarity_weight=w_ast, mask_value=mask)
    identity = identity_loss(prototype_logits(features, classifier), labels)
    sa_softmax, absolute = criterion.feature_terms(features, labels, modality)
    prototype = criterion.prototype_loss(features, labels, modality)
    total = (1 - w_sas) * identity + criterion.feature_loss(features, labels, modality)
    for name, value in (
        ("identity_loss", identity),
        ("sa_softmax_loss", sa_softmax),
        ("absolute_similarity_loss", absolute),
        ("prototype_loss", prototype),
        ("total_loss", total),
    ):
        assert value.item() == pytest.approx(float(data[name]), rel=1e-5, abs=1e-5), name
    total.backward()
    assert criterion.prototypes.grad is None
    before = features.grad.clone()
    prototype.backward()
    np.testing.assert_allclose(features.grad.cpu(), data["grad_features"], atol=1e-5)
    np.testing.assert_allclose(criterion.prototypes.grad.cpu(), data["grad_prototypes"], atol=1e-5)
    torch.testing.assert_close(features.grad, before, rtol=0, atol=0)


def test_rows_of_the_two_halves() -> None:
    labels, modality = torch.tensor([0, 2, 0, 2]), torch.tensor([0, 0, 1, 1])
    assert own_prototype(labels, modality, 3).tolist() == [0, 2, 3, 5]
    assert cross_prototype(labels, modality, 3).tolist() == [3, 5, 0, 2]


def test_by_hand_two_identities() -> None:
    """One visible sample of identity 0: rows are (visible 0, visible 1, infrared 0, infrared 1), own 0, cross 2."""
    logits = torch.log(torch.tensor([[[3.0, 1.0, 2.0, 4.0]]]))  # exponentials 3, 1, 2, 4
    visible = (torch.tensor([0]), torch.tensor([0]))
    assert prototype_loss(logits, *visible).item() == pytest.approx(-math.log(3 / 10))
    assert prototype_loss(logits, *visible, rivals=False).item() == pytest.approx(-math.log(3 / 8))
    assert sa_softmax_loss(logits, *visible, mask_value=0.0).item() == pytest.approx(-math.log(2 / 10))
    assert sa_softmax_loss(logits, *visible, mask_value=math.log(3)).item() == pytest.approx(-math.log(2 / 8))
    assert sa_softmax_loss(logits, *visible, mask_value=math.inf).item() == pytest.approx(-math.log(2 / 7))
    infrared = (torch.tensor([0]), torch.tensor([1]))  # own 2, cross 0
    assert prototype_loss(logits, *infrared).item() == pytest.approx(-math.log(2 / 10))
    assert sa_softmax_loss(logits, *infrared, mask_value=math.inf).item() == pytest.approx(-math.log(3 / 8))


def test_by_hand_identity_loss_is_a_batch_mean_summed_over_parts() -> None:
    logits = torch.log(torch.tensor([[[1.0, 3.0], [1.0, 1.0]], [[1.0, 1.0], [4.0, 1.0]]]))
    expected = (-math.log(1 / 4) - math.log(1 / 2) - math.log(1 / 2) - math.log(1 / 5)) / 2
    assert identity_loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected)


def test_by_hand_absolute_similarity() -> None:
    """C = 1: the cross prototype of the visible sample is row 1, of the infrared one row 0."""
    prototypes = torch.tensor([[[1.0, 0.0], [0.0, 5.0]], [[0.0, 1.0], [3.0, 4.0]]])
    embeddings = torch.tensor([[[0.0, 2.0], [-3.0, -4.0]], [[0.0, 7.0], [1.0, 0.0]]])
    # cosines: visible 1 and -1, infrared 0 and 0; squares of 1 - cos: 0 + 4 and 1 + 1; mean of 4 and 2
    loss = absolute_similarity_loss(embeddings, prototypes, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(3.0)


def test_by_hand_logits_are_raw_dot_products() -> None:
    embeddings = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    prototypes = torch.tensor([[[1.0, 0.0], [0.0, -1.0]], [[2.0, 1.0], [0.0, 0.0]]])
    assert prototype_logits(embeddings, prototypes).tolist() == [[[1.0, -2.0], [10.0, 0.0]]]


@many
@given(seeds, st.integers(1, 4))
def test_without_mask_coinciding_prototypes_leave_a_floor_of_log_2_a_part(seed: int, parts: int) -> None:
    embeddings, prototypes, labels, modality = problem(seed, parts=parts)
    prototypes[:, 4:] = prototypes[:, :4]
    assert sa_softmax_loss(prototype_logits(embeddings, prototypes), labels, modality, 0.0) >= parts * LOG2
    ideal = 100 * torch.eye(4, dtype=torch.float64)[labels][:, None].expand(-1, parts, -1)
    both = torch.eye(4, dtype=torch.float64).repeat(2, 1).expand(parts, -1, -1)
    logits = prototype_logits(ideal, both)
    assert sa_softmax_loss(logits, labels, modality, 0.0).item() == pytest.approx(parts * LOG2)
    assert sa_softmax_loss(logits, labels, modality, 50.0).item() < 1e-9


def test_without_mask_a_sample_is_pushed_off_its_own_identity() -> None:
    """The ambiguous optimization: of the own prototype's logit the gradient is p(own), which the mask takes away."""
    for mask, expected in ((0.0, 0.5), (50.0, 0.0)):
        logits = torch.tensor([[[30.0, 0.0, 30.0, 0.0]]], requires_grad=True)
        sa_softmax_loss(logits, torch.tensor([0]), torch.tensor([0]), mask).backward()
        assert logits.grad[0, 0, 0].item() == pytest.approx(expected, abs=1e-9)


@many
@given(seeds, st.sampled_from([0.0, 1e-3, 50.0, 1e30, math.inf]), st.sampled_from([0.0, 1.0, 1e4]))
def test_every_mask_is_finite_in_value_and_gradient(seed: int, mask: float, scale: float) -> None:
    embeddings, prototypes, labels, modality = problem(seed, dtype=torch.float32)
    embeddings = (scale * embeddings).requires_grad_()
    criterion = criterion_of(prototypes, mask_value=mask)
    loss = criterion.feature_loss(embeddings, labels, modality)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(embeddings.grad).all()
    assert loss >= 0


@many
@given(seeds)
def test_a_larger_mask_never_raises_the_loss_and_inf_is_its_limit(seed: int) -> None:
    embeddings, prototypes, labels, modality = problem(seed)
    logits = prototype_logits(embeddings, prototypes)
    values = [sa_softmax_loss(logits, labels, modality, mask).item() for mask in (0.0, 1.0, 50.0, 500.0, math.inf)]
    assert values == sorted(values, reverse=True)
    assert values[-2] == pytest.approx(values[-1], abs=1e-12)


@many
@given(seeds, st.integers(1, 4), st.floats(1e-3, 1e3))
def test_absolute_term_has_its_bounds_and_ignores_scale(seed: int, parts: int, scale: float) -> None:
    embeddings, prototypes, labels, modality = problem(seed, parts=parts)
    arguments = (prototypes, labels, modality)
    loss = absolute_similarity_loss(embeddings, *arguments)
    assert 0 <= loss <= 4 * parts
    assert absolute_similarity_loss(scale * embeddings, *arguments).item() == pytest.approx(loss.item())
    cross = prototypes[:, cross_prototype(labels, modality, 4)].transpose(0, 1)
    assert absolute_similarity_loss(scale * cross, *arguments).item() == pytest.approx(0, abs=1e-12)
    assert absolute_similarity_loss(-scale * cross, *arguments).item() == pytest.approx(4 * parts)


@many
@given(seeds)
def test_the_order_of_the_batch_is_irrelevant(seed: int) -> None:
    embeddings, prototypes, labels, modality = problem(seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    criterion = criterion_of(prototypes)
    for method in (criterion.feature_loss, criterion.prototype_loss):
        value = method(embeddings, labels, modality).item()
        assert method(embeddings[order], labels[order], modality[order]).item() == pytest.approx(value, rel=1e-12)


@many
@given(seeds)
def test_parts_sum_and_modalities_mirror(seed: int) -> None:
    embeddings, prototypes, labels, modality = problem(seed)
    swapped = torch.cat([prototypes[:, 4:], prototypes[:, :4]], dim=1)
    for name in ("feature_loss", "prototype_loss"):
        whole = getattr(criterion_of(prototypes), name)(embeddings, labels, modality).item()
        parts = [
            getattr(criterion_of(prototypes[p : p + 1]), name)(embeddings[:, p], labels, modality).item()
            for p in range(3)
        ]
        assert whole == pytest.approx(sum(parts), rel=1e-12)
        mirrored = getattr(criterion_of(swapped), name)(embeddings, labels, 1 - modality).item()
        assert whole == pytest.approx(mirrored, rel=1e-12)


@many
@given(seeds)
def test_each_gradient_reaches_only_its_own(seed: int) -> None:
    embeddings, prototypes, labels, modality = problem(seed)
    embeddings.requires_grad_()
    criterion = criterion_of(prototypes)
    criterion.feature_loss(embeddings, labels, modality).backward()
    assert criterion.prototypes.grad is None
    assert embeddings.grad.abs().sum() > 0
    embeddings.grad = None
    criterion.prototype_loss(embeddings, labels, modality).backward()
    assert embeddings.grad is None
    assert criterion.prototypes.grad.abs().sum() > 0


def test_gradient_of_the_pure_functions_is_exact() -> None:
    embeddings, prototypes, labels, modality = problem(3, batch=3, parts=2, identities=2, channels=3)
    embeddings.requires_grad_()

    def everything(f: Tensor) -> Tensor:
        logits = prototype_logits(f, prototypes)
        absolute = absolute_similarity_loss(f, prototypes, labels, modality)
        sa_softmax = sa_softmax_loss(logits, labels, modality, 2.0)
        return sa_softmax + absolute + prototype_loss(logits, labels, modality)

    assert torch.autograd.gradcheck(everything, embeddings)


def test_one_part_may_be_left_out_of_the_shape() -> None:
    embeddings, prototypes, labels, modality = problem(1, parts=1)
    criterion = criterion_of(prototypes)
    for method in (criterion.feature_loss, criterion.prototype_loss):
        flat, whole = (method(e, labels, modality) for e in (embeddings[:, 0], embeddings))
        assert flat.item() == whole.item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("integers", [torch.int64, torch.int32, torch.uint8])
def test_types(dtype: torch.dtype, integers: torch.dtype) -> None:
    embeddings, prototypes, labels, modality = problem(2, dtype=dtype)
    criterion = criterion_of(prototypes)
    loss = criterion.feature_loss(embeddings, labels.to(integers), modality.to(integers))
    assert loss.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
    reference = criterion_of(prototypes.double()).feature_loss(embeddings.double(), labels, modality)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.05}[dtype]
    assert loss.item() == pytest.approx(reference.item(), rel=tolerance)


def test_fresh_prototypes_and_weights() -> None:
    torch.manual_seed(0)
    criterion = SASoftmaxLoss(50, 64, 4, sas_weight=0.3, similarity_weight=2.0, mask_value=7.0)
    assert criterion.prototypes.shape == (4, 100, 64)
    assert criterion.prototypes.std().item() == pytest.approx(0.001, rel=0.05)
    assert [name for name, _ in criterion.named_parameters()] == ["prototypes"]
    assert "mask_value=7.0" in repr(criterion)
    embeddings, prototypes, labels, modality = problem(5)
    weighted = criterion_of(prototypes, sas_weight=0.3, similarity_weight=2.0)
    sa_softmax, absolute = weighted.feature_terms(embeddings, labels, modality)
    total = weighted.feature_loss(embeddings, labels, modality)
    assert total.item() == pytest.approx(0.3 * sa_softmax.item() + 2 * absolute.item())


LABELS, MODALITY = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1])
EMBEDDINGS, PROTOTYPES, LOGITS = torch.ones(4, 2, 3), torch.ones(2, 8, 3), torch.ones(4, 2, 8)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 4]), r"labels holds values 0\.\.4, expected 0\.\.3"),
        (torch.tensor([-1, 1, 2, 3]), r"labels holds values -1\.\.3"),
        (LABELS.float(), r"labels has .*float32, expected \(B,\) integers"),
        (LABELS.bool(), "labels has .*bool"),
        (LABELS[:3], r"labels has .*3"),
        (LABELS[:, None], r"labels has shape \(4, 1\)"),
        (torch.tensor(1), r"labels has shape \(\)"),
    ],
)
def test_wrong_labels_are_named(labels: Tensor, message: str) -> None:
    criterion = criterion_of(PROTOTYPES)
    for call in (
        lambda: sa_softmax_loss(LOGITS, labels, MODALITY),
        lambda: prototype_loss(LOGITS, labels, MODALITY),
        lambda: absolute_similarity_loss(EMBEDDINGS, PROTOTYPES, labels, MODALITY),
        lambda: identity_loss(LOGITS[:, :, :4], labels),
        lambda: criterion.feature_loss(EMBEDDINGS, labels, MODALITY),
        lambda: criterion.prototype_loss(EMBEDDINGS, labels, MODALITY),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("modality", "message"),
    [
        (torch.tensor([0, 0, 1, 2]), r"modality holds values 0\.\.2, expected 0\.\.1"),
        (torch.tensor([0, 0, 1, -1]), r"modality holds values -1\.\.1"),
        (MODALITY.float(), "modality has .*float32"),
        (MODALITY.bool(), "modality has .*bool"),
        (MODALITY[:1], "labels has 4 entries and modality 1"),
    ],
)
def test_wrong_modality_is_named(modality: Tensor, message: str) -> None:
    criterion = criterion_of(PROTOTYPES)
    for call in (
        lambda: sa_softmax_loss(LOGITS, LABELS, modality),
        lambda: prototype_loss(LOGITS, LABELS, modality),
        lambda: absolute_similarity_loss(EMBEDDINGS, PROTOTYPES, LABELS, modality),
        lambda: criterion.feature_loss(EMBEDDINGS, LABELS, modality),
        lambda: criterion.prototype_loss(EMBEDDINGS, LABELS, modality),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.usefixtures("unchecked")
def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"prototype_logits has shape \(4, 8\)"):
        sa_softmax_loss(LOGITS[:, 0], LABELS, MODALITY)
    with pytest.raises(ValueError, match=r"prototype_logits has shape \(4, 8\)"):
        prototype_loss(LOGITS[:, 0], LABELS, MODALITY)
    with pytest.raises(ValueError, match="prototype_logits has 7 prototype rows, expected an even number"):
        prototype_loss(LOGITS[:, :, :7], LABELS, MODALITY)
    with pytest.raises(ValueError, match="prototypes has 7 prototype rows"):
        absolute_similarity_loss(EMBEDDINGS, PROTOTYPES[:, :7], LABELS, MODALITY)
    with pytest.raises(ValueError, match=r"prototypes has shape \(1, 8, 3\), expected \(2, 2C, 3\)"):
        absolute_similarity_loss(EMBEDDINGS, PROTOTYPES[:1], LABELS, MODALITY)
    with pytest.raises(ValueError, match=r"logits has shape \(4, 4\)"):
        identity_loss(LOGITS[:, 0, :4], LABELS)
    with pytest.raises(ValueError, match=r"labels has .*\(4,\)"):
        absolute_similarity_loss(EMBEDDINGS[:1], PROTOTYPES, LABELS, MODALITY)  # must not be broadcast
    for shape in ((4, 3, 3), (4, 2, 5), (4, 3), (4,), (4, 1, 2, 3)):
        for name in ("feature_loss", "prototype_loss"):
            with pytest.raises(ValueError, match=r"embeddings has shape .* expected \(B, 2, 3\)"):
                getattr(criterion_of(PROTOTYPES), name)(torch.ones(shape), LABELS, MODALITY)
    with pytest.raises(ValueError, match=r"expected \(B, 1, 3\) or \(B, 3\)"):
        criterion_of(PROTOTYPES[:1]).feature_loss(torch.ones(4, 4), LABELS, MODALITY)


@pytest.mark.parametrize("mask", [-1.0, -math.inf, math.nan])
def test_wrong_mask(mask: float) -> None:
    with pytest.raises(ValueError, match=f"mask_value is {mask}"):
        sa_softmax_loss(LOGITS, LABELS, MODALITY, mask)
    with pytest.raises(ValueError, match=f"mask_value is {mask}"):
        SASoftmaxLoss(4, 3, mask_value=mask)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sas_weight": -0.1},
        {"sas_weight": math.nan},
        {"similarity_weight": -1.0},
        {"num_identities": 0},
        {"embedding_dim": 0},
        {"num_parts": 0},
    ],
)
def test_wrong_dials_are_named(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        SASoftmaxLoss(**{"num_identities": 4, "embedding_dim": 3, **wrong})


def test_in_anybodys_training_loop() -> None:
    """Two spectra that see the same identities from different sides: a linear network brings them together."""
    torch.manual_seed(0)
    labels, modality = torch.arange(8).repeat(8) % 8, torch.arange(2).repeat_interleave(32)
    shift = torch.randn(2, 16)
    images = torch.randn(8, 16)[labels] + shift[modality] + 0.1 * torch.randn(64, 16)

    network = torch.nn.Sequential(torch.nn.Linear(16, 12), torch.nn.BatchNorm1d(12))
    criterion = SASoftmaxLoss(num_identities=8, embedding_dim=12)
    feature_steps = torch.optim.Adam(network.parameters(), lr=0.02)
    prototype_steps = torch.optim.Adam(criterion.parameters(), lr=0.02)
    history = []
    for _ in range(120):
        loss = criterion.feature_loss(network(images), labels, modality)
        feature_steps.zero_grad()
        loss.backward()
        feature_steps.step()
        prototype_steps.zero_grad()
        criterion.prototype_loss(network(images), labels, modality).backward()
        prototype_steps.step()
        history.append(loss.item())
    assert history[-1] < 0.25 * history[0]


def test_products_have_their_derivatives() -> None:
    """First and second ones, against finite differences."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 2, 4), (2, 5, 4))
    inputs = tuple(torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    assert torch.autograd.gradcheck(losses.prototype_logits, inputs)
    assert torch.autograd.gradgradcheck(losses.prototype_logits, inputs)
    expected = torch.einsum("bpd,pkd->bpk", *inputs)
    torch.testing.assert_close(losses.prototype_logits(*inputs), expected)


def test_the_cosine_read_off_the_logits_is_the_cosine() -> None:
    embeddings, prototypes, labels, modality = problem(2, dtype=torch.float64)
    embeddings.requires_grad_()
    values, slopes = [], []
    for logits in (None, losses.prototype_logits(embeddings, prototypes)):
        loss = losses.absolute_similarity_loss(embeddings, prototypes, labels, modality, logits)
        values.append(loss)
        slopes.append(torch.autograd.grad(loss, embeddings)[0])
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*slopes)


def test_products_under_autocast_are_in_its_type() -> None:
    embeddings, prototypes, *_ = problem(2)
    with torch.autocast("cpu", torch.bfloat16):
        logits = losses.prototype_logits(embeddings.requires_grad_(), prototypes)
    assert logits.dtype == torch.bfloat16
    logits.float().sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.dtype == embeddings.dtype, "that of what it was given, not of the products"


def test_half_precision_does_not_overflow() -> None:
    """Dot products of 2,048 numbers of size 10 are beyond what float16 holds."""
    embeddings = torch.full((4, 2, 2048), 10.0, dtype=torch.float16)
    prototypes = torch.full((2, 8, 2048), 10.0, dtype=torch.float16)
    logits = prototype_logits(embeddings, prototypes)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.full((4, 2, 8), 204_800.0))
