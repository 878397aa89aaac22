"""From a symbol to its equation, to the function that computes it, to the line of the source."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_lab import analysis, baselines, losses
from sa_lab.course import plain
from sa_lab.evaluation.reports import RetrievalResult
from sa_lab.training import steps

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Symbol:
    """A symbol of the chapters.

    Attributes:
        symbol, equation: Markdown with LaTeX.
        function: what computes it.
        code: text that occurs in exactly one line of its source.
    """

    symbol: str
    equation: str
    function: Callable[..., Any]
    code: str

    def where(self) -> tuple[str, int]:
        """File, relative to the checkout, and line number.

        Raises:
            ValueError: ``code`` is in no line of the function, or in several.
        """
        function = inspect.unwrap(self.function)
        lines, first = inspect.getsourcelines(function)
        at = [first + i for i, line in enumerate(lines) if self.code in line]
        if len(at) != 1:
            raise ValueError(f"{self.code!r} is in {len(at)} lines of {function.__qualname__}, expected one")
        return Path(inspect.getfile(function)).relative_to(_ROOT).as_posix(), at[0]


_MODULE = losses.SASoftmaxLoss
SYMBOLS = (
    Symbol("$own$", "$y + m C$", losses.own_prototype, "labels.long() + modality.long() * num_identities"),
    Symbol("$cross$", "$y + (1 - m) C$", losses.cross_prototype, "own_prototype(labels, 1 - modality, num_identities)"),
    Symbol(r"$f W^\top$", r"$\sum_d f_d W_{kd}$", losses.prototype_logits, "product(embeddings.to(dtype), prototypes"),
    Symbol("$CE(z, k)$", r"$-\log \mathrm{softmax}(z)_k$", losses.cross_entropy, "functional.cross_entropy("),
    Symbol("$L_{id}$", r"$CE(f V^\top, y)$", losses.identity_loss, "return cross_entropy(logits, labels"),
    Symbol("$mask$", "$z_{own} - mask$", losses.sa_softmax_loss, "logits.gather(2, own) - mask_value"),
    Symbol(
        "$L_{sa}$", r"$CE(f W^\top - mask \cdot onehot(own), cross)$", losses.sa_softmax_loss,
        "return cross_entropy(masked, cross_prototype(",
    ),
    Symbol(
        "$L_{as}$", r"$(1 - \cos(f, W_{cross}))^2$", losses.absolute_similarity_loss,
        "(1 - cosine).square().sum(1).mean()",
    ),
    Symbol("$L_p$", r"$CE(f W^\top, own)$", losses.prototype_loss, "cross_entropy(prototype_logits, own_prototype("),
    Symbol(
        "$w_{sas}$, $w_{as}$", "$w_{sas} L_{sa} + w_{as} L_{as}$", _MODULE.feature_loss,
        "self.sas_weight * sa_softmax + self.similarity_weight * absolute",
    ),
    Symbol(
        "$L$", "$(1 - w_{sas}) L_{id} + w_{sas} L_{sa} + w_{as} L_{as}$", plain.plain_iteration,
        "total = (1 - loss.sas_weight) * identity",
    ),
    Symbol("network's step", "$W$ held fixed", _MODULE.feature_terms, "self._shared().detach()"),
    Symbol("prototypes' step", "$f$ held fixed", _MODULE.prototype_loss, "labels).detach()"),
    Symbol("warm-up", "$w_{sas} = w_{as} = 0$", steps.loss_at, "return LossConfig(0.0, 0.0, loss.mask_value)"),
    Symbol("prototype cosine", r"$\hat W_c \cdot \hat W_{c + C}$", analysis.prototype_alignment, "unit[:, 0] * unit"),
    Symbol("modality gap (`stranger_ratio`)", r"$d_{own} / \bar d_{strangers}$", analysis.modality_gap,
           "stranger_ratio=np.divide("),
    Symbol("Rank-k", r"share of $r_1 \le k$", RetrievalResult.cmc, "cumsum() / len(ranks)"),
    Symbol("hetero-center", r"$\lVert c_{k,0} - c_{k,1} \rVert^2$", baselines.hetero_center, "gap.square().sum(2)"),
)  # fmt: skip


def table() -> str:
    """Markdown: symbol, equation, function, and the line of the source with its number."""
    lines = ["| symbol | equation | function | source |", "|---|---|---|---|"]
    for one in SYMBOLS:
        file, number = one.where()
        name = f"{one.function.__module__}.{one.function.__qualname__}"
        lines.append(f"| {one.symbol} | {one.equation} | `{name}` | `{file}`, line {number} |")
    return "\n".join(lines)
