"""The notebook series: executed with papermill, and cleaned for the repository."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import chdir
from pathlib import Path
from typing import Any

import kaleido
import nbformat
import nbstripout
import papermill
import torch
from nbclient.exceptions import DeadKernelError
from papermill.iorw import local_file_io_cwd
from PIL import Image
from tqdm.auto import tqdm

from sa_lab import experiment, study
from sa_lab.config import PAPER, ExperimentConfig, VariantName, variant
from sa_lab.course import CHOICE, STILL, claims
from sa_lab.course.kernels import Kernels
from sa_lab.course.parameters import parameters_of
from sa_lab.data import list_images, prepare
from sa_lab.data.store import split_identities
from sa_lab.dials import file_word
from sa_lab.disk import Refusal, atomic_path, check_folder, checkout, home, notebooks, read_json, say, write_text
from sa_lab.reporting import comparison
from sa_lab.runs import Run, loss_name
from sa_lab.training import processes

NOTEBOOKS = notebooks()
SIZE_LIMIT = 500_000
"""Bytes that a committed notebook may have."""
FIGURE = "application/vnd.plotly.v1+json"
"""Kind of the output that holds a figure as data."""
_CAMERAS = {"thermal": "thermal cameras", "synthetic": "near-infrared cameras, whose images resemble visible ones more"}
"""What sees the people of the drawn data sets."""
_COLOURS_OF_A_DRAWING = 6000  # lines, text and their soft edges have fewer; photographs have more


def chapters(folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of the series in order.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise FileNotFoundError(f"no chapters in {folder}, expected those of the repository or of an installed wheel")
    return found


def copy_to(folder: Path) -> Path:
    """Copy chapters, guides and solutions into a new folder, for a reader to work in.

    Raises:
        Refusal: something is there already, which is left as it is.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refusal(f"{folder} is there already, expected a new or an empty folder")
    check_folder(folder, "expected another one")
    chapters()
    bring_results()
    shutil.copytree(NOTEBOOKS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    return folder


def bring_results() -> None:
    """Without a checkout, put the studies that came with the library into the data folder, where chapters read them."""
    brought = NOTEBOOKS.parent / "results"
    if checkout() is None and brought.is_dir():
        for file in (one for one in brought.rglob("*") if one.is_file()):
            place = home() / "results" / file.relative_to(brought)
            if not place.exists():
                with atomic_path(place) as temporary:
                    shutil.copyfile(file, temporary)


def run_course(config: ExperimentConfig, loss: VariantName = "complete", out: Path | None = None) -> str:
    """The main job: train softmax and ``loss`` side by side, execute the whole series with them, and compare the two.

    If a batch has more identities than there are to train on, it is made smaller, with a note.

    Args:
        config: dials of all trainings.
        loss: what softmax is compared with.
        out: folder of the executed notebooks; by default one in the data folder, with the dials that differ from the
            preset tiny in its name.

    Returns:
        The comparison, and where it is.

    Raises:
        ValueError: a root for drawn images, epochs that do not outlast the warm-up, or a cell that failed.
    """
    data = config.data
    if data.root and data.dataset in _CAMERAS:
        raise ValueError(f"--root is {data.root!r}, expected none: {data.dataset} images are drawn, not read")
    epochs, steps = config.train.num_epochs, config.train.steps_per_epoch
    if steps and config.loss.warmup_steps >= epochs * steps:
        least = config.loss.warmup_steps // steps + 1
        raise ValueError(
            f"--epochs is {epochs}, expected at least {least}: the warm-up takes {config.loss.warmup_steps} steps"
        )
    listing = list_images(config.data)
    train_ids, _ = split_identities(listing, config.data.validation_fraction, config.data.seed)
    if config.train.ids_per_batch > len(train_ids):
        say(
            f"train.ids_per_batch is {config.train.ids_per_batch}, more than the {len(train_ids)} identities left for "
            f"training: batches of {len(train_ids)} are taken"
        )
        config = config.replace("train.ids_per_batch", len(train_ids))
    prepare(config.data, listing=listing)
    bring_results()
    out = out or home() / "executed" / _name(config, loss)
    configs = [split for name in ("softmax", loss) for split in experiment.of_every_split(variant(config, name))]
    jobs = 1 if torch.cuda.is_available() else 2
    if missing := [one for one in configs if not (experiment.run_folder(one) / "report.json").is_file()]:
        begin = f"First {_named(missing)} are trained, {jobs} at a time, {epochs} epochs each; then"
    else:
        begin = f"{_named(configs)} are trained already;"
    say(
        f"{begin} {len(chapters())} chapters are executed, two at a time. Trained networks are kept: after Ctrl-C the "
        f"same command goes on with them.{_expected(config, loss) if missing else ''}"
    )
    trained = study.run_all(configs, jobs)  # the chapters find the first of them
    execute(out, parameters_of(config, loss))
    text = _told(trained, loss)
    write_text(out / "report.md", text)
    return (
        f"{text}\n\nThe executed chapters and this text (report.md) are in {out}\n"
        f"The networks are in {trained[0].folder.parent}\n"
        f"Next: make lab, and open 00_start_here.ipynb; or sa-lab lab {out}, for the executed chapters"
    )


def _expected(config: ExperimentConfig, loss: str) -> str:
    """How long the main job took where it was measured, for its own data set and preset on a CPU; else nothing."""
    file = home() / "results" / "bench-cpu.json"
    measured = read_json(file).get("course") if file.is_file() else None
    if not measured or loss != "complete" or config != ExperimentConfig() or torch.cuda.is_available():
        return ""
    return f" With {measured['cores']} CPU cores this took {measured['minutes']:.0f} minutes (`make bench`)."


def _told(runs: Sequence[Run], loss: str) -> str:
    """What some runs show, softmax first, of several splits the first; what studies find; and the runs' tables."""
    folders = [run.folder for run in runs]
    gain = claims.gain(folders[0], folders[len(folders) // 2], ("softmax", loss))
    studied = _studied() if runs[0].config.data.dataset in _CAMERAS and loss == "complete" else []
    return "\n\n".join([gain, *studied, comparison.tables_of(folders)])


def _studied() -> list[str]:
    """What the studies in the repository find with several seeds, before each kind of camera."""
    lines = []
    for dataset, seen_by in _CAMERAS.items():
        file = home() / "results" / f"main-{dataset}.json"
        if file.is_file():
            found = read_json(file)
            gain = claims.span(claims.paired(found, "complete", "softmax", "mean_ap"), "mean_ap", " points")
            lines.append(f"- {seen_by}: {gain} ({len(found['seeds'])} seeds)")
    told = "Studies in the repository (`make study`), several seeds with other people; mAP of complete minus softmax:"
    return ["\n".join([told, *lines])] if lines else []


def _named(configs: Sequence[ExperimentConfig]) -> str:
    """Data set and loss of each training."""
    return " and ".join(dict.fromkeys(f"{one.data.dataset} {loss_name(one)}" for one in configs))


def _name(config: ExperimentConfig, loss: str) -> str:
    """Data set and the dials that are not those of the preset tiny, as far as a folder's name has room for them."""
    words = [loss] if loss != "complete" else []
    text = "-".join([config.data.dataset, *words, *study.changed_words(config, "data.dataset", "data.root")])
    plain = file_word(text)[:80].strip("-.")
    return plain if plain == text else f"{plain}-{config.digest()}"


def execute(out: Path, parameters: Mapping[str, Any], only: Sequence[str] = (), folder: Path = NOTEBOOKS) -> list[Path]:
    """Execute the chapters into ``out``, two at a time, which share the cores; a run that two need is trained by one.

    Args:
        out: folder of the executed notebooks; the chapters themselves stay as they are.
        parameters: values for the chapters' ``parameters`` cells; each takes those that it has.
        only: beginnings of file names, to execute some chapters alone.
        folder: where the chapters are.

    Raises:
        ValueError: no such chapter, or a parameter that none of these has; or a cell failed or a kernel was killed, the
            notebook is in ``out``, and the other chapters were stopped.
        KeyboardInterrupt: asked to stop.
    """
    chosen = [path for path in chapters(folder) if not only or path.name.startswith(tuple(only))]
    if not chosen:
        raise ValueError(f"only is {list(only)}, expected beginnings of {', '.join(p.name for p in chapters(folder))}")
    known = {path: papermill.inspect_notebook(path).keys() for path in chosen}
    unknown = sorted(set(parameters).difference(*known.values()))
    if unknown:
        found = ", ".join(dict.fromkeys(name for names in known.values() for name in names))
        names = ", ".join(path.name for path in chosen)
        raise ValueError(f"{names}: no parameter {', '.join(unknown)}, expected some of {found}")
    out, folder = out.absolute(), folder.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["SA_LAB_HOME"] = str(home())  # a relative one would mean another folder in the chapters
    jobs = min(2, len(chosen))

    def tell_running() -> None:
        names = " and ".join(name[:2] for name in sorted(kernels.running))
        bar.set_description(f"chapter {names}" if names else "chapters")

    def one(path: Path) -> None:
        taken = {name: value for name, value in parameters.items() if name in known[path]}
        with kernels.one(path.name) as manager:
            tell_running()
            ways = {"progress_bar": False, "kernel_manager_class": manager}
            try:
                done = papermill.execute_notebook(folder / path.name, out / path.name, taken, **ways)
            except papermill.PapermillExecutionError as error:
                why = f"{error.ename}: {error.evalue}"
                raise ValueError(f"cell {error.exec_count} failed, see {out / path.name}: {why}") from error
            except DeadKernelError as error:
                raise ValueError(f"{path.name}: its kernel was killed, or ran out of memory") from error
        done.metadata.pop("widgets", None)  # the state of a live figure: megabytes that nobody can open
        with atomic_path(out / path.name) as temporary:
            nbformat.write(done, temporary)

    with (
        tqdm(total=len(chosen), unit="chapter", bar_format="{desc}{bar} {n_fmt}/{total_fmt} [{elapsed}]") as bar,
        chdir(folder),  # once for all: papermill's own argument would go there and back under another one's feet
        local_file_io_cwd(str(folder)),  # what papermill's threads find here, each puts back
        Kernels(max(1, processes.cores() // jobs)) as kernels,
        ThreadPoolExecutor(jobs) as pool,
    ):
        try:
            waiting = {pool.submit(one, path) for path in reversed(chosen)}  # the last take longest
            while waiting:
                done, waiting = wait(waiting, 1, FIRST_COMPLETED)
                for future in done:
                    future.result()
                    bar.update()
                if done or sys.stderr.isatty():  # at a terminal its clock goes on
                    tell_running()
        except BaseException:
            kernels.fail()
            raise
    return [out / path.name for path in chosen]


def render(only: Sequence[str] = (), folder: Path = NOTEBOOKS) -> None:
    """Execute the chapters in place with their own parameters, figures as data and as picture, and clean them.

    The networks of the four losses are trained first, if they are missing; then no chapter needs another one. Networks
    and chapters are made two at a time; more threads than cores would wait for each other.

    Raises:
        RuntimeError: no browser is found to draw the pictures.
        ValueError: a cleaned chapter is larger than `SIZE_LIMIT`.
    """
    kaleido.calc_fig_sync({"data": [], "layout": {}})  # before anything is trained
    os.environ |= {"OMP_NUM_THREADS": "1", "PLOTLY_RENDERER": "plotly_mimetype"}
    study.run_all([variant(ExperimentConfig(), name) for name in PAPER], jobs=2)
    chosen = [path for path in chapters(folder) if not only or path.name.startswith(tuple(only))]
    chosen.reverse()  # the last ones take longest
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for path, size in zip(chosen, pool.map(_render_one, chosen), strict=True):
            print(f"{path.name}: {size} bytes")


def _render_one(path: Path) -> int:
    """Bytes of a chapter that is now executed and clean; see `render`."""
    with atomic_path(path) as temporary:
        papermill.execute_notebook(path, temporary, cwd=path.parent, progress_bar=False)
        notebook = draw(clean(nbformat.reads(temporary.read_text(encoding="utf-8"), as_version=4)))
        temporary.write_text(written(shrink(notebook)), encoding="utf-8")
        if (size := temporary.stat().st_size) > SIZE_LIMIT:
            raise ValueError(f"{path.name} has {size} bytes after cleaning, expected at most {SIZE_LIMIT}")
    return size


def _contents(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """What each output of a notebook holds, by kind; nothing where it was printed."""
    return [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]


def draw(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Put a PNG beside each figure that has none, all with one start of the browser.

    Raises:
        RuntimeError: no browser is found, or it cannot draw one of them.
    """
    kaleido.start_sync_server(silence_warnings=True)
    try:
        for data in _contents(notebook):
            if FIGURE in data and "image/png" not in data:
                figure = {key: data[FIGURE][key] for key in ("data", "layout")}
                data["image/png"] = base64.b64encode(kaleido.calc_fig_sync(figure, opts={"format": "png"})).decode()
    finally:
        kaleido.stop_sync_server(silence_warnings=True)
    return notebook


def shrink(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Recode the figures' pictures: drawings as PNG with 64 colours, those with photographs in them as JPEG."""
    for data in _contents(notebook):
        if "image/png" in data:
            picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
            buffer = io.BytesIO()
            if picture.getcolors(_COLOURS_OF_A_DRAWING):
                few = picture.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
                few.save(buffer, "PNG", optimize=True)
                data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
            else:
                picture.save(buffer, "JPEG", quality=75)
                data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()
    return notebook


def written(notebook: nbformat.NotebookNode) -> str:
    """The notebook as text, each figure on one line: a line for every number would make it half as large again."""
    figures = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if kind.endswith("+json")]:
                figures.append(json.dumps(output["data"][kind], separators=(",", ":"), ensure_ascii=False))
                output["data"][kind] = f"figure {len(figures) - 1} of this notebook"
    text: str = nbformat.writes(notebook)
    for i, figure in enumerate(figures):
        text = text.replace(json.dumps(f"figure {i} of this notebook"), figure)
    return text + "\n"


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what changes from run to run: progress bars, timings, widget state, papermill's traces."""
    traces = ("metadata.papermill", "metadata.widgets", "metadata.language_info")
    keys = [*traces, "cell.metadata.papermill", "cell.metadata.execution"]
    notebook = nbstripout.strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=keys)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_without_view(output) for output in cell.outputs if not _is_passing(output)]
    return notebook


_VIEW = "application/vnd.jupyter.widget-view+json"


def _without_view(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A widget as the line that says how to start it."""
    output.get("data", {}).pop(_VIEW, None)
    return output


def _is_passing(output: nbformat.NotebookNode) -> bool:
    """Progress bars: on stderr, or a widget's view without a line of ours."""
    if output.output_type == "stream":
        return bool(output.name == "stderr")
    data = output.get("data", {})
    return _VIEW in data and not data.get("text/plain", "").startswith((STILL, CHOICE))
