"""Tables in every style; published results stand beside measured ones only where they belong."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from sa_lab.evaluation.protocols import PROTOCOLS, SYSU_ALL, Protocol, regdb
from sa_lab.evaluation.reports import Measure, Report, RetrievalResult, summarise
from sa_lab.reporting import tables

NAN = float("nan")


def report(protocol: Protocol, dataset: str, ranks: list[int], reranking: str = "") -> Report:
    first = np.array(ranks)
    result = RetrievalResult(first > 0, first, 1 / first, 1 / first)
    columns = {name: np.arange(len(ranks)) for name in ("path", "person_id", "camera_id")}
    return summarise(protocol, [result], columns, dataset=dataset, reranking=reranking, draws=20)


def test_every_style_shows_the_same_numbers() -> None:
    rows = [
        {"method": "a_b", "Rank-1": Measure(0.5, 0.012, 0.4, 0.6), "source": None},
        {"method": "c", "Rank-1": Measure(0.25, NAN, NAN, NAN), "source": "x, 2020"},
    ]
    console, markdown, latex = (tables.render(rows, style) for style in ("console", "markdown", "latex"))
    for text in (console, markdown):
        assert "50.0 ± 1.2 [40.0, 60.0]" in text
        assert "25.0 " in text
    assert r"a\_b" in latex
    assert r"50.0 \ensuremath{\pm} 1.2 [40.0, 60.0]" in latex
    first, second = csv.DictReader(io.StringIO(tables.render(rows, "csv")))
    shown = [float(first[f"Rank-1{part}"]) for part in ("", " std", " low", " high")]
    assert shown == pytest.approx([50, 1.2, 40, 60])
    assert (second["Rank-1 std"], second["source"]) == ("", "x, 2020")


def test_splits_are_averaged_with_their_deviation() -> None:
    two = [report(regdb(split)[0], "regdb", ranks) for split, ranks in ((1, [1, 1, 2, 2]), (2, [1, 1, 1, 2]))]
    (row,) = tables.retrieval({"ours": two})
    assert row["Rank-1"].mean == pytest.approx(0.625)
    assert row["Rank-1"].std == pytest.approx(np.std([0.5, 0.75], ddof=1))
    assert np.isnan(row["Rank-1"].low)
    assert tables.protocol_family(two[0]) == "regdb-visible-to-thermal"
    title = tables.title(two)
    assert title.startswith("regdb-visible-to-thermal: ")
    assert "; splits 1, 2; " in title


def test_seeds_are_averaged_with_their_interval() -> None:
    three = [report(SYSU_ALL, "sysu", ranks) for ranks in ([1, 1, 2, 2], [1, 1, 1, 2], [1, 1, 1, 1])]
    (row,) = tables.retrieval({"ours": three})
    assert row["Rank-1"].mean == pytest.approx(0.75)
    assert row["Rank-1"].std == pytest.approx(0.25)
    assert row["Rank-1"].low == pytest.approx(0.75 - 4.302652729911275 * 0.25 / 3**0.5)
    assert row["Rank-1"].high == 1.0  # a share
    mixed = [report(regdb(split)[0], "regdb", [1, 1, 2, 2]) for split in (1, 1, 2)]
    (row,) = tables.retrieval({"ours": mixed})
    assert (row["Rank-1"].mean, row["Rank-1"].std) == (0.5, 0.0)
    assert "; splits 1, 2; " in tables.title(mixed)


def test_published_results_stand_beside_real_data_alone() -> None:
    real = report(SYSU_ALL, "sysu", [1, 2])
    rows = tables.with_published(tables.retrieval({"ours": [real]}), tables.published_results(real))
    assert rows[0]["source"] == "measured here"
    agw = next(row for row in rows if row["method"] == "AGW 2020")
    assert (agw["Rank-1"], agw["mAP"], agw["mINP"]) == ("47.50", "47.65", "35.30")  # as they are given
    assert agw["Rank-5"] is None
    for other in (
        report(SYSU_ALL, "sysu-generated", [1]), report(SYSU_ALL, "synthetic", [1]), replace(real, reranking="some"),
        report(PROTOCOLS["sysu-all-multi-shot"], "sysu", [1]), report(PROTOCOLS["sysu-all-official"], "sysu", [1]),
    ):  # fmt: skip
        assert tables.published_results(other) == []


def test_published_table_is_whole_and_names_no_sa_softmax() -> None:
    rows = list(csv.DictReader((resources.files("sa_lab.reporting") / "published.csv").read_text().splitlines()))
    assert {row["protocol"] for row in rows} == {
        "sysu-all", "sysu-indoor", "regdb-visible-to-thermal", "regdb-thermal-to-visible"
    }  # fmt: skip
    for row in rows:
        assert row["source"]
        assert 2017 <= int(row["year"]) <= 2030
        assert all(0 < float(row[key]) < 100 for key in ("rank_1", "mean_ap", "mean_inp") if row[key])
        assert "SA-Softmax" not in row["method"]
