"""How fast the library is, against the way the field usually writes the same; both compute the same numbers.

Each part is checked for equality before it is timed, and measured in turn with the plain way: `run_all`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from benchmarks import course, extraction, gallery, heads, inputs, iteration, losses, overlap, ranking, summary, syncing
from benchmarks.summary import Result
from sa_lab import study
from sa_lab.disk import home, write_text

Part = Callable[[torch.device], dict[str, Any]]

PARTS: dict[str, Part] = {
    "iteration": iteration.measure, "paper": iteration.measure_paper, "heads": heads.measure, "inputs": inputs.measure,
    "ranking": ranking.measure, "gallery": gallery.measure, "extraction": extraction.measure,
    "overlap": overlap.measure, "syncing": syncing.measure, "losses": losses.measure, "course": course.measure,
}  # fmt: skip
"""What can be measured, by name, each a function of the device."""
ONLY_ON = {"paper": "cuda", "overlap": "cpu", "gallery": "cpu", "course": "cpu"}
"""Parts that are for one kind of device."""


def run_all(device: torch.device, only: Sequence[str] = (), out: Path | None = None) -> Result:
    """Measure, and write one JSON; parts that are not measured now keep what the file says of them.

    Args:
        device: where to compute.
        only: names in `PARTS`; by default all.
        out: the file; by default results/bench-<device>.json in the data folder.

    Returns:
        What the file holds: of each part what it gave, with ``run``, when and where that was; and what
        `benchmarks.summary.ready` makes of it.

    Raises:
        ValueError: a name that is none of a part.
    """
    if unknown := sorted(set(only) - set(PARTS)):
        raise ValueError(f"only is {', '.join(unknown)}, expected names among {', '.join(PARTS)}")
    out = out or home() / "results" / f"bench-{device.type}.json"
    chosen = [name for name in PARTS if name in (only or PARTS)]
    for name in [name for name in chosen if ONLY_ON.get(name, device.type) != device.type]:
        tqdm.write(f"{name} is left out: it is measured on {ONLY_ON[name]} alone, this is {device.type}")
        chosen.remove(name)
    bar = tqdm(chosen, unit="part")
    for name in bar:
        bar.set_description(name)
        found = {"run": conditions(device), **PARTS[name](device)}
        known = _known(out) | {name: found}
        write_text(out, json.dumps(known | summary.ready(known), indent=1))
    known = _known(out)
    return known | summary.ready(known)


def _known(out: Path) -> Result:
    """What the file holds of the parts there are, in their order; read anew, another process may write to it too."""
    held: Result = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    return {name: held[name] for name in PARTS if name in held}


def conditions(device: torch.device) -> dict[str, Any]:
    """When and where something is measured, see `sa_lab.study.conditions`, with the device and its threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {**study.conditions(), "device": name, "threads": torch.get_num_threads()}


__all__ = ["ONLY_ON", "PARTS", "conditions", "run_all", "summary"]
