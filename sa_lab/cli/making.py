"""Commands that make something: data sets, runs, studies, the executed course."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from sa_lab import comparison, experiment, sweeps, tables
from sa_lab.config import (
    PRESETS,
    VARIANTS,
    DataConfig,
    Dataset,
    ExperimentConfig,
    TrainConfig,
    VariantName,
    home,
    variant,
)
from sa_lab.data import copies, list_images, published, regdb, statistics
from sa_lab.data import prepare as open_store
from sa_lab.disk import write_text
from sa_lab.processes import is_first

if TYPE_CHECKING:
    Preset = ExperimentConfig
else:
    Preset = Annotated[
        tyro.extras.subcommand_type_from_defaults(
            {name: make() for name, make in PRESETS.items()},
            {"tiny": "one CPU core, minutes", "small": "one GPU, minutes", "paper": "the reference's recipe"},
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
    of = "split 1 of ten, all checked, " if dataset == "regdb" else ""
    print(f"{images.name}, {of}cameras {', '.join(map(str, np.unique(images.camera_ids)))}")
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
    processes: int = 1,
) -> None:
    """Train, embed and evaluate one run; called again, it goes on where it stopped.

    On several machines: torchrun ... -m -- sa_lab train ...; on one, --processes.

    Args:
        config: preset and its dials.
        loss_variant: one of the study's losses, in place of the config's.
        run: folder of the run; by default one named after the config.
        all_splits: regdb's ten trainings, one a split, in the folders split1..10 of `run`, and their average.
        processes: processes of this machine that share each batch, on GPUs one each.
    """
    chosen = variant(config, loss_variant) if loss_variant else config
    done = (
        experiment.run_splits(chosen, run, num_processes=processes)
        if all_splits
        else [experiment.run(chosen, run, num_processes=processes)]
    )
    if not is_first():
        return
    print(comparison.compare([one.folder for one in done], "console"))
    print("\n".join(f"run folder: {one.folder}" for one in done))


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
        jobs: runs at a time, each with its share of the CPU cores.
        out: JSON file; by default results/study-<dataset>.json in the data folder.
    """
    out = out or home() / "results" / f"study-{config.data.dataset}.json"
    print(sweeps.table(sweeps.study(config, variants, seeds, jobs, out)))


def course(
    dataset: Dataset = "synthetic",
    root: str = "",
    out: Path | None = None,
    seed: int = 0,
    epochs: int = TrainConfig.num_epochs,
) -> None:
    """The main job: execute the whole notebook series on a data set and write the comparison of its runs.

    Trains softmax and SA-Softmax where no run of the same config and library version exists.

    Args:
        dataset: which images.
        root: folder of the data set; without it, people are drawn in the layout of sysu, regdb and llcm.
        out: folder of the executed notebooks; by default executed/<dataset> in the data folder, with other epochs than
            usual executed/<dataset>-<epochs>-epochs.
        seed: seed of the runs.
        epochs: of each training; 2, the fewest that outlast the warm-up, for a first look.
    """
    from papermill import PapermillExecutionError

    from sa_lab import course as chapters

    if root and dataset in ("synthetic", "thermal"):
        raise ValueError(f"--root is {root!r}, expected none: {dataset} images are drawn, not read")
    root = str(Path(root).expanduser().absolute()) if root else copies.at_hand(dataset, root)  # chapters run elsewhere
    base = ExperimentConfig(DataConfig(dataset, root or None), train=TrainConfig(num_epochs=epochs), seed=seed)
    if base.loss.warmup_steps >= epochs * (base.train.steps_per_epoch or 0):
        raise ValueError(f"--epochs is {epochs}, expected at least 2: the warm-up takes {base.loss.warmup_steps} steps")
    open_store(base.data)
    out = out or home() / "executed" / (dataset if epochs == TrainConfig.num_epochs else f"{dataset}-{epochs}-epochs")
    try:
        chapters.execute(out, {"dataset": dataset, "root": root, "seed": seed, "epochs": epochs})
    except PapermillExecutionError as error:
        raise ValueError(
            f"cell {error.exec_count} of a chapter failed, see {out}: {error.ename}: {error.evalue}"
        ) from error
    configs = [one for name in CHAPTER_LOSSES for one in experiment.of_every_split(variant(base, name))]
    text = comparison.compare([experiment.run_folder(one) for one in configs])
    write_text(out / "report.md", text)
    print(text)
    print(f"executed notebooks and report.md are in {out}")


def bench(
    device: Literal["auto", "cpu", "cuda"] = "auto",
    only: tuple[str, ...] = (),
    out: Path | None = None,
    compile: bool = False,
) -> None:
    """Time the library against the way the field usually writes the same, after checking that both compute the same.

    Args:
        device: where to compute; auto takes a GPU if there is one.
        only: parts to measure, the others keep what was measured before: iteration, paper (on a GPU), heads, inputs,
            ranking, extraction, overlap, many, compiled; by default all but compiled.
        out: JSON file; by default results/bench-<device>.json in the data folder.
        compile: also measure the compiled network, which takes minutes.
    """
    import torch

    from sa_lab import benchmarks

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', which this machine does not have; auto chooses")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    names = only or benchmarks.BY_DEFAULT
    names += ("compiled",) if compile else ()
    print(benchmarks.tables(benchmarks.run_all(torch.device(chosen), names, out)))
