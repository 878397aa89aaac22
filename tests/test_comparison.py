"""What may stand in one table, and what is one method."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sa_lab.config import ExperimentConfig
from sa_lab.evaluation.protocols import SYSU_ALL, VISIBLE_TO_INFRARED, Protocol, regdb
from sa_lab.evaluation.search import evaluate_all
from sa_lab.reporting import comparison
from sa_lab.schema import Embeddings, LeakageError


def evaluated(
    folder: Path, *protocols: Protocol, split: int | None = None, dataset: str = "", **source: object
) -> Path:
    """Reports on a few random descriptors, as `sa-lab evaluate` leaves them."""
    rng = np.random.default_rng(len(str(folder)))
    camera = np.tile([1, 2, 3, 4, 5, 6], 12)
    data = Embeddings(
        None, rng.normal(size=(72, 1, 3)), np.repeat(np.arange(6), 12), camera, np.isin(camera, (3, 6)).astype(int),
        tuple(f"{i:03}" for i in range(72)), split=split, dataset=dataset,
    )  # fmt: skip
    for report in evaluate_all(data, protocols, draws=10):
        report.save(folder, f"-{report.protocol['name']}")
    if source:
        (folder / "source.json").write_text(json.dumps({"split": split, **source}))
    return folder


def test_methods_keep_their_own_rows_whatever_their_folders_are_called(tmp_path: Path) -> None:
    folders = [evaluated(tmp_path / name / "run", SYSU_ALL) for name in "ab"]
    text = comparison.tables_of(folders)
    assert "splits" not in text.split("|", 1)[1]
    for folder in folders:
        assert f"| {folder} " in text
    with pytest.raises(ValueError, match="given twice"):
        comparison.tables_of([folders[0], tmp_path / "a" / ".." / "a" / "run"])


def test_only_shared_protocols_stand_in_one_table(tmp_path: Path) -> None:
    both = evaluated(tmp_path / "both", SYSU_ALL, VISIBLE_TO_INFRARED)
    one = evaluated(tmp_path / "one", VISIBLE_TO_INFRARED)
    assert "sysu-all" not in comparison.tables_of([both, one])
    with pytest.raises(ValueError, match=r"share no protocol .* but answer sysu-all; visible-to-infrared"):
        comparison.tables_of([one, evaluated(tmp_path / "other", SYSU_ALL)])


def test_splits_of_one_method_are_averaged_and_of_others_never_mixed(tmp_path: Path) -> None:
    ours = [
        evaluated(tmp_path / f"x{k}", *regdb(k), split=k, dataset="regdb", method="x", sha256=str(k))
        for k in range(1, 11)
    ]
    text = comparison.tables_of(ours)
    assert "x (10 splits)" in text
    assert "arXiv 2303.14481" in text  # published averages stand beside all ten
    assert "arXiv" not in comparison.tables_of(ours[:3])
    theirs = evaluated(tmp_path / "y", *regdb(4), split=4, dataset="regdb", method="y", sha256="y")
    with pytest.raises(ValueError, match="share no protocol on the same data set and splits"):
        comparison.tables_of([ours[0], theirs])
    again = evaluated(tmp_path / "z", *regdb(1), split=1, dataset="regdb", method="x", sha256="z")
    with pytest.raises(ValueError, match="are both x, split 1; expected each split once"):
        comparison.tables_of([ours[0], again])


def test_one_checkpoint_cannot_stand_for_two_splits(tmp_path: Path) -> None:
    folders = [
        evaluated(tmp_path / f"x{k}", *regdb(k), split=k, dataset="regdb", method="x", sha256="same") for k in (1, 2)
    ]
    with pytest.raises(LeakageError, match="one checkpoint stands for several splits"):
        comparison.tables_of(folders)


def test_a_method_is_called_as_its_owner_calls_it(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "one", SYSU_ALL, method="theirs", sha256="1")
    assert list(comparison.methods([one])) == ["theirs"]
    other = evaluated(tmp_path / "other", SYSU_ALL, method="theirs", sha256="2")
    assert list(comparison.methods([one, other])) == [str(one), str(other)]


def test_runs_of_other_code_are_other_methods(tmp_path: Path) -> None:
    folders = []
    for code in ("a", "b"):
        for seed in (0, 1):
            folder = tmp_path / f"{code}{seed}"
            ExperimentConfig(seed=seed).save(folder / "config.json")
            (folder / "made_of.json").write_text(json.dumps({"code": code * 64, "data": "d" * 64}))
            folders.append(folder)
    found = comparison.methods(folders)
    assert [len(group) for group in found.values()] == [2, 2]
    assert len({name for name in found}) == 2
    assert next(iter(found)).startswith("thermal, complete, aaaaaaaa, dddddddd, ")
    assert list(comparison.methods(folders[:2])) == ["thermal, complete (2 seeds)"]
