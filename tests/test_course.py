"""The series under papermill on real (or generated) pairs and on other runs; what makes it fit for the repository."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from main_job import run_main_job
from PIL import Image

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant
from sa_lab.course import chapters
from sa_lab.data import copies
from sa_lab.evaluation import protocols
from sa_lab.training import processes

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "roadscene"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_first_look_at_visible_thermal_pairs(tmp_path: Path) -> None:
    """With a few steps; the main job itself runs on embedded data, see test_course_browser.py."""
    root = REAL if REAL.is_dir() else generated_pairs(tmp_path / "pairs")
    few = ["--epochs", "2", "--train.steps-per-epoch", "12", "--loss.warmup-steps", "8"]
    run_main_job(tmp_path / "roadscene", "--dataset", "roadscene", "--root", str(root), *few)


def test_figures_stand_on_one_line_and_nothing_else_changes() -> None:
    figure = {"data": [{"x": [0, 1], "name": "ä"}], "layout": {}}
    output = nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": figure, "text/plain": "Figure"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    before = nbformat.reads(nbformat.writes(notebook), as_version=4)
    text = chapters.written(notebook)
    assert nbformat.reads(text, as_version=4) == before
    assert '"application/vnd.plotly.v1+json": {"data":[{"x":[0,1],"name":"ä"}],"layout":{}}' in text


def test_each_figure_gets_a_picture_of_its_own_size(browser_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", browser_path)
    sized = go.Figure(go.Scatter(y=np.arange(3.0)), {"width": 300, "height": 200}, [go.Frame(data=go.Scatter(y=[1]))])
    figures = [{chapters.FIGURE: figure} for figure in (sized.to_dict(), {"data": [{"y": [1, 2]}], "layout": {}})]
    known = {chapters.FIGURE: {"data": [], "layout": {}}, "image/png": "drawn before"}
    outputs = [nbformat.v4.new_output("display_data", data) for data in (*figures, known, {"text/plain": "no figure"})]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    drawn = [output.data.get("image/png") for output in chapters.draw(notebook).cells[0].outputs]
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in drawn[:2]]
    assert sizes == [(300, 200), (700, 500)]
    assert drawn[2:] == ["drawn before", None]


@pytest.mark.slow
def test_the_benchmark_chapter_reads_finished_runs_of_any_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losses, six steps each, on a generated copy of LLCM; the chapter says so and shows both directions."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    root = tmp_path / "llcm"
    copies.write("llcm", root, train_ids=8, test_ids=12, images_per_camera=2)
    config = ExperimentConfig(
        data=DataConfig(dataset="llcm", root=str(root), height=32, width=16),
        model=ModelConfig(num_parts=1, weights="random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=4, num_epochs=1, steps_per_epoch=6, device="cpu"),
    )
    runs = [experiment.run(variant(config, name), progress=False) for name in ("softmax", "complete")]
    names = ", ".join(str(run.folder) for run in runs)
    (chapter,) = chapters.execute(tmp_path / "out", {"run": names, "dataset": "llcm", "root": str(root)}, only=["05"])
    text = chapter.read_text()
    assert "These people are computer-generated" in text
    for protocol in protocols.protocols_of("llcm"):
        assert protocol.description in text
    assert "arXiv 2303" not in text


def generated_pairs(root: Path, count: int = 60) -> Path:
    """Scenes of coloured blocks whose thermal partner keeps the layout, in RoadScene's folders."""
    for folder in ("crop_LR_visible", "cropinfrared"):
        (root / folder).mkdir(parents=True)
    for scene in range(count):
        rng = np.random.default_rng(scene)
        layout = rng.integers(0, 6, (6, 10))
        warm = rng.permutation(6) * 40
        visible = rng.integers(20, 230, (6, 3))[layout].repeat(30, 0).repeat(30, 1)
        thermal = warm[layout].repeat(30, 0).repeat(30, 1)
        Image.fromarray(visible.astype(np.uint8)).save(root / "crop_LR_visible" / f"S{scene:03}.jpg")
        Image.fromarray(thermal.astype(np.uint8)).save(root / "cropinfrared" / f"S{scene:03}.jpg")
    return root


