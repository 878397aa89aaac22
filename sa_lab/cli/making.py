"""Commands that make something: data sets, a run, a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sa_lab.cli.presets import with_options
from sa_lab.config import DataConfig, Dataset, ExperimentConfig, Resize, VariantName, variant
from sa_lab.disk import say, tell

ConfigFile = Annotated[Path | None, tyro.conf.arg(name="config")]
"""Read before everything else, see `sa_lab.cli.presets`."""


def prepare(
    dataset: Annotated[Dataset, tyro.conf.Positional] = "thermal",
    root: str | None = None,
    height: int = DataConfig.height,
    width: int = DataConfig.width,
    resize: Resize = DataConfig.resize,
    verify: bool = False,
) -> None:
    """Check a data set, print its counts beside the published ones, and build its store; resumable.

    Args:
        dataset: images to check; for regdb all ten splits.
        root: folder of the data set; needed by all but thermal and synthetic.
        height: height of the stored images in pixels.
        width: width of the stored images in pixels.
        resize: filter that brings images to this size.
        verify: also read the whole store, and restore damaged images.
    """
    import numpy as np

    from sa_lab.data import list_images, published_counts, regdb, statistics
    from sa_lab.data import prepare as open_store
    from sa_lab.data.store import split_identities
    from sa_lab.reporting import tables

    data = with_options(DataConfig(), dataset=dataset, root=root, height=height, width=width, resize=resize)
    if dataset == "regdb":
        regdb.check(data.root or "")
    images = list_images(data)
    rows: list[tables.TableRow] = []
    expected = published_counts(dataset)
    for name, count in statistics(images).items():
        row: dict[str, str] = {"": name, "here": f"{count:,}"}
        if expected:
            off = count - expected[name]
            row |= {"published": f"{expected[name]:,}", "differs by": f"{off:+,}" if off else "-"}
        rows.append(row)
    of = "split 1 of ten, all checked, " if dataset == "regdb" else ""
    say(f"{images.name}, {of}cameras {', '.join(map(str, np.unique(images.camera_ids)))}")
    say(tables.render(rows))
    if expected and images.name != dataset:
        say("This is a generated copy: its counts and its results are not those of the real data set.")
    trained, held = split_identities(images, data.validation_fraction, data.seed)
    how = "as the data set says" if images.held_ids is not None else f"a share of {data.validation_fraction:g}"
    say(f"Of the train identities {len(held)} are for validation ({how}), and {len(trained)} are left to train on")
    if len(trained) < 2:
        say("These are too few to train on: add people, or lower data.test_fraction or data.validation_fraction.")
    store = open_store(data, listing=images)
    if verify:
        say(f"{store.verify()} of {len(store):,} stored images were damaged; all are intact now")


def generate(
    dataset: Annotated[Literal["sysu", "regdb", "llcm"], tyro.conf.Positional],
    root: Annotated[Path, tyro.conf.Positional],
    train_ids: int = 40,
    test_ids: int = 20,
    images_per_camera: int = 4,
    seed: int = 0,
) -> None:
    """Draw people into a new folder in the layout of a data set, to work without the licensed images.

    Args:
        dataset: the data set whose layout to use.
        root: new folder.
        train_ids: identities for training, in each split.
        test_ids: identities for testing, in each split.
        images_per_camera: images of an identity in each camera; for regdb always ten.
        seed: seed of the drawings.
    """
    from sa_lab.data import copies

    copies.write(dataset, root, train_ids, test_ids, images_per_camera, seed)
    say(f"a generated copy in the layout of {dataset} is in {root}")


def train(
    config: ExperimentConfig,
    loss_variant: VariantName | None = None,
    run: Path | None = None,
    all_splits: bool = False,
    processes: int = 1,
    keep_checkpoint: bool = False,
    own_loss: str = "",
    file: ConfigFile = None,
    start: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
) -> None:
    """Train, embed and evaluate one run; called again, it goes on where it stopped.

    On several machines, use torchrun ... -m -- sa_lab train ...; on one machine, --processes.

    Args:
        config: preset and its dials.
        loss_variant: one of the study's losses, in place of the config's.
        run: folder of the run; by default one named after the config.
        all_splits: run regdb's ten trainings, one per split, in the folders split1..10 of `run`, and average them.
        processes: number of processes on this machine that share each batch; on GPUs, one GPU each.
        keep_checkpoint: even when the run is finished; otherwise it is removed then, a third of the run's disk space.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1".
        file: JSON or YAML with dials in place of the preset's own, such as a run's config.json; options override it.
        start: a run to train further, in a new folder, with its dials, network, classifier and prototypes and without
            warm-up; optimisers and schedule begin anew, and options override its dials.
    """
    del file  # read ahead, as the dials of `start` are, see `sa_lab.cli.presets`
    from sa_lab import experiment
    from sa_lab.reporting import comparison
    from sa_lab.training.objective import from_file
    from sa_lab.training.processes import is_first

    chosen = variant(config, loss_variant) if loss_variant else config
    if start:
        tell(f"{start} is trained for {chosen.train.num_epochs} more epochs (--train.num-epochs)")
    own = from_file(own_loss) if own_loss else None
    done = (
        experiment.run_splits(chosen, run, True, processes, keep_checkpoint, own)
        if all_splits
        else [experiment.run(chosen, run, None, True, own, processes, keep_checkpoint)]
    )
    if not is_first():
        return
    say(comparison.tables_of([run.folder for run in done], "console"))
    say("\n".join(f"run folder: {run.folder}" for run in done))


def export(
    run: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    format: Literal["onnx", "torch", "reference"] = "onnx",
    modality: Literal["visible", "infrared", "both"] = "both",
) -> None:
    """Write the network of a run for other programs: one graph per spectrum, from images in [0,1] to descriptors.

    Args:
        run: folder of the run.
        out: folder to write to; by default exported/ in the run's folder.
        format: onnx (extra `export`); torch, a program of torch.export; reference, the files of the reference program.
        modality: which spectrum; the reference's files have both.
    """
    from sa_lab.exporting import export as write

    say("\n".join(str(file) for file in write(run, out or run / "exported", format, modality)))


def app(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (),
    port: int = 0,
    browser: bool = True,
    tabs: int = 8,
    base_url: str = "/",
) -> None:
    """Serve the prototype playground and the rankings of finished runs as a page on this machine, until Ctrl-C.

    Args:
        runs: folders of one or two finished runs, or of descriptors evaluated by `sa-lab evaluate`, whose rankings are
            shown; without them, the playground alone.
        port: port on 127.0.0.1; 0 takes a free one.
        browser: open the page in the browser, too; its address is printed in any case.
        tabs: maximum number of open tabs, each with a kernel of about a gigabyte.
        base_url: path of the page behind a proxy, as in /user/ann/proxy/absolute/8866/ on a JupyterHub.
    """
    from sa_lab.course.app import serve

    serve(runs, port, browser, tabs, base_url)
