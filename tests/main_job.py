"""The main job, as the README's command runs it but on one thread and with shorter trainings; chapters with these."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
EPOCHS = 3
"""Of a training in the tests, in place of the eight that readers have."""


def place_of_runs() -> Path:
    """The data folder of main jobs."""
    from sa_lab.disk import home  # not before the shapes of the library are checked, see conftest.py

    return Path(os.environ.get("SA_LAB_TEST_HOME", str(home())))


def run_main_job(out: Path, *options: str) -> None:
    """``sa-lab course`` in a process of its own; its runs go where SA_LAB_TEST_HOME says, or are thrown away."""
    command = [sys.executable, "-m", "sa_lab", "course", "--out", str(out), *options]
    environment = {**os.environ, "SA_LAB_HOME": str(place_of_runs())}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    notebooks = sorted(out.glob("*.ipynb"))
    assert [path.name[:2] for path in notebooks] == ["00", "01", "02", "03", "04", "05", "06", "07"]
    for path in notebooks:
        code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), path.name
    report = (out / "report.md").read_text()
    for loss in ("softmax", "complete"):
        assert re.search(rf"\| {loss} +\| 0 +\|", report)
    assert "What it shows: mAP of complete minus that of softmax" in report
    assert "What it does not" in report


def shorter(folder: Path) -> Path:
    """Copy chapters and guides into a new folder, with trainings of `EPOCHS` epochs: those of the main job."""
    shutil.copytree(ROOT / "notebooks", folder)
    changed = 0
    for path in folder.glob("*.ipynb"):
        text, times = re.subn(r'"epochs = \d+  #', f'"epochs = {EPOCHS}  #', path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        changed += times
    assert changed == 6, "the chapters with trainings, and the first one"
    return folder


if __name__ == "__main__":
    shorter(Path(sys.argv[1]))
