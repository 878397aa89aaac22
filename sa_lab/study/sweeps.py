"""Sweeps: dials x losses x seeds, one tidy table, and means over the seeds."""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sa_lab import experiment
from sa_lab.config import VARIANTS, DataConfig, ExperimentConfig, VariantName, kinds_of_dials, variant
from sa_lab.data import list_images
from sa_lab.dials import parsed
from sa_lab.disk import Refusal, atomic_path, locked, read_json, write_json
from sa_lab.evaluation.reports import SHARES
from sa_lab.intervals import student_interval
from sa_lab.provenance import function_name
from sa_lab.runs import Run, loss_name
from sa_lab.schema import Listing
from sa_lab.study.measures import conditions, limits_of, measure_run, validated
from sa_lab.study.workers import run_each
from sa_lab.training.objective import OwnLoss, check_own

LossName = VariantName | Literal["own"]


@dataclass(frozen=True)
class Cell:
    """One training of a sweep.

    Attributes:
        dials: the swept dials and their values, as given; a dial set to no value has the word none, and one that the
            loss does not use, or sets itself, has None.
        loss: the name of its loss; of several with one name, the same.
        config: all dials; None if the values do not make a valid config.
        problem: why they do not.
        seed: of the training.
    """

    dials: dict[str, Any]
    loss: str
    config: ExperimentConfig | None
    problem: str = ""
    seed: int = 0

    def __str__(self) -> str:
        words = [
            f"{'data.seed' if name == 'data.seed' else name.split('.')[-1]} {value}"
            for name, value in self.dials.items()
            if value is not None
            and (name != "loss.terms" or not self.config or self.config.loss.own)  # it names a loss
        ]
        seed = [f"seed {self.seed}"]
        split = [f"split {self.config.data.split}"] if self.config and self.config.data.dataset == "regdb" else []
        return ", ".join([self.loss, *words, *seed, *split])


@dataclass(frozen=True)
class Sweep:
    """The results of a sweep.

    Attributes:
        dials: names of those that were swept.
        rows: for each finished run its loss, dials, seed, data set and split, retrieval by the first protocol, measures
            of overlap (`MEANINGS`), what it cost, and the name of its folder.
        others: the same of the data set's other protocols.
        failed: the cells that could not be finished, each with the reason.
        finished: the cell of each row.
        mine: those of them that this call was to train; all but in a job array.
    """

    dials: tuple[str, ...]
    rows: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list, repr=False)
    failed: dict[str, str] = field(default_factory=dict)
    finished: list[Cell] = field(default_factory=list, repr=False, compare=False)
    mine: list[Cell] = field(default_factory=list, repr=False, compare=False)

    def means(self, names: Sequence[str] = SHARES) -> list[dict[str, Any]]:
        """One row for each loss and values of the dials: each measure as mean, low and high over the seeds, or over the
        splits where there are several, the seeds of each averaged; and the mean seconds of a training.

        With one run of a kind there is no interval: low and high are NaN.
        """
        found = []
        for kept, group in self._groups():
            measures = {
                name: _interval(_by_split(group, name), limits_of(name))
                for name in names
                if all(row.get(name) is not None for row in group)
            }
            seconds = [row["seconds"] for row in group if "seconds" in row]
            cost = {"seconds": float(np.mean(seconds))} if seconds else {}
            found.append({**kept, "runs": len(group), **measures, **cost})
        return found

    def gains(self, name: str = "mean_ap") -> list[dict[str, Any]]:
        """Rows as in `means`, but for softmax: how much more of a share they have than softmax on the same images with
        the same seed, and the same dials as far as softmax has them; without those that have less than two pairs."""
        found, same = [], ("dataset", "split", "seed")
        softmax = [row for row in self.rows if row["loss"] == "softmax"]
        for kept, group in self._groups():
            changes = [
                {**row, name: row[name] - base[name]} for row in group for base in softmax
                if all(base.get(key) == row.get(key) for key in same)
                and all(base[dial] in (None, row[dial]) for dial in self.dials)
            ]  # fmt: skip
            values = _by_split(changes, name)
            if kept["loss"] != "softmax" and len(values) > 1:
                found.append({**kept, name: student_interval(np.array(values), (-1.0, 1.0))})
        return found

    def _groups(self) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
        """The rows of each loss and values of the dials, with these."""
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        names = ("loss", *self.dials, "dataset")
        for row in self.rows:
            groups.setdefault(tuple(row[name] for name in names), []).append(row)
        return [(dict(zip(names, key, strict=True)), group) for key, group in groups.items()]


