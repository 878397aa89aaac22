"""The record of a full experiment: a chapter executed for each cell of a sweep, and a page that links them."""

from __future__ import annotations

from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from tqdm.auto import tqdm

from sa_lab.config import VARIANTS, ExperimentConfig, variant
from sa_lab.course import chapters, site
from sa_lab.course.parameters import parameters_of, read
from sa_lab.dials import file_word
from sa_lab.disk import reason_of
from sa_lab.provenance import ANALYSIS, TRAINING, code_digest
from sa_lab.reporting.studies import sweep_table
from sa_lab.study import Cell, Sweep, run_each


def write(result: Sweep, chapter: str, out: Path, jobs: int = 1, scheduler: str = "") -> dict[str, str]:
    """Execute a chapter for each finished cell of this call, except those of softmax, with which the chapter compares
    all others; in a job array, other jobs execute theirs.

    The chapter's other trainings are made first, ``jobs`` at a time. A cell whose notebook was already executed by the
    same code is not executed again.

    Args:
        result: of `sa_lab.study.sweep`.
        chapter: beginning of a chapter's file name, such as 05.
        out: gets one folder per cell with the notebook, one page per cell, and index.html.
        jobs: trainings at a time.
        scheduler: address of a Dask cluster for them.

    Returns:
        Why the chapter could not be executed, by cell.

    Raises:
        ValueError: there is not one such chapter.
    """
    source = chapter_of(chapter)
    failed: dict[str, str] = {}
    done: dict[str, Path] = {}
    wanted: list[tuple[Cell, dict[str, Any]]] = []
    for cell in result.finished:
        if cell.loss == "softmax" or not cell.config:
            continue
        path = out / slug(cell) / source.name
        if cell not in result.mine:
            with suppress(Exception):  # it may be half written
                done |= {str(cell): path} if _is_done(path, source) else {}
        elif (given := _given(cell, cell.config)) is None:
            failed[str(cell)] = "its loss has no name in sa_lab.config.VARIANTS, which chapters ask for"
        else:
            wanted.append((cell, given))
    baselines = dict.fromkeys(variant(cell.config, "softmax") for cell, _ in wanted if cell.config)
    if baselines:  # one that fails is told where a chapter trains it again
        run_each(list(baselines), jobs, scheduler=scheduler)
    for cell, given in tqdm(wanted, "notebooks", unit="cell"):
        path = out / slug(cell) / source.name
        try:
            if not _is_done(path, source):
                chapters.execute(path.parent, given, [source.name])
                _sign(path)
            done[str(cell)] = path
        except Exception as error:  # also a killed kernel, or a full disk: a chapter that fails stops no other one
            failed[str(cell)] = reason_of(error, most=2000)
    site.collect(out, f"{source.stem}, cell by cell", done, _index(done, result))
    return failed


def chapter_of(beginning: str) -> Path:
    """The chapter whose file name begins so.

    Raises:
        ValueError: there is not one such chapter.
    """
    found = [path for path in chapters.chapters() if path.name.startswith(beginning)]
    if len(found) != 1:
        names = ", ".join(path.stem for path in chapters.chapters())
        raise ValueError(f"notebook is {beginning!r}, expected the beginning of one of {names}")
    return found[0]


def _given(cell: Cell, config: ExperimentConfig) -> dict[str, Any] | None:
    """The parameters that give a chapter this cell; None where no name of a loss does."""
    if config.loss.own:
        return None
    given = parameters_of(config, cell.loss if cell.loss in VARIANTS else "complete")
    return given if read(given).ours == config else None


def slug(cell: Cell) -> str:
    """A cell as the name of a folder or a page."""
    return file_word(str(cell)).strip("-.")


def _index(done: dict[str, Path], result: Sweep) -> str:
    """Table of the sweep, then a line a cell that leads to its notebook."""
    entries = "".join(
        f'<li><a href="{escape(path.parent.name)}.html">{escape(name)}</a> '
        f'(<a href="{escape(path.parent.name)}/{escape(path.name)}">notebook</a>)</li>\n'
        for name, path in done.items()
    )
    table = sweep_table(result, "html", ("rank_1", "mean_ap"))
    return f"{table}\n<ul>\n{entries}</ul>"


def _state() -> str:
    return code_digest((*TRAINING, *ANALYSIS))


def _sign(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["sa_lab"] = _state()
    nbformat.write(notebook, path)


def _is_done(path: Path, chapter: Path) -> bool:
    """Whether a notebook is the chapter as it is now, executed by the code that there is now."""
    if not path.is_file():
        return False
    there, now = (nbformat.read(one, as_version=4) for one in (path, chapter))
    sources = [cell.source for cell in there.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    return there.metadata.get("sa_lab") == _state() and sources == [cell.source for cell in now.cells]
