"""What chapters and README say of studies: the paper's claims, pieces, processors, and what two runs show."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import readme
from PIL import Image

from sa_lab.course import claims, figures
from sa_lab.evaluation.paired import Difference
from sa_lab.intervals import Interval


def study_of(seeds: tuple[int, ...] = (0, 1, 2), cpu: str = "AVX512", **losses: dict[str, list[float]]) -> dict:
    """Values by loss and measure."""
    found = {name: {key: {"values": values} for key, values in one.items()} for name, one in losses.items()}
    return {"seeds": list(seeds), "cpu": cpu, "labels": {"complete": "complete, backbone_lr 0.003"}, "variants": found}


def test_each_claim_is_borne_out_reversed_or_open() -> None:
    study = study_of(
        softmax={"mean_ap": [0.2, 0.21, 0.22], "stranger_ratio": [0.8, 0.81, 0.82], "prototype_alignment": [0.3] * 3},
        complete={"mean_ap": [0.3, 0.32, 0.31], "stranger_ratio": [0.7, 0.9, 0.8], "prototype_alignment": [0.1] * 3},
        no_mask={"mean_ap": [0.1, 0.1, 0.12]},
    )
    rows = {row["claim"]: row["here"] for row in claims.of_paper({"here": study})}
    assert len(rows) == len(claims.OF_PAPER)
    assert rows["people are found that softmax does not find"].startswith("borne out: +10.0 [")
    assert rows["an unseen person's two spectra lie closer"].startswith("not told apart: -0.01 [")
    assert rows["the two prototypes of an identity come to overlap"] == "the reverse: -0.20 [-0.20, -0.20]"
    assert rows["the Feature Mask is needed"].startswith("borne out: +20.3 [")
    assert rows["the absolute term is needed"] == rows["a classifier tells the spectra apart less often"] == "-"


def test_pieces_are_differences_to_the_whole() -> None:
    study = study_of(complete={"mean_ap": [0.3, 0.4, 0.5]}, no_mask={"mean_ap": [0.2, 0.3, 0.4]})
    assert claims.effects(study, "complete") == {"no_mask": pytest.approx((-10.0, -10.0, -10.0))}
    assert list(claims.effects(study, "no_mask")) == ["complete, backbone_lr 0.003"]


def test_a_processor_is_set_beside_a_seed() -> None:
    wide = study_of((0, 1, 2, 3), softmax={"mean_ap": [0.1, 0.2, 0.3, 0.9]}, complete={"mean_ap": [0.2, 0.3, 0.4, 0.9]})
    narrow = study_of((2, 0), "AVX2", softmax={"mean_ap": [0.31, 0.1]}, complete={"mean_ap": [0.42, 0.2]})
    rows = {row[""]: row for row in claims.processors(wide, narrow)}
    assert rows.keys() == {"softmax", "complete", "complete minus softmax"}
    assert rows["softmax"] == {
        "": "softmax", "AVX512, mAP by seed, %": "30.0, 10.0", "AVX2": "31.0, 10.0",
        "a processor moves it by, points": "0.5", "a seed by": "20.0",
    }  # fmt: skip
    assert rows["complete minus softmax"]["AVX2"] == "11.0, 10.0"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.09, "finds more"), (-0.01, 0.09, "do not tell them apart"), (-0.09, -0.01, "finds less")],
)
def test_two_runs_show_what_their_interval_shows(
    low: float, high: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = SimpleNamespace(queries={"person_id": np.array([1, 1, 2])}, title="thermal, infrared to visible")
    monkeypatch.setattr(claims, "pairs", lambda *_: [(report, report)])
    change = Difference((low + high) / 2, low, high, 0.5)
    monkeypatch.setattr(claims, "differences", lambda *_: {"mean_ap": change})
    gap = {"unseen": {"stranger_ratio": Interval(0.8, 0.7, 0.9)}}
    monkeypatch.setattr(claims, "folder_measures", lambda _: gap)
    text = claims.gain(Path("a"), Path("b"), ("softmax", "mine"))
    assert said in text
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}]" in text
    assert "the same queries (thermal, infrared to visible)" in text
    assert "over 2 people who were not trained on" in text
    assert "Modality gap of unseen people: 0.80 and 0.80." in text
    assert "What it does not" in text
    monkeypatch.setattr(claims, "folder_measures", lambda _: {"unseen": {}})
    assert "Modality gap" not in claims.gain(Path("a"), Path("b"), ("softmax", "mine"))


def test_the_first_picture_shows_the_committed_numbers() -> None:
    with Image.open(readme.PICTURE) as picture:
        assert json.loads(picture.text["numbers"]) == json.loads(json.dumps(readme.effect())), "make readme"
        assert picture.width > 600


def test_a_panel_a_measure() -> None:
    spans = {"softmax": {"here": (1.0, 0.5, 2.0), "there": (2.0, 1.5, 2.5)}, "mine": {"here": (3.0, 2.5, 3.5)}}
    figure = figures.effect({"mAP, %": spans, "gap": spans}, title="Both")
    assert [trace.name for trace in figure.data] == ["softmax", "mine"] * 2
    assert [trace.showlegend for trace in figure.data] == [True, True, False, False]
    assert figure.data[0].error_y.array.tolist() == [1.0, 0.5]
    assert figure.layout.xaxis2.ticktext == ("here", "there")
