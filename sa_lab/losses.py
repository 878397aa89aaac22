"""SA-Softmax: the paper's losses as pure functions, and `SASoftmaxLoss`, a module that owns the prototypes.

Source: Tan et al., Spectral Aware Softmax for Visible-Infrared Person Re-Identification, arXiv:2302.01512 (2023).
Every loss is the batch mean, summed over the P parts; logits are raw dot products. Prototypes of C identities are
stored as 2C rows, visible half first, so an identity y seen in modality m has

    own prototype   y + m C          cross prototype   y + (1 - m) C

Losses are float32 for embeddings in half precision, otherwise of their type. All of them can be differentiated forwards
and backwards, twice, mapped by `torch.func.vmap`, compiled and exported.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed, nn
from torch.nn import functional


def own_prototype(labels: Tensor, modality: Tensor, num_identities: int) -> Int[Tensor, " B"]:
    """Row of the prototype of the sample's own spectrum, in 0..2C-1.

    Args:
        labels: identity in 0..C-1, (B,) integers.
        modality: 0 visible, 1 infrared, (B,) integers.
        num_identities: C.

    Raises:
        ValueError: shapes, types or values that do not fit.
    """
    _check_index("labels", labels, num_identities)
    _check_index("modality", modality, 2)
    if labels.shape != modality.shape:
        raise ValueError(f"labels has {len(labels)} entries and modality {len(modality)}, expected the same")
    return labels.long() + modality.long() * num_identities


def cross_prototype(labels: Tensor, modality: Tensor, num_identities: int) -> Int[Tensor, " B"]:
    """Row of the prototype of the same identity in the other spectrum, in 0..2C-1; as `own_prototype`."""
    _check_index("modality", modality, 2)
    return own_prototype(labels, 1 - modality, num_identities)


def _check_index(name: str, index: Tensor, limit: int) -> None:
    """Raise unless ``index`` is (B,) integers in 0..limit-1; on a GPU, or compiled, that is said once it is known."""
    if index.ndim != 1 or index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise ValueError(f"{name} has shape {tuple(index.shape)} and type {index.dtype}, expected (B,) integers")
    compiling = torch.compiler.is_compiling()
    while not compiling and torch._C._functorch.is_functorch_wrapped_tensor(index):  # by torch.func
        index = torch._C._functorch.get_unwrapped(index)
    if index.device.type in ("cuda", "meta") or compiling:
        torch._assert_async(((index >= 0) & (index < limit)).all(), f"{name} holds values outside 0..{limit - 1}")
    elif index.numel() and (int(index.min()) < 0 or int(index.max()) >= limit):
        raise ValueError(f"{name} holds values {int(index.min())}..{int(index.max())}, expected 0..{limit - 1}")


def _check_rows(name: str, rows: Tensor, labels: Tensor) -> None:
    """Raise unless ``rows`` is (B,P,K) and there is one label for each of its B samples."""
    if rows.ndim != 3:
        raise ValueError(f"{name} has shape {tuple(rows.shape)}, expected three axes: batch, parts, rows")
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"labels has shape {tuple(labels.shape)}, expected {(len(rows),)}: one for each of {name}")
    if rows.shape[0] == 0:  # the mean of none is NaN
        raise ValueError(f"{name} has shape {tuple(rows.shape)}, expected at least one sample")


def _half(name: str, rows: int) -> int:
    """C of 2C prototype rows."""
    if rows % 2:
        raise ValueError(f"{name} has {rows} prototype rows, expected an even number: a visible and an infrared half")
    return rows // 2


def prototype_logits(embeddings: Float[Tensor, "B P D"], prototypes: Float[Tensor, "P K D"]) -> Float[Tensor, "B P K"]:
    """Raw dot products of every part of every sample with the K rows of its part.

    In autocast's type if that is on, otherwise at least in float32, because float16 overflows.
    """
    device = embeddings.device.type
    available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(device)  # a compiler cannot ask
    autocast = available and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else torch.promote_types(embeddings.dtype, torch.float32)
    product = _Products.forward if torch.compiler.is_compiling() else _Products.apply  # a compiler lays out by itself
    logits: Tensor = product(embeddings.to(dtype), prototypes.to(dtype))
    return logits


class _Products(torch.autograd.Function):
    """Dot products laid out as (P,K,B): so, no product of the forward or backward pass has to copy an operand first."""

    generate_vmap_rule = True

    @staticmethod
    def forward(embeddings: Tensor, prototypes: Tensor) -> Tensor:
        return torch.bmm(prototypes, embeddings.permute(1, 2, 0)).permute(2, 0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        embeddings, prototypes = ctx.saved_tensors
        return _Products.forward(tangents[0], prototypes) + _Products.forward(embeddings, tangents[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        embeddings, prototypes = ctx.saved_tensors
        of_logits = gradients[0].permute(1, 2, 0)  # (P,K,B)
        wanted = ctx.needs_input_grad
        return (
            torch.bmm(of_logits.transpose(1, 2), prototypes).transpose(0, 1) if wanted[0] else None,
            torch.bmm(of_logits, embeddings.transpose(0, 1)) if wanted[1] else None,
        )


def cross_entropy(logits: Float[Tensor, "B P K"], target: Int[Tensor, " B"]) -> Float[Tensor, ""]:
    """Cross-entropy against one target row per sample: mean over the batch, sum over the parts."""
    batch, parts, _ = logits.shape
    targets = target.expand(parts, batch)
    return functional.cross_entropy(single(logits).permute(1, 2, 0), targets, reduction="sum") / batch


def single(values: Tensor) -> Tensor:
    """Half precision as float32, in which sums over a batch do not overflow; float64 as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def identity_loss(logits: Float[Tensor, "B P C"], labels: Tensor) -> Float[Tensor, ""]:
    """L_id = CE(f.V, y), the ordinary softmax baseline."""
    _check_rows("logits", logits, labels)
    _check_index("labels", labels, logits.shape[2])
    return cross_entropy(logits, labels.long())


