"""The main job itself: the whole series under papermill, on embedded and on real (or generated) pairs."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from browsing import find_browser
from PIL import Image

from sa_lab import course, experiment, protocols
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, home, variant
from sa_lab.data import copies

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "roadscene"


def start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    """``sa-lab course`` in a process of its own; its runs go where SA_LAB_TEST_HOME says, or are thrown away."""
    runs = os.environ.get("SA_LAB_TEST_HOME", str(home()))
    command = [sys.executable, "-m", "sa_lab", "course", "--out", str(out), *options]
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, env={**os.environ, "SA_LAB_HOME": runs}, stdout=log, stderr=log, cwd=ROOT)


def assert_whole(out: Path) -> None:
    notebooks = sorted(out.glob("*.ipynb"))
    assert [path.name[:2] for path in notebooks] == ["00", "01", "02", "03", "04", "05", "06"]
    for path in notebooks:
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), path.name
    report = (out / "report.md").read_text()
    for loss in ("softmax", "complete"):
        assert re.search(rf"\| {loss} +\| 0 +\|", report)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_main_job_on_embedded_data_and_on_visible_thermal_pairs(tmp_path: Path) -> None:
    """Both at once: each is one process of one thread for most of its time."""
    root = REAL if REAL.is_dir() else generated_pairs(tmp_path / "pairs")
    outs = {"synthetic": tmp_path / "synthetic", "roadscene": tmp_path / "roadscene"}
    jobs = {
        "synthetic": start(outs["synthetic"]),
        "roadscene": start(outs["roadscene"], "--dataset", "roadscene", "--root", str(root)),
    }
    try:
        for name, job in jobs.items():
            code = job.wait()
            assert code == 0, outs[name].with_suffix(".log").read_text()[-4000:]
            assert_whole(outs[name])
    finally:
        for job in jobs.values():
            job.kill()
            job.wait()


def test_figures_stand_on_one_line_and_nothing_else_changes() -> None:
    figure = {"data": [{"x": [0, 1], "name": "ä"}], "layout": {}}
    output = nbformat.v4.new_output("display_data", {"application/vnd.plotly.v1+json": figure, "text/plain": "Figure"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    before = nbformat.reads(nbformat.writes(notebook), as_version=4)
    text = course.written(notebook)
    assert nbformat.reads(text, as_version=4) == before
    assert '"application/vnd.plotly.v1+json": {"data":[{"x":[0,1],"name":"ä"}],"layout":{}}' in text


@pytest.mark.skipif(find_browser() is None, reason="no chromium or chrome: apt-get install chromium, or set CHROME")
def test_each_figure_gets_a_picture_of_its_own_size() -> None:
    layouts: list[dict[str, int]] = [{"width": 300, "height": 200}, {}]
    figures = [{course.FIGURE: {"data": [{"y": [1, 2]}], "layout": layout}} for layout in layouts]
    known = {course.FIGURE: {"data": [], "layout": {}}, "image/png": "drawn before"}
    outputs = [nbformat.v4.new_output("display_data", data) for data in (*figures, known, {"text/plain": "no figure"})]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    drawn = [output.data.get("image/png") for output in course.draw(notebook).cells[0].outputs]
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture))).size for picture in drawn[:2]]
    assert sizes == [(300, 200), (700, 500)]
    assert drawn[2:] == ["drawn before", None]


@pytest.mark.slow
def test_the_benchmark_chapter_reads_finished_runs_of_any_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two losses, six steps each, on a generated copy of LLCM; the chapter says so and shows both directions."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    config = ExperimentConfig(
        data=DataConfig(dataset="llcm", root=copies.at_hand("llcm", ""), height=32, width=16),
        model=ModelConfig(num_parts=1, weights="random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=4, num_epochs=1, steps_per_epoch=6, device="cpu"),
    )
    runs = [experiment.run(variant(config, name), progress=False) for name in ("softmax", "complete")]
    names = ", ".join(str(run.folder) for run in runs)
    (chapter,) = course.execute(tmp_path / "out", {"run": names, "dataset": "llcm"}, only=["05"])
    text = chapter.read_text()
    assert "These people are drawn" in text
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
