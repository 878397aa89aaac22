"""What a study is called, says of itself, and does to the chapters that read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa_lab import study
from sa_lab.analysis import DEFINITIONS
from sa_lab.config import PAPER, ExperimentConfig
from sa_lab.course import claims
from sa_lab.evaluation.reports import SHARES
from sa_lab.intervals import Interval, student_interval
from sa_lab.reporting import comparison, studies
from sa_lab.study import MEANINGS, SEEDS, default_file, limits_of

ROOT = Path(__file__).parents[1]
ALL = PAPER


@pytest.mark.parametrize(
    ("dials", "variants", "seeds", "name"),
    [
        ({}, ALL, SEEDS, r"study-thermal\.json"),
        ({"data.dataset": "thermal"}, ALL, SEEDS, r"study-thermal\.json"),
        ({"data.dataset": "roadscene", "data.root": "x"}, ALL, SEEDS, r"study-roadscene\.json"),
        ({"loss.mask_value": 0}, ALL, SEEDS, r"study-thermal-mask_value-0\.0-\w{8}\.json"),
        ({}, ("softmax", "complete"), SEEDS, r"study-thermal-softmax-complete-\w{8}\.json"),
        ({}, ALL, (0, 1), r"study-thermal-seeds-0-1-\w{8}\.json"),
        ({"train.milestones": (2, 3)}, ALL, SEEDS, r"study-thermal-milestones-2-3-\w{8}\.json"),
        ({"model.weights": "/a/b c.pt"}, ALL, SEEDS, r"study-thermal-weights-a-b-c\.pt-\w{8}\.json"),
    ],
)
def test_only_the_study_itself_writes_the_file_that_chapters_read(
    dials: dict[str, Any], variants: tuple[str, ...], seeds: tuple[int, ...], name: str
) -> None:
    import re

    config = ExperimentConfig().replace(dials) if dials else ExperimentConfig()
    file = default_file(config, variants, seeds)
    assert re.fullmatch(name, file.name), file.name
    assert file.parent.name == "results"


def test_other_dials_have_other_names() -> None:
    configs = [ExperimentConfig().replace("loss.mask_value", value) for value in (0, 5, 50)]
    assert len({default_file(config, ALL, SEEDS) for config in configs}) == 3


def test_a_study_of_other_images_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_all", lambda *_, **__: pytest.fail("something was trained"))
    out = tmp_path / "study.json"
    out.write_text('{"images": "those of somebody else", "variants": {}}')
    with pytest.raises(ValueError, match="holds the study of other images than these"):
        study.study(ExperimentConfig(), out=out, progress=False)


def study_of(variants: tuple[str, ...], seeds: int, measures: tuple[str, ...] = tuple(MEANINGS)) -> dict[str, Any]:
    """As `sa_lab.study.study` writes it, with numbers that are drawn."""
    rng = np.random.default_rng(0)
    values = {name: {key: rng.uniform(0.1, 0.9, seeds) for key in measures} for name in variants}
    found: dict[str, Any] = {"library": "0", "torch": "2", "cpu": "AVX2", "seeds": list(range(seeds)), "variants": {}}
    for name, columns in values.items():
        found["variants"][name] = {
            key: {**student_interval(v, limits_of(key)), "values": v.tolist()} for key, v in columns.items()
        }
        if "softmax" in values and name != "softmax":
            for key, entry in found["variants"][name].items():
                entry["minus_softmax"] = student_interval(columns[key] - values["softmax"][key])
    return found


RETRIEVAL = tuple(SHARES)
ODD = {
    "usual": study_of(ALL, 5),
    "two losses": study_of(("softmax", "complete"), 2),
    "no softmax": study_of(("no_mask", "complete"), 3),
    "one loss": study_of(("softmax",), 2),
    "without complete": study_of(("softmax", "no_absolute"), 3),
    "one test identity": study_of(("softmax", "complete"), 2, (*RETRIEVAL, "training_stranger_ratio", "alignment")),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("chapter", ["04_prototype_overlap", "05_benchmark"])
def test_chapters_bear_any_study(
    name: str, chapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every cell that reads a study."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: None)
    (tmp_path / "results").mkdir()
    for data in ("thermal", "roadscene"):
        (tmp_path / "results" / f"study-{data}.json").write_text(json.dumps(ODD[name]))
    cells = [
        "".join(cell["source"])
        for cell in json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    space: dict[str, Any] = {"dataset": "thermal"}
    begun = False
    for place, source in enumerate(cells):
        begun = begun or "results" in source
        if place == 1 or (begun and any(word in source for word in ("study", "pieces", "fair"))):
            exec(compile(source, f"{chapter}, cell {place}", "exec"), space)
    assert "study" in space


def test_a_measure_stays_within_its_limits() -> None:
    values = np.array([0.97, 1.0, 0.95])
    assert student_interval(values)["high"] > 1, "or the test shows nothing"
    assert student_interval(values, limits_of("rank_1"))["high"] == 1
    assert student_interval(1 - values, limits_of("mean_ap"))["low"] == 0
    for name, definition in DEFINITIONS.items():
        low, high = limits_of(name)
        assert definition.range != "[0,1]" or (low, high) == (0, 1)
        assert low < high
    assert limits_of("training_stranger_ratio") == (0, np.inf)


def test_rows_say_the_dials_in_which_a_loss_differs() -> None:
    found = study_of(("softmax", "complete"), 2) | {"labels": {"softmax": "softmax", "complete": "no_mask"}}
    assert "| no_mask |" in studies.table(found)
    long = {"softmax": "softmax", "complete": "triplet, terms identity 1 + triplet 0.3, margin 1"}
    assert "| triplet, weight 0.3, margin 1 |" in studies.table(found | {"labels": long})
    assert studies.label({"labels": {"a": "mmd, terms identity 1 + mmd 3"}}, "a") == "mmd, weight 3"
    several = "terms identity 1 + mmd 3 + center 2"
    assert studies.label({"labels": {"a": several}}, "a") == several
    assert any(line.startswith("no_mask: ") for line in claims.verdicts(found))
    told = studies.made_with(found | {"changed": {"loss.mask_value": 0.0}})
    assert "vector level AVX2" in told
    assert "loss.mask_value 0.0" in told
    assert "a processor with another vector level" in told


def test_where_nothing_was_measured_nothing_is_shown(tmp_path: Path) -> None:
    """One test identity has no strangers: those trained on have, but are not asked."""
    ExperimentConfig().save(tmp_path / "config.json")
    one = Interval(0.5, 0.4, 0.6)
    measured = {"training": {"stranger_ratio": one, "modality_probe": one, "prototype_alignment": one}, "unseen": {}}
    row = comparison._overlap_row("one", [tmp_path], lambda _: measured)
    assert row[DEFINITIONS["stranger_ratio"].title] is None
    assert row[DEFINITIONS["modality_probe"].title] is None
    assert row[DEFINITIONS["prototype_alignment"].title] is not None
    assert "| - |" in studies_table([row])


def studies_table(rows: list[Any]) -> str:
    from sa_lab.reporting import tables

    return " ".join(tables.render(rows, "markdown").split())