def sa_softmax_loss(
    prototype_logits: Float[Tensor, "B P C2"], labels: Tensor, modality: Tensor, mask_value: float = 50.0
) -> Float[Tensor, ""]:
    """L_sa = CE(f.W - mask onehot(own), cross): the sample is drawn to the other spectrum's prototype.

    The Feature Mask takes ``mask_value`` off the logit of the own prototype. Without it the own prototype is a
    negative, and success (both prototypes coincide) leaves p(own) = p(cross) <= 1/2, a floor of log 2 per part.

    Args:
        prototype_logits: f.W, visible half first.
        labels: identity in 0..C-1.
        modality: 0 visible, 1 infrared.
        mask_value: 0..inf; inf removes the own prototype altogether.

    Raises:
        ValueError: ``mask_value`` is negative or NaN, or labels, modality or shapes that do not fit.
    """
    if not mask_value >= 0:
        raise ValueError(f"mask_value is {mask_value}, expected a number in 0..inf")
    _check_rows("prototype_logits", prototype_logits, labels)
    num_identities = _half("prototype_logits", prototype_logits.shape[2])
    own = own_prototype(labels, modality, num_identities)[:, None, None].expand(-1, prototype_logits.shape[1], 1)
    logits = single(prototype_logits)
    masked = logits.scatter(2, own, logits.gather(2, own) - mask_value)
    return cross_entropy(masked, cross_prototype(labels, modality, num_identities))


