"""``python -m benchmarks``, with this folder's parent on the path: `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks import run_all, summary


def bench(device: Literal["auto", "cpu", "cuda"] = "auto", only: tuple[str, ...] = (), out: Path | None = None) -> None:
    """Time the library against the way the field usually writes the same, after checking that both compute the same.

    Args:
        device: where to compute; auto takes a GPU if there is one.
        only: parts to measure, the others keep what was measured before: iteration, paper (on a GPU), heads, inputs,
            ranking, gallery, extraction, overlap, syncing, losses, course; by default all.
        out: JSON file; by default results/bench-<device>.json in the data folder.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("device is 'cuda', which this machine does not have; use auto")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    print(summary.show(run_all(torch.device(chosen), only, out)))


if __name__ == "__main__":
    tyro.cli(bench)
