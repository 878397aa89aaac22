"""Neck, classifier and losses of one asynchronous iteration, without the network in front of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.stages import operations
from benchmarks.timing import both_gb, compare_in_turn, matmul_rate
from sa_lab.config import LossConfig
from sa_lab.course import plain
from sa_lab.losses import SASoftmaxLoss, prototype_logits, prototype_loss
from sa_lab.model import Features, PartNeck
from sa_lab.training import objective

Shape = tuple[int, int, int, int]
"""B samples, P parts, D channels, C identities."""
SHAPES: dict[str, Shape] = {"tiny": (64, 4, 1280, 160), "paper": (128, 12, 2048, 395)}
_LOSS = LossConfig(warmup_steps=0)


def measure(device: torch.device) -> dict[str, Any]:
    """Times at the tiny and the paper's size, beside the floor that the matrix products set.

    Returns:
        ``ratios``: `benchmarks.timing.Comparison` by name; ``floors``: by the same names ``gflop``, the
        products of an iteration, ``gflop_s``, the rate of one large product, and ``ms``, the one over the other;
        ``operations`` of ours by the same names.

    Raises:
        AssertionError: the two ways compute different losses or gradients.
    """
    result: dict[str, Any] = {"ratios": {}, "floors": {}, "operations": {}}
    for name, shape in SHAPES.items():
        ours, theirs = Ours(shape, device), Plain(shape, device)
        check_equal(ours, theirs)
        flops, rate = product_flops(shape), matmul_rate(device, side=2048 if device.type == "cpu" else 8192)
        what = f"heads and losses, {name}"
        memory = both_gb(some_calls, name, device.type, device=device)
        result["ratios"][what] = {**compare_in_turn(theirs, ours, 15, 3, device), **memory}
        result["operations"][what] = operations(ours, device)
        result["floors"][what] = {"gflop": flops / 1e9, "gflop_s": rate / 1e9, "ms": 1e3 * flops / rate}
    return result


def some_calls(way: str, name: str, device: str) -> None:
    """Three iterations of one ``way``, plain or ours, at a size in `SHAPES`: their memory is measured outside."""
    call = (Ours if way == "ours" else Plain)(SHAPES[name], torch.device(device))
    for _ in range(3):
        call()


def product_flops(shape: Shape) -> float:
    """Floating-point operations of the matrix products that no way of computing the iteration can do without.

    Identity logits, forward and both gradients: 3 products with C rows. Prototype logits of the feature step, forward
    and the gradient of the features: 2 products with 2C rows. Prototype step, forward and the gradient of the
    prototypes: 2 products with 2C rows.
    """
    batch, parts, channels, identities = shape
    return 2.0 * batch * parts * channels * (3 + 2 * 2 + 2 * 2) * identities


class _Case:
    """The same features, labels and weights for both ways.

    Attributes:
        features: what the trunk would give, (B,P,D), its gradient is taken.
        classifier: V, (P,C,D).
        prototypes: W, (P,2C,D).
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        batch, parts, channels, identities = shape
        generator = torch.Generator().manual_seed(0)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, generator=generator).to(device)

        self.device, self.shape = device, shape
        self.labels = torch.randint(identities, (batch,), generator=generator)
        self.modality = (torch.arange(batch) >= batch // 2).long()
        self.features = normal(batch, parts, channels).requires_grad_()
        self.classifier, self.prototypes = (normal(parts, rows * identities, channels) * 0.01 for rows in (1, 2))


class Ours(_Case):
    """The library's way; a call gives {name: loss} and leaves the gradients."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        super().__init__(shape, device)
        _, parts, channels, identities = shape
        self.neck = PartNeck(parts, channels).to(device)
        nn.init.ones_(self.neck.norm.weight)
        self.classifier.requires_grad_()
        self.criterion = SASoftmaxLoss(identities, channels, parts).to(device)
        with torch.no_grad():
            self.criterion.prototypes.copy_(self.prototypes)

    def __call__(self) -> dict[str, Tensor]:
        """Feature terms and their gradients, then the prototype loss and its."""
        self.features.grad = self.classifier.grad = self.criterion.prototypes.grad = self.neck.norm.weight.grad = None
        labels, modality = (values.to(self.device, non_blocking=True) for values in (self.labels, self.modality))
        embeddings = self.neck(self.features)
        said = Features(self.features, embeddings, prototype_logits(embeddings, self.classifier))
        terms = objective.objective(self.criterion, said, labels, modality, _LOSS)
        total = torch.stack([weight * terms[name] for name, weight in _LOSS.weights().items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            again = self.neck(self.features)
        last = prototype_loss(prototype_logits(again, self.criterion.prototypes), labels, modality)
        last.backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in {**terms, "prototype": last}.items()}

    def gradients(self) -> list[Tensor | None]:
        """Of features, classifier and prototypes."""
        return [self.features.grad, self.classifier.grad, self.criterion.prototypes.grad]


class Plain(_Case):
    """The field's way: loops over the parts, lists of modules; a call as of `Ours`."""

    def __init__(self, shape: Shape, device: torch.device) -> None:
        super().__init__(shape, device)
        _, parts, channels, identities = shape
        self.necks = [nn.BatchNorm1d(channels, device=device) for _ in range(parts)]
        self.linears = [nn.Linear(channels, identities, bias=False, device=device) for _ in range(parts)]
        for neck, linear, rows in zip(self.necks, self.linears, self.classifier, strict=True):
            neck.bias.requires_grad_(False)
            linear.weight.data.copy_(rows)
        self.rows = [nn.Parameter(part.clone()) for part in self.prototypes]

    def __call__(self) -> dict[str, Tensor]:
        """As of `Ours`."""
        self.features.grad = None
        for parameter in (*(m.weight for m in (*self.necks, *self.linears)), *self.rows):
            parameter.grad = None
        identities = self.shape[3]
        own = self.labels + self.modality * identities
        cross = self.labels + (1 - self.modality) * identities
        mask = plain.one_hot_mask(own, 2 * identities, _LOSS.mask_value)
        labels, own, cross, mask = (v.to(self.device, non_blocking=True) for v in (self.labels, own, cross, mask))
        embeddings = self._embeddings()
        logits = [linear(one) for linear, one in zip(self.linears, embeddings, strict=True)]
        terms = plain.feature_terms(embeddings, logits, self.rows, labels, cross, mask)
        identity, sa_softmax, absolute = terms
        sas_weight, similarity_weight = _LOSS.sas_weight, _LOSS.similarity_weight
        total = (1 - sas_weight) * identity + sas_weight * sa_softmax + similarity_weight * absolute
        total.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            again = self._embeddings()
        last = plain.prototype_term(again, self.rows, own)
        last.backward()  # type: ignore[no-untyped-call]
        found = zip(("identity", "sa_softmax", "absolute", "prototype"), (*terms, last), strict=True)
        return {name: value.detach() for name, value in found}

    def _embeddings(self) -> list[Tensor]:
        return [neck(part) for neck, part in zip(self.necks, self.features.unbind(1), strict=True)]

    def gradients(self) -> list[Tensor | None]:
        """Of features, classifier and prototypes."""
        lists = ([linear.weight.grad for linear in self.linears], [rows.grad for rows in self.rows])
        stacked = [torch.stack([grad for grad in grads if grad is not None]) for grads in lists]
        return [self.features.grad, *stacked]


def check_equal(ours: Ours, theirs: Plain) -> None:
    """Both ways give the same losses and the same gradients of features, classifier and prototypes.

    Raises:
        AssertionError: they do not.
    """
    torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-4)
    for mine, other in zip(ours.gradients(), theirs.gradients(), strict=True):
        assert other is not None
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def sentence(result: dict[str, Any]) -> str:
    """What the README says of it.

    Args:
        result: what `measure` gave.
    """
    found = result["ratios"]["heads and losses, paper"]
    floor = result["floors"]["heads and losses, paper"]
    return (
        f"Heads and losses of an iteration of the paper's size take {found['ours_ms']:.0f} ms, the loop over parts "
        f"{found['plain_ms']:.0f} ms: {found['ratio']:.2f} times\n[{found['low']:.2f}, {found['high']:.2f}]. Their "
        f"matrix products alone, {floor['gflop']:.1f} GFLOP, would take {floor['ms']:.0f} ms at the "
        f"{floor['gflop_s']:.0f} GFLOP/s\nof one large product: {100 * floor['ms'] / found['ours_ms']:.0f} % of that "
        f"rate is reached, {100 * floor['ms'] / found['plain_ms']:.0f} % by the loop."
    )