def absolute_similarity_loss(
    embeddings: Float[Tensor, "B P D"],
    prototypes: Float[Tensor, "P C2 D"],
    labels: Tensor,
    modality: Tensor,
    logits: Float[Tensor, "B P C2"] | None = None,
) -> Float[Tensor, ""]:
    """L_as = mean (1 - cos(f, W_cross))^2 in [0, 4P]: closeness asked for outright, not relative to other rows.

    With ``logits``, the `prototype_logits` of the same embeddings and prototypes, f.W_cross is read off them.
    """
    _check_rows("embeddings", embeddings, labels)
    if prototypes.ndim != 3 or prototypes.shape[::2] != embeddings.shape[1:]:
        parts, channels = embeddings.shape[1:]
        raise ValueError(f"prototypes has shape {tuple(prototypes.shape)}, expected ({parts}, 2C, {channels})")
    cross = cross_prototype(labels, modality, _half("prototypes", prototypes.shape[1]))
    embeddings = single(embeddings)
    targets = single(prototypes[:, cross].transpose(0, 1))
    if logits is None:
        cosine = functional.cosine_similarity(embeddings, targets, dim=2)
    else:
        product = single(logits).gather(2, cross[:, None, None].expand(-1, logits.shape[1], 1))[:, :, 0]
        lengths = torch.linalg.vector_norm(embeddings, dim=2) * torch.linalg.vector_norm(targets, dim=2)
        cosine = product / lengths.clamp_min(1e-8)
    return (1 - cosine).square().sum(1).mean()


def prototype_loss(
    prototype_logits: Float[Tensor, "B P C2"], labels: Tensor, modality: Tensor, rivals: bool = True
) -> Float[Tensor, ""]:
    """L_p = CE(f.W, own): each prototype learns to stand for its own spectrum.

    The other spectrum's prototype of the same identity is one of its negatives, so the two compete. Without ``rivals``
    (not in the paper), it is not.
    """
    if not rivals:  # L_sa with spectra and roles exchanged: towards the own prototype, the cross one masked
        return sa_softmax_loss(prototype_logits, labels, 1 - modality, math.inf)
    _check_rows("prototype_logits", prototype_logits, labels)
    num_identities = _half("prototype_logits", prototype_logits.shape[2])
    return cross_entropy(prototype_logits, own_prototype(labels, modality, num_identities))


