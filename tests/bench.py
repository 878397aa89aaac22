"""Times on this machine: heads and losses against the field's loop over parts, and the stages of an iteration.

Run by `make bench` (and `make gpu` on CUDA, which first checks the golden numbers there). Both ways compute the same
losses, which is asserted before anything is timed; they alternate, and the ratio of each pair is what is reported.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import bench_evaluation
import torch
from torch import Tensor, nn
from torch.nn import functional

from sa_lab import train
from sa_lab.config import PRESETS, ExperimentConfig, home
from sa_lab.data import prepare
from sa_lab.disk import atomic_path
from sa_lab.losses import SASoftmaxLoss, identity_loss, prototype_logits
from sa_lab.model import PartNeck


def plain_losses(
    parts: list[Tensor], heads: nn.ModuleList, prototypes: list[Tensor], labels: Tensor, modality: Tensor
) -> Tensor:
    """The feature objective as the field usually writes it: a loop over parts, one-hot masks built each step."""
    total = torch.zeros((), device=labels.device)
    count = prototypes[0].shape[0] // 2
    own, cross = labels + modality * count, labels + (1 - modality) * count
    for part, head, rows in zip(parts, heads, prototypes, strict=True):
        embedding = head[0](part)
        mask = torch.zeros(len(labels), 2 * count).scatter_(1, own.cpu()[:, None], 50.0).to(labels.device)
        cosine = functional.cosine_similarity(embedding, rows.detach()[cross])
        total = total + 0.3 * functional.cross_entropy(head[1](embedding), labels)
        total = total + 0.7 * functional.cross_entropy(embedding @ rows.detach().T - mask, cross)
        total = total + (1 - cosine).square().mean()
    return total


def heads_and_losses(device: torch.device, shape: tuple[int, int, int, int], pairs: int) -> dict[str, float]:
    """Forward and backward of neck, classifier and feature losses, both ways, on the same weights."""
    batch, num_parts, channels, identities = shape
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(batch, num_parts, channels, generator=generator).to(device)
    labels = torch.randint(identities, (batch,), generator=generator).to(device)
    modality = (torch.arange(batch) >= batch // 2).long().to(device)
    neck = PartNeck(num_parts, channels).to(device)
    classifier = (torch.randn(num_parts, identities, channels, generator=generator) * 0.01).to(device).requires_grad_()
    criterion = SASoftmaxLoss(identities, channels, num_parts).to(device)
    heads = nn.ModuleList()
    for p in range(num_parts):
        norm, linear = nn.BatchNorm1d(channels), nn.Linear(channels, identities, bias=False)
        norm.weight.data = neck.norm.weight.detach().view(num_parts, -1)[p].clone()
        linear.weight.data = classifier.detach()[p].clone()
        heads.append(nn.Sequential(norm, linear).to(device))
    rows = [criterion.prototypes.detach()[p].clone() for p in range(num_parts)]

    def ours() -> Tensor:
        embeddings = neck(features)
        logits = prototype_logits(embeddings, classifier)
        loss = 0.3 * identity_loss(logits, labels) + criterion.feature_loss(embeddings, labels, modality)
        loss.backward()
        return loss.detach()

    def plain() -> Tensor:
        loss = plain_losses([features[:, p] for p in range(num_parts)], heads, rows, labels, modality)
        loss.backward()
        return loss.detach()

    torch.testing.assert_close(ours(), plain(), rtol=1e-4, atol=1e-4)
    return ratio(plain, ours, pairs, device)


def ratio(slow: Callable[[], object], fast: Callable[[], object], pairs: int, device: torch.device) -> dict[str, float]:
    """Time of ``slow`` over time of ``fast``, pair by pair: median, smallest and largest."""
    ratios, seconds = [], []
    for _ in range(pairs):
        times = [clock(call, device) for call in (slow, fast)]
        ratios.append(times[0] / times[1])
        seconds.append(times[1])
    middle, seconds_of_fast = statistics.median(ratios), statistics.median(seconds)
    return {"ratio": middle, "low": min(ratios), "high": max(ratios), "ms": 1e3 * seconds_of_fast}


def clock(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device's work included."""
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def stages(config: ExperimentConfig, steps: int) -> dict[str, float]:
    """Median milliseconds of the stages of an iteration: batch, feature step, prototype step."""
    training = train.start(config, prepare(config.data))
    device = training.fabric.device
    print(f"{config.model.backbone} at {config.data.height}x{config.data.width} on {device}")
    rows: dict[str, list[float]] = {"batch": [], "feature step": [], "prototype step": []}
    for index, _ in zip(training.sampler, range(steps), strict=False):
        made: list[train.Batch] = []
        rows["batch"].append(clock(lambda i=index, m=made: m.append(train.draw_batch(training, i)), device))
        rows["feature step"].append(clock(lambda m=made: steps.feature_step(training, m[0], config.loss), device))
        rows["prototype step"].append(clock(lambda m=made: steps.prototype_step(training, m[0]), device))
    return {name: 1e3 * statistics.median(times[2:]) for name, times in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here: the GPU checks and timings are left out")
    if device.type == "cuda":
        subprocess.run(
            [
                "pytest",
                "-q",
                "tests/test_losses.py",
                "tests/test_metrics.py",
                "tests/test_model.py",
                "tests/test_train.py",
            ],
            check=True,
        )
    tiny = PRESETS["tiny"]()
    tiny = replace(tiny, train=replace(tiny.train, device=device.type))
    result = {
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "heads_and_losses_tiny": heads_and_losses(device, (64, 4, 1280, 160), 15),
        "heads_and_losses_paper": heads_and_losses(device, (128, 12, 2048, 395), 7),
        "tiny_iteration_ms": stages(tiny, 12),
        "sysu_ranking": bench_evaluation.ranking(),
        "sysu_full_size": bench_evaluation.full_size(),
    }
    for name, value in result.items():
        print(f"{name:24} {json.dumps(value) if isinstance(value, dict) else value}")
    out = home() / "results" / f"bench-{device.type}.json"
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {out}")
    if result["sysu_ranking"]["ratio"] < 20 or result["sysu_full_size"]["peak_gb"] > 4:
        raise SystemExit("expected ranking at least 20 times as fast as the plain loop, and at most 4 GB of memory")


if __name__ == "__main__":
    main()
