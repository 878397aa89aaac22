"""The command line: ``sa-lab prepare | train | evaluate | embed | report | study | course``."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from sa_lab import evaluation, experiment, sweeps
from sa_lab.config import (
    PRESETS,
    VARIANTS,
    DataConfig,
    Dataset,
    Device,
    ExperimentConfig,
    VariantName,
    home,
    variant,
)
from sa_lab.data import prepare as open_store
from sa_lab.data import synthetic
from sa_lab.model import WeightsError
from sa_lab.protocols import PROTOCOLS
from sa_lab.schema import Modality, atomic_path
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


def prepare(data: Annotated[DataConfig, tyro.conf.arg(name="")], export: Path | None = None) -> None:
    """Check a data set, build its prepared cache and print what is in it.

    Args:
        data: which images.
        export: also write the synthetic set as files into this new folder (synthetic: SYSU-MM01 layout, thermal:
            RegDB layout).
    """
    if export:
        if data.dataset not in ("synthetic", "thermal"):
            raise ValueError(f"--export is for synthetic and thermal, not for {data.dataset}")
        nir = data.dataset == "synthetic"
        spec = synthetic.SyntheticSpec(
            num_train_ids=data.train_ids, num_test_ids=data.test_ids, images_per_camera=data.images_per_camera,
            seed=data.seed, variant="nir" if nir else "thermal",
        )  # fmt: skip
        (synthetic.write_sysu if nir else synthetic.write_regdb)(export, spec)
    store = open_store(data)
    print(f"{'split':6} {'modality':9} {'camera':>6} {'identities':>10} {'images':>7}")
    for split, in_split in (("train", store.is_train), ("test", ~store.is_train)):
        for camera in np.unique(store.camera_ids):
            for modality in Modality:
                rows = in_split & (store.camera_ids == camera) & (store.modality == modality)
                if rows.any():
                    people = len(np.unique(store.person_ids[rows]))
                    print(f"{split:6} {modality.name.lower():9} {camera:6} {people:10} {rows.sum():7}")


def train(
    config: Preset,
    loss_variant: VariantName | None = None,
    run: Path | None = None,
) -> None:
    """Train, embed and evaluate one run; called again, it goes on where it stopped.

    Args:
        config: preset and its dials.
        loss_variant: one of the study's losses, in place of the config's.
        run: folder of the run; by default one named after the config.
    """
    chosen = variant(config, loss_variant) if loss_variant else config
    _print_report(experiment.run(chosen, run).folder)


def evaluate(run: Annotated[Path, tyro.conf.Positional], protocol: str = "") -> None:
    """Evaluate the descriptors of a run again: by its own protocol, or by another, into report-<protocol>.json.

    Args:
        run: folder of the run.
        protocol: a protocol's name; by default the one that belongs to the data set.
    """
    if protocol and protocol not in PROTOCOLS:
        raise ValueError(f"--protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    finished = experiment.Run(run)
    own = experiment.protocol_of(finished.config.data)
    chosen = PROTOCOLS[protocol] if protocol else own
    suffix = "" if chosen == own else f"-{chosen.name}"
    evaluation.evaluate(finished.embeddings, chosen).save(run, suffix)
    _print_report(run, suffix)


def embed(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path,
    dataset: Dataset | None = None,
    root: str | None = None,
    device: Device = "auto",
) -> None:
    """Write the descriptors of all images of a data set by the network of a run, at the run's image size.

    Args:
        run: folder of the run.
        out: the .npz file to write.
        dataset: which images; by default those of the run, then with its prototypes.
        root: folder of the data set.
        device: where to compute.
    """
    model, prototypes, train_ids = experiment.load_model(run)
    config = experiment.Run(run).config
    own = dataset is None and root is None
    store = open_store(config.data if own else replace(config.data, dataset=dataset or config.data.dataset, root=root))
    target = fabric_of(replace(config.train, device=device)).device
    embeddings = evaluation.embed(
        model.to(target), store, np.arange(len(store)), target, prototypes if own else None, train_ids if own else None
    )
    embeddings.save(out)
    print(f"{len(embeddings)} descriptors in {out}")


def report(runs: Annotated[list[Path], tyro.conf.Positional], out: Path | None = None) -> None:
    """Compare runs: retrieval with intervals and prototype overlap, as a Markdown table.

    Args:
        runs: folders of finished runs.
        out: also write the table to this file.
    """
    text = sweeps.compare([experiment.Run(run) for run in runs])
    print(text)
    if out:
        with atomic_path(out) as temporary:
            temporary.write_text(text + "\n")


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
    report([experiment.run_folder(variant(base, name)) for name in CHAPTER_LOSSES], out / "report.md")
    print(f"executed notebooks and report.md are in {out}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point; what a user can mend is told in one line, without a traceback."""
    commands = (prepare, train, evaluate, embed, report, study, course)
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


def _print_report(folder: Path, suffix: str = "") -> None:
    summary = json.loads((folder / f"report{suffix}.json").read_text())
    print(summary["protocol"]["description"])
    for name, measure in summary["measures"].items():
        mean, low, high = (100 * measure[key] for key in ("mean", "low", "high"))
        print(f"{name:9} {mean:5.1f} %   95 % interval over identities {low:.1f} .. {high:.1f}")
    print(f"run folder: {folder}")
