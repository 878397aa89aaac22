"""Commands that say how good something is: of runs, of the reference's checkpoints, of anybody's descriptors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from sa_lab import evaluation, experiment, reports, sweeps, tables
from sa_lab.config import DataConfig, Dataset, Device, TrainConfig, home
from sa_lab.data import prepare
from sa_lab.disk import atomic_path
from sa_lab.protocols import PROTOCOLS
from sa_lab.rerank import KReciprocal
from sa_lab.schema import Embeddings
from sa_lab.train import fabric_of


def evaluate(
    source: Annotated[Path, tyro.conf.Positional],
    protocol: tuple[str, ...] = (),
    rerank: tuple[int, int, float] | None = None,
    out: Path | None = None,
    dataset: Dataset = "sysu",
    root: str | None = None,
    split: int = 1,
    height: int = 384,
    width: int = 192,
    device: Device = "auto",
) -> None:
    """Evaluate a run again, a checkpoint of the reference program, or anybody's descriptors.

    Args:
        source: folder of a run; an .npz of descriptors (see `sa_lab.schema.Embeddings.load`); or a checkpoint of the
            reference program, whose images the options from `dataset` on name.
        protocol: names of protocols; by default those of the run's, or the checkpoint's, data set.
        rerank: k-reciprocal re-ranking with k1, k2 and the weight of the original distance; the paper's: 20 6 0.3.
        out: folder of the reports; by default the run itself, else one in the data folder.
        dataset: the images that a checkpoint is tested on.
        root: their folder.
        split: which split of regdb the checkpoint was trained on.
        height: of the images that it was trained on, in pixels.
        width: of the images that it was trained on, in pixels.
        device: where it computes.
    """
    if unknown := [name for name in protocol if name not in PROTOCOLS]:
        raise ValueError(f"--protocol is {' '.join(unknown)}, expected names among {', '.join(PROTOCOLS)}")
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such run, file of descriptors or checkpoint")
    is_run = source.is_dir()
    folder = out or (source if is_run else home() / "evaluations" / source.stem)
    config = experiment.Run(source).config.data if is_run else None
    if is_run or source.suffix == ".npz":
        found = Embeddings.load(source / "embeddings.npz" if is_run else source, mapped=True)
    else:
        config = DataConfig(dataset=dataset, root=root, split=split, height=height, width=width)
        folder.mkdir(parents=True, exist_ok=True)
        found = experiment.embed_reference(source, prepare(config), _device(device), folder / "embeddings.npz")
    if not protocol and config is None:
        raise ValueError(f"--protocol is missing: descriptors alone do not say theirs; one of {', '.join(PROTOCOLS)}")
    own = experiment.protocols_of(config, found.gallery_order is not None) if config else ()
    chosen = [PROTOCOLS[name] for name in protocol] or list(own)
    ranker = KReciprocal(*rerank) if rerank else None
    for report in evaluation.evaluate_all(found, chosen, rerank=ranker):
        is_first = is_run and not out and report.protocol["name"] == own[0].name and not ranker
        suffix = "" if is_first else f"-{report.protocol['name']}" + ("-reranked" if ranker else "")
        report.save(folder, suffix)
        print(f"{report.title}\n{tables.render(tables.retrieval({source.stem: [report]}))}\n")
    print(f"reports are in {folder}")


def embed(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path,
    dataset: Dataset | None = None,
    root: str | None = None,
    split: int | None = None,
    part: Literal["all", "train", "test"] = "all",
    dtype: Literal["float16", "float32"] = "float16",
    device: Device = "auto",
) -> None:
    """Write the descriptors of a data set by the network of a run, at the run's image size.

    Args:
        run: folder of the run.
        out: the .npz file to write.
        dataset: which images; by default those of the run, then with its prototypes.
        root: folder of the data set.
        split: which split of regdb.
        part: identities that are to be embedded.
        dtype: of the numbers in the file.
        device: where to compute.
    """
    model, prototypes, train_ids = experiment.load_model(run)
    config = experiment.Run(run).config
    named = {"dataset": dataset, "root": root, "split": split}
    data = replace(config.data, **{k: v for k, v in named.items() if v is not None})  # type: ignore[arg-type]
    own, store = data == config.data, prepare(data)
    index = np.arange(len(store)) if part == "all" else np.flatnonzero(store.is_train == (part == "train"))
    tested = Embeddings.load(run / "embeddings.npz", mapped=True)
    numbered = data.dataset in ("sysu", "regdb", "llcm") and tested.dataset == store.name  # the same people in any copy
    seen = tested.seen_ids if own or numbered else None
    where = _device(device)
    found = evaluation.embed(
        model.to(where), store, index, where, prototypes if own else None, train_ids if own else None, seen, out=out,
        dtype=np.float16 if dtype == "float16" else np.float32,
    )  # fmt: skip
    print(f"{len(found)} descriptors in {out}")


def report(
    runs: Annotated[list[Path], tyro.conf.Positional],
    style: tables.Style = "markdown",
    out: Path | None = None,
) -> None:
    """Compare runs under every protocol they share, published results beside; average runs that differ in their split.

    Args:
        runs: folders of finished runs, or of evaluated descriptors.
        style: of the tables.
        out: also write them to this file.
    """
    text = sweeps.compare([experiment.Run(run) for run in runs], style)
    print(text)
    if out:
        with atomic_path(out) as temporary:
            temporary.write_text(text + "\n")


def compare(
    first: Annotated[Path, tyro.conf.Positional],
    second: Annotated[Path, tyro.conf.Positional],
    style: tables.Style = "console",
) -> None:
    """Is the difference of two runs noise? Paired by query: second minus first, 95 % interval, randomisation test.

    Args:
        first: folder of a run or of evaluated descriptors.
        second: another one, evaluated on the same images.
        style: of the tables.
    """
    for before, after in reports.pairs(first, second):
        print(f"{before.title}\n{tables.render(tables.differences(reports.compare(before, after)), style)}\n")


def _device(name: Device) -> torch.device:
    return fabric_of(TrainConfig(device=name, threads=0)).device
