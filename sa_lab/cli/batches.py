"""Commands that make many things: studies, sweeps, the executed course."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sa_lab.cli.making import ConfigFile
from sa_lab.config import PAPER, Dataset, ExperimentConfig, Style, VariantName
from sa_lab.disk import Refusal, check_folder, check_output, home, say, tell

_TINY = ExperimentConfig()


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
        variants: losses to run; by default those of the paper and its ablations, with --tuned all losses that differ in
            these batches.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1"; among the
            variants it is called own.
        seeds: at least two; each draws people, images and split as well as weights and batches.
        tuned: first choose weight, margin and learning rate of each loss on the validation identities, with equally
            many tries for each.
        jobs: runs at a time, each with its share of the CPU cores.
        scheduler: address of a running Dask cluster that trains in place of this machine, as tcp://127.0.0.1:8786.
        out: JSON file; by default results/study-<dataset>.json, or losses-<dataset>.json if tuned, in the data folder;
            changed dials, losses or seeds become part of its name.
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
    validation: bool = False,
    style: Style = "console",
    best: bool = False,
    notebook: str = "",
    out: Path | None = None,
    file: ConfigFile = None,
) -> None:
    """Train a grid of dials, losses and seeds, and put all results into one table; finished runs are reused.

    Args:
        config: preset and its dials, the base of all trainings.
        over: a dial and its values, as in --over loss.mask-value 0 5 50; once for each dial. A data set may bring its
            root: --over data.dataset synthetic regdb:/data/RegDB.
        loss: losses by name; by default that of the config.
        own_loss: a loss of your own, as file.py:name, for the term own in --loss.terms "identity 1 + own 1"; among the
            losses it is called own.
        seeds: seeds of each point of the grid; each draws people, images and split as well; by default --seed alone.
        jobs: runs at a time, each with its share of the CPU cores.
        random: train only this many points of the grid, drawn at random.
        array: index and count of a job array: this call trains its share, and shows what the others have finished.
        scheduler: address of a running Dask cluster that trains in place of this machine, as tcp://127.0.0.1:8786.
        validation: show results on the validation identities instead of the test identities, to choose by.
        style: style of the printed table.
        best: print the best mean of each column bold, in Markdown and LaTeX.
        notebook: a chapter, by the beginning of its name, such as 05; it is executed for each cell into executed/ of
            the data folder, with a page that links the results.
        out: folder for table.csv and table.parquet (one row per run and protocol), pictures.html, made.json (what was
            swept, and under which conditions) and failed.json; by default one in results/ of the data folder.
        file: JSON or YAML with dials in place of the preset's own.
    """
    import hashlib

    from sa_lab import study as studies
    from sa_lab.evaluation.reports import SHARES
    from sa_lab.reporting.studies import sweep_gains, sweep_table
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
    check_folder(place, "choose another folder with --out")
    if notebook:
        from sa_lab.course import record

        record.chapter_of(notebook)
    own = from_file(own_loss) if own_loss else None
    result = studies.sweep(config, grid, loss, seeds, jobs, place, random, array, True, own, scheduler, validation)
    say(sweep_table(result, style, (*SHARES, "stranger_ratio"), best))
    note = say if style == "console" else tell  # what is printed in another style may go into a file
    runs = "1 run is" if len(result.rows) == 1 else f"{len(result.rows)} runs are"
    if gains := sweep_gains(result):
        note(gains)
    note(f"{runs} in {place / 'table.csv'}")
    if result.rows and find_spec("plotly"):
        from sa_lab.reporting import pictures

        pictures.write(result, place / "pictures.html")
        note(f"its figures are in {place / 'pictures.html'}")
    if notebook:
        pages = home() / "executed" / name
        failed = record.write(result, notebook, pages, jobs, scheduler)
        result.failed.update({f"chapter {notebook} of {cell}": why for cell, why in failed.items()})
        note(f"the chapters are linked in {pages / 'index.html'}")
    if result.failed:
        why = "\n  ".join(f"{cell}: {reason}" for cell, reason in result.failed.items())
        count = f"{len(result.failed)} {'cell' if len(result.failed) == 1 else 'cells'} failed"
        raise Refusal(f"{count}; {runs} finished, and the same command tries the others again:\n  {why}")


def course(
    config: Annotated[ExperimentConfig, tyro.conf.arg(name="")] = _TINY,
    dataset: Dataset | None = None,
    root: str = "",
    epochs: int | None = None,
    loss_variant: VariantName = "complete",
    out: Path | None = None,
) -> None:
    """The main job: execute the whole notebook series on a data set and write the comparison of its runs.

    Trains softmax and SA-Softmax unless runs with the same config, images and library code exist. If there are fewer
    people than a batch needs, batches are made smaller.

    Args:
        config: dials of the trainings.
        dataset: which images, short for --data.dataset.
        root: folder of the data set, short for --data.root; without it, people are drawn in the layout of sysu, regdb
            and llcm.
        epochs: epochs of each training, short for --train.num-epochs; for a first look take 2, the fewest that outlast
            the warm-up.
        loss_variant: what softmax is compared with.
        out: folder of the executed notebooks; by default executed/<dataset> in the data folder, with any changed dials
            in its name.
    """
    from sa_lab.course import chapters
    from sa_lab.data import copies

    place = copies.default_root(dataset or "", root) or None
    short = {"data.dataset": dataset, "data.root": place, "train.num_epochs": epochs}
    chosen = config.replace({name: value for name, value in short.items() if value is not None})
    say(chapters.run_course(chosen, loss_variant, out))