class SASoftmaxLoss(nn.Module):
    """SA-Softmax with its modality prototypes, for any training loop.

    Asynchronous optimisation: step the network on `feature_loss` (plus an identity loss, if wanted), then forward
    again and step the prototypes on `prototype_loss`. The prototypes see only `prototype_loss`, the network only
    `feature_loss`; each method detaches what is not its own. Called as a module it gives both at once, for loops that
    step everything on one loss.

    On several processes, the prototypes start from those of the first one and follow the mean of all gradients, whether
    the module is wrapped in DistributedDataParallel or not.

    Args:
        num_identities: C, identities of the training set.
        embedding_dim: D, channels of a part.
        num_parts: P.
        sas_weight: weight of L_sa in `feature_loss`.
        similarity_weight: weight of L_as in `feature_loss`, at least 0.
        mask_value: Feature Mask, 0..inf.

    Attributes:
        prototypes: parameter (P,2C,D), visible half first, drawn from N(0, 0.001^2).
    """

    def __init__(
        self,
        num_identities: int,
        embedding_dim: int,
        num_parts: int = 1,
        sas_weight: float = 0.7,
        similarity_weight: float = 1.0,
        mask_value: float = 50.0,
    ) -> None:
        super().__init__()
        for name in ("num_identities", "embedding_dim", "num_parts"):
            if locals()[name] < 1:
                raise ValueError(f"{name} is {locals()[name]}, expected at least 1")
        for name in ("sas_weight", "similarity_weight", "mask_value"):
            if not locals()[name] >= 0:
                raise ValueError(f"{name} is {locals()[name]}, expected a number of at least 0")
        self.num_identities = num_identities
        self.sas_weight, self.similarity_weight, self.mask_value = sas_weight, similarity_weight, mask_value
        self._aligned = False
        self.prototypes = nn.Parameter(torch.randn(num_parts, 2 * num_identities, embedding_dim) * 0.001)

    def feature_terms(
        self, embeddings: Tensor, labels: Tensor, modality: Tensor, hold_prototypes: bool = True
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Unweighted (L_sa, L_as), prototypes detached unless ``hold_prototypes`` is off: they then swap sides."""
        parts = self._checked(embeddings, labels)
        prototypes = self._shared() if not hold_prototypes else self._shared().detach()
        logits = prototype_logits(parts, prototypes)
        return (
            sa_softmax_loss(logits, labels, modality, self.mask_value),
            absolute_similarity_loss(parts, prototypes, labels, modality, logits),
        )

    def feature_loss(self, embeddings: Tensor, labels: Tensor, modality: Tensor) -> Float[Tensor, ""]:
        """sas_weight L_sa + similarity_weight L_as, prototypes detached: what the network follows.

        Args:
            embeddings: (B,P,D), or (B,D) with one part; after the BN neck.
            labels: identity in 0..C-1, (B,).
            modality: 0 visible, 1 infrared, (B,).

        Raises:
            ValueError: shapes that do not fit, labels outside 0..C-1, modalities other than 0 and 1.
        """
        sa_softmax, absolute = self.feature_terms(embeddings, labels, modality)
        return self.sas_weight * sa_softmax + self.similarity_weight * absolute

    def prototype_loss(
        self, embeddings: Tensor, labels: Tensor, modality: Tensor, rivals: bool = True
    ) -> Float[Tensor, ""]:
        """L_p with the embeddings detached: what the prototypes follow; ``rivals`` as in the function of this name.
        Arguments and errors as `feature_loss`."""
        parts = self._checked(embeddings, labels).detach()
        return prototype_loss(prototype_logits(parts, self._shared()), labels, modality, rivals)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        modality: Tensor | None = None,
        step: Literal["both", "feature", "prototype"] = "both",
    ) -> Float[Tensor, ""]:
        """`feature_loss`, `prototype_loss`, or their sum, whose gradient reaches the network only from the first and
        the prototypes only from the second.

        The sum saves the second forward pass, so the prototypes see the embeddings from before the network's step,
        unlike in the paper's iteration, which takes the two steps one after the other.

        Args:
            embeddings: see `feature_loss`.
            labels: identity in 0..C-1; without ``modality``, for loops that pass labels alone, the row of the own
                prototype, identity + C modality, in 0..2C-1.
            modality: 0 visible, 1 infrared.
            step: ``feature``, ``prototype`` or ``both``.

        Raises:
            ValueError: as `feature_loss`, or no such step.
        """
        if step not in ("both", "feature", "prototype"):
            raise ValueError(f"step is {step!r}, expected both, feature or prototype")
        if modality is None:
            _check_index("labels", labels, 2 * self.num_identities)
            labels, modality = labels % self.num_identities, labels // self.num_identities
        feature, prototype = step != "prototype", step != "feature"
        loss = self.feature_loss(embeddings, labels, modality) if feature else embeddings.new_zeros(())
        if prototype:
            loss = loss + self.prototype_loss(embeddings, labels, modality)
        elif _processes() > 1:
            loss = loss + 0 * self.prototypes.sum()  # DistributedDataParallel waits for a gradient of every parameter
        return loss

    def _shared(self) -> Tensor:
        """The prototypes; on several processes the same everywhere."""
        if _processes() < 2:
            return self.prototypes
        if not self._aligned:
            distributed.broadcast(self.prototypes.data, 0)
            self._aligned = True
        shared: Tensor = _MeanGradient.apply(self.prototypes)
        return shared

    def extra_repr(self) -> str:
        return f"sas_weight={self.sas_weight}, similarity_weight={self.similarity_weight}, mask_value={self.mask_value}"

    def _checked(self, embeddings: Tensor, labels: Tensor) -> Float[Tensor, "B P D"]:
        parts, _, channels = self.prototypes.shape
        shape = tuple(embeddings.shape)
        if embeddings.ndim == 2 and parts == 1:
            embeddings = embeddings[:, None]
        if embeddings.ndim != 3 or embeddings.shape[1:] != (parts, channels):
            expected = f"(B, {parts}, {channels})" + (f" or (B, {channels})" if parts == 1 else "")
            raise ValueError(f"embeddings has shape {shape}, expected {expected}")
        _check_rows("embeddings", embeddings, labels)
        return embeddings


def _processes() -> int:
    """How many train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _MeanGradient(torch.autograd.Function):
    """A parameter as it is, its gradient averaged over the processes."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor) -> Tensor:
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient / distributed.get_world_size()
