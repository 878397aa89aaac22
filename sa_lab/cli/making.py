"""Commands that make something: data sets, runs, studies, the executed course, a page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sa_lab.config import PAPER, DataConfig, Dataset, ExperimentConfig, Resize, Style, VariantName, variant
from sa_lab.disk import Refusal, check_folder, check_output, checkout, home, say

ConfigFile = Annotated[Path | None, tyro.conf.arg(name="config")]
"""Read before everything else, see `sa_lab.cli.presets`."""
_TINY = ExperimentConfig()


def prepare(
    dataset: Annotated[Dataset, tyro.conf.Positional] = "synthetic",
    root: str | None = None,
    height: int = DataConfig.height,
    width: int = DataConfig.width,
    resize: Resize = DataConfig.resize,
    verify: bool = False,
) -> None:
    """Check a data set, print what is in it beside the published counts, and build its store; resumable.

    Args:
        dataset: which images; of regdb all ten splits are checked.
        root: its folder; needed by all but synthetic and thermal.
        height: of the stored images in pixels.
        width: of the stored images in pixels.
        resize: filter that brings images to this size.
        verify: read the whole store as well, and make damaged images anew.
    """
    import numpy as np

    from sa_lab.data import list_images, published_counts, regdb, statistics
    from sa_lab.data import prepare as open_store
    from sa_lab.reporting import tables

    data = DataConfig(dataset=dataset, root=root, height=height, width=width, resize=resize)
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
    store = open_store(data, listing=images)
    if verify:
        say(f"{store.verify()} of {len(store):,} stored images were damaged; all are as they were written now")


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
) -> None:
    """Train, embed and evaluate one run; called again, it goes on where it stopped.

    On several machines: torchrun ... -m -- sa_lab train ...; on one, --processes.

    Args:
        config: preset and its dials.
        loss_variant: one of the study's losses, in place of the config's.
        run: folder of the run; by default one named after the config.
        all_splits: regdb's ten trainings, one a split, in the folders split1..10 of `run`, and their average.
        processes: processes of this machine that share each batch, on GPUs one each.
        keep_checkpoint: also when the run is finished; else it goes then, a third of what a run takes on the disk.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1".
        file: JSON or YAML with dials in place of the preset's own, such as a run's config.json; options go before it.
    """
    from sa_lab import experiment
    from sa_lab.reporting import comparison
    from sa_lab.training.objective import from_file
    from sa_lab.training.processes import is_first

    chosen = variant(config, loss_variant) if loss_variant else config
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


def study(
    config: ExperimentConfig,
    variants: tuple[VariantName | Literal["own"], ...] = (),
    own_loss: str = "",
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4),
    tuned: bool = False,
    jobs: int = 1,
    scheduler: str = "",
    out: Path | None = None,
    file: ConfigFile = None,
) -> None:
    """Run the loss variants on several seeds and write Rank-1, mAP and modality gap with intervals.

    Args:
        config: preset and its dials.
        variants: losses to run; by default the paper's and its ablations, with --tuned all that differ in these
            batches.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1"; its name
            among the variants is own.
        seeds: seeds of training, at least two.
        tuned: weight and margin of each loss are chosen on validation identities first, by the same number of tries.
        jobs: runs at a time, each with its share of the CPU cores.
        scheduler: address of a running Dask cluster that trains in place of this machine, as tcp://127.0.0.1:8786.
        out: JSON file; by default results/study-<dataset>.json, or losses-<dataset>.json if tuned, in the data folder,
            with other dials, losses or seeds than usual in its name.
        file: JSON or YAML with dials in place of the preset's own.
    """
    from sa_lab import study as studies
    from sa_lab.reporting.studies import made_with, table
    from sa_lab.training.objective import from_file

    variants = variants or (studies.compared(config) if tuned else PAPER)
    out = out or studies.default_file(config, variants, seeds, tuned)
    check_output(out, ".json")
    own = from_file(own_loss) if own_loss else None
    result = studies.study(config, variants, seeds, jobs, out, True, tuned, scheduler, own)
    say(f"{table(result)}\n\n{made_with(result)}\nThe study is {out}")


def sweep(
    config: ExperimentConfig,
    over: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = (),
    loss: tuple[VariantName | Literal["own"], ...] = (),
    own_loss: str = "",
    seeds: tuple[int, ...] = (),
    jobs: int = 1,
    random: int | None = None,
    array: tuple[int, int] | None = None,
    scheduler: str = "",
    style: Style = "console",
    best: bool = False,
    notebook: str = "",
    out: Path | None = None,
    file: ConfigFile = None,
) -> None:
    """Train a grid of dials, losses and seeds, and put all into one table; finished runs are reused.

    Args:
        config: preset and its dials, the base of all trainings.
        over: a dial and its values, as in --over loss.mask-value 0 5 50; once for each dial.
        loss: losses by name; by default that of the config.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1"; its name
            among the losses is own.
        seeds: of each point of the grid; by default --seed alone.
        jobs: runs at a time, each with its share of the CPU cores.
        random: so many points of the grid, drawn, in place of all.
        array: index and count of a job array: this call trains its share, and shows what the others have finished.
        scheduler: address of a running Dask cluster that trains in place of this machine, as tcp://127.0.0.1:8786.
        style: of the table that is printed.
        best: print the best mean of each column bold, in Markdown and LaTeX.
        notebook: beginning of a chapter's name, such as 05, that is executed for each cell into executed/ of the data
            folder, with a page that links them.
        out: folder of table.csv and table.parquet, a row a run, of pictures.html, and of failed.json; by default one in
            results/ of the data folder.
        file: JSON or YAML with dials in place of the preset's own.
    """
    import hashlib

    from sa_lab import study as studies
    from sa_lab.reporting.studies import sweep_table
    from sa_lab.study.sweeps import value_of
    from sa_lab.training.objective import from_file

    if short := [words[0] if words else "" for words in over if len(words) < 2]:
        raise ValueError(f"--over {short[0]} has no values, expected a dial and one value or more")
    grid = {}
    for name, *words in over:
        dial = name.replace("-", "_")
        grid[dial] = [value_of(word, dial) for word in words]
    told = f"{config.digest()} {grid} {loss} {own_loss} {seeds} {random}"
    name = f"sweep-{config.data.dataset}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    place = out or home() / "results" / name
    check_folder(place, "--out names another folder")
    if notebook and checkout() is None:
        raise Refusal("chapters are executed from a checkout of the repository; this is a wheel")
    own = from_file(own_loss) if own_loss else None
    result = studies.sweep(config, grid, loss, seeds, jobs, place, random, array, True, own, scheduler)
    say(f"{sweep_table(result, style, best=best)}\n\n{len(result.rows)} runs are in {place / 'table.csv'}")
    if result.rows and find_spec("plotly"):
        from sa_lab.reporting import pictures

        pictures.write(result, place / "pictures.html")
        say(f"its figures are in {place / 'pictures.html'}")
    if notebook:
        from sa_lab.course import record

        planned = studies.cells(config, grid, loss, seeds, random)
        pages = home() / "executed" / name
        failed = record.write(planned, result, notebook, pages, jobs, scheduler)
        result.failed.update({f"chapter {notebook} of {cell}": why for cell, why in failed.items()})
        say(f"the chapters are linked in {pages / 'index.html'}")
    if result.failed:
        why = "\n  ".join(f"{cell}: {reason}" for cell, reason in result.failed.items())
        count = f"{len(result.failed)} {'cell' if len(result.failed) == 1 else 'cells'} failed"
        raise Refusal(f"{count}; {len(result.rows)} runs are finished, the same call goes on:\n  {why}")


def course(
    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = _TINY,
    dataset: Dataset | None = None,
    root: str = "",
    epochs: int | None = None,
    loss_variant: VariantName = "complete",
    out: Path | None = None,
) -> None:
    """The main job: execute the whole notebook series on a data set and write the comparison of its runs.

    Trains softmax and SA-Softmax where no run of the same config, images and code of the library exists. With fewer
    people than a batch has, batches are made smaller.

    Args:
        config: dials of the trainings.
        dataset: which images, short for --data.dataset.
        root: folder of the data set, short for --data.root; without it, people are drawn in the layout of sysu, regdb
            and llcm.
        epochs: of each training, short for --train.num-epochs; 2, the fewest that outlast the warm-up, for a first
            look.
        loss_variant: what softmax is compared with.
        out: folder of the executed notebooks; by default executed/<dataset> in the data folder, with the dials that are
            not as usual in its name.
    """
    if checkout() is None:
        raise Refusal("the course runs from a checkout of the repository, which has the chapters; this is a wheel")
    from sa_lab.course import chapters

    short = {"data.dataset": dataset, "data.root": root or None, "train.num_epochs": epochs}
    if dataset and not root and dataset not in ("synthetic", "thermal"):
        from sa_lab.data import copies

        short["data.root"] = copies.default_root(dataset, "") or None
    chosen = config.replace({name: value for name, value in short.items() if value is not None})
    say(chapters.run_course(chosen, loss_variant, out))


def app(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), port: int = 0, browser: bool = True, tabs: int = 8
) -> None:
    """Serve the prototype playground and the rankings of finished runs as a page on this machine, until Ctrl-C.

    Args:
        runs: folders of one or two finished runs, whose rankings are shown; without them, the playground alone.
        port: on 127.0.0.1; 0 takes a free one.
        browser: open the page in the browser, too; its address is printed in any case.
        tabs: open at a time at most, each with a kernel of about a gigabyte.
    """
    from sa_lab.course.app import serve

    serve(runs, port, browser, tabs)
