"""The command line: ``sa-lab prepare | generate | train | evaluate | embed | report | compare | study | course``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
import tyro

from sa_lab import evaluation, experiment, reports, sweeps, tables
from sa_lab.config import (
    PRESETS,
    VARIANTS,
    DataConfig,
    Dataset,
    Device,
    ExperimentConfig,
    TrainConfig,
    VariantName,
    home,
    variant,
)
from sa_lab.data import copies, list_images, published, regdb, statistics
from sa_lab.data import prepare as open_store
from sa_lab.model import WeightsError
from sa_lab.protocols import PROTOCOLS
from sa_lab.rerank import KReciprocal
from sa_lab.schema import Embeddings, atomic_path
from sa_lab.train import NonFiniteLossError, fabric_of

if TYPE_CHECKING:
    Preset = ExperimentConfig
else:
    Preset = Annotated[
        tyro.extras.subcommand_type_from_defaults(
            {name: make() for name, make in PRESETS.items()},
            {"tiny": "two CPU cores, minutes", "small": "one GPU, minutes", "paper": "the reference's recipe"},
        ),
        tyro.conf.arg(name=""),
    ]


CHAPTER_LOSSES: tuple[VariantName, ...] = ("softmax", "complete")
"""The two runs that the chapters train and compare."""


def prepare(
    dataset: Annotated[Dataset, tyro.conf.Positional] = "synthetic",
    root: str | None = None,
    height: int = DataConfig.height,
    width: int = DataConfig.width,
) -> None:
    """Check a data set, print what is in it beside the published counts, and build its store; resumable.

    Args:
        dataset: which images; of regdb all ten splits are checked.
        root: its folder; needed by all but synthetic and thermal.
        height: of the stored images in pixels.
        width: of the stored images in pixels.
    """
    data = DataConfig(dataset=dataset, root=root, height=height, width=width)
    if dataset == "regdb":
        regdb.check(data.root or "")
    images = list_images(data)
    rows: list[tables.Row] = []
    expected = published(dataset)
    for name, count in statistics(images).items():
        row: dict[str, str] = {"": name, "here": f"{count:,}"}
        if expected:
            off = count - expected[name]
            row |= {"published": f"{expected[name]:,}", "differs by": f"{off:+,}" if off else "-"}
        rows.append(row)
    print(f"{images.name}, cameras {', '.join(map(str, np.unique(images.camera_ids)))}")
    print(tables.render(rows))
    if expected and images.name != dataset:
        print("This is a generated copy: its counts and its results are not those of the real data set.")
    open_store(data, listing=images)


def generate(
    dataset: Annotated[Literal["sysu", "regdb", "llcm"], tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    train_ids: int = 40,
    test_ids: int = 20,
    images_per_camera: int = 4,
    seed: int = 0,
) -> None:
    """Draw people into a new folder in the layout of a data set, to follow everything without the licensed images.

    Args:
        dataset: whose layout.
        root: new folder.
        train_ids: identities for training, in each split.
        test_ids: identities for testing, in each split.
        images_per_camera: images of an identity in each camera; regdb has ten.
        seed: of the drawings.
    """
    copies.write(dataset, root, train_ids, test_ids, images_per_camera, seed)
    print(f"a generated copy in the layout of {dataset} is in {root}")


def train(
    config: Preset,
    loss_variant: VariantName | None = None,
    run: Path | None = None,
    all_splits: bool = False,
) -> None:
    """Train, embed and evaluate one run; called again, it goes on where it stopped.

    Args:
        config: preset and its dials.
        loss_variant: one of the study's losses, in place of the config's.
        run: folder of the run; by default one named after the config.
        all_splits: regdb's ten trainings, one a split, in the folders split1..10 of `run`, and their average.
    """
    chosen = variant(config, loss_variant) if loss_variant else config
    done = experiment.run_splits(chosen, run) if all_splits else [experiment.run(chosen, run)]
    print(sweeps.compare(done, "console"))
    print("\n".join(f"run folder: {one.folder}" for one in done))


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
    is_run = source.is_dir()
    folder = out or (source if is_run else home() / "evaluations" / source.stem)
    config = experiment.Run(source).config.data if is_run else None
    if is_run or source.suffix == ".npz":
        found = Embeddings.load(source / "embeddings.npz" if is_run else source, mapped=True)
    else:
        config = DataConfig(dataset=dataset, root=root, split=split, height=height, width=width)
        folder.mkdir(parents=True, exist_ok=True)
        found = experiment.embed_reference(source, open_store(config), _device(device), folder / "embeddings.npz")
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
    own = dataset is None and root is None and split in (None, config.data.split)
    named = {"dataset": dataset, "root": root, "split": split}
    store = open_store(replace(config.data, **{k: v for k, v in named.items() if v is not None}))  # type: ignore[arg-type]
    index = np.arange(len(store)) if part == "all" else np.flatnonzero(store.is_train == (part == "train"))
    tested = Embeddings.load(run / "embeddings.npz", mapped=True)
    seen = tested.seen_ids if tested.dataset == store.name else None  # the same people, whatever the split
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


def study(
    config: Preset,
    variants: tuple[VariantName, ...] = tuple(VARIANTS),
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    jobs: int = 1,
    out: Path | None = None,
) -> None:
    """Run the loss variants on several seeds and write Rank-1, mAP and modality gap with intervals.

    Args:
        config: preset and its dials.
        variants: losses to run.
        seeds: seeds of training, at least two.
        jobs: runs at a time, one CPU thread each.
        out: JSON file; by default results/study-<dataset>.json in the data folder.
    """
    out = out or home() / "results" / f"study-{config.data.dataset}.json"
    print(sweeps.table(sweeps.study(config, variants, seeds, jobs, out)))


def course(
    dataset: Literal["synthetic", "roadscene"] = "synthetic", root: str = "", out: Path | None = None, seed: int = 0
) -> None:
    """The main job: execute the whole notebook series on a data set and write the comparison of its runs.

    Trains softmax and SA-Softmax where no run of the same config and library version exists.

    Args:
        dataset: synthetic needs nothing; roadscene needs root.
        root: folder of the data set.
        out: folder of the executed notebooks; by default executed/<dataset> in the data folder.
        seed: seed of the runs.
    """
    from papermill import PapermillExecutionError

    from sa_lab import course as chapters

    if root and dataset == "synthetic":
        raise ValueError(f"--root is {root!r}, expected none: synthetic images are drawn, not read")
    root = str(Path(root).expanduser().absolute()) if root else ""  # the chapters run in another folder
    base = ExperimentConfig(data=DataConfig(dataset=dataset, root=root or None), seed=seed)
    open_store(base.data)
    out = out or home() / "executed" / dataset
    try:
        chapters.execute(out, {"dataset": dataset, "root": root, "seed": seed})
    except PapermillExecutionError as error:
        raise ValueError(
            f"cell {error.exec_count} of a chapter failed, see {out}: {error.ename}: {error.evalue}"
        ) from error
    report([experiment.run_folder(variant(base, name)) for name in CHAPTER_LOSSES], out=out / "report.md")
    print(f"executed notebooks and report.md are in {out}")


def _device(name: Device) -> torch.device:
    return fabric_of(TrainConfig(device=name, threads=0)).device


def main(arguments: list[str] | None = None) -> None:
    """Entry point; what a user can mend is told in one line, without a traceback."""
    commands = (prepare, generate, train, evaluate, embed, report, compare, study, course)
    try:
        tyro.extras.subcommand_cli_from_dict(
            {command.__name__: command for command in commands}, args=arguments, prog="sa-lab",
            config=(tyro.conf.CascadeSubcommandArgs,),
            description="SA-Softmax for visible-infrared person re-identification.",
        )  # fmt: skip
    except (ValueError, OSError, WeightsError, NonFiniteLossError) as error:
        sys.exit(f"sa-lab: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(f"sa-lab: {stop or 'interrupted'}")
