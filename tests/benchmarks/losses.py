"""What an iteration costs with each loss of the field, beside one with softmax."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks import sizes, timing
from sa_lab.config import VARIANTS, variant
from sa_lab.training.loop import iterate, start


def measure(device: torch.device, rounds: int = 15) -> dict[str, Any]:
    """Iterations of the preset tiny, each loss in turn with softmax; all have the prototype step.

    Returns:
        ``losses``, of each the time over that of softmax, a `timing.Comparison` whose plain way is the loss.
    """
    config = sizes.config_of("tiny", device)
    store = sizes.store_of(config, sizes.IDENTITIES["tiny"], 4)
    softmax = timing.several(iterate(start(variant(config, "softmax"), store)), device)
    found: dict[str, timing.Comparison] = {}
    for name in VARIANTS:
        loss = timing.several(iterate(start(variant(config, name), store)), device)
        found[name] = timing.compare_in_turn(loss, softmax, rounds, 3, device, timing.per_call(device))
    return {"losses": found}
