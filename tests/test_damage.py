"""Damaged files: told in one line that names the file, or made again; never a traceback, never another number."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import narrowed

from sa_lab import cli, experiment
from sa_lab.config import ExperimentConfig
from sa_lab.runs import Run, measure_folder

FILES = (
    "checkpoint.pt", "model.pt", "embeddings.npz", "training_embeddings.npz", "overlap.json", "made_of.json",
    "config.json", "report.json", "queries.csv", "metrics.csv", "images.csv", "probes/step-000003.npz",
)  # fmt: skip


def flipped(share: float, bit: int) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        found = bytearray(content)
        found[min(int(share * len(found)), len(found) - 1)] ^= 1 << bit
        return bytes(found)

    return flip


def other_archive(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def other_state(content: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": [1], "config": None, "rows": "x"}, buffer)
    return buffer.getvalue()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "null": lambda content: b"null",
    "list": lambda content: b"[]",
    "object": lambda content: b"{}",
    "a tenth": lambda content: content[: len(content) // 10],
    "half": lambda content: content[: len(content) // 2],
    "without the end": lambda content: content[:-3],
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "hole": lambda content: content[: len(content) // 3] + bytes(512) + content[len(content) // 3 + 512 :],
    "deep": lambda content: b"[" * 200_000,
    "first line": lambda content: content.split(b"\n")[0] + b"\n",
    "other archive": other_archive,
    "other state": other_state,
    **{f"bit at {share}": flipped(share, bit) for share, bit in ((0.0, 3), (0.02, 0), (0.5, 7), (0.9, 1), (0.999, 2))},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(people_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with all its files."""
    with pytest.MonkeyPatch.context() as patch:
        narrowed(patch)
        folder = tmp_path_factory.mktemp("made") / "run"
        experiment.run(_config(people_config), folder, progress=False, keep_checkpoint=True)
        measure_folder(folder)
    return folder


def _config(people_config: ExperimentConfig) -> ExperimentConfig:
    return people_config.replace({"model.backbone": "mobilenet_v2", "train.num_probes": 2, "train.num_epochs": 1})


CONCERNED = {
    "train": ("model.pt", "embeddings.npz", "training_embeddings.npz", "report.json", "queries.csv", "metrics.csv",
              "made_of.json"),
    "evaluate": ("embeddings.npz",),
    "embed": ("model.pt", "made_of.json", "images.csv", "embeddings.npz"),
    "report": ("report.json", "queries.csv"),
}  # fmt: skip
"""Files that a command reads whole, so that no damage of them passes without a word."""


def _said(report: Path) -> str:
    return json.dumps(
        [json.loads((report / "report.json").read_text())["measures"], Run(report).metrics()["total"].tolist()]
    )


@pytest.mark.usefixtures("narrow", "unchecked")
@pytest.mark.parametrize("file", FILES)
def test_every_damage_is_told_in_one_line_or_mended(
    file: str, made: Path, people_config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each command that reads a run; what goes on says the same as before."""
    told, went_on = 0, 0
    expected = _said(made)
    commands: dict[str, Callable[[Path], object]] = {
        "train": lambda run: experiment.run(_config(people_config), run, progress=False),
        "report": lambda run: cli.main(["report", str(run), "--style", "console"]),
        "evaluate": lambda run: cli.main(["evaluate", str(run)]),
        "embed": lambda run: cli.main(["embed", str(run), "--part", "test", "--out", str(tmp_path / "out.npz")]),
        "show": lambda run: [Run(run)._repr_markdown_(), len(Run(run).probes()), len(Run(run).embeddings)],
    }
    for damage, change in DAMAGES.items():
        for command, call in commands.items():
            run = tmp_path / "run"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(made, run)
            if file != "checkpoint.pt":  # which goes when a run is finished
                (run / "checkpoint.pt").unlink()
            (run / file).write_bytes(change((made / file).read_bytes()))
            try:
                call(run)
            except (SystemExit, ValueError, OSError, RuntimeError) as error:
                message = str(error)
                faults = [type(error) is RuntimeError, not message.strip(), "\n" in message.strip()]
                faults.append(Path(file).name not in message)
                if any(faults):
                    pytest.fail(f"{damage}, {command}: {type(error).__name__}: {message}")
                told += 1
            else:
                left = (run / file).read_bytes()
                checked = not file.endswith(".json") or b'"xxh3"' in left or damage in ("object", "null", "list")
                if file in CONCERNED.get(command, ()) and checked and left != (made / file).read_bytes():
                    assert Path(file).name in capsys.readouterr().err, f"{damage}, {command}: not noticed"
                if command == "train":
                    assert _said(run) == expected, damage
                went_on += 1
    with capsys.disabled():
        print(f"\n{file}: {told} told in one line, {went_on} mended or not concerned")
