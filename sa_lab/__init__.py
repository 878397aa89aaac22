"""sa_lab: SA-Softmax for visible-infrared person re-identification, to learn from, to analyse and to use.

The names that people need first are here; each is imported on first use.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sa_lab.config import ExperimentConfig, LossConfig, variant
    from sa_lab.data import list_images, prepare
    from sa_lab.evaluation.search import evaluate
    from sa_lab.experiment import run
    from sa_lab.losses import SASoftmaxLoss
    from sa_lab.runs import Run, load_embeddings

__version__ = "0.5.0"

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""Put torch's large CPU tensors in large pages: otherwise, gradients of all prototypes would spend much of their time
on page faults. Torch reads it once, before its first tensor; 0 switches it off."""

_HOMES = {
    "ExperimentConfig": "config", "LossConfig": "config", "variant": "config", "SASoftmaxLoss": "losses",
    "list_images": "data", "prepare": "data", "run": "experiment", "Run": "runs", "load_embeddings": "runs",
    "evaluate": "evaluation.search",
}  # fmt: skip
__all__ = [
    "ExperimentConfig", "LossConfig", "Run", "SASoftmaxLoss", "evaluate", "list_images", "load_embeddings", "prepare",
    "run", "variant",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sa_lab' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"sa_lab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
