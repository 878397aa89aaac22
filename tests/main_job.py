"""The main job, as the README's command runs it but on one thread."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
from browsing import ROOT

from sa_lab.disk import home


def place_of_runs() -> Path:
    """The data folder of main jobs."""
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