def test_a_kernel_ends_with_its_chapter_and_listens_on_no_port(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    code = "import json, os; from ipykernel.connect import get_connection_file as of\n"
    code += "print(json.dumps([os.getpid(), json.load(open(of()))['ip']]))"
    series(tmp_path, code)
    (done,) = chapters.execute(tmp_path / "out", {}, folder=tmp_path)
    pid, address = json.loads(nbformat.read(done, 4).cells[-1].outputs[0].text)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert Path(address).parent.is_absolute()
    assert not Path(address).parent.exists()
    assert "WARNING" not in capfd.readouterr().err


STUBBORN = """
import signal, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.SIG_IGN)
Path("begun-{0}").touch()
time.sleep(300)
"""
WILLING = """
import time
from pathlib import Path
try:
    Path("begun-{0}").touch()
    time.sleep(300)
finally:
    Path("saved-{0}").touch()
"""
FAILING = """
import time
from pathlib import Path
while not Path("begun-1").exists():
    time.sleep(0.1)
Path("gone").read_text()
"""


def series(folder: Path, *sources: str) -> None:
    """Write chapters of one cell each; {0} is the number of the chapter."""
    for number, source in enumerate(sources):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source.replace("{0}", str(number)))])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, folder / f"{number:02}_chapter.ipynb")


def test_two_chapters_are_executed_at_a_time_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wait for each other, the third comes after them; this process stays where it was."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    other = "import time\nfrom pathlib import Path\nPath('{0}').touch()\n"
    other += "while not (Path('1').exists() and Path('2').exists()):\n    time.sleep(0.1)"
    series(tmp_path, "import os\nprint(os.environ['OMP_NUM_THREADS'])", other, other)
    before = Path.cwd()
    done = chapters.execute(tmp_path / "out", {}, folder=tmp_path)
    assert Path.cwd() == before
    assert [path.name for path in done] == ["00_chapter.ipynb", "01_chapter.ipynb", "02_chapter.ipynb"]
    assert int(nbformat.read(done[0], 4).cells[-1].outputs[0].text) == max(1, processes.cores() // 2)


def test_a_series_leaves_nothing_behind_for_the_next_one(tmp_path: Path) -> None:
    for name, sources in (("first", ("import time\ntime.sleep(3)", "1")), ("second", ("2",))):
        (tmp_path / name).mkdir()
        series(tmp_path / name, *sources)
        chapters.execute(tmp_path / "out", {}, folder=tmp_path / name)
        shutil.rmtree(tmp_path / name)


def test_a_kernel_that_is_killed_and_a_chapter_that_is_not_there_are_named(tmp_path: Path) -> None:
    series(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ValueError, match=r"00_chapter\.ipynb: its kernel was killed, or ran out of memory"):
        chapters.execute(tmp_path / "out", {}, folder=tmp_path)
    with pytest.raises(ValueError, match=r"only is \['99'\], expected beginnings of 00_chapter\.ipynb"):
        chapters.execute(tmp_path / "out", {}, ["99"], folder=tmp_path)


def test_a_chapter_that_fails_stops_the_other(tmp_path: Path) -> None:
    series(tmp_path, FAILING, WILLING)
    with pytest.raises(ValueError, match=r"cell 1 failed, see .*/00_chapter\.ipynb: FileNotFoundError"):
        chapters.execute(tmp_path / "out", {}, folder=tmp_path)
    assert (tmp_path / "saved-1").exists()


@pytest.mark.parametrize(
    ("source", "delay"), [(WILLING, None), (STUBBORN, None), *((WILLING, delay) for delay in (0.0, 1.0, 3.0))]
)
def test_an_interrupt_ends_the_course_whatever_it_does(source: str, delay: float | None, tmp_path: Path) -> None:
    """While a cell runs, and so many seconds after the start, when a kernel may be on its way."""
    series(tmp_path, WILLING, source)
    program = (
        "import sys; from pathlib import Path; from sa_lab import cli; from sa_lab.course import chapters\n"
        "here = Path(sys.argv[1])\n"
        "try:\n    print('ready', flush=True)\n    chapters.execute(here / 'out', {}, folder=here)\n"  # from 'ready' on
        "except KeyboardInterrupt as stop: sys.exit(f'told: {stop}')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SA_LAB_HOME": str(tmp_path)}
    started = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert started.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 60
    while delay is None and len(list(tmp_path.glob("begun-*"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(delay or 0)
    started.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, said = started.communicate(timeout=60)
    assert time.monotonic() - asked < 30
    assert "told: " in said, said[-1500:]
    if delay is None:
        told = "told: stopped in 00_chapter.ipynb and 01_chapter.ipynb; the same command goes on with what is finished"
        assert told in said
        assert (tmp_path / "saved-0").exists()
        assert (tmp_path / "saved-1").exists() == (source == WILLING)