def _by_split(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """A measure of each row, or of several splits the mean of each: seeds of one split are no other splits."""
    splits: dict[Any, list[float]] = {}
    for row in rows:
        splits.setdefault(row.get("split"), []).append(row[name])
    return next(iter(splits.values())) if len(splits) == 1 else [float(np.mean(seeds)) for seeds in splits.values()]


def _interval(values: Sequence[float], limits: tuple[float, float]) -> dict[str, float]:
    if len(values) > 1:
        return dict(student_interval(np.array(values), limits))
    return {"mean": float(values[0]), "low": math.nan, "high": math.nan}


def cells(
    config: ExperimentConfig,
    over: Mapping[str, Sequence[Any]],
    losses: Sequence[LossName] = (),
    seeds: Sequence[int] = (),
    random: int | None = None,
) -> list[Cell]:
    """The trainings of a sweep: the grid of all values, or ``random`` points of it, with each loss and seed.

    A dial that does not affect a loss is not swept for it, so that softmax is trained once whatever the masks are. Each
    of ``seeds`` draws people, images and split as well, see `ExperimentConfig.seeded`, unless ``data.seed`` is swept.
    RegDB is trained on each of its splits, unless ``data.split`` is swept. A value of ``data.dataset`` may bring its
    root, as in "regdb:/data/RegDB".

    Raises:
        ValueError: there is no such dial, or none has a value.
    """
    if unknown := [name for name in over if name not in config.flat()]:
        raise ValueError(f"there is no dial {', '.join(unknown)}, expected some of {', '.join(config.flat())}")
    if "seed" in over:
        raise ValueError("seed is swept by seeds, not as a dial")
    if empty := [name for name, values in over.items() if not len(values)]:
        raise ValueError(f"{', '.join(empty)} has no values, expected one or more")
    grid = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
    if random is not None:
        if random < 1:
            raise ValueError(f"random is {random}, expected at least 1")
        drawn = np.random.default_rng(config.seed).permutation(len(grid))[:random]
        grid = [grid[i] for i in np.sort(drawn)]
    found: dict[Any, Cell] = {}
    for dials, loss, seed in itertools.product(grid, losses or (None,), seeds or (config.seed,)):
        try:
            chosen = config.replace({**dials, **_placed(dials), "seed": seed})
            chosen = chosen.seeded(seed) if seeds and "data.seed" not in over else chosen
            chosen = named(chosen, loss) if loss else chosen
        except ValueError as error:
            cell = Cell(dials, loss or loss_name(config), None, str(error), seed)
            found.setdefault((loss, str(dials), seed), cell)
            continue
        idle = [name for name in over if name.startswith("loss.") and name.split(".")[1] in chosen.loss.unused()]
        chosen = chosen.replace({name: ExperimentConfig().flat()[name] for name in idle})
        brought = {f"loss.{dial}" for dial in VARIANTS[loss]} if loss and loss != "own" else set()
        given = {**chosen.flat(), **({"data.dataset": dials["data.dataset"]} if "data.dataset" in dials else {})}
        values = {name: "none" if value is None else value for name, value in given.items()}
        chosen = replace(chosen, loss=chosen.loss.plain())  # the margin of the paper is one loss, however it is said
        used = {name: None if name in idle or name in brought else values[name] for name in over}
        for split in [chosen] if "data.split" in over else experiment.of_every_split(chosen):
            name = _name(loss, config, chosen, over)
            found.setdefault((name, split), Cell(used, name, split, "", seed))
    return list(found.values())


def _placed(dials: Mapping[str, Any]) -> dict[str, str]:
    """Data set and root where both are in one value.

    Raises:
        ValueError: the root is empty, or swept as well.
    """
    text = str(dials.get("data.dataset", ""))
    name, colon, root = text.partition(":")
    if colon and (not root or "data.root" in dials):
        raise ValueError(f"data.dataset is {text!r}, expected one root, either behind the colon or as data.root")
    return {"data.dataset": name, "data.root": root} if colon else {}


def named(config: ExperimentConfig, name: LossName) -> ExperimentConfig:
    """The config with the loss of this name; own is its own already.

    Raises:
        ValueError: there is no such loss, or the config has none of one's own.
    """
    if name != "own":
        return variant(config, name)
    if not config.loss.own:
        raise ValueError("the config has no loss of one's own, expected own_loss for the loss 'own'")
    return config


def _name(loss: str | None, base: ExperimentConfig, chosen: ExperimentConfig, over: Mapping[str, Any]) -> str:
    """Of a cell's loss: without a name of its own that of the base, for the swept dials have columns of their own."""
    if chosen.loss.own:
        return loss_name(chosen).split("-")[0]
    if loss:
        return loss
    return loss_name(chosen if {"loss.terms", "loss.own"} & set(over) else base)


def sweep(
    config: ExperimentConfig,
    over: Mapping[str, Sequence[Any]],
    losses: Sequence[LossName] = (),
    seeds: Sequence[int] = (),
    jobs: int = 1,
    out: Path | None = None,
    random: int | None = None,
    array: tuple[int, int] | None = None,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    scheduler: str = "",
    validation: bool = False,
) -> Sweep:
    """Train every unfinished cell, and put all finished ones into one table.

    Args:
        config: base of all trainings.
        over: values of each swept dial, by its name with dots.
        losses: names in `sa_lab.config.VARIANTS`, or own for ``own_loss``; by default the loss of the config.
        seeds: of each cell; by default that of the config.
        jobs: trainings at a time, each in a process of its own.
        out: folder that gets table.csv and table.parquet, one row per run and protocol, failed.json (of an array
            failed-INDEX.json), and made.json: what was swept, and under which conditions.
        random: only this many points of the grid, drawn with the config's seed.
        array: (index, count) in a job array: train every count-th cell from index on; finished cells of the others are
            in the table as well.
        progress: show bars.
        own_loss: a loss of one's own, the term own in ``config.loss.terms``.
        scheduler: address of a Dask cluster that trains, in place of workers of this machine.
        validation: rows show results on the validation identities, and none on the test identities: to choose by.

    Raises:
        ValueError: as in `cells`, or an invalid array.
        KeyboardInterrupt: asked to stop; the same call goes on.
    """
    config = with_own(config, own_loss)
    planned = cells(config, over, losses, seeds, random)
    index, count = array or (0, 1)
    if not 0 <= index < count:
        raise ValueError(f"array is {index} {count}, expected an index below the count")
    mine = [i for i in range(len(planned)) if i % count == index]
    done = _train(planned, mine, jobs, progress, own_loss, scheduler)
    if not out:
        return _collected(planned, mine, done, tuple(over), validation)
    with locked(out / "table.csv", "writes the table of this sweep"):  # with all that other jobs have finished by now
        result = _collected(planned, mine, done, tuple(over), validation)
        _write_tables(out, [*result.rows, *result.others])
        base = {**config.changed(), "loss": list(losses), "seeds": list(seeds)}
        write_json(out / "made.json", {"over": dict(over), "base": base, **conditions()})
        write_json(out / (f"failed-{index}.json" if array else "failed.json"), {"cells": result.failed})
    return result


def with_own(config: ExperimentConfig, own_loss: OwnLoss | None) -> ExperimentConfig:
    """The config with the name of a loss of one's own, if there is one."""
    if own_loss is None:
        return config
    check_own(own_loss)
    return config.replace("loss.own", function_name(own_loss))


def trained(
    planned: Sequence[Cell],
    mine: Sequence[int],
    dials: tuple[str, ...] = (),
    jobs: int = 1,
    progress: bool = True,
    own_loss: OwnLoss | None = None,
    scheduler: str = "",
) -> Sweep:
    """Cells as a table: those numbered ``mine`` are trained if unfinished, of the others it has the finished ones;
    arguments as in `sweep`. Cells that are the same training are trained once."""
    return _collected(planned, mine, _train(planned, mine, jobs, progress, own_loss, scheduler), dials)


Outcomes = dict[ExperimentConfig, Run | str]


def _train(
    planned: Sequence[Cell], mine: Sequence[int], jobs: int, progress: bool, own_loss: OwnLoss | None, scheduler: str
) -> Outcomes:
    """What came of each config of some cells: its run, or why there is none."""
    configs = list(dict.fromkeys(config for i in mine if (config := planned[i].config)))
    outcomes = run_each(configs, jobs, progress, own_loss, scheduler) if configs else []
    return dict(zip(configs, outcomes, strict=True))


def _collected(
    planned: Sequence[Cell], mine: Sequence[int], done: Outcomes, dials: tuple[str, ...], validation: bool = False
) -> Sweep:
    """All cells that are finished, of which ``done`` knows ``mine``."""
    result, of_me, names = Sweep(dials), set(mine), Counter[str]()
    listings: dict[DataConfig, Listing] = {}  # each data set is listed once
    for i, cell in enumerate(planned):
        rows, problem = _rows(cell, done, listings, validation)
        if rows:
            result.rows.append(rows[0])
            result.others.extend(rows[1:])
            result.finished.append(cell)
            result.mine.extend([cell] if i in of_me else [])
        elif i in of_me:
            name = str(cell)
            names[name] += 1
            result.failed[f"{name} ({names[name]})" if names[name] > 1 else name] = problem or "its report is gone"
    return result


def _rows(
    cell: Cell, done: Outcomes, listings: dict[DataConfig, Listing], validation: bool
) -> tuple[list[dict[str, Any]], str]:
    """Of a cell, a row a protocol, or why there is none; another job of an array may have trained it."""
    if cell.config is None:
        return [], cell.problem
    outcome = done.get(cell.config)
    if isinstance(outcome, str):
        return [], outcome
    try:
        if outcome is None and cell.config.data not in listings:
            listings[cell.config.data] = list_images(cell.config.data)
        run = outcome or Run(experiment.run_folder(cell.config, listings[cell.config.data]))
        if not (run.folder / "report.json").is_file():
            return [], ""
        first, *others = [{"protocol": "validation", **validated(run)}] if validation else measure_run(run)
    except (ValueError, Refusal, OSError) as error:  # damaged, or images that cannot be read
        return [], str(error)
    data = cell.config.data
    known = {"loss": cell.loss, **cell.dials, "seed": cell.seed, "dataset": data.dataset, "split": data.split}
    rows = [{**known, **measures, **_cost(run), "run": run.folder.name} for measures in (first, *others)]
    return rows, ""


def _cost(run: Run) -> dict[str, Any]:
    """Seconds and memory of a training, where somebody noted them."""
    try:
        return read_json(run.folder / "cost.json")
    except (ValueError, OSError):
        return {}


def _write_tables(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """table.csv and table.parquet; in the latter a dial that has values of several kinds is a text."""
    import pyarrow
    from pyarrow import parquet

    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            columns[name] = [None if value is None else str(value) for value in values]
    with atomic_path(out / "table.parquet") as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)


def read(folder: Path) -> Sweep:
    """A sweep from the files that it was written to; if it has several protocols, the first.

    Raises:
        FileNotFoundError: there are none.
    """
    dials = tuple(read_json(folder / "made.json")["over"])
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = [dict(row) for row in csv.DictReader(file)]
    for row in rows:
        for name, text in row.items():
            if name in dials:
                row[name] = value_of(text, name) if text else None
            elif name not in ("loss", "dataset", "protocol", "run"):
                row[name] = None if not text else int(text) if name in ("seed", "split") else float(text)
    first = [row for row in rows if row["protocol"] == rows[0]["protocol"]]
    return Sweep(dials, first, [row for row in rows if row not in first])


def value_of(text: str, dial: str) -> Any:
    """A text from the command line as a value of its dial's type; what does not fit is left for the config to report.

    Args:
        text: as typed.
        dial: its name with dots.
    """
    kinds = kinds_of_dials()
    return parsed(text, kinds[dial]) if dial in kinds else text
